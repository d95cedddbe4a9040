import CLinux
import Glibc
import TestSupport

/// How fast the log is read and applied, beside PostgreSQL's own reader of a slot.
enum Tail {
  /// Transactions of one row each, and one transaction of many rows.
  static let transactions = 500_000
  static let rows = 1_000_000

  static func measure(into report: inout Report) throws {
    let site = try NearsideSite(Workload(keys: rows, valueBytes: 20))
    let slot = "bench"
    for (name, change, count) in [
      (
        "transactions of one row",
        """
        DO $$ BEGIN FOR n IN 1..\(transactions) LOOP
          UPDATE items SET body = 'n' || n WHERE id = lpad((n % \(rows))::text, 8, '0'); COMMIT;
        END LOOP; END $$;
        """, transactions
      ),
      ("rows of one transaction", "UPDATE items SET body = body || 'm';", rows),
    ] {
      try site.sidecar.terminate()
      try site.postgres.psql(
        "SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput');", database: site.database)
      try succeed(
        [
          "psql", "-X", "-q", "-c", "SET synchronous_commit = off", "-c", change, "-d", site.url,
        ], within: .seconds(600))
      let end = try site.postgres.psql("SELECT pg_current_wal_flush_lsn();", database: site.database)
      let peer = try recvlogical(site, slot, end)
      try site.postgres.psql("SELECT pg_drop_replication_slot('\(slot)');", database: site.database)
      let own = try follow(site, end)
      let unit = "a second"
      report.facts += [
        .init(name: "pg_recvlogical: \(name)", value: Double(count) / peer.seconds, unit: unit),
        .init(name: "nearside: \(name), applied", value: Double(count) / own.seconds, unit: unit),
        .init(name: "nearside is", value: peer.seconds / own.seconds, unit: "×"),
        .init(
          name: "processor time of nearside by that of its walsender",
          value: Double(own.consumer) / Double(max(1, own.walsender)), unit: "×"),
        .init(
          name: "Redis's processor time a key", value: Double(own.redis) / Double(count), unit: "ns"),
        .init(name: "nearside's memory behind it", value: Double(own.resident) / 1e6, unit: "MB"),
      ]
    }
  }

  private struct Run {
    var seconds: Double
    var consumer: UInt64
    var walsender: UInt64
    var redis: UInt64 = 0
    var resident = 0
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
    while process.isRunning {
      run.consumer = max(run.consumer, ProcessCost.nanoseconds([process.pid]))
      sleep(.milliseconds(5))
    }
    run.seconds = Double(clinux_boot_nanoseconds() - start) / 1e9
    guard process.kill() == .code(0) else { throw HarnessError("pg_recvlogical: \(process.errors)") }
    return run
  }

  /// The sidecar starts and applies everything up to `end`.
  private static func follow(_ site: NearsideSite, _ end: String) throws -> Run {
    let redis = site.redis.pid.map { [$0] } ?? []
    let before = ProcessCost.nanoseconds(redis)
    try site.sidecar.start()
    let start = clinux_boot_nanoseconds()
    let client = try site.sidecar.client(timeout: .seconds(600))
    var senders: [pid_t] = []
    try eventually("the tail reads") {
      senders = walsenders(site)
      return !senders.isEmpty
    }
    let reply = try client.call("NEARSIDE", "WAIT", end, "600000")
    if let error = reply.errorText { throw HarnessError(error) }
    return Run(
      seconds: Double(clinux_boot_nanoseconds() - start) / 1e9, consumer: ProcessCost.nanoseconds(site.pids),
      walsender: ProcessCost.nanoseconds(senders), redis: ProcessCost.nanoseconds(redis) - before,
      resident: ProcessCost.resident(site.pids))
  }
}
