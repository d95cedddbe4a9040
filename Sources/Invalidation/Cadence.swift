import Synchronization

/// How often the tailer proves the fleet's state fresh (a beat), and how often a host asks for it.
///
/// Evidence is at most two beats and one poll old, besides the ways between the parts. While anything changes, each is
/// due every `busy`. Where nothing has for `patience`, each is due every sixth of the shortest bound of staleness, from
/// `busy` to `longest`: evidence stays younger than half of a bound of 600 ms or more, and a host that serves nobody and
/// is told nothing sleeps more.
public struct Cadence: Hashable, Sendable {
  /// In nanoseconds, as everything here.
  public static let busy: UInt64 = 100_000_000
  /// How long nothing must have changed.
  public static let patience: UInt64 = 5_000_000_000
  /// The longest period of any cadence.
  public static let longest: UInt64 = 300_000_000

  /// From one beat, or one poll, to the next while nothing changes: from `busy` to `longest`.
  public let resting: UInt64

  /// The cadence that never rests.
  public init() { resting = Self.busy }

  /// - Parameter bound: the shortest bound of staleness that reads here have.
  public init(bound: UInt64) { resting = min(max(bound / 6, Self.busy), Self.longest) }

  fileprivate init(resting: UInt64) { self.resting = resting }

  /// - Parameter quietSince: when something last changed.
  public func period(quietSince: Instant, now: Instant) -> UInt64 {
    now.since(quietSince) >= Self.patience ? resting : Self.busy
  }
}

/// The cadence in force: threads read it at each turn, and a reload of the configuration changes it.
public final class SharedCadence: Sendable {
  private let resting: Atomic<UInt64>

  public init(_ cadence: Cadence) { resting = Atomic(cadence.resting) }

  public var value: Cadence { Cadence(resting: resting.load(ordering: .relaxed)) }

  public func change(to cadence: Cadence) { resting.store(cadence.resting, ordering: .relaxed) }
}
