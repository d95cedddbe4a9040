import TestSupport

/// What deleting a key costs Redis: with the fence, the position and the word to all sidecars that Nearside leaves there,
/// beside plain DEL in pipelines of the same length.
enum Applying {
  private static let batch = 128

  static func measure(_ rounds: Rounds, into report: inout Report) throws {
    let workload = Workload(keys: rounds.pick(200_000, 2000), valueBytes: 20)
    let site = try NearsideSite(workload)
    try site.sidecar.terminate()
    let pids = site.redis.pid.map { [$0] } ?? []
    let redis = try Peer(
      "redis-server", .unix(site.redis.socket), prefix: Peer.governedPrefix, pids: pids, parts: [site])
    try redis.fill(workload)
    let before = ProcessCost.nanoseconds(pids)
    let outcome = try Generator.run(
      Requests(deleting: workload, .resp, prefix: Peer.governedPrefix), at: redis.endpoint, .resp,
      connections: 1, depth: batch, until: .once)
    guard outcome.errors == 0 else { throw HarnessError("DEL: \(outcome.firstError ?? "")") }
    let plain = Double(ProcessCost.nanoseconds(pids) - before) / Double(workload.keys)

    try redis.fill(workload)
    try site.postgres.psql(
      """
      DO $$ BEGIN FOR n IN 0..\((workload.keys - 1) / batch) LOOP
        UPDATE items SET body = 'new' WHERE id >= lpad((n * \(batch))::text, 8, '0')
          AND id < lpad(((n + 1) * \(batch))::text, 8, '0'); COMMIT;
      END LOOP; END $$;
      """, database: site.database)
    let end = try site.postgres.psql("SELECT pg_current_wal_flush_lsn();", database: site.database)
    let own = try Tail.follow(site, end)
    let left = try site.redis.client().call("EXISTS", Requests.key(workload.keys - 1, Peer.governedPrefix))
    guard left == .integer(0) else { throw HarnessError("a key whose row has changed is still in Redis") }
    let cost = Double(own.redis) / Double(workload.keys)
    report.add(
      [
        .init(name: "DEL, \(batch) in a pipeline: Redis's processor time a key", value: plain, unit: "ns"),
        .init(name: "Nearside, transactions of \(batch) rows: the same", value: cost, unit: "ns"),
        .init(
          name: "keys by Redis's processor time, Nearside's by DEL's", value: plain / max(1, cost), unit: "×"),
        .init(
          name: "Nearside, rows of the log applied", value: Double(workload.keys) / own.seconds,
          unit: "a second"),
      ], to: "Deleting keys in Redis")
  }
}
