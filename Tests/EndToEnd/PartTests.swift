import TestSupport
import Testing

@Suite("Near reads of hashes, sets, lists, sorted sets and parts of strings")
struct PartTests {
  private static let strings = [
    "STRLEN", "GETRANGE 0 2", "GETRANGE -3 -1", "GETRANGE 9 10", "SUBSTR 1 2", "TYPE", "EXISTS",
  ]
  private static let hashes = [
    "HGET a", "HGET none", "HMGET a none b", "HGETALL", "HEXISTS a", "HEXISTS none", "HLEN", "HKEYS", "HVALS",
    "HSTRLEN a", "HSTRLEN none", "TYPE", "EXISTS",
  ]
  private static let sets = [
    "SMEMBERS", "SISMEMBER x", "SISMEMBER none", "SMISMEMBER x none y", "SCARD", "TYPE", "EXISTS",
  ]
  private static let lists = [
    "LRANGE 0 -1", "LRANGE 1 1", "LRANGE 5 9", "LINDEX 0", "LINDEX -1", "LINDEX 9", "LLEN", "TYPE", "EXISTS",
  ]
  private static let sortedSets = [
    "ZRANGE 0 -1", "ZRANGE 0 -1 WITHSCORES", "ZRANGE 0 -1 REV", "ZRANGE (1 +inf BYSCORE LIMIT 0 1",
    "ZRANGE +inf 1 BYSCORE REV WITHSCORES", "ZRANGE [a (c BYLEX", "ZRANGE 7 9", "ZREVRANGE 0 1 WITHSCORES",
    "ZRANGEBYSCORE 1 2 WITHSCORES", "ZRANGEBYSCORE -inf +inf LIMIT 1 1", "ZREVRANGEBYSCORE 3 1",
    "ZRANGEBYLEX - +", "ZREVRANGEBYLEX + -", "ZSCORE a", "ZSCORE b", "ZSCORE none", "ZMSCORE a none c",
    "ZRANK b",
    "ZRANK none", "ZREVRANK b", "ZCARD", "ZCOUNT 1 2", "ZCOUNT 8 9", "ZLEXCOUNT - +", "TYPE", "EXISTS",
  ]

  /// The keys of all types and their commands.
  private func commands(_ world: World) -> [[String]] {
    [Self.strings, Self.hashes, Self.sets, Self.lists, Self.sortedSets].enumerated().flatMap {
      number, commands in
      commands.map { command in
        let words = command.split(separator: " ").map(String.init)
        return [words[0], world.key("user:\(number + 1)")] + words.dropFirst()
      }
    }
  }

  private func store(_ world: World) throws {
    let direct = try #require(world.redis).client()
    func key(_ id: Int) -> String { world.key("user:\(id)") }
    try direct.call("SET", key(1), "hello")
    try direct.call("HSET", key(2), "a", "1", "b", "two words", "c", "")
    try direct.call("SADD", key(3), "x", "y", "z")
    try direct.call("RPUSH", key(4), "first", "second")
    try direct.call("ZADD", key(5), "1", "a", "2.5", "b", "inf", "c")
  }

  /// The reply as it comes.
  private func bytes(_ client: RESPClient, _ command: [String]) throws -> [UInt8] {
    let end = Array("$7\r\n~~end~~\r\n".utf8)
    try client.send(raw: RESPClient.encode(command) + RESPClient.encode(["ECHO", "~~end~~"]))
    var bytes: [UInt8] = []
    while bytes.suffix(end.count) != end[...] { bytes += try client.receive(bytes: 1) }
    return bytes.dropLast(end.count)
  }

  @Test(
    "Each of the commands is answered from near byte for byte as by Redis, which is not asked",
    arguments: [2, 3])
  func all(version: Int) throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    try store(world)
    let (client, direct) = (try a.client(), try redis.client())
    for client in [client, direct] { try client.call("HELLO", "\(version)") }
    let commands = commands(world)
    let expected = try commands.map { try bytes(direct, $0) }
    for (command, expected) in zip(commands, expected) {
      try eventually("\(command) is near") {
        let hits = try a.count("near_hits")
        let reply = try bytes(client, command)
        #expect(reply == expected, "\(command): \(String(decoding: reply, as: UTF8.self))")
        return try a.count("near_hits") > hits
      }
    }
    // Scripts of the sidecar's own use these.
    let names = Set(commands.map { $0[0].lowercased() }).subtracting([
      "hget", "hmget", "hexists", "exists", "type",
    ])
    func calls() throws -> [String: Int] {
      Dictionary(uniqueKeysWithValues: try names.union(["pttl"]).map { ($0, try redis.calls($0)) })
    }
    let before = try calls()
    let hits = try a.count("near_hits")
    for round in 0..<6 {
      // A Redis that stands still is not asked for sure.
      if round == 5 { redis.pause() }
      defer { redis.resume() }
      for (command, expected) in zip(commands, expected) {
        let reply = try bytes(client, command)
        #expect(reply == expected, "\(command): \(String(decoding: reply, as: UTF8.self))")
      }
    }
    let after = try calls()
    for (name, count) in before { #expect(after[name] == count, "\(name)") }
    #expect(try a.count("near_hits") - hits == 6 * commands.count)

    // The value itself, once it is near, tells the same of a string.
    try eventually("the string is near") { try a.hasNear(world.key("user:1")) }
    for (command, expected) in zip(commands, expected).prefix(Self.strings.count) {
      #expect(try bytes(client, command) == expected, "\(command)")
    }
    #expect(try calls()["strlen"] == before["strlen"])
    #expect(try calls()["getrange"] == before["getrange"])
  }

  private static let tables = """
    { "products": { "keys": ["product:{id}", "category:{category_id}:*"], "tags": ["tenant:{tenant_id}"] } }
    """
  private static let caches =
    #""caches": { "report:{tenant_id}:{name}": { "tags": ["tenant:{tenant_id}"] } }"#

  private static let reads = [
    ["HGET", "a"], ["HGETALL"], ["HMGET", "a", "none"], ["HEXISTS", "none"], ["TYPE"],
  ]

  private func read(_ client: RESPClient, _ key: String) throws -> [Reply] {
    try Self.reads.map { try client.call([$0[0], key] + $0.dropFirst()) }
  }

  /// Has a hash near on these hosts, and then changes it in Redis behind their backs.
  private func change(_ world: World, _ key: String, _ sidecars: [Sidecar]) throws {
    let direct = try #require(world.redis).client()
    try direct.call("HSET", key, "a", "1", "b", "2")
    let expected = try read(direct, key)
    for sidecar in sidecars {
      let client = try sidecar.client()
      try eventually("\(key) is near") {
        let hits = try sidecar.count("near_hits")
        return try read(client, key) == expected && sidecar.count("near_hits") == hits + Self.reads.count
      }
    }
    try direct.call("HSET", key, "a", "changed", "none", "changed")
    for sidecar in sidecars { #expect(try read(sidecar.client(), key) == expected) }
  }

  /// That these hosts answer what a Redis without the key, or with it as it is, would.
  private func expectDropped(
    _ world: World, _ key: String, _ sidecars: [Sidecar], isGone: Bool,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let direct = try #require(world.redis).client()
    let expected = try read(direct, isGone ? "none" : key)
    for sidecar in sidecars {
      let client = try sidecar.client()
      try eventually("\(key) is dropped") { try read(client, key) == expected }
      #expect(try client.call("EXISTS", key) == (isGone ? 0 : 1), sourceLocation: sourceLocation)
    }
  }

  @Test("Whatever touches a key takes all its parts away, on each host that hears of it")
  func touches() throws {
    let world = try World(tables: Self.tables, schema: GroupTests.schema, options: [Self.caches])
    let (a, b) = (try world.sidecar(), try world.sidecar())
    let client = try a.client()
    var number = 0
    func touch(_ key: String, isGone: Bool, elsewhere: Bool = true, _ body: () throws -> Void) throws {
      try change(world, key, [a, b])
      try body()
      try expectDropped(world, key, elsewhere ? [a, b] : [a], isGone: isGone)
    }
    func product() -> String {
      number += 1
      return world.key("product:\(number)")
    }
    let row = product()
    try touch(row, isGone: true) { () throws in
      try world.psql("UPDATE products SET name = 'x' WHERE id = \(number)")
      try world.settle(a, b)
      // At once, with the position.
      #expect(try read(client, row).first == .null)
    }
    for write in [["HSET", "%", "z", "1"], ["HDEL", "%", "b"], ["HINCRBY", "%", "b", "1"]] {
      let key = product()
      try touch(key, isGone: false, elsewhere: false) { () throws in
        // It gives the right to write.
        #expect(try client.call("HGET", key, "missing") == nil)
        #expect(try client.call(write.map { $0 == "%" ? key : $0 }).integerValue != nil)
      }
    }
    for write in [["EXPIRE", "%", "1000"], ["PERSIST", "%"]] {
      let key = product()
      try #require(world.redis).client().call("HSET", key, "a", "1", "b", "2")
      if write[0] == "PERSIST" { try #require(world.redis).client().call("EXPIRE", key, "1000") }
      try touch(key, isGone: false) { () throws in
        #expect(try client.call(write.map { $0 == "%" ? key : $0 }) == 1)
      }
    }
    for write in [["DEL", "%"], ["UNLINK", "%"], ["NEARSIDE", "INVALIDATE", "KEY", "%"]] {
      let key = product()
      try touch(key, isGone: true) { () throws in
        #expect(try client.call(write.map { $0 == "%" ? key : $0 }) == 1)
      }
    }
    try touch(world.key("category:7:page"), isGone: true) { () throws in
      #expect(try client.call("NEARSIDE", "INVALIDATE", "PREFIX", world.key("category:7:")) == .ok)
    }
    try touch(world.key("report:t1:sales"), isGone: true) { () throws in
      #expect(try client.call("NEARSIDE", "INVALIDATE", "TAG", "tenant:t1") == .ok)
    }
    try touch(world.key("category:8:page"), isGone: true) { () throws in
      try world.psql("UPDATE products SET name = 'x' WHERE id = 38")
      try world.settle(a, b)
    }
    try touch(product(), isGone: true) { () throws in
      #expect(try client.call("NEARSIDE", "INVALIDATE", "ALL") == .ok)
    }
  }

  @Test("Parts end no later than their key in Redis, and no later than near.ttl")
  func expiry() throws {
    let world = try World(options: [#""caches": { "product:{id}": { "near": { "ttl": "1s" } } }"#])
    let a = try world.sidecar()
    let (client, direct) = (try a.client(), try #require(world.redis).client())
    let (short, near) = (world.key("user:1"), world.key("product:1"))
    let clock = ContinuousClock()
    try direct.call("SADD", near, "x")
    try direct.call("SADD", short, "x")
    try direct.call("PEXPIRE", short, "4000")
    let end = clock.now.advanced(by: .milliseconds(4000))
    for key in [short, near] { for _ in 0..<2 { #expect(try client.call("SISMEMBER", key, "x") == 1) } }
    try direct.call("SREM", near, "x")
    try direct.call("SADD", near, "y")
    try eventually("near.ttl is over") { try client.call("SISMEMBER", near, "x") == 0 }
    while clock.now < end { sleep(.milliseconds(10)) }
    #expect(try client.call("SISMEMBER", short, "x") == 0)
    #expect(try client.call("EXISTS", short) == 0)
  }

  @Test("Without Redis parts are served within the bound, and everything else is an error")
  func withoutRedis() throws {
    let world = try World(options: [#""staleness": { "bound": "4s" }"#])
    let a = try world.sidecar()
    let redis = try #require(world.redis)
    try store(world)
    let client = try a.client()
    let commands = commands(world)
    var expected: [Reply] = []
    try eventually("all is near") {
      let hits = try a.count("near_hits")
      expected = try commands.map { try client.call($0) }
      return try a.count("near_hits") == hits + commands.count
    }
    redis.kill()
    #expect(try client.pipeline(commands) == expected)
    #expect(try client.call("HGET", world.key("user:2"), "new").errorText?.contains("unreachable") == true)
    #expect(try client.pipeline(commands) == expected)
    try eventually("the bound is over", within: .seconds(20)) {
      try client.pipeline(commands).allSatisfy { $0.errorText?.contains("unreachable") == true }
    }
  }

  @Test("A hash loaded from PostgreSQL is near part by part, until its row changes")
  func loaded() throws {
    let world = try World(options: [
      ReadThroughTests.caches(
        #""user:{id}": { "load": { "sql": "SELECT name, email FROM users WHERE id = :id", "as": "hash" } }"#)
    ])
    let a = try world.sidecar()
    let redis = try #require(world.redis)
    let (client, key) = (try a.client(), world.key("user:7"))
    try eventually("its parts are near") {
      let hits = try a.count("near_hits")
      #expect(try client.call("HGET", key, "name") == "User 7")
      #expect(try client.call("HMGET", key, "name", "email") == .array(["User 7", "user7@example.com"]))
      return try a.count("near_hits") == hits + 2
    }
    let loads = try a.count("loads")
    let before = try redis.calls("hget")
    for _ in 0..<50 { #expect(try client.call("HGET", key, "name") == "User 7") }
    #expect(try redis.calls("hget") == before)
    try world.psql("UPDATE users SET name = 'Ada' WHERE id = 7")
    try world.settle(a)
    #expect(try client.call("HGET", key, "name") == "Ada")
    #expect(try a.count("loads") == loads + 1)
  }
}
