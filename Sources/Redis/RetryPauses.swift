import Glibc
import Invalidation

/// How long a thread rests before it tries Redis again: 50 ms, growing to 2 s, less a random part so that a fleet
/// does not come back all at once.
struct RetryPauses {
  private static let first: UInt64 = 50_000_000
  private static let longest: UInt64 = 2_000_000_000

  private var pause = RetryPauses.first

  mutating func worked() { pause = Self.first }

  mutating func rest(until stop: @Sendable () -> Bool) {
    Self.rest(UInt64.random(in: pause / 2...pause), until: stop)
    pause = min(pause * 2, Self.longest)
  }

  /// Sleeps, in steps short enough for a stop.
  static func rest(_ nanoseconds: UInt64, until stop: @Sendable () -> Bool) {
    let end = bootInstant().nanoseconds + nanoseconds
    while !stop() {
      let now = bootInstant().nanoseconds
      guard now < end else { return }
      var step = timespec(tv_sec: 0, tv_nsec: Int(min(end - now, 20_000_000)))
      nanosleep(&step, nil)
    }
  }
}
