import Invalidation

/// Keys whose fill was refused a short while ago. A command that merges into what is there (HSET, APPEND,
/// INCR) must not run on them for a window: it would add to a value that was never stored, and leave half
/// of one.
struct Bars {
  private var keys: [UInt64: Instant] = [:]
  /// Set when there was no room for a key: until a window after it every key counts as barred.
  private(set) var unrecorded: Instant?
  private var swept: Instant?
  let capacity: Int
  let window: UInt64

  init(capacity: Int, window: UInt64) {
    self.capacity = capacity
    self.window = window
  }

  var count: Int { keys.count }

  mutating func append(_ key: UInt64, at: Instant) {
    if keys.count >= capacity, keys[key] == nil {
      // Looking at every key is worth it only now and then.
      if swept.map({ at.since($0) >= window / 16 }) ?? true {
        keys = keys.filter { isLive($0.value, at) }
        swept = at
      }
      if keys.count >= capacity {
        unrecorded = max(unrecorded ?? at, at)
        return
      }
    }
    keys[key] = at
  }

  func bars(_ key: UInt64, at: Instant) -> Bool {
    if let unrecorded, isLive(unrecorded, at) { return true }
    return keys[key].map { isLive($0, at) } ?? false
  }

  private func isLive(_ refused: Instant, _ now: Instant) -> Bool { now.since(refused) < window }

  func forEach(_ body: (UInt64, Instant) -> Void) { keys.forEach(body) }

  mutating func restore(unrecorded: Instant?) { self.unrecorded = unrecorded }
}
