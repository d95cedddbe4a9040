import CLinux
import Histogram
import TestSupport

/// How long after a commit Redis has lost the old value, and a read through Nearside shows the new one.
struct Latency {
  private let site: NearsideSite
  private let keys: Int
  private let database: SQLClient
  private let redis: RESPClient
  private let client: RESPClient

  static func measure(_ rounds: Rounds, into report: inout Report) throws {
    let keys = rounds.pick(2000, 100)
    let site = try NearsideSite(Workload(keys: keys, valueBytes: 100))
    try site.warm()
    let latency = Latency(
      site: site, keys: keys, database: try SQLClient(site.url), redis: try site.redis.client(),
      client: try site.sidecar.client())
    let samples = rounds.pick(5000, 100)
    try latency.sample(samples, perSecond: 500, "From a commit, 500 transactions a second", into: &report)

    // Two clients that commit one row each, one after the other, as fast as they are answered.
    let seconds = rounds.pick(10, 1)
    let updates = (0..<1000).map {
      "UPDATE items SET body = body WHERE id = '\(Requests.key($0 * 7 % keys, ""))';\n"
    }.joined()
    let writers = try (0..<2).map { _ in
      try site.postgres.background(
        "SET synchronous_commit = on;\n" + String(repeating: updates, count: 20 * seconds),
        database: site.database)
    }
    let first = try latency.transaction()
    let start = clinux_boot_nanoseconds()
    let title = "From a commit, while two clients commit as fast as they can"
    try latency.sample(100 * seconds, perSecond: 100, title, into: &report)
    let time = Double(clinux_boot_nanoseconds() - start) / 1e9
    let count = Double(try latency.transaction() - first)
    if !writers.allSatisfy(\.isRunning) { report.note("\(title): the clients ended before the samples did.") }
    for writer in writers { writer.kill() }
    report.add([.init(name: "transactions meanwhile", value: count / time, unit: "a second")], to: title)
  }

  private func transaction() throws -> Int {
    try database.value("SELECT pg_current_xact_id()").flatMap { Int($0) } ?? 0
  }

  private func sample(_ samples: Int, perSecond: Int, _ title: String, into report: inout Report) throws {
    var gone = Histogram<UInt64>(
      highestTrackableValue: 60_000_000_000, numberOfSignificantValueDigits: .three)
    var shown = gone
    var due = clinux_boot_nanoseconds()
    for number in 0..<samples {
      // A sample that took longer than its time does not hasten the next ones.
      due = max(due + 1_000_000_000 / UInt64(perSecond), clinux_boot_nanoseconds())
      while clinux_boot_nanoseconds() < due {}
      let digits = Requests.key(number % keys, "")
      let key = Peer.governedPrefix + digits
      if number % 2 == 0 { _ = try client.call("GET", key) }
      try database.query("UPDATE items SET body = $1 WHERE id = $2", ["\(title) \(number)", digits])
      let commit = clinux_boot_nanoseconds()
      if number % 2 == 0 {
        while try redis.call("EXISTS", key) != .integer(0) { try check(commit) }
        _ = gone.record(clinux_boot_nanoseconds() - commit)
      } else {
        while try client.call("GET", key).text != "\(title) \(number)" { try check(commit) }
        _ = shown.record(clinux_boot_nanoseconds() - commit)
      }
    }
    for (name, histogram) in [("gone in Redis", gone), ("the first read that shows it", shown)] {
      let facts = [(50.0, "p50"), (99.0, "p99")].map { percentile, word in
        Report.Fact(
          name: "\(name), \(word)", value: Double(histogram.valueAtPercentile(percentile)) / 1e6, unit: "ms")
      }
      report.add(facts, to: title)
    }
  }

  private func check(_ commit: UInt64) throws {
    guard clinux_boot_nanoseconds() - commit < 30_000_000_000 else {
      throw HarnessError("a change was not seen within 30 s of its commit")
    }
  }
}
