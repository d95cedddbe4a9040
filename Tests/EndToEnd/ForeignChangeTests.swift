import TestSupport
import Testing

@Suite("Changes made in Redis behind Nearside's back")
struct ForeignChangeTests {
  private func world(_ tracking: Bool = true, _ arguments: [String] = []) throws -> World {
    try World(
      options: tracking ? [#""redis": { "tracking": true }"#] : [], redisArguments: arguments)
  }

  private func sidecar(_ world: World) throws -> Sidecar {
    let a = try world.sidecar()
    try eventually("Redis tells of changes") { try a.status()["redis_tracking"] == "on" }
    return a
  }

  @Test("A foreign SET, DEL, FLUSHDB or expiry takes the near copy away")
  func foreign() throws {
    let world = try world()
    let redis = try #require(world.redis)
    let a = try sidecar(world)
    let (key, other) = (world.key("user:1"), world.key("user:2"))
    func becomes(_ value: Reply, _ what: String) throws {
      try eventually(what) {
        try a.get(key)
      } until: {
        $0 == value
      }
    }
    try warm(key, "one", a)
    try warm(other, "two", a)
    try redis.cli("SET", key, "foreign")
    try becomes("foreign", "the foreign value shows")
    try eventually("it is near") { try a.hasNear(key) }
    try redis.cli("APPEND", key, "!")
    try becomes("foreign!", "the longer value shows")
    try redis.cli("DEL", key)
    try becomes(nil, "nothing shows")
    // No fence is raised by it: the next fill is taken at once.
    try a.store(key, "again")
    try eventually("it is near") { try a.hasNear(key) }
    try redis.cli("PEXPIRE", key, "40")
    try becomes(nil, "its end shows")
    #expect(try a.hasNear(other))
    #expect(try a.count("redis_tracking_evicted") >= 3)
    let drops = try a.count("near_drops")
    try redis.cli("-n", "5", "FLUSHDB")
    try eventually("everything has left") { try a.count("near_drops") > drops }
    #expect(try a.get(other) == "two")
  }

  @Test("Without the option the near copy stays: what tells of changes is PostgreSQL's log")
  func without() throws {
    let world = try world(false)
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let key = world.key("user:1")
    try warm(key, "one", a)
    try redis.cli("SET", key, "foreign")
    #expect(try a.get(key) == "one")
    #expect(try a.status()["redis_tracking"] == nil)
  }

  @Test("What was near while the connection was lost is not trusted")
  func lost() throws {
    let world = try world()
    let redis = try #require(world.redis)
    let a = try sidecar(world)
    let key = world.key("user:1")
    try warm(key, "one", a)
    let line = try redis.cli("CLIENT", "LIST").split(whereSeparator: \.isNewline)
      .first { $0.contains(" flags=tB") }
    let id = try #require(line?.split(separator: " ").first?.dropFirst(3))
    let client = try redis.client()
    // In one piece, so that nobody can come back in between.
    _ = try client.pipeline([["CLIENT", "KILL", "ID", String(id)], ["SET", key, "foreign"]])
    try eventually("the foreign value shows") {
      try a.get(key)
    } until: {
      $0 == "foreign"
    }
    try eventually("it is watched again") { try a.status()["redis_tracking"] == "on" }
    try eventually("it is near") { try a.hasNear(key) }
    try redis.cli("SET", key, "more")
    try eventually("the foreign value shows") {
      try a.get(key)
    } until: {
      $0 == "more"
    }
  }

  @Test("A write of this host costs its near copy once, and not for ever")
  func echoes() throws {
    let world = try world()
    let a = try sidecar(world)
    let client = try a.client()
    var misses = 0
    for number in 1...20 {
      let key = world.key("user:\(number)")
      try a.store(key, "value")
      let before = try a.count("near_misses")
      for _ in 0..<20 { #expect(try client.call("GET", key) == "value") }
      misses += try a.count("near_misses") - before
    }
    // The message may come between two of the reads: then the second misses, and never a third.
    #expect(misses <= 40)
    for number in 1...20 { #expect(try a.hasNear(world.key("user:\(number)"))) }
  }

  @Test(
    "Where Redis does not allow it, `check`, the log and NEARSIDE STATUS say so, and everything else works")
  func refused() throws {
    let world = try world()
    let redis = try #require(world.redis)
    try redis.cli("ACL", "SETUSER", "default", "-client|tracking")
    let check = try world.command("check")
    #expect(check.exit == .code(0))
    #expect(check.errors.contains("does not permit CLIENT TRACKING (NOPERM"))
    let a = try world.sidecar()
    try eventually("STATUS says so") {
      try a.status()["redis_tracking"]
    } until: {
      $0?.hasPrefix("off (Redis refused the connection: NOPERM") == true
    }
    #expect(a.log.contains("does not permit CLIENT TRACKING"))
    let key = world.key("user:1")
    try warm(key, "one", a)
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try world.settle(a)
    #expect(try a.get(key) == nil)
    try redis.cli("ACL", "SETUSER", "default", "+client|tracking")
    try eventually("it is allowed now") { try a.status()["redis_tracking"] == "on" }
  }
}
