import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Postgres

@Suite("What is checked before a start")
struct PreflightTests {
  private func errors(_ findings: [Finding]) -> [String] {
    findings.filter { $0.severity == .error }.map { $0.what }
  }

  @Test("A server that is ready has no findings but the one about its disk")
  func ready() throws {
    let place = try Place()
    try place.prepare()
    let session = try place.sql()
    let tables = [TableName(schema: "public", name: "t")]
    let findings = try PostgresPreflight.examine(place.settings(), tables: tables, session)
    #expect(findings.map { $0.severity } == [.warning])
    #expect(findings.first?.what.contains("max_slot_wal_keep_size is -1") == true)
    // A temporary slot holds nothing once its sidecar is gone.
    #expect(
      try PostgresPreflight.examine(place.settings(mode: .temporary), tables: tables, session).isEmpty)
  }

  @Test("Nothing prepared: every finding says what to run")
  func bare() throws {
    let place = try Place()
    try place.psql("CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE weak_\(place.database) LOGIN;")
    let session = try place.sql(user: "weak_\(place.database)")
    let findings = try PostgresPreflight.examine(
      place.settings(),
      tables: [TableName(schema: "public", name: "t"), TableName(schema: "public", name: "u")],
      session)
    #expect(
      errors(findings) == [
        "Role weak_\(place.database) has no right to replicate.",
        "Publication \(place.publication) does not exist.", "Table public.u does not exist.",
      ])
    #expect(findings.contains { $0.what == "Replication slot \(place.slot) does not exist yet." })
    #expect(
      findings.contains { $0.fix?.contains("ALTER ROLE \"weak_\(place.database)\" REPLICATION") == true })
  }

  @Test("A publication that hides changes, or would break the application's writes")
  func publication() throws {
    let place = try Place()
    try place.psql(
      """
      CREATE TABLE filtered (id int PRIMARY KEY);
      CREATE TABLE listed (id int PRIMARY KEY, v text);
      CREATE TABLE broken (id int PRIMARY KEY, v text);
      CREATE TABLE absent (id int PRIMARY KEY);
      CREATE TABLE keyless (id int);
      CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
      CREATE TABLE many (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE many_1 PARTITION OF many FOR VALUES FROM (0) TO (9);
      CREATE PUBLICATION \(place.publication) FOR TABLE filtered WHERE (id > 1), listed (id), broken (v),
        keyless, ONLY parent, many_1 WITH (publish = 'insert, update', publish_via_partition_root);
      SELECT pg_create_logical_replication_slot('\(place.slot)', 'pgoutput');
      """)
    let tables = ["filtered", "listed", "broken", "absent", "keyless", "parent", "many"].map {
      TableName(schema: "public", name: $0)
    }
    let findings = try PostgresPreflight.examine(place.settings(), tables: tables, try place.sql())
    let errors = errors(findings)
    let wanted = [
      "leaves out delete, truncate", "publish_via_partition_root", "row filter for public.filtered",
      "lacks id of the replica identity", "does not hold table public.absent",
      "public.keyless has no replica identity",
      // The leaf of today is published; that of tomorrow would not be.
      "does not hold table public.many",
    ]
    for text in wanted { #expect(errors.contains { $0.contains(text) }, "\(text)") }
    #expect(errors.count == wanted.count)
    let warnings = findings.filter { $0.severity == .warning }.map { $0.what }
    #expect(warnings.contains { $0.contains("sends only id of public.listed") })
    #expect(warnings.contains { $0.contains("Other tables inherit from public.parent") })
    // The server agrees about the one that breaks writes.
    #expect(throws: HarnessError.self) { try place.psql("UPDATE broken SET v = 'x'") }
    #expect(throws: HarnessError.self) { try place.psql("UPDATE keyless SET id = 1") }
  }

  @Test("A table counts as published through its schema, all tables, or a table above it")
  func coverage() throws {
    let place = try Place()
    try place.psql(
      """
      CREATE TABLE many (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE part PARTITION OF many FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id);
      CREATE PUBLICATION by_schema FOR TABLES IN SCHEMA public;
      CREATE PUBLICATION by_all FOR ALL TABLES;
      CREATE PUBLICATION by_root FOR TABLE many;
      CREATE PUBLICATION by_nothing;
      """)
    let session = try place.sql()
    for (publication, published) in [
      ("by_schema", true), ("by_all", true), ("by_root", true), ("by_nothing", false),
    ] {
      let facts = try TableFacts.read(
        TableName(schema: "public", name: "part"), publication: publication, session)
      #expect(facts.isPublished == published, "\(publication)")
    }
  }

  @Test("A slot of somebody else is not ours")
  func slots() throws {
    let place = try Place()
    let other = try Place(place.server)
    try place.prepare()
    let session = try place.sql()
    let server = try ServerFacts.read(session)
    let own = try SlotStatus.read(place.slot, session)
    func errors(_ slot: SlotStatus?, _ facts: ServerFacts? = nil) -> [String] {
      self.errors(PostgresPreflight.judge(slot, place.settings().slot, facts ?? server))
    }
    #expect(errors(own) == [])
    #expect(own?.refusal("s", database: other.database)?.contains("belongs to database") == true)
    var foreign = own
    foreign?.plugin = "test_decoding"
    #expect(errors(foreign).first?.contains("its plugin is test_decoding") == true)
    foreign?.plugin = nil
    #expect(errors(foreign).first?.contains("it is physical") == true)
    var full = server
    full.usedSlots = full.maxSlots
    full.usedWalSenders = full.maxWalSenders
    #expect(errors(nil, full).count == 2)
    #expect(errors(own, full).count == 1)
  }

  @Test("A standby, and a version that is too old")
  func serverFacts() {
    #expect(errors(PostgresPreflight.judge(ServerFacts())) == [])
    #expect(errors(PostgresPreflight.judge(ServerFacts(isStandby: true))).first?.contains("standby") == true)
  }

  @Test(
    "A sidecar must not be a synchronous standby",
    arguments: [
      ("", false), ("*", true), ("nearside", true), ("NearSide", true), ("a, nearside", true),
      ("FIRST 2 (a, \"nearside\")", true), ("ANY 1 (*)", true), ("2 (a,b)", false), ("nearside2", false),
      ("\"near side\", b", false), ("any 1(a,b , nearside )", true),
    ])
  func synchronous(_ names: String, _ matches: Bool) {
    #expect(PostgresPreflight.matches("nearside", standbyNames: names) == matches)
  }

  @Test("The sidecar's own application_name is the one that is compared")
  func applicationName() throws {
    let server = try PostgresServer(settings: ["synchronous_standby_names": "'FIRST 1 (nearside)'"])
    func findings(_ url: String) throws -> [String] {
      let settings = PostgresSettings(
        url: Secret(url), password: nil, publication: "p", slot: SlotSettings(name: "s", mode: .durable))
      return errors(try PostgresPreflight.examine(settings, tables: [], SQLSession(settings)))
    }
    #expect(try findings(server.url()).contains { $0.contains("synchronous_standby_names matches") })
    #expect(
      try !findings(server.url() + "&application_name=shop").contains { $0.contains("synchronous_standby") })
  }
}
