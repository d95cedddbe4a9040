import TestSupport
import Testing

/// What is under way when Redis refuses it, or takes it no further.
@Suite("A session whose connection to Redis fails in the middle", .timeLimit(.minutes(2)))
struct LostConnectionTests {
  @Test("What is watched is void when the SELECT behind it finds no Redis: EXEC does nothing")
  func watchedThenSelect() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let client = try a.client()
    #expect(try client.call("WATCH", "x") == .ok)
    redis.pause()
    try client.send("SELECT", "3")
    redis.kill()
    #expect(try client.receive().errorText?.contains("unreachable") == true)
    try redis.start()
    let other = try a.client()
    try eventually("Redis is back") { try other.call("SET", "x", "other") == .ok }
    // It is where it was, and whether the key has changed nobody knows.
    #expect(try client.pipeline([["MULTI"], ["SET", "x", "mine"], ["EXEC"]])[2] == .nullArray)
    #expect(try client.call("GET", "x") == "other")
    #expect(try client.pipeline([["MULTI"], ["SET", "x", "mine"], ["EXEC"]])[2] == .array([.ok]))
    #expect(try redis.cli("-n", "3", "EXISTS", "x") == "0")
  }

  @Test("A subscriber that blocks has no more messages kept for it than its limit allows")
  func messagesBehindBlocking() throws {
    let world = try World(options: [#""clients": {"outputBuffer": {"pubsub": {"hard": "4MiB"}}}"#])
    let sidecar = try world.sidecar()
    let redis = try #require(world.redis)
    let client = try sidecar.client()
    try client.call("HELLO", "3")
    try client.call("SUBSCRIBE", "news")
    try client.send("BLPOP", "nothing", "0")
    try eventually("it blocks") { try redis.info("clients", "blocked_clients") == "1" }
    let publisher = try redis.client()
    let message = String(repeating: "m", count: 100_000)
    for _ in 0..<100 { try publisher.call("PUBLISH", "news", message) }
    try eventually("the limit ends it") { try sidecar.count("clients_dropped") == 1 }
    try eventually("nobody blocks any more") { try redis.info("clients", "blocked_clients") == "0" }
  }

  @Test("REPLICAOF in a transaction is one of its commands, and its reply one of EXEC's")
  func replicaOfInTransaction() throws {
    let world = try World(options: [#""commands": { "allow": ["replicaof"] }"#])
    let a = try world.sidecar()
    let client = try a.client()
    let commands = [
      ["MULTI"], ["SET", "x", "1"], ["REPLICAOF", "NO", "ONE"], ["GET", "x"], ["EXEC"], ["GET", "x"],
    ]
    let replies = try client.pipeline(commands)
    #expect(replies[4] == .array([.ok, .ok, "1"]))
    #expect(replies[5] == "1")
  }

  @Test("A client whose MONITOR Redis refuses is told so, and goes on as before")
  func monitorRefused() throws {
    let world = try World(options: [#""commands": { "allow": ["monitor"] }"#])
    let redis = try #require(world.redis)
    #expect(try redis.client().call("ACL", "SETUSER", "default", "-monitor") == .ok)
    let a = try world.sidecar()
    let client = try a.client()
    for _ in 0..<2 {
      #expect(try client.call("MONITOR").errorText?.hasPrefix("NOPERM") == true)
      #expect(try client.call("SET", "x", "1") == .ok)
    }
    #expect(try client.pipeline([["MULTI"], ["GET", "x"], ["EXEC"]])[2] == .array(["1"]))
    #expect(try client.call("SUBSCRIBE", "a") == .array(["subscribe", "a", 1]))
  }

  @Test("A long command of which Redis takes no more is given up, and answered when its end has come")
  func halfTaken() throws {
    let world = try World(options: [#""redis": { "timeout": "500ms" }"#])
    let redis = try #require(world.redis)
    let sidecar = try world.sidecar()
    let client = try sidecar.client(timeout: .seconds(30))
    let chunk = [UInt8](repeating: UInt8(ascii: "v"), count: 1 << 20)
    try client.send(raw: "*3\r\n$3\r\nSET\r\n$4\r\nlong\r\n$\(64 << 20)\r\n")
    for _ in 0..<4 { try client.send(raw: chunk) }
    redis.pause()
    defer { redis.resume() }
    for _ in 0..<60 { try client.send(raw: chunk) }
    try client.send(raw: "\r\n")
    #expect(try client.receive().errorText?.hasPrefix("ERR Nearside: upstream Redis is unreachable") == true)
    #expect(try client.call("PING") == .simple("PONG"))
    redis.resume()
    try eventually("Redis serves it again") { try client.call("SET", "a", "1") == .ok }
    #expect(try client.call("EXISTS", "long") == 0)
  }
}
