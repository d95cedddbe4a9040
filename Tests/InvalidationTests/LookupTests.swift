import Configuration
import Testing

@testable import Invalidation

@Suite("Lookups: keys that a statement finds, once their transaction is visible")
struct LookupTests {
  private static func rules(remember: UInt64? = nil) -> [TableRule] {
    var items = rule("items", ["item:{id}"])
    let place = SourcePlace(line: 7, column: 3, length: 1)
    let sql = SQLTemplate(
      parts: [.text("SELECT user_id FROM orders WHERE id = "), .parameter(0)], names: ["order_id"],
      places: [place], place: place)
    items.lookups = [
      LookupRule(sql: sql, keys: [template("user:{user_id}:orders")], remember: remember, place: place)
    ]
    return [items]
  }

  private static func plan(remember: UInt64? = nil) -> KeyPlan {
    KeyPlan(tables: rules(remember: remember), keyPrefix: "shop:")
  }

  private func ask(_ tail: inout Tail, _ values: String...) {
    for value in values {
      var packed: [UInt8] = []
      Array(value.utf8).withUnsafeBytes { LookupAsk.append($0, to: &packed) }
      packed.withUnsafeBytes { tail.session.pending.ask($0, lookup: 0) }
    }
    tail.session.heard(.rows)
  }

  private func found(_ run: LookupRun, _ users: [String: String]) -> [LookupKey] {
    run.values(1)[0].enumerated().compactMap { index, order in
      users[order ?? ""].map { LookupKey(ask: index, template: 0, key: Array("shop:user:\($0):orders".utf8)) }
    }
  }

  // A value that cannot be copied has no place in a macro's argument.
  private func check(_ condition: Bool, sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(condition, sourceLocation: sourceLocation)
  }

  private func need<Value>(_ value: Value?, sourceLocation: SourceLocation = #_sourceLocation) throws -> Value
  {
    try #require(value, sourceLocation: sourceLocation)
  }

  private let everything = Snapshot(next: 1000, running: [])

  /// The keys and groups of the next step, with its W and whether it is a beat.
  private func step(
    _ tail: inout Tail
  ) -> (keys: [String], groups: [String], applied: UInt64, beat: Bool)? {
    while true {
      let action = tail.next()
      guard case .apply(let request, let chunk) = action else { return nil }
      let keys = Array(tail.session.sending.keys[chunk])
      let groups = request.groups.map { index in
        tail.session.sending.withGroup(index) { group, _ in String(decoding: group, as: UTF8.self) }
      }
      _ = tail.reply(.applied(W: request.applied, V: request.visible, generationAsked: false))
      return (keys, groups, request.applied.rawValue, request.sampled != nil)
    }
  }

  @Test(
    "Old and new values are asked once for all rows of a transaction, with the values of a row that is deleted"
  )
  func asks() throws {
    var stream = Stream(Self.rules())
    let columns = [column("id", PgType.int8, key: true), column("order_id", PgType.int8, key: true)]
    try stream.describe(table(1, "items", columns))
    try stream.transaction([
      PgOutput.insert(1, ["1", "5"]), PgOutput.insert(1, ["2", "5"]),
      PgOutput.update(1, old: ["2", "5"], tag: "K", ["2", "6"]), PgOutput.delete(1, ["3", "7"]),
    ])
    let asks = stream.batch.takeAsks()
    #expect(asks.map(\.values) == [["5"], ["6"], ["7"]])
    check(stream.batch.askCount == 0)
    check(stream.batch.count == 3)
  }

  @Test("A row that moves to other values of a lookup counts as moved, whatever its condition compares")
  func moves() throws {
    var rules = Self.rules()
    rules[0].when = try RowCondition.parse(
      "changed(status)", place: SourcePlace(line: 1, column: 1, length: 1))
    var stream = Stream(rules)
    let columns = [
      column("id", PgType.int8, key: true), column("order_id", PgType.int8, key: true),
      column("status", key: true), column("note", key: true),
    ]
    try stream.describe(table(1, "items", identity: .full, columns))
    try stream.transaction([
      PgOutput.update(1, old: ["1", "5", "new", "a"], ["1", "5", "new", "b"]),
      PgOutput.update(1, old: ["2", "7", "new", "a"], ["2", "8", "new", "a"]),
    ])
    #expect(Set(stream.batch.takeAsks().map(\.values)) == [["7"], ["8"]])
    #expect(stream.keys() == ["shop:item:2"])
  }

  @Test("Plain keys go at once; W stays before the transaction until what the lookup finds is sent")
  func order() throws {
    var tail = Tail(lookups: Self.plan().lookups)
    tail.invisible = [9]
    tail.begin("item:1")
    ask(&tail, "5")
    tail.commit(200, id: 9)
    let plain = try need(step(&tail))
    #expect(plain.keys == ["item:1"])
    #expect(plain.applied == 197)
    check(tail.session.confirmable <= LSN(197))
    // Invisible: the statement would not see its rows.
    check(tail.session.nextLookup(now: tail.now) == nil)
    tail.invisible = []
    tail.pass(milliseconds: 25)
    _ = tail.next()
    let run = try need(tail.session.nextLookup(now: tail.now))
    #expect(run.values(1) == [["5"]])
    check(tail.session.nextLookup(now: tail.now) == nil)
    check(
      tail.session.lookupAnswered(run, found(run, ["5": "8"]), snapshot: everything, now: tail.now))
    let dependent = try need(step(&tail))
    #expect(dependent.keys == ["shop:user:8:orders"])
    #expect(dependent.applied == 200)
    let origin = tail.session.lookups.floor
    #expect(origin == nil)
  }

  @Test("A sample that sees the transaction makes no beat until the lookup is done; one that does not, does")
  func beats() throws {
    var tail = Tail(lookups: Self.plan().lookups)
    tail.invisible = [9]
    tail.begin("item:1")
    ask(&tail, "5")
    tail.commit(200, id: 9)
    var beats = 0
    for _ in 0..<40 {
      if step(&tail)?.beat == true { beats += 1 }
      tail.pass(milliseconds: 20)
    }
    #expect(beats > 2)
    tail.invisible = []
    tail.pass(milliseconds: 300)
    // The sample of before may still become one.
    for _ in 0..<20 {
      _ = step(&tail)
      tail.pass(milliseconds: 20)
    }
    beats = 0
    for _ in 0..<40 {
      if step(&tail)?.beat == true { beats += 1 }
      tail.pass(milliseconds: 20)
    }
    #expect(beats == 0)
    let run = try need(tail.session.nextLookup(now: tail.now))
    check(tail.session.lookupAnswered(run, [], snapshot: everything, now: tail.now))
    for _ in 0..<40 {
      if step(&tail)?.beat == true { beats += 1 }
      tail.pass(milliseconds: 20)
    }
    #expect(beats > 2)
  }

  @Test("All visible transactions share one run, each ask once")
  func batches() throws {
    var tail = Tail(lookups: Self.plan().lookups)
    tail.invisible = [11]
    for (end, id) in [(200, 9), (210, 10), (220, 11)] as [(UInt64, UInt32)] {
      tail.begin()
      ask(&tail, "5", "\(id)")
      tail.commit(end, id: id)
    }
    tail.pass(milliseconds: 5)
    _ = tail.next()
    let run = try need(tail.session.nextLookup(now: tail.now))
    #expect(run.values(1) == [["5", "9", "10"]])
    check(tail.session.lookupAnswered(run, found(run, ["5": "1"]), snapshot: everything, now: tail.now))
    while let done = step(&tail) { #expect(done.applied <= 217) }
    // What the third asks is asked again, though "5" was just answered.
    tail.invisible = []
    tail.pass(milliseconds: 50)
    _ = tail.next()
    check(tail.session.nextLookup(now: tail.now)?.values(1) == [["5", "11"]])
  }

  @Test("A failure is tried again after a pause, and then every key that begins like the template is cleared")
  func widens() throws {
    var tail = Tail(lookups: Self.plan().lookups)
    tail.begin()
    ask(&tail, "5")
    tail.commit(200)
    tail.pass(milliseconds: 5)
    _ = tail.next()
    for turn in 1...LookupQueue.tries {
      let run = try need(tail.session.nextLookup(now: tail.now))
      check(tail.session.lookupFailed(run, now: tail.now) == (turn == LookupQueue.tries))
      check(tail.session.nextLookup(now: tail.now) == nil)
      while let other = step(&tail) {
        #expect(turn < LookupQueue.tries ? other.groups.isEmpty : other.groups == ["pshop:user:"])
        #expect(turn < LookupQueue.tries ? other.applied <= 197 : other.applied == 200)
        if turn == LookupQueue.tries { break }
      }
      tail.pass(milliseconds: 1000)
    }
    // It is known to fail: one try is enough, until it works again.
    tail.begin()
    ask(&tail, "5")
    tail.commit(300)
    tail.pass(milliseconds: 5)
    _ = tail.next()
    let again = try need(tail.session.nextLookup(now: tail.now))
    check(tail.session.lookupFailed(again, now: tail.now))
  }

  @Test("An answer that did not see the transaction is no answer")
  func blind() throws {
    var tail = Tail(lookups: Self.plan().lookups)
    tail.begin()
    ask(&tail, "5")
    tail.commit(200, id: 9)
    tail.pass(milliseconds: 5)
    _ = tail.next()
    let run = try need(tail.session.nextLookup(now: tail.now))
    check(
      !tail.session.lookupAnswered(run, [], snapshot: Snapshot(next: 1000, running: [9]), now: tail.now))
    check(tail.session.lookups.floor == LSN(197))
  }

  @Test("A new generation stands for every lookup, and the answer of one under way counts no more")
  func newGeneration() throws {
    var tail = Tail(lookups: Self.plan().lookups)
    tail.begin()
    ask(&tail, "5")
    tail.commit(200)
    tail.pass(milliseconds: 5)
    _ = tail.next()
    let run = try need(tail.session.nextLookup(now: tail.now))
    tail.pass(milliseconds: 2000)
    tail.truncation(300)
    _ = tail.settle()
    check(tail.session.lookups.floor == nil)
    check(tail.session.lookupAnswered(run, found(run, ["5": "1"]), snapshot: everything, now: tail.now))
    check(tail.session.lookups.found.isEmpty)
  }

  @Test(
    "The next lookup waits for the answer of the one before, though a new generation has made that one void")
  func voidAnswer() throws {
    var tail = Tail(lookups: Self.plan().lookups)
    tail.begin()
    ask(&tail, "5")
    tail.commit(200)
    tail.pass(milliseconds: 5)
    _ = tail.next()
    let run = try need(tail.session.nextLookup(now: tail.now))
    tail.pass(milliseconds: 2000)
    tail.truncation(300)
    _ = tail.settle()
    tail.begin()
    ask(&tail, "6")
    tail.commit(400)
    tail.pass(milliseconds: 5)
    _ = tail.next()
    check(tail.session.nextLookup(now: tail.now) == nil)
    // Otherwise the loop would turn without a pause until the answer comes.
    check(tail.session.lookupDue == nil)
    check(!tail.session.lookupFailed(run, now: tail.now))
    check(tail.session.nextLookup(now: tail.now)?.values(1) == [["6"]])
  }

  @Test("A key that a lookup found names no transaction, though younger ones of its batch have named it")
  func origins() throws {
    var tail = Tail(lookups: Self.plan().lookups)
    tail.begin("item:1")
    ask(&tail, "5")
    tail.commit(200, id: 9)
    tail.pass(milliseconds: 5)
    check(step(&tail) != nil)
    let run = try need(tail.session.nextLookup(now: tail.now))
    // A SET that is written through commits and names the key by its own row; then the lookup's answer comes.
    tail.begin()
    Array("shop:user:8:orders".utf8).withUnsafeBytes {
      tail.session.pending.append($0, table: 0, origin: .named(by: 10))
    }
    tail.session.heard(.rows)
    tail.commit(300, id: 10)
    check(tail.session.lookupAnswered(run, found(run, ["5": "8"]), snapshot: everything, now: tail.now))
    guard case .apply(_, let chunk) = tail.next() else { return check(false) }
    let origins = chunk.map { tail.session.sending.origin($0) }
    #expect(origins.map(\.transaction) == [0])
    #expect(origins.map(\.isNamed) == [false])
  }

  @Test(
    "While thousands of found keys wait no lookup begins, and more than a hundred thousand begin a generation"
  )
  func foundTooMuch() throws {
    var tail = Tail(lookups: Self.plan().lookups)
    func keys(_ count: Int) -> [LookupKey] {
      (0..<count).map { LookupKey(ask: 0, template: 0, key: Array("shop:user:\($0):orders".utf8)) }
    }
    for (number, count) in [LookupQueue.enoughFound, LookupQueue.mostFound + 1].enumerated() {
      let end = UInt64(200 + 100 * number)
      tail.begin()
      ask(&tail, "5")
      tail.commit(end)
      tail.begin()
      ask(&tail, "6")
      tail.commit(end + 10)
      tail.pass(milliseconds: 5)
      _ = tail.next()
      let run = try need(tail.session.nextLookup(now: tail.now))
      check(tail.session.lookupAnswered(run, keys(count), snapshot: everything, now: tail.now))
      check(tail.session.nextLookup(now: tail.now) == nil)
      check(tail.session.lookupDue == nil)
      tail.pass(milliseconds: 2000)
      let began = tail.settle().contains { if case .send(.newGeneration) = $0 { true } else { false } }
      #expect(began == (number == 1))
    }
  }

  /// A transaction asks this and these are found; how many keys are cleared.
  private func clear(_ queue: inout LookupQueue, _ ask: String, _ users: Range<Int>) throws -> Int {
    let now = Instant(nanoseconds: 0)
    var packed: [UInt8] = []
    Array(ask.utf8).withUnsafeBytes { LookupAsk.append($0, to: &packed) }
    queue.committed(
      Commit(transaction: 1, record: LSN(1), end: LSN(2), committedAt: 0),
      [LookupAsk(lookup: 0, packed: packed)])
    let run = try need(queue.next(now: now, isVisible: { _ in true }))
    let keys = users.map { LookupKey(ask: 0, template: 0, key: Array("shop:user:\($0):orders".utf8)) }
    check(queue.answered(run, keys, everything, now: now))
    return queue.take().count
  }

  @Test("What an answer replaces is cleared, also if there is no room to remember both")
  func remembersInOrder() throws {
    var queue = LookupQueue(Self.plan(remember: 3_600_000_000_000).lookups)
    let count = LookupQueue.mostRemembered / 2 + 1
    check(try clear(&queue, "0", 0..<count) == count)
    check(try clear(&queue, "0", count..<2 * count) == 2 * count)
    // One that is too large by itself is not remembered, and pushes nothing out.
    check(try clear(&queue, "1", 0..<2 * count) == 2 * count)
    check(try clear(&queue, "1", 0..<0) == 0)
    check(try clear(&queue, "0", 0..<0) == count)
  }

  @Test("Remembering takes time by the number of keys, and is bounded by it")
  func remembersMany() throws {
    var queue = LookupQueue(Self.plan(remember: 3_600_000_000_000).lookups)
    let count = 20_000
    func turn(_ ask: String, _ users: Range<Int>) throws -> Int { try clear(&queue, ask, users) }
    let start = ContinuousClock.now
    check(try turn("0", 0..<count) == count)
    check(try turn("0", 0..<count) == count)
    // Comparing each key with each would take minutes.
    #expect(ContinuousClock.now - start < .seconds(10))
    check(try turn("0", count..<2 * count) == 2 * count)
    // Others push it out.
    for other in 1...LookupQueue.mostRemembered / count { _ = try turn("\(other)", 0..<count) }
    check(try turn("0", 0..<count) == count)
  }

  @Test("explain shows what is asked only of a change that counts")
  func explained() throws {
    var rules = Self.rules()
    rules[0].when = try RowCondition.parse(
      "changed(status)", place: SourcePlace(line: 1, column: 1, length: 1))
    let plan = KeyPlan(tables: rules, keyPrefix: "shop:")
    func asked(_ status: String) -> [String] {
      plan.explainLookups(
        table: 0, catalogue: nil, new: ["id": "1", "order_id": "5", "status": "a"],
        old: ["id": "1", "order_id": "5", "status": status], operation: .update
      ).flatMap(\.values)
    }
    #expect(asked("b") == ["order_id = 5"])
    #expect(asked("a") == [])
  }

  @Test("What was found before is cleared again for as long as it is remembered")
  func remembers() throws {
    var tail = Tail(lookups: Self.plan(remember: 1_000_000_000).lookups)
    func turn(_ end: UInt64, _ users: [String: String], _ tail: inout Tail) throws -> Set<String> {
      tail.begin()
      ask(&tail, "5")
      tail.commit(end)
      tail.pass(milliseconds: 5)
      var keys: Set<String> = []
      while let done = step(&tail) { keys.formUnion(done.keys) }
      let run = try need(tail.session.nextLookup(now: tail.now))
      check(tail.session.lookupAnswered(run, found(run, users), snapshot: everything, now: tail.now))
      while let done = step(&tail) { keys.formUnion(done.keys) }
      return keys
    }
    check(try turn(200, ["5": "1"], &tail) == ["shop:user:1:orders"])
    // The order is gone, or another user's.
    check(try turn(300, ["5": "2"], &tail) == ["shop:user:1:orders", "shop:user:2:orders"])
    check(try turn(400, [:], &tail) == ["shop:user:2:orders"])
    check(try turn(500, ["5": "3"], &tail) == ["shop:user:3:orders"])
    tail.pass(milliseconds: 1500)
    check(try turn(600, [:], &tail) == [])
  }

  @Test("A row's columns become keys by their types, a NULL gives none")
  func shape() throws {
    let lookup = Self.rules()[0].lookups[0]
    let shape = try LookupShape(lookup, keyPrefix: "shop:", types: [(PgType.bool, "bool", "b")])
    var keys: [LookupKey] = []
    #expect(shape.append({ _ in "t" }, ask: 3, to: &keys))
    #expect(shape.append({ _ in nil }, ask: 4, to: &keys))
    #expect(keys == [LookupKey(ask: 3, template: 0, key: Array("shop:user:true:orders".utf8))])
    #expect(throws: PlanProblem.self) {
      try LookupShape(lookup, keyPrefix: "shop:", types: [(PgType.timestamptz, "timestamptz", "b")])
    }
  }

  @Test("A parameter must be a column that old rows hold")
  func problems() {
    let plan = Self.plan()
    let columns = [column("id", PgType.int8, key: true), column("order_id", PgType.int8)]
    let found = plan.problems(with: table(1, "items", columns))
    #expect(found.contains { $0.isFatal && $0.message.contains("the lookup names column \"order_id\"") })
    #expect(plan.problems(with: table(1, "items", identity: .full, columns)).isEmpty)
    let missing = plan.problems(with: table(1, "items", [column("id", PgType.int8, key: true)]))
    #expect(missing.contains { $0.isFatal && $0.message.contains("\"order_id\"") && $0.place.line == 7 })
  }
}
