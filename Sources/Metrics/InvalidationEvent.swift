/// Something that cleared keys of this near cache, for people who watch.
public struct InvalidationEvent: Sendable, Equatable {
  public var time: WallTime
  /// With its schema; nil: no table's row.
  public var table: String?
  public var template: String?
  public var source: InvalidationReport.Source
  /// `insert`, `update` or `delete`; nil: not known.
  public var operation: String?
  public var transaction: UInt32?
  /// At most `mostKeys`.
  public var keys: [String] = []
  public var keyCount = 0
  /// `prefix shop:page:` and `tag t`.
  public var groups: [String] = []
  public var position: LogPosition?
  /// From the commit until the keys had left, in nanoseconds.
  public var delay: UInt64?

  public static let mostKeys = 20

  public init(time: WallTime, table: String? = nil, source: InvalidationReport.Source) {
    self.time = time
    self.table = table
    self.source = source
  }

  public var json: JSONText {
    [
      "time": .text(time.text), "table": .text(ifAny: table), "template": .text(ifAny: template),
      "source": .text(source.rawValue), "op": .text(ifAny: operation),
      "transaction": .whole(ifAny: transaction.map { Int($0) }), "keys": .list(keys.map { .text($0) }),
      "key_count": .whole(keyCount), "groups": .list(groups.map { .text($0) }),
      "position": .text(ifAny: position?.logPosition),
      "delay_ms": .real(ifAny: delay.map { Double($0 / 1000) / 1000 }),
    ]
  }
}

/// What somebody who watches is told.
public enum TapEvent: Sendable, Equatable {
  case invalidation(InvalidationEvent)
  case generation(WallTime, id: String, reason: String?)
}
