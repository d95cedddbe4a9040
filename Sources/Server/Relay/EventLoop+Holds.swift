import Configuration
import Invalidation
import NearCache

/// Keeping a hot key fillable.
///
/// A commit is applied, and its fences are up, about a millisecond before a snapshot shows that it is visible.
/// A miss answered in between would carry a stamp below the fence: no fill of it would be accepted, and as
/// the oldest miss of its key it would keep plain SETs out for a whole window. So such an answer is held back
/// until V has passed the fence, at most `leaseWait`, and the read is then done again: it gets the later
/// stamp, or the value that somebody has stored meanwhile.
///
/// While anything is held, the state alone is asked for about once a millisecond, on behalf of all.
struct Holds {
  /// The time between two questions for the state.
  static let probeInterval: UInt64 = 1_000_000

  struct Entry {
    var read: GovernedRead
    /// What Redis has answered, given to the client if V does not move in time.
    var replies: [UInt8]
    var client: ClientToken
    var hold: GovernedRead.Hold
    /// Of the state that the read was judged by.
    var generation: Generation
    /// The highest fence of the keys that were missed.
    var fence: Stamp
  }

  var entries: [Entry] = []
  var isProbing = false
  var lastProbe = Instant(nanoseconds: 0)

  var isEmpty: Bool { entries.isEmpty }
}

extension EventLoop {
  /// The highest fence of the keys that the read missed, if it lies above the stamp that a lease would carry
  /// and may still be waited for; nil: the read is answered now.
  func fenceToAwait(
    _ read: GovernedRead, _ state: FleetState?, _ fences: [Stamp], _ values: ReplyCursor,
    _ judgements: [Judgement]
  ) -> Stamp? {
    guard !read.isFinal, let stamp = state?.stamp, fences.count == read.keys.count,
      fences.contains(where: { $0 > stamp })
    else { return nil }
    if let hold = read.hold, clock() >= hold.deadline { return nil }
    let missed = misses(read, values, judgements).map { $0?.lease != nil }
    let highest = zip(missed, fences).filter(\.0).map(\.1).max()
    return highest.flatMap { $0 > stamp ? $0 : nil }
  }

  /// An answer that says "absent", and the right to fill that it gives.
  struct Miss {
    var lease: Lease?
  }

  /// For each key of a read its miss, if it is one.
  /// - Parameter countsPending: whether a key of which a write is pending can be missed too.
  func misses(
    _ read: GovernedRead, _ values: ReplyCursor, _ judgements: [Judgement], countsPending: Bool = false
  ) -> [Miss?] {
    var cursor = values
    func misses(_ key: Int, _ isNull: Bool) -> Miss? {
      guard isNull || !judgements[key].counts else { return nil }
      if case .pending = judgements[key], !countsPending { return nil }
      return Miss(lease: judgements[key].lease(isNull: isNull))
    }
    var missed = [Miss?](repeating: nil, count: read.keys.count)
    switch read.shape {
    case .get, .lease:
      if !cursor.isError || !judgements[0].counts && cursor.isWrongType {
        missed[0] = misses(0, cursor.isNull)
      }
    case .mget(let elements):
      guard cursor.enter() != nil else { break }
      for case .asked(let governed) in elements {
        if let governed { missed[governed] = misses(governed, cursor.isNull) }
        _ = cursor.raw()
      }
    case .exists(_, let governed):
      var key = 0
      for isGoverned in governed {
        let number = cursor.integer()
        guard isGoverned else { continue }
        let isAbsent = number == -2
        missed[key] = misses(key, isAbsent)
        key += 1
      }
    case .other(let absent, _, _):
      guard !cursor.isError || cursor.isWrongType && !judgements.allSatisfy(\.counts),
        read.asksExistence || !countsPending
      else { break }
      var isAbsent = !cursor.isError && cursor.saysAbsent(absent, of: read.keys.count)
      if read.asksExistence, isAbsent {
        _ = cursor.raw()
        isAbsent = cursor.integer() == -2
      }
      for key in missed.indices { missed[key] = misses(key, isAbsent) }
    }
    return missed
  }

  /// Holds an answer back that was judged by a state of `generation`, until V has passed `fence`.
  mutating func hold(
    _ read: GovernedRead, _ replies: UnsafeRawBufferPointer, _ generation: Generation, _ fence: Stamp,
    _ slot: Int
  ) {
    let hold =
      read.hold
      ?? GovernedRead.Hold(
        number: clients[slot].hold(), deadline: Instant(nanoseconds: now.nanoseconds + settings.leaseWait))
    var read = read
    if read.hold == nil {
      counters.held += 1
      clients[slot].owedBytes += replies.count
    }
    read.hold = hold
    holds.entries.append(
      Holds.Entry(
        read: read, replies: [UInt8](replies), client: clients[slot].token, hold: hold,
        generation: generation, fence: fence))
  }

  /// Answers what has been held back for long enough, and asks for the state on behalf of the rest.
  mutating func tickHolds() {
    guard !holds.isEmpty else { return }
    let due = takeHolds { [now] in now >= $0.hold.deadline }
    for entry in due { answer(entry) }
    guard !holds.isEmpty, !holds.isProbing, now.since(holds.lastProbe) >= Holds.probeInterval else { return }
    guard resp2.isReady else { return }
    holds.isProbing = true
    holds.lastProbe = now
    resp2.output.appendState(stateRequest, [])
    resp2.await(.task(UpstreamTask(client: nil, work: .probe)))
  }

  mutating func finishProbe(_ replies: UnsafeRawBufferPointer) {
    holds.isProbing = false
    var cursor = ReplyCursor(replies)
    if let state = readState(&cursor).state { releaseHolds(state) }
  }

  /// Does the reads again whose fences lie no longer above V, and those of another generation.
  mutating func releaseHolds(_ state: FleetState) {
    guard !holds.isEmpty else { return }
    let over = takeHolds { $0.generation != state.generation || $0.fence <= state.stamp }
    for entry in over where isAlive(entry.client) {
      let slot = Int(entry.client.slot)
      guard sharedUpstream(slot).isReady else {
        answer(entry)
        continue
      }
      sendAgain(entry.read, entry.client)
    }
  }

  /// Does a read again whose answer is held back.
  func sendAgain(_ read: GovernedRead, _ client: ClientToken) {
    var read = read
    read.asked = now
    read.basis = follower.basis
    for index in read.keys.indices {
      read.keys[index].version = writeVersion(read.keys[index].hash)
      read.keys[index].serial = epochs.serial
    }
    let upstream = clients[Int(client.slot)].resp3 ? resp3 : resp2
    upstream.output.append(read.request)
    upstream.await(.task(UpstreamTask(client: client, replies: read.replies, work: .read(read))))
  }

  /// Gives the client what Redis has answered, whatever the fence.
  private mutating func answer(_ entry: Holds.Entry) {
    guard isAlive(entry.client) else { return }
    var read = entry.read
    read.hold?.deadline = Instant(nanoseconds: 0)
    entry.replies.withUnsafeBytes { finish(read, $0, client: Int(entry.client.slot)) }
  }

  private mutating func takeHolds(_ isOver: (Holds.Entry) -> Bool) -> [Holds.Entry] {
    let over = holds.entries.filter(isOver)
    if !over.isEmpty { holds.entries.removeAll(where: isOver) }
    return over
  }
}

extension EventLoop {
  /// Whether a client waits for a fence in the embedded mode, which asks for short polls.
  var waitsForFence: Bool { embedded != nil && fenceWaiters > 0 }

  /// The same without Redis: the command waits as a whole, and is executed again. Whether it waits.
  mutating func waitsForFence(_ request: Request, _ spec: CommandSpec, _ slot: Int) -> Bool {
    switch spec.kind {
    case .near: waitsForFence(request, keys: 1..<request.count, slot)
    case .read: waitsForFence(request, keys: 1..<2, slot)
    default: false
    }
  }

  mutating func waitsForFence(_ request: Request, keys: Range<Int>, _ slot: Int) -> Bool {
    guard let embedded, let stamp = embedded.lease?.stamp, embedded.applied > embedded.visible else {
      clients[slot].heldUntil = nil
      return false
    }
    var fence = Stamp.zero
    for index in keys {
      let key = request[index]
      guard governance.governs(key), findNear(key, hash: near.hash(key)) == nil else { continue }
      let groups = governance.groups.membership(of: key)?.buckets ?? []
      fence = max(fence, embedded.fence(of: key, groups: groups))
    }
    let deadline =
      clients[slot].heldUntil ?? Instant(nanoseconds: now.nanoseconds + settings.leaseWait)
    guard fence > stamp, now < deadline else {
      clients[slot].heldUntil = nil
      return false
    }
    if clients[slot].heldUntil == nil { counters.held += 1 }
    clients[slot].heldUntil = deadline
    pause(slot, .fence(fence, deadline: deadline))
    return true
  }

  private var fenceWaiters: Int {
    waiting.count { slot in
      if case .fence = clients[Int(slot)].pause { inUse[Int(slot)] } else { false }
    }
  }
}
