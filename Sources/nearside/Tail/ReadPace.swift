import Invalidation

/// How long the log's stream is left alone once it is empty.
///
/// Where messages come thick, one poll for each would cost this host, and the walsender that has to wake it, more than
/// the messages do. But the walsender stops when the socket is full: on a Unix socket with the system's defaults behind
/// some 270 messages, however short. So the pause is one in which about half as many come.
struct ReadPace {
  private static let window: UInt64 = 5_000_000
  /// From so many messages in a second on.
  private static let many: UInt64 = 20_000
  private static let messagesAtOnce: UInt64 = 128
  private static let longest: UInt64 = 500_000

  private var start: Instant
  private var messages: UInt64 = 0
  /// Nanoseconds.
  private(set) var pause: UInt64 = 0

  init(now: Instant) { start = now }

  mutating func took(_ count: Int, now: Instant) {
    messages += UInt64(count)
    let passed = now.since(start)
    guard passed >= Self.window else { return }
    let rate = messages * 1_000_000_000 / passed
    pause = rate >= Self.many ? min(Self.longest, Self.messagesAtOnce * 1_000_000_000 / rate) : 0
    messages = 0
    start = now
  }
}
