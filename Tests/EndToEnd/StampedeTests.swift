import TestSupport
import Testing

@testable import nearside

/// `stampede.coalesce` where applications load and SET themselves.
@Suite("Clients that share a miss")
struct StampedeTests {
  func world(_ stampede: String, redis: Bool) throws -> World {
    try World(
      options: [ReadThroughTests.caches(#""user:{id}": { "stampede": { \#(stampede) } }"#)], redis: redis)
  }

  /// 200 clients that miss one key: those who are told so do what a cache-aside application does.
  /// - Returns: how many were.
  func misses(_ world: World) throws -> Int {
    let sidecar = try world.sidecar()
    let key = world.key("user:7")
    let clients = try (0..<200).map { _ in try sidecar.client() }
    try clients[0].send("GET", key)
    #expect(try clients[0].receive() == nil)
    for client in clients[1...] { try client.send("GET", key) }
    try eventually("all have asked") { () throws -> Bool in
      let waiting = try sidecar.count("turn_waits")
      return try waiting == 199 || sidecar.count("near_misses") >= 200
    }
    // The application reads the row, and stores it.
    #expect(
      try clients[0].call("SET", key, try world.psql("SELECT name FROM users WHERE id = 7")) == .simple("OK"))
    var misses = 1
    for client in clients[1...] {
      let reply = try client.receive()
      if reply == nil { misses += 1 } else { #expect(reply == "User 7") }
    }
    return misses
  }

  @Test(
    "Of 200 clients that miss a key one loads it, and the others get what it stores",
    arguments: [true, false])
  func coalesced(redis: Bool) throws {
    #expect(try misses(try world(#""coalesce": true, "wait": "20s""#, redis: redis)) == 1)
  }

  @Test("Without it all 200 load", arguments: [#""coalesce": false"#, ""], [true, false])
  func naive(stampede: String, redis: Bool) throws {
    #expect(try misses(try world(stampede, redis: redis)) == 200)
  }

  @Test("A change of the row, a DEL and the end of the holder wake the others", arguments: [true, false])
  func woken(redis: Bool) throws {
    let world = try world(#""coalesce": true, "wait": "20s""#, redis: redis)
    let sidecar = try world.sidecar()
    let key = world.key("user:7")
    for way in ["change", "DEL", "NEARSIDE INVALIDATE ALL", "leaves", "FILL"] {
      let start = ContinuousClock().now
      var holder: RESPClient? = try sidecar.client()
      let other = try sidecar.client()
      let before = try sidecar.count("turn_waits")
      let lease = try #require(holder).call("NEARSIDE", "LEASE", key)
      #expect(try #require(lease.elements).first == .some(nil as Reply), "\(way)")
      try other.send("GET", key)
      try eventually("the other waits (\(way))") { try sidecar.count("turn_waits") == before + 1 }
      switch way {
      case "change": try world.psql("UPDATE users SET name = 'Ada' WHERE id = 7")
      case "DEL": try sidecar.client().call("DEL", key)
      case "leaves": holder = nil
      case "FILL":
        let token = try #require(lease.elements?.last?.text)
        #expect(try sidecar.client().call("NEARSIDE", "FILL", key, token, "Ada") == 1)
      default: try sidecar.client().call(way.split(separator: " ").map(String.init))
      }
      #expect(try other.receive() == (way == "FILL" ? "Ada" : nil), "\(way)")
      #expect(ContinuousClock().now - start < .seconds(15), "\(way)")
      holder = nil
      try sidecar.client().call("DEL", key)
      if way.contains("ALL") { try sidecar.waitUntilFollowing() }
    }
  }

  @Test(
    "A cleared tag wakes those who wait for its keys, nobody else, and is no slow start",
    arguments: [true, false])
  func tags(redis: Bool) throws {
    let world = try World(
      options: [
        ReadThroughTests.caches(
          #"""
          "user:{id}": { "stampede": { "coalesce": true, "wait": "20s" }, "tags": ["crowd:{id}"] },
          "product:{id}": { "load": "SELECT name FROM products WHERE id = :id" }
          """#)
      ], redis: redis)
    let sidecar = try world.sidecar()
    #expect(try sidecar.get(world.key("product:1")) == "Product 1")
    #expect(try sidecar.count("load_limit") > 2)
    let starts = try sidecar.count("load_slow_starts")
    let (seven, eight) = (world.key("user:7"), world.key("user:8"))
    let holder = try sidecar.client()
    for key in [seven, eight] { #expect(try holder.call("GET", key) == nil) }
    let others = [try sidecar.client(), try sidecar.client()]
    try others[0].send("GET", seven)
    try others[1].send("GET", eight)
    try eventually("both wait") { try sidecar.count("turn_waits") == 2 }
    #expect(try sidecar.client().call("NEARSIDE", "INVALIDATE", "TAG", "crowd:7") == .simple("OK"))
    #expect(try others[0].receive() == nil)
    #expect(try holder.call("SET", eight, "User 8") == .simple("OK"))
    #expect(try others[1].receive() == "User 8")
    #expect(try sidecar.count("load_slow_starts") == starts)
  }

  @Test("MGET, EXISTS and STRLEN do not wait for another client's value", arguments: [true, false])
  func others(redis: Bool) throws {
    let world = try world(#""coalesce": true, "wait": "60s""#, redis: redis)
    let sidecar = try world.sidecar()
    let key = world.key("user:7")
    let (holder, other) = (try sidecar.client(), try sidecar.client())
    #expect(try holder.call("GET", key) == nil)
    #expect(try other.call("MGET", key) == .array([nil]))
    #expect(try other.call("EXISTS", key) == 0)
    #expect(try other.call("STRLEN", key) == 0)
    #expect(try sidecar.count("turn_waits") == 0)
    // The turn was there all the time.
    try other.send("GET", key)
    try eventually("it waits") { try sidecar.count("turn_waits") == 1 }
  }

  @Test(
    "Whoever has waited for as long as it may gets a miss, and nobody waits for itself",
    arguments: [true, false])
  func bounded(redis: Bool) throws {
    let world = try world(#""coalesce": true, "wait": "300ms""#, redis: redis)
    let sidecar = try world.sidecar()
    let key = world.key("user:7")
    let (holder, other) = (try sidecar.client(), try sidecar.client())
    let clock = ContinuousClock()
    let start = clock.now
    #expect(try holder.call("GET", key) == nil)
    #expect(try holder.call("GET", key) == nil)
    #expect(try other.call("GET", key) == nil)
    let waited = clock.now - start
    #expect(waited >= .milliseconds(250) && waited < .seconds(5), "\(waited)")
    #expect(try sidecar.count("turn_waits") == 1)
  }
}
