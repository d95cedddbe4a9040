import TestSupport
import Testing

@Suite("Embedded, held against Redis itself and at its limits")
struct EmbeddedDifferentialTests {
  private func world(_ options: [String] = [], postgres: PostgresServer? = nil) throws -> World {
    try World(options: options, redis: false, postgres: postgres)
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
