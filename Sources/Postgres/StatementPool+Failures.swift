extension StatementPool.Failure {
  /// What the server refused. Its own text may quote a row's value, so the code and its meaning stand for it.
  init(_ refusal: PostgresConnection.Refusal) {
    let state = refusal.sqlState
    let culprit = refusal.culprit.map { " (\($0))" } ?? ""
    let position = refusal.position.map { " at character \($0) of the statement" } ?? ""
    let meaning = Self.condition(state)
    sqlState = state
    switch state {
    case "57014":
      kind = .timedOut
      sentence =
        "PostgreSQL cancelled the statement: it took too long, or somebody ended it (SQLSTATE 57014)."
    case _ where Self.meansGone(state):
      kind = .unreachable
      sentence = "PostgreSQL ended the connection: \(meaning) (SQLSTATE \(state))."
    case "25006":
      kind = .statement
      sentence =
        "PostgreSQL refused the statement: it writes, but a load may only read (SQLSTATE 25006). "
        + "Put it into `write`."
    default:
      kind = .statement
      sentence = "PostgreSQL refused the statement: \(meaning)\(culprit)\(position) (SQLSTATE \(state))."
    }
  }

  /// The connection ended before the answer was complete.
  static func lost(writes: Bool) -> Self {
    writes
      ? Self(
        kind: .unreachable, sqlState: "08007",
        sentence: "The connection to PostgreSQL was lost while it wrote; whether it did is not known.")
      : Self(
        kind: .unreachable, sqlState: "08006",
        sentence: "The connection to PostgreSQL was lost before it had answered.")
  }

  /// The server has not even cancelled the statement in time.
  static func silent(writes: Bool) -> Self {
    writes
      ? Self(
        kind: .timedOut, sqlState: "08007",
        sentence: "PostgreSQL did not answer in time while it wrote; whether it did is not known.")
      : Self(
        kind: .timedOut, sqlState: "57014",
        sentence: "PostgreSQL did not answer in time, and its connection was closed.")
  }

  static let waitedTooLong = Self(
    kind: .timedOut, sqlState: "57014",
    sentence: "All connections to PostgreSQL were busy for as long as the statement may take; "
      + "it was not sent. Raise postgres.loader.connections if that happens often.")

  static func overloaded(_ limit: Int) -> Self {
    Self(
      kind: .overloaded, sqlState: "53000",
      sentence: "\(limit) statements wait for a connection to PostgreSQL already; this one was not sent.")
  }

  /// - Parameter trouble: why the last attempt to connect has failed, without a full stop.
  static func unreachable(_ trouble: String?) -> Self {
    Self(
      kind: .unreachable, sqlState: "08001",
      sentence: "There is no connection to PostgreSQL" + (trouble.map { ": \($0)." } ?? " yet."))
  }

  static let zeroByte = Self(
    kind: .statement, sqlState: "22021",
    sentence: "A parameter has a zero byte, which no text in PostgreSQL can have; nothing was sent.")

  static func wrongCount(given: Int, wanted: Int) -> Self {
    Self(
      kind: .statement, sqlState: "42P02",
      sentence: "The statement has \(wanted) parameters in PostgreSQL's eyes, and \(given) were given.")
  }

  static let noColumns = Self(
    kind: .statement, sqlState: "42601",
    sentence: "The statement gives no rows, so there is nothing to load; it has to be a SELECT.")

  static func manyColumns(_ count: Int) -> Self {
    Self(
      kind: .statement, sqlState: "42601",
      sentence: "A list or a set takes one column, and the statement gives \(count).")
  }

  static let manyValues = Self(
    kind: .statement, sqlState: "21000",
    sentence: "The statement gave more than one row for one value. Collect them with jsonb_agg, add LIMIT 1, "
      + "or load a list or a set.")

  static let manyHashes = Self(
    kind: .statement, sqlState: "21000",
    sentence: "The statement gave more than one row for one hash. Add LIMIT 1, or name the row by its key.")

  static let unstable = Self(
    kind: .statement, sqlState: "0A000",
    sentence: "The statement's columns keep changing while it is prepared; nothing was loaded.")

  // MARK: Codes in words

  /// Whether the server goes away, or the way to it is broken. 08P01 is a misuse of the protocol by a statement.
  public static func meansGone(_ state: String) -> Bool {
    state.hasPrefix("57P") || state.hasPrefix("08") && state != "08P01" || state.hasPrefix("58")
      || state == "53300" || state == "25P03"
  }

  /// Source: PostgreSQL documentation, Appendix A, "PostgreSQL Error Codes": the condition's name for the codes
  /// that statements of applications meet, otherwise that of its class.
  static func condition(_ state: String) -> String {
    conditions[state] ?? classes[String(state.prefix(2))] ?? "an error"
  }

  private static let conditions = [
    "08P01": "protocol violation", "0A000": "feature not supported", "21000": "cardinality violation",
    "22001": "string data right truncation", "22003": "numeric value out of range",
    "22007": "invalid datetime format", "22008": "datetime field overflow", "22012": "division by zero",
    "22021": "character not in repertoire", "22023": "invalid parameter value",
    "22030": "duplicate JSON object key", "22032": "invalid JSON text",
    "22P02": "invalid text representation", "22P05": "untranslatable character",
    "23001": "restrict violation", "23502": "not null violation", "23503": "foreign key violation",
    "23505": "unique violation", "23514": "check violation", "23P01": "exclusion violation",
    "25006": "read only SQL transaction", "26000": "invalid SQL statement name",
    "40001": "serialization failure", "40P01": "deadlock detected", "42501": "insufficient privilege",
    "42601": "syntax error", "42602": "invalid name", "42611": "invalid column definition",
    "42702": "ambiguous column", "42703": "undefined column", "42704": "undefined object",
    "42725": "ambiguous function", "42803": "grouping error", "42804": "datatype mismatch",
    "42846": "cannot coerce", "42883": "undefined function", "42P01": "undefined table",
    "42P02": "undefined parameter", "42P10": "invalid column reference", "42P18": "indeterminate datatype",
    "428C9": "generated always", "3F000": "invalid schema name", "53100": "disk full",
    "53200": "out of memory", "53300": "too many connections", "53400": "configuration limit exceeded",
    "54000": "program limit exceeded", "54001": "statement too complex",
    "55000": "object not in prerequisite state",
    "55006": "object in use", "55P03": "lock not available", "57014": "query cancelled",
    "57P01": "admin shutdown", "57P02": "crash shutdown", "57P03": "cannot connect now",
    "57P04": "database dropped", "57P05": "idle session timeout", "P0001": "raised exception",
    "P0002": "no data found", "P0003": "too many rows", "P0004": "assert failure", "XX000": "internal error",
  ]

  private static let classes = [
    "08": "connection exception", "09": "triggered action exception", "0A": "feature not supported",
    "0L": "invalid grantor", "0P": "invalid role specification", "20": "case not found",
    "21": "cardinality violation", "22": "data exception", "23": "integrity constraint violation",
    "24": "invalid cursor state", "25": "invalid transaction state", "26": "invalid SQL statement name",
    "28": "invalid authorization specification", "2F": "SQL routine exception",
    "38": "external routine exception", "39": "external routine invocation exception",
    "3D": "invalid catalog name", "3F": "invalid schema name", "40": "transaction rollback",
    "42": "syntax error or access rule violation", "44": "with check option violation",
    "53": "insufficient resources", "54": "program limit exceeded",
    "55": "object not in prerequisite state", "57": "operator intervention", "58": "system error",
    "F0": "configuration file error", "HV": "foreign data wrapper error", "P0": "PL/pgSQL error",
    "XX": "internal error",
  ]
}
