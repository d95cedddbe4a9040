import CLinux
import Histogram
import TestSupport

/// How long after a commit Redis has lost the old value, and a read through Nearside shows the new one.
enum Latency {
  static let samples = 5000
  static let perSecond = 500

  static func measure(into report: inout Report) throws {
    let site = try NearsideSite(Workload(keys: 2000, valueBytes: 100))
    try site.warm()
    let database = try SQLClient(site.url)
    let redis = try site.redis.client()
    let client = try site.sidecar.client()
    var gone = Histogram<UInt64>(
      highestTrackableValue: 60_000_000_000, numberOfSignificantValueDigits: .three)
    var shown = gone
    let start = clinux_boot_nanoseconds()
    for number in 0..<samples {
      let due = start + UInt64(number) * 1_000_000_000 / UInt64(perSecond)
      while clinux_boot_nanoseconds() < due {}
      let digits = Requests.key(number % 2000, "")
      let key = Peer.governedPrefix + digits
      try database.query("UPDATE items SET body = $1 WHERE id = $2", ["new \(number)", digits])
      let commit = clinux_boot_nanoseconds()
      if number % 2 == 0 {
        while try redis.call("EXISTS", key) != .integer(0) {}
        _ = gone.record(clinux_boot_nanoseconds() - commit)
        _ = try client.call("GET", key)
      } else {
        while try client.call("GET", key).text != "new \(number)" {}
        _ = shown.record(clinux_boot_nanoseconds() - commit)
      }
    }
    for (name, histogram) in [("gone in Redis", gone), ("the first read that shows it", shown)] {
      for (percentile, word) in [(50.0, "p50"), (99.0, "p99")] {
        report.facts.append(
          .init(
            name: "commit to \(name), \(perSecond) transactions/s, \(word)",
            value: Double(histogram.valueAtPercentile(percentile)) / 1e6, unit: "ms"))
      }
    }
  }
}

/// From the start of the process to the first answer; and what it takes when nobody asks for anything.
enum Idle {
  static func measure(into report: inout Report) throws {
    let site = try NearsideSite(Workload(keys: 100_000))
    try site.warm()
    let limit = try site.sidecar.count("near_limit_bytes")
    let resident = ProcessCost.resident(site.pids)
    let before = ProcessCost.nanoseconds(site.pids)
    sleep(.seconds(10))
    let used = ProcessCost.nanoseconds(site.pids) - before
    try site.sidecar.terminate()
    var times: [Double] = []
    for _ in 0..<7 {
      let start = clinux_boot_nanoseconds()
      try site.sidecar.start()
      times.append(Double(clinux_boot_nanoseconds() - start) / 1e6)
      try site.follow()
      try site.sidecar.terminate()
    }
    report.facts += [
      .init(name: "start to the first answer", value: Rounds.median(times), unit: "ms"),
      .init(name: "processor time when idle", value: Double(used) / 1e10 * 100, unit: "% of a core"),
      .init(name: "bound of the near cache", value: Double(limit) / 1e6, unit: "MB"),
      .init(name: "resident memory with 100,000 values of 100 B", value: Double(resident) / 1e6, unit: "MB"),
    ]
  }
}
