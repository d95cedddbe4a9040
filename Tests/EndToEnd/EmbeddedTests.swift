import TestSupport
import Testing

@Suite("Without Redis: one process, PostgreSQL, nothing else")
struct EmbeddedTests {
  private func world(_ options: [String] = [], postgres: PostgresServer? = nil) throws -> World {
    try World(options: options, redis: false, postgres: postgres)
  }

  @Test("A miss, a SET, hits, an UPDATE, a miss")
  func story() throws {
    let world = try world()
    let a = try world.sidecar()
    #expect(try a.status()["mode"] == "embedded")
    #expect(try a.status()["role"] == "standalone")
    let client = try a.client()
    let key = world.key("user:42")
    #expect(try client.call("GET", key) == nil)
    #expect(try client.call("SET", key, "ada", "EX", "600") == .ok)
    #expect(try client.call("GET", key) == "ada")
    #expect(try client.call("MGET", key, world.key("user:43")) == .array(["ada", nil]))
    #expect(try client.call("EXISTS", key, world.key("user:43"), key) == 2)
    #expect(try client.call("STRLEN", key) == 3)
    #expect((590...600).contains(try client.call("TTL", key).integerValue ?? 0))
    try world.psql("UPDATE users SET name = 'x' WHERE id = 42")
    try world.settle(a)
    #expect(try client.call("GET", key) == nil)
    try world.psql("TRUNCATE products")
    try world.settle(a)
    try a.waitUntilFollowing()
    try a.store(world.key("user:1"), "v")
    #expect(try client.call("GET", world.key("user:1")) == "v")
  }

  @Test("A key that no mapping covers gets an error with the reason, never nil")
  func ungoverned() throws {
    let world = try world()
    let a = try world.sidecar()
    let client = try a.client()
    for command in [
      ["GET", "session:1"], ["SET", "session:1", "v"], ["MGET", world.key("user:1"), "session:1"],
      ["DEL", world.key("lock:1")], ["EXISTS", "x"], ["EXPIRE", "x", "10"], ["NEARSIDE", "LEASE", "x"],
    ] {
      let reply = try client.call(command)
      #expect(reply.errorText?.contains("mapping") == true, "\(command): \(reply)")
    }
    for command in [
      ["HSET", world.key("user:1"), "f", "v"], ["LPUSH", world.key("user:1"), "x"], ["SUBSCRIBE", "x"],
      ["EVAL", "return 1", "0"],
    ] {
      let reply = try client.call(command)
      #expect(reply.errorText?.hasPrefix("ERR") == true, "\(command): \(reply)")
    }
    #expect(try client.call("NONSENSE").errorText?.contains("unknown command") == true)
    #expect(try client.call("PING") == .simple("PONG"))
  }

  @Test("Strings behave as in Redis 7: the same commands, the same replies", arguments: [2, 3])
  func likeRedis(version: Int) throws {
    let world = try world()
    let a = try world.sidecar()
    let redis = try RedisServer()
    let (mine, other) = (try a.client(), try redis.client())
    try mine.call("HELLO", "\(version)")
    try other.call("HELLO", "\(version)")
    let k = world.key("user:1")
    let l = world.key("user:2")
    // Misses first, so that every SET has a lease.
    for client in [mine, other] {
      for id in 1...20 { #expect(try client.call("GET", world.key("user:\(id)")) == nil) }
    }
    let commands: [[String]] = [
      ["SET", k, "1"], ["GET", k], ["SET", k, "2", "NX"], ["SET", k, "2", "XX"], ["SET", k, "3", "GET"],
      ["SET", k, "4", "XX", "GET", "EX", "100"], ["TTL", k], ["SET", k, "5", "KEEPTTL"], ["TTL", k],
      ["GETSET", k, "6"],
      ["TTL", k], ["SETNX", k, "7"], ["APPEND", k, "x"], ["STRLEN", k], ["GETDEL", k], ["GETDEL", k],
      ["TTL", k],
      ["PTTL", k], ["SETEX", l, "100", "v"], ["TTL", l], ["PSETEX", l, "100000", "w"], ["TTL", l],
      ["PERSIST", l],
      ["PERSIST", l], ["TTL", l], ["EXPIRE", l, "50"], ["EXPIRE", l, "60", "NX"], ["EXPIRE", l, "60", "GT"],
      ["EXPIRE", l, "10", "GT"], ["EXPIRE", l, "10", "LT"], ["TTL", l], ["GETEX", l, "EX", "77"], ["TTL", l],
      ["GETEX", l, "PERSIST"], ["TTL", l], ["EXPIREAT", l, "4102444800"], ["EXPIRETIME", l], ["TYPE", l],
      ["TYPE", world.key("user:20")], ["DEL", l, world.key("user:20")], ["UNLINK", l], ["EXISTS", l],
      ["SET", world.key("user:3"), "10"], ["INCR", world.key("user:3")],
      ["INCRBY", world.key("user:3"), "-4"],
      ["DECR", world.key("user:3")], ["DECRBY", world.key("user:3"), "2"], ["GET", world.key("user:3")],
      ["SET", world.key("user:4"), "text"], ["INCR", world.key("user:4")],
      ["MSET", world.key("user:5"), "a", world.key("user:6"), "b"],
      ["MGET", world.key("user:5"), world.key("user:6"), world.key("user:20")],
      ["EXPIRE", world.key("user:5"), "-1"],
      ["EXISTS", world.key("user:5")], ["SET", k], ["SET", k, "v", "EX"], ["SET", k, "v", "EX", "0"],
      ["SET", k, "v", "EX", "x"],
      ["SET", k, "v", "NX", "XX"], ["SETEX", k, "0", "v"], ["SETEX", k, "x", "v"], ["GET"], ["MGET"],
      ["EXPIRE", k, "x"],
      ["GETEX", k, "NONSENSE"], ["INCRBY", world.key("user:3"), "x"], ["MSET", k],
      ["STRLEN", world.key("user:20")],
      ["EXPIRE", world.key("user:20"), "10"],
    ]
    for command in commands {
      let (got, expected) = (try mine.call(command), try other.call(command))
      #expect(got == expected, "\(command.joined(separator: " "))")
    }
  }

  @Test("A SET of what was read before a change is answered OK and not held")
  func race() throws {
    let world = try world()
    let a = try world.sidecar()
    let client = try a.client()
    let key = world.key("user:1")
    #expect(try client.call("GET", key) == nil)
    let lease = try client.call("NEARSIDE", "LEASE", key)
    let token = try #require(lease.elements?.last?.text)
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try world.settle(a)
    #expect(try client.call("SET", key, "old") == .ok)
    #expect(try client.call("GET", key) == nil)
    #expect(try client.call("NEARSIDE", "FILL", key, token, "old") == 0)
    #expect(try client.call("GET", key) == nil)
    #expect(try a.count("fills_refused") >= 2)

    let second = try client.call("NEARSIDE", "LEASE", key)
    #expect(try client.call("DEL", key) == 0)
    #expect(try client.call("NEARSIDE", "FILL", key, second.elements?.last?.text ?? "", "old") == 0)
    try a.store(key, "new")
    #expect(try client.call("NEARSIDE", "LEASE", key) == .array(["new", nil]))
    #expect(try client.call("NEARSIDE", "INVALIDATE", "KEY", key) == 1)
    #expect(try client.call("GET", key) == nil)
    try a.store(key, "new")
    #expect(try client.call("NEARSIDE", "INVALIDATE", "ALL") == .ok)
    try eventually("it follows again") { try a.status()["standing"] == "following" }
    #expect(try client.call("GET", key) == nil)
  }

  @Test("Two sidecars side by side keep values of their own and both hear of changes")
  func sideBySide() throws {
    let world = try world()
    let a = try world.sidecar()
    let b = try world.sidecar()
    try a.store(world.key("user:1"), "in a")
    #expect(try b.get(world.key("user:1")) == nil)
    try b.store(world.key("user:1"), "in b")
    #expect(try a.get(world.key("user:1")) == "in a")
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try world.settle(a, b)
    #expect(try a.get(world.key("user:1")) == nil)
    #expect(try b.get(world.key("user:1")) == nil)
  }

  @Test("Nothing stays behind in PostgreSQL when it is killed, and it starts cold")
  func killed() throws {
    let world = try world()
    let a = try world.sidecar()
    try a.store(world.key("user:1"), "before")
    func slots() throws -> String {
      try world.psql("SELECT count(*) FROM pg_replication_slots WHERE database = '\(world.database)'")
    }
    #expect(try slots() == "1")
    a.kill()
    try eventually("the temporary slot is gone") { try slots() == "0" }
    try a.start()
    try a.waitUntilFollowing()
    #expect(try a.get(world.key("user:1")) == nil)
    try a.store(world.key("user:1"), "after")
  }

  @Test("A small near cache makes room: a miss, never an error or another key's value")
  func eviction() throws {
    let world = try world([#""near": { "size": "1MiB" }"#])
    let a = try world.sidecar()
    let client = try a.client()
    let value = String(repeating: "v", count: 2000)
    var held = 0
    for id in 1...1500 { try a.store(world.key("product:\(id)"), value + "\(id)") }
    for id in 1...1500 {
      let reply = try client.call("GET", world.key("product:\(id)"))
      if reply == .bulk(value + "\(id)") {
        held += 1
      } else if reply != nil {
        Issue.record("product \(id): \(reply)")
        break
      }
    }
    #expect(held > 100 && held < 700, "\(held) held")
  }

  @Test("When PostgreSQL is away nothing is shown beyond the bound, and it starts anew by itself")
  func postgresAway() throws {
    let world = try world([#""staleness": { "bound": "1s" }"#], postgres: PostgresServer())
    let a = try world.sidecar()
    try a.store(world.key("user:1"), "before")
    world.postgres.kill()
    try eventually("nothing is shown") { try a.get(world.key("user:1")) == nil }
    try world.postgres.start()
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try eventually("it tails again", within: .seconds(30)) { try a.status()["trouble"] == nil }
    try world.settle(a)
    #expect(try a.get(world.key("user:1")) == nil)
    try a.store(world.key("user:1"), "after")
  }

  @Test("No namespace is needed")
  func withoutNamespace() throws {
    let world = try world()
    let configuration = """
      { "postgres": { "publication": "nearside_\(world.database)" }, "tables": { "users": "user:{id}" } }
      """
    let a = try Sidecar(configuration, postgres: world.postgres.url(database: world.database), redis: nil)
    try a.waitUntilFollowing()
    try a.store("user:1", "v")
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try world.settle(a)
    #expect(try a.get("user:1") == nil)
  }
}
