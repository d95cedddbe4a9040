import CLinux
import Configuration
import Logging
import Metrics
import Redis
import Synchronization

/// Reads Redis's INFO on a thread and a connection of its own, for as long as somebody looks at figures.
final class RedisWatch: Sendable {
  private struct State {
    var report: RedisReport?
    /// When somebody last asked, in nanoseconds since boot; 0: nobody has.
    var asked: UInt64 = 0
    var readAt: UInt64 = 0
  }

  private let settings: RedisSettings
  private let stop: StopSignal
  private let state = Mutex(State())

  /// How often INFO is read while somebody asks, and how long after the last question, in nanoseconds.
  private static let period: UInt64 = 1_000_000_000
  private static let interest: UInt64 = 60_000_000_000
  /// Older figures are not shown.
  private static let longest: UInt64 = 10_000_000_000

  init(_ settings: RedisSettings, _ stop: StopSignal) {
    self.settings = settings
    self.stop = stop
  }

  /// The newest figures; nil: there are none that are new enough.
  func figures() -> RedisReport? {
    state.withLock { state in
      // Asked of the clock in here: what the other thread wrote is never later.
      let now = clinux_boot_nanoseconds()
      state.asked = now
      return now - state.readAt <= Self.longest ? state.report : nil
    }
  }

  /// Runs until the stop signal.
  func run() {
    while !stop.isSet {
      guard isOfInterest else {
        stop.wait(500_000_000)
        continue
      }
      // A Redis that is away, or a user that may not: there are no figures, and others say why.
      do throws(RedisError) { try follow() } catch { stop.wait(2 * Self.period) }
    }
  }

  private var isOfInterest: Bool {
    state.withLock { $0.asked > 0 && clinux_boot_nanoseconds() - $0.asked <= Self.interest }
  }

  private func follow() throws(RedisError) {
    var connection = try RedisConnection(settings, name: "nearside-info")
    while !stop.isSet {
      guard isOfInterest else { return }
      let text = try connection.command(["INFO"]).text
      state.withLock {
        $0.report = text.map { RedisReport(info: $0) }
        $0.readAt = clinux_boot_nanoseconds()
      }
      stop.wait(Self.period)
    }
  }
}
