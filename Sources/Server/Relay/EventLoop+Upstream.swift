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
    guard let redis = settings.redis, !isStopping else { return }
    for isResp3 in [false, true] {
      let phase = isResp3 ? resp3.phase : resp2.phase
      guard case .down(let reason, let retryAt) = phase, now >= retryAt else { continue }
      let started = UpstreamConnector.start(
        redis.endpoint, resp3: isResp3, timeout: redis.timeout, mailbox: mailbox)
      let next: Upstream.Phase =
        started
        ? .connecting : .down(reason: reason, retryAt: Instant(nanoseconds: now.nanoseconds + 1_000_000_000))
      if isResp3 { resp3.phase = next } else { resp2.phase = next }
    }
  }

  mutating func upstreamConnected(_ isResp3: Bool, _ result: Result<Int32, ConnectFailure>) {
    guard let redis = settings.redis else { return }
    switch result {
    case .failure(let failure): upstreamFailed(isResp3, failure.sentence)
    case .success(let descriptor):
      if isResp3 {
        resp3.greet(descriptor, settings: redis)
      } else {
        resp2.greet(descriptor, settings: redis)
      }
      watchUpstream(descriptor, resp3: isResp3, wantsWrite: false, added: true)
    }
  }

  /// Gives a connection up on which something is awaited and nothing has come for as long as one command may
  /// take: a server behind a broken network never says that it is gone.
  mutating func giveUpSilentUpstreams() {
    guard let redis = settings.redis else { return }
    for isResp3 in [false, true] {
      let isSilent =
        isResp3 ? resp3.isSilent(redis.timeout, now: now) : resp2.isSilent(redis.timeout, now: now)
      if isSilent { upstreamFailed(isResp3, "no answer within \(redis.timeout / 1_000_000) ms") }
    }
  }

  mutating func flushUpstreams() {
    for isResp3 in [false, true] {
      switch isResp3 ? Self.flush(&resp3) : Self.flush(&resp2) {
      case .unchanged: break
      case .watch(let descriptor, let wantsWrite):
        watchUpstream(descriptor, resp3: isResp3, wantsWrite: wantsWrite, added: false)
      case .failed(let reason): upstreamFailed(isResp3, reason)
      }
    }
  }

  private enum Flushed {
    case unchanged
    case watch(Int32, wantsWrite: Bool)
    case failed(String)
  }

  /// Writes what waits.
  private static func flush(_ upstream: inout Upstream) -> Flushed {
    guard upstream.descriptor >= 0, !upstream.output.isEmpty || upstream.wantsWrite else { return .unchanged }
    defer { upstream.output.shrinkIfIdle(to: EventLoop.idleBuffer) }
    if case .failed(let code) = upstream.output.write(to: upstream.descriptor) {
      return .failed(String(cString: strerror(code)))
    }
    let wantsWrite = !upstream.output.isEmpty
    guard wantsWrite != upstream.wantsWrite else { return .unchanged }
    upstream.wantsWrite = wantsWrite
    return .watch(upstream.descriptor, wantsWrite: wantsWrite)
  }

  mutating func upstreamEvent(_ events: UInt32, resp3 isResp3: Bool) {
    guard isResp3 ? resp3.descriptor >= 0 : resp2.descriptor >= 0 else { return }
    if events & ~UInt32(CLINUX_WRITABLE) != 0 {
      var drained = false
      let transfer =
        isResp3
        ? resp3.input.read(from: resp3.descriptor, limit: 64 * 1024, drained: &drained)
        : resp2.input.read(from: resp2.descriptor, limit: 64 * 1024, drained: &drained)
      switch transfer {
      case .some: if isResp3 { resp3.heardAt = now } else { resp2.heardAt = now }
      case .wouldBlock: break
      case .closed: return upstreamFailed(isResp3, "Redis closed the connection")
      case .failed(let code): return upstreamFailed(isResp3, String(cString: strerror(code)))
      }
      do throws(ConnectFailure) {
        while try settleNext(isResp3) {}
        if isResp3 {
          resp3.input.shrinkIfIdle(to: Self.idleBuffer)
        } else {
          resp2.input.shrinkIfIdle(to: Self.idleBuffer)
        }
      } catch {
        upstreamFailed(isResp3, error.sentence)
      }
    }
    releaseWaiters()
  }

  /// Settles the first awaited request if its replies are all there.
  private mutating func settleNext(_ isResp3: Bool) throws(ConnectFailure) -> Bool {
    // What is settled may send more, which goes to the output; the input stays as it is until `consume`.
    guard let replies = try isResp3 ? resp3.nextReplies() : resp2.nextReplies() else { return false }
    guard let awaited = isResp3 ? resp3.awaited.popFirst() : resp2.awaited.popFirst() else { return false }
    switch awaited {
    case .relay(let token):
      if isAlive(token) {
        let slot = Int(token.slot)
        clients[slot].settle { $0.append(replies) }
        markDirty(slot)
      }
    case .task(let task): try finish(task, replies, isResp3)
    }
    // A failure in between has emptied the connection's buffers already.
    if isResp3 {
      resp3.input.consume(resp3.consumeReplies())
    } else {
      resp2.input.consume(resp2.consumeReplies())
    }
    return true
  }

  private mutating func finish(
    _ task: UpstreamTask, _ replies: UnsafeRawBufferPointer, _ isResp3: Bool
  ) throws(ConnectFailure) {
    let slot = task.client.flatMap { isAlive($0) ? Int($0.slot) : nil }
    switch task.work {
    case .read(let read): finish(read, replies, client: slot)
    case .probe: finishProbe(replies)
    case .fill(let fill): finish(fill, replies, client: slot)
    case .loadedFill(let fill): finish(fill, replies)
    case .writtenRemoval(let write): finishRemoval(write, replies)
    case .writtenFill(let fill): finish(fill, replies)
    case .tailSession: finishSession(replies)
    case .loadLock(let load): finishLock(load, replies)
    case .loadUnlock: break
    case .fillMany(let fills): finishMany(fills, replies, client: slot)
    case .remove(let removal): finish(removal, absent: nil, replies, client: slot)
    case .expire(let removal, let absent): finish(removal, absent: absent, replies, client: slot)
    case .invalidate(let group): finish(group: group, replies, client: slot)
    case .errand(let errand): finish(errand, replies)
    case .askForGeneration: finishAsk(replies)
    case .info: finishInfo(replies, slot)
    case .why(let key): finishWhy(key, replies, slot)
    case .note: break
    case .relayOr: settle(slot) { output, _ in output.append(replies) }
    case .greeting: try greeted(replies, isResp3)
    case .loadedScript(let script): try loaded(script, replies, isResp3)
    }
  }

  // MARK: The greeting

  private mutating func greeted(_ reply: UnsafeRawBufferPointer, _ isResp3: Bool) throws(ConnectFailure) {
    var cursor = ReplyCursor(reply)
    if cursor.isError {
      let text = String(decoding: reply.dropFirst().prefix { $0 != UInt8(ascii: "\r") }, as: UTF8.self)
      throw ConnectFailure(sentence: "Redis refused the connection: \(text)")
    }
    guard let count = cursor.enter() else { return }
    for _ in 0..<count / 2 {
      let name = cursor.text()
      if name == "version", let version = cursor.text() {
        redisVersion = version
      } else if name != "version" {
        _ = cursor.raw()
      }
    }
  }

  private mutating func loaded(
    _ script: GuardScript, _ reply: UnsafeRawBufferPointer, _ isResp3: Bool
  ) throws(ConnectFailure) {
    var cursor = ReplyCursor(reply)
    guard let digest = cursor.string() else {
      let text = String(decoding: reply.dropFirst().prefix { $0 != UInt8(ascii: "\r") }, as: UTF8.self)
      throw ConnectFailure(sentence: "Redis did not take Nearside's scripts: \(text)")
    }
    if isResp3 {
      resp3.digests[script] = [UInt8](digest)
      if resp3.digests.count == GuardScript.allCases.count { resp3.succeeded() }
    } else {
      resp2.digests[script] = [UInt8](digest)
      if resp2.digests.count == GuardScript.allCases.count { resp2.succeeded() }
    }
  }

  // MARK: Failure

  private mutating func upstreamFailed(_ isResp3: Bool, _ reason: String) {
    loading.pace.begin()
    let orphans = isResp3 ? resp3.fail(reason, now: now) : resp2.fail(reason, now: now)
    log.debug("upstream connection lost", metadata: ["resp": "\(isResp3 ? 3 : 2)", "reason": "\(reason)"])
    for awaited in orphans {
      if case .task(let task) = awaited { abandon(task.work) }
      let token: ClientToken? =
        switch awaited {
        case .relay(let token): token
        case .task(let task): task.client
        }
      guard let token, isAlive(token) else { continue }
      if case .task(let task) = awaited, case .relayOr(let fallback) = task.work {
        settle(Int(token.slot)) { output, _ in output.append(fallback) }
        continue
      }
      if case .task(let task) = awaited, case .info = task.work {
        answerInfoAlone(Int(token.slot), settling: true)
        continue
      }
      if case .task(let task) = awaited, case .why(let key) = task.work {
        finishWhy(key, nil, Int(token.slot))
        continue
      }
      var hold: GovernedRead.Hold?
      if case .task(let task) = awaited, case .read(let read) = task.work {
        if loadsWithoutRedis(read, Int(token.slot), isOwed: true) { continue }
        hold = read.hold
      }
      settle(Int(token.slot), hold) { output, _ in
        output.error("ERR Nearside: upstream Redis is unreachable (\(reason))")
      }
    }
  }
}
