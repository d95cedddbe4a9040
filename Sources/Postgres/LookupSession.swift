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
  /// Names for statements that are prepared again.
  private var serial: Int

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
        try Self.prepare(lookup, "nearside_\(index)", tables[lookup.table], plan.keyPrefix, session))
    }
    lookups = plan.lookups
    keyPrefix = plan.keyPrefix
    self.tables = tables
    serial = made.count
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
    case refused(String)
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

  /// Sends a run. A lookup that is not prepared is prepared again first. True as `SQLSession.send`.
  public mutating func send(_ run: LookupRun) throws(PostgresError) -> Bool {
    if case .refused = prepared[run.lookup] {
      let lookup = lookups[run.lookup]
      serial += 1
      prepared[run.lookup] = try Self.prepare(
        lookup, "nearside_\(serial)", tables[lookup.table], keyPrefix, sql)
    }
    self.run = run
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
      // The query may be right again after a change of its tables, and is then planned anew.
      prepared[run.lookup] = .refused(error.description)
      return (run, .failed(error.description))
    }
  }
}
