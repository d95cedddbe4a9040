import TestSupport
import Testing

@Suite("A committed change clears its keys everywhere")
struct InvalidationTests {
  @Test("INSERT, UPDATE and DELETE clear the row's keys in Redis and in both near caches")
  func rows() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    let changes = [
      ("user:42", "UPDATE users SET name = 'Ada' WHERE id = 42"),
      ("user:43", "DELETE FROM users WHERE id = 43"),
      ("user:500", "INSERT INTO users VALUES (500, 'new@example.com', 'New')"),
      ("product:7", "UPDATE products SET stock = stock - 1 WHERE id = 7"),
    ]
    for (key, _) in changes { try warm(world.key(key), "before", a, b) }
    try warm(world.key("user:44"), "untouched", a, b)
    for (key, sql) in changes {
      try world.psql(sql)
      try world.settle(a, b)
      try expectGone(world.key(key), world, a, b)
    }
    try expectKept(world.key("user:44"), "untouched", world, a, b)
    #expect(try b.hasNear(world.key("user:44")))
  }

  @Test("An UPDATE that changes a key's column clears the old key and the new one")
  func bothImages() throws {
    let world = try World()
    let a = try world.sidecar()
    let keys = [
      "user:by-email:user42@example.com", "user:by-email:ada@lovelace.example", "user:42", "user:1042",
    ]
    for key in keys { try warm(world.key(key), "before", a) }
    try world.psql("UPDATE users SET email = 'Ada@Lovelace.example' WHERE id = 42")
    try world.settle(a)
    for key in keys.prefix(3) { try expectGone(world.key(key), world, a) }
    try expectKept(world.key("user:1042"), "before", world, a)

    try warm(world.key("user:42"), "again", a)
    try world.psql("UPDATE users SET id = 1042 WHERE id = 42")
    try world.settle(a)
    try expectGone(world.key("user:42"), world, a)
    try expectGone(world.key("user:1042"), world, a)
  }

  @Test("A primary key that changes clears both keys under the default replica identity, too")
  func primaryKeyChange() throws {
    let world = try World()
    let a = try world.sidecar()
    for key in ["product:1", "product:1001", "order:5:item:1", "order:5:item:9"] {
      try warm(world.key(key), "before", a)
    }
    try world.psql(
      "UPDATE products SET id = 1001 WHERE id = 1; UPDATE order_items SET line_no = 9 WHERE order_id = 5")
    try world.settle(a)
    for key in ["product:1", "product:1001", "order:5:item:1", "order:5:item:9"] {
      try expectGone(world.key(key), world, a)
    }
  }

  @Test("With columns, an UPDATE that changes none of them is ignored; INSERT and DELETE always count")
  func columns() throws {
    let world = try World(
      tables: #"{ "users": { "keys": ["user:{id}"], "columns": ["email"] } }"#)
    let a = try world.sidecar()
    try warm(world.key("user:1"), "before", a)
    try warm(world.key("user:2"), "before", a)
    try world.psql("UPDATE users SET name = 'x', email = email WHERE id = 1; DELETE FROM users WHERE id = 2")
    try world.settle(a)
    try expectKept(world.key("user:1"), "before", world, a)
    try expectGone(world.key("user:2"), world, a)
    try world.psql("UPDATE users SET email = 'x@y' WHERE id = 1")
    try world.settle(a)
    try expectGone(world.key("user:1"), world, a)
  }

  @Test("With on, only the operations named count; TRUNCATE may be left out")
  func operations() throws {
    let world = try World(tables: #"{ "users": { "keys": ["user:{id}"], "on": ["delete"] } }"#)
    let a = try world.sidecar()
    try warm(world.key("user:1"), "before", a)
    let generation = try a.status()["generation"]
    try world.psql(
      "UPDATE users SET name = 'x' WHERE id = 1; TRUNCATE users; INSERT INTO users VALUES (1, 'e', 'n')")
    try world.settle(a)
    try expectKept(world.key("user:1"), "before", world, a)
    #expect(try a.status()["generation"] == generation)
    try world.psql("DELETE FROM users WHERE id = 1")
    try world.settle(a)
    try expectGone(world.key("user:1"), world, a)
  }

  @Test("TRUNCATE makes a new generation: governed keys go, everything else in the namespace stays")
  func truncate() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    try warm(world.key("user:1"), "before", a, b)
    try warm(world.key("product:1"), "before", a, b)
    let redis = try #require(world.redis)
    try redis.cli("SET", world.key("lock:nightly"), "held")
    let before = try a.status()["generation"]
    try world.psql("TRUNCATE users")
    try world.settle(a, b)
    for sidecar in [a, b] {
      try eventually("a new generation") { try sidecar.status()["generation"] != before }
      #expect(try sidecar.get(world.key("user:1")) == nil)
      try sidecar.waitUntilFollowing()
    }
    try eventually("the governed keys are purged") {
      try redis.cli("EXISTS", world.key("user:1"), world.key("product:1")) == "0"
    }
    #expect(try redis.cli("GET", world.key("lock:nightly")) == "held")
    try warm(world.key("user:1"), "after", a, b)
  }

  @Test("NULL gives no key, and the row's other keys are cleared all the same")
  func null() throws {
    let world = try World(
      tables: #"{ "t": ["t:{id}", "t:by-code:{code}"] }"#,
      schema: """
        CREATE TABLE t (id int PRIMARY KEY, code text);
        ALTER TABLE t REPLICA IDENTITY FULL;
        INSERT INTO t VALUES (1, NULL), (2, 'x');
        """)
    let a = try world.sidecar()
    for key in ["t:1", "t:2", "t:by-code:x", "t:by-code:y"] { try warm(world.key(key), "before", a) }
    try world.psql("UPDATE t SET code = NULL WHERE id = 2; UPDATE t SET code = NULL WHERE id = 1")
    try world.settle(a)
    for key in ["t:1", "t:2", "t:by-code:x"] { try expectGone(world.key(key), world, a) }
    try expectKept(world.key("t:by-code:y"), "before", world, a)
    try world.psql("INSERT INTO t VALUES (3, 'y')")
    try world.settle(a)
    try expectGone(world.key("t:by-code:y"), world, a)
  }

  @Test("Values are percent-encoded, so that data cannot forge a delimiter")
  func encoding() throws {
    let world = try World(
      tables: #"{ "t": ["plain:{a}:{b}", "url:{a|urlencode}"] }"#,
      schema: "CREATE TABLE t (a text, b text, PRIMARY KEY (a, b))")
    let a = try world.sidecar()
    let rows: [(String, String, [String])] = [
      ("x:y", "z", ["plain:x%3Ay:z", "url:x%3Ay"]),
      ("50% {off} *", "é", ["plain:50%25%20%7Boff%7D%20%2A:é", "url:50%25%20%7Boff%7D%20%2A"]),
      ("ünï/key", "\t", ["plain:ünï/key:%09", "url:%C3%BCn%C3%AF%2Fkey"]),
    ]
    for (_, _, keys) in rows { for key in keys { try warm(world.key(key), "before", a) } }
    // What an attacker would reach if values were taken as they are.
    try warm(world.key("plain:x:y"), "another row's", a)
    for (first, second, _) in rows { try world.psql("INSERT INTO t VALUES ($$\(first)$$, $$\(second)$$)") }
    try world.settle(a)
    for (_, _, keys) in rows { for key in keys { try expectGone(world.key(key), world, a) } }
    try expectKept(world.key("plain:x:y"), "another row's", world, a)
  }

  @Test("A key does not depend on the server's settings for dates, floats, bytes and zones")
  func serverSettings() throws {
    let world = try World(
      tables:
        #"{ "t": ["at:{at|raw}", "on:{day}", "f:{f|raw}", "b:{b|raw}", "n:{n}", "yes:{yes}", "u:{u}"] }"#,
      schema: """
        CREATE TABLE t (at timestamptz, day date, f float8, b bytea, n numeric, yes boolean, u uuid);
        ALTER TABLE t REPLICA IDENTITY FULL;
        """)
    let name = world.database
    try world.psql(
      """
      ALTER DATABASE \(name) SET datestyle = 'SQL, DMY';
      ALTER DATABASE \(name) SET timezone = 'Asia/Kathmandu';
      ALTER DATABASE \(name) SET extra_float_digits = 0;
      ALTER DATABASE \(name) SET bytea_output = 'escape';
      """)
    let a = try world.sidecar()
    let keys = [
      "at:2026-03-01%2012%3A00%3A00+00", "on:2026-03-01", "f:0.1", "b:%5Cxdeadbeef", "n:1.50", "yes:true",
      "u:6f9619ff-8b86-d011-b42d-00c04fc964ff",
    ]
    for key in keys { try warm(world.key(key), "before", a) }
    try world.psql(
      """
      INSERT INTO t VALUES ('2026-03-01 12:00:00Z', '2026-03-01', 0.1, '\\xdeadbeef', 1.50, true,
        '6F9619FF-8B86-D011-B42D-00C04FC964FF')
      """)
    try world.settle(a)
    for key in keys { try expectGone(world.key(key), world, a) }
  }

  @Test("Tables outside public, and names that need quotes")
  func names() throws {
    let world = try World(
      tables: #"{ "sales.Orders": "o:{Id}", "public.select": "s:{from}" }"#,
      schema: """
        CREATE SCHEMA sales;
        CREATE TABLE sales."Orders" ("Id" int PRIMARY KEY, note text);
        CREATE TABLE orders ("Id" int PRIMARY KEY);
        CREATE TABLE "select" ("from" int PRIMARY KEY);
        INSERT INTO sales."Orders" VALUES (1), (2);
        """)
    let a = try world.sidecar()
    for key in ["o:1", "o:2", "s:3"] { try warm(world.key(key), "before", a) }
    try world.psql(
      #"UPDATE sales."Orders" SET note = 'x' WHERE "Id" = 1; INSERT INTO "select" VALUES (3); INSERT INTO orders VALUES (2)"#
    )
    try world.settle(a)
    try expectGone(world.key("o:1"), world, a)
    try expectGone(world.key("s:3"), world, a)
    try expectKept(world.key("o:2"), "before", world, a)
  }

  @Test("A partitioned table is watched through its leaves, those attached later included")
  func partitions() throws {
    let world = try World(
      tables: #"{ "events": "event:{id}" }"#,
      schema: """
        CREATE TABLE events (id int, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')
          PARTITION BY LIST (id);
        CREATE TABLE events_2_all PARTITION OF events_2 DEFAULT;
        INSERT INTO events VALUES (1, '2026-01-05'), (2, '2026-02-05'), (3, '2026-01-06');
        """)
    let a = try world.sidecar()
    for key in ["event:1", "event:2", "event:3", "event:4"] { try warm(world.key(key), "before", a) }
    // Moves a row from one leaf to another.
    try world.psql(
      "UPDATE events SET day = '2026-02-09' WHERE id = 1; UPDATE events SET note = 'x' WHERE id = 2")
    try world.settle(a)
    try expectGone(world.key("event:1"), world, a)
    try expectGone(world.key("event:2"), world, a)
    try expectKept(world.key("event:3"), "before", world, a)
    try world.psql(
      """
      CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
      INSERT INTO events VALUES (4, '2026-03-03');
      """)
    try world.settle(a)
    try expectGone(world.key("event:4"), world, a)
  }

  @Test("A partitioned table may have no partition yet, and a rule may name a partition")
  func bareAndLeaf() throws {
    let world = try World(
      tables: #"{ "later": "later:{id}", "leaf": "leaf:{id}" }"#,
      schema: """
        CREATE TABLE later (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE top (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);
        CREATE TABLE leaf PARTITION OF top FOR VALUES FROM (0) TO (10);
        INSERT INTO top VALUES (1);
        """)
    let a = try world.sidecar()
    try warm(world.key("later:1"), "before", a)
    try warm(world.key("leaf:1"), "before", a)
    try world.psql(
      """
      UPDATE top SET note = 'x';
      CREATE TABLE later_1 PARTITION OF later FOR VALUES FROM (0) TO (10); INSERT INTO later VALUES (1);
      """)
    try world.settle(a)
    try expectGone(world.key("leaf:1"), world, a)
    try expectGone(world.key("later:1"), world, a)
  }

  @Test("Nothing is cleared before the commit, and nothing by a rollback")
  func transactions() throws {
    let world = try World(postgres: PostgresServer())
    let a = try world.sidecar()
    for id in 1...5 { try warm(world.key("user:\(id)"), "before", a) }
    try world.psql("BEGIN; UPDATE users SET name = 'x' WHERE id = 1; ROLLBACK")
    try world.psql(
      """
      BEGIN;
      UPDATE users SET name = 'x' WHERE id = 2;
      SAVEPOINT s;
      UPDATE users SET name = 'x' WHERE id = 3;
      ROLLBACK TO s;
      COMMIT;
      """)
    try world.settle(a)
    try expectKept(world.key("user:1"), "before", world, a)
    try expectGone(world.key("user:2"), world, a)
    try expectKept(world.key("user:3"), "before", world, a)

    let open = try world.postgres.background(
      "BEGIN; UPDATE users SET name = 'x' WHERE id = 4; SELECT pg_sleep(1); COMMIT", database: world.database)
    try eventually("the transaction is open") {
      try world.psql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
    }
    try expectKept(world.key("user:4"), "before", world, a)
    #expect(try open.wait() == .code(0))
    try world.settle(a)
    try expectGone(world.key("user:4"), world, a)
    try expectKept(world.key("user:5"), "before", world, a)
  }

  @Test("A large value that an UPDATE leaves alone (TOAST) does not hide the row's keys")
  func toast() throws {
    let world = try World(
      tables: #"{ "docs": ["doc:{id}", "doc:by-slug:{slug}"] }"#,
      schema: """
        CREATE TABLE docs (id int PRIMARY KEY, slug text, body text, hits int DEFAULT 0);
        ALTER TABLE docs REPLICA IDENTITY FULL;
        ALTER TABLE docs ALTER body SET STORAGE EXTERNAL;
        INSERT INTO docs VALUES (1, 'one', repeat('x', 100000)), (2, repeat('s', 60), repeat('y', 100000));
        """)
    let a = try world.sidecar()
    for key in ["doc:1", "doc:by-slug:one"] { try warm(world.key(key), "before", a) }
    try world.psql("UPDATE docs SET hits = 1 WHERE id = 1")
    try world.settle(a)
    for key in ["doc:1", "doc:by-slug:one"] { try expectGone(world.key(key), world, a) }
  }

  @Test("A transaction of 3000 rows, and 500 transactions in a row, leave no key behind")
  func many() throws {
    let world = try World()
    try world.psql("INSERT INTO products SELECT n, 'p', 1 FROM generate_series(101, 3000) n")
    let a = try world.sidecar()
    let b = try world.sidecar()
    try world.settle(a, b)
    let client = try a.client()
    /// A reply that crosses a poll of the sidecar on its way counts as a miss without a lease: asked again.
    func fill(_ ids: ClosedRange<Int>) throws {
      var left = ids.map { world.key("product:\($0)") }
      try eventually("all are stored", within: .seconds(30)) {
        let leases = try client.pipeline(left.map { ["NEARSIDE", "LEASE", $0] })
        let tokens = leases.map { $0.elements?.last?.text }
        let leased = zip(left, tokens).compactMap { key, token in token.map { (key, $0) } }
        let fills = try client.pipeline(leased.map { ["NEARSIDE", "FILL", $0.0, $0.1, "v"] })
        let stored = Set(zip(leased, fills).compactMap { $1 == 1 ? $0.0 : nil })
        left.removeAll { stored.contains($0) }
        return left.isEmpty
      }
      left = ids.map { world.key("product:\($0)") }
      try eventually("all are seen on the other host", within: .seconds(30)) {
        let reads = try b.client().pipeline(left.map { ["GET", $0] })
        left = zip(left, reads).compactMap { $1 == "v" ? nil : $0 }
        return left.isEmpty
      }
    }
    func left(_ ids: ClosedRange<Int>) throws -> Int {
      let reads = ids.map { ["GET", world.key("product:\($0)")] }
      let found = try a.client().pipeline(reads) + b.client().pipeline(reads)
      return found.count { $0 != nil }
    }
    try fill(1...3000)
    try world.psql("UPDATE products SET stock = 2")
    try world.settle(a, b)
    #expect(try left(1...3000) == 0)

    try eventually("fills count again") { try a.get(world.key("product:1")) == nil }
    for id in [1, 500] { try a.store(world.key("product:\(id)"), "v") }
    try world.psql(
      (1...500).map { "UPDATE products SET stock = 3 WHERE id = \($0);" }.joined(separator: "\n"))
    try world.settle(a, b)
    #expect(try left(1...500) == 0)
    #expect(try world.redis?.cli("EXISTS", world.key("product:1"), world.key("product:500")) == "0")
  }

  @Test("What changed while no sidecar ran is cleared when one comes back")
  func whileDown() throws {
    let world = try World()
    let a = try world.sidecar()
    try warm(world.key("user:1"), "before", a)
    try warm(world.key("user:2"), "before", a)
    a.kill()
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    #expect(try world.redis?.cli("EXISTS", world.key("user:1")) == "1")
    try a.start()
    try a.waitUntilFollowing()
    try world.settle(a)
    try expectGone(world.key("user:1"), world, a)
    try expectKept(world.key("user:2"), "before", world, a)
  }

  @Test("Columns may come and go while the sidecar runs")
  func schemaChange() throws {
    let world = try World()
    let a = try world.sidecar()
    try warm(world.key("user:1"), "before", a)
    try world.psql(
      "ALTER TABLE users ADD COLUMN age int"
        + "; ALTER TABLE users DROP COLUMN name; UPDATE users SET age = 1 WHERE id = 1")
    try world.settle(a)
    try expectGone(world.key("user:1"), world, a, byGeneration: true)
    try warm(world.key("user:by-email:user2@example.com"), "before", a)
    try world.psql("ALTER TABLE users RENAME COLUMN age TO years; UPDATE users SET email = 'z' WHERE id = 2")
    try world.settle(a)
    try expectGone(world.key("user:by-email:user2@example.com"), world, a, byGeneration: true)
  }

  @Test(
    "A column that a template names and that goes away is told by name, and clears everything until it is back"
  )
  func lostColumn() throws {
    let world = try World()
    let a = try world.sidecar()
    try warm(world.key("user:1"), "before", a)
    try warm(world.key("user:2"), "before", a)
    try world.psql("ALTER TABLE users RENAME COLUMN email TO mail; UPDATE users SET name = 'x' WHERE id = 1")
    try world.settle(a)
    try eventually("nothing is left") {
      try a.get(world.key("user:1")) == nil && a.get(world.key("user:2")) == nil
    }
    let told = a.log.split(separator: "\n").filter { $0.contains("email") && $0.contains("users") }
    #expect(!told.isEmpty, "the log: \(a.log)")
    #expect(told.contains { $0.contains("error") || $0.contains("warning") })
    try world.psql("ALTER TABLE users RENAME COLUMN mail TO email; UPDATE users SET name = 'y' WHERE id = 1")
    try world.settle(a)
    try warm(world.key("user:3"), "after", a)
    try world.psql("UPDATE users SET name = 'z' WHERE id = 3")
    try world.settle(a)
    try expectGone(world.key("user:3"), world, a)
  }
}
