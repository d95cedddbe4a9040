import Invalidation

/// Redis as the tailer sees it, small enough to be copied after every write: the state hash and its scripts'
/// rules, one fence for each key, and values that remember what they contain.
struct ModelRedis {
  struct Meta {
    var generation: UInt64
    var cleared: UInt64?
    var token: Int
    var mapping: Int
    var count: UInt64 = 0
    var beats: UInt64 = 0
    var applied: UInt64
    var visible: UInt64
    var floor: UInt64
    var asked = false
    var fences: [UInt64]
  }

  /// What Redis holds under a key.
  struct Value {
    /// Under which generation it was filled. Redis does not know that; the checks do.
    var generation: UInt64
    /// It reflects every transaction up to here.
    var contains: UInt64
  }

  struct Lease {
    var key: Int
    var generation: UInt64
    var stamp: UInt64
    var contains: UInt64
  }

  /// A request of a tailer on its way.
  enum Order {
    case takeover
    case newGeneration(old: UInt64?, new: UInt64, applied: UInt64, visible: UInt64)
    case apply(ApplyRequest, keys: [Int])
    case purge(WriteCheck, cursor: String)
    case purged(WriteCheck)
  }

  static let keys = 8
  /// How many keys a purge step looks at.
  static let purgeCount = 3

  var meta: Meta?
  var values = [Value?](repeating: nil, count: keys)
  /// The order in which SCAN finds the keys; another server has another one.
  var layout = Array(0..<keys)
  /// How many writes of tailers it has taken, counted in n or not.
  var writes = 0

  /// - Parameters: who sends the order, and with which mapping.
  mutating func execute(_ order: Order, token: Int, mapping: Int) -> StateReply {
    switch order {
    case .takeover:
      guard let found = meta else { return .noState }
      meta?.token = token
      if found.mapping != mapping { return .needsGeneration(Generation(found.generation)) }
      return .takenOver(
        StateReply.Takeover(
          generation: Generation(found.generation), applied: LSN(found.applied),
          visible: LSN(found.visible), count: found.count, watching: false,
          cleared: found.cleared == found.generation))
    case .newGeneration(let old, let new, let applied, let visible):
      guard meta?.generation == old else { return .raced }
      if let meta, meta.token != token { return .fenced }
      meta = Meta(
        generation: new, token: token, mapping: mapping, applied: applied, visible: visible,
        floor: applied, fences: [UInt64](repeating: 0, count: Self.keys))
      return .began
    case .apply(let request, let keys):
      if let refusal = refusal(request.check, token) { return refusal }
      return apply(request, keys)
    case .purge(let check, let cursor):
      if let refusal = refusal(check, token) { return refusal }
      meta?.count += 1
      let start = Int(cursor) ?? 0
      let end = min(start + Self.purgeCount, Self.keys)
      for place in start..<end { values[layout[place]] = nil }
      return .purgeStep(cursor: end == Self.keys ? "0" : String(end), removed: end - start)
    case .purged(let check):
      if let refusal = refusal(check, token) { return refusal }
      meta?.count += 1
      meta?.cleared = check.generation.rawValue
      return .cleared
    }
  }

  private func refusal(_ check: WriteCheck, _ token: Int) -> StateReply? {
    guard let meta else { return .noState }
    if meta.token != token || meta.generation != check.generation.rawValue { return .fenced }
    return meta.count == check.count ? nil : .regressed
  }

  private mutating func apply(_ request: ApplyRequest, _ keys: [Int]) -> StateReply {
    guard var meta else { return .noState }
    self.meta = nil  // So that the fences are not copied.
    for key in keys {
      if request.fence.rawValue > meta.applied { meta.fences[key] = request.fence.rawValue }
      values[key] = nil
    }
    meta.applied = max(meta.applied, request.applied.rawValue)
    meta.visible = max(meta.visible, request.visible.rawValue)
    if request.sampled != nil { meta.beats += 1 }
    meta.count += 1
    self.meta = meta
    return .applied(W: LSN(meta.applied), V: LSN(meta.visible), generationAsked: meta.asked)
  }

  /// An application's fill, by the rules of the script of that name for a command that replaces.
  mutating func fill(_ lease: Lease) -> Bool {
    guard let meta, meta.generation == lease.generation, lease.stamp >= meta.floor,
      meta.fences[lease.key] <= lease.stamp
    else { return false }
    values[lease.key] = Value(generation: lease.generation, contains: lease.contains)
    return true
  }
}

/// PostgreSQL's log and one slot.
struct ModelLog {
  struct Transaction {
    var end: UInt64
    var keys: [Int]
    /// It names no key and concerns every one (TRUNCATE).
    var isDoubt: Bool
  }

  private(set) var transactions: [Transaction] = []
  /// For each key the ends of the transactions that concern it.
  private(set) var changes = [[UInt64]](repeating: [], count: ModelRedis.keys)
  /// The log's end.
  var end: UInt64 = 100
  var confirmed: UInt64 = 100
  var slotExists = true
  /// The generation in the canary.
  var canary: UInt64?

  mutating func commit(keys: [Int], isDoubt: Bool, bytes: UInt64) {
    end += bytes
    transactions.append(Transaction(end: end, keys: keys, isDoubt: isDoubt))
    if isDoubt {
      for key in 0..<ModelRedis.keys { changes[key].append(end) }
    } else {
      for key in Set(keys) { changes[key].append(end) }
    }
  }

  /// The last change of a key at or below `position`; zero if there is none.
  func lastChange(of key: Int, through position: UInt64) -> UInt64 {
    changes[key].last { $0 <= position } ?? 0
  }

  /// Where a stream from the slot begins.
  var firstUnconfirmed: Int {
    transactions.firstIndex { $0.end > confirmed } ?? transactions.count
  }
}
