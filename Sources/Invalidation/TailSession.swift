/// The tailer from the moment it writes the fleet's state until it loses the slot, the connection or the
/// state: what to send next, and when PostgreSQL may forget.
///
/// How it works: 1. the log's events fill `pending`; 2. when nothing is under way, `next` takes what is
/// complete and sends it in steps of at most 1000 keys and 100 groups, of which only the last moves W; 3. the
/// reply to it moves `confirmable`, and nothing else does; 4. in between go beats, a new generation when
/// there is a reason for one, and the steps that clear what older generations left and the keys of groups; 5.
/// beside all that, `ask` says what to ask PostgreSQL by SQL, and the answers move V, prove beats and give
/// reasons for new generations.
///
/// One request and one question are under way at a time. While a request is, the log goes on filling
/// `pending`: the slower the state answers, the larger the batches become. Where transactions come thick, `TailPace`
/// keeps writes apart.
public struct TailSession: ~Copyable {
  /// Ended transactions and the one in progress; the log's reader appends to it.
  public var pending = KeyBatch()
  /// What is being sent; its keys are addressed by the chunks of `apply` actions.
  public internal(set) var sending = KeyBatch()
  /// Everything up to here has been read from the log: the end of the last transaction, or where the server
  /// said that nothing lies before.
  public internal(set) var position: LSN
  /// W and V as the state last answered them.
  public internal(set) var applied: LSN
  public internal(set) var visible: LSN
  public internal(set) var generation: Generation?
  public internal(set) var transactions: UInt64 = 0

  package var weakness: Weakness = []

  let token: String
  let server: ServerIdentity
  let mapping: String
  let keysPerStep: Int
  let groupsPerStep: Int
  private let mostPending: Int
  var count: UInt64 = 0
  var underWay = UnderWay.nothing
  private var inTransaction = false
  /// Whether the open transaction concerns any key.
  private var openHasKeys = false
  /// Why the end of the open transaction must begin a new generation.
  private var openDoubt: Doubt?
  /// Why a new generation is due now.
  var due: String?
  /// Not before this instant: doubt after doubt must not make a generation of every one of them. Beats rest
  /// meanwhile, so a reader that would be told too much is told nothing.
  var nextGeneration: Instant
  /// Ends the session once a new generation stands: what it knows of the tables no longer holds.
  var ending: Ending?
  /// That generation stands: only the canary is still to be written. What else gives doubt meanwhile is
  /// delivered again to the next session.
  var isEnding = false
  /// What the next new generation replaces: the present one, or what was found when there is none yet.
  var old: Generation?
  /// The first key of `sending` that has not been sent.
  var unsent = 0
  /// The same for its groups.
  var unsentGroups = 0
  /// Where W goes with the last step of `sending`.
  var target: LSN
  var clearing: Clearing
  var lastApply: Instant
  var pace: TailPace
  /// How often it beats; whoever drives the session sets it anew when the configuration has changed.
  public var cadence: Cadence

  // What PostgreSQL says by SQL; `TailSession+Questions.swift`.
  let usesCanary: Bool
  var question: Question?
  /// The beat's round in which the question was asked.
  var questionRound = 0
  var pendingCommits = PendingCommits()
  var lookups: LookupQueue
  /// The end of the last transaction that concerned a key, or where the generation began: fences lie up to
  /// here.
  var lastFence: LSN
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
  var watching = false

  enum UnderWay: Equatable {
    case nothing
    case apply(last: Bool, beat: Bool, stopsWatching: Bool)
    case generation(
      Generation, applied: LSN, visible: LSN, watching: Bool, ends: Bool, reason: String)
    case clearing(Clearing.Step)
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
  /// How often a position without keys is stored by itself, so that who waits for it is answered soon.
  static let idlePeriod: UInt64 = 20_000_000
  /// How often V is stored by itself while other commits are still invisible.
  static let partPeriod: UInt64 = 5_000_000
  /// Between the beginnings of two generations.
  static let generationPause: UInt64 = 1_000_000_000

  /// - Parameters:
  ///   - confirmed: the slot's confirmed position, where its stream begins.
  ///   - running: a snapshot taken while this connection held the slot; needed where `acquisition` begins.
  ///   - usesCanary: whether the canary can be written and read.
  ///   - lookups: those of the plan.
  ///   - fingerprint: of what the catalogue said before it was read for this session.
  ///   - cadence: how often it beats; may be changed later.
  ///   - keysPerStep: at most 1000; fewer so that a test need not make a thousand keys.
  ///   - groupsPerStep, mostPending: likewise.
  public init(
    token: String, server: ServerIdentity, mapping: String, acquisition: Acquisition, confirmed: LSN,
    running: Snapshot? = nil, usesCanary: Bool = true, fingerprint: String = "", lookups: [Lookup] = [],
    cadence: Cadence = Cadence(), now: Instant,
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
    self.lookups = LookupQueue(lookups)
    self.cadence = cadence
    position = confirmed
    target = confirmed
    lastApply = now
    pace = TailPace(now: now)
    clearing = Clearing(now: now)
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
      if !state.cleared { clearing.begin(nil, now: now) }
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

  /// Until when the log need not be read: what it brings is not written before.
  public var restsUntil: Instant? {
    pace.pause > 0 ? Instant(nanoseconds: lastApply.nanoseconds + pace.pause) : nil
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
    pending.complete(
      through: max(commit.end, pending.through), committedAt: openHasKeys ? commit.committedAt : nil)
    position = max(position, commit.end)
    watch.delivered(commit.transaction)
    // Up to V everything is visible, also what is delivered again.
    if openHasKeys, commit.end > visible || generation == nil {
      pendingCommits.decoded(commit)
      fruitlessLooks = 0
      lastFence = max(lastFence, commit.end)
    }
    openHasKeys = false
    let asks = pending.takeAsks()
    // W has passed a transaction only with all its keys.
    if commit.end > applied || generation == nil { lookups.committed(commit, asks) }
    if let excess = lookups.excess { beginGeneration(because: excess) }
    guard let doubt = openDoubt else { return }
    openDoubt = nil
    // W passes a doubtful commit only with a new generation. One that is delivered again has had its own;
    // otherwise a session that ends with it would never get past it.
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
}
