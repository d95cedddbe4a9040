import Configuration
import TestSupport
import Testing

@testable import Postgres

/// A database with tables of every kind, set up by `nearside setup`, and a slot that shows what is emitted.
private struct Watched {
  let place: Place

  init(_ server: PostgresServer? = nil) throws {
    place = try Place(server)
    try place.psql(
      """
      CREATE TYPE mood AS ENUM ('sad', 'ok');
      CREATE DOMAIN feeling AS mood;
      CREATE TABLE users (id int PRIMARY KEY, mail text NOT NULL, feels feeling, moods mood[]);
      CREATE TABLE events (id int, day int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
      CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
      CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);
      CREATE TABLE events_2_all PARTITION OF events_2 DEFAULT;
      CREATE TABLE events_3 (id int, day int, PRIMARY KEY (id, day));
      CREATE TABLE parent (id int PRIMARY KEY, v text);
      CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
      CREATE TABLE apart (id int PRIMARY KEY, v text);
      CREATE SCHEMA sales; CREATE TABLE sales.orders (id int PRIMARY KEY);
      CREATE PUBLICATION other_\(place.database) FOR TABLE apart;
      """)
    let session = try place.sql()
    var request = place.request(["users", "events", "child"])
    request.tables.append(TableName(schema: "sales", name: "orders"))
    request.postgres.slot.mode = .temporary
    try SetupPlan.setup(request, session).apply(session)
    try place.psql("SELECT pg_create_logical_replication_slot('\(place.slot)', 'test_decoding')")
  }

  /// The messages that the statements leave in the log: the commands that were noted, once each.
  func noted(_ sql: String) throws -> [String] {
    _ = try messages()
    try place.psql(sql)
    return try messages()
  }

  func messages() throws -> [String] {
    let mark = "prefix: nearside.ddl, sz: "
    let lines = try place.psql(
      """
      SELECT data FROM pg_logical_slot_get_changes('\(place.slot)', NULL, NULL) WHERE data LIKE 'message:%\(mark)%'
      """)
    var commands: [String] = []
    for line in lines.split(separator: "\n") {
      guard let content = line.split(separator: " content:", maxSplits: 1).last else { continue }
      #expect(line.contains("transactional: 1"))
      if commands.last != String(content) { commands.append(String(content)) }
    }
    return commands
  }
}

@Suite("DDL is noted in the log")
struct DefinitionTriggerTests {
  @Test("What may move rows of a published table without naming them")
  func concerned() throws {
    let watched = try Watched()
    let publication = watched.place.publication
    let cases: [(String, [String])] = [
      ("ALTER TABLE events ATTACH PARTITION events_3 FOR VALUES FROM (20) TO (30)", ["ALTER TABLE"]),
      ("ALTER TABLE events DETACH PARTITION events_3", ["ALTER TABLE"]),
      ("ALTER TABLE events ATTACH PARTITION events_3 FOR VALUES FROM (20) TO (30)", ["ALTER TABLE"]),
      ("DROP TABLE events_3", ["DROP TABLE"]),
      ("DROP TABLE events_2_all", ["DROP TABLE"]),
      ("ALTER TABLE events_2 RENAME TO events_second", ["ALTER TABLE"]),
      ("ALTER TABLE events_1 REPLICA IDENTITY FULL", ["ALTER TABLE"]),
      ("ALTER TABLE users ALTER mail TYPE text USING upper(mail)", ["ALTER TABLE"]),
      ("ALTER TABLE users RENAME TO people; ALTER TABLE people RENAME TO users", ["ALTER TABLE"]),
      ("ALTER TABLE users RENAME mail TO email; ALTER TABLE users RENAME email TO mail", ["ALTER TABLE"]),
      ("ALTER TABLE users ADD COLUMN age int DEFAULT 7; ALTER TABLE users DROP age", ["ALTER TABLE"]),
      ("ALTER TABLE users SET SCHEMA sales; ALTER TABLE sales.users SET SCHEMA public", ["ALTER TABLE"]),
      (
        "CREATE UNIQUE INDEX by_mail ON users (mail); ALTER TABLE users REPLICA IDENTITY USING INDEX by_mail",
        ["ALTER TABLE"]
      ),
      ("DROP INDEX by_mail", ["DROP INDEX"]),
      ("ALTER TABLE users REPLICA IDENTITY DEFAULT", ["ALTER TABLE"]),
      ("ALTER SCHEMA sales RENAME TO trade; ALTER SCHEMA trade RENAME TO sales", ["ALTER SCHEMA"]),
      ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", ["ALTER TYPE"]),
      ("ALTER TABLE parent ALTER v TYPE text USING upper(v)", ["ALTER TABLE"]),
      ("ALTER PUBLICATION \(publication) SET (publish = 'insert')", ["ALTER PUBLICATION"]),
      ("ALTER PUBLICATION \(publication) ADD TABLE apart", ["ALTER PUBLICATION"]),
      ("ALTER TABLE apart SET (fillfactor = 70)", ["ALTER TABLE"]),
      ("ALTER PUBLICATION \(publication) DROP TABLE apart", ["ALTER PUBLICATION"]),
      ("ALTER PUBLICATION \(publication) ADD TABLES IN SCHEMA sales", ["ALTER PUBLICATION"]),
      ("ALTER PUBLICATION \(publication) DROP TABLES IN SCHEMA sales", ["ALTER PUBLICATION"]),
      ("ALTER PUBLICATION \(publication) RENAME TO elsewhere", ["ALTER PUBLICATION"]),
      ("ALTER PUBLICATION elsewhere RENAME TO \(publication)", ["ALTER PUBLICATION"]),
      ("DO $$ BEGIN EXECUTE 'ALTER TABLE users ADD COLUMN x int'; END $$", ["ALTER TABLE"]),
      ("DO $$ BEGIN EXECUTE 'DROP TABLE events_1'; END $$", ["DROP TABLE"]),
      ("SET session_replication_role = replica; ALTER TABLE users DROP x", ["ALTER TABLE"]),
      ("BEGIN; ALTER TABLE apart RENAME TO a; ALTER TABLE users RENAME TO apart; ROLLBACK", []),
      (
        "ALTER TABLE users RENAME TO gone; ALTER TABLE apart RENAME TO users; DROP TABLE gone",
        ["ALTER TABLE", "DROP TABLE"]
      ),
      ("DROP SCHEMA sales CASCADE", ["DROP SCHEMA"]),
      ("DROP PUBLICATION \(publication)", ["DROP PUBLICATION"]),
      ("CREATE PUBLICATION \(publication) FOR TABLE child", ["CREATE PUBLICATION"]),
    ]
    for (sql, commands) in cases {
      #expect(try watched.noted(sql) == commands, "\(sql)")
    }
  }

  @Test("What concerns no published table, or no row, leaves nothing in the log")
  func unconcerned() throws {
    let watched = try Watched()
    let cases = [
      "ALTER TABLE apart ALTER v TYPE text USING upper(v)", "ALTER TABLE apart RENAME v TO w",
      "DROP TABLE apart", "CREATE TABLE fresh (id int PRIMARY KEY)", "DROP TABLE fresh",
      "CREATE TABLE fresh AS SELECT 1 AS id; ALTER TABLE fresh ADD PRIMARY KEY (id); DROP TABLE fresh",
      "CREATE TABLE fresh (id int); BEGIN; ALTER TABLE fresh ADD x int; DROP TABLE fresh; COMMIT",
      "CREATE TEMP TABLE users (id int); ALTER TABLE pg_temp.users ADD x int; DROP TABLE pg_temp.users",
      "CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1", "CREATE UNLOGGED TABLE u (id int); DROP TABLE u",
      "CREATE TABLE events_4 PARTITION OF events FOR VALUES FROM (40) TO (50)",
      "CREATE INDEX by_mail ON users (mail); DROP INDEX by_mail", "COMMENT ON TABLE users IS 'x'",
      "GRANT SELECT ON users TO PUBLIC", "CREATE VIEW seen AS SELECT * FROM users; DROP VIEW seen",
      "CREATE TYPE color AS ENUM ('red'); ALTER TYPE color RENAME VALUE 'red' TO 'blue'; DROP TYPE color",
      "CREATE SCHEMA s; CREATE TABLE s.t (id int); ALTER SCHEMA s RENAME TO s2; DROP SCHEMA s2 CASCADE",
      "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; DROP FUNCTION f()",
      "INSERT INTO users VALUES (1, 'a@b'); UPDATE users SET mail = 'x'; DELETE FROM users; ANALYZE users",
      "CREATE PUBLICATION third FOR TABLE parent; DROP PUBLICATION third",
    ]
    for sql in cases { #expect(try watched.noted(sql) == [], "\(sql)") }
  }

  @Test("A publication of all tables, and one of a schema, hold every table that they would send")
  func wide() throws {
    let watched = try Watched()
    let publication = watched.place.publication
    try watched.place.psql(
      "DROP PUBLICATION \(publication); CREATE PUBLICATION \(publication) FOR TABLES IN SCHEMA sales")
    #expect(try watched.noted("ALTER TABLE sales.orders ADD x int") == ["ALTER TABLE"])
    #expect(try watched.noted("ALTER TABLE users ADD x int") == [])
    try watched.place.psql(
      "DROP PUBLICATION \(publication); CREATE PUBLICATION \(publication) FOR ALL TABLES")
    #expect(try watched.noted("ALTER TABLE apart ADD x int") == ["ALTER TABLE"])
    #expect(try watched.noted("DROP TABLE apart") == ["DROP TABLE"])
    #expect(
      try watched.noted("CREATE UNLOGGED TABLE u (id int); ALTER TABLE u ADD x int; DROP TABLE u") == [])
    #expect(try watched.noted("CREATE TABLE nearside.x (id int); DROP TABLE nearside.x") == [])
  }

  @Test("A role without any right on Nearside's schema runs DDL as before, and it is noted")
  func otherOwner() throws {
    let watched = try Watched()
    let role = "owner_\(watched.place.database)"
    try watched.place.psql(
      "CREATE ROLE \(role) LOGIN; ALTER TABLE users OWNER TO \(role); GRANT CREATE ON SCHEMA public TO \(role)"
    )
    _ = try watched.messages()
    try watched.place.server.psql(
      "ALTER TABLE users ADD x int; CREATE TABLE own (id int); DROP TABLE own; DROP TABLE users",
      database: watched.place.database, user: role)
    #expect(try watched.messages() == ["ALTER TABLE", "DROP TABLE"])
  }

  @Test("DDL never fails for Nearside's sake: with its table gone, a message too many is emitted")
  func harmless() throws {
    let watched = try Watched()
    #expect(try watched.noted("DROP TABLE nearside.publication") == ["DROP TABLE"])
    #expect(try watched.noted("ALTER TABLE apart ADD x int") == ["ALTER TABLE"])
    #expect(try watched.noted("DROP TABLE apart") == ["DROP TABLE"])
    #expect(try watched.noted("CREATE TABLE again (id int)") == ["CREATE TABLE"])
    try watched.place.psql("DROP SCHEMA nearside CASCADE")
    #expect(try watched.noted("ALTER TABLE users ADD y int") == [])
  }

  @Test("nearside.invalidate emits its keys with the transaction, for every role that may use the schema")
  func invalidate() throws {
    let watched = try Watched()
    let place = watched.place
    let role = "app_\(place.database)"
    try place.psql("CREATE ROLE \(role) LOGIN")
    func call(_ sql: String) throws {
      try place.server.psql(sql, database: place.database, user: role)
    }
    #expect(throws: (any Error).self) { try call("SELECT nearside.invalidate('shop:a')") }
    try place.psql("GRANT USAGE ON SCHEMA nearside TO \(role)")
    func contents() throws -> [String] {
      try place.psql(
        """
        SELECT encode(substring(data FROM 7 + position('\\x00'::bytea IN substring(data FROM 11)) + 8), 'escape')
        FROM (SELECT data FROM pg_logical_slot_get_binary_changes('watch_\(place.database)', NULL, NULL,
          'proto_version', '1', 'publication_names', '\(place.publication)', 'messages', 'true')) AS all_data
        WHERE get_byte(data, 0) = 77
        """
      ).split(separator: "\n").map(String.init)
    }
    try place.psql("SELECT pg_create_logical_replication_slot('watch_\(place.database)', 'pgoutput')")
    try call(
      """
      SET search_path = pg_temp; SET standard_conforming_strings = off;
      SELECT nearside.invalidate('shop:user:42', NULL, 'shop:cart:*', 'shop:ü \\\\ \\' {}', '');
      SELECT nearside.invalidate(NULL); SELECT nearside.invalidate(VARIADIC NULL::text[]);
      SELECT nearside.invalidate(VARIADIC '{}'::text[]);
      BEGIN; SELECT nearside.invalidate('shop:rolled-back'); ROLLBACK;
      BEGIN; SELECT nearside.invalidate('shop:kept'); SAVEPOINT s; SELECT nearside.invalidate('shop:lost');
      ROLLBACK TO s; COMMIT;
      """)
    let found = try contents()
    #expect(found.count == 2)
    #expect(
      found.first?.hasSuffix("shop:user:42\\000shop:cart:*\\000shop:\\303\\274 \\\\ ' {}\\000\\000") == true)
    #expect(found.last?.hasSuffix("shop:kept\\000") == true)
  }
}
