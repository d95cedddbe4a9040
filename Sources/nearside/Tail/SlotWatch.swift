import Invalidation
import Logging
import Metrics
import Postgres

/// Looks at the slot that this sidecar holds, once a second, between the session's own questions.
struct SlotWatch {
  let name: String
  /// What the server said last; nil: nothing yet.
  private(set) var report: SlotReport?
  private var guardian: SlotGuard
  private var next = Instant(nanoseconds: 0)

  static let period: UInt64 = 1_000_000_000

  /// - Parameter bound: how many bytes of log the slot may keep; nil: as many as the server lets it.
  init(name: String, bound: UInt64?) {
    self.name = name
    guardian = SlotGuard(bound: bound)
  }

  /// The statement to send now; nil: it is not time.
  mutating func ask(now: Instant) -> (text: String, parameters: [String?])? {
    guard now >= next else { return nil }
    next = Instant(nanoseconds: now.nanoseconds + Self.period)
    return SlotStatus.statement(name)
  }

  /// Why the slot is to be given up, as a sentence without its full stop; nil: it is kept.
  mutating func answered(_ rows: Rows, _ log: Logger) -> String? {
    guard let found = SlotStatus(rows) else { return nil }
    let health = found.health
    report = SlotReport(name, health, bound: guardian.bound)
    switch guardian.heard(health) {
    case .keep: return nil
    case .warn(let sentence): log.warning("\(sentence)")
    case .relieved: log.notice("replication slot \(name) keeps little log again")
    case .giveUp(let reason): return reason
    }
    return nil
  }
}

extension SlotReport {
  init(_ name: String, _ health: SlotHealth, bound: UInt64?) {
    self.init(
      name: name, walStatus: health.walStatus, retained: health.retained, safe: health.safe, bound: bound)
  }
}
