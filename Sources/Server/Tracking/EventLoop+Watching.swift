import CLinux
import Configuration
import Glibc
import Invalidation
import Logging
import NearCache

/// The connections on which Redis tells of changes (CLIENT TRACKING ON BCAST), made by whoever made them.
///
/// `all`: of every key, for clients that track keys which are not governed, or broadcast. It is there only while such
/// clients are, since Redis sends one message for each write of anybody. Tracking each read instead (OPTIN) would cost
/// a command for each read, and reach neither transactions nor connections of a client's own.
///
/// `namespace`: of the namespace's keys, with `"redis": {"tracking": true}`: near copies leave when somebody has
/// written, removed or flushed the key behind Nearside's back, or it has expired. Nothing else does: what Redis holds
/// is what a stranger put there, and no lease ends by it. This host's own writes come back as such messages too. They
/// cannot be told from others (NOLOOP is about one connection), so they cost the near copy that was just kept, once: the
/// next read fetches it from Redis, and a read sends no message.
struct Watchers {
  /// How long `all` stays without being wanted, in nanoseconds.
  static let patience: UInt64 = 10_000_000_000

  var all: Upstream?
  var namespace: Upstream?
  private(set) var lastWanted = Instant(nanoseconds: 0)
  var lastPing = Instant(nanoseconds: 0)
  /// What the log has said last.
  var complaint = ""

  /// This host's own FLUSHALLs: those on their way, how often Redis told of one meanwhile, and how often it will yet,
  /// of what clients have been told already. All begins anew with the connection.
  private var flushes = (sent: 0, heard: 0, expected: 0)
  private var watch = 0

  /// Result: what `endFlush` takes.
  mutating func beginFlush() -> Int? {
    guard isWatching else { return nil }
    flushes.sent += 1
    return watch
  }

  /// Whether clients are to be told now; otherwise Redis has told of one, which may have been another, or will.
  mutating func endFlush(_ begun: Int?, isDone: Bool) -> Bool {
    guard begun == watch else { return true }
    flushes.sent -= 1
    defer { flushes.heard = min(flushes.heard, flushes.sent) }
    guard isDone else { return false }
    if flushes.heard > 0 {
      flushes.heard -= 1
      return false
    }
    flushes.expected += 1
    return true
  }

  /// Redis tells of a FLUSHALL: whether clients have been told of it, or of a later one.
  mutating func hearFlush() -> Bool {
    if flushes.expected > 0 {
      flushes.expected -= 1
      return true
    }
    if flushes.heard < flushes.sent { flushes.heard += 1 }
    return false
  }

  mutating func forgetFlushes() {
    flushes = (0, 0, 0)
    watch += 1
  }

  /// Whether Redis tells of every key.
  var isWatching: Bool { all?.isReady ?? false }
  /// Whether it will be known soon if it does.
  var isOpening: Bool { all.map { !$0.hasBeenTried } ?? false }

  mutating func wanted(_ now: Instant) {
    lastWanted = now
    if all == nil { all = Upstream(resp3: true, token: EventLoop.Token.watchAll, loads: false) }
  }

  func connection(_ token: UInt64) -> Upstream? {
    token == EventLoop.Token.watchAll ? all : namespace
  }
}

extension EventLoop.Token {
  static let watchAll = UInt64.max - 8
  static let watchNamespace = UInt64.max - 9

  static func isWatcher(_ token: UInt64) -> Bool { token == watchAll || token == watchNamespace }
}

extension EventLoop {
  // MARK: The connections

  mutating func tickWatchers() {
    guard embedded == nil, !isStopping else { return }
    if watchesNamespace, tracking.watchers.namespace == nil {
      tracking.watchers.namespace = Upstream(resp3: true, token: Token.watchNamespace, loads: false)
    }
    if let all = tracking.watchers.all {
      if tracking.table.hasBroadcasts || tracking.table.foreign > 0 {
        tracking.watchers.wanted(now)
      } else if now.since(tracking.watchers.lastWanted) > Watchers.patience {
        _ = all.fail("not needed", now: now)
        tracking.watchers.forgetFlushes()
        tracking.watchers.all = nil
      }
    }
    let pings = now.since(tracking.watchers.lastPing) >= 1_000_000_000
    if pings { tracking.watchers.lastPing = now }
    if let all = tracking.watchers.all { tick(all, pings: pings) }
    if let namespace = tracking.watchers.namespace { tick(namespace, pings: pings) }
  }

  private mutating func tick(_ watcher: Upstream, pings: Bool) {
    connectIfDue(watcher)
    if !giveUpIfSilent(watcher), pings, watcher.isReady, watcher.awaited.isEmpty {
      // Otherwise a server behind a broken network would seem to have nothing to tell.
      watcher.output.array(1)
      watcher.output.argument("PING")
      watcher.await(.task(UpstreamTask(client: nil, work: .note)))
    }
  }

  mutating func flushWatchers() {
    if let all = tracking.watchers.all { flush(all) }
    if let namespace = tracking.watchers.namespace { flush(namespace) }
  }

  /// Connected and greeted: asks for the messages.
  func beginWatching(_ upstream: Upstream) {
    guard Token.isWatcher(upstream.token) else { return }
    let isAll = upstream.token == Token.watchAll
    upstream.output.array(isAll ? 4 : 6)
    upstream.output.argument("CLIENT")
    upstream.output.argument("TRACKING")
    upstream.output.argument("ON")
    upstream.output.argument("BCAST")
    if !isAll {
      upstream.output.argument("PREFIX")
      upstream.output.bulk(settings.keyPrefix)
    }
    upstream.await(.task(UpstreamTask(client: nil, work: .greeting)))
  }

  mutating func watcherEvent(_ events: UInt32, _ token: UInt64) {
    guard let upstream = tracking.watchers.connection(token), upstream.descriptor >= 0 else { return }
    let wasReady = upstream.isReady
    if events & ~UInt32(CLINUX_WRITABLE) != 0, receive(upstream) {
      do throws(ConnectFailure) {
        while try takeNews(upstream) {}
        upstream.input.shrinkIfIdle(to: Self.idleBuffer)
      } catch {
        upstreamFailed(upstream, error.sentence)
      }
    }
    if !wasReady, upstream.isReady { watches(upstream) }
    releaseWaiters()
  }

  /// Replies and pushes come on one connection, and the first byte tells them apart.
  private mutating func takeNews(_ upstream: Upstream) throws(ConnectFailure) -> Bool {
    guard let first = upstream.input.bytes.first else { return false }
    guard first == UInt8(ascii: ">") else { return try settleNext(upstream) }
    guard let push = try upstream.nextUnasked() else { return false }
    hear(push, isAll: upstream.token == Token.watchAll)
    upstream.input.consume(upstream.consumeReplies())
    return true
  }

  /// Redis tells of changes from now on. What was kept near before may have been changed by a stranger, and so may
  /// what has been asked for and is on its way.
  private mutating func watches(_ upstream: Upstream) {
    guard upstream.token == Token.watchNamespace else { return }
    log.info(
      "Redis tells of changes made behind Nearside's back", metadata: ["prefix": "\(settings.keyPrefix)"])
    tracking.watchers.complaint = ""
    dropForeign()
  }

  mutating func watcherFailed(_ upstream: Upstream, _ reason: String, wasReady: Bool) {
    if upstream.token == Token.watchAll {
      tracking.watchers.forgetFlushes()
      // Whatever has changed since is not told of any more.
      if wasReady { tracking.table.flush() }
    } else if tracking.watchers.complaint != reason {
      tracking.watchers.complaint = reason
      log.warning(
        "Redis does not tell of changes made behind Nearside's back; near copies follow PostgreSQL's log alone",
        metadata: ["reason": "\(reason)"])
    }
  }

  // MARK: The messages

  private mutating func hear(_ push: UnsafeRawBufferPointer, isAll: Bool) {
    var cursor = ReplyCursor(push)
    guard cursor.enter() == 2, cursor.text() == "invalidate" else { return }
    // One of the two is enough to tell clients.
    let tellsClients = tracking.isActive && (isAll || !tracking.watchers.isWatching)
    guard let count = cursor.enter() else {
      // Before clients are told: whoever reads again then must not find the near copy.
      if !isAll || tracking.watchers.namespace != nil || tellsClients { dropForeign() }
      if tellsClients, !isAll || !tracking.watchers.hearFlush() { tracking.table.flush() }
      return
    }
    for _ in 0..<count {
      // Sidecars write the fleet's state all the time, and no application caches it.
      guard let key = cursor.string(), !StateKeys.isState(key) else { continue }
      // A client that broadcasts is told here of this host's own writes, too, and not again when they are answered. So
      // what it reads next must not come from a reply of before that is still under way.
      if !isAll || tracking.watchers.namespace != nil
        || tellsClients && tracking.table.hasBroadcasts
          && key.starts(with: settings.keyPrefix.utf8)
      {
        evictForeign(key)
      }
      if tellsClients { tracking.table.changed([UInt8](key), now: now.nanoseconds) }
    }
    // A client that broadcasts is told of keys together as Redis puts them together.
    tracking.table.endBroadcast()
  }

  /// Somebody has changed a key in Redis: its near copy leaves, and what was read before and is on its way is not kept.
  private mutating func evictForeign(_ key: UnsafeRawBufferPointer) {
    let hash = near.hash(key)
    localWrites[Int(hash & 4095)] &+= 1
    if near.remove(key, hash: hash) {
      counters.nearEvictedByRedis += 1
      noteForeign(key)
    }
  }

  private mutating func dropForeign() {
    for index in localWrites.indices { localWrites[index] &+= 1 }
    near.removeAll()
    counters.drops += 1
  }
}
