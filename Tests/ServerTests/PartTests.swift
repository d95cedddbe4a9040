import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Server

/// Replies about parts of a value that are kept near. `EndToEnd.PartTests` has all commands.
@Suite("Parts in the near cache")
struct PartTests {
  /// How often near answered while `body` ran.
  private func hits(_ sidecar: RelaySidecar, _ body: () throws -> Void) throws -> Int {
    let before = try sidecar.count("near_hits")
    try body()
    return try sidecar.count("near_hits") - before
  }

  private func expectHits(
    _ sidecar: RelaySidecar, _ count: Int, sourceLocation: SourceLocation = #_sourceLocation,
    _ body: () throws -> Void
  ) throws {
    let hits = try hits(sidecar, body)
    #expect(hits == count, "\(hits) near hits", sourceLocation: sourceLocation)
  }

  /// One command, its reply and how many near hits it is.
  private func expect(
    _ sidecar: RelaySidecar, _ client: RESPClient, _ command: [String], _ reply: Reply, near: Int,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let before = try sidecar.count("near_hits")
    #expect(try client.call(command) == reply, sourceLocation: sourceLocation)
    let hits = try sidecar.count("near_hits") - before
    #expect(hits == near, "\(hits) near hits", sourceLocation: sourceLocation)
  }

  /// A sidecar, and a client of it and one of its Redis, where `user:1` is a hash and `user:2` a string.
  private func start() throws -> (RelaySidecar, RESPClient, RESPClient) {
    let sidecar = try RelaySidecar()
    let direct = try sidecar.redis.client()
    try direct.call("HSET", "user:1", "a", "1", "b", "2")
    try direct.call("SET", "user:2", "hello")
    return (sidecar, try sidecar.client(), direct)
  }

  @Test(
    "Only the second of two like commands is answered from near, and what differs in bytes is another command"
  )
  func names() throws {
    let (sidecar, client, _) = try start()
    let commands: [[String]] = [
      ["HMGET", "user:1", "a", "bc"], ["HMGET", "user:1", "ab", "c"], ["HMGET", "user:1", "abc"],
      ["HMGET", "user:1", "abc", ""], ["HMGET", "user:1", "", "abc"], ["HGET", "user:1", "a"],
      ["HGET", "user:1", "A"], ["HEXISTS", "user:1", "a"], ["HGETALL", "user:1"], ["HLEN", "user:1"],
    ]
    var first: [Reply] = []
    try expectHits(sidecar, 0) { first = try commands.map { try client.call($0) } }
    var second: [Reply] = []
    try expectHits(sidecar, commands.count) { second = try client.pipeline(commands) }
    #expect(first == second)
    try expect(sidecar, client, ["hGet", "user:1", "a"], "1", near: 1)
  }

  @Test("Each protocol version has replies of its own")
  func protocols() throws {
    let (sidecar, client, direct) = try start()
    let other = try sidecar.client()
    for client in [other, direct] { try client.call("HELLO", "3") }
    for _ in 0..<2 {
      #expect(try client.call("HGETALL", "user:1") == .array(["a", "1", "b", "2"]))
      #expect(try other.call("HGETALL", "user:1") == direct.call("HGETALL", "user:1"))
      #expect(try client.call("HGET", "user:1", "none") == .null)
      try other.send("HGET", "user:1", "none")
      #expect(try other.receive(bytes: 3) == Array("_\r\n".utf8))
    }
    try expectHits(sidecar, 1) { try client.call("HGETALL", "user:1") }
    try expectHits(sidecar, 1) { try other.call("HGETALL", "user:1") }
  }

  @Test("A string that is near tells its length, its type and every range as Redis does")
  func strings() throws {
    let (sidecar, client, direct) = try start()
    #expect(try client.call("GET", "user:2") == "hello")
    try direct.call("SET", "page:1", "")
    #expect(try client.call("GET", "page:1") == "")
    let places = [Int.min, -7, -6, -5, -4, -1, 0, 1, 4, 5, 6, Int.max].map(String.init)
    var commands: [[String]] = []
    for key in ["user:2", "page:1"] {
      commands += [["STRLEN", key], ["TYPE", key], ["EXISTS", key], ["SUBSTR", key, "1", "2"]]
      for first in places { for last in places { commands.append(["GETRANGE", key, first, last]) } }
    }
    let expected = try direct.pipeline(commands)
    var replies: [Reply] = []
    try expectHits(sidecar, commands.count) { replies = try client.pipeline(commands) }
    #expect(replies == expected)
    // What is wrong with a command Redis says.
    for range in [["x", "1"], ["0", ""], ["0", "9223372036854775808"], ["01", "2"]] {
      let command = ["GETRANGE", "user:2"] + range
      #expect(try client.call(command) == direct.call(command))
    }
    try expect(sidecar, client, ["HGET", "user:2", "a"], try direct.call("HGET", "user:2", "a"), near: 0)
  }

  @Test("GET, MGET and NEARSIDE LEASE take neither an anchor nor a part for a value")
  func noValue() throws {
    let (sidecar, client, direct) = try start()
    for _ in 0..<2 { #expect(try client.call("HGET", "user:1", "a") == "1") }
    let hits = try hits(sidecar) { () throws in
      for _ in 0..<2 {
        #expect(try client.call("GET", "user:1") == direct.call("GET", "user:1"))
        #expect(try client.call("MGET", "user:1") == .array([nil]))
        #expect(try client.call("NEARSIDE", "LEASE", "user:1").errorText?.hasPrefix("WRONGTYPE") == true)
        let pipeline = try client.pipeline([["GET", "user:1"], ["PING"], ["GET", "user:2"]])
        #expect(pipeline.last == "hello")
      }
    }
    #expect(hits == 1)
    // An error is not kept, and does no harm to what is.
    try expect(sidecar, client, ["HGET", "user:1", "a"], "1", near: 1)
  }

  @Test("A key of which a part or its existence is near exists")
  func exists() throws {
    let (sidecar, client, direct) = try start()
    #expect(try client.call("EXISTS", "user:1", "user:2", "user:3", "plain", "user:1") == 3)
    try direct.call("SET", "plain", "1")
    let near = try hits(sidecar) { () throws in
      #expect(try client.call("EXISTS", "user:1", "user:2", "user:3", "plain", "user:1") == 4)
    }
    #expect(near == 3)
    #expect(try client.call("NEARSIDE", "WHY", "user:1").text?.contains("near:1") == true)
    try client.call("DEL", "user:1")
    #expect(try client.call("EXISTS", "user:1", "user:2", "user:3", "plain", "user:1") == 2)
    #expect(try client.call("NEARSIDE", "WHY", "user:1").text?.contains("near:0") == true)
  }

  @Test("What is said of a key that does not exist is not kept")
  func absent() throws {
    let (sidecar, client, direct) = try start()
    let commands = [
      ["HGET", "user:3", "a"], ["HGETALL", "user:3"], ["SMEMBERS", "user:3"], ["STRLEN", "user:3"],
      ["TYPE", "user:3"], ["LRANGE", "user:3", "0", "-1"], ["EXISTS", "user:3"],
      ["HMGET", "user:3", "a", "b"],
    ]
    try expectHits(sidecar, 0) { for _ in 0..<2 { for command in commands { try client.call(command) } } }
    try direct.call("HSET", "user:3", "a", "1")
    #expect(try client.call("HGET", "user:3", "a") == "1")
    #expect(try client.call("TYPE", "user:3") == .simple("hash"))
  }

  @Test("A missing field of a key that exists is kept, and whoever reads that may store it")
  func missingField() throws {
    let (sidecar, client, direct) = try start()
    for near in 0...1 { try expect(sidecar, client, ["HGET", "user:1", "c"], nil, near: near) }
    #expect(try client.call("HSET", "user:1", "c", "3") == 1)
    #expect(try client.call("HGET", "user:1", "c") == "3")
    #expect(try client.call("HGETALL", "user:1") == direct.call("HGETALL", "user:1"))
  }

  /// The second reader's miss is younger than the change; the first one's value is not.
  @Test(
    "Who was told from near that there is nothing does not store what the row was before a later miss",
    arguments: [["HGET", "user:1", "c"], ["STRLEN", "user:1"], ["GETRANGE", "user:1", "5", "9"]])
  func lateWriter(_ read: [String]) throws {
    let sidecar = try RelaySidecar(window: 2_000_000_000)
    let (slow, quick) = (try sidecar.client(), try sidecar.client())
    let direct = try sidecar.redis.client()
    let isHash = read[0] == "HGET"
    if isHash { try direct.call("HSET", "user:1", "a", "1") } else { try direct.call("SET", "user:1", "") }
    if !isHash { try slow.call("GET", "user:1") }
    try slow.call(read)
    let clock = ContinuousClock()
    let began = clock.now
    try eventually("what Redis has told of is out of the window") { clock.now - began > .milliseconds(2_100) }
    try expectHits(sidecar, 1) { try slow.call(read) }
    try sidecar.change("user:1")
    #expect(try quick.call("GETBIT", "user:1", "3") == 0)
    let reply = try slow.call(isHash ? ["HSET", "user:1", "c", "old"] : ["APPEND", "user:1", "old"])
    #expect(reply.errorText?.hasPrefix("TRYAGAIN") == true, "\(reply)")
    #expect(try direct.call("EXISTS", "user:1") == 0)
  }

  @Test("Nothing that was read before a write of this host is kept near after it")
  func ownWrite() throws {
    let (sidecar, client, direct) = try start()
    let writer = try sidecar.client()
    for _ in 0..<2 { try client.call("HGET", "user:1", "b") }
    let misses = try sidecar.count("near_misses")
    sidecar.redis.pause()
    try client.send("HGET", "user:1", "a")
    try eventually("it is on its way") { try sidecar.count("near_misses") > misses }
    // A miss of before, or the bars, must not keep the write out: a removal needs no lease.
    let removals = try sidecar.count("removals")
    try writer.send("DEL", "user:1")
    try eventually("the removal is on its way") { try sidecar.count("removals") > removals }
    sidecar.redis.resume()
    #expect(try client.receive() == "1")
    #expect(try writer.receive() == 1)
    try direct.call("HSET", "user:1", "a", "new", "b", "new")
    #expect(try client.call("HGET", "user:1", "a") == "new")
    #expect(try client.call("HGET", "user:1", "b") == "new")
  }

  @Test("A part is not kept longer than Redis keeps its key, nor in the place of another time to live")
  func expiry() throws {
    let (sidecar, client, direct) = try start()
    try direct.call("PEXPIRE", "user:1", "60000")
    for _ in 0..<2 { try client.call("HGET", "user:1", "a") }
    try direct.call("PEXPIRE", "user:1", "400")
    // Read under the shorter time; the older part does not outlive it either.
    for _ in 0..<2 { #expect(try client.call("HGET", "user:1", "b") == "2") }
    let near = try hits(sidecar) { () throws in
      for field in ["a", "b"] { #expect(try client.call("HGET", "user:1", field) != nil) }
    }
    #expect(near == 2)
    try eventually("the key has ended") { try direct.call("EXISTS", "user:1") == 0 }
    for field in ["a", "b"] { #expect(try client.call("HGET", "user:1", field) == nil) }
    #expect(try client.call("EXISTS", "user:1") == 0)
  }

  @Test("Times to live around a command tell whether its key was there all the while")
  func times() {
    func was(_ before: Int?, _ after: Int?) -> Bool { KeyTimes(before: before, after: after).wasThere }
    #expect(was(-1, -1) && was(500, 500) && was(500, 499) && was(1, 0))
    #expect(!was(-2, -2) && !was(-2, -1) && !was(-2, 100) && !was(-1, -2) && !was(100, -2))
    #expect(!was(1, 60_000) && !was(1, -1) && !was(-1, 100) && !was(nil, 1) && !was(1, nil))
    #expect(KeyTimes(before: nil, after: -1).isThere && KeyTimes(before: -2, after: 5).isThere)
    #expect(!KeyTimes(before: 5, after: -2).isThere && !KeyTimes(before: 5, after: nil).isThere)
  }

  @Test("Watching clients and transactions are answered by Redis")
  func sessions() throws {
    let (sidecar, client, direct) = try start()
    for _ in 0..<2 { try client.call("HGET", "user:1", "a") }
    try direct.call("HSET", "user:1", "a", "new")
    #expect(try client.call("HGET", "user:1", "a") == "1")
    let near = try hits(sidecar) { () throws in
      #expect(try client.call("MULTI") == .ok)
      for command in [["HGET", "user:1", "a"], ["EXISTS", "user:1"], ["STRLEN", "user:2"]] {
        #expect(try client.call(command) == .simple("QUEUED"))
      }
      #expect(try client.call("EXEC") == .array(["new", 1, 5]))
    }
    #expect(near == 0)
    let watching = try sidecar.client()
    #expect(try watching.call("WATCH", "user:1") == .ok)
    #expect(try watching.call("HGET", "user:1", "b") == "2")
    try direct.call("HSET", "user:1", "b", "new")
    try expect(sidecar, watching, ["HGET", "user:1", "b"], "new", near: 0)
  }

  @Test("With evidence beyond the bound nothing near is shown")
  func stale() throws {
    let sidecar = try RelaySidecar(bound: 500_000_000)
    let client = try sidecar.client()
    try sidecar.redis.client().call("HSET", "user:1", "a", "1")
    try eventually("it is near") {
      for _ in 0..<2 { try sidecar.beat() }
      try client.call("HGET", "user:1", "a")
      return try hits(sidecar) { try client.call("HGET", "user:1", "a") } == 1
    }
    try sidecar.waitUntilOld(500)
    #expect(try client.call("HGET", "user:1", "a") == nil)
    #expect(try client.call("EXISTS", "user:1") == 0)
    for _ in 0..<3 { try sidecar.beat() }
    try expect(sidecar, client, ["HGET", "user:1", "a"], "1", near: 1)
  }

  @Test("Commands of any length and replies of any size are answered, and kept if the near cache has room")
  func sizes() throws {
    let (sidecar, client, direct) = try start()
    let long = String(repeating: "x", count: 66_000)
    let short = String(repeating: "y", count: 60_000)
    try direct.call(
      "HSET", "user:1", long, "long", short, "short", "large", String(repeating: "z", count: 1 << 20))
    for (field, near) in [(long, 0), (short, 1), ("large", 0)] {
      let expected = try direct.call("HGET", "user:1", field)
      #expect(try client.call("HGET", "user:1", field) == expected)
      try expect(sidecar, client, ["HGET", "user:1", field], expected, near: near)
    }
    try expect(sidecar, client, ["HGET", "user:1", short], "short", near: 1)
  }

  /// The reply's state says that there is an entry which this host has not heard: it may be about this key.
  @Test("After a reply that knew more of the journal older parts wait until this host has heard as much")
  func newerReply() throws {
    let (sidecar, client, direct) = try start()
    for _ in 0..<2 { try client.call("HGET", "user:1", "a") }
    try expectHits(sidecar, 1) { try client.call("HGET", "user:1", "a") }
    try direct.call("HSET", "nearside:{}:m", "jl", "5-0")
    #expect(try client.call("HGET", "user:1", "b") == "2")
    try direct.call("HSET", "user:1", "a", "new", "b", "new")
    #expect(try client.call("HGET", "user:1", "a") == "new")
    #expect(try client.call("HGET", "user:1", "b") == "new")
    let entry = JournalEntry(
      id: JournalID(milliseconds: 5, sequence: 0), previous: .zero, position: LSN(sidecar.position),
      keys: PackedKeys())
    sidecar.mailbox.hear(.entries([entry], generation: Generation(0xa1)))
    try eventually("its parts are near again") {
      try hits(sidecar) { try client.call("HGET", "user:1", "a") } == 1
    }
    try expect(sidecar, client, ["HGET", "user:1", "b"], "new", near: 1)
  }

  @Test(
    "A value takes the place of the parts of before, and parts that of a value, each time the type changes")
  func types() throws {
    let (sidecar, client, direct) = try start()
    var last: UInt64 = 0
    /// As the feed tells of a removal.
    func remove() throws {
      let (previous, id) = (
        JournalID(milliseconds: last, sequence: 0), JournalID(milliseconds: last + 1, sequence: 0)
      )
      last += 1
      try direct.call("DEL", "user:1")
      try direct.call("HSET", "nearside:{}:m", "jl", "\(id)")
      var keys = PackedKeys()
      Array("user:1".utf8).withUnsafeBytes { keys.append($0) }
      let entry = JournalEntry(id: id, previous: previous, position: LSN(sidecar.position), keys: keys)
      sidecar.mailbox.hear(.entries([entry], generation: Generation(0xa1)))
      try sidecar.poll()
    }
    for _ in 0..<3 {
      for near in 0...1 { try expect(sidecar, client, ["HGET", "user:1", "a"], "1", near: near) }
      try remove()
      try direct.call("SET", "user:1", "value")
      for near in 0...1 { try expect(sidecar, client, ["GETRANGE", "user:1", "0", "0"], "v", near: near) }
      for near in 0...1 { try expect(sidecar, client, ["GET", "user:1"], "value", near: near) }
      try expect(sidecar, client, ["TYPE", "user:1"], .simple("string"), near: 1)
      try expect(sidecar, client, ["GETRANGE", "user:1", "0", "0"], "v", near: 1)
      try remove()
      try direct.call("HSET", "user:1", "a", "1")
      for near in 0...1 { try expect(sidecar, client, ["TYPE", "user:1"], .simple("hash"), near: near) }
    }
  }

  @Test("What chance decides, or a cursor, is never kept")
  func neverKept() throws {
    let (sidecar, client, direct) = try start()
    try direct.call("SADD", "page:1", "x")
    try direct.call("ZADD", "page:2", "1", "x")
    let commands = [
      ["HSCAN", "user:1", "0"], ["SSCAN", "page:1", "0"], ["ZSCAN", "page:2", "0"], ["HRANDFIELD", "user:1"],
      ["SRANDMEMBER", "page:1"], ["ZRANDMEMBER", "page:2"], ["TTL", "user:1"], ["PTTL", "user:1"],
      ["SORT_RO", "page:1", "ALPHA"], ["SINTER", "page:1", "page:1"], ["BITCOUNT", "user:2"],
    ]
    try expectHits(sidecar, 0) { for _ in 0..<3 { for command in commands { try client.call(command) } } }
    #expect(try client.call("SORT_RO", "page:1", "ALPHA") == .array(["x"]))
  }

  // MARK: With loads

  @Test("Of a loaded hash parts are near from the second read on, and then Redis is not needed")
  func loaded() throws {
    let world = try LoadTests.World(shape: .hash, ttl: 60_000_000_000, timeout: 300_000_000)
    let client = try world.sidecar.client()
    try client.send("HGET", "user:7", "name")
    world.runner.answer(
      try world.runner.next(), SQLRows(columns: ["name"], height: 1, values: [Array("Ada".utf8)]))
    #expect(try client.receive() == "Ada")
    try eventually("it is stored") { try world.sidecar.redis.cli("EXISTS", "user:7") == "1" }
    for _ in 0..<2 {
      #expect(try client.call("HGET", "user:7", "name") == "Ada")
      #expect(try client.call("HGET", "user:7", "none") == nil)
    }
    #expect(world.runner.count == 1)
    world.sidecar.redis.pause()
    let near = try hits(world.sidecar) { () throws in
      #expect(try client.call("HGET", "user:7", "name") == "Ada")
      #expect(try client.call("HGET", "user:7", "none") == nil)
      #expect(try client.call("EXISTS", "user:7") == 1)
    }
    #expect(near == 3)
    world.sidecar.redis.resume()
  }

  @Test("With failSafe parts are shown while PostgreSQL is away")
  func failSafe() throws {
    let world = try LoadTests.World(shape: .hash, bound: 2_000_000_000, failSafe: 3_600_000_000_000)
    let client = try world.sidecar.client()
    try world.sidecar.redis.cli("HSET", "user:7", "name", "old")
    try eventually("it is near") {
      for _ in 0..<2 { try world.sidecar.beat() }
      try client.call("HGET", "user:7", "name")
      return try hits(world.sidecar) { try client.call("HGET", "user:7", "name") } == 1
    }
    try world.sidecar.waitUntilOld(2_100)
    try client.send("HGET", "user:7", "name")
    let failure = SQLFailure(kind: .unreachable, sqlState: "08006", sentence: "It is gone.")
    world.runner.fail(try world.runner.next(), failure)
    #expect(try client.receive() == "old")
    #expect(try world.sidecar.count("served_fail_safe") == 1)
    try client.send("HGET", "user:7", "other")
    world.runner.fail(try world.runner.next(), failure)
    #expect(try client.receive().errorText?.contains("SQLSTATE 08") == true)
  }
}
