import TestSupport
import Testing

/// A commit is in the log, and so known to the tailer, before other sessions see it. With a synchronous
/// standby that does not answer, that lasts as long as one likes.
@Suite("Commits that are in the log and not yet visible")
struct VisibilityFaultTests {
  /// PostgreSQL waits for a standby that does not exist; statements that begin with `local` do not.
  private static let local = "SET synchronous_commit = local; "

  private func waitForNobody(_ cluster: Cluster) throws {
    cluster.postgres.set("synchronous_standby_names", "'nobody'")
    try cluster.postgres.reload()
  }

  private func pending(_ cluster: Cluster) throws -> Int {
    Int(try cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")) ?? 0
  }

  @Test("The old row is not filled after its change was applied, as long as the change is invisible")
  func lateVisibility() throws {
    let cluster = try Cluster()
    let before = try cluster.generation()
    try cluster.warm(1)
    try cluster.warm(2)
    try waitForNobody(cluster)
    let writer = try cluster.postgres.background(
      "UPDATE kv SET v = v + 1 WHERE id = 1", database: cluster.database)
    try eventually("the commit waits") { try pending(cluster) == 1 }
    // Forgotten although nobody sees the change yet.
    try eventually("it is applied") { try cluster.redis.cli("EXISTS", cluster.key(1)) == "0" }
    for _ in 0..<20 {
      for host in cluster.hosts {
        let client = try host.client()
        #expect(try client.call("GET", cluster.key(1)) == nil)
        let lease = try client.call("NEARSIDE", "LEASE", cluster.key(1)).elements
        #expect(try cluster.sql("SELECT v FROM kv WHERE id = 1") == "0")
        // What is read now is the old row.
        if let token = lease?.last?.text {
          #expect(try client.call("NEARSIDE", "FILL", cluster.key(1), token, "old") == 0)
        }
        try client.call("SET", cluster.key(1), "old", "EX", "600")
      }
    }
    try cluster.expectMiss(1)
    // Other keys are served and, once their bucket is older than what waits, filled; and evidence goes on.
    try cluster.expectKept(2)
    for host in cluster.hosts { #expect(Host.isWell(try host.status(), since: 0)) }
    try cluster.warm(3, "other")
    try cluster.cancelWaits()
    _ = try writer.wait()
    #expect(try cluster.sql("SELECT v FROM kv WHERE id = 1") == "1")
    try cluster.warm(1, "new")
    #expect(try cluster.generation() == before)
    try cluster.sql(Self.local + "ALTER SYSTEM RESET synchronous_standby_names")
    cluster.postgres.set("synchronous_standby_names", "''")
    try cluster.postgres.reload()
    try cluster.expectSound()
  }

  @Test("PostgreSQL is told to forget nothing that is invisible")
  func unconfirmed() throws {
    let cluster = try Cluster()
    try waitForNobody(cluster)
    let before = try cluster.sql("SELECT pg_current_wal_insert_lsn()")
    let writer = try cluster.postgres.background(
      "UPDATE kv SET v = v + 1 WHERE id = 1", database: cluster.database)
    try eventually("the commit waits") { try pending(cluster) == 1 }
    let after = try cluster.sql("SELECT pg_current_wal_insert_lsn()")
    try cluster.sql(Self.local + "UPDATE kv SET v = v + 1 WHERE id = 2")
    try eventually("W has passed it") {
      try cluster.sql("SELECT '\(cluster.hosts[0].status()["applied"] ?? "0/0")'::pg_lsn > '\(after)'") == "t"
    }
    sleep(.milliseconds(1500))
    #expect(
      try cluster.sql(
        """
        SELECT confirmed_flush_lsn < '\(after)' FROM pg_replication_slots WHERE slot_name = '\(cluster.slot)'
        """) == "t", "from \(before) to \(after)")
    // A tailer that dies now is given it again.
    let tailer = try cluster.waitForTailer()
    let other = try cluster.follower()
    tailer.kill()
    try eventually("the other tails") { try other.status()["role"] == "tailer" }
    let client = try other.client()
    if let token = try client.call("NEARSIDE", "LEASE", cluster.key(1)).elements?.last?.text {
      #expect(try client.call("NEARSIDE", "FILL", cluster.key(1), token, "old") == 0)
    }
    try cluster.cancelWaits()
    _ = try writer.wait()
    try tailer.start()
    cluster.postgres.set("synchronous_standby_names", "''")
    try cluster.postgres.reload()
    try cluster.expectSound()
  }

  /// The slot's first position lies behind the commit, which will never be sent, and before its visibility.
  /// That takes two transactions: PostgreSQL waits for those that are open when it begins to make a slot,
  /// then once more for those that have begun meanwhile (snapbuild.c), and the commit falls between.
  @Test("A commit from before the slot that becomes visible after it makes a new generation")
  func watched() throws {
    let cluster = try Cluster(start: false)
    func waitingSince(_ statement: String) throws {
      try eventually("the slot's creation waits", within: .seconds(20)) {
        try cluster.sql(
          """
          SELECT count(*) FROM pg_stat_activity a JOIN pg_locks l USING (pid)
          WHERE backend_type = 'walsender' AND wait_event = 'transactionid' AND NOT granted
            AND l.transactionid = '\(statement)'::xid
          """) == "1"
      }
    }
    func begin(_ id: Int) throws -> (SQLClient, String) {
      let client = try SQLClient(cluster.url)
      try client.query("SET synchronous_commit = local")
      try client.query("BEGIN")
      try client.query("UPDATE kv SET v = v + 1 WHERE id = \(id)")
      return (client, try client.value("SELECT pg_current_xact_id()::xid::text") ?? "")
    }
    // Setup has made it.
    try cluster.sql("SELECT pg_drop_replication_slot('\(cluster.slot)')")
    try waitForNobody(cluster)
    let (first, firstID) = try begin(50)
    for host in cluster.hosts { try host.start() }
    try waitingSince(firstID)
    let (second, secondID) = try begin(51)
    try first.query("COMMIT")
    try waitingSince(secondID)
    let writer = try cluster.postgres.background(
      "UPDATE kv SET v = v + 1 WHERE id = 1", database: cluster.database)
    try eventually("the commit waits") { try pending(cluster) == 1 }
    try second.query("COMMIT")
    for host in cluster.hosts {
      try eventually("host \(host.number) follows") { try host.status()["standing"] == "following" }
    }
    let before = try cluster.generation()
    #expect(try pending(cluster) == 1)
    // The old row is the current row until then, and may be kept.
    #expect(try cluster.sql("SELECT v FROM kv WHERE id = 1") == "0")
    try cluster.warm(1, "old")
    try cluster.cancelWaits()
    _ = try writer.wait()
    let visible = bootMoment()
    #expect(try cluster.sql("SELECT v FROM kv WHERE id = 1") == "1")
    try cluster.expectBounded(1, "old", from: visible)
    try cluster.waitForNewGeneration(after: before, because: "became visible only afterwards")
    try cluster.expectMiss(1)
    cluster.postgres.set("synchronous_standby_names", "''")
    try cluster.postgres.reload()
    try cluster.expectSound()
  }

  @Test("A position at the end of an open transaction's log is reached soon all the same")
  func trailing() throws {
    let cluster = try Cluster()
    let open = try SQLClient(cluster.url)
    try open.query("BEGIN")
    try open.query("UPDATE kv SET note = repeat('x', 3000) WHERE id = 50")
    for _ in 0..<5 {
      try cluster.warm(1)
      try cluster.sql("SET synchronous_commit = off; UPDATE kv SET v = v + 1 WHERE id = 1")
      try open.query("UPDATE kv SET note = repeat('y', 3000) WHERE id = 51")
      let position = try cluster.sql("SELECT pg_current_wal_insert_lsn()")
      let asked = bootMoment()
      for host in cluster.hosts {
        #expect(try host.client().call("NEARSIDE", "WAIT", position, "5000") == 1)
        #expect(try host.get(cluster.key(1)) == nil)
      }
      let milliseconds = Double(bootMoment() - asked) / 1e6
      #expect(milliseconds < 1000, "\(milliseconds) ms")
    }
    try open.query("ROLLBACK")
  }
}
