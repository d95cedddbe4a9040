import TestSupport
import Testing

@Suite("A slot that somebody else touches")
struct SlotFaultTests {
  enum Harm: String, CaseIterable, CustomTestStringConvertible {
    case dropped, recreated, advanced, consumed
    var testDescription: String { rawValue }
  }

  @Test(
    "What the slot passed over while somebody else had it makes a new generation", arguments: Harm.allCases)
  func harmed(how: Harm) throws {
    let cluster = try Cluster()
    let before = try cluster.generation()
    try cluster.warm(1)
    // Frozen and not dead: each is read at once when it wakes up.
    cluster.hosts.forEach { $0.freeze() }
    try cluster.change(1)
    let slot = cluster.slot
    switch how {
    case .dropped: try cluster.seizeSlot("pg_drop_replication_slot('\(slot)')")
    case .recreated:
      try cluster.seizeSlot("pg_drop_replication_slot('\(slot)')")
      try cluster.sql("SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput')")
    case .advanced: try cluster.seizeSlot("pg_replication_slot_advance('\(slot)', pg_current_wal_lsn())")
    case .consumed:
      try cluster.seizeSlot(
        """
        count(*) FROM pg_logical_slot_get_binary_changes('\(slot)', NULL, NULL,
          'proto_version', '1', 'publication_names', '\(cluster.publication)')
        """)
    }
    cluster.hosts.forEach { $0.thaw() }
    try cluster.waitForNewGeneration(
      after: before, because: "the replication slot ")
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  @Test("pg_recvlogical reads the slot while no sidecar runs")
  func received() throws {
    let cluster = try Cluster()
    let before = try cluster.generation()
    try cluster.warm(1)
    cluster.hosts.forEach { $0.kill() }
    try eventually("the slot is free") { try cluster.slotHolder() == nil }
    try cluster.change(1)
    let end = try cluster.sql("SELECT pg_current_wal_lsn()")
    try cluster.postgres.receive(
      slot: cluster.slot, publication: cluster.publication, database: cluster.database, through: end)
    for host in cluster.hosts { try host.start() }
    try cluster.waitForNewGeneration(after: before, because: "the replication slot has moved on")
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  @Test("A slot that lost its log is made anew")
  func lost() throws {
    var options = Cluster.Options()
    options.postgres = [
      "max_slot_wal_keep_size": "'1MB'", "max_wal_size": "'32MB'", "min_wal_size": "'32MB'",
    ]
    let cluster = try Cluster(options)
    let before = try cluster.generation()
    try cluster.warm(1)
    cluster.hosts.forEach { $0.kill() }
    try cluster.change(1)
    try eventually("the slot is lost", within: .seconds(40), every: .milliseconds(50)) {
      try cluster.sql("SELECT pg_switch_wal(); CHECKPOINT")
      return try cluster.sql(
        "SELECT wal_status FROM pg_replication_slots WHERE slot_name = '\(cluster.slot)'") == "lost"
    }
    for host in cluster.hosts { try host.start() }
    // The one that made it, or the other, which may be quicker to take it.
    try cluster.waitForNewGeneration(
      after: before, because: "the replication slot is new", "the replication slot has moved on")
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  @Test("A publication that was dropped: nothing from before lives longer than the bound, and setup mends it")
  func publicationDropped() throws {
    var options = Cluster.Options()
    options.bound = 1000
    let cluster = try Cluster(options)
    let before = try cluster.generation()
    try cluster.warm(1)
    try cluster.sql("DROP PUBLICATION \(cluster.publication)")
    let id = 1
    try cluster.change(id)
    let changed = bootMoment()
    try cluster.expectBounded(id, from: changed)
    try eventually("the trouble is told", within: .seconds(10)) {
      try cluster.hosts.contains { try $0.status()["trouble"]?.contains("ublication") == true }
    }
    try cluster.setUp()
    try eventually("a new generation", within: .seconds(15)) {
      try cluster.hosts.allSatisfy { host in
        let generation = try host.generation()
        return generation != nil && generation != before
      }
    }
    try cluster.waitUntilWell()
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  @Test("A table taken out of the publication is noticed within the bound, and setup mends it")
  func tableTakenOut() throws {
    var options = Cluster.Options()
    options.bound = 1000
    options.tables = #""kv": "kv:{id}", "other": "other:{id}""#
    options.schema = "CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1);"
    let cluster = try Cluster(options)
    try cluster.warm(1)
    // DDL is found by its message, or within a second by the catalogue.
    try cluster.sql("ALTER PUBLICATION \(cluster.publication) DROP TABLE kv")
    try cluster.change(1)
    let changed = bootMoment()
    try cluster.expectBounded(1, from: changed)
    try eventually("the trouble is told", within: .seconds(10)) {
      try cluster.hosts.contains { try $0.status()["trouble"]?.contains("kv") == true }
    }
    try cluster.setUp()
    try cluster.waitUntilWell()
    try cluster.settle()
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }
}

extension PostgresServer {
  /// Reads a slot with PostgreSQL's own program, as somebody does who wants to see what is in it.
  func receive(slot: String, publication: String, database: String, through end: String) throws {
    try succeed([
      "pg_recvlogical", "-h", folder.path, "-U", "postgres", "-d", database, "-S", slot, "--start", "-f",
      "/dev/null", "-o", "proto_version=1", "-o", "publication_names=\(publication)", "--endpos", end,
      "--no-loop",
    ])
  }
}
