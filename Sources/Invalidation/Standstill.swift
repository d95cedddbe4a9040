/// How a sidecar that stands by tells a tailer that has stopped from one that works: the fleet's beats go on or
/// they do not. A walsender keeps its slot until it notices that nobody reads; this notices too, where that takes
/// long.
public struct Standstill: Sendable {
  /// How long beats must have stood still, in nanoseconds.
  public static let patience: UInt64 = 5_000_000_000

  private var walsender: Int32 = 0
  private var generation: Generation?
  private var beats: UInt64 = 0
  private var since: Instant?

  public init() {}

  /// Takes what was just read. True: the same walsender has held the slot for `patience` without a beat.
  ///
  /// - Parameter state: nil if there is none. If Redis could not be asked, `forget` is called instead.
  public mutating func heard(walsender: Int32, state: (generation: Generation, beats: UInt64)?, now: Instant)
    -> Bool
  {
    if let since, walsender == self.walsender, state?.generation == generation, state?.beats ?? 0 == beats {
      return now.since(since) >= Self.patience
    }
    self.walsender = walsender
    generation = state?.generation
    beats = state?.beats ?? 0
    since = now
    return false
  }

  public mutating func forget() { since = nil }
}
