import CLinux
import Configuration
import DequeModule
import Glibc
import Invalidation
import Logging
import Metrics
import NearCache
import Policies

/// The one thread that clients talk to: it owns the near cache, the follower, the ledger of fills and the
/// connections to Redis, so that nothing of them needs a lock.
///
/// How it works: 1. epoll says which descriptors are ready; 2. a client's bytes are cut into commands, a batch
/// at a time; 3. near hits are copied straight into its output, everything else becomes a request to Redis
/// and a note of who awaits the reply; 4. replies from Redis are judged and copied; 5. each output is written
/// once. Messages of other threads come through the mailbox between two polls.
public struct EventLoop: ~Copyable {
  var settings: Settings
  let keys: StateKeys
  var governance: Governance
  let commands = CommandTable()
  let mailbox: LoopMailbox
  /// Who is given the keys of some hits; nil: nobody.
  let sampler: (any KeySampler)?
  var sampling: Samplings
  var audit = AuditReport()
  var slow: SlowLog
  /// Who runs SQL; nil: no cache loads or writes any.
  let sql: (any SQLRunner)?
  /// Who writes into PostgreSQL's log what is to be cleared; nil: nobody does.
  let logWriter: (any LogWriter)?
  let log: Logger
  let version: String

  let epoll: Int32
  let listener: ListenSocket
  /// What is accepted from: the Unix socket, and the loopback address if there is one.
  var doors: [Door]
  var clients: UnsafeMutablePointer<Client>
  var inUse: [Bool]
  var freeSlots: [Int32]
  /// Nobody's unread answers are near a limit of theirs below so many bytes.
  var outputConcern: Int
  /// Clients that were last seen above their soft limit.
  var overSoftLimit: [ClientToken] = []
  var serial: UInt32 = 0
  var nextID = 1

  var near: NearCache
  /// When groups of keys were cleared here; near entries of such keys are compared with it.
  let epochs = GroupEpochs()
  /// The serial when a group last cost the whole near cache: what was asked for before is not kept, since such a group
  /// has no epoch by which its entry could be told.
  var droppedSerial: UInt32 = 0
  /// The number of the newest anchor (`Anchor`).
  var lastAnchor: UInt64 = 0
  /// How long Redis may be silent, in nanoseconds, and whether its messages about the namespace are listened to:
  /// asked at each turn, and never reloaded.
  let redisTimeout: UInt64
  let watchesNamespace: Bool
  /// The state's fields as Redis last gave them, and what they mean.
  var lastFields: (bytes: [UInt8], state: FleetState?) = ([], nil)
  var follower: Follower
  var ledger: FillLedger
  let ledgerStore: LedgerStore
  let resp2 = Upstream(resp3: false, token: Token.resp2)
  let resp3 = Upstream(resp3: true, token: Token.resp3)
  /// Connections to Redis that are one client's own.
  var pins = Pins()
  /// The connection between whose MULTI and EXEC commands are being sent; nil: none.
  var transacting: Upstream?
  /// Set while a command is executed that must be answered by Redis itself.
  var bypassesNear = false
  var embedded: LocalState?
  /// Bumped for every governed write of this host, one count for each 1/4096 of the keys: a reply read before
  /// such a write must not be kept near after it.
  var localWrites = [UInt32](repeating: 0, count: 4096)
  /// What became of keys lately, and why the newest generation began, as the tail on this host told.
  var chronicle = Chronicle()
  var generationReason: (generation: Generation, text: String)?
  let originNames: OriginNames
  /// The misses answered in this poll, with their keys in the ledger.
  var misses: [(key: UInt64, lease: Lease?)] = []
  var counters = Counters()
  var tally: Tally
  var tail = TailReport(role: .waiting, trouble: "starting")
  var redisVersion = "7.0.0"

  /// Reads whose answers are held back, and what was last asked on their behalf.
  var holds = Holds()
  /// What is being loaded from the database, and who waits for it.
  var loading: Loading
  /// What is being written through to the database.
  var writing = Writing()

  /// Who waits for an order to the log writer, and under which number of theirs.
  var orders: [UInt64: (client: ClientToken, number: Int)] = [:]

  /// What clients use CLIENT TRACKING for, and how Redis tells of changes.
  var tracking: Tracking

  /// What applications announced and Redis has not been told of.
  var errands = Errands()

  /// Clients that other threads answer.
  var lending = Lending()

  var batch = Batch()
  var stateRequest: [UInt8] = []
  var now: Instant
  let started: Instant
  var poll: UInt64 = 1
  var wholePoll: Arrivals.WholePoll
  var lastTouch = Instant(nanoseconds: 0)
  /// Nobody is accepted before Redis has been tried once, for at most 2 s: the first command of a client that is
  /// there at once should not find the connection still being made.
  var isOpening = true
  var listenerRests = true
  var listenerRestsUntil: Instant
  var lastAsk = Instant(nanoseconds: 0)
  var isStopping = false
  var clientPause = ClientPause()
  /// Slots of clients that are paused.
  var waiting: [Int32] = []
  /// Slots of clients that CLIENT PAUSE holds, as long as it is on.
  var held: Set<Int32> = []
  /// Clients that were answered out of their own turn and still have to be written to.
  var dirty: [Int32] = []

  /// How much a client may leave unread before its own commands wait.
  static let outputHighWater = 1024 * 1024
  /// How many replies a client may be owed before its own commands wait.
  static let mostOwed = 10_000
  /// How many bytes may be kept for what a client is owed before its own commands wait.
  static let mostOwedBytes = 16 * 1024 * 1024
  /// How many bytes are read of a client whose commands wait.
  static let mostUnread = 16 * 1024 * 1024
  /// Buffers that are empty shrink to this after a burst.
  static let idleBuffer = 64 * 1024

  /// - Parameter sql: runs the statements of `SQLStatements(settings)`; nil if there are none.
  public init(
    settings: Settings, listener: consuming ListenSocket, mailbox: LoopMailbox, sql: (any SQLRunner)? = nil,
    logWriter: (any LogWriter)? = nil, sampler: (any KeySampler)? = nil, log: Logger, version: String
  ) throws(ListenError) {
    let governance = Governance(settings: settings)
    let cache = try Self.nearCache(settings.near, kinds: governance.templates.count + 1)
    let doors = Self.doors(of: listener, now: Instant(nanoseconds: clinux_boot_nanoseconds()))
    epoll = try Self.makeEpoll(doors, mailbox.descriptor)
    self.listener = listener
    self.doors = doors
    near = cache
    self.settings = settings
    self.mailbox = mailbox
    self.sampler = sampler
    sampling = Samplings(share: sampler == nil ? 0 : settings.audit.share)
    slow = SlowLog(bound: settings.log.slow)
    self.sql = sql
    self.logWriter = logWriter
    self.log = log
    self.version = version
    keys = StateKeys(namespace: settings.namespace ?? "")
    self.governance = governance
    tally = Tally(templates: governance.templates, commands: commands)
    originNames = OriginNames(tables: settings.tables)
    now = Instant(nanoseconds: clinux_boot_nanoseconds())
    started = now
    wholePoll = Arrivals.WholePoll(began: now)
    follower = Follower(mapping: settings.mappingHash)
    let windows = settings.caches.map(\.plainSet.window) + [settings.plainSet.window]
    ledger = FillLedger(
      capacity: 262_144, seed: UInt64.random(in: .min ... .max), started: now,
      keep: windows.max() ?? settings.plainSet.window)
    ledgerStore = LedgerStore(socketPath: settings.listen.path)
    loading = Loading(connections: settings.postgres.loader.connections)
    embedded = settings.redis == nil ? LocalState() : nil
    redisTimeout = settings.redis?.timeout ?? .max
    watchesNamespace = settings.redis?.tracking ?? false
    tracking = Tracking(settings)
    listenerRestsUntil =
      settings.redis == nil ? now : Instant(nanoseconds: now.nanoseconds + 2_000_000_000)
    let most = min(settings.clients.most, DescriptorLimit.clients)
    clients = .allocate(capacity: most)
    inUse = [Bool](repeating: false, count: most)
    freeSlots = (0..<Int32(most)).reversed()
    outputConcern = Self.outputConcern(settings.clients)
    stateRequest = Self.stateRequest(keys.meta)
    ledgerStore.load(into: &ledger)
  }

  private static func makeEpoll(_ doors: [Door], _ mailbox: Int32) throws(ListenError) -> Int32 {
    let epoll = clinux_epoll_create()
    guard epoll >= 0, doors.allSatisfy({ clinux_epoll_add(epoll, $0.descriptor, 0, $0.token) == 0 }),
      clinux_epoll_add(epoll, mailbox, UInt32(CLINUX_READABLE), Token.mailbox) == 0
    else { throw ListenError(description: "Cannot watch descriptors: \(String(cString: strerror(errno))).") }
    return epoll
  }

  private static func nearCache(_ settings: NearSettings, kinds: Int) throws(ListenError) -> NearCache {
    do throws(NearCacheError) {
      return try NearCache(
        bytes: settings.size, maxEntry: settings.maxEntry, seed: UInt64.random(in: .min ... .max),
        kinds: kinds)
    } catch {
      throw ListenError(description: "Cannot make the near cache: \(error)")
    }
  }

  deinit {
    for slot in inUse.indices where inUse[slot] { (clients + slot).deinitialize(count: 1) }
    clients.deallocate()
    close(epoll)
  }

  /// What a descriptor is, in the 64 bits that epoll keeps for it: a client's slot and serial, or one of
  /// these.
  enum Token {
    static let listener = UInt64.max
    static let mailbox = UInt64.max - 1
    static let resp2 = UInt64.max - 2
    static let resp3 = UInt64.max - 3
    static let loopback = UInt64.max - 4

    /// A client's own connection to Redis; its number stands where a client has its serial.
    static func pin(_ number: UInt32) -> UInt64 { UInt64(number) << 32 | 0x8000_0000 }
    static func isPin(_ token: UInt64) -> Bool { UInt32(truncatingIfNeeded: token) == 0x8000_0000 }
  }

  /// Serves until the mailbox says stop, then answers what is owed for at most `drain` nanoseconds.
  public mutating func run(drain: UInt64 = 5_000_000_000) {
    let events = UnsafeMutablePointer<clinux_event>.allocate(capacity: 512)
    defer { events.deallocate() }
    var stopBy: Instant?
    var waiting = BusyPoll(settings.listen.busyPoll)
    startReaders(ThreadCount.chosen(settings.threads) - 1)
    tick()
    while true {
      let began = clock()
      let count = waiting.wait(epoll, events, 512, pollMilliseconds)
      now = clock()
      for index in 0..<max(0, Int(count)) { handle(events[index]) }
      tickLoads()
      writeDirty()
      // Clients that this poll did not name had nothing waiting when it began. With a full table that cannot
      // be said of the others.
      if count >= 0, count < 512 { wholePoll = Arrivals.WholePoll(number: poll, began: began) }
      dateMisses()
      poll += 1
      tick()
      writeDirty()
      if slow.isOn { tellTurn() }
      if isStopping {
        if stopBy == nil {
          stopBy = Instant(nanoseconds: now.nanoseconds + drain)
          for door in doors { clinux_epoll_remove(epoll, door.descriptor) }
          stopReaders()
        }
        if let stopBy, owesNothing || now >= stopBy { break }
      }
    }
    tellOwed(drain)
    joinReaders()
    ledgerStore.save(ledger, now: now)
  }

  /// How long a poll may last at most.
  private var pollMilliseconds: Int32 {
    if loading.isDue { return 0 }
    if !holds.isEmpty || waitsForFence || waitsForLock { return 1 }
    if pausesShared { return 10 }
    if !loading.behind.isEmpty { return 5 }
    if governance.hasTurns, !loading.waits.isEmpty { return 10 }
    guard writing.awaiting.isEmpty && writing.full.isEmpty else { return 10 }
    // What is left of time is a matter of seconds, and whoever has something to tell wakes the loop.
    let isCalm =
      loading.waits.isEmpty && waiting.isEmpty && held.isEmpty && (embedded != nil || resp2.isReady)
    return Int32((isCalm ? Cadence.longest : Cadence.busy) / 1_000_000)
  }

  var owesNothing: Bool {
    guard writing.writes.isEmpty, lending.lent == 0 else { return false }
    for slot in inUse.indices where inUse[slot] {
      // What blocks may do so for ever.
      if let token = clients[slot].session.pinned, pins[token]?.isBlocked == true { continue }
      if !clients[slot].owed.isEmpty || !clients[slot].output.isEmpty { return false }
    }
    return true
  }

  /// A client that is given no answer any more may ask its operator why.
  private func tellOwed(_ drain: UInt64) {
    guard !owesNothing else { return }
    let owed = inUse.indices.filter { inUse[$0] && !(clients[$0].owed.isEmpty && clients[$0].output.isEmpty) }
    log.warning(
      "stopping after \(drain / 1_000_000) ms although answers are owed",
      metadata: [
        "clients": "\(owed.count)", "writes": "\(writing.writes.count)", "lent": "\(lending.lent)",
      ])
  }

  mutating func handle(_ event: clinux_event) {
    switch event.token {
    case Token.listener: acceptClients(at: 0)
    case Token.loopback: acceptClients(at: 1)
    case Token.mailbox: readMailbox()
    case Token.resp2: upstreamEvent(event.events, resp2)
    case Token.resp3: upstreamEvent(event.events, resp3)
    case let token where Token.isPin(token): pinEvent(event.events, token)
    case Token.watchAll, Token.watchNamespace: watcherEvent(event.events, event.token)
    default:
      let token = ClientToken(
        slot: Int32(truncatingIfNeeded: event.token), serial: UInt32(truncatingIfNeeded: event.token >> 32))
      guard isAlive(token) else { return }
      clientEvent(Int(token.slot), event.events)
    }
  }

  func isAlive(_ token: ClientToken) -> Bool {
    inUse[Int(token.slot)] && clients[Int(token.slot)].token == token
  }

  // MARK: Messages of other threads

  mutating func readMailbox() {
    for message in mailbox.take() {
      switch message {
      case .feed(let event): hear(event)
      case .upstream(let token, let result): upstreamConnected(token, result)
      case .local(let write): applyLocally(write)
      case .tail(let report): tail = report
      case .began(let generation, let reason): noteReason(generation, reason)
      case .sql(let outcome): sqlFinished(outcome)
      case .written(let id, let outcome): written(id, outcome)
      case .announced(let announcement): hear(announcement)
      case .flusher(let report): writing.flusher = report
      case .settings(let changes): take(changes)
      case .audit(let report): audit = report
      case .report(let answer): answer(report())
      case .look(let key, let showsValue, let answer): answer(look(key, showsValue: showsValue))
      case .alive(let answer): answer()
      case .tap(let hear): tally.tap = hear
      case .givenBack(let back): takeBack(back)
      case .stop: isStopping = true
      }
      publishEvidence()
    }
    tell()
    releaseWaiters()
  }

  mutating func hear(_ event: FeedEvent) {
    var dropsAll = false
    var cleared: Set<[UInt8]> = []
    var changed: [(key: [UInt8], position: LSN)] = []
    var invalidated: [[UInt8]] = []
    let hasTurns = !loading.turns.isEmpty
    let refreshes = governance.refreshes
    let tracks = tracking.isActive
    let namespace = tracks ? Array(settings.keyPrefix.utf8) : []
    let heard = follower.position
    let before = follower.generation
    let action = follower.hear(
      event,
      evict: { key, cause in
        let hash = near.hash(key)
        let wasNear = near.remove(key, hash: hash)
        if refreshes, wasNear, cause.origin != nil { changed.append(([UInt8](key), cause.position)) }
        if hasTurns { invalidated.append([UInt8](key)) }
        if tracks { tracking.table.changed([UInt8](key)) }
        chronicle.removed(hash, cause, at: now)
      },
      group: { group, cause in
        chronicle.removed(near.hash(group), cause, at: now)
        if epochs.clear(group) || governance.groups.isAdHoc(group) { dropsAll = true }
        if hasTurns { cleared.insert([UInt8](group)) }
        if tracks {
          tracking.table.changed(
            group: [UInt8](group), bucket: Int32(KeyHash.bucket(group)), namespace: namespace)
        }
      })
    // A line of evidence that has been given up is none for what may enter the near cache below.
    if certificate == nil { publishEvidence() }
    for key in invalidated { endTurn(key) }
    endTurns(in: cleared)
    for change in changed { noteChanged(change.key, at: change.position) }
    // Only what this host follows may become the lease of a SET: not the state of another mapping.
    // The event may have been posted after this poll returned: a lease must not be dated before it existed.
    if case .state = event, let state = follower.state {
      ledger.observed(state.lease, at: clock())
      chronicle.began(state.generation, at: now)
      releaseHolds(state)
    }
    if action == .dropAll { writing.missedEntries() }
    if case .entries(let entries, let generation) = event {
      noteEntries(entries, after: heard)
      noteSightings(entries, generation)
    }
    if let begun = follower.generation, begun != before { noteGeneration(begun) }
    if dropsAll || action == .dropAll {
      loading.table.leasesEnded()
      expectHerd()
      near.removeAll()
      if epochs.isUsedUp { epochs.beginAnew() }
      if action == .dropAll { tracking.table.flush() } else { tracking.table.flushGoverned() }
      counters.drops += 1
    }
  }

  /// A descriptor of Redis changed what it waits for.
  func watchUpstream(_ upstream: Upstream, added: Bool) {
    let events =
      (upstream.readsPaused ? 0 : UInt32(CLINUX_READABLE))
      | (upstream.wantsWrite ? UInt32(CLINUX_WRITABLE) : 0)
    if added {
      _ = clinux_epoll_add(epoll, upstream.descriptor, events, upstream.token)
    } else {
      _ = clinux_epoll_modify(epoll, upstream.descriptor, events, upstream.token)
    }
  }
}

/// What this process has done since it started.
struct Counters {
  var connections = 0
  var clients = 0
  var clientsRefused = 0
  var clientsDropped = 0
  var nearHits = 0
  var nearMisses = 0
  var redisHits = 0
  var redisMisses = 0
  var bypassed = 0
  var held = 0
  var stale = 0
  var failSafe = 0
  var fillsStored = 0
  var fillsRefused = 0
  var loads = 0
  var loadStatements = 0
  var loadsFailed = 0
  var loadsNotStored = 0
  var loadWaits = 0
  var turnWaits = 0
  var absentHits = 0
  var writes = 0
  var writesFailed = 0
  var writesStored = 0
  var behindWrites = 0
  var behindWaits = 0
  var behindRefused = 0
  var refreshes = 0
  var removals = 0
  var drops = 0
  var durable = 0
  var durableFailed = 0
  var trackingMessages = 0
  var nearEvictedByRedis = 0
  var announcements = 0
  var announcementsMalformed = 0
  var commands = 0
  var protocolErrors = 0
}
