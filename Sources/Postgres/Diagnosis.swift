/// What was being done when the server reported an error; the same error code means different things.
enum Operation {
  case connecting(ConnectionParameters.Purpose)
  case query
  case creatingSlot(String)
  case droppingSlot(String)
  case startingStream(slot: String)
  case streaming(publication: String)
}

extension PostgresError {
  /// Turns a failed attempt to connect into a sentence. libpq offers no error code for it, only text.
  ///
  /// The texts are the server's of versions 10 to 18, in English. A server that speaks another language
  /// gets a sentence with its own words in it.
  static func connecting(_ text: String, purpose: ConnectionParameters.Purpose, place: String) -> Self {
    let reason = connectReason(text)
    let lower = reason.lowercasedASCII
    func error(_ kind: Kind, _ what: String, _ fix: String) -> Self {
      PostgresError(kind: kind, what: what, place: place, fix: fix)
    }
    if lower.contains("unsupported startup parameter") {
      return error(
        .pooler, "A connection pooler such as PgBouncer stands before PostgreSQL and refuses the connection",
        "Point \(purpose.setting) at the PostgreSQL server itself: Nearside needs a direct connection.")
    }
    if lower.contains("pg_hba.conf") {
      return error(
        .noHostLine, "PostgreSQL has no pg_hba.conf line for this role, database and address",
        "Add one to pg_hba.conf that names the database (logical replication does not use the word "
          + "`replication` there), and reload the server: \(reason).")
    }
    if lower.contains("replication role to start walsender") || lower.contains("to start wal sender") {
      return error(
        .noReplicationRight, "The role has no right to replicate",
        "As a superuser, run ALTER ROLE … REPLICATION for the sidecar's role.")
    }
    if lower.contains("max_wal_senders") {
      return error(
        .walSendersExhausted, "All of PostgreSQL's walsenders are used",
        "Raise max_wal_senders and restart PostgreSQL, or stop a replication client that is not needed.")
    }
    if lower.contains("too many clients") || lower.contains("remaining connection slots")
      || lower.contains("too many connections")
    {
      return error(
        .connectionsExhausted, "PostgreSQL takes no more connections: \(reason)",
        "Raise max_connections or the limit of the role or database, or close connections.")
    }
    if lower.contains("the database system is") {
      return error(
        .unreachable, "PostgreSQL takes no connections now: \(reason)", "Wait until it does, or see its log.")
    }
    if lower.contains("authentication failed") || lower.contains("no password supplied")
      || lower.contains("does not exist") && lower.contains("fatal")
      || lower.contains("permission denied for database") || lower.contains("is not permitted to log in")
    {
      return error(
        .authentication, "PostgreSQL refused the login: \(reason)",
        "Check role, password and database in \(purpose.setting), or the PG* variables.")
    }
    if lower.contains("fatal:") {
      return error(
        .server, "PostgreSQL refused the connection: \(reason)",
        "Check \(purpose.setting) and the server's log.")
    }
    return error(
      .unreachable, "PostgreSQL cannot be reached: \(reason)",
      "Start the server, or correct host and port in \(purpose.setting).")
  }

  /// Turns an error result into a sentence.
  ///
  /// Parameters: `message`, the primary message, in the server's language.
  static func reported(
    sqlState: String, message: String, during operation: Operation, place: String
  ) -> Self {
    func error(_ kind: Kind, _ what: String, _ fix: String? = nil) -> Self {
      PostgresError(kind: kind, sqlState: sqlState, what: what, place: place, fix: fix)
    }
    // The names of settings are the same in every language.
    if sqlState == "55000", message.contains("wal_level") {
      return error(
        .wrongWalLevel, "PostgreSQL does not write what logical replication needs into its log",
        "Run ALTER SYSTEM SET wal_level = 'logical' and restart PostgreSQL.")
    }
    switch (operation, sqlState) {
    case (.creatingSlot, "53400"):
      return error(
        .slotsExhausted, "All of PostgreSQL's replication slots are used",
        "Raise max_replication_slots and restart PostgreSQL, or drop a slot that nobody needs "
          + "(SELECT * FROM pg_replication_slots).")
    case (.creatingSlot(let slot), "42710"):
      return error(
        .slotExists, "Replication slot \(slot) exists already",
        "Choose another postgres.slot.name, or drop the slot.")
    case (.startingStream(let slot), "55006"), (.droppingSlot(let slot), "55006"):
      let pid = lastNumber(in: message)
      return error(
        .slotActive(pid: pid),
        "Replication slot \(slot) is in use by " + (pid.map { "process \($0) of the server" } ?? "another"),
        "If that is not another sidecar of this fleet, choose another postgres.slot.name.")
    case (.startingStream(let slot), "42704"), (.droppingSlot(let slot), "42704"):
      return error(
        .slotMissing, "Replication slot \(slot) does not exist", "Run nearside setup, which creates it.")
    case (.startingStream, "55000") where saysLost(message), (.streaming, "55000") where saysLost(message):
      return error(
        .slotLost, "The server has removed log that the replication slot still needed: \(message)",
        "The slot has to be dropped and created anew"
          + "; raise max_slot_wal_keep_size if it happens often.")
    case (.streaming(let publication), "42704"):
      return error(
        .publicationMissing, "Publication \(publication) does not exist",
        "Run nearside setup. A slot that is older than its publication must be created anew.")
    case (.creatingSlot, "42501"), (.startingStream, "42501"), (.droppingSlot, "42501"):
      return error(
        .noReplicationRight, "The role has no right to replicate",
        "As a superuser, run ALTER ROLE … REPLICATION for the sidecar's role.")
    default:
      // Data exceptions, violated constraints and what functions raise may repeat a row's values.
      if ["22", "23", "P0"].contains(String(sqlState.prefix(2))) {
        return error(
          .server, "PostgreSQL reported error \(sqlState); its text may hold data and is not shown")
      }
      return error(.server, "PostgreSQL reported: \(message) (\(sqlState))")
    }
  }

  static func lost(_ text: String, place: String) -> Self {
    PostgresError(
      kind: .connectionLost, what: "The connection to PostgreSQL was lost: \(firstLine(text))", place: place)
  }

  private static func saysLost(_ message: String) -> Bool {
    let lower = message.lowercasedASCII
    return lower.contains("can no longer get changes") || lower.contains("cannot read from")
      || lower.contains("invalidated")
  }

  /// `connection to server at "db" (10.0.0.1), port 5432 failed: FATAL:  …` without what `place` says anyway.
  private static func connectReason(_ text: String) -> String {
    let line = firstLine(text)
    guard line.hasPrefix("connection to server"), let end = line.firstRange(of: " failed: ") else {
      return line
    }
    return String(line[end.upperBound...])
  }

  private static func firstLine(_ text: String) -> String {
    var line = String(text.split(separator: "\n").first ?? "no reason given")
    while line.last == "." || line.last == " " { line.removeLast() }
    return line
  }

  /// The last run of digits: `… is active for PID 4711`, in whatever language.
  private static func lastNumber(in text: String) -> Int32? {
    let digits = text.utf8.reversed().drop { !($0 >= 48 && $0 <= 57) }.prefix { $0 >= 48 && $0 <= 57 }
    return Int32(String(decoding: digits.reversed(), as: UTF8.self))
  }
}

extension String {
  fileprivate var lowercasedASCII: String {
    String(decoding: utf8.map { $0 >= 65 && $0 <= 90 ? $0 | 32 : $0 }, as: UTF8.self)
  }

  fileprivate func firstRange(of other: String) -> Range<String.Index>? { ranges(of: other).first }
}
