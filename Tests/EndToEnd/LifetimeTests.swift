import Foundation
import TestSupport
import Testing

@Suite("How long values live")
struct LifetimeTests {
  private static let caches = #""caches": { "user:{id}": { "ttl": "100s", "jitter": "10%" } }"#

  /// What a client is told of the time that a key has left, in milliseconds.
  private func left(_ client: RESPClient, _ key: String) throws -> Int {
    guard case .integer(let time) = try client.call("PTTL", key) else {
      throw HarnessError("no PTTL of \(key)")
    }
    return Int(time)
  }

  /// From `ttl` less its jitter, less what the test itself may take, up to `ttl`.
  private func isGiven(_ time: Int) -> Bool { (85_000...100_000).contains(time) }

  @Test(
    "A template's ttl is given to what has none, cuts what has a longer one, and leaves a shorter one",
    arguments: [true, false])
  func ttl(redis: Bool) throws {
    let world = try World(options: [Self.caches], redis: redis)
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    let key = world.key("user:1")
    // So that plain SETs and those that build on them are stored whatever happened to the key before.
    try eventually("a plain SET is stored") { () throws -> Reply in
      try client.call("SET", key, "1")
      return try client.call("GET", key)
    } until: {
      $0 == "1"
    }
    #expect(isGiven(try left(client, key)))
    try client.call("SET", key, "1", "EX", "500")
    #expect(isGiven(try left(client, key)))
    try client.call("SETEX", key, "50", "1")
    #expect((35_000...50_000).contains(try left(client, key)))
    try client.call("INCR", key)
    #expect((35_000...50_000).contains(try left(client, key)))
    try client.call("SET", key, "1", "KEEPTTL")
    #expect((35_000...50_000).contains(try left(client, key)))
    try client.call("PERSIST", key)
    #expect(isGiven(try left(client, key)))
    try client.call("EXPIRE", key, "500")
    #expect(isGiven(try left(client, key)))
    try client.call("GETEX", key, "PERSIST")
    #expect(isGiven(try left(client, key)))
    try client.call("GETSET", key, "2")
    #expect(isGiven(try left(client, key)))
    try client.call("MSET", key, "3")
    #expect(isGiven(try left(client, key)))
    #expect(try client.call("GET", key) == "3")
    // Nothing is said of this one.
    try sidecar.store(world.key("product:1"), "4")
    #expect(try client.call("PTTL", world.key("product:1")) == -1)
  }

  @Test("Of a hundred keys that are stored at once, no two dozen end together")
  func jitter() throws {
    let world = try World(options: [Self.caches])
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    for id in 1...100 { try sidecar.store(world.key("user:\(id)"), "x") }
    let times = try client.pipeline((1...100).map { ["PTTL", world.key("user:\($0)")] }).map { reply -> Int in
      guard case .integer(let time) = reply else { return 0 }
      return Int(time)
    }
    #expect(times.allSatisfy(isGiven))
    let seconds = Dictionary(grouping: times) { $0 / 1000 }
    #expect(seconds.count >= 8, "\(seconds.mapValues(\.count))")
    #expect(seconds.values.allSatisfy { $0.count < 24 }, "\(seconds.mapValues(\.count))")
  }

  @Test("A near copy ends with the ttl even if somebody stored the value in Redis without one")
  func nearCopy() throws {
    let world = try World(options: [#""caches": { "user:{id}": { "ttl": "300ms" } }"#])
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    let key = world.key("user:1")
    let redis = try #require(world.redis).client()
    try redis.call("SET", key, "beside")
    try eventually("it is near") {
      _ = try client.call("GET", key); return try sidecar.hasNear(key)
    } until: {
      $0
    }
    try eventually("it is near no more") {
      try sidecar.hasNear(key)
    } until: {
      !$0
    }
    #expect(try redis.call("PTTL", key) == -1)
  }
}
