import Invalidation

/// When a value is loaded anew before it ends, so that nobody has to wait for it: the later the likelier, and the
/// earlier the longer its load takes. Many readers decide each for itself, and one of them comes first.
/// Source: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015.
public struct EarlyRefresh: Sendable {
  /// How long the loads of keys took here, in nanoseconds, by a hash of the key.
  private var times: [UInt64: UInt64] = [:]
  private let capacity: Int

  /// - Parameter capacity: of how many keys the time is kept; those of before are forgotten when it is full.
  public init(capacity: Int = 65_536) { self.capacity = capacity }

  public mutating func took(_ key: UInt64, _ nanoseconds: UInt64) {
    if times.count >= capacity, times[key] == nil { times.removeAll(keepingCapacity: true) }
    times[key] = nanoseconds
  }

  /// Whether a value is to be loaded anew that lives for `left` nanoseconds more. A key that was never loaded here
  /// is left to the host that did.
  ///
  /// - Parameters:
  ///   - beta: above 1 it is done earlier, below 1 later.
  ///   - draw: -ln of a random number above 0 and up to 1.
  public func isDue(_ key: UInt64, left: UInt64, beta: Double, draw: Double) -> Bool {
    guard let time = times[key] else { return false }
    return Double(time) * beta * draw >= Double(left)
  }
}
