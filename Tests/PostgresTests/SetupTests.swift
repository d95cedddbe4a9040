import Configuration
import TestSupport
import Testing

@testable import Postgres

@Suite("Setup and uninstall")
struct SetupTests {
  @Test("From nothing to ready, publication before slot, and then nothing to do")
  func fromNothing() throws {
    let place = try Place()
    let role = "sidecar \"x\" \(place.database)"
    try place.psql("CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE \"Odd Name\" (id int PRIMARY KEY);")
    let session = try place.sql()
    let request = place.request(["users", "Odd Name"], role: role)
    let plan = try SetupPlan.setup(request, session)
    #expect(plan.refusals.isEmpty)
    let script = plan.description
    #expect(script.contains("CREATE ROLE \"sidecar \"\"x\"\" \(place.database)\" LOGIN REPLICATION;"))
    #expect(script.contains("FOR TABLE \"public\".\"users\", \"public\".\"Odd Name\" WITH (publish = "))
    #expect(!script.lowercased().contains("password '"))
    #expect(plan.statements.last?.sql.contains("pg_create_logical_replication_slot('\(place.slot)'") == true)
    #expect(plan.statements.allSatisfy { !$0.reason.isEmpty && !$0.reason.contains("\n") })

    var done: [String] = []
    try plan.apply(session) { done.append($0.sql) }
    #expect(done == plan.statements.map { $0.sql })
    let again = try SetupPlan.setup(request, session)
    #expect(again == SetupPlan())
    #expect(again.description == "-- nothing to do\n")

    // What was set up is what a sidecar needs.
    let settings = PostgresSettings(
      url: Secret("host=\(place.server.folder.path) dbname=\(place.database) user='\(role)'"), password: nil,
      publication: place.publication, slot: place.settings().slot)
    let sidecar = try SQLSession(settings)
    let findings = try PostgresPreflight.examine(settings, tables: request.tables, sidecar)
    #expect(findings.allSatisfy { $0.severity == .warning })
    for table in ["canary", "gen"] {
      _ = try sidecar.query(
        "INSERT INTO nearside.\(table) VALUES ('shop', $1) ON CONFLICT (ns) DO UPDATE SET g = excluded.g",
        ["1"])
    }
    #expect(try sidecar.query("SELECT g FROM nearside.canary").count == 1)
    #expect(failure { _ = try sidecar.query("DELETE FROM nearside.gen") }?.sqlState == "42501")
    #expect(
      try place.psql("SELECT relpersistence FROM pg_class WHERE oid = 'nearside.canary'::regclass") == "u")
    var stream = try ReplicationStream(settings)
    try stream.start(slot: place.slot, publication: place.publication)
    try place.psql("INSERT INTO users VALUES (1)")
    #expect(try collect(&stream) { $0.tags.hasSuffix("C") }.changes == "BIC")

    // A slot that is in use is not pulled from under the sidecars.
    let early = try SetupPlan.uninstall(request, session)
    #expect(early.statements.isEmpty)
    #expect(early.refusals.first?.contains("stop all sidecars first") == true)
    stream.stop()

    let removal = try SetupPlan.uninstall(request, session)
    try removal.apply(session)
    #expect(try SetupPlan.uninstall(request, session) == SetupPlan())
    #expect(
      try place.psql(
        """
        SELECT (SELECT count(*) FROM pg_publication)
          + (SELECT count(*) FROM pg_namespace WHERE nspname = 'nearside')
          + (SELECT count(*) FROM pg_roles WHERE rolname LIKE '%\(place.database)')
          + (SELECT count(*) FROM pg_replication_slots WHERE slot_name = '\(place.slot)')
        """) == "0")
  }

  @Test("Only what is missing is printed, and what is wrong is put right")
  func missingOnly() throws {
    let place = try Place()
    let role = "half_\(place.database)"
    try place.psql(
      """
      CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
      CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (x int) INHERITS (parent);
      CREATE PUBLICATION \(place.publication) FOR TABLE a
        WITH (publish = 'insert', publish_via_partition_root);
      SELECT pg_create_logical_replication_slot('\(place.slot)', 'pgoutput');
      CREATE ROLE \(role) LOGIN;
      CREATE SCHEMA nearside; CREATE TABLE nearside.canary (ns text PRIMARY KEY, g text NOT NULL);
      REVOKE CONNECT ON DATABASE \(place.database) FROM PUBLIC;
      """)
    let session = try place.sql()
    let request = place.request(["a", "b", "parent"], role: role)
    let plan = try SetupPlan.setup(request, session)
    #expect(
      plan.statements.map { $0.sql }.filter { !$0.contains("FUNCTION") && !$0.contains("TRIGGER") } == [
        "ALTER ROLE \"\(role)\" REPLICATION", "ALTER TABLE nearside.canary SET UNLOGGED",
        "CREATE TABLE nearside.gen (ns text PRIMARY KEY, g text NOT NULL)",
        "CREATE TABLE nearside.publication (name name PRIMARY KEY)",
        "INSERT INTO nearside.publication VALUES ('\(place.publication)') ON CONFLICT DO NOTHING",
        "GRANT CONNECT ON DATABASE \"\(place.database)\" TO \"\(role)\"",
        "GRANT USAGE ON SCHEMA nearside TO \"\(role)\"",
        "GRANT SELECT, INSERT, UPDATE ON nearside.canary, nearside.gen TO \"\(role)\"",
        // A child of `parent` has no identity; publishing it would break writes to it.
        "ALTER PUBLICATION \"\(place.publication)\" ADD TABLE \"public\".\"b\", ONLY \"public\".\"parent\"",
        "ALTER PUBLICATION \"\(place.publication)\" SET (publish = 'insert, update, delete, truncate')",
        "ALTER PUBLICATION \"\(place.publication)\" SET (publish_via_partition_root = false)",
      ])
    try plan.apply(session)
    #expect(try SetupPlan.setup(request, session) == SetupPlan())
    try place.psql("INSERT INTO child VALUES (1); UPDATE child SET id = 2;")

    // What setup did not make stays, and so does what others use.
    try place.psql("INSERT INTO nearside.gen VALUES ('shop', '1'), ('blog', '2')")
    let removal = try SetupPlan.uninstall(request, session)
    #expect(
      removal.statements.map { $0.sql } == [
        "SELECT pg_catalog.pg_drop_replication_slot('\(place.slot)')",
        "DELETE FROM nearside.publication WHERE name = '\(place.publication)'",
        "DELETE FROM nearside.canary WHERE ns = 'shop'", "DELETE FROM nearside.gen WHERE ns = 'shop'",
      ])
    #expect(removal.notes.count == 3)
    #expect(removal.notes.contains("Role \(role) was not made by nearside setup and is left as it is."))
    try removal.apply(session)
    #expect(try place.psql("SELECT ns FROM nearside.gen") == "blog")
  }

  @Test("Tables whose publication would break the application's own writes are refused, all at once")
  func refusals() throws {
    let place = try Place()
    try place.psql(
      """
      CREATE TABLE fine (id int PRIMARY KEY);
      CREATE TABLE keyless (id int);
      CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
      CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
      CREATE UNLOGGED TABLE volatile (id int PRIMARY KEY);
      CREATE VIEW seen AS SELECT 1 AS id;
      CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
      CREATE FOREIGN TABLE far (id int) SERVER s;
      CREATE TABLE many (id int) PARTITION BY RANGE (id);
      CREATE TABLE many_1 PARTITION OF many (PRIMARY KEY (id)) FOR VALUES FROM (0) TO (9);
      CREATE TABLE many_2 PARTITION OF many FOR VALUES FROM (9) TO (99);
      CREATE FOREIGN TABLE many_3 PARTITION OF many FOR VALUES FROM (99) TO (999) SERVER s;
      """)
    let session = try place.sql()
    let names = ["fine", "keyless", "deferred", "nothing", "volatile", "seen", "far", "many", "nowhere"]
    let plan = try SetupPlan.setup(place.request(names), session)
    #expect(plan.statements.isEmpty)
    let wanted = [
      "Table public.keyless has no replica identity", "Table public.deferred has no replica identity",
      "Table public.nothing has no replica identity", "Table public.volatile is unlogged",
      "public.seen is a view",
      "Table public.far is a foreign table", "Partition public.many_2 of public.many has no replica identity",
      "Partition public.many_3 of public.many is a foreign table", "Table public.nowhere does not exist",
    ]
    for text in wanted { #expect(plan.refusals.contains { $0.hasPrefix(text) }, "\(text)") }
    #expect(plan.refusals.count == wanted.count)
    #expect(plan.description.hasPrefix("-- refused: "))
    #expect(try place.psql("SELECT count(*) FROM pg_publication") == "0")

    // A full identity is one; so is an index's.
    try place.psql(
      """
      ALTER TABLE keyless REPLICA IDENTITY FULL;
      ALTER TABLE deferred ADD other int NOT NULL UNIQUE;
      ALTER TABLE deferred REPLICA IDENTITY USING INDEX deferred_other_key;
      """)
    let better = try SetupPlan.setup(place.request(["fine", "keyless", "deferred"]), session)
    #expect(better.refusals.isEmpty)
    try better.apply(session)
    try place.psql("INSERT INTO keyless VALUES (1); UPDATE keyless SET id = 2; UPDATE deferred SET id = 3;")
  }

  @Test("A slot older than its publication is made anew, for it would fail at the first change")
  func slotBeforePublication() throws {
    let place = try Place()
    try place.prepare()
    try place.psql("DROP PUBLICATION \(place.publication); INSERT INTO t VALUES (1);")
    let session = try place.sql()
    let plan = try SetupPlan.setup(place.request(["t"]), session)
    #expect(plan.statements.first?.sql.contains("pg_drop_replication_slot") == true)
    try plan.apply(session)
    var stream = try place.stream()
    try stream.start(slot: place.slot, publication: place.publication)
    try place.psql("INSERT INTO t VALUES (2)")
    #expect(try collect(&stream) { $0.tags.hasSuffix("C") }.changes == "BIC")

    // Not while a sidecar holds it.
    try place.psql("DROP PUBLICATION \(place.publication)")
    let refused = try SetupPlan.setup(place.request(["t"]), session)
    #expect(refused.statements.isEmpty)
    #expect(refused.refusals.first?.contains("stop all sidecars first") == true)
  }

  @Test("A slot or a filter that is not ours is refused")
  func notOurs() throws {
    let place = try Place()
    try place.psql(
      """
      CREATE TABLE t (id int PRIMARY KEY);
      CREATE PUBLICATION \(place.publication) FOR TABLE t WHERE (id > 1);
      SELECT pg_create_logical_replication_slot('\(place.slot)', 'test_decoding');
      """)
    let plan = try SetupPlan.setup(place.request(["t"]), try place.sql())
    #expect(plan.statements.isEmpty)
    #expect(plan.refusals.contains { $0.contains("its plugin is test_decoding") })
    #expect(plan.refusals.contains { $0.contains("row filter for public.t") })
  }

  @Test("With a temporary slot none is made, and without a role nothing is granted")
  func embedded() throws {
    let place = try Place()
    try place.psql("CREATE TABLE t (id int PRIMARY KEY)")
    var request = place.request(["t"], namespace: nil)
    request.postgres.slot.mode = .temporary
    let session = try place.sql()
    let plan = try SetupPlan.setup(request, session)
    #expect(!plan.description.contains("slot("))
    #expect(plan.statements.allSatisfy { !$0.sql.contains("GRANT") })
    try plan.apply(session)
    #expect(try SetupPlan.setup(request, session) == SetupPlan())
  }

  @Test("A statement that fails is named, and a new plan holds what is left")
  func interrupted() throws {
    let place = try Place()
    let role = "limited_\(place.database)"
    try place.psql("CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE \(role) LOGIN;")
    try place.server.psql("GRANT CREATE ON DATABASE \(place.database) TO \(role)")
    let request = place.request(["t"])
    let limited = try place.sql(user: role)
    let error = failure { try SetupPlan.setup(request, limited).apply(limited) }
    #expect(error?.sqlState == "42501")
    #expect(error?.description.contains("CREATE PUBLICATION") == true)
    let session = try place.sql()
    let rest = try SetupPlan.setup(request, session)
    #expect(!rest.description.contains("CREATE SCHEMA"))
    try rest.apply(session)
    #expect(try SetupPlan.setup(request, session) == SetupPlan())
  }

  /// As beside sidecars that run, which make the slot when there is none, or beside another setup.
  @Test("What somebody else makes or removes between plan and statement is taken if it is what is needed")
  func meanwhile() throws {
    let place = try Place()
    try place.prepare()
    try place.psql("DROP PUBLICATION \(place.publication); CREATE TABLE u (id int PRIMARY KEY);")
    let session = try place.sql()
    let request = place.request(["t", "u"])
    let plan = try SetupPlan.setup(request, session)
    // The slot is gone when it is to be dropped; the publication lacks a table; the slot is there when it is
    // to be made.
    try place.psql(
      """
      SELECT pg_drop_replication_slot('\(place.slot)');
      CREATE SCHEMA nearside;
      CREATE PUBLICATION \(place.publication) FOR TABLE t;
      """)
    var done: [String] = []
    let refusals = try plan.apply(
      session, done: { done.append($0.sql) },
      again: { (session: borrowing SQLSession) throws(PostgresError) in
        let plan = try SetupPlan.setup(request, session)
        // Then the slot, once it is planned.
        _ = try session.query(
          """
          SELECT pg_create_logical_replication_slot('\(place.slot)', 'pgoutput')
          WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '\(place.slot)')
          """)
        return plan
      })
    #expect(refusals.isEmpty)
    #expect(done.contains { $0.contains("ADD TABLE \"public\".\"u\"") })
    #expect(!done.contains { $0.contains("replication_slot") || $0.contains("CREATE SCHEMA") })
    #expect(try SetupPlan.setup(request, session) == SetupPlan())
    var stream = try place.stream()
    try stream.start(slot: place.slot, publication: place.publication)
    try place.psql("INSERT INTO u VALUES (1)")
    #expect(try collect(&stream) { $0.tags.hasSuffix("C") }.changes == "BIC")
  }

  @Test("What somebody else made meanwhile and is not what is needed is refused")
  func wrongMeanwhile() throws {
    let place = try Place()
    try place.psql("CREATE TABLE t (id int PRIMARY KEY)")
    let session = try place.sql()
    let request = place.request(["t"])
    let plan = try SetupPlan.setup(request, session)
    try place.psql("SELECT pg_create_logical_replication_slot('\(place.slot)', 'test_decoding')")
    let again = { (session: borrowing SQLSession) throws(PostgresError) in
      try SetupPlan.setup(request, session)
    }
    let refusals = try plan.apply(session, again: again)
    #expect(refusals.first?.contains("its plugin is test_decoding") == true)
    // Without a way to plan anew it is an error, which names the statement.
    let error = failure { try plan.apply(session) }
    #expect(error?.sqlState == "42P06")
    #expect(error?.description.contains("CREATE SCHEMA nearside") == true)
  }

  @Test("Functions of an earlier version are replaced, and event triggers that were weakened are mended")
  func outdated() throws {
    let place = try Place()
    try place.psql("CREATE TABLE t (id int PRIMARY KEY)")
    let session = try place.sql()
    let request = place.request(["t"])
    try SetupPlan.setup(request, session).apply(session)
    try place.psql(
      """
      CREATE OR REPLACE FUNCTION nearside.invalidate(VARIADIC keys text[]) RETURNS void LANGUAGE sql AS '';
      CREATE OR REPLACE FUNCTION nearside.note_drop() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
      ALTER EVENT TRIGGER nearside_drop DISABLE; DROP EVENT TRIGGER nearside_rewrite;
      """)
    let plan = try SetupPlan.setup(request, session)
    #expect(
      plan.statements.map { $0.sql.prefix(44) } == [
        "CREATE OR REPLACE FUNCTION nearside.invalida", "CREATE OR REPLACE FUNCTION nearside.note_dro",
        "CREATE EVENT TRIGGER nearside_rewrite ON tab", "ALTER EVENT TRIGGER nearside_rewrite ENABLE ",
        "ALTER EVENT TRIGGER nearside_drop ENABLE ALW",
      ])
    try plan.apply(session)
    #expect(try SetupPlan.setup(request, session) == SetupPlan())
  }

  @Test("A role that may not create event triggers goes without, and a superuser adds them later")
  func withoutEventTriggers() throws {
    let place = try Place()
    let role = "plain_\(place.database)"
    try place.psql("CREATE ROLE \(role) LOGIN REPLICATION")
    try place.server.psql(
      "GRANT CREATE ON DATABASE \(place.database) TO \(role); ALTER DATABASE \(place.database) OWNER TO \(role)"
    )
    try place.server.psql("CREATE TABLE t (id int PRIMARY KEY)", database: place.database, user: role)
    let request = place.request(["t"])
    let plain = try place.sql(user: role)
    let plan = try SetupPlan.setup(request, plain)
    #expect(plan.notes.count == 1)
    #expect(plan.notes.first?.contains("up to a second after it") == true)
    #expect(
      !plan.statements.contains { $0.sql.contains("TRIGGER") || $0.sql.contains("nearside.publication") })
    try plan.apply(plain)
    let again = try SetupPlan.setup(request, plain)
    #expect(again.statements.isEmpty)
    #expect(again.notes == plan.notes)

    let session = try place.sql()
    let rest = try SetupPlan.setup(request, session)
    #expect(rest.statements.count == 10)
    try rest.apply(session)
    #expect(try SetupPlan.setup(request, session) == SetupPlan())
    // Now there is nothing left for the plain role to do, or to be told.
    #expect(try SetupPlan.setup(request, plain) == SetupPlan())
    try place.psql("ALTER EVENT TRIGGER nearside_drop DISABLE")
    let told = try SetupPlan.setup(request, plain)
    #expect(told.statements.isEmpty)
    #expect(told.notes.first?.contains("not complete") == true)
  }

  @Test("Of two fleets in one database each has its own row, and the last one takes everything away")
  func twoFleets() throws {
    let place = try Place()
    try place.psql("CREATE TABLE t (id int PRIMARY KEY)")
    let session = try place.sql()
    var first = place.request(["t"], namespace: nil)
    first.postgres.slot.mode = .temporary
    var second = first
    second.postgres.publication = "second_\(place.database)"
    try SetupPlan.setup(first, session).apply(session)
    let plan = try SetupPlan.setup(second, session)
    #expect(!plan.description.contains("FUNCTION"))
    try plan.apply(session)
    #expect(try place.psql("SELECT count(*) FROM nearside.publication") == "2")
    let removal = try SetupPlan.uninstall(first, session)
    #expect(
      removal.statements.map { $0.sql } == [
        "DROP PUBLICATION \"\(place.publication)\"",
        "DELETE FROM nearside.publication WHERE name = '\(place.publication)'",
      ])
    #expect(removal.notes == ["Schema nearside stays: other fleets use it (second_\(place.database))."])
    try removal.apply(session)
    try SetupPlan.uninstall(second, session).apply(session)
    #expect(
      try place.psql(
        """
        SELECT (SELECT count(*) FROM pg_event_trigger)
          + (SELECT count(*) FROM pg_namespace WHERE nspname = 'nearside')
        """) == "0")
  }
}
