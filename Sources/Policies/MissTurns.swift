import Invalidation

/// Whose turn it is to fill a missing key, where applications load and SET themselves: one client is told of the
/// miss, and the others wait for what it stores.
///
/// A turn ends when the key is written, removed or invalidated, when its holder leaves, and when its time is over.
/// Then all who wait read again, and the first of them who misses has the next turn. Nobody waits on itself.
public struct MissTurns: Sendable {
  private struct Turn {
    var holder: UInt64
    var until: Instant
    var waiters: [UInt64] = []
  }

  private var turns: [[UInt8]: Turn] = [:]
  private var held: [UInt64: Set<[UInt8]>] = [:]
  /// No turn ends before this.
  private var first = Instant(nanoseconds: .max)
  private let capacity: Int

  /// - Parameter capacity: how many turns there may be; a key beyond that is a plain miss for everybody.
  public init(capacity: Int = 16_384) { self.capacity = capacity }

  public var isEmpty: Bool { turns.isEmpty }
  /// How many clients wait.
  public var waiting: Int { turns.values.reduce(0) { $0 + $1.waiters.count } }

  public enum Answer: Hashable, Sendable {
    /// It is told of the miss.
    case miss
    /// It waits, and is named by the call that ends the turn.
    case waits
  }

  /// A client has missed a key.
  ///
  /// - Parameters:
  ///   - client: who.
  ///   - waiter: names its wait, if it does.
  ///   - mayWait: whether it still has time.
  ///   - wait: for how long a turn lasts, in nanoseconds.
  public mutating func missed(
    _ key: [UInt8], by client: UInt64, waiter: UInt64, mayWait: Bool, wait: UInt64, now: Instant
  ) -> Answer {
    // Without the list of those who wait, which would be copied by adding to it.
    if let (holder, until) = turns[key].map({ ($0.holder, $0.until) }) {
      guard mayWait, holder != client, now < until else { return .miss }
      turns[key]?.waiters.append(waiter)
      return .waits
    }
    guard turns.count < capacity else { return .miss }
    let (end, carry) = now.nanoseconds.addingReportingOverflow(wait)
    let until = Instant(nanoseconds: carry ? .max : end)
    turns[key] = Turn(holder: client, until: until)
    held[client, default: []].insert(key)
    first = min(first, until)
    return .miss
  }

  /// The key was written, removed or invalidated. The result names who waits.
  public mutating func ended(_ key: [UInt8]) -> [UInt64] {
    guard let turn = turns.removeValue(forKey: key) else { return [] }
    held[turn.holder]?.remove(key)
    if held[turn.holder]?.isEmpty == true { held[turn.holder] = nil }
    return turn.waiters
  }

  /// The same for all keys of which `isOver` is true.
  public mutating func ended(where isOver: ([UInt8]) -> Bool) -> [UInt64] {
    turns.keys.filter(isOver).flatMap { ended($0) }
  }

  /// A client has left.
  public mutating func left(_ client: UInt64) -> [UInt64] {
    (held[client] ?? []).flatMap { ended($0) }
  }

  /// Nothing that was known of any key counts any more.
  public mutating func endedAll() -> [UInt64] {
    defer {
      turns = [:]
      held = [:]
      first = Instant(nanoseconds: .max)
    }
    return turns.values.flatMap(\.waiters)
  }

  /// Ends the turns whose time is over.
  public mutating func expired(now: Instant) -> [UInt64] {
    guard now >= first else { return [] }
    let over = turns.filter { now >= $0.value.until }
    let waiters = over.keys.flatMap { ended($0) }
    first = turns.values.map(\.until).min() ?? Instant(nanoseconds: .max)
    return waiters
  }
}
