import Configuration
import Invalidation
import Logging
import NearCache

/// Redis has answered a governed read: the state first, then the values, then how long they live.
extension EventLoop {
  mutating func finish(_ read: GovernedRead, _ replies: UnsafeRawBufferPointer, client slot: Int?) {
    tally.isRepeated = read.load?.isCounted ?? false
    defer { tally.isRepeated = false }
    var cursor = ReplyCursor(replies)
    let (state, fences) = readState(&cursor, read.keys)
    var judgements = judge(read, state)
    noteShown(read.keys, state?.journal)
    let before = read.part == nil ? nil : cursor.integer()
    if read.restores {
      var isLost = false
      if let error = takeRestored(read, &cursor, &judgements, &isLost) {
        return settle(slot, read.hold) { output, _ in output.error(error) }
      }
      if isLost, let slot { return repeatLost(read, slot) }
    }
    if let slot, let state, let fence = fenceToAwait(read, state, fences, cursor, judgements) {
      return hold(read, replies, state.generation, fence, slot)
    }
    for case .fail(let text) in judgements {
      return settle(slot, read.hold) { output, _ in output.error(text) }
    }
    if let slot, read.load != nil {
      let misses = misses(read, cursor, judgements)
      if waitsForLoad(read, misses, slot) || waitsForTurn(read, misses, slot) {
        for (key, miss) in zip(read.keys, misses) where miss == nil { tally.read(.redisHit, of: key.rule) }
        return
      }
    }
    // Values that the near cache gave wait here for those that Redis was asked for. If that took longer than
    // their evidence lasts, the client is asked to repeat the command.
    if clock() > read.nearUntil {
      return settle(slot, read.hold) { output, _ in output.error(Client.waitedTooLong) }
    }
    switch read.shape {
    case .get: finishOne(read, withToken: false, &cursor, judgements[0], slot)
    case .mget(let elements): finishMany(read, elements, &cursor, judgements, slot)
    case .exists(let found, let governed):
      finishExists(read, found, governed, &cursor, judgements, state?.journal, slot)
    case .lease: finishOne(read, withToken: true, &cursor, judgements[0], slot)
    case .other(let absent, let arguments, let name):
      let reply = finishOther(read, absent, arguments, name, &cursor, judgements, slot)
      guard let reply, read.part != nil else { break }
      let times = KeyTimes(before: before, after: cursor.integer())
      keepPart(read, reply.bytes, isAbsent: reply.isAbsent, times, judgements[0], state?.journal)
    }
  }

  /// The result is what Redis has answered, if it was shown and is no error, and whether it may tell of something that
  /// does not exist.
  private mutating func finishOther(
    _ read: GovernedRead, _ absent: AbsentReply, _ arguments: Int, _ name: String,
    _ cursor: inout ReplyCursor, _ judgements: [Judgement], _ slot: Int?
  ) -> (bytes: UnsafeRawBufferPointer, isAbsent: Bool)? {
    // An error shows as it is, unless it tells of what must not be seen.
    let counts = judgements.allSatisfy(\.counts)
    let isError = cursor.isError
    let hidden = !counts && (!isError || cursor.isWrongType)
    let isAbsent = !isError && cursor.saysAbsent(absent, of: read.keys.count)
    let reply = cursor.raw()
    if hidden || isAbsent {
      for (key, judgement) in zip(read.keys, judgements) { missed(key, judgement, isNull: isAbsent) }
    } else if !isError {
      for (key, judgement) in zip(read.keys, judgements) { hit(key, judgement) }
    }
    settle(slot, read.hold) { output, resp3 in
      if hidden {
        output.absent(absent, arguments: arguments, name: name, resp3: resp3)
      } else {
        output.append(reply)
      }
    }
    return hidden || isError ? nil : (reply, isAbsent)
  }

  /// GET and NEARSIDE LEASE: the value, or none and then, for LEASE, the token.
  private mutating func finishOne(
    _ read: GovernedRead, withToken: Bool, _ cursor: inout ReplyCursor, _ judgement: Judgement, _ slot: Int?
  ) {
    let key = read.keys[0]
    let isError = cursor.isError && (judgement.counts || !cursor.isWrongType)
    let isNull = cursor.isNull
    var value = cursor
    let reply = cursor.raw()
    if isError { return settle(slot, read.hold) { output, _ in output.append(reply) } }
    let isHit = !isNull && judgement.counts
    let lease = isHit ? nil : missed(key, judgement, isNull: isNull)
    settle(slot, read.hold) { output, resp3 in
      if withToken { output.array(2) }
      if isHit { output.append(reply) } else { output.null(resp3: resp3) }
      guard withToken else { return }
      if let lease { output.bulk(Self.token(lease)) } else { output.null(resp3: resp3) }
    }
    guard isHit else { return }
    hit(key, judgement)
    keep(key, value.string(), &cursor, asked: read.asked, judgement)
  }

  private mutating func finishMany(
    _ read: GovernedRead, _ elements: [GovernedRead.Element], _ cursor: inout ReplyCursor,
    _ judgements: [Judgement], _ slot: Int?
  ) {
    guard let count = cursor.enter() else {
      let reply = cursor.raw()
      return settle(slot, read.hold) { output, _ in output.append(reply) }
    }
    var values: [ReplyCursor] = []
    for _ in 0..<count {
      values.append(cursor)
      _ = cursor.raw()
    }
    settle(slot, read.hold) { output, resp3 in
      output.array(elements.count)
      var next = 0
      for element in elements {
        switch element {
        case .near(let bytes): output.append(bytes)
        case .asked(let governed):
          if governed.map({ judgements[$0].counts }) ?? true {
            output.append(values[next].peek)
          } else {
            output.null(resp3: resp3)
          }
          next += 1
        }
      }
    }
    var next = 0
    for element in elements {
      guard case .asked(let governed) = element else { continue }
      var value = values[next]
      next += 1
      guard let governed else { continue }
      let (key, judgement) = (read.keys[governed], judgements[governed])
      if value.isNull || !judgement.counts {
        missed(key, judgement, isNull: value.isNull)
        _ = cursor.raw()
      } else {
        hit(key, judgement)
        keep(key, value.string(), &cursor, asked: read.asked, judgement)
      }
    }
  }

  private mutating func finishExists(
    _ read: GovernedRead, _ found: Int, _ governed: [Bool], _ cursor: inout ReplyCursor,
    _ judgements: [Judgement], _ journal: JournalID?, _ slot: Int?
  ) {
    var total = found
    var error: UnsafeRawBufferPointer?
    var next = 0
    for isGoverned in governed {
      if isGoverned { next += 1 }
      if cursor.isError {
        error = cursor.raw()
        continue
      }
      let number = cursor.integer()
      guard isGoverned else {
        total += number ?? 0
        continue
      }
      let (key, judgement) = (read.keys[next - 1], judgements[next - 1])
      let times = KeyTimes(after: number)
      if times.isThere, judgement.counts {
        total += 1
        hit(key, judgement)
        keepAnchor(key, times, asked: read.asked, judgement, journal)
      } else {
        missed(key, judgement, isNull: !times.isThere)
      }
    }
    settle(slot, read.hold) { output, _ in
      if let error { output.append(error) } else { output.integer(total) }
    }
  }

  /// A lease as NEARSIDE LEASE hands it out: the generation's sixteen digits and the stamp's thirty-two.
  static func token(_ lease: Lease) -> String { lease.generation.hex + lease.stamp.hex }

  static func lease(token: UnsafeRawBufferPointer) -> Lease? {
    guard token.count == 48 else { return nil }
    guard let generation = Generation(hex: UnsafeRawBufferPointer(rebasing: token[..<16])),
      let stamp = Stamp(hex: UnsafeRawBufferPointer(rebasing: token[16...]))
    else { return nil }
    return Lease(generation: generation, stamp: stamp)
  }

  // MARK: What every shape has in common

  private mutating func hit(_ key: GovernedKey, _ judgement: Judgement) {
    if case .stale = judgement {
      counters.stale += 1
      tally.read(.stale, of: key.rule)
    } else {
      counters.redisHits += 1
      tally.read(.redisHit, of: key.rule)
      sampleRedis(key)
    }
  }

  /// Notes a miss in the ledger, with the lease that it gives.
  @discardableResult
  private mutating func missed(_ key: GovernedKey, _ judgement: Judgement, isNull: Bool) -> Lease? {
    let lease = judgement.lease(isNull: isNull)
    if lease == nil { counters.bypassed += 1 } else { counters.redisMisses += 1 }
    tally.read(lease == nil ? .bypass : .miss, of: key.rule)
    noteMiss(key, lease: lease)
    return lease
  }

  private mutating func keep(
    _ key: GovernedKey, _ value: UnsafeRawBufferPointer?, _ cursor: inout ReplyCursor, asked: Instant,
    _ judgement: Judgement
  ) {
    let milliseconds = cursor.integer()
    guard judgement.mayKeep, let value, let milliseconds, milliseconds != -2 else {
      return
    }
    // PTTL counted from a moment after `asked`, so the near copy goes no later than Redis's own.
    let expires = milliseconds < 0 ? nil : asked.after(milliseconds: milliseconds)
    if key.rule.load != nil {
      key.bytes.withUnsafeBytes { considerEarly($0, hash: key.hash, expires: expires) }
    }
    keepNear(key, value, expires: expires)
  }

  /// Answers the client of a finished request, if it is still there. `hold`: the answer was held back.
  mutating func settle(
    _ slot: Int?, _ hold: GovernedRead.Hold? = nil, _ write: (inout IOBuffer, Bool) -> Void
  ) {
    guard let slot else { return }
    // A client that sends PING behind a write has heard what the write made void when PING is answered.
    if tracking.table.hasMessages, clients[slot].owed.count > 1 { tellTrackers() }
    let resp3 = clients[slot].resp3
    if let hold {
      clients[slot].settle(held: hold.number) { write(&$0, resp3) }
    } else {
      clients[slot].settle { write(&$0, resp3) }
    }
    markDirty(slot)
  }
}

extension EventLoop.Judgement {
  /// Whether what Redis answered is shown to the client.
  var counts: Bool {
    switch self {
    case .trusted, .stale, .pending: true
    case .absent, .bypass, .fail: false
    }
  }

  var mayKeep: Bool {
    switch self {
    case .trusted(_, let mayKeep), .pending(let mayKeep): mayKeep
    case .stale, .absent, .bypass, .fail: false
    }
  }

  /// The right to fill that a miss under this judgement gives; `isNull`: Redis itself has no such key.
  func lease(isNull: Bool) -> Lease? {
    switch self {
    case .trusted(let lease, _), .stale(let lease), .absent(let lease): lease
    case .bypass(let lease): isNull ? lease : nil
    case .fail, .pending: nil
    }
  }
}

extension ReplyCursor {
  /// The bytes of the element at the cursor, which stays where it is.
  var peek: UnsafeRawBufferPointer {
    var copy = self
    return copy.raw()
  }

  /// Whether the element at the cursor, which stays where it is, is Redis's refusal of a value by its type.
  var isWrongType: Bool { "-WRONGTYPE".utf8.elementsEqual(bytes[position...].prefix(10)) }

  /// Whether the reply at the cursor, which stays where it is, may tell its reader that a key or a part of
  /// it does not exist. `absent`: what the command answers of a key that does not; `keys`: how many it named.
  func saysAbsent(_ absent: AbsentReply, of keys: Int = 1) -> Bool {
    var copy = self
    switch absent {
    case .null: return isNull
    case .zero: return copy.integer() == 0
    case .emptyArray, .emptySet, .emptyMap: return head?.count == 0
    case .emptyString: return head?.count == 0
    case .minusTwo: return copy.integer() == -2
    case .none: return "+none\r\n".utf8.elementsEqual(peek)
    case .nulls, .zeros, .unknown:
      if head?.type == UInt8(ascii: ":") { return (copy.integer() ?? 0) < max(1, keys) }
      return copy.holdsNothing()
    }
  }

  /// Steps over the element; true if it is, or has in it, a null, a zero or something empty.
  private mutating func holdsNothing() -> Bool {
    if isNull || head?.kind != .line && head?.count == 0 {
      _ = raw()
      return true
    }
    if head?.type == UInt8(ascii: ":") { return (integer() ?? 0) == 0 }
    guard let count = enter() else {
      _ = raw()
      return false
    }
    var holds = false
    for _ in 0..<count where holdsNothing() { holds = true }
    return holds
  }
}

extension IOBuffer {
  /// What Redis answers for a key that does not exist.
  mutating func absent(_ reply: AbsentReply, arguments: Int, name: String, resp3: Bool) {
    switch reply {
    case .null: null(resp3: resp3)
    case .zero: integer(0)
    case .emptyArray: array(0)
    case .emptySet: append(resp3 ? "~0\r\n" : "*0\r\n")
    case .emptyMap: map(0, resp3: resp3)
    case .emptyString: append("$0\r\n\r\n")
    case .minusTwo: integer(-2)
    case .none: status("none")
    case .nulls:
      array(arguments)
      for _ in 0..<arguments { null(resp3: resp3) }
    case .zeros:
      array(arguments)
      for _ in 0..<arguments { integer(0) }
    case .unknown:
      error(
        "TRYAGAIN Nearside: what Redis holds for this key does not count at the moment, and '\(name)' has "
          + "no answer for a key that does not exist; try again")
    }
  }
}
