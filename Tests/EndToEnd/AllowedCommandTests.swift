import TestSupport
import Testing

@Suite("Commands that reach past the namespace")
struct AllowedCommandTests {
  @Test("are refused with what to do instead")
  func refused() throws {
    let world = try World()
    let a = try world.sidecar()
    let client = try a.client()
    for command in [["FLUSHDB"], ["FLUSHALL"], ["DEBUG", "SLEEP", "0"], ["CONFIG", "SET", "timeout", "0"]] {
      let text = try client.call(command).errorText ?? ""
      #expect(text.hasPrefix("NOPERM this command is not available through Nearside: '"), "\(text)")
      #expect(text.contains("\"commands\""), "\(text)")
    }
    #expect(try client.call("SYNC").errorText?.hasPrefix("NOPERM") == true)
    // What only tells is not.
    for command in [
      ["ACL", "WHOAMI"], ["SLOWLOG", "LEN"], ["LATENCY", "LATEST"], ["LASTSAVE"], ["KEYS", "x*"],
    ] {
      #expect(try client.call(command).errorText == nil, "\(command)")
    }
  }

  @Test(
    "FLUSHDB empties Redis and every host's memory, voids leases, and keeps the generation",
    arguments: ["FLUSHDB", "FLUSHALL"])
  func flush(command: String) throws {
    let world = try World(options: [#""commands": { "allow": ["flushdb", "flushall"] }"#])
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let b = try world.sidecar()
    let (key, other) = (world.key("user:1"), world.key("user:2"))
    try redis.cli("SET", "plain", "v")
    try warm(key, "v", a, b)
    let client = try a.client()
    let token = try client.call("NEARSIDE", "LEASE", other).elements?.last?.text ?? ""
    let generation = try a.status()["generation"]
    #expect(try client.call(command) == .ok)
    #expect(try redis.cli("EXISTS", "plain", key) == "0")
    #expect(try a.get(key) == nil)
    try eventually("the other host's copy is gone") { try b.get(key) == nil }
    #expect(try client.call("NEARSIDE", "FILL", other, token, "old") == 0)
    // At once good for new values, also the next moment after: no state was lost.
    try a.store(key, "w")
    #expect(try b.get(key) == "w")
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try world.settle(a, b)
    try expectGone(key, world, a, b)
    #expect(try a.status()["generation"] == generation)
    #expect(try client.call(command, "NOSUCH").errorText == "ERR syntax error")
  }

  @Test("A flush in a transaction, and one of all databases from another, do the same")
  func flushElsewhere() throws {
    let world = try World(options: [#""commands": { "allow": ["flushall"] }"#])
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let key = world.key("user:1")
    let generation = try a.status()["generation"]
    let client = try a.client()
    try warm(key, "v", a)
    try client.call("MULTI")
    try client.call("SET", "plain", "v")
    try client.call("FLUSHALL")
    try client.call("GET", "plain")
    #expect(try client.call("EXEC") == .array([.ok, .ok, .null]))
    #expect(try a.get(key) == nil)
    try warm(key, "v", a)
    try client.call("SELECT", "3")
    try client.call("SET", "there", "v")
    #expect(try client.call("FLUSHALL") == .ok)
    #expect(try client.call("EXISTS", "there") == 0)
    #expect(try a.get(key) == nil)
    #expect(try redis.cli("EXISTS", key) == "0")
    #expect(try a.status()["generation"] == generation)
  }

  @Test("Nearside's own keys are not among the names")
  func names() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let client = try a.client()
    #expect(try client.call("DBSIZE") == 0)
    #expect(try client.call("RANDOMKEY") == nil)
    #expect(try client.call("KEYS", "*") == .array([]))
    #expect(try redis.client().call("DBSIZE").integerValue ?? 0 > 0)
    try client.call("SET", "plain", "v")
    #expect(try client.call("DBSIZE") == 1)
    #expect(try client.call("RANDOMKEY") == "plain")
    #expect(try client.call("KEYS", "*") == .array(["plain"]))
    #expect(try client.call("SCAN", "0", "COUNT", "1000") == .array(["0", .array(["plain"])]))
    // A governed key's name as a pattern is only a pattern.
    #expect(try client.call("KEYS", world.key("user:1")) == .array([]))
    // The scripts that answer this are there again after SCRIPT FLUSH.
    #expect(try client.call("SCRIPT", "FLUSH") == .ok)
    #expect(try client.call("DBSIZE") == 1)
  }

  @Test("CONFIG, MONITOR and SWAPDB do what they say, as far as the cache allows")
  func others() throws {
    let world = try World(options: [#""commands": { "allow": ["config", "monitor", "swapdb"] }"#])
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let client = try a.client()
    #expect(try client.call("CONFIG", "SET", "timeout", "77") == .ok)
    #expect(try client.call("CONFIG", "GET", "timeout") == .array(["timeout", "77"]))
    #expect(try redis.cli("CONFIG", "GET", "timeout").contains("77"))
    #expect(try client.call("SWAPDB", "0", "1").errorText?.contains("cannot be exchanged") == true)
    #expect(try client.call("SWAPDB", "1", "2") == .ok)
    let monitor = try a.client()
    #expect(try monitor.call("MONITOR") == .ok)
    try client.call("SET", "plain", "seen")
    try eventually("the command is told") {
      try "\(monitor.receive())".contains("\"seen\"")
    }
    let generation = try a.status()["generation"]
    #expect(try client.call("GET", "plain") == "seen")
    #expect(try a.status()["generation"] == generation)
  }
}
