extension StatementPool {
  /// One connection and the job that it runs.
  final class Session {
    /// How much longer than a statement's own time the server may stay silent, in nanoseconds, before the
    /// connection is closed: it cancels the statement itself, and says so.
    static let grace: UInt64 = 1_000_000_000

    enum Progress {
      case nothing
      case done(Result<Rows, Failure>)
      /// The connection is gone, and with it the job under way.
      case lost(PostgresConnection.Refusal?)
    }

    let connection: PostgresConnection
    private(set) var script: Script
    private(set) var job: Job?
    /// When the job under way was sent, and when its connection is given up.
    private(set) var sent: UInt64 = 0
    private(set) var deadline = UInt64.max
    /// Bytes wait for the descriptor to become writable.
    private(set) var wantsToWrite = false
    /// When it was made.
    let since: UInt64

    private var answer = PostgresConnection.Answer()
    private var refusal: PostgresConnection.Refusal?

    init(_ connection: consuming PostgresConnection, _ script: Script, since: UInt64) {
      self.connection = connection
      self.script = script
      self.since = since
    }

    func begin(_ job: Job, _ statement: Statement, form: Form?, now: UInt64) -> Progress {
      self.job = job
      sent = now
      deadline = now &+ statement.timeout &+ Self.grace
      let first = script.begin(job.statement, statement, form: form)
      do throws(PostgresError) {
        try send(first)
        wantsToWrite = try connection.flush()
        return .nothing
      } catch {
        return .lost(nil)
      }
    }

    /// Forgets the job, whose outcome is known.
    func clear() {
      job = nil
      deadline = .max
    }

    /// Moves bytes in both directions, and on to the next command, as far as that goes without waiting.
    func advance() -> Progress {
      do throws(PostgresError) {
        try connection.consume()
        wantsToWrite = try connection.flush()
        while job != nil, !connection.isBusy {
          switch try connection.nextReply() {
          case .answer(let answer): self.answer = answer
          case .refused(let refusal): self.refusal = refusal
          case .end:
            if connection.isLost { return .lost(refusal) }
            if let result = try commandEnded() { return .done(result) }
            wantsToWrite = try connection.flush()
          }
        }
        return .nothing
      } catch {
        return .lost(refusal)
      }
    }

    private func commandEnded() throws(PostgresError) -> Result<Rows, Failure>? {
      let next: Script.Next
      if let refusal {
        next = script.refused(refusal)
      } else {
        let answer = answer
        // Before the script looks at them: rows are not copied while two hold them.
        self.answer = PostgresConnection.Answer()
        next = script.answered(answer)
      }
      refusal = nil
      switch next {
      case .done(let result): return result
      case .send(let command):
        try send(command)
        return nil
      }
    }

    private func send(_ command: Script.Command) throws(PostgresError) {
      switch command {
      case .setTimeout(let milliseconds): try connection.send("SET statement_timeout = \(milliseconds)", nil)
      case .parse(let sql): try connection.sendPrepare("", sql)
      case .describe: try connection.sendDescribe("")
      case .deallocate(let name): try connection.send("DEALLOCATE \(name)", nil)
      case .prepare(let name, let sql): try connection.sendPrepare(name, sql)
      case .askReplayed:
        // A server that has been promoted still knows how far it had replayed, which says nothing any more.
        try connection.send(
          "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() END", nil)
      case .begin(let milliseconds):
        try connection.send(
          "BEGIN; SET LOCAL idle_in_transaction_session_timeout = \(milliseconds); "
            + "SELECT pg_catalog.pg_current_xact_id()", nil)
      case .commit: try connection.send("COMMIT", nil)
      case .rollback: try connection.send("ROLLBACK", nil)
      case .execute(let name): try connection.sendPrepared(name, job?.parameters ?? [])
      }
    }
  }
}
