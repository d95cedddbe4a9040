/// How many loads may run at once: few after everything was lost, and one more with each that succeeds.
///
/// After a flush, or when a server is back, every reader misses at the same moment. A database that has just come up,
/// or whose own caches are cold, must not meet all of them at once. As in TCP's slow start the number doubles
/// with each round of answers, so that a healthy database is at its limit after a few of them; an overloaded one
/// answers late, and so sets the pace itself.
public struct SlowStart: Sendable {
  public let least: Int
  public let most: Int
  /// How many may run now.
  public private(set) var limit: Int
  /// How often it began anew.
  public private(set) var starts = 0

  /// - Parameters:
  ///   - least: with how many it begins, at least 1.
  ///   - most: how many there may be at all; less than `least` counts as `least`.
  public init(least: Int = 2, most: Int) {
    self.least = max(1, least)
    self.most = max(self.least, most)
    limit = self.most
  }

  /// Everybody is about to miss, or the database cannot be reached.
  public mutating func begin() {
    guard limit > least else { return }
    limit = least
    starts += 1
  }

  /// A statement was answered in its time.
  public mutating func succeeded() { limit = min(most, limit + 1) }

  /// A statement took too long: half as many may be better served.
  public mutating func slowed() { limit = max(least, limit / 2) }
}
