import Invalidation

extension StatementPool {
  /// What a job is loaded from: decided once for the whole pool, by what the server says of the statement.
  struct Form: Hashable, Sendable {
    /// Several columns for one value: PostgreSQL makes a JSON object of the row. Otherwise as it is written.
    var isJSON: Bool
    /// The oids of the types that the server has found for the parameters.
    var types: [UInt32]
  }

  /// What one connection says to its server, one command after the other: a value that takes answers and gives
  /// commands, without any I/O.
  ///
  /// How it works: 1. `begin` gives the first command of a job; 2. each answer goes to `answered` or `refused`, which
  /// give the next command or the job's result. What stays between jobs is what the session remembers: the
  /// statements that are prepared, and statement_timeout.
  struct Script {
    enum Command: Hashable {
      case setTimeout(milliseconds: UInt64)
      /// Parses the statement without a name, to be described.
      case parse(String)
      case describe
      case deallocate(String)
      case prepare(name: String, String)
      case askReplayed
      /// Begins the transaction of a write, and asks for its id.
      case begin(milliseconds: UInt64)
      case execute(name: String)
      case commit
      case rollback
    }

    enum Next {
      case send(Command)
      case done(Result<Rows, Failure>)
    }

    private struct Run {
      let index: Int
      let statement: Statement
      var form: Form?
      var command = Command.describe
      /// It was prepared for an earlier job, so what it was prepared for may have changed since.
      let isOld: Bool
      var isRenewed = false
      /// The server still has the old one by that name.
      var leftover = false
      var asked = false
      var replayed: UInt64?
      /// The id of the open transaction, without its epoch.
      var transaction: UInt32?
      /// What comes after ROLLBACK; nil: the statement is prepared anew and begun once more.
      var failure: Failure?
      /// What a write has given, before it is committed.
      var rows: Rows?
    }

    private let asksReplayed: Bool
    private var timeout: UInt64
    private var prepared: [Int: Form] = [:]
    private var run: Run?

    /// - Parameters:
    ///   - timeout: what statement_timeout the session began with, in milliseconds.
    ///   - asksReplayed: whether each job is to say what the server had replayed before.
    init(timeout: UInt64, asksReplayed: Bool) {
      self.timeout = timeout
      self.asksReplayed = asksReplayed
    }

    /// The form that the job under way has found or was given; nil while it is not known.
    var form: Form? { run?.form }
    var replayed: UInt64? { run?.replayed }

    /// - Parameter form: what another connection has found out.
    mutating func begin(_ index: Int, _ statement: Statement, form: Form?) -> Command {
      let known = prepared[index]
      run = Run(index: index, statement: statement, form: known ?? form, isOld: known != nil)
      return proceed()
    }

    /// Nanoseconds as the setting has them; it knows no fractions, and 0 would mean no limit.
    static func milliseconds(_ nanoseconds: UInt64) -> UInt64 {
      min(max(1, (nanoseconds &+ 999_999) / 1_000_000), UInt64(Int32.max))
    }

    /// The command whose turn it is.
    private mutating func proceed() -> Command {
      guard var run else { preconditionFailure("a command belongs to a job") }
      let name = "nearside_\(run.index)"
      let wanted = Self.milliseconds(run.statement.timeout)
      run.command =
        if timeout != wanted {
          .setTimeout(milliseconds: wanted)
        } else if prepared[run.index] != nil {
          if asksReplayed, !run.asked {
            .askReplayed
          } else if run.statement.shape == .any, run.transaction == nil {
            // A process that is stopped in between must not hold the row's lock for long.
            .begin(milliseconds: wanted + 1000)
          } else {
            .execute(name: name)
          }
        } else if run.leftover {
          .deallocate(name)
        } else if let form = run.form {
          .prepare(name: name, form.isJSON ? Self.wrapped(run.statement.sql) : run.statement.sql)
        } else {
          .parse(run.statement.sql)
        }
      self.run = run
      return run.command
    }

    /// A line break ends a comment at the end of the statement. With its star the row cannot be mistaken for a
    /// column of the same name.
    private static func wrapped(_ sql: String) -> String {
      "SELECT pg_catalog.row_to_json(\"nearside row\".*)::pg_catalog.text AS row "
        + "FROM (\(sql)\n) \"nearside row\""
    }

    mutating func answered(_ answer: PostgresConnection.Answer) -> Next {
      guard var run else { preconditionFailure("an answer belongs to a job") }
      switch run.command {
      case .setTimeout(let milliseconds): timeout = milliseconds
      case .parse:
        run.command = .describe
        self.run = run
        return .send(.describe)
      case .describe:
        let wanted = answer.parameterTypes.count
        guard wanted == run.statement.parameterCount else {
          return .done(.failure(.wrongCount(given: run.statement.parameterCount, wanted: wanted)))
        }
        switch Self.form(run.statement.shape, columns: answer.columns.count) {
        case .success(let isJSON): run.form = Form(isJSON: isJSON, types: answer.parameterTypes)
        case .failure(let failure): return .done(.failure(failure))
        }
      case .deallocate: run.leftover = false
      case .prepare: prepared[run.index] = run.form
      case .askReplayed:
        run.asked = true
        run.replayed = answer.values.first.flatMap { $0 }.flatMap {
          LSN(String(decoding: $0, as: UTF8.self))?.rawValue
        }
      case .execute:
        // Described before its tables changed, and prepared after.
        if run.statement.shape == .value, answer.columns.count > 1, prepareAnew(leftover: true) {
          return .send(proceed())
        }
        let result = Self.rows(answer, run.statement.shape)
        guard run.statement.shape == .any, case .success(let rows) = result else { return .done(result) }
        run.rows = rows
        // What changed no row is told to the client as not written, so nothing of it may stay: the statement may
        // have written elsewhere.
        run.command = rows.affected == 0 ? .rollback : .commit
        self.run = run
        return .send(run.command)
      case .begin:
        let id = answer.values.first.flatMap { $0 }.flatMap { UInt64(String(decoding: $0, as: UTF8.self)) }
        run.transaction = UInt32(truncatingIfNeeded: id ?? 0)
      case .commit:
        guard var rows = run.rows else { return .done(.failure(.unstable)) }
        rows.transaction = run.transaction
        return .done(.success(rows))
      case .rollback:
        if let failure = run.failure { return .done(.failure(failure)) }
        if let rows = run.rows { return .done(.success(rows)) }
        run.transaction = nil
      }
      self.run = run
      return .send(proceed())
    }

    mutating func refused(_ refusal: PostgresConnection.Refusal) -> Next {
      guard let run else { preconditionFailure("an answer belongs to a job") }
      // 0A000 is what a changed result type gives, among other things; 26000 a statement that somebody dropped.
      // Either is said before the statement begins, or undoes all of it, so that nothing runs twice.
      if case .execute = run.command, refusal.sqlState == "0A000" || refusal.sqlState == "26000",
        run.isOld, prepareAnew(leftover: refusal.sqlState == "0A000")
      {
        return .send(run.transaction == nil ? proceed() : rollback(nil))
      }
      switch run.command {
      // The rest of a command that began a transaction may have failed.
      case .begin: return .send(rollback(Failure(refusal)))
      case .execute where run.transaction != nil: return .send(rollback(Failure(refusal)))
      default: break
      }
      return .done(.failure(Failure(refusal)))
    }

    private mutating func rollback(_ failure: Failure?) -> Command {
      run?.failure = failure
      run?.command = .rollback
      return .rollback
    }

    /// Forgets what was prepared; false if this job has done so already.
    private mutating func prepareAnew(leftover: Bool) -> Bool {
      guard var run, !run.isRenewed else { return false }
      prepared[run.index] = nil
      run.isRenewed = true
      run.form = nil
      run.leftover = leftover
      self.run = run
      return true
    }

    /// Whether the row becomes a JSON object.
    private static func form(_ shape: Shape, columns: Int) -> Result<Bool, Failure> {
      switch shape {
      case .any: .success(false)
      case _ where columns == 0: .failure(.noColumns)
      case .value: .success(columns > 1)
      case .values: columns == 1 ? .success(false) : .failure(.manyColumns(columns))
      case .fields, .table: .success(false)
      }
    }

    private static func rows(_ answer: PostgresConnection.Answer, _ shape: Shape) -> Result<Rows, Failure> {
      var rows = Rows(
        columns: answer.columns, height: answer.height, values: answer.values, affected: 0)
      switch shape {
      case .any: rows.affected = answer.affected
      case .table: break
      case .value:
        if rows.height > 1 { return .failure(.manyValues) }
        guard rows.columns.count == 1 else { return .failure(.unstable) }
      case .fields:
        if rows.height > 1 { return .failure(.manyHashes) }
        guard rows.height == 1 else { break }
        rows.columns = zip(rows.columns, rows.values).filter { $1 != nil }.map { $0.0 }
        rows.values.removeAll { $0 == nil }
      case .values:
        guard rows.columns.count == 1 else { return .failure(.manyColumns(rows.columns.count)) }
        rows.values.removeAll { $0 == nil }
        rows.height = rows.values.count
      }
      return .success(rows)
    }
  }
}
