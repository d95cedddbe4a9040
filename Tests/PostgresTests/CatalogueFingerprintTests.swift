import TestSupport
import Testing

@testable import Postgres

/// A database with mapped tables of every kind, and without event triggers.
private struct Mapped {
  let place: Place
  let tables: [TableName]

  init() throws {
    place = try Place()
    tables =
      ["users", "events", "leaf_rule", "Odd \"\\ name", "later"].map { TableName(schema: "public", name: $0) }
      + [TableName(schema: "sales", name: "orders")]
    try place.psql(
      """
      CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN feeling AS mood; CREATE TYPE tone AS ENUM ('low');
      CREATE TABLE users (
        id int PRIMARY KEY, mail text NOT NULL, name varchar(20), feels feeling, moods mood[], tones tone);
      CREATE UNIQUE INDEX users_mail ON users (mail);
      CREATE TABLE events (id int, day int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
      CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
      CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);
      CREATE TABLE events_2_all PARTITION OF events_2 DEFAULT;
      CREATE TABLE events_3 (id int, day int, PRIMARY KEY (id, day));
      CREATE TABLE roots (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE leaf_rule PARTITION OF roots FOR VALUES FROM (0) TO (10);
      CREATE TABLE "Odd ""\\ name" (id int PRIMARY KEY);
      CREATE TABLE apart (id int PRIMARY KEY, mail text, feels mood);
      CREATE SCHEMA sales; CREATE TABLE sales.orders (id int PRIMARY KEY);
      CREATE PUBLICATION \(place.publication) FOR TABLE users, events, roots, sales.orders;
      CREATE PUBLICATION other_\(place.database) FOR TABLE users;
      INSERT INTO users VALUES (1, 'a@b', 'A', 'ok', '{ok}', 'low'), (2, 'c@d', 'C', 'sad', '{sad}', 'low');
      """)
  }

  func fingerprint(_ session: borrowing SQLSession) throws -> String {
    let query = CatalogueFingerprint.query(
      publication: place.publication, tables: tables, serverVersion: session.serverVersion)
    let rows = try session.query(query.sql, query.parameters)
    #expect(rows.count == 1)
    return try #require(rows.first?["fingerprint"])
  }
}

@Suite("The catalogue's fingerprint")
struct CatalogueFingerprintTests {
  @Test("It changes with everything that may move rows or keys without a row in the log")
  func changes() throws {
    let mapped = try Mapped()
    let session = try mapped.place.sql()
    let publication = mapped.place.publication
    let changes = [
      "ALTER TABLE events ATTACH PARTITION events_3 FOR VALUES FROM (20) TO (30)",
      "ALTER TABLE events DETACH PARTITION events_3",
      "ALTER TABLE events ATTACH PARTITION events_3 FOR VALUES FROM (20) TO (30)",
      "ALTER TABLE events DETACH PARTITION events_3; "
        + "ALTER TABLE events ATTACH PARTITION events_3 FOR VALUES FROM (20) TO (30)",
      "DROP TABLE events_2_all",
      "CREATE TABLE events_2_some PARTITION OF events_2 DEFAULT",
      "ALTER TABLE events_1 REPLICA IDENTITY FULL",
      "ALTER TABLE events_1 RENAME TO events_first",
      "ALTER TABLE roots RENAME TO tops",
      "ALTER TABLE users ALTER mail TYPE text USING upper(mail)",
      "ALTER TABLE users ALTER name TYPE varchar(30)",
      "ALTER TABLE users RENAME mail TO email",
      "ALTER TABLE users RENAME email TO e; ALTER TABLE users RENAME e TO mail",
      "ALTER TABLE users ADD COLUMN age int DEFAULT 7",
      "ALTER TABLE users ALTER age SET NOT NULL",
      "ALTER TABLE users DROP COLUMN age",
      "ALTER TABLE users ADD COLUMN big text GENERATED ALWAYS AS (upper(mail)) STORED",
      "ALTER TABLE users REPLICA IDENTITY USING INDEX users_mail",
      "DROP INDEX users_mail",
      "ALTER TABLE users REPLICA IDENTITY DEFAULT",
      "ALTER TABLE users DROP CONSTRAINT users_pkey",
      "ALTER TABLE users ADD PRIMARY KEY (id, mail)",
      "ALTER TABLE users RENAME TO gone",
      "ALTER TABLE gone RENAME TO users",
      "ALTER TABLE users RENAME TO x; ALTER TABLE x RENAME TO users",
      "ALTER TABLE users SET SCHEMA sales; ALTER TABLE sales.users SET SCHEMA public",
      "ALTER TABLE apart RENAME TO middle; ALTER TABLE users RENAME TO apart; ALTER TABLE middle RENAME TO users",
      "ALTER TABLE users RENAME TO middle; ALTER TABLE apart RENAME TO users; ALTER TABLE middle RENAME TO apart",
      "ALTER SCHEMA sales RENAME TO trade",
      "ALTER SCHEMA trade RENAME TO sales",
      "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
      "ALTER TYPE tone RENAME VALUE 'low' TO 'deep'",
      "ALTER TABLE \"Odd \"\"\\ name\" SET UNLOGGED",
      "CREATE TABLE later (id int PRIMARY KEY)",
      "DROP TABLE later",
      "ALTER PUBLICATION \(publication) SET (publish = 'insert')",
      "ALTER PUBLICATION \(publication) SET (publish_via_partition_root = true)",
      "ALTER PUBLICATION \(publication) DROP TABLE users",
      "ALTER PUBLICATION \(publication) ADD TABLE users WHERE (id > 1)",
      "ALTER PUBLICATION \(publication) DROP TABLE users; ALTER PUBLICATION \(publication) ADD TABLE users",
      "ALTER PUBLICATION \(publication) SET TABLE users (id, mail), events, sales.orders",
      "ALTER PUBLICATION \(publication) SET TABLE users, events",
      "ALTER PUBLICATION \(publication) ADD TABLES IN SCHEMA sales",
      "ALTER PUBLICATION \(publication) RENAME TO elsewhere",
      "ALTER PUBLICATION elsewhere RENAME TO \(publication)",
      "DROP PUBLICATION \(publication)",
      "CREATE PUBLICATION \(publication) FOR ALL TABLES",
      "DROP TABLE sales.orders",
    ]
    var last = try mapped.fingerprint(session)
    for change in changes {
      try mapped.place.psql(change)
      let now = try mapped.fingerprint(session)
      #expect(now != last, "\(change)")
      last = now
    }
  }

  @Test("It stays the same whatever else happens, to these tables and to others")
  func stays() throws {
    let mapped = try Mapped()
    let session = try mapped.place.sql()
    let before = try mapped.fingerprint(session)
    let others = [
      "INSERT INTO users SELECT n, n, n FROM generate_series(10, 500) n; UPDATE users SET name = 'x'",
      "DELETE FROM users WHERE id > 100; INSERT INTO events VALUES (1, 5), (2, 15)",
      "ANALYZE", "VACUUM", "VACUUM FULL users", "VACUUM FREEZE", "CLUSTER users USING users_pkey",
      "TRUNCATE users", "TRUNCATE events", "VACUUM FULL pg_catalog.pg_attribute",
      "VACUUM FULL pg_catalog.pg_class",
      "CREATE INDEX by_name ON users (name)", "REINDEX TABLE users", "REINDEX TABLE CONCURRENTLY users",
      "DROP INDEX by_name", "GRANT SELECT ON users TO PUBLIC", "COMMENT ON TABLE users IS 'x'",
      "COMMENT ON COLUMN users.mail IS 'x'", "ALTER TABLE users SET (fillfactor = 80)",
      "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
      "CREATE TRIGGER t AFTER INSERT ON users EXECUTE FUNCTION f()",
      "ALTER TABLE apart ALTER mail TYPE varchar", "ALTER TABLE apart RENAME TO aside", "DROP TABLE aside",
      "CREATE TABLE sales.more (id int PRIMARY KEY)", "CREATE TEMP TABLE users (id int)",
      "CREATE TYPE color AS ENUM ('red'); ALTER TYPE color RENAME VALUE 'red' TO 'blue'; DROP TYPE color",
      "ALTER PUBLICATION other_\(mapped.place.database) DROP TABLE users",
      "CREATE PUBLICATION third FOR TABLE users; DROP PUBLICATION third",
      "BEGIN; ALTER TABLE users RENAME TO x; DROP TABLE sales.orders; ROLLBACK",
    ]
    for other in others {
      try mapped.place.psql(other)
      #expect(try mapped.fingerprint(session) == before, "\(other)")
    }
  }

  @Test("A role without any right sees the same, and is not held up by a table that is locked")
  func plainRole() throws {
    let mapped = try Mapped()
    let role = "asks_\(mapped.place.database)"
    try mapped.place.psql("CREATE ROLE \(role) LOGIN; REVOKE ALL ON SCHEMA public, sales FROM PUBLIC")
    let session = try mapped.place.sql(user: role)
    let own = try mapped.fingerprint(session)
    #expect(try own == mapped.fingerprint(try mapped.place.sql()))
    let locker = try mapped.place.sql()
    _ = try locker.query("BEGIN")
    _ = try locker.query(
      "LOCK TABLE public.users, public.events, public.roots, sales.orders IN ACCESS EXCLUSIVE MODE")
    let query = CatalogueFingerprint.query(
      publication: mapped.place.publication, tables: mapped.tables, serverVersion: session.serverVersion)
    let rows = try session.query(query.sql, query.parameters, timeout: 10_000_000_000)
    #expect(rows.first?["fingerprint"] == own)
    _ = try locker.query("ROLLBACK")
  }

  @Test("The form for servers before publications of schemas works as well")
  func older() throws {
    let mapped = try Mapped()
    let session = try mapped.place.sql()
    let query = CatalogueFingerprint.query(
      publication: mapped.place.publication, tables: mapped.tables, serverVersion: 140_000)
    let before = try session.query(query.sql, query.parameters)
    #expect(before.count == 1)
    try mapped.place.psql("ALTER TABLE users ADD x int")
    #expect(try session.query(query.sql, query.parameters).first?[0] != before.first?[0])
  }
}
