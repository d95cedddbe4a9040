/// Keys that no column of a changed row names: a statement finds what they are made of.
public struct LookupRule: Sendable, Hashable {
  /// Its names are columns of the changed table; of an UPDATE it is run for the old row and for the new one.
  public var sql: SQLTemplate
  /// Their columns are those of the rows that the statement answers.
  public var keys: [KeyTemplate]
  /// How long what it answered is cleared again with each later answer for the same values, in nanoseconds; nil:
  /// not at all.
  public var remember: UInt64?
  public var place: SourcePlace

  public init(sql: SQLTemplate, keys: [KeyTemplate], remember: UInt64? = nil, place: SourcePlace) {
    self.sql = sql
    self.keys = keys
    self.remember = remember
    self.place = place
  }
}

extension TableRule {
  /// The templates of every key that a change of the table clears, found by a lookup or not.
  public var cleared: [KeyTemplate] { keys + lookups.flatMap(\.keys) }
}
