import CLinux
import Configuration
import Glibc
import Invalidation
import Logging
import NearCache

/// What time brings, and the clients that wait for something.
extension EventLoop {
  mutating func tick() {
    let redisTried = resp2.hasBeenTried && resp3.hasBeenTried
    if listenerRests, now >= listenerRestsUntil || (isOpening && redisTried) {
      isOpening = false
      listenerRests = false
      for index in doors.indices {
        doors[index].arrivals.resumed(in: poll)
        _ = clinux_epoll_modify(epoll, doors[index].descriptor, UInt32(CLINUX_READABLE), doors[index].token)
      }
    }
    publishEvidence()
    connectUpstreams()
    tickTracking()
    giveUpSilentUpstreams()
    if now.since(lastTouch) >= 1_000_000_000 {
      lastTouch = now
      ledgerStore.touch(now: now)
      tickPins()
      tickLimits()
      collectCounts()
    }
    clientPause.tick(now)
    tickLongReplies()
    tickWrites()
    releaseWaiters()
    tickHolds()
    runErrands()
    askForGeneration()
  }

  /// Misses were dated by the poll in which they were answered. If the answers went out much later, since the
  /// process was stopped for example, they are dated again.
  mutating func dateMisses() {
    if !misses.isEmpty, clock().since(now) > 10_000_000 {
      let late = clock()
      for miss in misses { ledger.missed(miss.key, lease: miss.lease, at: late) }
    }
    misses.removeAll(keepingCapacity: misses.capacity <= 4096)
  }

  /// A follower that saw the state go back trusts nothing until a new generation, and nobody else may have
  /// seen it: so it asks for one, once a second. The same where announcements could not be kept.
  mutating func askForGeneration() {
    if errands.forgetsAll, let generation = currentGeneration { errands.follows(generation) }
    var wants = errands.forgetsAll
    if case .poisoned = follower.standing { wants = true }
    guard wants, resp2.isReady, now.since(lastAsk) >= 1_000_000_000 else { return }
    lastAsk = now
    sendAsk()
    errands.asked()
  }

  /// Holds a client until something has happened; `releaseWaiters` answers it.
  mutating func pause(_ slot: Int, _ pause: Client.Pause) {
    clients[slot].pause = pause
    // Its replies end it, when they are written: whoever blocks for long is not looked at again and again.
    if pause == .answer { return }
    // Nor are all clients that CLIENT PAUSE holds, until it is over.
    if pause == .clientPause { held.insert(Int32(slot)) } else { waiting.append(Int32(slot)) }
  }

  /// Answers the clients whose wait is over, and goes on with those that waited for their own replies.
  mutating func releaseWaiters() {
    // Before whoever has waited for a change goes on, and before commands are answered that come behind a write.
    tellTrackers()
    if !held.isEmpty, !clientPause.isOn {
      waiting += held.sorted()
      held.removeAll()
    }
    guard !waiting.isEmpty else { return }
    let slots = waiting
    waiting.removeAll(keepingCapacity: true)
    for slot in slots.map(Int.init) where inUse[slot] && clients[slot].pause != .none {
      guard isOver(clients[slot].pause, slot) else {
        pause(slot, clients[slot].pause)
        continue
      }
      clients[slot].pause = .none
      processInput(slot)
      if clients[slot].pause == .none { clients[slot].heldUntil = nil }
      markDirty(slot)
    }
  }

  func isOver(_ pause: Client.Pause, _ slot: Int) -> Bool {
    switch pause {
    case .none: return true
    case .drain, .answer: return clients[slot].owed.isEmpty
    case .connection: return hasPinned(slot)
    case .watcher: return !tracking.watchers.isOpening
    case .clientPause: return !clientPause.isOn
    case .subscription: return clients[slot].session.subscriptions.awaited == 0
    case .position(let position, let deadline):
      let reached = hasApplied(position)
      guard reached || now >= deadline else { return false }
      clients[slot].reply { $0.integer(reached ? 1 : 0) }
      return true
    case .fence(let fence, let deadline):
      return now >= deadline || (embedded?.lease?.stamp ?? fence) >= fence
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
}
