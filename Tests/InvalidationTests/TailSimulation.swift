import Invalidation

/// A sidecar that has, or had, the slot.
final class ModelTailer {
  let token: Int
  let mapping: Int
  let slotCreated: Bool
  /// The slot's position when it was acquired.
  let confirmed: UInt64
  /// Nil until the takeover is answered.
  var session: TailSession?
  /// Whether its connection to PostgreSQL still stands. Without it, it goes on with what it has heard.
  var holdsSlot = true
  var order: ModelRedis.Order? = .takeover
  var reply: StateReply?
  /// Where its stream stands: the transaction, and how much of it has been sent (0: not its beginning).
  var transaction: Int
  var part = 0
  /// The last V that a reply has told of the present generation.
  var answered = LSN.zero
  /// Where the generation that it last asked for begins.
  var start = LSN.zero

  init(token: Int, mapping: Int, log: ModelLog, slotCreated: Bool) {
    self.token = token
    self.mapping = mapping
    self.slotCreated = slotCreated
    confirmed = log.confirmed
    transaction = log.firstUnconfirmed
  }
}

/// One run: a log, a Redis, up to two sidecars of which one believes a little too long that it is the tailer,
/// applications that fill, and what may go wrong with any of them. Everything follows from the seed.
struct TailSimulation {
  let seed: UInt64
  private var random: SplitMix
  private var log = ModelLog()
  private var redis = ModelRedis()
  /// Redis after each of the last writes; a failover goes back to one of them.
  private var images: [ModelRedis] = []
  private var tailers: [ModelTailer] = []
  private var leases: [ModelRedis.Lease] = []
  /// Requests of sidecars that are gone, which may still arrive.
  private var orphans: [(order: ModelRedis.Order, token: Int, mapping: Int)] = []
  private var now = Instant(nanoseconds: 1_000_000_000)
  private var generations: UInt64 = 0
  private var tokens = 0
  private var regressed = false
  private var weights: [Int]
  private let names: [[UInt8]] = (0..<ModelRedis.keys).map { [UInt8(ascii: "a") + UInt8($0)] }
  /// What went wrong, in words.
  private(set) var violation: String?
  /// Which things have happened, so that a test can tell that they did.
  private(set) var seen: [String: Int] = [:]

  private enum Event: Int, CaseIterable {
    case commit, writeOther, deliver, act, execute, hear, confirm, time, lease, fill, ask, evict
    case crash, loseSlot, failover, loseAll, evictState, slotBack, slotAhead, dropSlot
  }

  init(seed: UInt64) {
    self.seed = seed
    random = SplitMix(state: seed)
    let usual = [24, 4, 40, 60, 60, 60, 16, 14, 40, 40, 2, 2]
    // Each seed has its own mix of faults; most lack most kinds.
    weights = usual
    for _ in usual.count..<Event.allCases.count {
      weights.append(random.below(4) == 0 ? 1 + random.below(4) : 0)
    }
    weights[Event.failover.rawValue] += random.below(3)
    images.append(redis)
  }

  mutating func run(steps: Int) {
    for step in 0..<steps {
      let event = pick()
      let before = redis.meta
      perform(event)
      check(event, before)
      if let violation {
        self.violation = "seed \(seed), step \(step), \(event): \(violation)"
        return
      }
    }
    comeToRest()
  }

  private mutating func pick() -> Event {
    var left = random.below(weights.reduce(0, +))
    for event in Event.allCases {
      left -= weights[event.rawValue]
      if left < 0 { return event }
    }
    return .act
  }

  // MARK: Events

  private mutating func perform(_ event: Event) {
    switch event {
    case .commit:
      let isDoubt = random.below(25) == 0
      let keys = isDoubt ? [] : (0..<random.below(5)).map { _ in random.below(ModelRedis.keys) }
      log.commit(keys: keys, isDoubt: isDoubt, bytes: UInt64(1 + random.below(20)))
    case .writeOther: log.end += UInt64(1 + random.below(20))
    case .deliver: if let tailer = holder { deliver(to: tailer, messages: 1 + random.below(8)) }
    case .act: if let tailer = anyTailer() { act(tailer) }
    case .execute: executeSomething()
    case .hear: if let tailer = anyTailer() { hear(tailer) }
    case .confirm: if let tailer = holder { confirm(tailer) }
    case .time: pass(milliseconds: 1 + random.below(60))
    case .lease: lease()
    case .fill: if !leases.isEmpty { fill(random.below(leases.count)) }
    case .ask: redis.meta?.asked = true
    case .evict: redis.values[random.below(ModelRedis.keys)] = nil
    case .crash: if let tailer = anyTailer() { remove(tailer, "crash") }
    case .loseSlot:
      if let tailer = holder {
        tailer.holdsSlot = false
        count("zombie")
      }
    case .failover: failover()
    case .loseAll:
      redis.meta = nil
      redis.values = [ModelRedis.Value?](repeating: nil, count: ModelRedis.keys)
      written()
    case .evictState:
      redis.meta = nil
      written()
    case .slotBack:
      // PostgreSQL writes a slot's position down at checkpoints only, and forgets the rest in a crash.
      loseHolder()
      log.confirmed -= min(log.confirmed - 100, UInt64(random.below(80)))
    case .slotAhead:
      loseHolder()
      log.confirmed = min(log.end, log.confirmed + UInt64(random.below(80)))
      count("slot advanced by somebody else")
    case .dropSlot:
      loseHolder()
      log.slotExists = false
    }
  }

  private var holder: ModelTailer? { tailers.first { $0.holdsSlot } }

  private mutating func anyTailer() -> ModelTailer? {
    if holder == nil { acquire() }
    return tailers.isEmpty ? nil : tailers[random.below(tailers.count)]
  }

  private mutating func acquire() {
    // A third sidecar would teach nothing.
    if tailers.count == 2 { remove(tailers[0], "zombie ended") }
    let created = !log.slotExists
    if created {
      log.slotExists = true
      // The record of running transactions that makes the slot consistent.
      log.end += 1
      log.confirmed = log.end
    }
    tokens += 1
    tailers.append(
      ModelTailer(
        token: tokens, mapping: random.below(40) == 0 ? 1 : 0, log: log, slotCreated: created))
    count("takeover")
  }

  private mutating func loseHolder() {
    guard let tailer = holder else { return }
    if random.below(2) == 0 { tailer.holdsSlot = false } else { remove(tailer, "crash") }
  }

  private mutating func remove(_ tailer: ModelTailer, _ why: String) {
    count(why)
    if let order = tailer.order { orphans.append((order, tailer.token, tailer.mapping)) }
    tailers.removeAll { $0 === tailer }
  }

  /// Sends messages of the log, as a walsender does: transactions one after the other, and between them (here
  /// also inside them, where they must not be believed) how far it has come.
  private mutating func deliver(to tailer: ModelTailer, messages: Int) {
    guard tailer.session != nil else { return }
    for _ in 0..<messages where tailer.session?.isFull == false {
      guard tailer.transaction < log.transactions.count else {
        tailer.session?.heardKeepalive(LSN(log.end))
        return
      }
      let transaction = log.transactions[tailer.transaction]
      if tailer.part == 0 {
        if random.below(8) == 0 {
          let last = tailer.transaction == 0 ? 100 : log.transactions[tailer.transaction - 1].end
          let gap = Int(transaction.end - last)
          tailer.session?.heardKeepalive(LSN(last + UInt64(random.below(gap))))
        }
        tailer.session?.heard(.began(transaction: 1))
        tailer.part = 1
      } else if tailer.part <= transaction.keys.count {
        let name = names[transaction.keys[tailer.part - 1]]
        name.withUnsafeBytes { tailer.session?.pending.append($0, table: 0) }
        tailer.session?.heard(.rows)
        tailer.part += 1
        if random.below(8) == 0 { tailer.session?.heardKeepalive(LSN(transaction.end)) }
      } else {
        if transaction.isDoubt { tailer.session?.heard(.doubt(.truncated(table: "t"))) }
        tailer.session?.heard(
          .committed(
            Commit(
              transaction: 1, record: LSN(transaction.end - 1), end: LSN(transaction.end), committedAt: 0)))
        tailer.transaction += 1
        tailer.part = 0
      }
    }
  }

  private mutating func act(_ tailer: ModelTailer) {
    guard tailer.session != nil, tailer.order == nil, tailer.reply == nil else { return }
    let drained = tailer.transaction == log.transactions.count
    while let question = tailer.session?.ask(now: now, drained: drained) {
      tailer.session?.answered(answer(question), now: now)
    }
    let new = Generation(UInt64(generations + 1))
    switch tailer.session?.next(now: now, drained: drained, random: { new }) {
    case .send(.newGeneration(_, let old, let new, _, _, let applied, let visible, _)):
      generations += 1
      tailer.start = visible
      tailer.order = .newGeneration(
        old: old?.rawValue, new: new.rawValue, applied: applied.rawValue, visible: visible.rawValue)
      count("new generation")
    case .send(.purge(let check, let cursor)): tailer.order = .purge(check, cursor: cursor)
    case .send(.purged(let check)): tailer.order = .purged(check)
    case .apply(let request, let chunk):
      tailer.order = .apply(request, keys: keys(tailer, chunk))
      if request.parts > 1 { count("batch in steps") }
    // Nothing is pending: no key of this log has groups.
    case .send(.takeover), .send(.sweep), .send(.swept), .wait, .end, nil: break
    }
  }

  /// PostgreSQL's answer: every commit is visible at once.
  private mutating func answer(_ question: Question) -> Answer {
    let snapshot = Snapshot(next: 1000, running: [])
    switch question {
    case .look: return .look(snapshot)
    case .sample:
      return .sample(
        Sample(written: LSN(log.end), snapshot: snapshot, canary: log.canary.map { Generation($0) }))
    case .mark(let generation):
      log.canary = generation.rawValue
      return .marked
    case .nudge: return .nudged
    case .fingerprint: return .fingerprint("")
    }
  }

  private func keys(_ tailer: ModelTailer, _ chunk: Range<Int>) -> [Int] {
    var keys: [Int] = []
    for index in chunk {
      if let key = tailer.session?.sending.withKey(index, { key, _ in Int(key[0]) - 97 }) { keys.append(key) }
    }
    return keys
  }

  private mutating func executeSomething() {
    if !orphans.isEmpty, random.below(4) == 0 {
      let orphan = orphans.remove(at: random.below(orphans.count))
      count("request of a sidecar that is gone")
      _ = execute(orphan.order, orphan.token, orphan.mapping)
    } else if let tailer = anyTailer(), let order = tailer.order {
      tailer.order = nil
      tailer.reply = execute(order, tailer.token, tailer.mapping)
    }
  }

  private mutating func execute(_ order: ModelRedis.Order, _ token: Int, _ mapping: Int) -> StateReply {
    let before = redis.meta
    let reply = redis.execute(order, token: token, mapping: mapping)
    if case .apply(let request, _) = order, case .applied = reply, let before {
      if request.applied.rawValue < before.applied || request.visible.rawValue < before.visible {
        violation = "W or V would go back"
      }
    }
    switch reply {
    case .fenced, .noState, .regressed, .raced: break
    default: redis.writes += 1
    }
    written()
    return reply
  }

  private mutating func written() {
    images.append(redis)
    if images.count > 40 { images.removeFirst(20) }
  }

  private mutating func hear(_ tailer: ModelTailer) {
    guard let reply = tailer.reply else { return }
    tailer.reply = nil
    switch reply {
    case .takenOver(let state): tailer.answered = state.visible
    case .applied(_, let visible, _, _): tailer.answered = visible
    default: break
    }
    guard tailer.session != nil else { return takenOver(tailer, reply) }
    switch tailer.session?.replied(reply, now: now) {
    case .began: tailer.answered = tailer.start
    case .cleared: count("cleared")
    case .over(let ending):
      count("\(ending)")
      if ending == .regressed { regressed = true }
      remove(tailer, "session over")
    case .goOn, nil: break
    }
  }

  private mutating func takenOver(_ tailer: ModelTailer, _ reply: StateReply) {
    let acquisition = Acquisition.decide(
      reply, slotCreated: tailer.slotCreated, confirmed: LSN(tailer.confirmed),
      written: LSN(log.end), canary: .holds(log.canary.map { Generation($0) }), regressed: regressed)
    switch acquisition {
    case .refuse(let sentence):
      violation = sentence
      return
    case .begin(_, let reason):
      count(reason.prefix(while: { !$0.isNumber }) + "")
      regressed = false
    case .resume: count("resumed")
    }
    tailer.session = TailSession(
      token: String(tailer.token), server: thisServer, mapping: String(tailer.mapping),
      acquisition: acquisition, confirmed: LSN(tailer.confirmed),
      running: Snapshot(next: 1000, running: []), now: now, keysPerStep: 2, mostPending: 6)
  }

  private mutating func confirm(_ tailer: ModelTailer) {
    guard let confirmable = tailer.session?.confirmable else { return }
    log.confirmed = max(log.confirmed, confirmable.rawValue)
  }

  private mutating func pass(milliseconds: Int) {
    now = Instant(nanoseconds: now.nanoseconds + UInt64(milliseconds) * 1_000_000)
  }

  private mutating func failover() {
    let lost = random.below(min(images.count, 20))
    guard lost > 0 else { return }
    let writes = redis.writes
    redis = images[images.count - 1 - lost]
    images.removeLast(lost)
    redis.layout.reverse()
    redis.layout.swapAt(random.below(ModelRedis.keys), random.below(ModelRedis.keys))
    images.append(redis)
    count("failover")
    // Through a proxy a connection may outlive its server, but not without any write of a tailer being lost:
    // then nothing would tell that SCAN's cursor is another server's.
    if random.below(3) == 0 || writes == redis.writes {
      for tailer in tailers { remove(tailer, "connection to Redis lost") }
      orphans = []
    }
  }

  private mutating func lease() {
    guard let meta = redis.meta else { return }
    // The application reads PostgreSQL at some time after the lease: at once is the worst it can do.
    leases.append(
      ModelRedis.Lease(
        key: random.below(ModelRedis.keys), generation: meta.generation, stamp: meta.visible,
        contains: log.end))
    if leases.count > 12 { leases.removeFirst() }
  }

  private mutating func fill(_ index: Int) {
    count(redis.fill(leases.remove(at: index)) ? "fill" : "fill refused")
    written()
  }

  // MARK: Checks

  private mutating func check(_ event: Event, _ before: ModelRedis.Meta?) {
    for tailer in tailers {
      guard let confirmable = tailer.session?.confirmable else { continue }
      if confirmable > tailer.answered {
        violation = "\(confirmable) may be confirmed, but replies have told of \(tailer.answered)"
      }
    }
    guard let meta = redis.meta else { return }
    if let before, before.generation == meta.generation, event != .failover {
      if meta.applied < before.applied || meta.visible < before.visible || meta.count < before.count
        || meta.beats < before.beats
      {
        violation = "a watermark has gone back"
      }
    }
    for key in 0..<ModelRedis.keys {
      let change = log.lastChange(of: key, through: meta.applied)
      if change > max(meta.floor, meta.fences[key]) {
        violation = "W is \(meta.applied), and key \(key) was not cleared for the change of \(change)"
      }
      guard let value = redis.values[key] else { continue }
      if value.generation != meta.generation {
        if meta.cleared == meta.generation {
          violation = "key \(key) survives from generation \(value.generation) in a cleared one"
        }
      } else if change > value.contains {
        violation = "W is \(meta.applied), and key \(key) still lacks the change of \(change)"
      }
    }
  }

  /// Nothing goes wrong any more: everything must become applied, confirmed and cleared.
  private mutating func comeToRest() {
    for round in 0..<1500 {
      if holder == nil { acquire() }
      for tailer in tailers {
        if tailer.holdsSlot { deliver(to: tailer, messages: 8) }
        act(tailer)
        if let order = tailer.order {
          tailer.order = nil
          let before = redis.meta
          tailer.reply = execute(order, tailer.token, tailer.mapping)
          check(.execute, before)
        }
        hear(tailer)
        if tailer.holdsSlot { confirm(tailer) }
      }
      pass(milliseconds: 5)
      if let violation {
        self.violation = "seed \(seed), round \(round) of rest: \(violation)"
        return
      }
      let last = log.transactions.last?.end ?? 0
      if let meta = redis.meta, meta.applied >= last, log.confirmed >= last, meta.cleared == meta.generation,
        !meta.asked
      {
        return
      }
    }
    violation = "seed \(seed): does not come to rest"
  }

  private mutating func count(_ what: String) { seen[what, default: 0] += 1 }
}

/// A small generator of numbers that a seed determines.
/// Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
struct SplitMix {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
}
