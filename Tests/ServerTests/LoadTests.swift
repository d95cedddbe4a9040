import Configuration
import Invalidation
import Synchronization
import TestSupport
import Testing

@testable import Server

@Suite("Read-through in front of a real Redis")
struct LoadTests {
  final class World {
    let sidecar: RelaySidecar
    let runner: ScriptedRunner

    init(
      shape: LoadSettings.Shape = .string, ttl: UInt64? = nil, negative: UInt64? = nil,
      bound: UInt64 = 3_600_000_000_000, near: Bool = true, timeout: UInt64 = 5_000_000_000,
      lock: UInt64? = nil, limit: UInt64 = 2_000_000_000, many: String? = nil,
      failSafe: UInt64? = nil
    ) throws {
      let place = SourcePlace(line: 1, column: 1, length: 1)
      let load = LoadSettings(
        sql: try SQLTemplate.parse("SELECT name FROM users WHERE id = :id", place: place), shape: shape,
        many: try many.map { try SQLTemplate.parse($0, place: place) }, timeout: limit)
      let rule = CacheRule(
        template: try KeyTemplate.parse("user:{id}", place: place),
        near: near ? CacheRule.NearRule(ttl: nil) : nil,
        plainSet: PlainSetSettings(mode: .window, window: 10_000_000_000), ttl: ttl, negative: negative,
        load: load, stampede: StampedeSettings(lock: lock), failSafe: failSafe)
      let made = Mutex<ScriptedRunner?>(nil)
      sidecar = try RelaySidecar(
        bound: bound, timeout: timeout, caches: [rule],
        sql: { mailbox in
          let runner = ScriptedRunner(mailbox)
          made.withLock { $0 = runner }
          return runner
        })
      runner = try #require(made.withLock { $0 })
    }

    func waiting(_ count: Int) throws {
      try eventually("\(count) reads wait") { try sidecar.count("load_waits") == count }
    }
  }

  @Test("A GET that misses is answered with what was loaded, which is then in Redis and near")
  func get() throws {
    let world = try World(ttl: 60_000_000_000)
    let client = try world.sidecar.client()
    try client.send("GET", "user:7")
    let job = try world.runner.next()
    #expect(job.parameters == [Array("7".utf8)])
    world.runner.answer(job, "Ada")
    #expect(try client.receive() == "Ada")
    #expect(try world.sidecar.redis.cli("GET", "user:7") == "Ada")
    #expect(Int(try world.sidecar.redis.cli("PTTL", "user:7")).map { 1...60_000 ~= $0 } == true)
    let hits = try world.sidecar.count("near_hits")
    #expect(try client.call("GET", "user:7") == "Ada")
    #expect(try world.sidecar.count("near_hits") == hits + 1)
    #expect(world.runner.count == 1)
  }

  @Test("A thousand clients that miss one key cause one load")
  func coalesced() throws {
    let world = try World()
    let clients = try (0..<1000).map { _ in try world.sidecar.client() }
    for client in clients { try client.send("GET", "user:7") }
    try world.waiting(1000)
    world.runner.answer(try world.runner.next(), "Ada")
    for client in clients { #expect(try client.receive() == "Ada") }
    #expect(world.runner.count == 1)
  }

  @Test("A change committed during the load is not hidden by what it found: nothing of before is stored")
  func changedMeanwhile() throws {
    let world = try World()
    let (early, late) = (try world.sidecar.client(), try world.sidecar.client())
    try early.send("GET", "user:7")
    let first = try world.runner.next()
    try world.sidecar.change("user:7")
    // It may know of the change: what the statement found is not for it.
    try late.send("GET", "user:7")
    try world.waiting(2)
    world.runner.answer(first, "old")
    #expect(try early.receive() == "old")
    let second = try world.runner.next()
    #expect(try world.sidecar.redis.cli("EXISTS", "user:7") == "0")
    world.runner.answer(second, "new")
    #expect(try late.receive() == "new")
    #expect(try world.sidecar.redis.cli("GET", "user:7") == "new")
    #expect(try early.call("GET", "user:7") == "new")
    #expect(world.runner.count == 2)
  }

  @Test("Replies keep the order of the commands")
  func order() throws {
    let world = try World()
    let client = try world.sidecar.client()
    try client.send(
      raw: RESPClient.encode(["GET", "user:7"]) + RESPClient.encode(["PING"])
        + RESPClient.encode(["GET", "user:8"]) + RESPClient.encode(["GET", "plain"]))
    let (seven, eight) = (try world.runner.next(), try world.runner.next())
    world.runner.answer(eight, "eight")
    world.runner.answer(seven, "seven")
    #expect(try client.receive() == "seven")
    #expect(try client.receive() == .simple("PONG"))
    #expect(try client.receive() == "eight")
    #expect(try client.receive() == nil)
  }

  @Test("MGET loads what it misses, and shows the rest as it is")
  func mget() throws {
    let world = try World()
    let client = try world.sidecar.client()
    try client.call("SET", "plain", "p")
    try client.send("MGET", "user:1", "plain", "user:2", "page:1", "user:1")
    let (one, two) = (try world.runner.next(), try world.runner.next())
    world.runner.answer(one, "one")
    world.runner.answer(two, nil)
    #expect(try client.receive() == .array(["one", "p", nil, nil, "one"]))
    #expect(world.runner.count == 2)
  }

  @Test("EXISTS, STRLEN, TYPE, TTL, GETRANGE and NEARSIDE LEASE load too")
  func others() throws {
    let world = try World(ttl: 60_000_000_000)
    let client = try world.sidecar.client()
    let commands: [(words: [String], reply: Reply)] = [
      (["EXISTS"], 1), (["STRLEN"], 3), (["TYPE"], .simple("string")), (["TTL"], 60),
      (["NEARSIDE", "LEASE"], .array(["Ada", nil])),
    ]
    for (number, command) in commands.enumerated() {
      try client.send(command.words + ["user:\(number)"])
      world.runner.answer(try world.runner.next(), "Ada")
      let reply = try client.receive()
      #expect(reply == command.reply, "\(command.words)")
      try eventually("it is stored") { try world.sidecar.redis.cli("GET", "user:\(number)") == "Ada" }
    }
    try client.send("GETRANGE", "user:99", "0", "1")
    world.runner.answer(try world.runner.next(), "Ada")
    #expect(try client.receive() == "Ad")
  }

  @Test("A hash, a list and a set are stored as such")
  func shapes() throws {
    let rows = SQLRows(columns: ["name", "mail"], height: 1, values: [Array("Ada".utf8), nil])
    let hash = try World(shape: .hash, ttl: 60_000_000_000)
    var client = try hash.sidecar.client()
    try client.send("HGETALL", "user:7")
    hash.runner.answer(try hash.runner.next(), rows)
    #expect(try client.receive() == .array(["name", "Ada"]))
    #expect(try client.call("HGET", "user:7", "name") == "Ada")
    #expect(try hash.sidecar.redis.cli("TTL", "user:7") != "-1")
    // Redis itself refuses a command of another type, once the value is there.
    try client.send("GET", "user:8")
    hash.runner.answer(try hash.runner.next(), rows)
    #expect(try client.receive().errorText?.hasPrefix("WRONGTYPE") == true)

    let several = SQLRows(columns: ["n"], height: 3, values: ["b", "a", "b"].map { Array($0.utf8) })
    let list = try World(shape: .list)
    client = try list.sidecar.client()
    try client.send("LRANGE", "user:7", "0", "-1")
    list.runner.answer(try list.runner.next(), several)
    #expect(try client.receive() == .array(["b", "a", "b"]))
    #expect(try client.call("LRANGE", "user:7", "1", "-1") == .array(["a", "b"]))

    let set = try World(shape: .set)
    client = try set.sidecar.client()
    try client.send("SCARD", "user:7")
    set.runner.answer(try set.runner.next(), several)
    #expect(try client.receive() == 2)
    #expect(try client.call("SISMEMBER", "user:7", "a") == 1)
  }

  @Test("An absent row is known to be absent until its key is invalidated, or time is up")
  func negative() throws {
    let world = try World(negative: 3_600_000_000_000)
    let client = try world.sidecar.client()
    try client.send("GET", "user:7")
    world.runner.answer(try world.runner.next(), nil)
    #expect(try client.receive() == nil)
    try eventually("it is known") {
      let reply = try client.call("GET", "user:7")
      let hits = try world.sidecar.count("absent_hits")
      return reply == nil && hits > 0
    }
    #expect(try client.call("EXISTS", "user:7") == 0)
    #expect(try client.call("HGETALL", "user:7") == .array([]))
    #expect(try client.call("MGET", "user:7", "user:7") == .array([nil, nil]))
    #expect(world.runner.count == 1)
    // An application's own deletion clears it as it clears values.
    try client.call("DEL", "user:7")
    try client.send("GET", "user:7")
    world.runner.answer(try world.runner.next(), "Ada")
    #expect(try client.receive() == "Ada")
  }

  @Test("Without `negative` an absent row is asked for each time")
  func noNegative() throws {
    let world = try World()
    let client = try world.sidecar.client()
    for _ in 0..<2 {
      try client.send("GET", "user:7")
      world.runner.answer(try world.runner.next(), nil)
      #expect(try client.receive() == nil)
    }
  }

  @Test("An error of PostgreSQL is an error with its SQLSTATE, and nothing is stored")
  func failure() throws {
    let world = try World()
    let client = try world.sidecar.client()
    try client.send("GET", "user:7")
    world.runner.fail(
      try world.runner.next(), SQLFailure(kind: .statement, sqlState: "42P01", sentence: "No such table."))
    let error = try client.receive().errorText ?? ""
    #expect(error.contains("42P01") && error.hasPrefix("ERR Nearside: "))
    #expect(try world.sidecar.redis.cli("EXISTS", "user:7") == "0")
  }

  @Test("With evidence that is too old a load is answered and not stored")
  func bypassed() throws {
    let world = try World(bound: 200_000_000)
    let client = try world.sidecar.client()
    try world.sidecar.redis.cli("SET", "user:7", "stale")
    try world.sidecar.waitUntilOld(300)
    try client.send("GET", "user:7")
    world.runner.answer(try world.runner.next(), "fresh")
    #expect(try client.receive() == "fresh")
    #expect(try world.sidecar.redis.cli("GET", "user:7") == "stale")
  }

  @Test("With failSafe the last value is shown while PostgreSQL is away, and a load a second asks for it")
  func failSafe() throws {
    let world = try World(bound: 2_000_000_000, failSafe: 3_600_000_000_000)
    let client = try world.sidecar.client()
    try client.send("GET", "user:7")
    world.runner.answer(try world.runner.next(), "old")
    #expect(try client.receive() == "old")
    try eventually("it is stored") { try world.sidecar.count("fills_stored") == 1 }
    try world.sidecar.waitUntilOld(2_100)
    let clock = ContinuousClock()
    try client.send("GET", "user:7")
    let failure = SQLFailure(kind: .unreachable, sqlState: "08006", sentence: "It is gone.")
    world.runner.fail(try world.runner.next(), failure)
    #expect(try client.receive() == "old")
    #expect(try world.sidecar.count("served_fail_safe") == 1)
    let start = clock.now
    try eventually("more than a second is over") { clock.now - start > .milliseconds(1_500) }
    try client.send("GET", "user:7")
    world.runner.answer(try world.runner.next(), "new")
    #expect(try client.receive() == "new")
    #expect(try world.sidecar.count("served_fail_safe") == 1)
  }

  @Test("With a lock each new generation is waited for, also if the one before left nothing to load")
  func eachGeneration() throws {
    let world = try World(lock: 2_000_000_000)
    let client = try world.sidecar.client()
    let clock = ContinuousClock()
    let start = clock.now
    for generation in [0xb2, 0xc3] as [UInt64] {
      try world.sidecar.redis.cli("DEL", "nearside:{}:m")
      try world.sidecar.poll()
      let waits = try world.sidecar.count("load_waits")
      try client.send("GET", "user:7")
      try eventually("it waits") { try world.sidecar.count("load_waits") > waits }
      try world.sidecar.redis.cli("SET", "user:7", "theirs")
      try world.sidecar.begin(Generation(generation))
      #expect(try client.receive() == "theirs")
      try eventually("the time of the lock is over") { clock.now - start > .milliseconds(2_200) }
    }
    #expect(world.runner.count == 0)
  }

  @Test("Without Redis keys are loaded, once for all who ask at a time")
  func redisDown() throws {
    let world = try World(timeout: 300_000_000)
    world.sidecar.redis.pause()
    let clients = try (0..<20).map { _ in try world.sidecar.client() }
    for client in clients { try client.send("GET", "user:7") }
    try world.waiting(20)
    world.runner.answer(try world.runner.next(), "Ada")
    for client in clients { #expect(try client.receive() == "Ada") }
    try clients[0].send("MGET", "user:7", "user:8")
    world.runner.answer(try world.runner.next(), "Ada")
    world.runner.answer(try world.runner.next(), nil)
    #expect(try clients[0].receive() == .array(["Ada", nil]))
    #expect(try clients[0].call("GET", "page:1").errorText?.contains("unreachable") == true)
    world.sidecar.redis.resume()
  }

  @Test("A client that leaves is forgotten, and its load helps others")
  func clientGone() throws {
    let world = try World()
    var leaving: RESPClient? = try world.sidecar.client()
    try leaving?.send("GET", "user:7")
    let job = try world.runner.next()
    leaving = nil
    try eventually("it is gone") { try world.sidecar.count("clients") == 1 }
    world.runner.answer(job, "Ada")
    try eventually("it is stored") { try world.sidecar.redis.cli("GET", "user:7") == "Ada" }
  }

  @Test("A new generation during a load: its value is shown to who waits, and not stored")
  func newGeneration() throws {
    let world = try World()
    let client = try world.sidecar.client()
    try client.send("GET", "user:7")
    let job = try world.runner.next()
    try world.sidecar.begin(Generation(0xb2))
    world.runner.answer(job, "Ada")
    #expect(try client.receive() == "Ada")
    #expect(try world.sidecar.redis.cli("EXISTS", "user:7") == "0")
  }

  @Test("A replica that is behind is asked again")
  func replica() throws {
    let world = try World()
    let client = try world.sidecar.client()
    try world.sidecar.change("user:9")
    try client.send("GET", "user:7")
    let rows = { (text: String) in SQLRows(columns: ["v"], height: 1, values: [Array(text.utf8)]) }
    for _ in 0..<3 {
      let asked = ContinuousClock().now
      world.runner.answer(try world.runner.next(), rows("old"), replayed: world.sidecar.position - 1)
      try eventually("it is asked again") { world.runner.isAsked }
      #expect(ContinuousClock().now - asked >= .milliseconds(4))
    }
    world.runner.answer(try world.runner.next(), rows("new"), replayed: world.sidecar.position)
    #expect(try client.receive() == "new")
  }

  @Test("A key that no row can have is a plain miss")
  func noParameters() throws {
    let world = try World()
    #expect(try world.sidecar.client().call("GET", "user:%61") == nil)
    #expect(world.runner.count == 0)
  }

  @Test("What an application has stored during a load stays, and is what later readers get")
  func storedMeanwhile() throws {
    let world = try World()
    let (early, late) = (try world.sidecar.client(), try world.sidecar.client())
    try early.send("GET", "user:7")
    let job = try world.runner.next()
    try late.send("GET", "user:7")
    try world.waiting(2)
    let token = try world.sidecar.lease()
    #expect(try world.sidecar.client().call("NEARSIDE", "FILL", "user:7", token, "its own") == 1)
    world.runner.answer(job, "loaded")
    #expect(try early.receive() == "loaded")
    #expect(try late.receive() == "its own")
    #expect(try world.sidecar.redis.cli("GET", "user:7") == "its own")
    #expect(world.runner.count == 1)
  }

  @Test("A lock of another host is waited for until the value is there")
  func lockElsewhere() throws {
    let world = try World(lock: 60_000_000_000)
    let lock = "nearside:{}:l:user:7"
    try world.sidecar.redis.cli("SET", lock, "another")
    let clients = [try world.sidecar.client(), try world.sidecar.client()]
    for client in clients { try client.send("GET", "user:7") }
    try world.waiting(2)
    try world.sidecar.redis.cli("SET", "user:7", "theirs")
    for client in clients { #expect(try client.receive() == "theirs") }
    #expect(world.runner.count == 0)
    // It is given up: this host loads, and gives the lock back.
    try world.sidecar.redis.cli("DEL", lock)
    try clients[0].send("GET", "user:8")
    let job = try world.runner.next()
    #expect(try world.sidecar.redis.cli("EXISTS", "nearside:{}:l:user:8") == "1")
    world.runner.answer(job, "mine")
    #expect(try clients[0].receive() == "mine")
    try eventually("the lock is given back") {
      try world.sidecar.redis.cli("EXISTS", "nearside:{}:l:user:8") == "0"
    }
    try clients[1].send("GET", "user:9")
    world.runner.fail(
      try world.runner.next(), SQLFailure(kind: .timedOut, sqlState: "57014", sentence: "It took too long."))
    #expect(try clients[1].receive().errorText?.contains("57014") == true)
    try eventually("the lock is given back after an error too") {
      try world.sidecar.redis.cli("EXISTS", "nearside:{}:l:user:9") == "0"
    }
  }

  static let many = "SELECT id, name FROM users WHERE id = ANY(:id)"

  static func rows(_ pairs: [(String, String?)]) -> SQLRows {
    SQLRows(
      columns: ["id", "name"], height: pairs.count,
      values: pairs.flatMap { [Array($0.0.utf8), $0.1.map { Array($0.utf8) }] })
  }

  @Test(
    "With `many` an MGET is one statement; each key has its answer, and rows that are not there are remembered"
  )
  func many() throws {
    let world = try World(negative: 3_600_000_000_000, many: Self.many)
    world.runner.types.withLock { $0 = 1016 }
    let client = try world.sidecar.client()
    try client.send("MGET", "user:1", "user:2", "user:3", "user:4", "user:1")
    let job = try world.runner.next()
    #expect(job.parameters == [Array(#"{"1","2","3","4"}"#.utf8)])
    world.runner.answer(job, Self.rows([("4", "four"), ("1", "one"), ("3", nil)]))
    #expect(try client.receive() == .array(["one", nil, nil, "four", "one"]))
    try eventually("all is known") {
      let hits = try world.sidecar.count("near_hits")
      let absent = try world.sidecar.count("absent_hits")
      _ = try client.call("MGET", "user:1", "user:2", "user:3", "user:4")
      let isKnown = try world.sidecar.count("absent_hits") == absent + 2
      return try isKnown && world.sidecar.count("near_hits") == hits + 2
    }
    #expect(world.runner.count == 1)
    #expect(try world.sidecar.count("loads") == 4)
    #expect(try world.sidecar.redis.cli("MGET", "user:1", "user:4") == "one\nfour")
    // A change of one of them during the load refuses that one.
    try client.send("MGET", "user:5", "user:6")
    let second = try world.runner.next()
    try world.sidecar.change("user:5")
    world.runner.answer(second, Self.rows([("5", "old"), ("6", "six")]))
    #expect(try client.receive() == .array(["old", "six"]))
    #expect(try world.sidecar.redis.cli("GET", "user:6") == "six")
    #expect(try world.sidecar.redis.cli("EXISTS", "user:5") == "0")
  }

  @Test(
    "Where the rows do not tell what a key has, it is loaded by itself",
    arguments: [
      // The array's type is not known to print its elements in one way, a row of another key, an error.
      (1231, [("1", "one")], nil), (1009, [("1", "one"), ("TWO", "two")], nil), (1016, [], "22P02"),
    ] as [(UInt32, [(String, String)], String?)])
  func manyUnclear(type: UInt32, rows: [(String, String)], error: String?) throws {
    let world = try World(many: Self.many)
    world.runner.types.withLock { $0 = type }
    let client = try world.sidecar.client()
    try client.send("MGET", "user:1", "user:2")
    let job = try world.runner.next()
    if let error {
      world.runner.fail(job, SQLFailure(kind: .statement, sqlState: error, sentence: "No."))
    } else {
      world.runner.answer(job, Self.rows(rows))
    }
    world.runner.types.withLock { $0 = 25 }
    var singles: [String] = type == 1009 ? ["1"] : []
    while singles.count < 2 {
      let single = try world.runner.next()
      #expect(single.statement == 0)
      singles.append(String(decoding: single.parameters[0] ?? [], as: UTF8.self))
      world.runner.answer(single, singles.last == "1" ? "one" : "two")
    }
    #expect(singles.sorted() == ["1", "2"])
    #expect(try client.receive() == .array(["one", "two"]))
  }

  @Test("Keys that are loaded each by itself after all keep to the limit")
  func manyPaced() throws {
    let world = try World(limit: 20_000_000_000, many: Self.many)
    let client = try world.sidecar.client()
    try client.send(["MGET"] + (1...10).map { "user:\($0)" })
    world.runner.fail(
      try world.runner.next(), SQLFailure(kind: .statement, sqlState: "22P02", sentence: "No."))
    // Two and one more for the answer.
    var jobs = try (0..<3).map { _ in try world.runner.next() }
    #expect(try world.sidecar.count("load_limit") == 3)
    #expect(world.runner.count == 4)
    for _ in 0..<10 {
      if jobs.isEmpty { jobs.append(try world.runner.next()) }
      world.runner.answer(jobs.removeFirst(), "Ada")
    }
    #expect(try client.receive() == .array(Array(repeating: "Ada", count: 10)))
    #expect(try world.sidecar.count("loads") == 10)
    #expect(try world.sidecar.count("load_statements") == 11)
  }

  @Test("With `many` and a lock what other hosts load is left to them")
  func manyLocked() throws {
    let world = try World(lock: 60_000_000_000, many: Self.many)
    world.runner.types.withLock { $0 = 1016 }
    try world.sidecar.redis.cli("SET", "nearside:{}:l:user:2", "another")
    let client = try world.sidecar.client()
    try client.send("MGET", "user:1", "user:2", "user:3")
    let job = try world.runner.next()
    #expect(job.parameters == [Array(#"{"1","3"}"#.utf8)])
    world.runner.answer(job, Self.rows([("1", "one"), ("3", "three")]))
    try world.sidecar.redis.cli("SET", "user:2", "two")
    #expect(try client.receive() == .array(["one", "two", "three"]))
    #expect(world.runner.count == 1)
  }

  @Test(
    "A part that a loaded key does not have is no reason to load it again", arguments: [nil, 60_000_000_000])
  func missingPart(lock: UInt64?) throws {
    let rows = SQLRows(columns: ["name"], height: 1, values: [Array("Ada".utf8)])
    let hash = try World(shape: .hash, lock: lock)
    var client = try hash.sidecar.client()
    try client.send("HGET", "user:7", "name")
    hash.runner.answer(try hash.runner.next(), rows)
    #expect(try client.receive() == "Ada")
    try eventually("it is stored") { try hash.sidecar.redis.cli("EXISTS", "user:7") == "1" }
    #expect(try client.call("HGET", "user:7", "none") == nil)
    #expect(try client.call("HMGET", "user:7", "name", "none") == .array(["Ada", nil]))
    #expect(try client.call("HSTRLEN", "user:7", "none") == 0)
    #expect(hash.runner.count == 1)

    let list = try World(shape: .list, lock: lock)
    client = try list.sidecar.client()
    try client.send("LINDEX", "user:7", "9")
    list.runner.answer(try list.runner.next(), rows)
    #expect(try client.receive() == nil)
    #expect(try client.call("LINDEX", "user:7", "9") == nil)
    #expect(list.runner.count == 1)

    let string = try World(lock: lock)
    client = try string.sidecar.client()
    try client.send("GETBIT", "user:7", "0")
    string.runner.answer(try string.runner.next(), "Ada")
    #expect(try client.receive() == 0)
    #expect(string.runner.count == 1)
  }

  @Test("After a flush two statements may run, and one more with each answer; the others wait their turn")
  func slowStart() throws {
    let world = try World(limit: 20_000_000_000)
    #expect(try world.sidecar.count("load_limit") == 2)
    let clients = try (0..<40).map { _ in try world.sidecar.client() }
    for (number, client) in clients.enumerated() { try client.send("GET", "user:\(number)") }
    try world.waiting(40)
    #expect(world.runner.count == 2)
    var jobs = [try world.runner.next(), try world.runner.next()]
    var most: [Int] = []
    var answered = 0
    while !jobs.isEmpty {
      most.append(jobs.count)
      for job in jobs { world.runner.answer(job, "Ada") }
      answered += jobs.count
      let expected = min(40, answered + min(8, 2 + answered))
      try eventually("the next have come") { world.runner.count == expected }
      jobs = try (answered..<expected).map { _ in try world.runner.next() }
    }
    #expect(most == [2, 4, 8, 8, 8, 8, 2])
    for client in clients { #expect(try client.receive() == "Ada") }
    let starts = try world.sidecar.count("load_slow_starts")
    try world.sidecar.begin(Generation(0xb2))
    #expect(try world.sidecar.count("load_slow_starts") == starts + 1)
    #expect(try world.sidecar.count("load_limit") == 2)
  }

  @Test("A read that is done again waits no longer for that: the time of its first wait holds")
  func slow() throws {
    // With the second that it may wait for another's load that makes two.
    let world = try World(limit: 1_000_000_000)
    let client = try world.sidecar.client()
    let clock = ContinuousClock()
    let start = clock.now
    try client.send("GETRANGE", "user:7", "0", "1")
    let first = try world.runner.next()
    try eventually("most of its time is over") { clock.now - start > .milliseconds(1_500) }
    try world.sidecar.change("user:7")
    world.runner.answer(first, "old")
    _ = try world.runner.next()
    #expect(try client.receive().errorText?.contains("takes too long") == true)
    let waited = clock.now - start
    #expect(waited >= .milliseconds(1_900) && waited < .milliseconds(3_300), "\(waited)")
  }

  @Test("A row that changes during each of three loads is an error for who needs it stored")
  func restless() throws {
    let world = try World(limit: 20_000_000_000)
    let client = try world.sidecar.client()
    try client.send("GETRANGE", "user:7", "0", "1")
    for _ in 0..<3 {
      let job = try world.runner.next()
      try world.sidecar.change("user:7")
      world.runner.answer(job, "old")
    }
    #expect(try client.receive().errorText?.contains("changed each time") == true)
    #expect(world.runner.count == 3)
  }

  @Test("Whoever waits for another host's load and leaves leaves nothing behind")
  func lockForgotten() throws {
    let world = try World(lock: 60_000_000_000)
    try world.sidecar.redis.cli("SET", "nearside:{}:l:user:7", "another")
    var leaving: RESPClient? = try world.sidecar.client()
    try leaving?.send("GET", "user:7")
    try world.waiting(1)
    leaving = nil
    try eventually("nobody waits") { try world.sidecar.count("loads_waiting") == 0 }
    let other = try world.sidecar.client()
    try other.send("GET", "user:8")
    world.runner.answer(try world.runner.next(), "Ada")
    #expect(try other.receive() == "Ada")
  }

  @Test("A value that Redis has evicted is loaded for a command that only Redis answers, though it is near")
  func evicted() throws {
    let world = try World()
    let client = try world.sidecar.client()
    try client.send("GET", "user:7")
    world.runner.answer(try world.runner.next(), "Ada")
    #expect(try client.receive() == "Ada")
    try eventually("it is stored") { try world.sidecar.count("fills_stored") == 1 }
    try world.sidecar.redis.cli("DEL", "user:7")
    try client.send("GETBIT", "user:7", "1")
    world.runner.answer(try world.runner.next(), "Ada")
    #expect(try client.receive() == 1)
  }
}
