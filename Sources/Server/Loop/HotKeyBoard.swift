import Invalidation
import Metrics
import Synchronization

/// Which keys are read most near, as all threads that answer have drawn them.
///
/// One of `period` near hits is drawn on each thread, so the lock is taken that seldom. Hits of clients that carry
/// something from one command to the next (CLIENT TRACKING, a write that waits) are not drawn.
final class HotKeyBoard: Sendable {
  private let keys = Mutex(HotKeys())

  static let period = 1024

  func note(_ key: UnsafeRawBufferPointer, hash: UInt64, at now: Instant) {
    keys.withLock { $0.observe(key, hash: hash, now: now.nanoseconds) }
  }

  /// The keys with the largest shares, the largest first.
  func top(_ count: Int, at now: Instant) -> [HotKeys.Entry] {
    keys.withLock { $0.top(count, now: now.nanoseconds) }
  }

  static func draw() -> Draw { Draw(period: period, seed: UInt64.random(in: .min ... .max)) }
}
