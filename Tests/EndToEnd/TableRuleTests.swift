import TestSupport
import Testing

/// What a table and a publication must be like for keys to be told, and what happens when they no longer are.
@Suite("Tables that change under way, and changes of every kind")
struct TableRuleTests {
  @Test("FK cascades, COPY, ON CONFLICT, MERGE, two-phase commits and triggers are changes like any other")
  func everyWrite() throws {
    let world = try World(
      tables: #"{ "users": "user:{id}", "orders": "order:{id}" }"#,
      schema: """
        CREATE TABLE users (id int PRIMARY KEY, name text);
        CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE
          ON UPDATE CASCADE, note text);
        CREATE TABLE source (id int);
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN UPDATE users SET name = ''t'' WHERE id = 7; RETURN NULL; END';
        CREATE TRIGGER t AFTER INSERT ON source FOR EACH ROW EXECUTE FUNCTION touch();
        INSERT INTO users SELECT n FROM generate_series(1, 9) n;
        INSERT INTO orders SELECT n, n FROM generate_series(1, 9) n;
        """, postgres: PostgresServer(settings: ["max_prepared_transactions": "5"]))
    let a = try world.sidecar()
    let cases: [(String, [String])] = [
      ("DELETE FROM users WHERE id = 1", ["user:1", "order:1"]),
      ("UPDATE users SET id = 102 WHERE id = 2", ["user:2", "user:102", "order:2"]),
      ("COPY users FROM STDIN;\n103\tx\n\\.\n", ["user:103"]),
      ("INSERT INTO users VALUES (4, 'x') ON CONFLICT (id) DO UPDATE SET name = excluded.name", ["user:4"]),
      (
        "MERGE INTO users u USING (VALUES (5)) s(id) ON u.id = s.id WHEN MATCHED THEN UPDATE SET name = 'm'",
        ["user:5"]
      ),
      (
        "BEGIN; UPDATE users SET name = 'p' WHERE id = 6; PREPARE TRANSACTION 'two'; COMMIT PREPARED 'two'",
        ["user:6"]
      ),
      ("INSERT INTO source VALUES (1)", ["user:7"]),
      (
        "WITH gone AS (DELETE FROM orders WHERE id = 8 RETURNING id) UPDATE users SET name = 'w' FROM gone "
          + "WHERE users.id = gone.id", ["user:8", "order:8"]
      ),
    ]
    for (_, keys) in cases { for key in keys { try warm(world.key(key), "before", a) } }
    for (sql, keys) in cases {
      try world.psql(sql)
      try world.settle(a)
      for key in keys { try expectGone(world.key(key), world, a) }
    }
    for key in ["user:9", "order:9", "user:3"] { try warm(world.key(key), "before", a) }
    try world.psql("BEGIN; DELETE FROM users WHERE id = 9; PREPARE TRANSACTION 'no'; ROLLBACK PREPARED 'no'")
    try world.settle(a)
    try expectKept(world.key("user:9"), "before", world, a)
  }

  @Test("TRUNCATE of a partition, and one that reaches a table by CASCADE, clear what was cached")
  func truncates() throws {
    let world = try World(
      tables: #"{ "events": "event:{id}", "lines": "line:{id}" }"#,
      schema: """
        CREATE TABLE orders (id int PRIMARY KEY);
        CREATE TABLE lines (id int PRIMARY KEY, order_id int REFERENCES orders);
        CREATE TABLE events (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
        INSERT INTO orders VALUES (1); INSERT INTO lines VALUES (1, 1); INSERT INTO events VALUES (1);
        """)
    let a = try world.sidecar()
    for (sql, key) in [("TRUNCATE events_1", "event:1"), ("TRUNCATE orders CASCADE", "line:1")] {
      try warm(world.key(key), "before", a)
      try world.psql(sql)
      try world.settle(a)
      try expectGone(world.key(key), world, a, byGeneration: true)
      try a.waitUntilFollowing()
    }
  }

  @Test("With an identity by index, its columns make keys, and a large value among them is told as well")
  func identityByIndex() throws {
    let world = try World(
      tables: #"{ "docs": ["slug:{slug}", "area:{area}:{slug}"] }"#,
      schema: """
        CREATE TABLE docs (id int PRIMARY KEY, slug text NOT NULL, area text NOT NULL, note text);
        ALTER TABLE docs ALTER area SET STORAGE EXTERNAL;
        CREATE UNIQUE INDEX docs_key ON docs (slug, area);
        ALTER TABLE docs REPLICA IDENTITY USING INDEX docs_key;
        INSERT INTO docs VALUES (1, 'one', 'x'), (2, 'two', repeat('y', 2500)), (3, 'three', 'x');
        """)
    let a = try world.sidecar()
    let large = String(repeating: "y", count: 2500)
    let cases = [
      ("UPDATE docs SET note = 'n' WHERE id = 1", ["slug:one", "area:x:one"]),
      ("UPDATE docs SET note = 'n' WHERE id = 2", ["slug:two", "area:\(large):two"]),
      (
        "UPDATE docs SET slug = 'second' WHERE id = 2",
        [
          "slug:two", "slug:second", "area:\(large):two",
          "area:\(large):second",
        ]
      ),
      ("DELETE FROM docs WHERE id = 3", ["slug:three", "area:x:three"]),
    ]
    for (sql, keys) in cases {
      for key in keys { try warm(world.key(key), "before", a) }
      try world.psql(sql)
      try world.settle(a)
      for key in keys { try expectGone(world.key(key), world, a) }
    }
  }

  /// As `warm`, while new generations may still be on their way.
  private func keep(_ key: String, _ sidecar: Sidecar) throws {
    try eventually("\(key) is kept") {
      let client = try sidecar.client()
      if let token = try client.call("NEARSIDE", "LEASE", key).elements?.last?.text {
        _ = try client.call("NEARSIDE", "FILL", key, token, "before")
      }
      return try sidecar.get(key) == "before" && sidecar.hasNear(key)
    }
  }

  @Test("A partition that comes with another replica identity breaks its rule, and the log says which")
  func leafIdentity() throws {
    let world = try World(
      tables: #"{ "events": "kind:{kind}" }"#,
      schema: """
        CREATE TABLE events (id int, kind text, note text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
        CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
        ALTER TABLE events REPLICA IDENTITY FULL; ALTER TABLE events_1 REPLICA IDENTITY FULL;
        INSERT INTO events VALUES (1, 'a');
        """)
    let a = try world.sidecar()
    try warm(world.key("kind:a"), "before", a)
    try world.psql("UPDATE events SET note = 'x'")
    try world.settle(a)
    try expectGone(world.key("kind:a"), world, a)
    // The parent's identity is no inheritance: the new partition has the primary key's.
    try world.psql(
      """
      CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20);
      INSERT INTO events VALUES (11, 'b');
      """)
    try world.settle(a)
    try eventually("the broken rule is told") {
      a.log.contains("events_2") && a.log.contains("replica identity")
    }
    // Until the fingerprint has shown the new partition, too.
    try eventually("the definitions are read again") { a.log.contains("a table's definition changed") }
    try keep(world.key("kind:b"), a)
    try world.psql("UPDATE events SET kind = 'c' WHERE id = 11")
    try world.settle(a)
    try expectGone(world.key("kind:b"), world, a, byGeneration: true)
    try world.psql("ALTER TABLE events_2 REPLICA IDENTITY FULL; UPDATE events SET note = 'y' WHERE id = 11")
    try eventually("the rule holds again") { try a.status()["trouble"] ?? "" == "" }
    try a.waitUntilFollowing()
    try eventually("a change clears its key and begins no generation", within: .seconds(30)) {
      try keep(world.key("kind:c"), a)
      let generation = try a.status()["generation"]
      try world.psql("UPDATE events SET note = note || 'z' WHERE id = 11")
      try world.settle(a)
      return try a.get(world.key("kind:c")) == nil && a.status()["generation"] == generation
    }
  }

  @Test(
    "A publication that no longer sends every change stops the fleet's trust until it does again",
    arguments: [
      (
        "ALTER PUBLICATION $1 SET (publish = 'insert, delete, truncate')",
        "ALTER PUBLICATION $1 SET (publish = 'insert, update, delete, truncate')", "leaves out update"
      ),
      (
        "ALTER PUBLICATION $1 SET (publish_via_partition_root = true)",
        "ALTER PUBLICATION $1 SET (publish_via_partition_root = false)", "publish_via_partition_root"
      ),
      (
        "ALTER PUBLICATION $1 SET TABLE users WHERE (id > 5), products, order_items",
        "ALTER PUBLICATION $1 SET TABLE users, products, order_items", "only some rows of public.users"
      ),
      (
        "ALTER PUBLICATION $1 DROP TABLE products", "ALTER PUBLICATION $1 ADD TABLE products",
        "does not hold table public.products"
      ),
    ])
  func publication(spoil: String, mend: String, told: String) throws {
    let world = try World(options: [#""staleness": { "bound": "2s" }"#])
    let name = "nearside_\(world.database)"
    let a = try world.sidecar()
    try warm(world.key("user:1"), "before", a)
    try warm(world.key("product:1"), "before", a)
    try world.psql(
      """
      \(spoil.replacing("$1", with: name));
      UPDATE users SET name = 'x' WHERE id = 1; UPDATE products SET stock = 1 WHERE id = 1;
      """)
    try eventually("the trouble is told", within: .seconds(20)) {
      try a.status()["trouble"]?.contains(told) == true
    }
    for key in ["user:1", "product:1"] {
      try eventually("\(key) is not served", within: .seconds(10)) { try a.get(world.key(key)) == nil }
    }
    try world.psql(mend.replacing("$1", with: name))
    try a.waitUntilFollowing()
    for key in ["user:1", "product:1"] { #expect(try a.get(world.key(key)) == nil) }
    try warm(world.key("product:1"), "after", a)
    try world.psql("UPDATE products SET stock = 2 WHERE id = 1")
    try world.settle(a)
    try expectGone(world.key("product:1"), world, a)
  }
}
