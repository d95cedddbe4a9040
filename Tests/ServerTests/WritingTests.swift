import Configuration
import Invalidation
import Synchronization
import TestSupport
import Testing

@testable import Server

/// Write-through's own rules, with a test that plays PostgreSQL and the tailer.
@Suite("Write-through in front of a real Redis")
struct WritingTests {
  final class World {
    let sidecar: RelaySidecar
    let runner: ScriptedRunner
    private var redis: RESPClient
    private let keys = StateKeys(namespace: "")
    private var told = "0-0"
    private var position: UInt64 = 0x1000

    init() throws {
      let place = SourcePlace(line: 1, column: 1, length: 1)
      let sql = try SQLTemplate.parse("UPDATE users SET name = :value WHERE id = :id", place: place)
      let rule = CacheRule(
        template: try KeyTemplate.parse("user:{id}", place: place), near: CacheRule.NearRule(ttl: nil),
        plainSet: PlainSetSettings(mode: .window, window: 10_000_000_000), write: .through(sql))
      let made = Mutex<ScriptedRunner?>(nil)
      let sidecar = try RelaySidecar(
        caches: [rule],
        sql: { mailbox in
          let runner = ScriptedRunner(mailbox)
          made.withLock { $0 = runner }
          return runner
        })
      self.sidecar = sidecar
      runner = try #require(made.withLock { $0 })
      redis = try sidecar.redis.client()
      // The session is asked for twice before it counts for a SET that comes now.
      try eventually("the tailer's session is known") {
        try sidecar.redis.cli("INFO", "commandstats").contains("cmdstat_hget:")
      }
      for _ in 0..<2 { try sidecar.client().call("PING") }
    }

    /// The statement has changed a row in this transaction.
    func commit(_ job: SQLJob, _ transaction: UInt32) {
      runner.answer(
        job, SQLRows(columns: [], height: 0, values: [], affected: 1, transaction: transaction))
    }

    /// What the tailer does with a batch, or with one step of it: `last`: the batch ends with it.
    /// - Parameter transaction: nil: an application's own removal.
    func apply(_ names: [String], _ transaction: UInt32?, groups: [String] = [], last: Bool = true) throws {
      func packed(_ names: [String]) -> String {
        var all = PackedKeys()
        for name in names { Array(name.utf8).withUnsafeBytes { all.append($0) } }
        return String(decoding: all.bytes, as: UTF8.self)
      }
      var origins = PackedOrigins()
      if let transaction {
        for _ in names + groups { origins.append(KeyOrigin(transaction: transaction, table: 0, rule: 0)) }
      }
      let position = LSN(self.position).hex
      let previous = try #require(try redis.call("HGET", keys.meta, "jl").text)
      let id = try redis.call(
        "XADD", keys.journal(Generation(0xa1)), "*", "p", previous, "l", position, "k", packed(names), "q",
        packed(groups), transaction == nil ? "none" : "y", String(decoding: origins.bytes, as: UTF8.self))
      try redis.call("HSET", keys.meta, "jl", try #require(id.text))
      if last {
        try redis.call("HSET", keys.meta, "W", position)
        self.position += 0x100
      }
      for name in names { try redis.call("UNLINK", name) }
    }

    /// The loop hears what the journal has, but for the entries before `skipping` more.
    func tell(skipping: Int = 0) throws {
      let reply = try redis.call("XRANGE", keys.journal(Generation(0xa1)), "(" + told, "+")
      var entries: [JournalEntry] = []
      for element in try #require(reply.elements) {
        let id = try #require(element.elements?.first?.text)
        let list = try #require(element.elements?.last?.elements)
        var fields: [String: [UInt8]] = [:]
        for index in stride(from: 0, to: list.count, by: 2) {
          if case .bulk(let bytes) = list[index + 1] { fields[list[index].text ?? ""] = bytes }
        }
        func text(_ name: String) -> String { String(decoding: fields[name] ?? [], as: UTF8.self) }
        entries.append(
          JournalEntry(
            id: try #require(JournalID(id)), previous: try #require(JournalID(text("p"))),
            position: try #require(LSN(hex: text("l"))),
            keys: try #require(PackedKeys(bytes: fields["k"] ?? [])),
            groups: try #require(PackedKeys(bytes: fields["q"] ?? [])),
            origins: fields["y"].flatMap { PackedOrigins(bytes: $0) }))
        told = id
      }
      sidecar.mailbox.hear(.entries(Array(entries.dropFirst(skipping)), generation: Generation(0xa1)))
    }

    func waitUntilRemoved(_ count: Int) throws {
      let journal = keys.journal(Generation(0xa1))
      try eventually("\(count) keys are removed") {
        try redis.call("XLEN", journal) == .integer(Int64(count))
      }
    }
  }

  @Test("The value is stored as soon as the journal tells of its transaction, and OK says so")
  func stored() throws {
    let world = try World()
    let client = try world.sidecar.client()
    try world.sidecar.redis.cli("SET", "user:7", "old")
    try client.send("SET", "user:7", "new")
    world.commit(try world.runner.next(), 101)
    try world.waitUntilRemoved(1)
    try world.apply(["user:8", "user:7"], 101)
    try world.tell()
    #expect(try client.receive() == .ok)
    #expect(try world.sidecar.redis.cli("GET", "user:7") == "new")
    let hits = try world.sidecar.count("near_hits")
    #expect(try client.call("GET", "user:7") == "new")
    #expect(try world.sidecar.count("near_hits") == hits + 1)
    #expect(try world.sidecar.count("writes_stored") == 1)
  }

  @Test("The log may be faster than PostgreSQL's reply")
  func early() throws {
    let world = try World()
    let client = try world.sidecar.client()
    try client.send("SET", "user:7", "new")
    let job = try world.runner.next()
    try world.apply(["user:7"], 101)
    try world.tell()
    world.commit(job, 101)
    #expect(try client.receive() == .ok)
    #expect(try world.sidecar.redis.cli("GET", "user:7") == "new")
  }

  @Test("What the journal does not tell of within 100 ms is answered without the value")
  func patience() throws {
    let world = try World()
    let client = try world.sidecar.client()
    try world.sidecar.redis.cli("SET", "user:7", "old")
    try client.send("SET", "user:7", "new")
    world.commit(try world.runner.next(), 101)
    try world.waitUntilRemoved(1)
    let began = ContinuousClock.now
    #expect(try client.receive() == .ok)
    #expect(ContinuousClock.now - began > .milliseconds(50))
    #expect(try world.sidecar.redis.cli("EXISTS", "user:7") == "0")
    // Later it is too late.
    try world.apply(["user:7"], 101)
    try world.tell()
    #expect(try client.call("GET", "user:7") == nil)
    #expect(try world.sidecar.count("writes_stored") == 0)
  }

  enum Doubt: CaseIterable { case group, otherTransaction, otherHost, gap, generation, noSession }

  @Test("What leaves a doubt whether it is the newest is not stored", arguments: Doubt.allCases)
  func doubt(_ doubt: Doubt) throws {
    let world = try World()
    let client = try world.sidecar.client()
    try client.send("SET", "user:7", "new")
    let job = try world.runner.next()
    world.commit(job, 101)
    try world.waitUntilRemoved(1)
    switch doubt {
    case .group:
      // Whether before or behind the transaction, an earlier step of its batch does not tell.
      try world.apply([], 102, groups: ["puser:"], last: false)
      try world.apply(["user:7"], 101)
      try world.tell()
    case .otherTransaction:
      try world.apply(["user:7"], 102)
      try world.tell()
      try world.apply(["user:8"], 101)
      try world.tell()
    case .otherHost:
      // Another host has committed a later value, removed the key and answered; the log has not told of that.
      try world.apply(["user:7"], nil)
      try world.apply(["user:7"], 101)
      try world.tell()
    case .gap:
      // The loop knows of the entry behind the gap, and nobody knows what else it has missed.
      try world.apply(["user:7"], 101, last: false)
      try world.apply(["user:9"], 101)
      try world.tell(skipping: 1)
    case .generation:
      try world.apply(["user:7"], 101)
      try world.sidecar.begin(Generation(0xa2))
      try world.tell()
    case .noSession:
      // Another session of a tailer may deliver again what came before.
      try world.sidecar.redis.cli("HINCRBY", "nearside:{}:m", "ep", "1")
      try world.apply(["user:7"], 101)
      try world.tell()
    }
    #expect(try client.receive() == .ok)
    #expect(try world.sidecar.redis.cli("EXISTS", "user:7") == "0")
    #expect(try world.sidecar.count("writes_stored") == 0)
  }

  @Test("A group in an earlier batch is no doubt")
  func earlierGroup() throws {
    let world = try World()
    let client = try world.sidecar.client()
    try client.send("SET", "user:7", "new")
    world.commit(try world.runner.next(), 101)
    try world.waitUntilRemoved(1)
    try world.apply([], 100, groups: ["puser:"])
    try world.apply(["user:7"], 101)
    try world.tell()
    #expect(try client.receive() == .ok)
    #expect(try world.sidecar.redis.cli("GET", "user:7") == "new")
  }

  @Test("The SETs of a key go one after the other, and only the newest is stored, however late the log tells")
  func overtaken() throws {
    let world = try World()
    let (one, two) = (try world.sidecar.client(), try world.sidecar.client())
    try one.send("SET", "user:7", "first")
    let first = try world.runner.next()
    try two.send("SET", "user:7", "second")
    try eventually("both are under way") { try world.sidecar.count("writes") == 2 }
    #expect(world.runner.count == 1)
    world.commit(first, 101)
    let second = try world.runner.next()
    #expect(second.parameters.first == Array("second".utf8))
    world.commit(second, 102)
    try world.waitUntilRemoved(2)
    // So far the log has told of the first only.
    try world.apply(["user:7"], 101)
    try world.tell()
    #expect(try one.receive() == .ok)
    #expect(try two.receive() == .ok)
    #expect(try world.sidecar.redis.cli("EXISTS", "user:7") == "0")
  }

  @Test("A SET that waits for the log is answered when another one of its key comes, and is not stored")
  func replaced() throws {
    let world = try World()
    let (one, two) = (try world.sidecar.client(), try world.sidecar.client())
    try one.send("SET", "user:7", "first")
    world.commit(try world.runner.next(), 101)
    try world.waitUntilRemoved(1)
    try two.send("SET", "user:7", "second")
    let second = try world.runner.next()
    world.commit(second, 102)
    try world.waitUntilRemoved(2)
    try world.apply(["user:7"], 101)
    try world.tell()
    #expect(try one.receive() == .ok)
    #expect(try two.receive() == .ok)
    #expect(try world.sidecar.redis.cli("EXISTS", "user:7") == "0")
    #expect(try world.sidecar.count("writes_stored") == 0)
  }

  @Test("A Redis that has forgotten the scripts is given them again, and the old value goes all the same")
  func forgotten() throws {
    let world = try World()
    let client = try world.sidecar.client()
    try world.sidecar.redis.cli("SET", "user:7", "old")
    try client.send("SET", "user:7", "new")
    let job = try world.runner.next()
    try world.sidecar.redis.cli("SCRIPT", "FLUSH")
    world.commit(job, 101)
    #expect(try client.receive() == .ok)
    #expect(try world.sidecar.redis.cli("EXISTS", "user:7") == "0")
  }

  @Test(
    "A write of which it is not known whether it has happened removes the key; one that has not, does not")
  func unknown() throws {
    let world = try World()
    let client = try world.sidecar.client()
    try world.sidecar.redis.cli("SET", "user:7", "old")
    for (state, isUnknown) in [("25P03", false), ("08007", true)] {
      try client.send("SET", "user:7", "new")
      world.runner.fail(
        try world.runner.next(),
        SQLFailure(kind: .unreachable, sqlState: state, sentence: "The connection was lost."))
      let text = try client.receive().errorText ?? ""
      #expect(text.contains("SQLSTATE \(state)") && text.contains("not known") == isUnknown, "\(text)")
      #expect(try world.sidecar.redis.cli("EXISTS", "user:7") == (isUnknown ? "0" : "1"))
    }
  }

  @Test("At most 4096 SETs are under way; the next one is told to try again")
  func limit() throws {
    let world = try World()
    let client = try world.sidecar.client()
    let all = (0..<4096).flatMap { RESPClient.encode(["SET", "user:\($0)", "v"]) }
    try client.send(raw: all)
    try eventually("all are under way") { try world.sidecar.count("writes") == 4096 }
    let other = try world.sidecar.client()
    let refused = try other.call("SET", "user:5000", "v").errorText ?? ""
    #expect(refused.hasPrefix("TRYAGAIN Nearside: 4096 writes"), "\(refused)")
    world.runner.fail(
      try world.runner.next(), SQLFailure(kind: .statement, sqlState: "23514", sentence: "Refused."))
    #expect(try client.receive().errorText?.contains("23514") == true)
    try other.send("SET", "user:5000", "v")
    try eventually("it is under way") { world.runner.count == 4097 }
  }
}
