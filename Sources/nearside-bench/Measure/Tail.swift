import CLinux
import Glibc
import TestSupport

/// How fast the log is read and applied, beside PostgreSQL's own reader of a slot.
enum Tail {
  /// Transactions of one row each that wait when the sidecar starts, and one transaction of many rows.
  static func measure(_ rounds: Rounds, into report: inout Report) throws {
    let rows = rounds.pick(1_000_000, 10_000)
    let transactions = rounds.pick(500_000, 5000)
    let site = try NearsideSite(Workload(keys: rows, valueBytes: 20))
    try compare(
      site, "A backlog of \(Report.grouped(Double(transactions))) transactions of one row",
      count: transactions,
      """
      DO $$ BEGIN FOR n IN 1..\(transactions) LOOP
        UPDATE items SET body = 'n' || n WHERE id = lpad((n % \(rows))::text, 8, '0'); COMMIT;
      END LOOP; END $$;
      """, into: &report)
    try compare(
      site, "A transaction of \(Report.grouped(Double(rows))) rows", count: rows,
      "UPDATE items SET body = body || 'm';", into: &report)
  }

  static func measureHuge(_ rounds: Rounds, into report: inout Report) throws {
    let rows = rounds.pick(10_000_000, 50_000)
    let site = try NearsideSite(Workload(keys: 1000, valueBytes: 20), near: 64)
    try compare(
      site, "A transaction of \(Report.grouped(Double(rows))) rows", count: rows,
      "INSERT INTO items SELECT lpad(n::text, 8, '0'), 'new' FROM generate_series(1000, \(rows + 999)) n;",
      into: &report)
  }

  private static func compare(
    _ site: NearsideSite, _ title: String, count: Int, _ change: String, into report: inout Report
  ) throws {
    let slots = ["bench_1", "bench_2"]
    try site.sidecar.terminate()
    for slot in slots {
      try site.postgres.psql(
        "SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput');", database: site.database)
    }
    try succeed(
      ["psql", "-X", "-q", "-c", "SET synchronous_commit = off", "-c", change, "-d", site.url],
      within: .seconds(600))
    // What was not flushed has no place in the log yet that a reader could reach.
    try site.postgres.psql("CHECKPOINT;", database: site.database)
    let end = try site.postgres.psql("SELECT pg_current_wal_flush_lsn();", database: site.database)
    // Before and behind Nearside: whoever is first finds less in the caches.
    let before = try recvlogical(site, slots[0], end)
    let own = try follow(site, end)
    try site.sidecar.terminate()
    let behind = try recvlogical(site, slots[1], end)
    for slot in slots {
      try site.postgres.psql("SELECT pg_drop_replication_slot('\(slot)');", database: site.database)
    }
    let peer = Run(
      seconds: (before.seconds + behind.seconds) / 2, consumer: before.consumer + behind.consumer,
      walsender: before.walsender + behind.walsender)
    report.add(
      [
        .init(
          name: "pg_recvlogical, which throws them away", value: Double(count) / peer.seconds,
          unit: "a second"),
        .init(name: "Nearside, applied in Redis", value: Double(count) / own.seconds, unit: "a second"),
        .init(
          name: "Nearside's rate by that of pg_recvlogical", value: peer.seconds / own.seconds, unit: "×"),
        .init(
          name: "Nearside's processor time by that of its walsender",
          value: Double(own.consumer) / Double(max(1, own.walsender)), unit: "×"),
        .init(name: "pg_recvlogical's, by that of its own", value: peer.share, unit: "×"),
        .init(name: "Redis's processor time", value: Double(own.redis) / Double(count), unit: "ns each"),
        .init(name: "Nearside's peak of resident memory", value: Double(own.peak) / 1e6, unit: "MB"),
      ], to: title)
  }

  struct Run {
    var seconds: Double
    var consumer: UInt64
    var walsender: UInt64
    var redis: UInt64 = 0
    /// Resident at most, in bytes.
    var peak = 0

    var share: Double { Double(consumer) / Double(max(1, walsender)) }
  }

  private static func walsenders(_ site: NearsideSite) -> [pid_t] {
    let text = try? site.postgres.psql("SELECT pid FROM pg_stat_replication;", database: site.database)
    return (text ?? "").split(separator: "\n").compactMap { pid_t($0) }
  }

  /// pg_recvlogical reads the slot up to `end` and throws it away.
  private static func recvlogical(_ site: NearsideSite, _ slot: String, _ end: String) throws -> Run {
    let start = clinux_boot_nanoseconds()
    let process = try ChildProcess([
      "pg_recvlogical", "-d", site.url, "-S", slot, "--start", "--no-loop", "-o", "proto_version=1", "-o",
      "publication_names=nearside_bench", "-E", end, "-f", "/dev/null",
    ])
    var run = Run(seconds: 0, consumer: 0, walsender: 0)
    var senders: [pid_t] = []
    while process.isRunning {
      guard clinux_boot_nanoseconds() - start < 900_000_000_000 else {
        throw HarnessError("pg_recvlogical did not end within 15 minutes")
      }
      run.consumer = max(run.consumer, ProcessCost.nanoseconds([process.pid]))
      if senders.isEmpty { senders = walsenders(site) }
      run.walsender = max(run.walsender, ProcessCost.nanoseconds(senders))
      sleep(.milliseconds(5))
    }
    run.seconds = Double(clinux_boot_nanoseconds() - start) / 1e9
    guard process.kill() == .code(0) else { throw HarnessError("pg_recvlogical: \(process.errors)") }
    return run
  }

  /// The sidecar starts and applies everything up to `end`.
  static func follow(_ site: NearsideSite, _ end: String) throws -> Run {
    let redis = site.redis.pid.map { [$0] } ?? []
    let before = ProcessCost.nanoseconds(redis)
    // It begins to tail before it is seen to answer; its start counts, as that of pg_recvlogical does.
    let start = clinux_boot_nanoseconds()
    try site.sidecar.start()
    let client = try site.sidecar.client(timeout: .seconds(900))
    var senders: [pid_t] = []
    try eventually("the tail reads") {
      senders = walsenders(site)
      return !senders.isEmpty
    }
    let reply = try client.call("NEARSIDE", "WAIT", end, "900000")
    if let error = reply.errorText { throw HarnessError(error) }
    guard reply == .integer(1) else { throw HarnessError("the log was not applied within 15 minutes") }
    return Run(
      seconds: Double(clinux_boot_nanoseconds() - start) / 1e9, consumer: ProcessCost.nanoseconds(site.pids),
      walsender: ProcessCost.nanoseconds(senders), redis: ProcessCost.nanoseconds(redis) - before,
      peak: ProcessCost.peak(site.pids))
  }
}
