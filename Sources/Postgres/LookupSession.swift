import Configuration
import Invalidation

/// The tail's connection for lookups: read-only, with the search path of its role, and without waiting.
///
/// It is not the connection of the tail's own questions, which must not wait for a query of the user's. The login is
/// that of `postgres.loader`, if that is the primary: a standby may be behind the transaction that asks.
public struct LookupSession: ~Copyable {
  private var sql: SQLSession
  private let lookups: [Lookup]
  private let tables: [TableName]
  private let keyPrefix: String
  private var prepared: [Prepared]
  private var run: LookupRun?
  /// For each lookup the instant before which it is not prepared again, in nanoseconds since boot.
  private var rests: [UInt64]

  /// Connects and prepares what can be prepared; waits for that.
  public init(
    _ settings: PostgresSettings, plan: KeyPlan
  ) throws(PostgresError) {
    var settings = settings
    let timeout = max(settings.loader.timeout / 1_000_000, 1)
    if !settings.loader.isReplica {
      settings.url = settings.loader.url
      settings.password = settings.loader.password
    }
    let session = try SQLSession(settings)
    // The start packet pins the search path for the tail's own questions.
    _ = try session.query(
      """
      SELECT set_config('search_path', coalesce((
          SELECT substr(c, 13) FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) AS c
          WHERE c LIKE 'search\\_path=%'
            AND s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
            AND s.setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user))
          ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1), '"$user", public'), false),
        set_config('default_transaction_read_only', 'on', false),
        set_config('statement_timeout', $1, false),
        -- Preparing waits, and so must not wait long for whoever changes a table.
        set_config('lock_timeout', '500', false)
      """, [String(timeout)])
    let tables = plan.tables.map { TableName(schema: $0.schema, name: $0.name) }
    var made: [Prepared] = []
    for (index, lookup) in plan.lookups.enumerated() {
      made.append(
        try Self.prepare(lookup, Self.name(index), tables[lookup.table], plan.keyPrefix, session))
    }
    lookups = plan.lookups
    keyPrefix = plan.keyPrefix
    self.tables = tables
    rests = made.map { _ in 0 }
    prepared = made
    sql = session
  }

  /// Tries every lookup, and keeps nothing: for each that cannot be prepared why, in the order of the plan.
  public static func problems(
    _ settings: PostgresSettings, plan: KeyPlan
  ) throws(PostgresError) -> [(lookup: Lookup, error: String)] {
    guard !plan.lookups.isEmpty else { return [] }
    let session = try LookupSession(settings, plan: plan)
    var found: [(lookup: Lookup, error: String)] = []
    for (lookup, prepared) in zip(plan.lookups, session.prepared) {
      if case .refused(let sentence) = prepared { found.append((lookup, sentence)) }
    }
    return found
  }

  /// A prepared lookup, or why there is none, as a sentence.
  private enum Prepared {
    case statement(LookupStatement)
    /// When it was prepared, or, as its tables have changed since, when it ran.
    case refused(String)
  }

  /// What the session calls the lookup of this index.
  private static func name(_ index: Int) -> String { "nearside_\(index)" }

  /// What the session knows by this name it knows no more. It may know nothing, or a lookup that was refused later.
  private static func forget(_ name: String, _ session: borrowing SQLSession) throws(PostgresError) {
    let known = try session.query(
      "SELECT 1 FROM pg_catalog.pg_prepared_statements WHERE name = $1", [name])
    if !known.isEmpty { _ = try session.query("DEALLOCATE \(name)") }
  }

  private static func prepare(
    _ lookup: Lookup, _ name: String, _ table: TableName, _ keyPrefix: String, _ session: borrowing SQLSession
  ) throws(PostgresError) -> Prepared {
    do throws(LookupError) {
      return .statement(
        try LookupStatement(lookup, name: name, table: table, keyPrefix: keyPrefix, session))
    } catch {
      if case .refused(let error) = error, error.kind == .connectionLost || error.kind == .timedOut {
        throw error
      }
      return .refused(error.sentence)
    }
  }

  public var descriptor: Int32 { sql.descriptor }
  public var isBusy: Bool { run != nil }

  public enum Answer {
    case found([LookupKey], Snapshot)
    /// Why not, as a sentence.
    case failed(String)
  }

  /// How long a lookup that was prepared again, or could not be, is not prepared once more, in nanoseconds: preparing
  /// waits, for as long as `lock_timeout` for whoever changes a table.
  static let rest: UInt64 = 5_000_000_000

  /// Sends a run. A lookup that is not prepared is prepared again first, and that is waited for, but not often.
  /// True as `SQLSession.send`.
  ///
  /// - Parameter now: nanoseconds since boot.
  public mutating func send(_ run: LookupRun, now: UInt64) throws(PostgresError) -> Bool {
    self.run = run
    switch prepared[run.lookup] {
    case .statement: break
    case .refused where now < rests[run.lookup]: return false
    case .refused:
      let lookup = lookups[run.lookup]
      let name = Self.name(run.lookup)
      try Self.forget(name, sql)
      prepared[run.lookup] = try Self.prepare(lookup, name, tables[lookup.table], keyPrefix, sql)
      rests[run.lookup] = now + Self.rest
    }
    guard case .statement(let statement) = prepared[run.lookup] else { return false }
    return try sql.send(statement.text(run))
  }

  /// Moves bytes in both directions. True as `SQLSession.send`.
  public mutating func consume() throws(PostgresError) -> Bool {
    guard sql.isBusy else { return false }
    return try sql.consume()
  }

  /// The answer of the run under way, once it is there. An error is thrown if the connection is gone.
  public mutating func answer() throws(PostgresError) -> (run: LookupRun, answer: Answer)? {
    guard let run else { return nil }
    let statement: LookupStatement
    switch prepared[run.lookup] {
    case .statement(let made): statement = made
    case .refused(let sentence):
      self.run = nil
      return (run, .failed(sentence))
    }
    do throws(PostgresError) {
      guard let rows = try sql.result() else { return nil }
      self.run = nil
      guard let (keys, snapshot) = statement.keys(rows) else {
        return (
          run, .failed("It finds more than \(LookupStatement.mostRows) keys at once, or too long ones.")
        )
      }
      return (run, .found(keys, snapshot))
    } catch {
      if error.kind == .connectionLost { throw error }
      self.run = nil
      if Self.isOutdated(error) { prepared[run.lookup] = .refused(error.description) }
      return (run, .failed(error.description))
    }
  }

  /// Whether the statement is to be planned anew: what it names has changed (class 42), or its result's columns have
  /// (0A000). Source: PostgreSQL documentation, appendix A, and plancache.c, "cached plan must not change result type".
  private static func isOutdated(_ error: PostgresError) -> Bool {
    guard let state = error.sqlState else { return false }
    return state.hasPrefix("42") || state == "0A000"
  }
}
