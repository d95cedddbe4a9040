import CLinux
import Invalidation

/// Replies that are longer than `Upstream.longReply`: given to their client as they come, and no faster than it takes
/// them.
extension EventLoop {
  /// Gives the client of the first awaited reply what is here of it.
  mutating func passOn(_ upstream: Upstream) {
    guard let token = upstream.longReplyOwner else { return }
    guard isAlive(token) else {
      upstream.input.consume(upstream.beginning(for: token).count)
      return
    }
    let slot = Int(token.slot)
    // What is owed before it is not there yet, or it is not to be answered at all.
    guard clients[slot].isNext, !clients[slot].session.isQuiet else { return }
    clients[slot].session.takesLongReplies = true
    clients[slot].hasHalfReply = true
    clients[slot].noteLongReply()
    let bytes = upstream.beginning(for: token)
    clients[slot].output.append(bytes)
    upstream.input.consume(bytes.count)
    markDirty(slot)
    pauseFor(slot, upstream)
  }

  /// A connection of the client's own is read no faster than the client takes what came. On a shared one others may
  /// wait too: while they do, it has `Upstream.patienceForOne` for a reply, and is then kept what it does not take.
  private mutating func pauseFor(_ slot: Int, _ upstream: Upstream) {
    guard clients[slot].output.count > Self.outputHighWater, !upstream.readsPaused else { return }
    if !Token.isPin(upstream.token) {
      guard upstream.patience > 0 else { return }
      upstream.pausedAt = now
    }
    upstream.readsPaused = true
    watchUpstream(upstream, added: false)
  }

  /// The client has taken something, or time has passed: what was paused for it may go on.
  mutating func resumeReplies(_ slot: Int) {
    guard clients[slot].output.count <= Self.outputHighWater / 2 else { return }
    let token = clients[slot].token
    for upstream in [resp2, resp3] where upstream.readsPaused && upstream.passingOn == token {
      resume(upstream)
    }
    if let pinned = clients[slot].session.pinned, let upstream = pins.connection(pinned), upstream.readsPaused
    {
      resume(upstream)
    }
  }

  private func resume(_ upstream: Upstream) {
    let waited = upstream.othersWait ? now.since(upstream.pausedAt) : 0
    upstream.patience -= min(upstream.patience, waited)
    upstream.readsPaused = false
    watchUpstream(upstream, added: false)
  }

  /// Ends the patience with a client that does not take its reply.
  mutating func tickLongReplies() {
    for upstream in [resp2, resp3] where upstream.readsPaused {
      let isGone = upstream.passingOn.map { !isAlive($0) } ?? true
      // As long as nobody else waits, there is time.
      if !upstream.othersWait, !isGone { upstream.pausedAt = now }
      if isGone || now.since(upstream.pausedAt) > upstream.patience { resume(upstream) }
    }
  }

  var pausesShared: Bool { resp2.readsPaused || resp3.readsPaused }

  /// Sends the command of a client that has long replies on a connection of its own. Whether it did.
  mutating func relayApart(_ request: Request, _ slot: Int) -> Bool {
    guard clients[slot].session.takesLongReplies, clients[slot].session.isPlain, transacting == nil,
      loading.resumed == nil
    else { return false }
    guard let upstream = pinned(slot) else { return true }
    let awaited = awaited(request, slot)
    clients[slot].owed.append(.awaited)
    request.append(to: &upstream.output)
    upstream.await(awaited)
    pause(slot, .answer)
    return true
  }
}
