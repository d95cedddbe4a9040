/// The tailer from the moment it writes the fleet's state until it loses the slot, the connection or the
/// state: what to send next, and when PostgreSQL may forget.
///
/// How it works: 1. the log's events fill `pending`; 2. when nothing is under way, `next` takes what is complete
/// and sends it in steps of at most 1000 keys, of which only the last moves W; 3. the reply to it moves
/// `confirmable`, and nothing else does; 4. in between go beats, a new generation when the log gave a reason
/// for one, and the steps that clear what older generations left.
///
/// One request is under way at a time. While it is, the log goes on filling `pending`: the slower the state
/// answers, the larger the batches become.
public struct TailSession: ~Copyable {
  /// Ended transactions and the one in progress; the log's reader appends to it.
  public var pending = KeyBatch()
  /// What is being sent; its keys are addressed by the chunks of `apply` actions.
  public private(set) var sending = KeyBatch()
  /// Everything up to here has been read from the log: the end of the last transaction, or where the server
  /// said that nothing lies before.
  public private(set) var position: LSN
  /// W and V as the state last answered them.
  public private(set) var applied: LSN
  public private(set) var visible: LSN
  public private(set) var generation: Generation?
  public private(set) var transactions: UInt64 = 0

  private let token: String
  private let server: ServerIdentity
  private let mapping: String
  private let keysPerStep: Int
  private let mostPending: Int
  private var count: UInt64 = 0
  private var underWay = UnderWay.nothing
  private var inTransaction = false
  /// Why the end of the open transaction must begin a new generation.
  private var openDoubt: String?
  /// Why a new generation is due now.
  private var due: String?
  /// What the next new generation replaces: the present one, or what was found when there is none yet.
  private var old: Generation?
  /// The first key of `sending` that has not been sent.
  private var unsent = 0
  /// Where W goes with the last step of `sending`.
  private var target: LSN
  /// SCAN's cursor of the next clearing step; nil when everything is cleared.
  private var cursor: String?
  /// Whether the step that returned cursor 0 has been answered: nothing of before is left.
  private var sweepEnded = false
  /// Whether a batch has gone since the last clearing step.
  private var sweepHasTurn = false
  /// Whether nothing more had arrived when `sending` was taken.
  private var caughtUp = false
  private var nextBeat: Instant
  private var lastApply: Instant
  private var nextPurge: Instant

  private enum UnderWay: Equatable {
    case nothing
    case apply(last: Bool)
    case generation(Generation, LSN, reason: String)
    case purge
    case purged
  }

  public enum Action: Equatable {
    case send(StateRequest)
    /// Keys `chunk` of `sending`.
    case apply(ApplyRequest, chunk: Range<Int>)
    /// Nothing until this instant, unless something is heard before.
    case wait(until: Instant)
  }

  /// What a reply leads to.
  public enum Outcome: Equatable {
    case goOn
    /// A new generation has begun; why, for the log.
    case began(Generation, reason: String)
    /// What older generations left is cleared.
    case cleared
    /// This session must not write any more: forget everything and start again from the slot.
    case over(Ending)
  }

  public enum Ending: Equatable, Sendable {
    case fenced, noState, regressed
    case unexpected
  }

  /// Keys a step clears at most; a longer script would hold up Redis's other clients.
  public static let keysPerStep = 1000
  /// Complete keys that may wait before the log's reader should pause.
  public static let mostPending = 20_000
  static let beatPeriod: UInt64 = 100_000_000
  /// How often a position without keys is stored by itself, so that who waits for it is answered soon.
  static let idlePeriod: UInt64 = 20_000_000
  /// Pause between clearing steps: they share Redis with the application.
  static let purgePause: UInt64 = 2_000_000

  /// - Parameters:
  ///   - confirmed: the slot's confirmed position, where its stream begins.
  ///   - keysPerStep: at most 1000; fewer so that a test need not make a thousand keys.
  ///   - mostPending: likewise.
  public init(
    token: String, server: ServerIdentity, mapping: String, acquisition: Acquisition, confirmed: LSN,
    now: Instant, keysPerStep: Int = TailSession.keysPerStep, mostPending: Int = TailSession.mostPending
  ) {
    self.token = token
    self.server = server
    self.mapping = mapping
    self.keysPerStep = keysPerStep
    self.mostPending = mostPending
    position = confirmed
    target = confirmed
    nextBeat = now
    lastApply = now
    nextPurge = now
    switch acquisition {
    case .resume(let state):
      generation = state.generation
      old = state.generation
      count = state.count
      applied = state.applied
      visible = state.visible
      cursor = state.cleared ? nil : "0"
    case .begin(let found, let reason):
      applied = confirmed
      visible = confirmed
      due = reason
      old = found
    case .refuse(let reason):
      preconditionFailure("a refused sidecar tails nothing: \(reason)")
    }
  }

  /// How far PostgreSQL may be told to forget: V, only as a reply has returned it, and never beyond what this
  /// stream has delivered. Zero before there is a generation.
  public var confirmable: LSN {
    precondition(visible <= applied)
    return generation == nil ? .zero : min(visible, position)
  }

  /// Whether the log's reader should pause until more has been sent.
  public var isFull: Bool { pending.completeCount >= mostPending }

  // MARK: The log

  public mutating func heard(_ event: LogEvent) {
    switch event {
    case .began: inTransaction = true
    case .doubt(let doubt): openDoubt = openDoubt ?? doubt.description
    case .committed(let commit):
      inTransaction = false
      transactions += 1
      pending.complete(through: max(commit.end, pending.through))
      position = max(position, commit.end)
      if let doubt = openDoubt {
        openDoubt = nil
        beginGeneration(because: doubt)
      }
    case .nothing, .rows, .unknownRelation, .message: break
    }
  }

  /// The server says that everything up to `end` has been sent. Between transactions that moves the position:
  /// what lies there was for nobody.
  public mutating func heardKeepalive(_ end: LSN) {
    guard !inTransaction else { return }
    position = max(position, end)
  }

  private mutating func beginGeneration(because reason: String) {
    due = due ?? reason
  }

  // MARK: The state

  /// What to do now. `drained`: the log has nothing more at this moment, so waiting would gain nothing.
  public mutating func next(now: Instant, drained: Bool, random: () -> Generation) -> Action {
    guard underWay == .nothing else {
      return .wait(until: Instant(nanoseconds: now.nanoseconds + Self.beatPeriod))
    }
    if let due {
      let new = random()
      // A new generation knows everything up to the position: the keys of what has ended are in it.
      let start = position
      sending.removeAll()
      unsent = 0
      keepOpenOnly()
      // What arises from here on lies beyond the position, and needs another one.
      self.due = nil
      underWay = .generation(new, start, reason: due)
      return .send(
        .newGeneration(
          token: token, old: old, new: new, server: server, mapping: mapping, position: start))
    }
    guard let generation else { preconditionFailure("no generation and none due") }
    let check = WriteCheck(token: token, generation: generation, count: count)
    // Clearing and batches take turns, so that steady changes cannot keep a generation from being cleared.
    let sweepIsDue = sweepEnded || cursor != nil && now >= nextPurge
    if sending.isEmpty, !(sweepIsDue && sweepHasTurn) { takeBatch(now: now, drained: drained) }
    if !sending.isEmpty { return step(check, now: now) }
    sweepHasTurn = false
    if sweepEnded {
      underWay = .purged
      return .send(.purged(check: check))
    }
    if let cursor, now >= nextPurge {
      underWay = .purge
      return .send(.purge(check: check, cursor: cursor))
    }
    // A beat that is due waits for the rest of what is arriving, which ends this wait by itself.
    var until = nextBeat > now ? nextBeat : Instant(nanoseconds: now.nanoseconds + Self.beatPeriod)
    if cursor != nil { until = min(until, nextPurge) }
    if position > applied {
      until = min(until, Instant(nanoseconds: lastApply.nanoseconds + Self.idlePeriod))
    }
    return .wait(until: until)
  }

  /// Moves what is complete to `sending`, if it is time to.
  private mutating func takeBatch(now: Instant, drained: Bool) {
    // A beat says that everything that has arrived is applied, so there is none while more is arriving: what
    // is behind the log must not look fresh.
    let isCaughtUp = drained && !inTransaction
    let beatDue = now >= nextBeat && isCaughtUp
    let idleDue = position > applied && now.since(lastApply) >= Self.idlePeriod
    let keysDue = pending.completeCount > 0 && (drained || pending.completeCount >= keysPerStep)
    guard beatDue || idleDue || keysDue else { return }
    caughtUp = isCaughtUp
    target = max(position, applied)
    unsent = 0
    swap(&sending, &pending)
    sending.moveOpen(to: &pending)
    // A batch without a key still moves the position and counts as a beat.
    if sending.through < target { sending.complete(through: target) }
  }

  private mutating func step(_ check: WriteCheck, now: Instant) -> Action {
    let end = min(unsent + keysPerStep, sending.completeCount)
    let chunk = unsent..<end
    let last = end == sending.completeCount
    let parts = max(1, (sending.completeCount + keysPerStep - 1) / keysPerStep)
    let beat = last && caughtUp && now >= nextBeat
    if beat { nextBeat = Instant(nanoseconds: now.nanoseconds + Self.beatPeriod) }
    lastApply = now
    underWay = .apply(last: last)
    let request = ApplyRequest(
      check: check, applied: last ? target : applied, visible: last ? target : visible, fence: target,
      beat: beat, part: unsent / keysPerStep + 1, parts: parts)
    unsent = end
    return .apply(request, chunk: chunk)
  }

  /// The reply of the request under way.
  public mutating func replied(_ reply: StateReply, now: Instant) -> Outcome {
    let request = underWay
    underWay = .nothing
    switch (request, reply) {
    case (.apply(let last), .applied(let w, let v, let asked)):
      // Within a generation neither goes back. A reply comes from outside, so this is no precondition.
      guard w >= applied, v >= visible, v <= w else { return .over(.regressed) }
      count += 1
      applied = w
      visible = v
      if last {
        sending.removeAll()
        sweepHasTurn = true
      }
      if asked { beginGeneration(because: "NEARSIDE INVALIDATE ALL") }
      return .goOn
    case (.generation(let new, let start, let reason), .began):
      generation = new
      old = new
      count = 0
      applied = start
      visible = start
      cursor = "0"
      sweepEnded = false
      nextPurge = now
      nextBeat = now
      return .began(new, reason: reason)
    case (.purge, .purgeStep(let next, _)):
      count += 1
      nextPurge = Instant(nanoseconds: now.nanoseconds + Self.purgePause)
      if next == "0" { sweepEnded = true }
      cursor = next
      return .goOn
    case (.purged, .cleared):
      count += 1
      cursor = nil
      sweepEnded = false
      return .cleared
    case (_, .fenced), (_, .raced): return .over(.fenced)
    case (_, .noState): return .over(.noState)
    case (_, .regressed): return .over(.regressed)
    default: return .over(.unexpected)
    }
  }

  private mutating func keepOpenOnly() {
    var open = KeyBatch()
    pending.moveOpen(to: &open)
    pending = open
  }
}
