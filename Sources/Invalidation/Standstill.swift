/// How a sidecar that stands by tells a tailer that has stopped from one that works: the fleet's beats go on or
/// they do not, and its walsender hears from it or does not. PostgreSQL notices that nobody reads by itself
/// (wal_sender_timeout); this notices too, where that takes long.
public struct Standstill: Sendable {
  /// How long everything must have stood still, in nanoseconds.
  public static let patience: UInt64 = 5_000_000_000

  /// What was seen of the slot's holder.
  public struct Holder: Hashable, Sendable {
    public var walsender: Int32
    /// When its client last answered, as PostgreSQL prints it. It is that client's own clock, so nothing counts but
    /// whether it changes.
    public var answered: String

    public init(walsender: Int32, answered: String) {
      self.walsender = walsender
      self.answered = answered
    }
  }

  private var holder: Holder?
  private var generation: Generation?
  private var beats: UInt64 = 0
  private var since = Instant(nanoseconds: 0)
  private var patience = Standstill.patience

  public init() {}

  /// Takes what was just read. True: the same walsender has held the slot in silence, without a beat, for as long as
  /// patience lasts. It lasts twice as long after each time, until a beat is seen: a transaction that takes a server
  /// long to prepare must get through once.
  ///
  /// - Parameter state: nil if there is none. If something could not be read, `forget` is called instead.
  public mutating func heard(
    _ holder: Holder, state: (generation: Generation, beats: UInt64)?, now: Instant
  ) -> Bool {
    let isBeatLater = state?.generation != generation || state?.beats ?? 0 != beats
    if holder == self.holder, !isBeatLater {
      guard now.since(since) >= patience else { return false }
      patience *= 2
      self.holder = nil
      return true
    }
    if isBeatLater { patience = Self.patience }
    self.holder = holder
    generation = state?.generation
    beats = state?.beats ?? 0
    since = now
    return false
  }

  public mutating func forget() { holder = nil }
}
