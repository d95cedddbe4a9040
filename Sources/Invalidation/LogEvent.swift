/// What one message of the replication stream means for the cache.
public enum LogEvent: Sendable, Equatable {
  /// Nothing to do: Type, Origin, a row that no rule asks for, …
  case nothing
  /// A transaction begins; its top-level id.
  case began(transaction: UInt32)
  /// A row that a rule asks for, or keys named in SQL: keys may have been appended to the batch.
  case rows
  /// A Relation message describes a relation that `learn` was never told of, or one that has changed since.
  /// The caller reads the catalogue, calls `learn` and hands the same message in again.
  case unknownRelation(id: UInt32, schema: String, name: String)
  /// The end of this transaction must begin a new generation.
  case doubt(Doubt)
  /// pg_logical_emit_message of somebody else's; one that is not transactional may come outside any transaction.
  case message(prefix: String, content: [UInt8], transactional: Bool, at: LSN)
  /// The transaction is over. The caller tells the batch.
  case committed(Commit)
}

/// The end of a transaction.
public struct Commit: Hashable, Sendable {
  /// The id that `began` named.
  public var transaction: UInt32
  /// The beginning of the commit record. A slot that is confirmed to anywhere beyond it does not send the
  /// transaction again. Source: PostgreSQL's snapbuild.c, `SnapBuildXactNeedsSkip`.
  public var record: LSN
  /// The end of the commit record.
  public var end: LSN
  /// Microseconds since 2000-01-01 00:00 UTC, by the clock of the primary.
  public var committedAt: Int64

  public init(transaction: UInt32, record: LSN, end: LSN, committedAt: Int64) {
    self.transaction = transaction
    self.record = record
    self.end = end
    self.committedAt = committedAt
  }
}

/// Why the keys of a transaction do not say everything that it changed.
public enum Doubt: Sendable, Hashable, CustomStringConvertible {
  /// TRUNCATE: no row, and so no key, is named.
  case truncated(table: String)
  /// A rule cannot tell the keys of a row.
  case brokenRule(table: String, reason: String)
  /// More keys than the limit for one transaction.
  case tooManyKeys(limit: Int)
  /// More prefixes and tags than may be waiting to be swept.
  case tooManyGroups(limit: Int)
  /// The definition of a table or of the publication has changed: rows may have moved without a word, and rules
  /// may name other rows than before. The event triggers of `nearside setup` or the fingerprint tell it.
  case schemaChanged
  /// `nearside.invalidate` named every key.
  case invalidatedAll
  /// `nearside.invalidate` named a key that cannot be carried.
  case keyTooLong

  /// One sentence without its full stop and without the value of any row.
  public var description: String {
    switch self {
    case .truncated(let table): "table \(table) was truncated"
    case .brokenRule(let table, let reason): "the keys of table \(table) cannot be told: \(reason)"
    case .tooManyKeys(let limit): "a transaction changed more than \(limit) keys"
    case .tooManyGroups(let limit): "a transaction changed more than \(limit) prefixes and tags"
    case .schemaChanged: "a table's definition changed"
    case .invalidatedAll: "nearside.invalidate named every key"
    case .keyTooLong: "nearside.invalidate named a key of more than \(PackedKeys.longestKey) bytes"
    }
  }
}
