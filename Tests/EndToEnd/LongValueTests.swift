import Foundation
import Glibc
import TestSupport
import Testing

/// Values that are much longer than any buffer. The sidecar's memory is what Linux says of its process.
@Suite("Long values are passed on, not collected", .serialized, .timeLimit(.minutes(5)))
struct LongValueTests {
  /// In MiB; `peak`: the highest since the last `forgetPeak`.
  private func memory(_ sidecar: Sidecar, peak: Bool = false) throws -> Int {
    let text = readFile("/proc/\(sidecar.pid ?? 0)/status") ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix(peak ? "VmHWM:" : "VmRSS:") }
    return try #require(line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) })
      / 1024
  }

  private func forgetPeak(_ sidecar: Sidecar) throws {
    try "5".write(toFile: "/proc/\(sidecar.pid ?? 0)/clear_refs", atomically: false, encoding: .utf8)
  }

  private static let longest = ProcessInfo.processInfo.environment["NEARSIDE_TEST_ALL"] == nil ? 200 : 400

  private static let chunk = [UInt8](repeating: UInt8(ascii: "v"), count: 1 << 20)

  private func send(_ client: RESPClient, _ key: String, chunks: Int, behind: [String] = []) throws {
    let count = 3 + behind.count
    try client.send(raw: "*\(count)\r\n$3\r\nSET\r\n$\(key.utf8.count)\r\n\(key)\r\n$\(chunks << 20)\r\n")
    for _ in 0..<chunks { try client.send(raw: Self.chunk) }
    try client.send(raw: "\r\n" + behind.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined())
  }

  /// Reads a reply of `chunks` MiB without keeping it.
  private func expectLong(_ client: RESPClient, chunks: Int) throws {
    let head = "$\(chunks << 20)\r\n"
    #expect(try client.receive(bytes: head.utf8.count) == Array(head.utf8))
    for _ in 0..<chunks {
      let bytes = try client.receive(bytes: 1 << 20)
      guard bytes == Self.chunk else {
        Issue.record("other bytes than were stored")
        return
      }
    }
    #expect(try client.receive(bytes: 2) == [13, 10])
  }

  @Test("A value of hundreds of MiB that no mapping covers passes both ways through a few MiB of memory")
  func throughAFewMiB() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let client = try sidecar.client(timeout: .seconds(60))
    try client.call("PING")
    try forgetPeak(sidecar)
    let before = try memory(sidecar)
    let chunks = Self.longest
    try send(client, "long", chunks: chunks, behind: ["EX", "100"])
    #expect(try client.receive() == .ok)
    #expect(try world.redis?.cli("STRLEN", "long") == "\(chunks << 20)")
    #expect(try memory(sidecar, peak: true) - before < 40, "MiB more for a SET, before \(before)")
    for _ in 0..<2 {
      try client.send("GET", "long")
      try expectLong(client, chunks: chunks)
    }
    #expect(try client.call("GET", "short") == nil)
    #expect(try memory(sidecar, peak: true) - before < 40, "MiB more for a GET, before \(before)")
    // In the middle of a pipeline, in RESP3.
    try client.call("HELLO", "3")
    try client.send(raw: RESPClient.encode(["GET", "short"]) + RESPClient.encode(["GET", "long"]))
    try client.send(raw: RESPClient.encode(["PING"]) + RESPClient.encode(["GET", "short"]))
    #expect(try client.receive() == nil)
    try expectLong(client, chunks: chunks)
    #expect(try client.receive() == .simple("PONG"))
    #expect(try client.receive() == nil)
    #expect(try memory(sidecar, peak: true) - before < 40, "MiB more in a pipeline, before \(before)")
  }

  @Test("Whoever sends or takes a long value slowly holds up nobody, and what it left half done is nowhere")
  func slowly() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let slow = try sidecar.client(timeout: .seconds(60))
    let other = try sidecar.client(timeout: .seconds(2))
    try slow.send(raw: "*3\r\n$3\r\nSET\r\n$4\r\nlong\r\n$\(64 << 20)\r\n")
    for _ in 0..<32 {
      try slow.send(raw: Self.chunk)
      #expect(try other.call("SET", "a", "1") == .ok)
      #expect(try other.call("GET", "a") == "1")
    }
    for _ in 0..<32 { try slow.send(raw: Self.chunk) }
    try slow.send(raw: "\r\n")
    #expect(try slow.receive() == .ok)
    // Taken slowly: the first such reply on the connection that all share, the second on one of its own.
    for _ in 0..<2 {
      try slow.send("GET", "long")
      for _ in 0..<20 { #expect(try other.call("GET", "a") == "1") }
      try expectLong(slow, chunks: 64)
    }
    // Gone in the middle.
    let gone = try sidecar.client()
    try gone.send(raw: "*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$\(64 << 20)\r\n")
    for _ in 0..<8 { try gone.send(raw: Self.chunk) }
    _ = consume gone
    // The slow client's own, and those that are kept ready.
    try eventually("its connections are closed") { try sidecar.count("own_connections") <= 1 + 4 }
    #expect(try other.call("EXISTS", "half") == 0)
    // Redis gone in the middle: an error in its turn, and the next command is served.
    let half = try sidecar.client()
    try half.send(raw: "*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$\(16 << 20)\r\n")
    for _ in 0..<8 { try half.send(raw: Self.chunk) }
    try world.redis?.restart(hard: true)
    for _ in 0..<8 { try half.send(raw: Self.chunk) }
    try half.send(raw: "\r\n")
    #expect(try half.receive().errorText?.hasPrefix("ERR Nearside: upstream Redis is unreachable") == true)
    try eventually("it is served again") { try half.call("SET", "a", "2") == .ok }
  }

  @Test("A long value that finds no connection is answered once, at its end")
  func once() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let client = try sidecar.client(timeout: .seconds(60))
    try client.call("PING")
    try world.redis?.stop()
    try send(client, "long", chunks: 8)
    try client.send("PING")
    #expect(try client.receive().errorText?.hasPrefix("ERR Nearside: upstream Redis is unreachable") == true)
    #expect(try client.receive() == .simple("PONG"))
    try world.redis?.start()
    try eventually("it is served again") { try client.call("SET", "a", "2") == .ok }
  }

  @Test(
    "A pipeline that is sent whole before any reply is read is answered whole, near hits and relayed ones")
  func sentFirst() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let key = world.key("user:1")
    let value = String(repeating: "v", count: 1000)
    try warm(key, value, sidecar)
    let client = try sidecar.client(timeout: .seconds(20))
    try client.call("SET", "plain", value)
    for name in [key, "plain"] {
      // 20 MB of replies, 600 KB of commands: more than the socket holds of either.
      let request = RESPClient.encode(["GET", name])
      let count = 20_000
      try client.send(raw: Array(repeatElement(request, count: count).joined()))
      if name == "plain" { client.finishSending() }
      let reply = Array("$1000\r\n\(value)\r\n".utf8)
      for index in 0..<count {
        guard try client.receive(bytes: reply.count) == reply else {
          Issue.record("another reply to \(name) at \(index)")
          return
        }
      }
    }
    #expect(client.isClosed())
  }

  @Test("A thousand reads of 1 MiB in one pipeline whose replies nobody takes cost a bounded memory")
  func unread() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let client = try sidecar.client(timeout: .seconds(60))
    try send(client, "mib", chunks: 1)
    #expect(try client.receive() == .ok)
    try forgetPeak(sidecar)
    let before = try memory(sidecar)
    let request = RESPClient.encode(["GET", "mib"])
    let greedy = try sidecar.client(timeout: .seconds(60))
    try greedy.send(raw: Array(repeatElement(request, count: 1000).joined()))
    let other = try sidecar.client(timeout: .seconds(2))
    let clock = ContinuousClock()
    let end = clock.now.advanced(by: .seconds(2))
    while clock.now < end { #expect(try other.call("GET", "a") == nil) }
    #expect(try memory(sidecar, peak: true) - before < 200, "MiB more, before \(before)")
    // And each is there, in its turn.
    for _ in 0..<150 { try expectLong(greedy, chunks: 1) }
    #expect(try memory(sidecar, peak: true) - before < 200, "MiB more, before \(before)")
  }
}
