import Configuration
import Invalidation
import NearCache

/// A host with one sidecar: its clock, its event loop with near cache, follower and ledger of fills, its feed,
/// and its tailer. What is here and in the files `Host+…` mirrors the rim, `Sources/Server/Loop` and
/// `Sources/Server/Relay`; each part names what it follows.
final class Host {
  unowned let world: World
  let number: Int
  private let offset: UInt64
  private let rate: (UInt64, UInt64)

  /// Grows with each process.
  private(set) var process = 1
  private(set) var isRunning = true
  /// Every thread of the process stands still until then.
  private(set) var pausedUntil: UInt64 = 0
  /// The event loop is in the middle of a turn until then.
  private var busyUntil: UInt64 = 0

  // The event loop's own.
  var near: NearCache
  var follower: Follower
  var ledger: FillLedger
  private var ledgerFile: LedgerFile?
  /// When the poll returned that this turn is for.
  var now = Instant(nanoseconds: 0)
  /// The beginning of the latest poll that has returned: sockets it did not name were empty then.
  private(set) var pollBegan = Instant(nanoseconds: 0)
  private var turnEnded = Instant(nanoseconds: 0)
  /// Local writes of each key.
  var writes: [UInt32]
  var misses: [(key: UInt64, lease: Lease?)] = []
  private var lastAsk = Instant(nanoseconds: 0)
  private var lastTouch = Instant(nanoseconds: 0)
  /// RESP2 and RESP3.
  var upstreams: [Upstream?] = [nil, nil]
  var isConnecting = [false, false]
  var waiting: [Wait] = []
  var requests = 0
  var holds: [Hold] = []
  /// nil: the mapping has no groups.
  private(set) var epochs: GroupEpochs?
  private var droppedSerial: UInt32 = 0
  /// Of each key what an application beside this host has deleted last.
  private(set) var removed: [Int: Removal] = [:]

  struct Removal {
    var version: Int
    /// A Redis that loses writes brings back what was deleted.
    var losses: Int
  }

  /// SETs that are written through.
  var through = Through()

  /// What the feed has handed over.
  var mailbox: [FeedEvent] = []

  // The feed's own.
  var feed = Feed()

  lazy var tailer = Tailer(self)

  static let mapping = "mapping"

  init(_ world: World, number: Int) {
    self.world = world
    self.number = number
    offset = 1_000_000_000 + world.random.below(50_000_000_000 as UInt64)
    rate = [(1, 1), (1, 1), (21, 20), (19, 20), (11, 10)][world.random.below(5)]
    guard let near = try? NearCache(bytes: NearCache.leastBytes, maxEntry: 64, seed: 7) else {
      preconditionFailure("no memory for a near cache")
    }
    self.near = near
    follower = Follower(mapping: Self.mapping)
    ledger = FillLedger(
      capacity: world.swarm.ledger, seed: 9, started: Instant(nanoseconds: 0), keep: world.swarm.window)
    writes = [UInt32](repeating: 0, count: world.keys.count)
    start()
  }

  // MARK: Time

  var clock: Instant { clock(at: world.now) }

  func clock(at time: UInt64) -> Instant {
    Instant(nanoseconds: offset + time / rate.1 * rate.0 + time % rate.1 * rate.0 / rate.1)
  }

  /// How much of the world's time passes while this host's clock goes on by `nanoseconds`.
  func worldly(_ nanoseconds: UInt64) -> UInt64 { nanoseconds * rate.1 / rate.0 + 1 }

  /// When this host's clock will show `instant`.
  func time(of instant: Instant) -> UInt64 { world.now + worldly(instant.since(clock)) }

  func after(_ nanoseconds: UInt64, _ body: @escaping () -> Void) {
    let process = process
    world.at(world.now + worldly(nanoseconds)) { [self] in awake(process, body) }
  }

  /// Runs `body` on one of the process's threads, if it is still that process, as soon as it is not stopped.
  func awake(_ process: Int, _ body: @escaping () -> Void) {
    guard process == self.process, isRunning else { return }
    if world.now < pausedUntil {
      world.at(pausedUntil) { [self] in awake(process, body) }
    } else {
      body()
    }
  }

  /// A turn of the event loop, which may be stopped between the return of its poll and its work.
  func turn(_ body: @escaping () -> Void) {
    if world.now < busyUntil {
      let process = process
      world.at(busyUntil) { [self] in awake(process) { [self] in turn(body) } }
      return
    }
    let polled = clock
    if world.lags() {
      busyUntil = world.now + world.random.below(world.random.one(of: world.swarm.lagTimes))
      let process = process
      world.at(busyUntil) { [self] in awake(process) { [self] in work(polled, body) } }
    } else {
      work(polled, body)
    }
  }

  private func work(_ polled: Instant, _ body: () -> Void) {
    now = polled
    body()
    releaseWaiters()
    // EventLoop+Waiting.swift, dateMisses.
    if clock.since(now) > 10_000_000, !world.weakness.contains(.missesKeepTheirDate) {
      for miss in misses { ledger.missed(miss.key, lease: miss.lease, at: clock) }
    }
    misses.removeAll(keepingCapacity: true)
    pollBegan = turnEnded
    turnEnded = clock
  }

  /// When a connection that is looked at now, and has something, was last seen empty. The loop also polls when
  /// nothing happens, every 100 ms.
  var emptyAt: Instant {
    let idle = clock.back(100_000_000)
    return world.now < busyUntil || world.now < pausedUntil ? pollBegan : max(pollBegan, idle)
  }

  // MARK: The process

  private func start() {
    isRunning = true
    follower = Follower(mapping: Self.mapping)
    follower.weakness = world.weakness.product
    near.removeAll()
    epochs = world.swarm.hasGroups ? GroupEpochs() : nil
    droppedSerial = 0
    now = clock
    pollBegan = now
    turnEnded = now
    ledger = FillLedger(capacity: world.swarm.ledger, seed: 9, started: now, keep: world.swarm.window)
    ledger.adopt(ledgerFile, boot: "boot")
    touch()
    ledger.weakness = world.weakness.product
    upstreams = [nil, nil]
    isConnecting = [false, false]
    feed = Feed()
    waiting = []
    misses = []
    mailbox = []
    holds = []
    through = Through()
    tick()
    feedConnect()
    tailer.start()
  }

  /// EventLoop+Waiting.swift, tick.
  private func tick() {
    after(100_000_000) { [self] in
      turn { [self] in
        for via in 0..<2 {
          connectUpstream(via)
          giveUpSilentUpstream(via)
        }
        askForSession()
        if now.since(lastTouch) >= 1_000_000_000 { touch() }
        if case .poisoned = follower.standing, now.since(lastAsk) >= 1_000_000_000 {
          lastAsk = now
          ask()
        }
      }
      tick()
    }
    for via in 0..<2 { connectUpstream(via) }
  }

  private func touch() {
    lastTouch = now
    ledgerFile = LedgerFile(boot: "boot", touched: now)
  }

  /// `cleanly`: the loop answers what it owes and leaves its table to its successor.
  func stop(cleanly: Bool, for time: UInt64) {
    guard isRunning, world.now >= pausedUntil, world.now >= busyUntil else { return }
    if cleanly {
      ledgerFile = LedgerFile(boot: "boot", touched: clock, table: ledger.serialise())
    }
    isRunning = false
    process += 1
    for upstream in upstreams { upstream?.link.cut() }
    feed.link?.cut()
    tailer.die()
    let flows = upstreams.flatMap { $0?.awaited ?? [] }
    upstreams = [nil, nil]
    for task in flows { task.client?(.error) }
    for hold in holds { hold.client(.error) }
    for write in through.writes.values.sorted(by: { $0.id < $1.id }) { write.client(.error) }
    through = Through()
    world.at(world.now + time) { [self] in start() }
  }

  /// The run is over.
  func forgetAll() {
    upstreams = [nil, nil]
    feed = Feed()
    through = Through()
    holds = []
    waiting = []
    tailer.forgetAll()
  }

  func pause(for time: UInt64) {
    guard isRunning, world.now >= pausedUntil else { return }
    pausedUntil = world.now + time
  }

  /// Nothing stands in the way of this host any more.
  var isHealthy: Bool { isRunning && world.now >= pausedUntil && world.now >= busyUntil }

  // MARK: Evidence (EventLoop+Evidence.swift)

  func isFresh(at instant: Instant) -> Bool {
    guard let certificate = follower.certificate else { return false }
    return instant.since(certificate) <= world.swarm.bound
  }

  enum Judgement {
    case trusted(Lease, mayKeep: Bool)
    case absent(Lease)
    case bypass(Lease?)
  }

  func judge(_ state: FleetState?, _ basis: Follower.Basis, _ key: Key) -> Judgement {
    guard let state, follower.follows(state, basis) else { return .bypass(nil) }
    guard isTrusted(key, state) else { return .absent(state.lease) }
    let evidence = follower.certificate(state, basis)
    if let evidence, clock.since(evidence) <= world.swarm.bound {
      return .trusted(state.lease, mayKeep: follower.accepts(state))
    }
    if world.weakness.contains(.redisHitsNeedNoEvidence) {
      return .trusted(state.lease, mayKeep: follower.accepts(state))
    }
    return .bypass(evidence == nil ? state.lease : nil)
  }

  func isTrusted(_ key: Key, _ state: FleetState) -> Bool {
    guard state.trusted || world.weakness.contains(.untrustedCounts) else { return false }
    guard key.isGrouped, !world.weakness.contains(.pendingCounts) else { return true }
    return key.withBytes { state.trusts($0, tags: key.tags) || !state.trusted }
  }

  // MARK: Groups (EventLoop+Groups.swift)

  /// When a value is asked for, as its near entry will bear it.
  func serial(_ key: Key) -> UInt32? { key.isGrouped ? epochs?.serial : nil }

  func clear(_ group: UnsafeRawBufferPointer) {
    guard epochs != nil, epochs?.clear(group) == true || world.mapping.groups.isAdHoc(group) else { return }
    near.removeAll()
    if epochs?.isUsedUp == true { epochs?.beginAnew() }
    droppedSerial = epochs?.serial ?? 0
  }

  private func isCurrent(_ serial: UInt32, _ key: UnsafeRawBufferPointer) -> Bool {
    var isCurrent = true
    world.mapping.groups.forEach(of: key) { group in
      if epochs?.isCurrent(serial, group) == false { isCurrent = false }
    }
    return isCurrent
  }

  func noteWrite(_ key: Key) {
    writes[key.number] &+= 1
    _ = key.withBytes { near.remove($0, hash: near.hash($0)) }
  }

  /// An application has been told that the key is deleted, whose last part was `old` until then. From now on
  /// nobody on this host is shown that.
  func noteRemoved(_ key: Key, _ old: Int) {
    guard !world.redis.isDoubted else { return removed[key.number] = nil }
    // Of two that were under way at once the older may be told of last.
    let known = removed[key.number].map { $0.losses == world.redis.losses ? $0.version : old } ?? old
    removed[key.number] = Removal(version: max(known, old), losses: world.redis.losses)
  }

  func checkRemoved(_ text: String, _ removal: Removal?, _ key: Key) {
    guard let removal, removal.losses == world.redis.losses, let last = Oracle.parse(text).last,
      last <= removal.version
    else { return }
    world.fail("host \(number) shows \(text) of \(key.name), which was deleted here before it was asked for")
  }

  func noteMiss(_ key: Key, lease: Lease?) {
    let hash = key.withBytes { KeyHash.hash($0, seed: ledger.seed) }
    if lease != nil || !world.weakness.contains(.bypassedMissesForgotten) {
      ledger.missed(hash, lease: lease, at: now)
      misses.append((hash, lease))
    }
  }

  func keepNear(_ key: Key, version: UInt32, serial: UInt32?, _ value: String, expires: Instant?) {
    let serial = world.weakness.contains(.groupsDatedWhenKept) ? self.serial(key) : serial
    if let serial, serial < droppedSerial { return }
    guard version == writes[key.number] || world.weakness.contains(.ownWritesNotCounted) else { return }
    var until = expires
    if let ttl = world.swarm.nearTTL {
      let limit = Instant(nanoseconds: now.nanoseconds + ttl)
      until = until.map { min($0, limit) } ?? limit
    }
    var value = value
    value.withUTF8 { value in
      _ = key.withBytes {
        near.insert(
          $0, hash: near.hash($0), value: UnsafeRawBufferPointer(value), expires: until, tag: 0,
          serial: serial)
      }
    }
  }

  func findNear(_ key: Key) -> String? {
    key.withBytes {
      guard let entry = near.find($0, hash: near.hash($0), now: now) else { return nil }
      if let serial = entry.serial, !isCurrent(serial, $0), !world.weakness.contains(.groupsStayNear) {
        return nil
      }
      return String(decoding: entry.value, as: UTF8.self)
    }
  }

  // MARK: Hearing (EventLoop.swift, hear)

  func hear(_ event: FeedEvent) {
    let action = follower.hear(
      event, evict: { key in _ = near.remove(key, hash: near.hash(key)) }, group: { clear($0) })
    if case .dropAll = action { missedEntries() }
    if case .entries(let entries, let generation) = event { noteSightings(entries, generation) }
    if case .state = event, let state = follower.state {
      ledger.observed(state.lease, at: clock)
      releaseHolds(state)
    }
    if case .dropAll = action { near.removeAll() }
  }

  // MARK: Waiting (NEARSIDE WAIT)

  struct Wait {
    var position: LSN
    var deadline: Instant
    var client: (Bool) -> Void
  }

  func hasApplied(_ position: LSN) -> Bool {
    follower.consumed >= position && !(follower.state?.watching ?? false)
  }

  func wait(for position: LSN, _ client: @escaping (Bool) -> Void) {
    waiting.append(
      Wait(
        position: position, deadline: Instant(nanoseconds: now.nanoseconds + 1_000_000_000), client: client))
  }

  private func releaseWaiters() {
    guard !waiting.isEmpty else { return }
    let all = waiting
    waiting = []
    for wait in all {
      if hasApplied(wait.position) {
        wait.client(true)
      } else if now >= wait.deadline {
        wait.client(false)
      } else {
        waiting.append(wait)
      }
    }
  }
}
