import CLinux
import Configuration
import DequeModule
import Glibc
import Invalidation
import Logging
import NearCache
import Policies

/// The connections to Redis: made, fed, read, and given up.
extension EventLoop {
  mutating func connectUpstreams() {
    guard embedded == nil, !isStopping else { return }
    connectIfDue(resp2)
    connectIfDue(resp3)
  }

  /// Asked at each turn, so settings are copied only where there is something to do.
  func connectIfDue(_ upstream: Upstream) {
    guard case .down(let reason, let retryAt) = upstream.phase, now >= retryAt, let redis = settings.redis
    else { return }
    connect(upstream, redis, reason)
  }

  /// `reason`: what clients are told if not even an attempt can be made.
  func connect(_ upstream: Upstream, _ redis: RedisSettings, _ reason: String) {
    let started = UpstreamConnector.start(redis, token: upstream.token, mailbox: mailbox)
    upstream.phase =
      started
      ? .connecting : .down(reason: reason, retryAt: Instant(nanoseconds: now.nanoseconds + 1_000_000_000))
  }

  /// The connection that epoll and the mailbox name so; nil: a client's own that is no longer wanted.
  func upstream(_ token: UInt64) -> Upstream? {
    switch token {
    case Token.resp2: resp2
    case Token.resp3: resp3
    case Token.watchAll, Token.watchNamespace: tracking.watchers.connection(token)
    default: pins.connection(token)
    }
  }

  mutating func upstreamConnected(_ token: UInt64, _ result: Result<UpstreamSocket, ConnectFailure>) {
    guard let redis = settings.redis, let upstream = upstream(token) else {
      if case .success(let socket) = result { close(socket.descriptor) }
      return
    }
    // An earlier connection of this name was given up while it was being made.
    guard upstream.phase == .connecting else {
      if case .success(let socket) = result { close(socket.descriptor) }
      return
    }
    switch result {
    case .failure(let failure): upstreamFailed(upstream, failure.sentence)
    case .success(let socket):
      // The silence that is borne begins with the greeting.
      upstream.heardAt = now
      upstream.greet(socket, settings: redis, database: pins.database(of: token))
      beginWatching(upstream)
      if Token.isPin(token) { pins.touched.append(token) }
      watchUpstream(upstream, added: true)
    }
  }

  /// Gives a connection up on which something is awaited and nothing has come for as long as one command may
  /// take: a server behind a broken network never says that it is gone.
  mutating func giveUpSilentUpstreams() {
    guard embedded == nil else { return }
    giveUpIfSilent(resp2)
    giveUpIfSilent(resp3)
  }

  /// Whether it was.
  @discardableResult
  mutating func giveUpIfSilent(_ upstream: Upstream) -> Bool {
    guard upstream.isSilent(redisTimeout, now: now) else { return false }
    upstreamFailed(upstream, "no answer within \(redisTimeout / 1_000_000) ms")
    return true
  }

  mutating func flushUpstreams() {
    flushPins()
    flush(resp2)
    flush(resp3)
    flushWatchers()
  }

  /// Writes what waits.
  mutating func flush(_ upstream: Upstream) {
    upstream.sendFills()
    guard upstream.descriptor >= 0, !upstream.output.isEmpty || upstream.wantsWrite else { return }
    let before = upstream.output.count
    if case .failed(let code) = upstream.output.write(to: upstream.descriptor) {
      return upstreamFailed(upstream, String(cString: strerror(code)))
    }
    // A long command is awaited only behind its end.
    if upstream.awaited.isEmpty, upstream.output.count < before { upstream.heardAt = now }
    upstream.output.shrinkIfIdle(to: EventLoop.idleBuffer)
    let wantsWrite = !upstream.output.isEmpty
    guard wantsWrite != upstream.wantsWrite else { return }
    upstream.wantsWrite = wantsWrite
    watchUpstream(upstream, added: false)
  }

  mutating func upstreamEvent(_ events: UInt32, _ upstream: Upstream) {
    guard upstream.descriptor >= 0 else { return }
    if events & ~UInt32(CLINUX_WRITABLE) != 0, receive(upstream) {
      tally.observesRedis = true
      defer { tally.observesRedis = false }
      do throws(ConnectFailure) {
        while try settleNext(upstream) {}
        passOn(upstream)
        upstream.input.shrinkIfIdle(to: Self.idleBuffer)
      } catch {
        upstreamFailed(upstream, error.sentence)
      }
    }
    releaseWaiters()
  }

  /// Reads what came; false: the connection has failed.
  mutating func receive(_ upstream: Upstream) -> Bool {
    var drained = false
    switch upstream.input.read(from: upstream.descriptor, limit: 64 * 1024, drained: &drained) {
    case .some: upstream.heardAt = now
    case .wouldBlock: break
    case .closed:
      // A port with TLS does not say what it misses.
      let isTooEarly = upstream.phase == .greeting && settings.redis?.isPlainNetwork == true
      upstreamFailed(
        upstream,
        "Redis closed the connection"
          + (isTooEarly ? " at its beginning; a port with TLS is written rediss://" : ""))
      return false
    case .failed(let code):
      upstreamFailed(upstream, String(cString: strerror(code)))
      return false
    }
    return true
  }

  /// Settles the first awaited request if its replies are all there.
  mutating func settleNext(_ upstream: Upstream) throws(ConnectFailure) -> Bool {
    // What is settled may send more, which goes to the output; the input stays as it is until `consume`.
    guard let replies = try upstream.nextReplies(), let awaited = upstream.awaited.popFirst() else {
      return false
    }
    if let (command, sent) = upstream.takeTime() { tally.answered(command, after: now.since(sent)) }
    try settle(awaited, replies, upstream)
    // A failure in between has emptied the connection's buffers already.
    upstream.input.consume(upstream.consumeReplies())
    return true
  }

  mutating func settle(
    _ awaited: Upstream.Awaited, _ replies: UnsafeRawBufferPointer, _ upstream: Upstream
  ) throws(ConnectFailure) {
    switch awaited {
    case .relay(let token):
      if isAlive(token) {
        let slot = Int(token.slot)
        clients[slot].noteReply(replies.count)
        clients[slot].settle { $0.append(replies) }
        markDirty(slot)
      }
    case .task(let task): try finish(task, replies, upstream)
    }
  }

  private mutating func finish(
    _ task: UpstreamTask, _ replies: UnsafeRawBufferPointer, _ upstream: Upstream
  ) throws(ConnectFailure) {
    let slot = task.client.flatMap { isAlive($0) ? Int($0.slot) : nil }
    if tracking.isActive { noteGovernedWrite(task.work, replies, task.client) }
    if let slot { clients[slot].noteReply(replies.count) }
    switch task.work {
    case .read(let read): finish(read, replies, client: slot)
    case .probe: finishProbe(replies)
    case .fill(let fill): finish(fill, replies, client: slot)
    case .fills(let fills): finish(fills, replies)
    case .loadedFill(let fill): finish(fill, replies)
    case .writtenRemoval(let write): finishRemoval(write, replies)
    case .writtenFill(let fill): finish(fill, replies)
    case .behind(let write): finishBehind(write, replies)
    case .backlog: finishBacklog(replies)
    case .tailSession: finishSession(replies)
    case .loadLock(let load): finishLock(load, replies)
    case .loadUnlock: break
    case .fillMany(let fills): finishMany(fills, replies, client: slot)
    case .remove(let removal): finish(removal, absent: nil, replies, client: slot)
    case .expire(let removal, let absent): finish(removal, absent: absent, replies, client: slot)
    case .invalidate(let group): finish(group: group, replies, client: slot)
    case .errand(let errand): finish(errand, replies)
    case .askForGeneration: finishAsk(replies)
    case .flush(let watch): finishFlush(replies, watch, slot)
    case .names: finishNames(replies, slot)
    case .guarded(let command): finish(command, replies, slot)
    case .info: finishInfo(replies, slot)
    case .why(let key): finishWhy(key, replies, slot)
    case .note: break
    case .relayOr: settle(slot) { output, _ in output.append(replies) }
    case .ownWrite(let write): finishOwnWrite(write, replies, slot)
    case .select(let database): finishSelect(database, replies, slot, upstream)
    case .transaction(let sent): try finish(sent, replies, upstream, slot)
    case .greeting: try greeted(replies, upstream)
    case .loadedScript(let script): try loaded(script, replies, upstream)
    }
  }

  // MARK: The greeting

  private mutating func greeted(
    _ reply: UnsafeRawBufferPointer, _ upstream: Upstream
  ) throws(ConnectFailure) {
    var cursor = ReplyCursor(reply)
    if cursor.isError { throw Self.refusal(reply, "Redis refused the connection") }
    if let count = cursor.enter() {
      for _ in 0..<count / 2 {
        let name = cursor.text()
        if name == "version", let version = cursor.text() {
          redisVersion = version
        } else if name == "id", let number = cursor.integer() {
          upstream.number = number
        } else if name != "version", name != "id" {
          _ = cursor.raw()
        }
      }
    }
    if !upstream.loads, upstream.awaited.isEmpty { upstream.succeeded() }
  }

  private mutating func loaded(
    _ script: GuardScript, _ reply: UnsafeRawBufferPointer, _ upstream: Upstream
  ) throws(ConnectFailure) {
    var cursor = ReplyCursor(reply)
    guard let digest = cursor.string() else {
      throw Self.refusal(reply, "Redis did not take Nearside's scripts")
    }
    upstream.digests[script] = [UInt8](digest)
    if upstream.digests.count == GuardScript.allCases.count { upstream.succeeded() }
  }

  /// An error reply to what is said at the beginning of a connection.
  private static func refusal(_ reply: UnsafeRawBufferPointer, _ what: String) -> ConnectFailure {
    let text = String(decoding: reply.dropFirst().prefix { $0 != UInt8(ascii: "\r") }, as: UTF8.self)
    let sentence =
      switch text.prefix(while: { $0 != " " }) {
      case "NOAUTH": "Redis asks for a password; give one in REDIS_URL or as redis.password"
      case "WRONGPASS": "Redis does not accept the configured user name and password"
      // A script runs for seconds; clients are told in the same words.
      case "BUSY": text
      case "NOPERM": "\(what): \(text); nearside check lists the permissions that its user lacks"
      default: "\(what): \(text)"
      }
    return ConnectFailure(sentence: sentence)
  }

  // MARK: Failure

  mutating func upstreamFailed(_ upstream: Upstream, _ reason: String) {
    let wasReady = upstream.isReady
    let reason = upstream.lastWord ?? reason
    if let client = upstream.passingOn, isAlive(client) {
      // It has half a reply, behind which nothing else can be said.
      drop(Int(client.slot))
    }
    let orphans = upstream.fail(reason, now: now)
    tally.upstreamErrors += 1
    log.debug(
      "upstream connection lost", metadata: ["resp": "\(upstream.resp3 ? 3 : 2)", "reason": "\(reason)"])
    for awaited in orphans { abandon(awaited, reason) }
    if Token.isPin(upstream.token) {
      pinFailed(upstream, reason)
    } else if Token.isWatcher(upstream.token) {
      watcherFailed(upstream, reason, wasReady: wasReady)
    } else if wasReady {
      // Not again for each attempt to connect that fails.
      loading.pace.begin()
    }
  }

  private mutating func abandon(_ awaited: Upstream.Awaited, _ reason: String) {
    let token: ClientToken?
    switch awaited {
    case .relay(let client): token = client
    case .task(let task):
      abandon(task.work)
      token = task.client
      if case .fills(let fills) = task.work {
        for entry in fills where isAlive(entry.client) {
          settle(Int(entry.client.slot)) { output, _ in output.error(Self.unreachable(reason)) }
        }
      }
      guard let token, isAlive(token) else { return }
      let slot = Int(token.slot)
      switch task.work {
      case .relayOr(let fallback): return settle(slot) { output, _ in output.append(fallback) }
      case .info: return answerInfoAlone(slot, settling: true)
      case .why(let key): return finishWhy(key, nil, slot)
      case .read(let read):
        if loadsWithoutRedis(read, slot, isOwed: true) { return }
        return settle(slot, read.hold) { output, _ in output.error(Self.unreachable(reason)) }
      case .transaction(let sent):
        return fail(sent, slot) { output, _ in output.error(Self.unreachable(reason)) }
      default: break
      }
    }
    guard let token, isAlive(token) else { return }
    settle(Int(token.slot)) { output, _ in output.error(Self.unreachable(reason)) }
  }

  static func unreachable(_ reason: String) -> String {
    if reason.hasPrefix("BUSY ") { return reason }
    return "ERR Nearside: upstream Redis is unreachable (\(reason))"
  }
}
