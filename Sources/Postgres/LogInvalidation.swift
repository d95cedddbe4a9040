import Invalidation

/// What SQL can name to be cleared: `nearside.invalidate` and `nearside.invalidate_tag` of `nearside setup`.
extension SQLSession {
  /// Clears these keys by the log, and every key under those of them that end in `*`. Returns once that is committed,
  /// with a position behind it; waits for both statements, at most `timeout` nanoseconds each.
  public func invalidate(keys: [String], timeout: UInt64) throws(PostgresError) -> LSN? {
    try invalidate("invalidate", keys, timeout)
  }

  /// The same for every key that has one of these tags.
  public func invalidate(tags: [String], timeout: UInt64) throws(PostgresError) -> LSN? {
    try invalidate("invalidate_tag", tags, timeout)
  }

  private func invalidate(_ function: String, _ names: [String], _ timeout: UInt64) throws(PostgresError)
    -> LSN?
  {
    _ = try query(
      "SELECT nearside.\(function)(VARIADIC $1::text[])", [arrayLiteral(names)], timeout: timeout)
    return try query("SELECT pg_current_wal_insert_lsn()", timeout: timeout).first?[0].flatMap { LSN($0) }
  }
}
