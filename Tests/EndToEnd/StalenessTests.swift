import TestSupport
import Testing

/// PostgreSQL is gone, so nobody can say that what is cached is current.
@Suite("Staleness with real servers")
struct EndToEndStalenessTests {
  @Test("beyond the default bound of 2 s reads are misses and SETs are not stored; templates may differ")
  func allThree() throws {
    let world = try World(
      options: [
        """
        "staleness": {},
          "caches": { "product:{id}": { "staleness": { "beyond": "serve" } },
            "order:{order_id}:item:{line_no}": { "staleness": { "bound": "1s", "beyond": "fail" } } }
        """
      ], postgres: PostgresServer())
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let b = try world.sidecar()
    #expect(try a.status()["staleness_bound_ms"] == "2000")
    let (user, product, item) = (world.key("user:1"), world.key("product:1"), world.key("order:1:item:1"))
    for key in [user, product, item] { try warm(key, "before", a, b) }
    // Only in Redis.
    let other = world.key("user:2")
    try a.store(other, "before")

    world.postgres.kill()
    let client = try b.client()
    // Near values first, so that nothing keeps them from being judged by their evidence alone.
    try eventually("the evidence is older than 2 s") {
      (Int(try b.status()["staleness_ms"] ?? "") ?? 0) > 2000
    }
    let stale = try b.count("served_stale")
    #expect(try client.call("GET", user) == nil)
    #expect(try client.call("GET", other) == nil)
    #expect(try client.call("GET", product) == "before")
    #expect(try b.count("served_stale") == stale + 1)
    #expect(try client.call("GET", item).errorText?.hasPrefix("STALE ") == true)
    #expect(try client.call("MGET", user, product, other) == .array([nil, "before", nil]))
    #expect(try client.call("MGET", product, item).errorText?.hasSuffix("the bound is 1.0s") == true)
    #expect(try client.call("SET", user, "after") == .ok)
    #expect(try client.call("NEARSIDE", "LEASE", other) == .array([nil, nil]))
    #expect(try redis.cli("GET", user) == "before")

    try world.postgres.start()
    try eventually("it is followed again", within: .seconds(30)) {
      try b.status()["trouble"] == nil && (Int(try b.status()["staleness_ms"] ?? "") ?? .max) < 2000
    }
    try world.settle(a, b)
    try warm(user, "again", a, b)
    #expect(try client.call("MGET", user, product).elements?.first == "again")
  }
}
