import Invalidation

/// What SQL can name to be cleared: `nearside.invalidate` and `nearside.invalidate_tag` of `nearside setup`.
extension SQLSession {
  /// Clears these keys by the log, and every key under those of them that end in `*`. Returns once that is committed;
  /// waits for at most `timeout` nanoseconds.
  public func invalidate(keys: [String], timeout: UInt64) throws(PostgresError) {
    try invalidate("invalidate", keys, timeout)
  }

  /// The same for every key that has one of these tags.
  public func invalidate(tags: [String], timeout: UInt64) throws(PostgresError) {
    try invalidate("invalidate_tag", tags, timeout)
  }

  /// A position behind all that has committed; nil if PostgreSQL gives none. Waits as `invalidate`. An error of this
  /// says nothing of what was cleared before.
  public func logPosition(timeout: UInt64) throws(PostgresError) -> LSN? {
    try query("SELECT pg_current_wal_insert_lsn()", timeout: timeout).first?[0].flatMap { LSN($0) }
  }

  private func invalidate(_ function: String, _ names: [String], _ timeout: UInt64) throws(PostgresError) {
    _ = try query(
      "SELECT nearside.\(function)(VARIADIC $1::text[])", [arrayLiteral(names)], timeout: timeout)
  }
}
