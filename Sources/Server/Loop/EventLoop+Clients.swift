import CLinux
import Configuration
import Glibc
import Invalidation
import Logging
import NearCache

/// Connections: accepted, read, written, paused by back-pressure, and dropped.
extension EventLoop {
  /// One of the places where clients are accepted.
  struct Door {
    let descriptor: Int32
    let token: UInt64
    let isTCP: Bool
    var arrivals: Arrivals
  }

  static func doors(of listener: borrowing ListenSocket, now: Instant) -> [Door] {
    var doors = [
      Door(
        descriptor: listener.descriptor, token: Token.listener, isTCP: false,
        arrivals: Arrivals(empty: now, poll: 0))
    ]
    if let loopback = listener.loopback {
      doors.append(
        Door(
          descriptor: loopback.descriptor, token: Token.loopback, isTCP: true,
          arrivals: Arrivals(empty: now, poll: 0)))
    }
    return doors
  }

  mutating func acceptClients(at door: Int) {
    // A connection may have waited, with commands in it, since the listener was last empty.
    let empty = doors[door].arrivals.named(in: poll, last: wholePoll, watched: !listenerRests)
    let isTCP = doors[door].isTCP
    for _ in 0..<64 {
      let descriptor = clinux_accept(doors[door].descriptor)
      guard descriptor >= 0 else {
        if errno == EAGAIN { doors[door].arrivals.drained(now) }
        // Out of descriptors: whoever waits is reported by every poll, so the listener rests until the next
        // tick instead of turning the loop in a circle.
        if errno != EAGAIN, errno != EINTR, errno != ECONNABORTED {
          for door in doors { _ = clinux_epoll_modify(epoll, door.descriptor, 0, door.token) }
          listenerRests = true
          listenerRestsUntil = Instant(nanoseconds: now.nanoseconds + 100_000_000)
        }
        return
      }
      guard let slot = freeSlots.popLast() else {
        counters.clientsRefused += 1
        Self.refuse(descriptor, "ERR max number of clients reached")
        continue
      }
      if !isTCP, let refusal = listener.admission.refusal(of: descriptor) {
        freeSlots.append(slot)
        counters.clientsRefused += 1
        Self.refuse(descriptor, refusal)
        continue
      }
      if isTCP { clinux_no_delay(descriptor) }
      serial &+= 1
      let token = ClientToken(slot: slot, serial: serial)
      let events = UInt32(CLINUX_READABLE)
      (clients + Int(slot)).initialize(
        to: Client(
          descriptor: descriptor, token: token, id: nextID, now: now,
          arrivals: Arrivals(empty: empty, poll: poll, isTCP: isTCP), watched: events,
          isTCP: isTCP, lendAfter: lending.readers.isEmpty ? .max : Lending.leastRow))
      if settings.listen.password != nil { clients[Int(slot)].lock() }
      inUse[Int(slot)] = true
      nextID += 1
      counters.connections += 1
      counters.clients += 1
      if clinux_epoll_add(epoll, descriptor, events, Self.pack(token)) != 0 {
        drop(Int(slot))
      }
    }
  }

  private static func refuse(_ descriptor: Int32, _ text: String) {
    var refusal = IOBuffer(size: 128)
    refusal.error(text)
    _ = refusal.write(to: descriptor)
    close(descriptor)
  }

  static func pack(_ token: ClientToken) -> UInt64 {
    UInt64(token.serial) << 32 | UInt64(UInt32(bitPattern: token.slot))
  }

  mutating func clientEvent(_ slot: Int, _ events: UInt32) {
    let client = clients + slot
    // What blocks for a client that is gone would take what another one waits for.
    if events & UInt32(CLINUX_PEER_SHUT) != 0, isBlocked(slot) { return drop(slot) }
    if events & UInt32(CLINUX_READABLE | CLINUX_HANGUP | CLINUX_ERROR) != 0 {
      let empty = client.pointee.arrivals.named(
        in: poll, last: wholePoll, watched: !client.pointee.readsPaused)
      if client.pointee.input.isEmpty { client.pointee.partialSince = empty }
      var drained = false
      let before = client.pointee.input.count
      switch client.pointee.input.read(
        from: client.pointee.descriptor, limit: 16 * 1024, drained: &drained)
      {
      case .some:
        client.pointee.heardAt = now
        client.pointee.arrivals.took(client.pointee.input.count - before, at: now)
        if drained { client.pointee.arrivals.drained(now) }
        client.pointee.emptyAt = client.pointee.partialSince
        let waiting = client.pointee.input.count
        processInput(slot)
        // What is left now, if anything is, began in the bytes of this read.
        if client.pointee.input.count <= waiting - before { client.pointee.partialSince = empty }
        if client.pointee.input.count > settings.clients.queryBuffer { return dropForQueryBuffer(slot) }
      case .wouldBlock: client.pointee.arrivals.drained(now)
      case .closed where events & UInt32(CLINUX_HANGUP | CLINUX_ERROR) == 0 && !client.pointee.isClosing:
        // It has only finished sending, as `printf … | nc -U` does, and still takes its answers. Over TCP nothing
        // tells that from having gone, which matters to what never ends by itself.
        if client.pointee.isTCP, waitsForOthers(slot) { return drop(slot) }
        client.pointee.hasEnded = true
      case .closed, .failed: return drop(slot)
      }
    }
    let isDue = client.pointee.nearRow >= client.pointee.lendAfter
    flush(slot)
    if isDue, inUse[slot] { considerLending(slot) }
  }

  /// Writes what the client is owed, goes on with its commands as it takes its replies, and watches for what
  /// the kernel did not take yet.
  mutating func flush(_ slot: Int) {
    let client = clients + slot
    if client.pointee.reader != nil {
      if !client.pointee.output.isEmpty { recall(slot) }
      return
    }
    if slow.isOn { tellAnswered(slot) }
    while true {
      if !client.pointee.output.isEmpty {
        if case .failed = client.pointee.output.write(to: client.pointee.descriptor) { return drop(slot) }
      }
      let waiting =
        client.pointee.output.count
        + (client.pointee.session.subscriber == nil ? 0 : client.pointee.owedBytes)
      if waiting > outputConcern, isOverOutputLimit(slot) { return drop(slot) }
      if client.pointee.hasEnded, client.pointee.pause == .none, !client.pointee.isStalled {
        client.pointee.isClosing = true
      }
      if client.pointee.isClosing, client.pointee.output.isEmpty, client.pointee.owed.isEmpty {
        return drop(slot)
      }
      if client.pointee.session.takesLongReplies { resumeReplies(slot) }
      if client.pointee.pause == .answer, client.pointee.owed.isEmpty {
        client.pointee.pause = .none
        processInput(slot)
        continue
      }
      guard client.pointee.isStalled, !mustWait(slot) else { return watch(slot) }
      processInput(slot)
    }
  }

  /// Whether a client's commands wait until it has taken some of its replies, or Redis has given them.
  func mustWait(_ slot: Int) -> Bool {
    let client = clients + slot
    if client.pointee.longRequest != nil, waitsToPassOn(slot) { return true }
    return client.pointee.output.count > Self.outputHighWater || client.pointee.owed.count > Self.mostOwed
      || client.pointee.relayed > client.pointee.mostRelayed
      || client.pointee.owedBytes > Self.mostOwedBytes
  }

  /// Whether what it waits for may never come: messages, or the end of a command that blocks.
  func waitsForOthers(_ slot: Int) -> Bool {
    let session = clients[slot].session
    return session.subscriber != nil || session.pinned.flatMap { pins[$0] }?.isBlocked ?? false
  }

  /// Reads from a client also while its commands wait: it may send all of them before it takes any answer, and would
  /// wait for ever. Only when `mostUnread` lies here of them is it not read from, nor faster than it can be passed on.
  mutating func watch(_ slot: Int) {
    let client = clients + slot
    let pauseReads =
      client.pointee.isClosing || client.pointee.hasEnded
      || (client.pointee.longRequest != nil || client.pointee.input.count > Self.mostUnread)
        && (client.pointee.pause != .none || mustWait(slot))
    if client.pointee.readsPaused, !pauseReads { client.pointee.arrivals.resumed(in: poll) }
    client.pointee.readsPaused = pauseReads
    client.pointee.output.shrinkIfIdle(to: Self.idleBuffer)
    client.pointee.input.shrinkIfIdle(to: Self.idleBuffer)
    var events: UInt32 = 0
    if !pauseReads { events |= UInt32(CLINUX_READABLE) }
    if isBlocked(slot), !client.pointee.isClosing { events |= UInt32(CLINUX_PEER_SHUT) }
    if !client.pointee.output.isEmpty { events |= UInt32(CLINUX_WRITABLE) }
    guard events != client.pointee.watched else { return }
    client.pointee.watched = events
    _ = clinux_epoll_modify(epoll, client.pointee.descriptor, events, Self.pack(client.pointee.token))
  }

  /// Whether a command of the client's may take as long as it likes.
  private func isBlocked(_ slot: Int) -> Bool {
    clients[slot].session.pinned.flatMap { pins[$0] }?.isBlocked ?? false
  }

  mutating func drop(_ slot: Int) {
    guard inUse[slot] else { return }
    if clients[slot].reader == nil { _ = clinux_epoll_remove(epoll, clients[slot].descriptor) }
    dropLent(slot)
    unpin(slot)
    slow.forget(slot)
    held.remove(Int32(slot))
    endTurns(of: clients[slot].token)
    if clients[slot].isTracking { setTracking(nil, slot) }
    (clients + slot).deinitialize(count: 1)
    inUse[slot] = false
    freeSlots.append(Int32(slot))
    counters.clients -= 1
  }

  /// Something was written for a client out of its own turn.
  mutating func markDirty(_ slot: Int) {
    if clients[slot].isDirty { return }
    clients[slot].isDirty = true
    dirty.append(Int32(slot))
  }

  mutating func writeDirty() {
    tellTrackers()
    flushUpstreams()
    while !dirty.isEmpty {
      let slots = dirty
      dirty.removeAll(keepingCapacity: true)
      for slot in slots where inUse[Int(slot)] {
        clients[Int(slot)].isDirty = false
        flush(Int(slot))
      }
      tellTrackers()
      flushUpstreams()
    }
  }
}
