import Configuration
import Glibc
import Invalidation
import TestSupport
import Testing

@testable import Redis

extension RedisSink {
  /// Polls the descriptor, as the tailer does, until the reply is there.
  mutating func reply(within limit: Duration = .seconds(10)) throws -> StateReply {
    let deadline = ContinuousClock.now + limit
    while ContinuousClock.now < deadline {
      if let reply = try receive() { return reply }
      var watched = pollfd(
        fd: descriptor, events: Int16(wantsToWrite ? POLLIN | POLLOUT : POLLIN), revents: 0)
      _ = poll(&watched, 1, 50)
    }
    throw HarnessError("no reply within \(limit)")
  }

  mutating func ask(_ request: StateRequest) throws -> StateReply {
    try send(request)
    return try reply()
  }
}

func batch(_ keys: [(String, Int)], through end: UInt64) -> KeyBatch {
  var batch = KeyBatch()
  for (key, table) in keys { Array(key.utf8).withUnsafeBytes { batch.append($0, table: table) } }
  batch.complete(through: LSN(end))
  return batch
}

@Suite("The tailer's sink")
struct SinkTests {
  let lab: Lab
  let server = ServerIdentity(systemID: "7", timeline: 10)
  init() throws { lab = try Lab() }

  func check(_ n: UInt64, _ g: Generation = g1, _ token: String = "t1") -> WriteCheck {
    WriteCheck(token: token, generation: g, count: n)
  }

  func step(
    _ n: UInt64, W: UInt64, V: UInt64? = nil, X: UInt64? = nil, beat: Bool = false, part: Int = 1,
    of parts: Int = 1
  ) -> ApplyRequest {
    ApplyRequest(
      check: check(n), applied: LSN(W), visible: LSN(V ?? W), fence: LSN(X ?? W),
      sampled: beat ? Instant(nanoseconds: 1) : nil, part: part, parts: parts)
  }

  func begin(_ sink: inout RedisSink, _ new: Generation = g1, old: Generation? = nil) throws -> StateReply {
    try sink.ask(
      .newGeneration(
        token: "t1", old: old, new: new, server: server, mapping: "cfg", applied: LSN(0x100),
        visible: LSN(0x100), watching: false))
  }

  @Test("A step of clearing is as large as Redis does in a millisecond, between bounds")
  func stepSizes() {
    var size = StepSize()
    for _ in 0..<10 { size.took(0) }
    #expect(size.count == StepSize.bounds.upperBound)
    size.took(2 * StepSize.aim)
    #expect(size.count == StepSize.bounds.upperBound / 2)
    size.took(StepSize.aim)
    #expect(size.count == StepSize.bounds.upperBound / 2)
    size.took(1_000_000_000)
    #expect(size.count == StepSize.bounds.lowerBound)
    // Quick ones double it at most.
    size.took(1)
    #expect(size.count == StepSize.bounds.lowerBound * 2)
  }

  @Test("Steps of clearing are measured, and a script that was lost in between is sent again")
  func measured() throws {
    var redis = try lab.connect()
    for index in 0..<2000 { try redis.append(["SET", "shop:user:\(index)", "x"]) }
    for _ in 0..<2000 { _ = try redis.receive() }
    var sink = try lab.sink(patterns: ["^shop:user:"])
    #expect(try begin(&sink) == .began)
    var (n, cursor) = (0 as UInt64, "0")
    var sizes: Set<Int> = []
    repeat {
      if n == 2 { try redis.call("SCRIPT", "FLUSH") }
      guard case .purgeStep(let next, _) = try sink.ask(.purge(check: check(n), cursor: cursor)) else {
        Issue.record("not a purge step")
        return
      }
      (n, cursor) = (n + 1, next)
      sizes.insert(sink.stepSize.count)
    } while cursor != "0"
    #expect(sizes.count > 1, "\(sizes)")
    #expect(try sink.ask(.purged(check: check(n))) == .cleared)
    #expect(try redis.call("KEYS", "shop:*") == .array([]))
  }

  @Test(
    "A tailer's life: no state, a generation, the purge, a batch in three steps, a beat, the next tailer"
  )
  func life() throws {
    var redis = try lab.connect()
    let subscriber = try Subscriber(lab)
    var sink = try lab.sink(patterns: ["^shop:user:", "^shop:order:"])
    let keys = (0..<2500).map { ("shop:user:\($0)", 0) } + (0..<10).map { ("shop:order:\($0)", 1) }
    _ = try redis.command(["MSET"] + keys.flatMap { [$0.0, "x"] } + ["shop:lock:1", "x"])

    #expect(try sink.ask(.takeover(token: "t1", server: server, mapping: "cfg")) == .noState)
    #expect(try begin(&sink) == .began)
    var (n, cursor, removed) = (0 as UInt64, "0", 0)
    repeat {
      guard case .purgeStep(let next, let count) = try sink.ask(.purge(check: check(n), cursor: cursor))
      else {
        Issue.record("not a purge step")
        return
      }
      (n, cursor, removed) = (n + 1, next, removed + count)
    } while cursor != "0"
    #expect(removed == 2510)
    #expect(try redis.call("DBSIZE") == 2)
    #expect(try sink.ask(.purged(check: check(n))) == .cleared)
    n += 1
    #expect(try redis.state(lab)?.trusted == true)

    _ = try redis.command(["MSET"] + keys.flatMap { [$0.0, "x"] })
    let all = batch(keys, through: 0x300)
    let chunks = [0..<1000, 1000..<2000, 2000..<2510]
    for (index, chunk) in chunks.enumerated() {
      let last = index == 2
      try sink.apply(
        step(n, W: last ? 0x300 : 0x100, X: 0x300, part: index + 1, of: 3), keys: all, chunk: chunk)
      #expect(
        try sink.reply()
          == .applied(W: LSN(last ? 0x300 : 0x100), V: LSN(last ? 0x300 : 0x100), generationAsked: false))
      n += 1
    }
    #expect(try redis.call("DBSIZE") == 3)
    for (key, _) in keys { #expect(try redis.field(lab, "b" + bucket(key)) == stamp(0x300)) }
    let journal = try redis.journal(lab)
    #expect(journal.flatMap(\.keys) == keys.map(\.0))
    #expect(journal.map(\.p) == ["0-0"] + journal.dropLast().map(\.id))

    _ = try redis.eval(StateScripts.ask, [lab.keys.meta])
    let empty = KeyBatch()
    try sink.apply(step(n, W: 0x310, beat: true), keys: empty, chunk: 0..<0)
    #expect(try sink.reply() == .applied(W: LSN(0x310), V: LSN(0x310), generationAsked: true))
    n += 1
    #expect(try redis.journal(lab).count == 3)
    #expect(try redis.state(lab)?.beats == 1)

    #expect(
      try sink.ask(.takeover(token: "t2", server: server, mapping: "cfg"))
        == .takenOver(
          .init(
            generation: g1, applied: LSN(0x310), visible: LSN(0x310), count: n, watching: false, cleared: true
          )))
    #expect(try sink.ask(.purged(check: check(n))) == .fenced)

    _ = try subscriber.next()
    var heard: [String] = []
    for (index, expected) in [
      (1, "public.users", 1), (2, "public.users", 2), (3, "public.users", 3), (4, "public.orders", 3),
    ]
    .enumerated() {
      let message = try subscriber.next()
      #expect(message["version"] as? Int == 1)
      #expect(message["generation"] as? String == g1.hex)
      #expect(message["sequence"] as? Int == index + 1)
      #expect(message["lsn"] as? String == "0/300")
      #expect(message["table"] as? String == expected.1)
      #expect(message["part"] as? Int == expected.2 && message["of"] as? Int == 3)
      let keys = message["keys"] as? [String] ?? []
      #expect(keys.count <= 1000)
      heard += keys
    }
    #expect(heard == keys.map(\.0))
  }

  @Test("Every refusal of the scripts has its reply")
  func refusals() throws {
    var sink = try lab.sink()
    let none = KeyBatch()
    #expect(try sink.ask(.purge(check: check(0), cursor: "0")) == .noState)
    #expect(try sink.ask(.purged(check: check(0))) == .noState)
    try sink.apply(step(0, W: 0x200), keys: none, chunk: 0..<0)
    #expect(try sink.reply() == .noState)
    #expect(try begin(&sink) == .began)
    #expect(try begin(&sink, g2) == .raced)
    #expect(try begin(&sink, g3, old: g2) == .raced)
    try sink.apply(step(1, W: 0x200), keys: none, chunk: 0..<0)
    #expect(try sink.reply() == .regressed)
    #expect(try sink.ask(.purge(check: check(5), cursor: "0")) == .regressed)
    #expect(try sink.ask(.purge(check: check(0, g2), cursor: "0")) == .fenced)
    #expect(try sink.ask(.purged(check: check(0, g1, "t9"))) == .fenced)
    let other = ServerIdentity(systemID: "8", timeline: 10)
    #expect(try sink.ask(.takeover(token: "t1", server: other, mapping: "cfg")) == .otherSystem("7"))
    let older = ServerIdentity(systemID: "7", timeline: 9)
    #expect(try sink.ask(.takeover(token: "t1", server: older, mapping: "cfg")) == .olderTimeline("0000000a"))
    #expect(try sink.ask(.takeover(token: "t1", server: server, mapping: "new")) == .needsGeneration(g1))
    #expect(
      try sink.ask(
        .newGeneration(
          token: "t1", old: g1, new: g2, server: older, mapping: "new", applied: LSN(1),
          visible: LSN(1), watching: false))
        == .olderTimeline("0000000a"))
  }

  @Test("A script that Redis has lost is sent again in full")
  func noScript() throws {
    var redis = try lab.connect()
    var sink = try lab.sink()
    _ = try begin(&sink)
    let keys = batch([("shop:user:1", 0)], through: 0x200)
    for n in 0..<2 as Range<UInt64> {
      try redis.call("SCRIPT", "FLUSH", "SYNC")
      try redis.call("SET", "shop:user:1", "x")
      try sink.apply(step(n, W: 0x200 + n), keys: keys, chunk: 0..<1)
      #expect(try sink.reply() == .applied(W: LSN(0x200 + n), V: LSN(0x200 + n), generationAsked: false))
      #expect(try redis.call("EXISTS", "shop:user:1") == 0)
    }
    #expect(try redis.field(lab, "n") == "2")
  }

  @Test("Keys of a table that has no name are published without one; long and odd keys arrive whole")
  func oddKeys() throws {
    var redis = try lab.connect()
    let subscriber = try Subscriber(lab)
    var sink = try lab.sink(tables: ["Schön.\"Tab\\le"])
    _ = try begin(&sink)
    let long = "shop:" + String(repeating: "k", count: 60_000)
    let keys = batch([("shop:a\"b", 0), ("shop:Zoë", 7), (long, -1)], through: 0x200)
    try sink.apply(step(0, W: 0x200), keys: keys, chunk: 0..<3)
    #expect(try sink.reply() == .applied(W: LSN(0x200), V: LSN(0x200), generationAsked: false))
    #expect(try redis.journal(lab).first?.keys == ["shop:a\"b", "shop:Zoë", long])
    _ = try subscriber.next()
    let first = try subscriber.next()
    #expect(first["table"] as? String == "Schön.\"Tab\\le")
    #expect(first["keys"] as? [String] == ["shop:a\"b"])
    #expect(try subscriber.next()["keys"] as? [String] == ["shop:Zoë"])
    #expect(try subscriber.next()["keys"] as? [String] == [long])
  }

  @Test(
    "While Redis does not answer nothing blocks, and soon the sink gives up, whatever redis.timeout allows")
  func slowRedis() throws {
    let lab = try Lab(timeout: 60_000_000_000)
    var sink = try lab.sink()
    _ = try begin(&sink)
    lab.server.pause()
    defer { lab.server.resume() }
    // More than a socket's buffers hold, so that writing too would have to wait.
    let long = String(repeating: "k", count: 30_000)
    let keys = batch((0..<10).map { ("shop:\($0):\(long)", 0) }, through: 0x200)
    let start = ContinuousClock.now
    try sink.apply(step(0, W: 0x200), keys: keys, chunk: 0..<10)
    let waits = sink.wantsToWrite
    #expect(waits)
    #expect(try sink.receive() == nil)
    #expect(ContinuousClock.now - start < .seconds(1))
    var failure: SinkError?
    do { _ = try sink.reply(within: .seconds(10)) } catch let error as SinkError { failure = error }
    #expect(failure?.description.contains("did not answer \"apply\" in time") == true)
    #expect(failure?.cause == .silent)
    #expect(ContinuousClock.now - start < .seconds(3))
  }

  @Test("An answer that came while this process was not looking counts, however late it is read")
  func lateReader() throws {
    let lab = try Lab(timeout: 50_000_000)
    var sink = try lab.sink()
    try sink.send(.takeover(token: "t1", server: server, mapping: "cfg"))
    sleep(.milliseconds(150))
    #expect(try sink.reply() == .noState)
  }

  @Test("A lost connection ends the sink with a sentence")
  func broken() throws {
    var sink = try lab.sink()
    _ = try begin(&sink)
    lab.server.kill()
    var failure: SinkError?
    do {
      _ = try sink.ask(.takeover(token: "t1", server: server, mapping: "cfg"))
    } catch let error as SinkError { failure = error }
    #expect(failure?.description == "Redis at \(lab.server.socket) closed the connection.")
    #expect(failure?.cause == .closed)
  }

  @Test("An error of Redis ends the sink with a sentence that says what to do")
  func errors() throws {
    var redis = try lab.connect()
    var sink = try lab.sink()
    _ = try begin(&sink)
    try redis.call("ACL", "SETUSER", "default", "-publish")
    var failure: SinkError?
    let keys = batch([("shop:user:1", 0)], through: 0x200)
    do {
      try sink.apply(step(0, W: 0x200), keys: keys, chunk: 0..<1)
      _ = try sink.reply()
    } catch let error as SinkError { failure = error }
    #expect(failure?.description.hasPrefix("Redis at \(lab.server.socket) ") == true)
    #expect(failure?.description.contains("permission") == true)
    #expect(failure?.cause == .refused)
    // The watermark is last, so what was not done in full is not counted as done.
    #expect(try redis.state(lab)?.applied == LSN(0x100))
    #expect(try redis.field(lab, "n") == "0")
  }

  @Test("What arrives when nothing was asked is the end of the connection, not a reply")
  func idle() throws {
    var sink = try lab.sink()
    #expect(try sink.receive() == nil)
    lab.server.kill()
    var ended = false
    let deadline = ContinuousClock.now + .seconds(5)
    while !ended, ContinuousClock.now < deadline {
      do { _ = try sink.receive() } catch { ended = true }
    }
    #expect(ended)
  }

  @Test("The journal keeps to its size while the sink writes it")
  func journalSize() throws {
    var redis = try lab.connect()
    var sink = try lab.sink(journal: JournalSettings(keep: 60_000_000_000, size: 200_000))
    _ = try begin(&sink)
    let long = String(repeating: "k", count: 5000)
    for n in 0..<200 as Range<UInt64> {
      let keys = batch([("shop:\(n):\(long)", 0)], through: 0x200 + n)
      try sink.apply(step(n, W: 0x200 + n), keys: keys, chunk: 0..<1)
      _ = try sink.reply()
    }
    let size = try redis.call("MEMORY", "USAGE", lab.keys.journal(g1)).number ?? 0
    #expect(size > 50_000 && size < 400_000)
  }
}
