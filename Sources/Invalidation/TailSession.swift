/// The tailer from the moment it writes the fleet's state until it loses the slot, the connection or the
/// state: what to send next, and when PostgreSQL may forget.
///
/// How it works: 1. the log's events fill `pending`; 2. when nothing is under way, `next` takes what is complete
/// and sends it in steps of at most 1000 keys and 100 groups, of which only the last moves W; 3. the reply to it moves
/// `confirmable`, and nothing else does; 4. in between go beats, a new generation when there is a reason for
/// one, and the steps that clear what older generations left and the keys of groups; 5. beside all that, `ask` says what to ask
/// PostgreSQL by SQL, and the answers move V, prove beats and give reasons for new generations.
///
/// One request and one question are under way at a time. While a request is, the log goes on filling
/// `pending`: the slower the state answers, the larger the batches become.
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

  package var weakness: Weakness = []

  private let token: String
  private let server: ServerIdentity
  private let mapping: String
  private let keysPerStep: Int
  private let groupsPerStep: Int
  private let mostPending: Int
  private var count: UInt64 = 0
  private var underWay = UnderWay.nothing
  private var inTransaction = false
  /// Whether the open transaction concerns any key.
  private var openHasKeys = false
  /// Why the end of the open transaction must begin a new generation.
  private var openDoubt: Doubt?
  /// Why a new generation is due now.
  private(set) var due: String?
  /// Not before this instant: doubt after doubt must not make a generation of every one of them. Beats rest
  /// meanwhile, so a reader that would be told too much is told nothing.
  private var nextGeneration: Instant
  /// Ends the session once a new generation stands: what it knows of the tables no longer holds.
  private(set) var ending: Ending?
  /// That generation stands: only the canary is still to be written. What else gives doubt meanwhile is delivered
  /// again to the next session.
  private(set) var isEnding = false
  /// What the next new generation replaces: the present one, or what was found when there is none yet.
  private var old: Generation?
  /// The first key of `sending` that has not been sent.
  private var unsent = 0
  /// The same for its groups.
  private var unsentGroups = 0
  /// Where W goes with the last step of `sending`.
  private var target: LSN
  /// SCAN's cursor of the next clearing step; nil when everything is cleared.
  private var cursor: String?
  /// The groups whose keys the present pass removes; nil: it clears what older generations left.
  private var sweeping: PendingGroups?
  /// Whether the step that returned cursor 0 has been answered: nothing of before is left.
  private var sweepEnded = false
  /// Whether a batch has gone since the last clearing step.
  private var sweepHasTurn = false
  private var lastApply: Instant
  private var nextPurge: Instant

  // What PostgreSQL says by SQL; `TailSession+Questions.swift`.
  let usesCanary: Bool
  var question: Question?
  /// The beat's round in which the question was asked.
  var questionRound = 0
  var pendingCommits = PendingCommits()
  /// The end of the last transaction that concerned a key, or where the generation began: fences lie up to here.
  private var lastFence: LSN
  var lastLook: Instant
  var fruitlessLooks = 0
  var beat: Beat
  var lastNudge: Instant
  var fingerprint: String
  var nextFingerprint: Instant
  /// The log has told of other definitions than the fingerprint is of.
  var wantsFingerprint = false
  /// Whether the canary holds the present generation.
  var isMarked: Bool
  var watch: Watch
  /// Whether the state says that there is something to watch.
  private(set) var watching = false

  private enum UnderWay: Equatable {
    case nothing
    case apply(last: Bool, beat: Bool, stopsWatching: Bool)
    case generation(
      Generation, applied: LSN, visible: LSN, watching: Bool, ends: Bool, reason: String)
    case purge
    case purged
    case sweep
    case swept
  }

  public enum Action: Equatable {
    case send(StateRequest)
    /// Keys `chunk` of `sending`.
    case apply(ApplyRequest, chunk: Range<Int>)
    /// Nothing until this instant, unless something is heard before.
    case wait(until: Instant)
    /// The session is over.
    case end(Ending)
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
    /// A table or the publication has been changed: begin again with what the catalogue says now.
    case redefined
    case unexpected
  }

  /// Keys a step clears at most; a longer script would hold up Redis's other clients.
  public static let keysPerStep = 1000
  /// Groups a step enters at most: the script reads all that are pending.
  public static let groupsPerStep = 100
  /// Complete keys that may wait before the log's reader should pause.
  public static let mostPending = 20_000
  static let beatPeriod: UInt64 = 100_000_000
  /// How often a position without keys is stored by itself, so that who waits for it is answered soon.
  static let idlePeriod: UInt64 = 20_000_000
  /// How often V is stored by itself while other commits are still invisible.
  static let partPeriod: UInt64 = 5_000_000
  /// Pause between clearing steps: they share Redis with the application.
  static let purgePause: UInt64 = 2_000_000
  /// Between the beginnings of two generations.
  static let generationPause: UInt64 = 1_000_000_000

  /// - Parameters:
  ///   - confirmed: the slot's confirmed position, where its stream begins.
  ///   - running: a snapshot taken while this connection held the slot; needed where `acquisition` begins.
  ///   - usesCanary: whether the canary can be written and read.
  ///   - fingerprint: of what the catalogue said before it was read for this session.
  ///   - keysPerStep: at most 1000; fewer so that a test need not make a thousand keys.
  ///   - groupsPerStep, mostPending: likewise.
  public init(
    token: String, server: ServerIdentity, mapping: String, acquisition: Acquisition, confirmed: LSN,
    running: Snapshot? = nil, usesCanary: Bool = true, fingerprint: String = "", now: Instant,
    keysPerStep: Int = TailSession.keysPerStep, groupsPerStep: Int = TailSession.groupsPerStep,
    mostPending: Int = TailSession.mostPending
  ) {
    self.token = token
    self.server = server
    self.mapping = mapping
    self.keysPerStep = keysPerStep
    self.groupsPerStep = groupsPerStep
    self.mostPending = mostPending
    self.usesCanary = usesCanary
    self.fingerprint = fingerprint
    position = confirmed
    target = confirmed
    lastApply = now
    nextPurge = now
    nextGeneration = now
    lastLook = now.back(Self.lookPeriod)
    lastNudge = now.back(Self.nudgePeriod)
    nextFingerprint = Instant(nanoseconds: now.nanoseconds + Self.fingerprintPeriod)
    beat = Beat(next: now)
    switch acquisition {
    case .resume(let state):
      generation = state.generation
      old = state.generation
      count = state.count
      applied = state.applied
      visible = state.visible
      cursor = state.cleared ? nil : "0"
      lastFence = state.applied
      // Otherwise the state would not have been resumed.
      isMarked = true
      watch = Watch(nil)
    case .begin(let found, let reason):
      applied = confirmed
      visible = confirmed
      due = reason
      old = found
      lastFence = confirmed
      isMarked = false
      watch = Watch(running)
    case .refuse(let reason):
      preconditionFailure("a refused sidecar tails nothing: \(reason)")
    }
  }

  /// How far PostgreSQL may be told to forget: V, only as a reply has returned it, and never beyond what this
  /// stream has delivered. Zero before there is a generation.
  public var confirmable: LSN {
    precondition(visible <= applied)
    return generation == nil
      ? .zero : min(weakness.contains(.confirmsApplied) ? applied : visible, position)
  }

  /// Whether the log's reader should pause until more has been sent.
  public var isFull: Bool {
    pending.completeCount >= mostPending || pending.completeGroupCount >= PendingGroups.most
  }

  // MARK: The log

  public mutating func heard(_ event: LogEvent) {
    switch event {
    case .began: inTransaction = true
    case .doubt(let doubt):
      if weakness.contains(.ignoresDoubt) { return }
      openHasKeys = true
      // A redefinition also ends the session, whatever else the transaction did.
      if doubt == .schemaChanged || openDoubt == nil { openDoubt = doubt }
    case .rows: openHasKeys = true
    case .committed(let commit): ended(commit)
    case .nothing, .unknownRelation, .message: break
    }
  }

  private mutating func ended(_ commit: Commit) {
    inTransaction = false
    transactions += 1
    pending.complete(through: max(commit.end, pending.through))
    position = max(position, commit.end)
    watch.delivered(commit.transaction)
    // Up to V everything is visible, also what is delivered again.
    if openHasKeys, commit.end > visible || generation == nil {
      pendingCommits.decoded(commit)
      fruitlessLooks = 0
      lastFence = max(lastFence, commit.end)
    }
    openHasKeys = false
    guard let doubt = openDoubt else { return }
    openDoubt = nil
    // W passes a doubtful commit only with a new generation. One that is delivered again has had its own; otherwise
    // a session that ends with it would never get past it.
    guard generation == nil || commit.end > applied else { return }
    beginGeneration(because: doubt.description)
    if doubt == .schemaChanged {
      ending = .redefined
      wantsFingerprint = true
    }
  }

  /// The server says that everything up to `end` has been sent. Between transactions that moves the position:
  /// what lies there was for nobody.
  public mutating func heardKeepalive(_ end: LSN) {
    guard !inTransaction || weakness.contains(.keepalivesInsideTransactions) else { return }
    position = max(position, end)
  }

  mutating func beginGeneration(because reason: String) {
    due = due ?? reason
  }

  /// The definitions of tables or publication have changed outside the log.
  mutating func redefined() {
    beginGeneration(because: Doubt.schemaChanged.description)
    ending = .redefined
  }

  // MARK: The state

  /// What to do now. `drained`: the log has nothing more at this moment, so waiting would gain nothing.
  public mutating func next(now: Instant, drained: Bool, random: () -> Generation) -> Action {
    guard underWay == .nothing else {
      return .wait(until: Instant(nanoseconds: now.nanoseconds + Self.beatPeriod))
    }
    if isEnding, let ending {
      return isMarked || !usesCanary ? .end(ending) : .wait(until: whenToAsk(now))
    }
    judgeSample()
    if let due {
      guard now >= nextGeneration else { return .wait(until: nextGeneration) }
      // A generation remembers under which definitions it began, so they are asked for anew.
      guard !wantsFingerprint else { return .wait(until: whenToAsk(now)) }
      // What arises from here on lies beyond the position, and needs another one.
      self.due = nil
      return begin(random(), because: due)
    }
    guard let generation else { preconditionFailure("no generation and none due") }
    let check = WriteCheck(token: token, generation: generation, count: count)
    // Clearing and batches take turns, so that steady changes cannot keep a generation from being cleared.
    let sweepIsDue = sweepEnded || cursor != nil && now >= nextPurge
    if sending.isEmpty, !(sweepIsDue && sweepHasTurn) { takeBatch(now: now, drained: drained) }
    if !sending.isEmpty { return step(check, now: now) }
    sweepHasTurn = false
    if sweepEnded {
      underWay = sweeping == nil ? .purged : .swept
      return .send(sweeping.map { .swept(check: check, pending: $0) } ?? .purged(check: check))
    }
    if let cursor, now >= nextPurge {
      underWay = sweeping == nil ? .purge : .sweep
      return .send(
        sweeping.map { .sweep(check: check, cursor: cursor, groups: $0.groups) }
          ?? .purge(check: check, cursor: cursor))
    }
    var until = whenToAsk(now)
    if cursor != nil { until = min(until, nextPurge) }
    if hasNews { until = min(until, Instant(nanoseconds: lastApply.nanoseconds + Self.idlePeriod)) }
    if fencesWait { until = min(until, Instant(nanoseconds: lastApply.nanoseconds + Self.partPeriod)) }
    return .wait(until: until)
  }

  /// A new generation knows everything up to the position: the keys of what has ended are in it. Leases are given
  /// from V and refused below the position, so that nobody fills before everything up to it is visible.
  private mutating func begin(_ new: Generation, because reason: String) -> Action {
    sending.removeAll()
    unsent = 0
    unsentGroups = 0
    keepOpenOnly()
    let start = position
    let visible = min(seen, start)
    let watching = !watch.isEmpty && !weakness.contains(.noWatch)
    beat.forget()
    isMarked = false
    underWay = .generation(
      new, applied: start, visible: visible, watching: watching, ends: ending != nil, reason: reason)
    return .send(
      .newGeneration(
        token: token, old: old, new: new, server: server, mapping: mapping, applied: start,
        visible: visible, watching: watching, fingerprint: fingerprint))
  }

  /// Whether a new generation is being stored.
  var isBeginning: Bool {
    if case .generation = underWay { true } else { false }
  }

  /// V as it could be stored now.
  private var seen: LSN {
    weakness.contains(.visibleIsApplied) ? position : pendingCommits.visible(at: position)
  }
  private var hasNews: Bool { position > applied || min(seen, position) > visible }
  /// Whether a fence stands above V that could lie below it: somebody may wait to fill.
  private var fencesWait: Bool { min(lastFence, applied) > visible && min(seen, applied) > visible }

  /// Moves what is complete to `sending`, if it is time to.
  private mutating func takeBatch(now: Instant, drained: Bool) {
    let beatDue = beat.isReady(at: position, weakness)
    let idleDue = hasNews && now.since(lastApply) >= Self.idlePeriod
    let isFull = pending.completeCount >= keysPerStep || pending.completeGroupCount >= groupsPerStep
    let keysDue = isFull || drained && (pending.completeCount > 0 || pending.completeGroupCount > 0)
    // V by itself, as soon as nothing is invisible any more: until then nobody can fill a key that changed.
    let visibleDue =
      fencesWait && (pendingCommits.isEmpty || now.since(lastApply) >= Self.partPeriod)
    guard beatDue || idleDue || keysDue || visibleDue else { return }
    target = max(position, applied)
    unsent = 0
    unsentGroups = 0
    swap(&sending, &pending)
    sending.moveOpen(to: &pending)
    // A batch without a key still moves the position and counts as a beat.
    if sending.through < target { sending.complete(through: target) }
  }

  private mutating func step(_ check: WriteCheck, now: Instant) -> Action {
    let end = min(unsent + keysPerStep, sending.completeCount)
    let chunk = unsent..<end
    let groupEnd = min(unsentGroups + groupsPerStep, sending.completeGroupCount)
    let last = end == sending.completeCount && groupEnd == sending.completeGroupCount
    let parts = max(
      1, (sending.completeCount + keysPerStep - 1) / keysPerStep,
      (sending.completeGroupCount + groupsPerStep - 1) / groupsPerStep)
    // The sample may have come after the batch was taken: what counts is what the batch reaches.
    let sampled = last && due == nil ? beat.take(reaching: target, weakness) : nil
    let stopsWatching = sampled != nil && watching && watch.isEmpty
    lastApply = now
    underWay = .apply(last: last, beat: sampled != nil, stopsWatching: stopsWatching)
    let request = ApplyRequest(
      check: check, applied: last || weakness.contains(.everyStepMovesApplied) ? target : applied,
      visible: last ? max(visible, min(target, seen)) : visible, fence: target, sampled: sampled,
      stopsWatching: stopsWatching, part: max(unsent / keysPerStep, unsentGroups / groupsPerStep) + 1,
      parts: parts, groups: unsentGroups..<groupEnd, tellsPending: last && cursor == nil)
    unsent = end
    unsentGroups = groupEnd
    return .apply(request, chunk: chunk)
  }

  /// The reply of the request under way.
  public mutating func replied(_ reply: StateReply, now: Instant) -> Outcome {
    let request = underWay
    underWay = .nothing
    switch (request, reply) {
    case (.apply(let last, let isBeat, let stopsWatching), .applied(let w, let v, let asked, let waiting)):
      // Within a generation neither goes back. A reply comes from outside, so this is no precondition.
      guard w >= applied, v >= visible, v <= w else { return .over(.regressed) }
      count += 1
      applied = w
      visible = v
      if last {
        sending.removeAll()
        sweepHasTurn = true
      }
      // Only now: the next sample must be taken after this beat was stored.
      if isBeat { beat.stored(now: now) }
      if stopsWatching { watching = false }
      if asked {
        beginGeneration(
          because: waiting.isTooMuch
            ? "more prefixes and tags wait to be swept than \(PendingGroups.most)" : "NEARSIDE INVALIDATE ALL"
        )
      }
      // A pass removes what waited when it began, and what comes later waits for the next one.
      if cursor == nil, !waiting.isEmpty { beginSweep(of: waiting, now: now) }
      return .goOn
    case (.generation(let new, let start, let seen, let watching, let ends, let reason), .began):
      generation = new
      old = new
      count = 0
      applied = start
      visible = seen
      lastFence = max(lastFence, start)
      self.watching = watching
      cursor = "0"
      sweeping = nil
      sweepEnded = false
      sweepHasTurn = false
      nextPurge = now
      nextGeneration = Instant(nanoseconds: now.nanoseconds + Self.generationPause)
      beat.next = now
      // Whatever was marked meanwhile was the old one. What was redefined meanwhile needs another generation.
      isMarked = false
      isEnding = ends
      return .began(new, reason: reason)
    case (.purge, .purgeStep(let next, _)), (.sweep, .purgeStep(let next, _)):
      let isPurge = request == .purge
      if !weakness.contains(isPurge ? .purgeNotCounted : .sweepNotCounted) { count += 1 }
      nextPurge = Instant(nanoseconds: now.nanoseconds + Self.purgePause)
      if next == "0" || weakness.contains(isPurge ? .clearedTooEarly : .sweptTooEarly) { sweepEnded = true }
      cursor = next
      return .goOn
    case (.purged, .cleared):
      count += 1
      cursor = nil
      sweepEnded = false
      return .cleared
    case (.swept, .swept(let left)):
      count += 1
      cursor = nil
      sweeping = nil
      sweepEnded = false
      if !left.isEmpty { beginSweep(of: left, now: now) }
      return .goOn
    case (_, .fenced), (_, .raced): return .over(.fenced)
    case (_, .noState): return .over(.noState)
    case (_, .regressed): return .over(.regressed)
    default: return .over(.unexpected)
    }
  }

  private mutating func beginSweep(of groups: PendingGroups, now: Instant) {
    sweeping = groups
    cursor = "0"
    nextPurge = now
  }

  private mutating func keepOpenOnly() {
    var open = KeyBatch()
    pending.moveOpen(to: &open)
    pending = open
  }
}
