import TestSupport
import Testing

@testable import nearside

/// Read-through, with the database that is read. How the loop decides is tested with `LoadTests` and
/// `LoadTableTests`.
@Suite("Read-through")
struct ReadThroughTests {
  /// Loads go through a function whose calls PostgreSQL counts.
  static let schema =
    World.schema + """

      CREATE FUNCTION slowly(bigint) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
        BEGIN
          PERFORM pg_sleep(0.3);
          RETURN (SELECT name FROM users WHERE id = $1);
        END $$;
      DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET track_functions = %L', current_database(), 'all');
      END $$;
      """

  /// How often the function was called. A connection reports what it counted when it ends, at the latest; this waits
  /// until all have ended (PostgreSQL documentation, 9.27.2 "Server Signaling Functions").
  func calls(_ world: World) throws -> String {
    try world.psql(
      """
      SELECT pg_terminate_backend(pid, 15000) FROM pg_stat_activity
      WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
      """)
    return try eventually("PostgreSQL has counted") {
      try world.psql("SELECT calls FROM pg_stat_user_functions WHERE funcname = 'slowly'")
    } until: {
      $0 != ""
    }
  }

  static func caches(_ members: String) -> String { "\"caches\": { \(members) }" }

  static let users = #"""
    "user:{id}": { "load": "SELECT name FROM users WHERE id = :id", "ttl": "1h", "negative": "1h" }
    """#

  func world(_ caches: String, redis: Bool = true) throws -> World {
    try World(options: [Self.caches(caches)], redis: redis)
  }

  @Test("A GET answers the row that it loads; a change of the row is seen", arguments: [true, false])
  func value(redis: Bool) throws {
    let world = try world(Self.users, redis: redis)
    let sidecar = try world.sidecar()
    #expect(try sidecar.get(world.key("user:7")) == "User 7")
    if let redis = world.redis { #expect(try redis.cli("GET", world.key("user:7")) == "User 7") }
    #expect(try sidecar.hasNear(world.key("user:7")))
    try world.psql("UPDATE users SET name = 'Ada' WHERE id = 7")
    try world.settle(sidecar)
    #expect(try sidecar.get(world.key("user:7")) == "Ada")
    let reply = try sidecar.client().call(
      "MGET", world.key("user:7"), world.key("user:8"), world.key("user:9"))
    #expect(reply == .array(["Ada", "User 8", "User 9"]))
  }

  @Test("What a key in another spelling finds is answered and not kept")
  func spelling() throws {
    let world = try world(Self.users)
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    #expect(try client.call("GET", world.key("user:007")) == "User 7")
    #expect(try client.call("GET", world.key("user:0099999")) == nil)
    #expect(try client.call("GET", world.key("user:x")).errorText?.contains("22P02") == true)
    #expect(try #require(world.redis).client().call("EXISTS", world.key("user:007")) == 0)
    try world.psql("UPDATE users SET name = 'Ada' WHERE id = 7; INSERT INTO users VALUES (99999, 'e', 'Eve')")
    try world.settle(sidecar)
    #expect(try client.call("GET", world.key("user:007")) == "Ada")
    #expect(try client.call("GET", world.key("user:0099999")) == "Eve")
    #expect(try sidecar.count("loads_not_stored") == 4)
  }

  @Test("A row that does not exist is known not to, until it appears", arguments: [true, false])
  func absent(redis: Bool) throws {
    let world = try world(Self.users, redis: redis)
    let sidecar = try world.sidecar()
    let key = world.key("user:1000")
    #expect(try sidecar.get(key) == nil)
    try eventually("it is known") { () throws -> Bool in
      let before = try sidecar.count("loads")
      let reply = try sidecar.get(key)
      let after = try sidecar.count("loads")
      return reply == nil && after == before
    }
    try world.psql("INSERT INTO users VALUES (1000, 'a@b', 'New')")
    try world.settle(sidecar)
    #expect(try sidecar.get(key) == "New")
  }

  @Test("Several columns are JSON; hash, list and set are Redis's own")
  func shapes() throws {
    let world = try world(
      #"""
      "user:{id}": { "load": "SELECT id, name FROM users WHERE id = :id" },
      "product:{id}": { "load": { "sql": "SELECT name, stock FROM products WHERE id = :id", "as": "hash" } },
      "order:{order_id}:item:{line_no}": { "load": { "as": "list", "sql":
        "SELECT generate_series(1, quantity + 2) FROM order_items WHERE order_id = :order_id AND line_no = :line_no"
      } }
      """#)
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    #expect(try sidecar.get(world.key("user:7")) == #"{"id":7,"name":"User 7"}"#)
    #expect(
      try client.call("HGETALL", world.key("product:7")) == .array(["name", "Product 7", "stock", "10"]))
    #expect(try client.call("HGET", world.key("product:7"), "stock") == "10")
    #expect(try client.call("LRANGE", world.key("order:7:item:1"), "0", "-1") == .array(["1", "2", "3"]))
    #expect(try world.redis?.cli("LLEN", world.key("order:7:item:1")) == "3")
    try client.call("HELLO", "3")
    #expect(
      try client.call("HGETALL", world.key("product:8"))
        == .map([Reply.Pair("name", "Product 8"), Reply.Pair("stock", "10")]))
  }

  @Test(
    "An error of PostgreSQL is an error with its SQLSTATE, and nothing is cached", arguments: [true, false])
  func failure(redis: Bool) throws {
    let world = try world(
      #""user:{id}": { "load": "SELECT 1 / (id - 7) FROM users WHERE id = :id" }"#, redis: redis)
    let sidecar = try world.sidecar()
    let error = try sidecar.get(world.key("user:7")).errorText ?? ""
    #expect(error.contains("22012"), "\(error)")
    #expect(try sidecar.get(world.key("user:8")) == "1")
    if let redis = world.redis { #expect(try redis.cli("EXISTS", world.key("user:7")) == "0") }
  }

  @Test("A thousand GETs of one missing key ask the database once", arguments: [true, false])
  func thousand(redis: Bool) throws {
    let world = try World(
      schema: Self.schema,
      options: [
        Self.caches(
          #""user:{id}": { "load": "SELECT slowly(:id)" }"#)
      ], redis: redis)
    let sidecar = try world.sidecar()
    let clients = try (0..<1000).map { _ in try sidecar.client() }
    for client in clients { try client.send("GET", world.key("user:7")) }
    for client in clients { try #require(try client.receive() == "User 7") }
    #expect(try calls(world) == "1")
  }

  @Test("Without coalescing each of 50 GETs of one missing key asks the database")
  func naive() throws {
    let world = try World(
      schema: Self.schema,
      options: [
        Self.caches(#""user:{id}": { "load": "SELECT slowly(:id)", "stampede": { "coalesce": false } }"#)
      ])
    let sidecar = try world.sidecar()
    let clients = try (0..<50).map { _ in try sidecar.client(timeout: .seconds(30)) }
    for client in clients { try client.send("GET", world.key("user:7")) }
    var answers: [Reply: Int] = [:]
    for client in clients { answers[try client.receive(), default: 0] += 1 }
    // Some may have waited for too long for one of four connections.
    #expect(answers["User 7"] ?? 0 > 10, "\(answers)")
    #expect(Int(try calls(world)).map { $0 > 10 } == true)
  }

  @Test(
    "With lock, coalescing and early refresh on, a flush under a thousand clients is one query a key",
    arguments: ["FLUSHALL", "NEARSIDE INVALIDATE ALL"], [1, 3])
  func allAtOnce(flush: String, hosts: Int) throws {
    let world = try World(
      schema: Self.schema,
      options: [
        Self.caches(
          #"""
          "user:{id}": { "load": { "sql": "SELECT slowly(:id)", "timeout": "10s" }, "ttl": "1h",
            "stampede": { "coalesce": true, "lock": "10s", "early": true } }
          """#)
      ])
    let sidecars = try (0..<hosts).map { _ in try world.sidecar() }
    let keys = (1...10).map { world.key("user:\($0)") }
    let clients = try (0..<1000).map { try sidecars[$0 % hosts].client(timeout: .seconds(30)) }
    /// Every client reads once; whether the near caches had it all.
    func round() throws -> Bool {
      let misses = try sidecars.map { try $0.count("near_misses") }
      for (index, client) in clients.enumerated() { try client.send("GET", keys[index / hosts % keys.count]) }
      for (index, client) in clients.enumerated() {
        try #require(try client.receive() == .bulk("User \(index / hosts % keys.count + 1)"))
      }
      return try sidecars.map { try $0.count("near_misses") } == misses
    }
    try eventually("all is near", within: .seconds(60)) { try round() }
    let generation = try sidecars[0].status()["generation"]
    if flush == "FLUSHALL" {
      try world.redis?.cli("FLUSHALL")
    } else {
      #expect(try sidecars[0].client().call("NEARSIDE", "INVALIDATE", "ALL") == .simple("OK"))
    }
    try eventually("there is a new generation", within: .seconds(60)) {
      _ = try round()
      return try sidecars.allSatisfy { try $0.status()["generation"] != generation }
    }
    try eventually("all is near again", within: .seconds(60)) { try round() }
    let loads = try sidecars.map { try $0.count("loads") }
    #expect(try calls(world) == "20", "\(loads)")
  }

  @Test(
    "An MGET of a hundred missing keys is one statement with `many`; without it there is one for each key",
    arguments: [100, 10], [true, false])
  func many(count: Int, redis: Bool) throws {
    let isMany = count == 100
    let many = #", "many": "SELECT u.id, u.name FROM slowly(1), users u WHERE u.id = ANY(:id)""#
    let load = #"{ "sql": "SELECT slowly(:id)"\#(isMany ? many : "") }"#
    let world = try World(
      schema: Self.schema,
      options: [Self.caches(#""user:{id}": { "load": \#(load), "negative": "1h" }"#)], redis: redis)
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    // Of a hundred the last three have no row.
    let first = isMany ? 4 : 1
    let keys = (first..<first + count).map { world.key("user:\($0)") }
    let reply = try client.call(["MGET"] + keys)
    #expect(
      reply == .array((first..<first + count).map { $0 > 100 ? nil : .bulk("User \($0)") }))
    #expect(try sidecar.count("load_statements") == (isMany ? 1 : 10))
    // On a busy machine what is known near may be too old for a moment, and what has no row is asked for again: only
    // what one MGET has caused is counted.
    try eventually("all is near or known to be absent") { () throws -> Bool in
      let before = try sidecar.count("loads")
      _ = try client.call(["MGET"] + keys)
      return try sidecar.count("loads") == before
    }
    if isMany {
      let before = try sidecar.count("load_statements")
      try world.psql("UPDATE users SET name = 'Ada' WHERE id = 7; INSERT INTO users VALUES (101, 'e', 'Eve')")
      try world.settle(sidecar)
      #expect(try client.call("MGET", world.key("user:7"), world.key("user:101")) == .array(["Ada", "Eve"]))
      #expect(try sidecar.count("load_statements") == before + 1)
    }
    let (statements, calls) = try (sidecar.count("load_statements"), calls(world))
    #expect(calls == "\(statements)")
  }

  @Test(
    "A change that commits while a load holds the row of before never leaves it", arguments: [true, false])
  func changedMeanwhile(redis: Bool) throws {
    // The statement has its snapshot before it waits for the lock that the test holds.
    let world = try World(
      options: [
        Self.caches(
          #"""
          "user:{id}": { "load": { "sql":
            "SELECT name FROM users, (SELECT pg_advisory_lock_shared(4711), pg_advisory_unlock_shared(4711)) l WHERE id = :id",
            "timeout": "20s" } }
          """#)
      ], redis: redis)
    let sidecar = try world.sidecar()
    let holder = try SQLClient(world.postgres.url(database: world.database))
    try holder.query("SELECT pg_advisory_lock(4711)")
    let (early, late) = (try sidecar.client(timeout: .seconds(30)), try sidecar.client(timeout: .seconds(30)))
    try early.send("GET", world.key("user:7"))
    try eventually("the load waits") {
      try world.psql(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
      )
        == "1"
    }
    try world.psql("UPDATE users SET name = 'Ada' WHERE id = 7")
    let position = try world.psql("SELECT pg_current_wal_lsn()")
    #expect(try late.call("NEARSIDE", "WAIT", position, "20000") == 1)
    // It has written, waited, and reads: the load under way is not for it.
    try late.send("GET", world.key("user:7"))
    try eventually("both wait") {
      try sidecar.count("load_waits")
    } until: {
      $0 == 2
    }
    try holder.query("SELECT pg_advisory_unlock(4711)")
    #expect(try late.receive() == "Ada")
    #expect([.bulk("User 7"), .bulk("Ada")].contains(try early.receive()))
    #expect(try early.call("GET", world.key("user:7")) == "Ada")
    if let redis = world.redis { #expect(try redis.cli("GET", world.key("user:7")) == "Ada") }
  }

  @Test(
    "Without PostgreSQL: what is cached is served, and an error says so of the rest; it comes back by itself")
  func withoutPostgres() throws {
    let world = try World(options: [Self.caches(Self.users)], postgres: PostgresServer())
    let sidecar = try world.sidecar()
    #expect(try sidecar.get(world.key("user:7")) == "User 7")
    world.postgres.kill()
    #expect(try sidecar.get(world.key("user:7")) == "User 7")
    let error = try sidecar.get(world.key("user:8")).errorText ?? ""
    #expect(error.contains("SQLSTATE") && error.contains("PostgreSQL"), "\(error)")
    #expect(try world.redis?.cli("EXISTS", world.key("user:8")) == "0")
    try world.postgres.start()
    try eventually("PostgreSQL is back", within: .seconds(20)) {
      try sidecar.get(world.key("user:8")) == "User 8"
    }
  }

  @Test("Without Redis reachable: rows are loaded")
  func withoutRedis() throws {
    let world = try world(Self.users)
    let sidecar = try world.sidecar()
    world.redis?.pause()
    #expect(try sidecar.get(world.key("user:7")) == "User 7")
    world.redis?.resume()
    try eventually("Redis is back") {
      let reply = try sidecar.get(world.key("user:8"))
      let isNear = try sidecar.hasNear(world.key("user:8"))
      return reply == "User 8" && isNear
    }
  }

  @Test("A fleet of three, a thousand GETs each of one missing key: with a lock the database is asked once")
  func fleet() throws {
    let world = try World(
      schema: Self.schema,
      options: [
        Self.caches(
          #""user:{id}": { "load": "SELECT slowly(:id)", "ttl": "1h", "stampede": { "lock": "5s" } }"#)
      ])
    let sidecars = [try world.sidecar(), try world.sidecar(), try world.sidecar()]
    let clients = try sidecars.flatMap { sidecar in try (0..<1000).map { _ in try sidecar.client() } }
    for client in clients { try client.send("GET", world.key("user:7")) }
    for client in clients { try #require(try client.receive() == "User 7") }
    let calls = try calls(world)
    let told = try sidecars.map { sidecar in
      try sidecar.status().filter { $0.key.hasPrefix("load") || $0.key == "drops" }
    }
    #expect(calls == "1", "\(told)\n\(sidecars.map(\.log).joined(separator: "\n"))")
    #expect(try world.redis?.cli("KEYS", "nearside:*:l:*") == "")
  }

  @Test("A host that dies with the lock is waited for only so long")
  func lockLost() throws {
    let world = try world(
      #""user:{id}": { "load": "SELECT name FROM users WHERE id = :id", "stampede": { "lock": "1s" } }"#)
    let sidecar = try world.sidecar()
    let key = world.key("user:7")
    try world.redis?.cli("SET", "nearside:{\(world.database)}:l:\(key)", "another", "PX", "60000")
    let start = ContinuousClock().now
    #expect(try sidecar.get(key) == "User 7")
    #expect(ContinuousClock().now - start >= .milliseconds(900))
  }

  @Test("Before a value ends it is loaded anew, and nobody meets a miss", arguments: [true, false])
  func early(redis: Bool) throws {
    let world = try World(
      schema: Self.schema,
      options: [
        Self.caches(
          #""user:{id}": { "load": "SELECT slowly(:id)", "ttl": "2s", "stampede": { "early": 2 } }"#)
      ], redis: redis)
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    let key = world.key("user:7")
    #expect(try client.call("GET", key) == "User 7")
    let waits = try sidecar.count("load_waits")
    try eventually("it has been loaded three times more") { () throws -> Int in
      #expect(try client.call("GET", key) == "User 7")
      return try sidecar.count("loads")
    } until: {
      $0 >= 4
    }
    #expect(try sidecar.count("load_waits") == waits)
  }

  @Test(
    "A key that was read lately is loaded again when its row changes; others are not",
    arguments: [true, false])
  func onChange(redis: Bool) throws {
    let world = try world(
      #""user:{id}": { "load": "SELECT name FROM users WHERE id = :id", "onChange": "refresh" }"#,
      redis: redis)
    let sidecar = try world.sidecar()
    #expect(try sidecar.get(world.key("user:7")) == "User 7")
    try eventually("it is near") { try sidecar.hasNear(world.key("user:7")) }
    try world.psql("UPDATE users SET name = 'Ada' WHERE id IN (7, 8)")
    try world.settle(sidecar)
    try eventually("it is loaded again") {
      try sidecar.count("refreshes")
    } until: {
      $0 == 1
    }
    let waits = try sidecar.count("load_waits")
    try eventually("it is near again") {
      try sidecar.count("fills_stored")
    } until: {
      $0 == 2
    }
    #expect(try sidecar.get(world.key("user:7")) == "Ada")
    #expect(try sidecar.count("load_waits") == waits)
  }
}
