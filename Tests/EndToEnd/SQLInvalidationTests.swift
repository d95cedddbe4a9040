import TestSupport
import Testing

@Suite("Keys cleared from SQL, and DDL")
struct SQLInvalidationTests {
  @Test("nearside.invalidate clears keys with its transaction, and none if that is rolled back")
  func invalidate() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    let names = ["user:1", "user:2", "user:3", "user:4", "product:1"]
    for name in names { try warm(world.key(name), "before", a, b) }
    let generation = try a.status()["generation"]
    try world.psql(
      """
      BEGIN; SELECT nearside.invalidate('\(world.key("user:1"))'); ROLLBACK;
      SELECT nearside.invalidate('elsewhere:user:1', NULL, '');
      """)
    try world.settle(a, b)
    for name in names { try expectKept(world.key(name), "before", world, a, b) }

    // One transaction: a row's key and SQL's own.
    try world.psql(
      """
      BEGIN;
      SELECT nearside.invalidate('\(world.key("user:1"))', '\(world.key("user:2"))');
      UPDATE products SET stock = 3 WHERE id = 1;
      SAVEPOINT s;
      SELECT nearside.invalidate('\(world.key("user:3"))');
      ROLLBACK TO s;
      COMMIT;
      """)
    try world.settle(a, b)
    for name in ["user:1", "user:2", "product:1"] { try expectGone(world.key(name), world, a, b) }
    for name in ["user:3", "user:4"] { try expectKept(world.key(name), "before", world, a, b) }
    #expect(try a.status()["generation"] == generation)
  }

  @Test("A fill that began before nearside.invalidate is refused after it")
  func fence() throws {
    let world = try World()
    let a = try world.sidecar()
    let client = try a.client()
    let key = world.key("user:1")
    var token: String?
    try eventually("there is a token") {
      token = try client.call("NEARSIDE", "LEASE", key).elements?.last?.text
      return token != nil
    }
    try world.psql("SELECT nearside.invalidate('\(key)')")
    try world.settle(a)
    #expect(try client.call("NEARSIDE", "FILL", key, try #require(token), "old") == 0)
    #expect(try a.get(key) == nil)
  }

  @Test("A final star clears every key that begins so; other fleets' prefixes change nothing")
  func prefix() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    for id in 1...3 { try warm(world.key("user:\(id)"), "before", a, b) }
    try world.psql("SELECT nearside.invalidate('elsewhere:*')")
    try world.settle(a, b)
    for id in 1...3 { try expectKept(world.key("user:\(id)"), "before", world, a, b) }
    try world.psql("SELECT nearside.invalidate('\(world.key("user:"))*')")
    try world.settle(a, b)
    for id in 1...3 {
      for sidecar in [a, b] {
        try eventually("user:\(id) is gone") { try sidecar.get(world.key("user:\(id)")) == nil }
      }
    }
  }

  /// What changes the rows that readers see without a row in the log; the generation begins anew each time.
  @Test(
    "DDL that moves rows without naming them clears what was read before",
    arguments: [
      ("ALTER TABLE events DETACH PARTITION events_1", "event:1"),
      ("DROP TABLE events_1", "event:1"),
      ("ALTER TABLE events ATTACH PARTITION events_3 FOR VALUES FROM (20) TO (30)", "event:25"),
      ("ALTER TABLE users ALTER name TYPE text USING upper(name)", "user:1"),
      ("ALTER TABLE users ADD COLUMN rank int DEFAULT 7", "user:1"),
      (
        "BEGIN; ALTER TABLE users RENAME TO o; ALTER TABLE spare RENAME TO users; "
          + "ALTER PUBLICATION $1 ADD TABLE users; COMMIT", "user:1"
      ),
      ("ALTER PUBLICATION $1 SET (publish = 'insert, update, delete, truncate')", "user:1"),
    ])
  func definitions(sql: String, name: String) throws {
    let world = try World(
      tables: #"{ "users": "user:{id}", "events": "event:{id}" }"#,
      schema: """
        CREATE TABLE users (id int PRIMARY KEY, name text);
        CREATE TABLE spare (id int PRIMARY KEY, name text);
        CREATE TABLE events (id int, day int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
        CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20);
        CREATE TABLE events_3 (id int, day int, PRIMARY KEY (id, day));
        INSERT INTO users VALUES (1, 'one'); INSERT INTO events VALUES (1, 1);
        INSERT INTO events_3 VALUES (25, 25);
        """)
    let a = try world.sidecar()
    try warm(world.key(name), "before", a)
    try world.psql(sql.replacing("$1", with: "nearside_\(world.database)"))
    try eventually("\(name) is gone", within: .seconds(20)) { try a.get(world.key(name)) == nil }
    // And the fleet goes on with what the tables are now.
    try a.waitUntilFollowing()
    try warm(world.key(name), "after", a)
    try world.psql("INSERT INTO users VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'y'")
    try world.settle(a)
    if name == "user:1" { try expectGone(world.key(name), world, a) }
  }

  @Test("DDL on tables that are not published changes nothing")
  func otherTables() throws {
    let world = try World()
    let a = try world.sidecar()
    try warm(world.key("user:1"), "before", a)
    let generation = try a.status()["generation"]
    try world.psql(
      """
      CREATE TABLE staging (id int PRIMARY KEY); INSERT INTO staging VALUES (1);
      ALTER TABLE staging ADD x int; DROP TABLE staging;
      CREATE TEMP TABLE users (id int); CREATE INDEX ON public.users (name); ANALYZE;
      """)
    try world.settle(a)
    try expectKept(world.key("user:1"), "before", world, a)
    #expect(try a.status()["generation"] == generation)
  }
}
