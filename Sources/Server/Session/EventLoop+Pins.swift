import CLinux
import Configuration
import DequeModule
import Glibc
import Invalidation

/// Connections of a client's own: made, used, given back.
extension EventLoop {
  /// The client's own connection for commands, or for messages; nil: it is being made and the command waits for it,
  /// or it cannot be had and the client has been told.
  ///
  /// Whatever was sent on a shared connection must have been answered, so that order is kept between the two.
  /// `tells`: whether the client is to be told why it cannot be had; otherwise it is not paused then.
  mutating func pinned(_ slot: Int, forMessages: Bool = false, tells: Bool = true) -> Upstream? {
    if !clients[slot].owed.isEmpty {
      pause(slot, .drain)
      return nil
    }
    if let trouble = clients[slot].session.trouble {
      clients[slot].session.trouble = nil
      if tells { reply(slot) { $0.error(Self.unreachable(trouble)) } }
      return nil
    }
    let session = clients[slot].session
    if let token = forMessages ? session.subscriber : session.pinned, let pin = pins[token] {
      guard pin.upstream.isReady else {
        pause(slot, .connection)
        return nil
      }
      pins.touched.append(token)
      return pin.upstream
    }
    guard let redis = settings.redis else { return nil }
    let owner = clients[slot].token
    let resp3 = clients[slot].resp3
    defer { makeSpares(redis, resp3: resp3) }
    if session.database == nil || forMessages,
      let upstream = pins.takeIdle(resp3: resp3, owner: owner, takesMessages: forMessages)
    {
      keep(upstream.token, slot, forMessages: forMessages)
      pins.touched.append(upstream.token)
      return upstream
    }
    let upstream = pins.add(resp3: resp3, owner: owner, takesMessages: forMessages, now: now)
    if !forMessages { pins[upstream.token]?.database = session.database }
    connect(upstream, redis, "no thread can be made to connect")
    if case .down(let reason, _) = upstream.phase {
      pins.remove(upstream.token)
      if tells { reply(slot) { $0.error(Self.unreachable(reason)) } }
      return nil
    }
    keep(upstream.token, slot, forMessages: forMessages)
    pause(slot, .connection)
    return nil
  }

  private mutating func makeSpares(_ redis: RedisSettings, resp3: Bool) {
    while pins.needsSpare(resp3: resp3) {
      let upstream = pins.add(resp3: resp3, owner: nil, takesMessages: false, now: now)
      connect(upstream, redis, "no thread can be made to connect")
      if case .down = upstream.phase { return pins.remove(upstream.token) }
    }
  }

  private mutating func keep(_ token: UInt64, _ slot: Int, forMessages: Bool) {
    if forMessages {
      clients[slot].session.subscriber = token
    } else {
      clients[slot].session.pinned = token
    }
  }

  /// Whether a client that waits for a connection of its own need not wait any longer.
  func hasPinned(_ slot: Int) -> Bool {
    let session = clients[slot].session
    if session.trouble != nil { return true }
    return [session.pinned, session.subscriber].allSatisfy { token in
      token.flatMap { pins[$0] }?.upstream.isReady ?? true
    }
  }

  mutating func pinEvent(_ events: UInt32, _ token: UInt64) {
    guard let pin = pins[token] else { return }
    pins.touched.append(token)
    if pin.takesMessages, pin.upstream.isReady {
      messageEvent(events, pin)
    } else {
      upstreamEvent(events, pin.upstream)
    }
    giveBackIfFree(token)
  }

  /// Keeps a connection that carries nothing any more for the next client.
  mutating func giveBackIfFree(_ token: UInt64) {
    guard let pin = pins[token], pin.upstream.isReady, pin.upstream.awaited.isEmpty,
      pin.upstream.output.isEmpty
    else { return }
    guard let owner = pin.owner else { return pins.addIdle(token, now: now) }
    pins[token]?.isBlocked = false
    guard isAlive(owner) else { return }
    let slot = Int(owner.slot)
    if pin.takesMessages {
      guard clients[slot].session.subscriptions.isEmpty else { return }
      clients[slot].session.subscriber = nil
    } else {
      guard !clients[slot].session.needsPinned, pin.database == nil else { return }
      clients[slot].session.pinned = nil
    }
    pins.giveBack(token, now: now)
  }

  /// A connection has failed, and what was awaited on it has been answered.
  mutating func pinFailed(_ upstream: Upstream, _ reason: String) {
    guard let pin = pins[upstream.token] else { return }
    pins.remove(upstream.token)
    guard let owner = pin.owner, isAlive(owner) else { return }
    let slot = Int(owner.slot)
    if pin.takesMessages {
      clients[slot].session.subscriber = nil
      if clients[slot].session.subscriptions.isEmpty {
        if clients[slot].pause == .connection { clients[slot].session.trouble = reason }
      } else {
        // Messages may have been missed, and only a client that connects anew knows that: so it is with Redis.
        clients[slot].isClosing = true
        clients[slot].pause = .none
        markDirty(slot)
      }
      clients[slot].session.subscriptions = Subscriptions()
    } else {
      clients[slot].session.pinned = nil
      // A SELECT that was not answered has not happened.
      clients[slot].session.database = pin.database
      if pin.database == nil, clients[slot].session.isWatchingElsewhere {
        clients[slot].session.isWatching = true
        endElsewhere(slot)
      }
      if clients[slot].session.isWatching { clients[slot].session.hasLostWatch = true }
      if clients[slot].session.isQueueingElsewhere || clients[slot].session.isWatchingElsewhere {
        clients[slot].session.isBrokenElsewhere = true
      }
      if clients[slot].pause == .connection { clients[slot].session.trouble = reason }
      // The rest of a long command is still taken, to no avail.
      if clients[slot].longRequest != nil { markDirty(slot) }
    }
  }

  /// Closes the connections of a client that has gone, or that begins anew.
  mutating func unpin(_ slot: Int) {
    for token in [clients[slot].session.pinned, clients[slot].session.subscriber] {
      if let token { closePin(token) }
    }
    let session = clients[slot].session
    clients[slot].session = Session(
      isLocked: session.isLocked, isQuiet: session.isQuiet, takesLongReplies: session.takesLongReplies)
  }

  mutating func closePin(_ token: UInt64) {
    guard let pin = pins[token] else { return }
    pins.remove(token)
    for awaited in pin.upstream.fail("closed", now: now) {
      // Nobody is there to be answered, but what it may have written must not stay near.
      if case .task(let task) = awaited { abandon(task.work) }
    }
  }

  mutating func flushPins() {
    // In the order in which clients sent: what blocks first is served first.
    while !pins.touched.isEmpty {
      let touched = pins.touched
      pins.touched.removeAll(keepingCapacity: true)
      for token in touched {
        guard let pin = pins[token] else { continue }
        flush(pin.upstream)
        // Redis has taken what its client's long command waited for.
        if let owner = pin.owner, isAlive(owner), clients[Int(owner.slot)].longRequest != nil {
          dirty.append(owner.slot)
        }
      }
    }
  }

  /// Closes what nobody uses, and gives up what does not answer. Once a second.
  mutating func tickPins() {
    guard !pins.all.isEmpty, let redis = settings.redis else { return }
    for token in pins.superfluous(now) { closePin(token) }
    for pin in pins.all.values
    where !pin.isBlocked && !(pin.takesMessages && pin.upstream.isReady)
      && pin.upstream.isSilent(redis.timeout, now: now)
    {
      upstreamFailed(pin.upstream, "no answer within \(redis.timeout / 1_000_000) ms")
    }
  }
}
