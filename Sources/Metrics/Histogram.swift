/// How many of what was measured fell into which of some fixed buckets; times, in nanoseconds.
///
/// An observation adds to three numbers and allocates nothing.
public struct Histogram: Hashable, Sendable {
  /// The upper ends of the buckets, in nanoseconds, growing; what lies beyond the last has a bucket of its own.
  public struct Buckets: Hashable, Sendable {
    public let ends: [UInt64]

    /// - Parameter ends: in nanoseconds, growing.
    public init(_ ends: [UInt64]) {
      precondition(zip(ends, ends.dropFirst()).allSatisfy { $0 < $1 }, "buckets grow")
      self.ends = ends
    }

    private static let microsecond: UInt64 = 1000
    private static let millisecond: UInt64 = 1_000_000
    private static let second: UInt64 = 1_000_000_000

    /// Commands: 5 µs to 1 s.
    public static let commands = Buckets(
      [5, 10, 25, 50, 100, 250, 500].map { $0 * microsecond }
        + [1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000].map { $0 * microsecond })

    /// Loads from the database: 0.5 ms to 10 s.
    public static let loads = Buckets(
      [500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000].map { $0 * microsecond }
        + [1000, 2500, 5000, 10_000].map { $0 * millisecond })

    /// From a commit to its effect: 1 ms to 60 s.
    public static let delays = Buckets(
      [1000, 2500].map { $0 * microsecond }
        + [5, 10, 25, 50, 100, 250, 500, 1000, 2500].map { $0 * millisecond }
        + [5, 10, 30, 60].map { $0 * second })
  }

  public let buckets: Buckets
  /// How many fell into each bucket; the last is what lies beyond all ends.
  public private(set) var counts: [UInt64]
  /// The sum of everything observed, in nanoseconds.
  public private(set) var sum: UInt64 = 0

  public init(_ buckets: Buckets) {
    self.buckets = buckets
    counts = [UInt64](repeating: 0, count: buckets.ends.count + 1)
  }

  public var count: UInt64 { counts.reduce(0, +) }

  public mutating func observe(_ nanoseconds: UInt64) {
    var bucket = 0
    while bucket < buckets.ends.count, nanoseconds > buckets.ends[bucket] { bucket += 1 }
    counts[bucket] += 1
    sum &+= nanoseconds
  }

  /// Adds what another one of the same buckets has counted.
  public mutating func add(_ other: Histogram) {
    precondition(buckets == other.buckets, "histograms of other buckets cannot be added")
    for index in counts.indices { counts[index] += other.counts[index] }
    sum &+= other.sum
  }
}
