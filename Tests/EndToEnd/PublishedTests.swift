import Foundation
import TestSupport
import Testing

@Suite("What applications with caches of their own are told")
struct PublishedTests {
  private struct Message: Decodable {
    var version: Int
    var generation: String
    var sequence: Int
    var lsn: String
    var table: String?
    var keys: [String]?
    var part: Int?
    var of: Int?
    var all: Bool?
  }

  private func subscribe(_ world: World) throws -> RESPClient {
    let client = try #require(world.redis).client()
    #expect(try client.call("SUBSCRIBE", "nearside:\(world.database)").elements?.count == 3)
    return client
  }

  private func next(_ client: RESPClient) throws -> Message {
    let reply = try client.receive()
    guard let elements = reply.elements, elements.count == 3, let text = elements[2].text else {
      throw HarnessError("\(reply)")
    }
    return try JSONDecoder().decode(Message.self, from: Data(text.utf8))
  }

  @Test("Each change is one JSON message with table, keys, position and a number that grows by one")
  func changes() throws {
    let world = try World()
    let a = try world.sidecar()
    let subscriber = try subscribe(world)
    try world.psql("UPDATE users SET email = 'new@x', name = 'é\"' WHERE id = 42")
    let end = try world.psql("SELECT pg_current_wal_lsn()")
    let first = try next(subscriber)
    #expect(first.version == 1)
    #expect(first.generation == (try a.status()["generation"]))
    #expect(first.table == "public.users")
    #expect(
      Set(first.keys ?? []) == [
        world.key("user:42"), world.key("user:by-email:new@x"), world.key("user:by-email:user42@example.com"),
      ])
    #expect((first.part, first.of) == (1, 1))
    #expect(first.all == nil)
    #expect(try world.psql("SELECT '\(first.lsn)'::pg_lsn <= '\(end)'") == "t")

    try world.psql("UPDATE products SET stock = 1 WHERE id = 5")
    let second = try next(subscriber)
    #expect(second.table == "public.products")
    #expect(second.keys == [world.key("product:5")])
    #expect(second.sequence == first.sequence + 1)

    #expect(try a.client().call("DEL", world.key("user:7")).integerValue != nil)
    let third = try next(subscriber)
    #expect(third.table == nil)
    #expect(third.keys == [world.key("user:7")])
    #expect(third.sequence == second.sequence + 1)
  }

  @Test("A large transaction comes in parts of at most 1000 keys, and none is missing")
  func parts() throws {
    let world = try World()
    let a = try world.sidecar()
    let subscriber = try subscribe(world)
    try world.psql("INSERT INTO products SELECT n, 'p', 1 FROM generate_series(1001, 3500) n")
    var keys = Set<String>()
    var parts: [Int] = []
    var sequence: Int?
    repeat {
      let message = try next(subscriber)
      #expect((message.keys?.count ?? 0) <= 1000)
      #expect(message.of == 3)
      if let sequence { #expect(message.sequence == sequence + 1) }
      sequence = message.sequence
      parts.append(message.part ?? 0)
      keys.formUnion(message.keys ?? [])
    } while keys.count < 2500 && parts.count < 10
    #expect(parts == [1, 2, 3])
    #expect(keys == Set((1001...3500).map { world.key("product:\($0)") }))
    try world.settle(a)
  }

  @Test("A new generation says: drop everything")
  func generation() throws {
    let world = try World()
    let a = try world.sidecar()
    let before = try a.status()["generation"]
    let subscriber = try subscribe(world)
    try world.psql("TRUNCATE products")
    var message = try next(subscriber)
    while message.all == nil { message = try next(subscriber) }
    #expect(message.all == true)
    #expect(message.sequence == 0)
    #expect(message.generation != before)
    #expect(message.keys == nil)
    try a.waitUntilFollowing()
    #expect(try a.status()["generation"] == message.generation)
  }

  @Test("NEARSIDE INVALIDATE ALL makes a new generation for the whole fleet")
  func invalidateAll() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    try warm(world.key("user:1"), "before", a, b)
    let before = try a.status()["generation"]
    #expect(try b.client().call("NEARSIDE", "INVALIDATE", "ALL") == .ok)
    #expect(try b.status()["generation"] != before)
    for sidecar in [a, b] {
      try eventually("the new generation") { try sidecar.status()["generation"] != before }
      #expect(try sidecar.get(world.key("user:1")) == nil)
    }
  }

  @Test("NEARSIDE INVALIDATE KEY clears keys everywhere, governed or not")
  func invalidateKeys() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    try warm(world.key("user:1"), "v", a, b)
    try warm(world.key("user:2"), "v", a, b)
    #expect(
      try a.client().call("NEARSIDE", "INVALIDATE", "KEY", world.key("user:1"), world.key("user:9"))
        .integerValue != nil)
    try expectGone(world.key("user:1"), world, a)
    try eventually("the other host has heard") { try b.get(world.key("user:1")) == nil }
    try expectKept(world.key("user:2"), "v", world, a, b)
  }

  @Test("NEARSIDE WAIT answers 1 when a position is applied here, and 0 at the time-out")
  func wait() throws {
    let world = try World()
    let a = try world.sidecar()
    let client = try a.client()
    let position = try world.psql("SELECT pg_current_wal_lsn()")
    #expect(try client.call("NEARSIDE", "WAIT", position, "5000") == 1)
    #expect(try client.call("NEARSIDE", "WAIT", "FFFF/0", "0") == 0)
    let clock = ContinuousClock()
    let start = clock.now
    #expect(try client.call("nearside", "wait", "FFFF/0", "300") == 0)
    let waited = start.duration(to: clock.now)
    #expect(waited >= .milliseconds(290) && waited < .seconds(3), "\(waited)")
    for wrong in [["FFFF"], ["0/0", "x"], ["0/0", "-1"], []] {
      #expect(try client.call(["NEARSIDE", "WAIT"] + wrong).errorText?.hasPrefix("ERR") == true, "\(wrong)")
    }
    // What stands behind a wait in a pipeline waits with it, and other clients do not.
    try client.send(
      raw: RESPClient.encode(["NEARSIDE", "WAIT", "FFFF/0", "500"]) + RESPClient.encode(["PING"]))
    #expect(try a.client().call("PING") == .simple("PONG"))
    #expect(try client.receive() == 0)
    #expect(try client.receive() == .simple("PONG"))
  }
}
