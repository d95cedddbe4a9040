import TestSupport
import Testing

@testable import nearside

/// Reads while PostgreSQL, Redis or both are gone, each test on a cluster of its own.
@Suite("Reads during outages")
struct OutageTests {
  static let users = #"""
    "user:{id}": { "load": "SELECT name FROM users WHERE id = :id", "ttl": "1h" },
    "product:{id}": { "load": "SELECT name FROM products WHERE id = :id", "failSafe": "1h" }
    """#

  func world(
    _ caches: String = users, redis: Bool = true, staleness: String = #"{ "bound": "2s" }"#
  ) throws -> World {
    try World(
      options: [ReadThroughTests.caches(caches), "\"staleness\": \(staleness)"], redis: redis,
      postgres: try PostgresServer(settings: ["max_wal_senders": "10", "max_replication_slots": "10"]))
  }

  func isOld(_ sidecar: Sidecar) throws {
    try eventually("the evidence is older than the bound", within: .seconds(30)) {
      try sidecar.count("staleness_ms")
    } until: {
      $0 > 2_000
    }
  }

  @Test(
    "Without PostgreSQL near values are served within the bound, and then only with failSafe, counted",
    arguments: [true, false])
  func postgres(redis: Bool) throws {
    let world = try world(redis: redis)
    let sidecar = try world.sidecar()
    let (user, product, removed) = (world.key("user:7"), world.key("product:7"), world.key("product:8"))
    for key in [user, product, removed] {
      _ = try sidecar.get(key)
      try eventually("\(key) is near") { try sidecar.hasNear(key) }
    }
    let stored = try sidecar.count("fills_stored")
    try world.postgres.stop(.immediate)
    #expect(try sidecar.get(user) == "User 7")
    try isOld(sidecar)
    try eventually("it is known that PostgreSQL is away") { try sidecar.get(product) == "Product 7" }
    #expect(try sidecar.count("served_fail_safe") > 0)
    #expect(try sidecar.get(user).errorText?.contains("SQLSTATE 08") == true)
    #expect(try sidecar.get(world.key("product:9")).errorText?.contains("SQLSTATE 08") == true)
    // What was invalidated meanwhile is not known any more.
    try sidecar.client().call("DEL", removed)
    #expect(try sidecar.get(removed).errorText?.contains("SQLSTATE 08") == true)
    #expect(try sidecar.count("fills_stored") == stored)

    try world.postgres.start()
    try eventually("rows are loaded again", within: .seconds(60)) {
      let reply = try sidecar.get(user)
      let other = try sidecar.get(removed)
      return reply == "User 7" && other == "Product 8"
    }
    try eventually("there is evidence again", within: .seconds(60)) {
      try sidecar.count("staleness_ms") < 2_000
    }
    let before = try sidecar.count("served_fail_safe")
    #expect(try sidecar.get(product) == "Product 7")
    #expect(try sidecar.count("served_fail_safe") == before)
  }

  @Test("failSafe ends when its time is over")
  func over() throws {
    let world = try world(
      #""product:{id}": { "load": "SELECT name FROM products WHERE id = :id", "failSafe": "2s" }"#)
    let sidecar = try world.sidecar()
    let key = world.key("product:7")
    _ = try sidecar.get(key)
    try eventually("it is near") { try sidecar.hasNear(key) }
    try world.postgres.stop(.immediate)
    try eventually("it is shown beyond the bound", within: .seconds(30)) {
      let reply = try sidecar.get(key)
      return try reply == "Product 7" && sidecar.count("served_fail_safe") > 0
    }
    try eventually("four seconds are over", within: .seconds(30)) {
      try sidecar.get(key).errorText?.contains("SQLSTATE 08") == true
    }
    #expect(try sidecar.count("staleness_ms") >= 4_000)
  }

  @Test(
    "Without Redis near values are served within the bound, and rows are loaded, for 100 clients at most ten times, and not kept"
  )
  func redis() throws {
    let world = try world()
    let sidecar = try world.sidecar()
    #expect(try sidecar.get(world.key("user:7")) == "User 7")
    try eventually("it is near") { try sidecar.hasNear(world.key("user:7")) }
    let loads = try sidecar.count("loads")
    try world.redis?.stop(hard: true)
    let near = try sidecar.get(world.key("user:7"))
    #expect(near == "User 7")
    let clients = try (0..<100).map { _ in try sidecar.client() }
    for client in clients { try client.send("GET", world.key("user:8")) }
    for client in clients { #expect(try client.receive() == "User 8") }
    #expect(try sidecar.count("loads") - loads <= 10)
    let starts = try sidecar.count("load_slow_starts")
    #expect(try sidecar.count("load_limit") > 2)
    try isOld(sidecar)
    // Redis has been tried in vain meanwhile.
    #expect(try sidecar.count("load_slow_starts") == starts)
    #expect(try sidecar.get(world.key("user:7")) == "User 7")
    #expect(try sidecar.get(world.key("user:8")) == "User 8")

    try world.redis?.start()
    try eventually("a value is kept again", within: .seconds(60)) {
      let reply = try sidecar.get(world.key("user:8"))
      return try reply == "User 8" && sidecar.hasNear(world.key("user:8"))
    }
    #expect(try sidecar.count("load_slow_starts") > 0)
  }

  @Test("Without both near values are served within the bound, and then with failSafe; both come back")
  func both() throws {
    let world = try world()
    let sidecar = try world.sidecar()
    let (user, product) = (world.key("user:7"), world.key("product:7"))
    for key in [user, product] {
      _ = try sidecar.get(key)
      try eventually("\(key) is near") { try sidecar.hasNear(key) }
    }
    try world.redis?.stop(hard: true)
    try world.postgres.stop(.immediate)
    #expect(try sidecar.get(product) == "Product 7")
    try isOld(sidecar)
    try eventually("it is known that PostgreSQL is away") { try sidecar.get(product) == "Product 7" }
    #expect(try sidecar.get(user).errorText != nil)
    try world.postgres.start()
    try world.redis?.start()
    try eventually("both are back", within: .seconds(60)) {
      let reply = try sidecar.get(user)
      return try reply == "User 7" && sidecar.hasNear(user) && sidecar.status()["standing"] == "following"
    }
    #expect(try sidecar.count("load_slow_starts") > 0)
  }
}
