import Glibc
import TestSupport
import Testing

@Suite("Lookups beside everything else")
struct LookupTests {
  private static let schema = """
    CREATE TABLE orders (id int PRIMARY KEY);
    CREATE TABLE items (id int PRIMARY KEY, order_id int NOT NULL, n int NOT NULL DEFAULT 0);
    ALTER TABLE items REPLICA IDENTITY FULL;
    INSERT INTO orders SELECT generate_series(1, 10);
    INSERT INTO items SELECT n, n FROM generate_series(1, 10) n;
    """

  private static func tables(_ lookup: String) -> String {
    """
    { "orders": "order:{id}",
      "items": { "keys": "item:{id}", "lookup": [{ "sql": "\(lookup)", "keys": ["order:{id}"] }] } }
    """
  }

  // Which change of a key is the last one, the journal must not tell wrongly.
  @Test("A change that a lookup answers for together with a SET's is not hidden by that SET's value")
  func merged() throws {
    // A lookup takes its time, so that the changes of both transactions wait for the same run.
    let world = try World(
      tables: Self.tables("SELECT id FROM orders, pg_sleep(0.02) WHERE id = :order_id"),
      schema: Self.schema,
      options: [
        #"""
        "caches": { "order:{id}": { "write": { "policy": "through",
          "sql": "UPDATE items SET n = :value::int WHERE order_id = :id" } } }
        """#
      ])
    let sidecar = try world.sidecar()
    let client = try sidecar.client(timeout: .seconds(20))
    let direct = try SQLClient(world.postgres.url(database: world.database))
    let key = world.key("order:5")
    for turn in 1...40 {
      // This one's lookup is under way when the next two changes come.
      try direct.query("UPDATE items SET n = n + 1 WHERE id = 6")
      try client.send("SET", key, "\(turn)")
      try eventually("the SET has committed", every: .milliseconds(1)) {
        try direct.value("SELECT n FROM items WHERE id = 5") == "\(turn)"
      }
      try direct.query("UPDATE items SET n = \(turn + 1000) WHERE id = 5")
      #expect(try client.receive() == .ok)
      try world.settle(sidecar)
      let reply = try sidecar.get(key)
      #expect(reply == nil || reply == .bulk("\(turn + 1000)"), "turn \(turn)")
    }
  }

  @Test("A lookup that cannot be prepared, since its table is locked, hardly keeps other keys waiting")
  func locked() throws {
    let world = try World(
      tables: Self.tables("SELECT id FROM orders WHERE id = :order_id"), schema: Self.schema)
    let sidecar = try world.sidecar()
    let direct = try SQLClient(world.postgres.url(database: world.database))
    let redis = try #require(world.redis).client()
    func change(_ turn: Int) throws -> Duration {
      let key = world.key("item:\(turn % 10 + 1)")
      try redis.call("SET", key, "old")
      let start = ContinuousClock.now
      try direct.query("UPDATE items SET n = n + 1 WHERE id = \(turn % 10 + 1)")
      try eventually("\(key) is cleared") { try redis.call("EXISTS", key) == 0 }
      return ContinuousClock.now - start
    }
    try world.psql("ALTER TABLE orders RENAME COLUMN id TO number")
    try eventually("the trouble is told", every: .milliseconds(100)) {
      _ = try change(0)
      return try sidecar.status()["trouble"]?.contains("lookup of table public.items") == true
    }
    let other = try SQLClient(world.postgres.url(database: world.database))
    try other.query("BEGIN")
    try other.query("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
    let slow = try (1...20).map { try change($0) }.filter { $0 > .milliseconds(400) }
    #expect(slow.count <= 3, "\(slow)")
    try other.query("ALTER TABLE orders RENAME COLUMN number TO id")
    try other.query("COMMIT")
    try eventually("it works again", within: .seconds(30), every: .milliseconds(200)) {
      _ = try change(1)
      return try sidecar.status()["trouble"] == nil
    }
    try world.settle(sidecar)
  }

  @Test("A lookup that PostgreSQL refuses only when it runs is not prepared anew each time, and works again")
  func outdated() throws {
    let postgres = try PostgresServer(settings: ["log_statement": "'all'"])
    func function(_ body: String) -> String {
      "CREATE OR REPLACE FUNCTION fits(id int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN \(body); END $$;"
    }
    let world = try World(
      tables: Self.tables("SELECT id FROM orders WHERE id = :order_id AND fits(id)"),
      schema: Self.schema + "\n" + function("RAISE undefined_table"), postgres: postgres)
    let sidecar = try world.sidecar()
    let redis = try #require(world.redis).client()
    let key = world.key("order:5")
    func prepared() -> Int { (readFile(postgres.log) ?? "").ranges(of: ": PREPARE nearside_0").count }
    func change() throws {
      try redis.call("SET", key, "old")
      try world.psql("UPDATE items SET n = n + 1 WHERE id = 5")
      try eventually("\(key) is cleared") { try redis.call("EXISTS", key) == 0 }
    }
    let (before, start) = (prepared(), ContinuousClock.now)
    #expect(before > 0)
    for _ in 1...10 { try change() }
    let took = ContinuousClock.now - start
    // One at the first failure, and one after each rest of 5 s.
    #expect(prepared() - before <= 1 + Int(took.milliseconds / 5000) + 1, "\(took)")
    #expect(try sidecar.status()["trouble"]?.contains("lookup of table public.items") == true)
    try world.psql(function("RETURN true"))
    try eventually("it works again", within: .seconds(30), every: .milliseconds(200)) {
      try change()
      return try sidecar.status()["trouble"] == nil
    }
  }

  @Test("A lookup that PostgreSQL neither answers nor gives up ends the hold of the slot, and is asked again")
  func silent() throws {
    let world = try World(
      tables: Self.tables("SELECT id FROM orders, pg_sleep(0.3) WHERE id = :order_id"),
      schema: Self.schema, options: [#""postgres": { "loader": { "timeout": "1s" } }"#],
      postgres: PostgresServer())
    let sidecar = try world.sidecar()
    let key = world.key("order:5")
    try warm(key, "before", sidecar)
    try world.psql("UPDATE items SET n = 1 WHERE id = 5")
    var backend: pid_t = 0
    try eventually("the lookup runs") {
      backend =
        pid_t(
          try world.psql("SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' LIMIT 1")) ?? 0
      return backend > 0
    }
    // As if its host had gone without a word: not even its own time-out fires.
    Glibc.kill(backend, SIGSTOP)
    defer { Glibc.kill(backend, SIGCONT) }
    try eventually("it is given up", within: .seconds(30)) {
      sidecar.log.contains("neither answered a lookup nor given it up")
    }
    try world.settle(sidecar)
    try expectGone(key, world, sidecar)
  }
}
