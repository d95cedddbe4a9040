import Configuration

/// The connection on which what was written behind reaches PostgreSQL. It waits for each answer.
///
/// It also holds the lock by which a fleet agrees on who writes. PostgreSQL gives a session's lock away only when
/// its transaction is over too, so a host that was stopped, or cut off, can commit nothing once another one writes.
public struct WriteSession: ~Copyable {
  public struct Write: Sendable {
    /// Names its statement; the same number has the same text.
    public var statement: Int
    public var sql: String
    /// As text; nil is NULL.
    public var parameters: [[UInt8]?]

    public init(statement: Int, sql: String, parameters: [[UInt8]?]) {
      self.statement = statement
      self.sql = sql
      self.parameters = parameters
    }
  }

  public enum Outcome: Sendable {
    /// Committed; the log's end behind the commit.
    case written(upTo: UInt64?)
    /// Rolled back, because of this code; nil: a statement changed no row. The sentence holds no value.
    case refused(sqlState: String?, sentence: String)
  }

  private let connection: PostgresConnection
  private let timeout: UInt64
  private var prepared: Set<Int> = []

  /// Connects to the primary, with the loader's login. Waits for that.
  public init(_ settings: PostgresSettings) throws(PostgresError) {
    let loader = settings.loader
    let made = try PostgresConnection.connect(
      url: loader.isReplica ? settings.url : loader.url,
      password: loader.isReplica ? settings.password : loader.password, .writes)
    // A server notices by these that a host has vanished, and gives its lock to another.
    let facts = try made.run(
      """
      SELECT pg_catalog.pg_is_in_recovery(),
        pg_catalog.set_config('statement_timeout', '\(max(loader.timeout / 1_000_000, 1))', false),
        pg_catalog.set_config('idle_in_transaction_session_timeout',
          '\(max(loader.timeout / 1_000_000, 1) + 5000)', false),
        pg_catalog.set_config('tcp_keepalives_idle', '5', false),
        pg_catalog.set_config('tcp_keepalives_interval', '2', false),
        pg_catalog.set_config('tcp_keepalives_count', '3', false),
        pg_catalog.set_config('tcp_user_timeout', '10000', false)
      """, nil, .query)
    if facts.first?[0] == "t" {
      throw PostgresError(
        kind: .server, what: "The server is a replica, which takes no writes", place: made.place,
        fix: "Name the primary in postgres.url.")
    }
    if made.serverVersion >= 140_000 { _ = try made.run("SET idle_session_timeout = '20s'", nil, .query) }
    timeout = loader.timeout &+ 5_000_000_000
    connection = made
  }

  /// Database and server in words, without a secret.
  public var place: String { connection.place }

  /// Asks for the fleet's lock; false: another host has it.
  public func lock(_ namespace: String) throws(PostgresError) -> Bool {
    try connection.run(
      "SELECT pg_catalog.pg_try_advisory_lock(1851880552, pg_catalog.hashtext($1))", [namespace], .query
    ).first?[0] == "t"
  }

  /// To be called every few seconds: a session that is silent for much longer loses the lock, since its host may have
  /// been stopped. Throws if the connection is gone.
  public func probe() throws(PostgresError) { _ = try connection.run("SELECT 1", nil, .query) }

  /// Writes all of it in one transaction, or none.
  /// - Throws: the connection is of no further use, and whether the writes have happened is not known.
  public mutating func write(_ writes: [Write]) throws(PostgresError) -> Outcome {
    for write in writes where !prepared.contains(write.statement) {
      try connection.sendPrepare(Self.name(write.statement), write.sql)
      if case .refused(let refusal) = try receive() { return Self.outcome(refusal) }
      prepared.insert(write.statement)
    }
    _ = try connection.run("BEGIN", nil, .query)
    for write in writes {
      try connection.sendPrepared(Self.name(write.statement), write.parameters)
      switch try receive() {
      case .answer(let answer) where answer.affected > 0: continue
      case .answer, .end:
        _ = try connection.run("ROLLBACK", nil, .query)
        return .refused(sqlState: nil, sentence: "the statement changed no row")
      case .refused(let refusal):
        _ = try connection.run("ROLLBACK", nil, .query)
        // The plan may no longer fit what it reads.
        _ = try connection.run("DEALLOCATE ALL", nil, .query)
        prepared = []
        return Self.outcome(refusal)
      }
    }
    try connection.send("COMMIT", nil)
    if case .refused(let refusal) = try receive() { return Self.outcome(refusal) }
    let end = try? connection.run("SELECT pg_catalog.pg_current_wal_insert_lsn()", nil, .query)
    return .written(upTo: end?.first?[0].flatMap { Self.position($0) })
  }

  private static func name(_ statement: Int) -> String { "nearside_behind_\(statement)" }

  private static func outcome(_ refusal: PostgresConnection.Refusal) -> Outcome {
    .refused(
      sqlState: refusal.sqlState,
      sentence: StatementPool.Failure.condition(refusal.sqlState)
        + (refusal.culprit.map { " (\($0))" } ?? ""))
  }

  private static func position(_ text: String) -> UInt64? {
    let halves = text.split(separator: "/").compactMap { UInt64($0, radix: 16) }
    return halves.count == 2 ? halves[0] << 32 | halves[1] : nil
  }

  /// The last answer to the command under way, or its refusal.
  private func receive() throws(PostgresError) -> PostgresConnection.Reply {
    let deadline = monotonicNanoseconds() &+ timeout
    var last = PostgresConnection.Reply.end
    while true {
      try connection.waitUntilIdle(deadline)
      let reply = try connection.nextReply()
      switch reply {
      case .end:
        if connection.isLost { throw .lost("The connection was lost while it wrote", place: place) }
        return last
      case .refused: last = reply
      case .answer: if case .refused = last {} else { last = reply }
      }
    }
  }
}
