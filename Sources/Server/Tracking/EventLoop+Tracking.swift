import Configuration
import Glibc
import Invalidation
import NearCache

/// CLIENT TRACKING for clients of this socket.
///
/// Where the news come from: of governed keys from the log, by the journal that every sidecar follows, and from the
/// writes that this sidecar carries out; of all other keys from Redis itself (`EventLoop+Watching.swift`). Both enter
/// one table, which says who is to be told (`TrackingTable`).
///
/// The order between a reply and the message that makes it void is not Redis's, since the two come from different
/// connections. So a message never waits: it is written at once, between two replies, and once more behind the reply to
/// a read of the same key that is still owed. A client that notes a key when it sends the read, as redis-py and rueidis
/// do, drops it at the first message; one that keeps whatever a reply brings, as Lettuce does, drops it at the second.
struct Tracking {
  var table: TrackingTable
  var watchers = Watchers()
  /// What transactions read in another database than the configured one, until EXEC.
  var queued: [TrackingTable.Client: [[UInt8]]] = [:]
  /// The oldest evidence under which a client may keep what it was given, in nanoseconds.
  var bound: UInt64
  /// Clients were told to forget everything, for want of evidence.
  var isStale = false
  /// The reply to EXEC is half written.
  var waitsForExec = false

  init(_ settings: Settings) {
    table = TrackingTable(limit: settings.clients.trackedKeys)
    bound = Self.bound(of: settings)
  }

  static func bound(of settings: Settings) -> UInt64 {
    (settings.caches.compactMap(\.staleness) + [settings.staleness]).map(\.bound).min()
      ?? settings.staleness.bound
  }

  /// Whether any client tracks.
  @inline(__always)
  var isActive: Bool { !table.isEmpty }
}

extension EventLoop {
  // MARK: CLIENT TRACKING, CACHING, TRACKINGINFO, GETREDIR

  mutating func clientTracking(_ request: Request, _ word: String, _ slot: Int) {
    let client = Self.pack(clients[slot].token)
    let old = tracking.table.states[client]
    do throws(ErrorReply) {
      switch word {
      case "tracking":
        let state = try TrackingState.after(request, old) { tokenOfClient($0) }
        if state?.broadcasts == true, waitsForWatcher(slot) { return }
        setTracking(state, slot)
        reply(slot) { $0.status("OK") }
      case "caching":
        guard var state = old else { throw TrackingState.cachingWithoutTracking }
        try state.caching(request)
        tracking.table.setCaching(client, true)
        reply(slot) { $0.status("OK") }
      case "getredir":
        let id = old.map { $0.redirect?.id ?? 0 } ?? -1
        reply(slot) { $0.integer(id) }
      default: trackingInfo(old, slot)
      }
    } catch {
      reply(slot) { $0.error(error.text) }
    }
  }

  private mutating func trackingInfo(_ state: TrackingState?, _ slot: Int) {
    let resp3 = clients[slot].resp3
    let flags = TrackingState.flags(state)
    reply(slot) { output in
      output.map(3, resp3: resp3)
      output.bulk("flags")
      output.append(byte: resp3 ? UInt8(ascii: "~") : UInt8(ascii: "*"))
      output.append(number: flags.count)
      output.append("\r\n")
      for flag in flags { output.bulk(flag) }
      output.bulk("redirect")
      output.integer(state.map { $0.redirect?.id ?? 0 } ?? -1)
      output.bulk("prefixes")
      output.array(state?.prefixes.count ?? 0)
      for prefix in state?.prefixes ?? [] { prefix.withUnsafeBytes { output.bulk($0) } }
    }
  }

  private func tokenOfClient(_ id: Int) -> UInt64? {
    for slot in inUse.indices where inUse[slot] && clients[slot].id == id {
      return Self.pack(clients[slot].token)
    }
    return nil
  }

  mutating func setTracking(_ state: TrackingState?, _ slot: Int) {
    let client = Self.pack(clients[slot].token)
    clients[slot].isTracking = state != nil
    tracking.table.set(client, state)
    tracking.queued[client] = nil
  }

  // MARK: What is read and written

  /// Whether the command waits for the connection on which Redis tells of changes: what it reads only Redis can watch.
  mutating func waitsForWatcher(_ request: Request, _ spec: CommandSpec?, _ slot: Int) -> Bool {
    guard embedded == nil, transacting == nil, loading.resumed == nil,
      let state = tracking.table.states[Self.pack(clients[slot].token)], state.remembers
    else { return false }
    let isElsewhere = clients[slot].session.database != nil
    var isForeign = false
    TrackedKeys.forEachRead(request, spec) { if isElsewhere || !governance.governs($0) { isForeign = true } }
    if isForeign { tracking.watchers.wanted(now) }
    // Commands behind MULTI read nothing before EXEC.
    let isExec = spec?.name == "exec"
    guard isForeign && clients[slot].session.transaction == nil || isExec && tracking.watchers.isOpening
    else { return false }
    return waitsForWatcher(slot)
  }

  private mutating func waitsForWatcher(_ slot: Int) -> Bool {
    guard embedded == nil else { return false }
    tracking.watchers.wanted(now)
    tickWatchers()
    guard tracking.watchers.isOpening else { return false }
    pause(slot, .watcher)
    return true
  }

  /// Enters what a command of a tracking client has read. It has just been executed, so what it is owed for it is the
  /// last that it is owed.
  mutating func noteRead(_ request: Request, _ spec: CommandSpec?, _ slot: Int) {
    let client = Self.pack(clients[slot].token)
    guard !clients[slot].repeatsCommand, let state = tracking.table.states[client] else { return }
    let session = clients[slot].session
    let isQueueing = session.transaction != nil || session.isQueueingElsewhere
    if state.remembers {
      if !isQueueing {
        for key in tracking.queued.removeValue(forKey: client) ?? [] {
          if spec?.name == "exec" { key.withUnsafeBytes { noteRead($0, client, slot) } }
        }
        TrackedKeys.forEachRead(request, spec) { noteRead($0, client, slot) }
      } else if session.isQueueingElsewhere {
        TrackedKeys.forEachRead(request, spec) { tracking.queued[client, default: []].append([UInt8]($0)) }
      }
    }
    guard state.isCaching, transacting == nil, !isQueueing, spec?.name != "client" else { return }
    tracking.table.setCaching(client, false)
  }

  private mutating func noteRead(
    _ key: UnsafeRawBufferPointer, _ client: TrackingTable.Client, _ slot: Int
  ) {
    let reply = clients[slot].newestReply
    let isGoverned = clients[slot].session.database == nil && governance.governs(key)
    let isWatched = isGoverned ? isFresh(at: now, bound: tracking.bound) : tracking.watchers.isWatching
    guard isWatched else {
      return tracking.table.readUnwatched([UInt8](key), by: client, reply: reply)
    }
    guard isGoverned else {
      return tracking.table.read([UInt8](key), by: client, reply: reply, isGoverned: false)
    }
    // An end of the near copy alone says nothing of the value.
    let end = settings.near.ttl == nil ? near.expiry(of: key) : nil
    tracking.table.read(
      [UInt8](key), by: client, reply: reply, groups: governance.groups.membership(of: key)?.buckets ?? [],
      end: end?.nanoseconds)
  }

  /// How the reply to a command that goes to Redis as it is is awaited: that to a write tells whether its client,
  /// which does not want to hear of its own writes, has changed the keys.
  mutating func awaited(_ request: Request, _ slot: Int) -> Upstream.Awaited {
    let token = clients[slot].token
    guard clients[slot].isTracking else { return .relay(token) }
    let spec = commands.spec(request[0])
    let write = ownWrite(TrackedKeys.written(request, spec), by: spec?.name ?? "", slot)
    return write.map { .task(UpstreamTask(client: token, work: .ownWrite($0))) } ?? .relay(token)
  }

  /// A write that is about to be sent; nil: its client is told of it like everybody else.
  mutating func ownWrite(_ keys: [[UInt8]], by name: String, _ slot: Int) -> OwnWrite? {
    guard clients[slot].isTracking, sharedUpstream(slot).isReady else { return nil }
    let known = tracking.table.writes(keys, by: Self.pack(clients[slot].token))
    return known.isEmpty
      ? nil : OwnWrite(client: clients[slot].token, name: name, named: keys.count, keys: known)
  }

  mutating func finishOwnWrite(_ write: OwnWrite, _ replies: UnsafeRawBufferPointer, _ slot: Int?) {
    settle(slot) { output, _ in output.append(replies) }
    ended(write, isCertain: TrackedKeys.provesChange(write.name, keys: write.named, replies))
  }

  /// No reply will come: Redis may have carried it out or not.
  mutating func abandonOwnWrite(_ write: OwnWrite) { ended(write, isCertain: false) }

  private mutating func ended(_ write: OwnWrite, isCertain: Bool) {
    guard isAlive(write.client) else { return }
    tracking.table.wrote(
      write.keys, by: Self.pack(write.client), isCertain: isCertain,
      reply: clients[Int(write.client.slot)].newestReply, now: now.nanoseconds)
  }

  /// The answer to a governed write, before what it changed is told to everybody.
  mutating func noteGovernedWrite(
    _ work: UpstreamTask.Work, _ replies: UnsafeRawBufferPointer, _ client: ClientToken?
  ) {
    var cursor = ReplyCursor(replies)
    let isDone = !cursor.isError && cursor.enter() != nil && cursor.text() == "OK"
    switch work {
    case .fill(let fill):
      guard let client, isDone, TrackedKeys.provesChange(fill.command, keys: 1, cursor.peek) else { return }
      tracking.table.wroteGoverned([fill.key.bytes], by: Self.pack(client))
    case .remove(let removal), .expire(let removal, _):
      guard let own = removal.own else { return }
      ended(own, isCertain: isDone && TrackedKeys.provesChange(own.name, keys: own.named, cursor.peek))
    default: return
    }
  }

  // MARK: What has changed

  /// A governed key was written by this host.
  mutating func noteChange(_ key: GovernedKey) {
    guard tracking.isActive else { return }
    // Where Redis tells of all keys, it tells of this one.
    tracking.table.changed(key.bytes, broadcasts: !tracking.watchers.isWatching)
  }

  mutating func noteChange(ofGroup group: UnsafeRawBufferPointer) {
    guard tracking.isActive else { return }
    tracking.table.changed(
      group: [UInt8](group), bucket: Int32(KeyHash.bucket(group)), namespace: Array(settings.keyPrefix.utf8))
  }

  mutating func tickTracking() {
    tickWatchers()
    guard tracking.isActive else { return }
    tracking.table.tick(now: now.nanoseconds)
    // What this host would not show any longer, its clients must not show either.
    let isStale = !isFresh(at: now, bound: tracking.bound)
    if isStale, !tracking.isStale, tracking.table.knowsGoverned { tracking.table.flush() }
    tracking.isStale = isStale
  }

  func trackingLines() -> [String] {
    let table = tracking.table
    var lines = [
      "tracking_clients:\(table.states.count)", "tracked_keys:\(table.keyCount)",
      "tracking_evicted:\(table.evicted)",
      "tracking_watch:\(tracking.watchers.all.map(Self.standing) ?? "off")",
    ]
    if let namespace = tracking.watchers.namespace {
      lines.append("redis_tracking:\(Self.standing(namespace))")
      lines.append("redis_tracking_evicted:\(counters.nearEvictedByRedis)")
    }
    return lines
  }

  private static func standing(_ upstream: Upstream) -> String {
    upstream.isReady ? "on" : "off (\(upstream.trouble))"
  }
}

/// A write of a client with NOLOOP, on its way to Redis: the keys of which the client would otherwise be told.
struct OwnWrite {
  var client: ClientToken
  /// The command's, in lower case.
  var name: String
  /// How many keys the command named.
  var named: Int
  var keys: [[UInt8]]
}
