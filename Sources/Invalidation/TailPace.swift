/// How long the tailer gathers keys before it writes again, and how long nothing has come.
///
/// A transaction that comes alone is written at once. Where they come thick, a write for each would cost Redis, this
/// host and the walsender more than all the keys do, so writes keep a distance, and the batches grow by themselves.
struct TailPace {
  /// The rate is judged anew after so many nanoseconds.
  private static let window: UInt64 = 10_000_000
  /// From so many transactions in a window on, writes keep their distance: 2000 a second.
  private static let many: UInt64 = 20
  private static let distance: UInt64 = 2_000_000

  private var start: Instant
  private var transactions: UInt64 = 0
  private var seen: UInt64 = 0
  /// When a transaction was last heard of, or a generation began.
  private(set) var quietSince: Instant
  /// Nanoseconds from one write to the next.
  private(set) var pause: UInt64 = 0

  init(now: Instant) {
    start = now
    quietSince = now
  }

  mutating func disturbed(now: Instant) { quietSince = now }

  /// - Parameter transactions: how many have ended since the session began.
  mutating func judge(_ transactions: UInt64, now: Instant) {
    if transactions != seen {
      seen = transactions
      quietSince = now
    }
    let passed = now.since(start)
    guard passed >= Self.window else { return }
    pause = (transactions - self.transactions) * Self.window >= Self.many * passed ? Self.distance : 0
    self.transactions = transactions
    start = now
  }
}
