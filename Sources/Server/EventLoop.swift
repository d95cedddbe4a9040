import CLinux
import Configuration
import DequeModule
import Glibc
import Invalidation
import Logging
import NearCache

/// The one thread that clients talk to: it owns the near cache, the follower, the ledger of fills and the
/// connections to Redis, so that nothing of them needs a lock.
///
/// How it works: 1. epoll says which descriptors are ready; 2. a client's bytes are cut into commands, a batch
/// at a time; 3. near hits are copied straight into its output, everything else becomes a request to Redis
/// and a note of who awaits the reply; 4. replies from Redis are judged and copied; 5. each output is written
/// once. Messages of other threads come through the mailbox between two polls.
public struct EventLoop: ~Copyable {
  let settings: Settings
  let keys: StateKeys
  let governance: Governance
  let commands = CommandTable()
  let mailbox: LoopMailbox
  let log: Logger
  let version: String

  private let epoll: Int32
  private let listener: ListenSocket
  var clients: UnsafeMutablePointer<Client>
  private var inUse: [Bool]
  private var freeSlots: [Int32]
  private var serial: UInt32 = 0
  private var nextID = 1

  var near: NearCache
  var follower: Follower
  var ledger: FillLedger
  private let ledgerStore: LedgerStore
  var resp2 = Upstream(resp3: false)
  var resp3 = Upstream(resp3: true)
  var standalone: LocalState?
  /// Bumped for every governed write of this host, one count for each 1/4096 of the keys: a reply read before
  /// such a write must not be kept near after it.
  var localWrites = [UInt32](repeating: 0, count: 4096)
  /// The misses answered in this poll, with their keys in the ledger.
  var misses: [(key: UInt64, lease: Lease?)] = []
  var counters = Counters()
  var tail = TailReport(role: .waiting, trouble: "starting")
  var redisVersion = "7.0.0"

  var batch = Batch()
  var stateRequest: [UInt8] = []
  var now: Instant
  let started: Instant
  private var poll: UInt64 = 1
  private var wholePoll: Arrivals.WholePoll
  private var listenerArrivals: Arrivals
  private var lastTouch = Instant(nanoseconds: 0)
  private var listenerRests = false
  private var listenerRestsUntil = Instant(nanoseconds: 0)
  private var lastAsk = Instant(nanoseconds: 0)
  var isStopping = false
  /// Slots of clients that are paused.
  private var waiting: [Int32] = []
  /// Clients that were answered out of their own turn and still have to be written to.
  private var dirty: [Int32] = []

  static let mostClients = 10_000
  /// How much a client may leave unread before its own commands wait.
  static let outputHighWater = 1024 * 1024
  /// How many replies a client may be owed before its own commands wait.
  static let mostOwed = 10_000
  /// How many bytes may be kept for what a client is owed before its own commands wait.
  static let mostOwedBytes = 16 * 1024 * 1024
  /// A client that leaves more than this unread is given up.
  static let outputLimit = 1024 * 1024 * 1024
  /// Buffers that are empty shrink to this after a burst.
  static let idleBuffer = 64 * 1024

  public init(
    settings: Settings, listener: consuming ListenSocket, mailbox: LoopMailbox, log: Logger, version: String
  ) throws(ListenError) {
    let cache = try Self.nearCache(settings.near)
    epoll = try Self.makeEpoll(listener.descriptor, mailbox.descriptor)
    self.listener = listener
    near = cache
    self.settings = settings
    self.mailbox = mailbox
    self.log = log
    self.version = version
    keys = StateKeys(namespace: settings.namespace ?? "")
    governance = Governance(settings: settings)
    now = Instant(nanoseconds: clinux_boot_nanoseconds())
    started = now
    wholePoll = Arrivals.WholePoll(began: now)
    listenerArrivals = Arrivals(empty: now, poll: 0)
    follower = Follower(mapping: settings.mappingHash)
    let windows = settings.caches.map(\.plainSet.window) + [settings.plainSet.window]
    ledger = FillLedger(
      capacity: 262_144, seed: UInt64.random(in: .min ... .max), started: now,
      keep: windows.max() ?? settings.plainSet.window)
    ledgerStore = LedgerStore(socketPath: settings.listen.path)
    standalone = settings.redis == nil ? LocalState() : nil
    clients = .allocate(capacity: Self.mostClients)
    inUse = [Bool](repeating: false, count: Self.mostClients)
    freeSlots = (0..<Int32(Self.mostClients)).reversed()
    stateRequest = Self.stateRequest(keys.meta)
    ledgerStore.load(into: &ledger)
  }

  private static func makeEpoll(_ listener: Int32, _ mailbox: Int32) throws(ListenError) -> Int32 {
    let epoll = clinux_epoll_create()
    guard epoll >= 0, clinux_epoll_add(epoll, listener, UInt32(CLINUX_READABLE), Token.listener) == 0,
      clinux_epoll_add(epoll, mailbox, UInt32(CLINUX_READABLE), Token.mailbox) == 0
    else { throw ListenError(description: "Cannot watch descriptors: \(String(cString: strerror(errno))).") }
    return epoll
  }

  private static func nearCache(_ settings: NearSettings) throws(ListenError) -> NearCache {
    do throws(NearCacheError) {
      return try NearCache(
        bytes: settings.size, maxEntry: settings.maxEntry, seed: UInt64.random(in: .min ... .max))
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
  }

  /// Serves until the mailbox says stop, then answers what is owed for at most `drain` nanoseconds.
  public mutating func run(drain: UInt64 = 5_000_000_000) {
    let events = UnsafeMutablePointer<clinux_event>.allocate(capacity: 512)
    defer { events.deallocate() }
    var stopBy: Instant?
    tick()
    while true {
      let began = clock()
      let count = clinux_epoll_wait(epoll, events, 512, 100)
      now = clock()
      for index in 0..<max(0, Int(count)) { handle(events[index]) }
      writeDirty()
      // Clients that this poll did not name had nothing waiting when it began. With a full table that cannot
      // be said of the others.
      if count >= 0, count < 512 { wholePoll = Arrivals.WholePoll(number: poll, began: began) }
      dateMisses()
      poll += 1
      tick()
      writeDirty()
      if isStopping {
        if stopBy == nil {
          stopBy = Instant(nanoseconds: now.nanoseconds + drain)
          clinux_epoll_remove(epoll, listener.descriptor)
        }
        if let stopBy, owesNothing || now >= stopBy { break }
      }
    }
    ledgerStore.save(ledger, now: now)
  }

  private var owesNothing: Bool {
    for slot in inUse.indices where inUse[slot] {
      if !clients[slot].owed.isEmpty || !clients[slot].output.isEmpty { return false }
    }
    return true
  }

  private mutating func handle(_ event: clinux_event) {
    switch event.token {
    case Token.listener: acceptClients()
    case Token.mailbox: readMailbox()
    case Token.resp2: upstreamEvent(event.events, resp3: false)
    case Token.resp3: upstreamEvent(event.events, resp3: true)
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

  // MARK: Clients

  private mutating func acceptClients() {
    // A connection may have waited, with commands in it, since the listener was last empty.
    let empty = listenerArrivals.named(in: poll, last: wholePoll, watched: !listenerRests)
    for _ in 0..<64 {
      let descriptor = clinux_accept(listener.descriptor)
      guard descriptor >= 0 else {
        if errno == EAGAIN { listenerArrivals.drained(now) }
        // Out of descriptors: whoever waits is reported by every poll, so the listener rests until the next
        // tick instead of turning the loop in a circle.
        if errno != EAGAIN, errno != EINTR, errno != ECONNABORTED {
          _ = clinux_epoll_modify(epoll, listener.descriptor, 0, Token.listener)
          listenerRests = true
          listenerRestsUntil = Instant(nanoseconds: now.nanoseconds + 100_000_000)
        }
        return
      }
      guard let slot = freeSlots.popLast() else {
        var refusal = IOBuffer(size: 64)
        refusal.error("ERR max number of clients reached")
        _ = refusal.write(to: descriptor)
        close(descriptor)
        continue
      }
      serial &+= 1
      let token = ClientToken(slot: slot, serial: serial)
      let events = UInt32(CLINUX_READABLE)
      (clients + Int(slot)).initialize(
        to: Client(
          descriptor: descriptor, token: token, id: nextID, now: now,
          arrivals: Arrivals(empty: empty, poll: poll), watched: events))
      inUse[Int(slot)] = true
      nextID += 1
      counters.connections += 1
      counters.clients += 1
      if clinux_epoll_add(epoll, descriptor, events, Self.pack(token)) != 0 {
        drop(Int(slot))
      }
    }
  }

  private static func pack(_ token: ClientToken) -> UInt64 {
    UInt64(token.serial) << 32 | UInt64(UInt32(bitPattern: token.slot))
  }

  private mutating func clientEvent(_ slot: Int, _ events: UInt32) {
    let client = clients + slot
    if events & UInt32(CLINUX_READABLE | CLINUX_HANGUP | CLINUX_ERROR) != 0 {
      let empty = client.pointee.arrivals.named(
        in: poll, last: wholePoll, watched: !client.pointee.readsPaused)
      if client.pointee.input.isEmpty { client.pointee.partialSince = empty }
      var drained = false
      switch client.pointee.input.read(
        from: client.pointee.descriptor, limit: 16 * 1024, drained: &drained)
      {
      case .some:
        if drained { client.pointee.arrivals.drained(now) }
        client.pointee.emptyAt = client.pointee.partialSince
        let waiting = client.pointee.input.count
        processInput(slot)
        // What is left now, if anything is, began in the bytes of this read.
        if client.pointee.input.count < waiting { client.pointee.partialSince = empty }
      case .wouldBlock: client.pointee.arrivals.drained(now)
      case .closed where events & UInt32(CLINUX_HANGUP | CLINUX_ERROR) == 0 && !client.pointee.isClosing:
        // It has only finished sending, as `printf … | nc -U` does, and still takes its answers.
        client.pointee.isClosing = true
      case .closed, .failed: return drop(slot)
      }
    }
    flush(slot)
  }

  /// Writes what the client is owed, goes on with its commands as it takes its replies, and watches for what
  /// the kernel did not take yet.
  mutating func flush(_ slot: Int) {
    let client = clients + slot
    while true {
      if !client.pointee.output.isEmpty {
        if case .failed = client.pointee.output.write(to: client.pointee.descriptor) { return drop(slot) }
        if client.pointee.output.count > Self.outputLimit { return drop(slot) }
      }
      if client.pointee.isClosing, client.pointee.output.isEmpty, client.pointee.owed.isEmpty {
        return drop(slot)
      }
      guard client.pointee.isStalled, !mustWait(slot) else { return watch(slot) }
      processInput(slot)
    }
  }

  /// Whether a client's commands wait until it has taken some of its replies, or Redis has given them.
  func mustWait(_ slot: Int) -> Bool {
    let client = clients + slot
    return client.pointee.output.count > Self.outputHighWater || client.pointee.owed.count > Self.mostOwed
      || client.pointee.owedBytes > Self.mostOwedBytes
  }

  /// Reads from a client only while it takes its answers and nothing pauses it.
  private mutating func watch(_ slot: Int) {
    let client = clients + slot
    let pauseReads = client.pointee.isClosing || client.pointee.pause != .none || mustWait(slot)
    if client.pointee.readsPaused, !pauseReads { client.pointee.arrivals.resumed(in: poll) }
    client.pointee.readsPaused = pauseReads
    client.pointee.output.shrinkIfIdle(to: Self.idleBuffer)
    client.pointee.input.shrinkIfIdle(to: Self.idleBuffer)
    var events: UInt32 = 0
    if !pauseReads { events |= UInt32(CLINUX_READABLE) }
    if !client.pointee.output.isEmpty { events |= UInt32(CLINUX_WRITABLE) }
    guard events != client.pointee.watched else { return }
    client.pointee.watched = events
    _ = clinux_epoll_modify(epoll, client.pointee.descriptor, events, Self.pack(client.pointee.token))
  }

  mutating func drop(_ slot: Int) {
    guard inUse[slot] else { return }
    _ = clinux_epoll_remove(epoll, clients[slot].descriptor)
    (clients + slot).deinitialize(count: 1)
    inUse[slot] = false
    freeSlots.append(Int32(slot))
    counters.clients -= 1
  }

  mutating func markDirty(_ slot: Int) { dirty.append(Int32(slot)) }

  private mutating func writeDirty() {
    flushUpstreams()
    while !dirty.isEmpty {
      let slots = dirty
      dirty.removeAll(keepingCapacity: true)
      for slot in slots where inUse[Int(slot)] { flush(Int(slot)) }
      flushUpstreams()
    }
  }

  // MARK: Time

  private mutating func tick() {
    if listenerRests, now >= listenerRestsUntil {
      listenerRests = false
      listenerArrivals.resumed(in: poll)
      _ = clinux_epoll_modify(epoll, listener.descriptor, UInt32(CLINUX_READABLE), Token.listener)
    }
    connectUpstreams()
    giveUpSilentUpstreams()
    if now.since(lastTouch) >= 1_000_000_000 {
      lastTouch = now
      ledgerStore.touch(now: now)
    }
    releaseWaiters()
    askForGeneration()
  }

  /// Misses were dated by the poll in which they were answered. If the answers went out much later, since the
  /// process was stopped for example, they are dated again.
  private mutating func dateMisses() {
    if !misses.isEmpty, clock().since(now) > 10_000_000 {
      let late = clock()
      for miss in misses { ledger.missed(miss.key, lease: miss.lease, at: late) }
    }
    misses.removeAll(keepingCapacity: misses.capacity <= 4096)
  }

  /// A follower that saw the state go back trusts nothing until a new generation, and nobody else may have
  /// seen it: so it asks for one, once a second.
  private mutating func askForGeneration() {
    guard case .poisoned = follower.standing, resp2.isReady, now.since(lastAsk) >= 1_000_000_000 else {
      return
    }
    lastAsk = now
    sendAsk()
  }

  /// Holds a client until something has happened; `releaseWaiters` answers it.
  mutating func pause(_ slot: Int, _ pause: Client.Pause) {
    clients[slot].pause = pause
    waiting.append(Int32(slot))
  }

  /// Answers the clients whose wait is over, and goes on with those that waited for their own replies.
  mutating func releaseWaiters() {
    guard !waiting.isEmpty else { return }
    let slots = waiting
    waiting.removeAll(keepingCapacity: true)
    for slot in slots.map(Int.init) where inUse[slot] && clients[slot].pause != .none {
      guard isOver(clients[slot].pause, slot) else {
        waiting.append(Int32(slot))
        continue
      }
      clients[slot].pause = .none
      processInput(slot)
      markDirty(slot)
    }
  }

  private func isOver(_ pause: Client.Pause, _ slot: Int) -> Bool {
    switch pause {
    case .none: return true
    case .drain: return clients[slot].owed.isEmpty
    case .position(let position, let deadline):
      let reached = hasApplied(position)
      guard reached || now >= deadline else { return false }
      clients[slot].reply { $0.integer(reached ? 1 : 0) }
      return true
    case .generation(let old, let deadline):
      let changed = currentGeneration != nil && currentGeneration != old
      guard changed || now >= deadline else { return false }
      clients[slot].reply {
        if changed { $0.status("OK") } else { $0.error(Self.noTailer) }
      }
      return true
    }
  }

  private static let noTailer =
    "ERR Nearside: no sidecar holds the replication slot, so nobody could begin a new generation; "
    + "NEARSIDE STATUS says what it waits for"

  // MARK: Messages of other threads

  private mutating func readMailbox() {
    for message in mailbox.take() {
      switch message {
      case .feed(let event): hear(event)
      case .upstream(let isResp3, let result): upstreamConnected(isResp3, result)
      case .local(let write, let posted): applyLocally(write, posted: posted)
      case .tail(let report): tail = report
      case .stop: isStopping = true
      }
    }
    releaseWaiters()
  }

  private mutating func hear(_ event: FeedEvent) {
    let action = follower.hear(event) { key in
      _ = near.remove(key, hash: near.hash(key))
    }
    // Only what this host follows may become the lease of a SET: not the state of another mapping.
    // The event may have been posted after this poll returned: a lease must not be dated before it existed.
    if case .state = event, let state = follower.state { ledger.observed(state.lease, at: clock()) }
    if case .dropAll = action {
      near.removeAll()
      counters.drops += 1
    }
  }

  /// A descriptor of Redis changed what it waits for.
  func watchUpstream(_ descriptor: Int32, resp3: Bool, wantsWrite: Bool, added: Bool) {
    let events = UInt32(CLINUX_READABLE) | (wantsWrite ? UInt32(CLINUX_WRITABLE) : 0)
    let token = resp3 ? Token.resp3 : Token.resp2
    if added {
      _ = clinux_epoll_add(epoll, descriptor, events, token)
    } else {
      _ = clinux_epoll_modify(epoll, descriptor, events, token)
    }
  }
}

/// What this process has done since it started.
struct Counters {
  var connections = 0
  var clients = 0
  var nearHits = 0
  var nearMisses = 0
  var redisHits = 0
  var redisMisses = 0
  var bypassed = 0
  var stale = 0
  var fillsStored = 0
  var fillsRefused = 0
  var removals = 0
  var drops = 0
  var commands = 0
  var protocolErrors = 0
}
