/// What the server says of the slot that is held: what it costs, and how long it may go on.
public struct SlotHealth: Hashable, Sendable {
  /// `reserved`, `extended`, `unreserved` or `lost`; nil before the slot reserves anything.
  public var walStatus: String?
  /// How many bytes of log the slot keeps on the server's disk; nil: unknown.
  public var retained: UInt64?
  /// How many bytes may still be written before the server may remove log that the slot needs; nil: it sets no limit,
  /// or the slot is lost.
  public var safe: Int64?

  public init(walStatus: String?, retained: UInt64?, safe: Int64?) {
    self.walStatus = walStatus
    self.retained = retained
    self.safe = safe
  }
}

/// Decides when a slot costs the server too much: a cold cache is cheaper than a full disk.
///
/// It is asked by whoever holds the slot, once a second, and by whoever finds it held by nobody.
public struct SlotGuard: Sendable {
  /// How many bytes of log the slot may keep; nil: as many as the server lets it.
  public let bound: UInt64?
  private var hasWarned = false

  public enum Advice: Equatable, Sendable {
    case keep
    /// A sentence for the log, said once until it is well again.
    case warn(String)
    /// It is well again.
    case relieved
    /// Drop it and make a new one; why, as a sentence without its full stop.
    case giveUp(String)
  }

  public init(bound: UInt64?) { self.bound = bound }

  public mutating func heard(_ health: SlotHealth) -> Advice {
    let retained = health.retained ?? 0
    if let bound, retained > bound {
      return .giveUp(
        "the replication slot keeps \(retained >> 20) MiB of log on the server, more than postgres.slot.maxRetained "
          + "(\(bound >> 20) MiB) allows")
    }
    let why = worry(health, retained)
    guard let why else {
      guard hasWarned else { return .keep }
      hasWarned = false
      return .relieved
    }
    guard !hasWarned else { return .keep }
    hasWarned = true
    return .warn(why)
  }

  private func worry(_ health: SlotHealth, _ retained: UInt64) -> String? {
    if health.walStatus == "unreserved" || health.walStatus == "lost" {
      return
        "the replication slot is \(health.walStatus ?? ""): the server is about to remove log that it needs, or has; "
        + "it is made anew then, with a cold cache (max_slot_wal_keep_size)"
    }
    if let bound, retained > bound / 2 {
      return
        "the replication slot keeps \(retained >> 20) MiB of log on the server; beyond \(bound >> 20) MiB "
        + "(postgres.slot.maxRetained) it is given up. A long transaction, or a Redis that is slow, holds it"
    }
    return nil
  }
}
