import Invalidation

let thisServer = ServerIdentity(systemID: "7000000000000000001", timeline: 1)

/// A session with a clock of its own, spoken to in few words. PostgreSQL answers every question at once: as one
/// that is sound, unless a test says otherwise.
struct Tail: ~Copyable {
  var session: TailSession
  var now: Instant
  /// Transactions that no snapshot sees yet.
  var invisible: [UInt64] = []
  /// Up to where PostgreSQL has written its log; nil: no further than the session has read it.
  var written: UInt64?
  /// What the canary holds; nil: what was last written there.
  var canary: Generation??
  var statuses: [UInt64: TransactionStatus] = [:]
  var fingerprint = ""
  var answers = true
  /// Whether the last step asked for what is pending.
  private(set) var tells = false
  /// What was asked.
  private(set) var questions: [Question] = []
  private var mark: Generation? = Generation(1)
  private var generations: UInt64 = 100

  init(
    _ acquisition: Acquisition, confirmed: UInt64 = 100, running: [UInt64] = [], usesCanary: Bool = true,
    keysPerStep: Int = TailSession.keysPerStep, groupsPerStep: Int = TailSession.groupsPerStep,
    mostPending: Int = TailSession.mostPending, lookups: [Lookup] = []
  ) {
    now = Instant(nanoseconds: 1_000_000_000)
    session = TailSession(
      token: "me", server: thisServer, mapping: "map", acquisition: acquisition, confirmed: LSN(confirmed),
      running: Snapshot(next: 1000, running: running), usesCanary: usesCanary, lookups: lookups,
      now: now,
      keysPerStep: keysPerStep, groupsPerStep: groupsPerStep, mostPending: mostPending)
  }

  /// A session that goes on with generation 1, which stands at `applied`, after `count` writes.
  init(
    resuming applied: UInt64 = 100, visible: UInt64? = nil, confirmed: UInt64 = 100, count: UInt64 = 7,
    cleared: Bool = true, keysPerStep: Int = TailSession.keysPerStep,
    groupsPerStep: Int = TailSession.groupsPerStep, mostPending: Int = TailSession.mostPending
  ) {
    self.init(
      .resume(taken(applied: applied, visible: visible ?? applied, count: count, cleared: cleared)),
      confirmed: confirmed, keysPerStep: keysPerStep, groupsPerStep: groupsPerStep, mostPending: mostPending)
  }

  /// The same with lookups.
  init(lookups: [Lookup]) { self.init(.resume(taken()), lookups: lookups) }

  mutating func pass(milliseconds: UInt64) {
    now = Instant(nanoseconds: now.nanoseconds + milliseconds * 1_000_000)
  }

  // MARK: The log

  mutating func begin(_ keys: String...) { begin(keys) }

  mutating func begin(_ keys: [String]) {
    session.heard(.began(transaction: 1))
    if !keys.isEmpty { row(keys) }
  }

  mutating func row(_ keys: [String]) {
    for key in keys { session.pending.add(key) }
    session.heard(.rows)
  }

  mutating func commit(_ end: UInt64, id: UInt32 = 1) {
    session.heard(.committed(Commit(transaction: id, record: LSN(end - 3), end: LSN(end), committedAt: 0)))
  }

  mutating func transaction(_ end: UInt64, _ keys: String...) {
    begin(keys)
    commit(end)
  }

  mutating func transaction(_ end: UInt64, id: UInt32, _ keys: String...) {
    begin(keys)
    commit(end, id: id)
  }

  mutating func transaction(_ end: UInt64, many: Range<Int>) {
    begin(many.map { "k\($0)" })
    commit(end)
  }

  mutating func truncation(_ end: UInt64) {
    begin()
    session.heard(.doubt(.truncated(table: "public.users")))
    commit(end)
  }

  // MARK: Questions

  /// Asks and answers until there is nothing to ask.
  mutating func converse(drained: Bool = true) {
    while answers, let question = session.ask(now: now, drained: drained) {
      questions.append(question)
      session.answered(answer(question), now: now)
    }
  }

  mutating func answer(_ question: Question) -> Answer {
    let snapshot = Snapshot(next: 1000, running: invisible.sorted())
    switch question {
    case .look: return .look(snapshot)
    case .sample(let watched):
      return .sample(
        Sample(
          written: written.map { LSN($0) } ?? session.position, snapshot: snapshot, canary: canary ?? mark,
          watched: watched.map { statuses[$0] ?? .running }))
    case .nudge: return .nudged
    case .mark(let generation):
      mark = generation
      return .marked
    case .fingerprint: return .fingerprint(fingerprint)
    }
  }

  // MARK: The state

  /// What the session does now. New generations are numbered from 101.
  mutating func next(drained: Bool = true) -> TailSession.Action {
    converse(drained: drained)
    var number = generations
    let action = session.next(now: now, drained: drained) {
      number += 1
      return Generation(number)
    }
    generations = number
    // Most tests do not care whether a step asks for what is pending.
    guard case .apply(var request, let chunk) = action else { return action }
    tells = request.tellsPending
    request.tellsPending = false
    return .apply(request, chunk: chunk)
  }

  /// A transaction that names groups, with their kinds.
  mutating func transaction(_ end: UInt64, groups: [String]) {
    begin([])
    for group in groups {
      Array(group.utf8).withUnsafeBytes { session.pending.append(group: $0, table: 0) }
    }
    session.heard(.rows)
    commit(end)
  }

  mutating func reply(_ reply: StateReply) -> TailSession.Outcome { session.replied(reply, now: now) }

  mutating func reply(applied: UInt64, asked: Bool = false) -> TailSession.Outcome {
    reply(.applied(W: LSN(applied), V: LSN(applied), generationAsked: asked))
  }

  /// The keys that an action clears; nil if it is no `apply`.
  func keys(_ action: TailSession.Action) -> [String]? {
    guard case .apply(_, let chunk) = action else { return nil }
    let all = session.sending.keys
    return Array(all[chunk])
  }

  /// Answers whatever the session asks, as a Redis without any trouble, until it waits or `limit` is reached.
  /// Returns the actions.
  mutating func settle(limit: Int = 1000, drained: Bool = true) -> [TailSession.Action] {
    var actions: [TailSession.Action] = []
    for _ in 0..<limit {
      let action = next(drained: drained)
      actions.append(action)
      switch action {
      case .apply(let request, _):
        _ = reply(.applied(W: request.applied, V: request.visible, generationAsked: false))
      case .send(.newGeneration): _ = reply(.began)
      case .send(.purge): _ = reply(.purgeStep(cursor: "0", removed: 0))
      case .send(.purged): _ = reply(.cleared)
      case .send(.sweep): _ = reply(.purgeStep(cursor: "0", removed: 0))
      case .send(.swept): _ = reply(.swept(left: PendingGroups()))
      case .send(.takeover), .wait, .end: return actions
      }
    }
    return actions
  }
}

func taken(
  applied: UInt64 = 100, visible: UInt64 = 100, count: UInt64 = 7, watching: Bool = false,
  cleared: Bool = true
) -> StateReply.Takeover {
  StateReply.Takeover(
    generation: Generation(1), applied: LSN(applied), visible: LSN(visible), count: count,
    watching: watching, cleared: cleared)
}

/// An `apply` as these tests expect it: of the token "me" and, unless said otherwise, with V at W. `beat` is the
/// sample's instant in milliseconds.
func step(
  _ generation: UInt64 = 1, count: UInt64 = 7, to applied: UInt64, visible: UInt64? = nil,
  fence: UInt64? = nil, beat: UInt64? = nil, stopsWatching: Bool = false, part: Int = 1, parts: Int = 1,
  _ chunk: Range<Int>
) -> TailSession.Action {
  .apply(
    ApplyRequest(
      check: check(generation, count), applied: LSN(applied), visible: LSN(visible ?? applied),
      fence: LSN(fence ?? applied), sampled: beat.map { Instant(nanoseconds: $0 * 1_000_000) },
      stopsWatching: stopsWatching, part: part, parts: parts), chunk: chunk)
}

func check(_ generation: UInt64, _ count: UInt64) -> WriteCheck {
  WriteCheck(token: "me", generation: Generation(generation), count: count)
}

func newGeneration(
  _ new: UInt64, for old: UInt64?, at applied: UInt64, visible: UInt64? = nil, watching: Bool = false,
  fingerprint: String = ""
) -> TailSession.Action {
  .send(
    .newGeneration(
      token: "me", old: old.map { Generation($0) }, new: Generation(new), server: thisServer, mapping: "map",
      applied: LSN(applied), visible: LSN(visible ?? applied), watching: watching,
      fingerprint: fingerprint))
}
