import Configuration

/// A connection for SQL, used either way: `query` sends and waits; `send`, `consume` and `result` serve an
/// event loop that must not wait. One statement is under way at a time.
///
/// What the session prints does not depend on the server's settings: datestyle, intervalstyle, timezone,
/// extra_float_digits, bytea_output and client_encoding are pinned, and search_path is `pg_catalog`, so that
/// tables are named with their schemas.
public struct SQLSession: ~Copyable {
  let connection: PostgresConnection
  private var underWay = false
  private var answer = Rows.none

  /// Connects; blocks for at most `connect_timeout` (5 s by default) for each host.
  public init(_ settings: PostgresSettings) throws(PostgresError) {
    connection = try PostgresConnection.connect(settings, .sql)
  }

  /// For example 150004 for 15.4.
  public var serverVersion: Int { Int(connection.serverVersion) }
  public var backendPID: Int32 { connection.backendPID }
  /// Database and server in words, without a secret.
  public var place: String { connection.place }

  /// Runs one statement and waits for its rows.
  ///
  /// - Parameters:
  ///   - parameters: for `$1`, `$2`, … as text; nil is NULL.
  ///   - timeout: nanoseconds; a session that ran out of them is of no further use.
  public func query(
    _ sql: String, _ parameters: [String?] = [], timeout: UInt64 = 30_000_000_000
  ) throws(PostgresError) -> Rows {
    precondition(!underWay, "a statement is under way")
    return try connection.run(sql, parameters, .query, timeout: timeout)
  }

  /// The descriptor to poll while a statement is under way.
  public var descriptor: Int32 { connection.descriptor }
  /// Whether a statement is under way.
  public var isBusy: Bool { underWay }

  /// Sends one statement. When this returns true, bytes wait for the descriptor to become writable; call
  /// `consume` then.
  @discardableResult
  public mutating func send(_ sql: String, _ parameters: [String?] = []) throws(PostgresError) -> Bool {
    precondition(!underWay, "a statement is under way")
    try connection.send(sql, parameters)
    underWay = true
    answer = .none
    return try connection.flush()
  }

  /// Moves bytes in both directions without waiting; called when the descriptor is ready. True as `send`.
  @discardableResult
  public mutating func consume() throws(PostgresError) -> Bool {
    try connection.consume()
    return try connection.flush()
  }

  /// The rows of the statement under way, once they are all there; nil until then. An error of the statement
  /// leaves the session usable, unless it is `connectionLost`.
  public mutating func result() throws(PostgresError) -> Rows? {
    while underWay, !connection.isBusy {
      do throws(PostgresError) {
        switch try connection.step(.query) {
        case .rows(let rows): answer = rows
        case .end, .copyBoth:
          underWay = false
          return answer
        }
      } catch {
        underWay = false
        connection.discardAnswer()
        throw error
      }
    }
    return nil
  }
}
