/// Runs SQL for the event loop, on a thread of its own, so that no client waits for another one's statement.
///
/// The event loop does not know PostgreSQL: whoever starts it hands it a runner.
public protocol SQLRunner: Sendable {
  /// Begins a job and returns at once, from any thread. The outcome arrives exactly once, by
  /// `LoopMailbox.finished`; not at all only if the process is stopping.
  func submit(_ job: SQLJob)
}

/// One of the statements that a runner is made with.
public struct SQLStatement: Sendable, Hashable {
  /// What becomes of the rows of a load.
  public enum Shape: String, Sendable, CaseIterable {
    /// One value: one column as it is, several as a JSON object. No row is height 0; several rows are a failure.
    case string
    /// Every row's one column, in order.
    case list
    /// As `list`; the order means nothing.
    case set
    /// One row, whose columns are the fields.
    case hash
  }

  public enum Mode: Sendable, Hashable {
    /// Reads, in a transaction that PostgreSQL itself keeps from writing.
    case load(as: Shape)
    /// The same for several keys: its parameters are arrays, and its rows are given as they are.
    case loadMany
    /// Writes; committed when its outcome is a success.
    case write
  }

  /// One statement of SQL with `$1`, `$2`, … for the parameters.
  public var sql: String
  /// How many parameters it has.
  public var parameterCount: Int
  public var mode: Mode
  /// Nanoseconds that it may take, without its waiting for a connection; above 0.
  public var timeout: UInt64

  public init(sql: String, parameterCount: Int, mode: Mode, timeout: UInt64) {
    self.sql = sql
    self.parameterCount = parameterCount
    self.mode = mode
    self.timeout = timeout
  }
}

/// One run of a statement.
public struct SQLJob: Sendable {
  /// Names the job in its outcome; chosen by whoever submits it.
  public var id: UInt64
  /// Which statement: its place in the list that the runner was made with.
  public var statement: Int
  /// For `$1`, `$2`, … as text; nil is NULL. PostgreSQL gives each the type that its place asks for.
  public var parameters: [[UInt8]?]

  public init(id: UInt64, statement: Int, parameters: [[UInt8]?]) {
    self.id = id
    self.statement = statement
    self.parameters = parameters
  }
}

/// What became of a job.
public struct SQLOutcome: Sendable {
  public var id: UInt64
  public var result: Result<SQLRows, SQLFailure>
  /// Nanoseconds from its sending to the end of its answer; 0 if it was never sent.
  public var took: UInt64
  /// What a replica had replayed before it was asked, so that the rows hold every transaction up to there and
  /// nothing is known of later ones. Nil: it ran on a primary, or the runner was not told to ask.
  public var replayed: UInt64?
  /// The oids of the types that PostgreSQL has found for the parameters, which tell how it spells their values.
  public var types: [UInt32]

  public init(
    id: UInt64, result: Result<SQLRows, SQLFailure>, took: UInt64, replayed: UInt64? = nil,
    types: [UInt32] = []
  ) {
    self.id = id
    self.result = result
    self.took = took
    self.replayed = replayed
    self.types = types
  }
}

/// Rows as PostgreSQL prints them.
public struct SQLRows: Sendable, Hashable {
  public var columns: [String]
  /// How many rows there are.
  public var height: Int
  /// Row by row, `columns.count` for each; nil is NULL.
  public var values: [[UInt8]?]
  /// How many rows a write has changed; 0 for a load.
  public var affected: Int
  /// The id of the transaction that a write has committed, as the log names it; nil for a load, and for a write
  /// that changed no row: it is rolled back.
  public var transaction: UInt32?

  public init(
    columns: [String], height: Int, values: [[UInt8]?], affected: Int = 0, transaction: UInt32? = nil
  ) {
    precondition(values.count == columns.count * height)
    self.transaction = transaction
    self.columns = columns
    self.height = height
    self.values = values
    self.affected = affected
  }
}

/// Why a job has no rows.
public struct SQLFailure: Error, Sendable, Hashable {
  public enum Kind: Sendable, Hashable {
    /// PostgreSQL refused the statement, or its rows do not fit its mode.
    case statement
    /// No connection stands, or the one that ran it was lost.
    case unreachable
    /// It did not end within its time, or no connection became free within it.
    case timedOut
    /// Too many jobs wait already; this one was not begun.
    case overloaded
  }

  public var kind: Kind
  /// PostgreSQL's five characters, or those that it would use for what this process found out by itself.
  /// Source: PostgreSQL documentation, Appendix A, "PostgreSQL Error Codes".
  public var sqlState: String
  /// What happened, in a plain sentence with its full stop; never a row's value nor PostgreSQL's own text, which
  /// may quote one.
  public var sentence: String

  /// The code of a write that may or may not have happened: "transaction resolution unknown". Every other code
  /// means that it has not.
  public static let unknown = "08007"

  public init(kind: Kind, sqlState: String, sentence: String) {
    self.kind = kind
    self.sqlState = sqlState
    self.sentence = sentence
  }
}

extension SQLFailure {
  /// The sentence without line breaks, which would end a reply.
  var line: String { String(sentence.map { $0 == "\n" || $0 == "\r" || $0 == "\r\n" ? " " : $0 }) }

  /// What a client is told, with its code. `what`: "the load of this key".
  func reply(_ what: String) -> String {
    "\(kind == .overloaded ? "TRYAGAIN" : "ERR") Nearside: \(what) failed with SQLSTATE \(sqlState): \(line)"
  }
}
