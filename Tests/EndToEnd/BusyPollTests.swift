import Foundation
import TestSupport
import Testing

/// Threads that look for the next command before they sleep (`listen.busyPoll`), with real servers.
@Suite("Busy polling with real servers")
struct EndToEndBusyPollTests {
  @Test(
    "the event loop and the threads beside it answer, and sleep when nobody asks for anything",
    arguments: [1, 3])
  func sleeps(threads: Int) throws {
    let world = try World(options: ["\"threads\": \(threads)"])
    let sidecar = try world.sidecar(listen: [#""busyPoll": "1ms""#])
    let key = world.key("user:1")
    try sidecar.store(key, "v")
    let client = try sidecar.client()
    for _ in 0..<300 { #expect(try client.call("GET", key) == "v") }
    #expect(try sidecar.count("threads") == threads)
    if threads > 1 {
      try eventually("the client is answered by another thread") {
        _ = try client.pipeline([[String]](repeating: ["GET", key], count: 256))
        return try sidecar.count("clients_lent") > 0
      }
      #expect(try client.call("GET", key) == "v")
    }
    try world.psql("UPDATE users SET name = 'new' WHERE id = 1")
    try eventually("the change is seen") { try client.call("GET", key) == nil }
    // A thread that went on looking would take half a second of each, or its share of the processors.
    let pid = try #require(sidecar.pid)
    try eventually("all threads sleep") {
      let before = processorTime(pid)
      usleep(500_000)
      return before > 0 && processorTime(pid) - before < 60_000_000
    }
  }

  /// Nanoseconds on a processor, of all threads.
  private func processorTime(_ pid: pid_t) -> Int {
    let tasks = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task")) ?? []
    return tasks.reduce(0) { sum, task in
      let line = readFile("/proc/\(pid)/task/\(task)/schedstat") ?? ""
      return sum + (line.split(separator: " ").first.flatMap { Int($0) } ?? 0)
    }
  }
}
