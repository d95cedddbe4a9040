extension StatementPool {
  /// What becomes of a statement's rows.
  public enum Shape: Hashable, Sendable {
    /// One row at most, of one value: a single column as it is, several as the JSON object that PostgreSQL makes of
    /// them. NULL stays NULL.
    case value
    /// One column; rows where it is NULL are left out.
    case values
    /// One row at most; columns that are NULL are left out.
    case fields
    /// Rows as they are.
    case table
    /// Whatever comes, for statements that write.
    case any
  }

  public struct Statement: Sendable {
    /// With `$1`, `$2`, … for the parameters.
    public var sql: String
    public var parameterCount: Int
    public var shape: Shape
    /// Nanoseconds that one run may take, and as many again that it may wait for a connection.
    public var timeout: UInt64

    public init(sql: String, parameterCount: Int, shape: Shape, timeout: UInt64) {
      self.sql = sql
      self.parameterCount = parameterCount
      self.shape = shape
      self.timeout = timeout
    }
  }

  public struct Job: Sendable {
    /// Names the job in its completion.
    public var id: UInt64
    /// Its place in the pool's list of statements.
    public var statement: Int
    /// As text; nil is NULL.
    public var parameters: [[UInt8]?]

    public init(id: UInt64, statement: Int, parameters: [[UInt8]?]) {
      self.id = id
      self.statement = statement
      self.parameters = parameters
    }
  }

  public struct Rows: Hashable, Sendable {
    public var columns: [String]
    public var height: Int
    /// Row by row; nil is NULL.
    public var values: [[UInt8]?]
    /// How many rows a write has changed.
    public var affected: Int
    /// The id of the transaction that a write has committed, as the log names it; nil for a load, and for a write
    /// that changed no row: it is rolled back.
    public var transaction: UInt32?
  }

  public struct Failure: Error, Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
      /// Refused by PostgreSQL, or its rows do not have the statement's shape.
      case statement
      /// No connection stands, or the one that ran it was lost.
      case unreachable
      case timedOut
      /// Too many jobs wait.
      case overloaded
    }

    public var kind: Kind
    public var sqlState: String
    /// A sentence with its full stop, without any text of the server's.
    public var sentence: String
  }

  public struct Completion: Sendable {
    public var id: UInt64
    public var result: Result<Rows, Failure>
    /// Nanoseconds from its first byte sent to the end of its answer; 0 if nothing was sent.
    public var took: UInt64
    /// What a standby had replayed before the statement began; nil if it was not asked or is none.
    public var replayed: UInt64?
    /// The oids of the types that PostgreSQL has found for the parameters; empty where the statement was never
    /// prepared.
    public var types: [UInt32] = []
  }

  /// What the pool is for.
  public enum Access: Hashable, Sendable {
    /// Statements that PostgreSQL keeps from writing. Of a replica each job first asks how far it has replayed; a
    /// server that is a replica without being announced as one is refused, since its rows may be older than what
    /// the log has told.
    case reads(replica: Bool)
    case writes
  }
}
