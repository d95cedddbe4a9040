import TestSupport

/// Reads while the rows behind them change.
enum Changes {
  static func measure(_ rounds: Rounds, tools: String, into report: inout Report) throws {
    let workload = rounds.fit(Workload())
    let stage = try Stage([.nearside, .redis], workload, tools: tools)
    guard let site = stage.site else { return }
    let peers = [PeerName.nearside, .redis].compactMap { stage.peers[$0] }
    for (rate, batch) in [(0, 0), (1000, 50), (20_000, 500)] {
      let writer = rate > 0 ? try site.change(rate: rate, batch: batch, keys: workload.keys) : nil
      let before = try site.sidecar.count("near_invalidated")
      let name = rate == 0 ? "no change" : "\(Report.grouped(Double(rate))) changed rows a second"
      let row = try rounds.measure(workload, peers, name: "\(workload.title), \(name)")
      writer?.kill()
      if rate > 0, try site.sidecar.count("near_invalidated") == before {
        throw HarnessError("no change has reached the near cache")
      }
      report.add(row, to: "Reads while rows change, of which Redis itself is told nothing")
    }
  }
}

extension NearsideSite {
  /// Changes rows at random, so many a second, in transactions of `batch` rows, until it is killed.
  func change(rate: Int, batch: Int, keys: Int) throws -> ChildProcess {
    try postgres.background(
      """
      DO $$
      DECLARE due timestamptz := clock_timestamp();
      BEGIN
        LOOP
          UPDATE items SET body = body WHERE id IN (
            SELECT lpad(floor(random() * \(keys))::int::text, 8, '0') FROM generate_series(1, \(batch)));
          COMMIT;
          due := greatest(due + interval '\(Double(batch) / Double(rate)) s', clock_timestamp() - interval '1 s');
          PERFORM pg_sleep(greatest(0, extract(epoch FROM due - clock_timestamp())));
        END LOOP;
      END $$;
      """, database: database)
  }
}
