import CLibPQ
import Configuration
import Glibc

/// What is handed to libpq: the user's connection string, what we need for ourselves, and defaults.
///
/// Source: PostgreSQL documentation, 34.1.2 "Parameter Key Words".
struct ConnectionParameters {
  enum Purpose: Hashable, Sendable {
    case sql
    /// A walsender of one database, which also understands SQL in the simple query protocol.
    case replication
    /// The statements of applications that only read, on a standby or not.
    case loads(replica: Bool)
    /// The statements of applications that write.
    case writes

    /// The setting that names the server, for messages.
    var setting: String {
      switch self {
      case .sql, .replication: "postgres.url"
      case .loads: "postgres.loader.url"
      case .writes: "postgres.url or postgres.loader.url"
      }
    }
  }

  private(set) var pairs: [(keyword: String, value: String)] = []

  /// What a key or a check must not depend on, whatever the server's, database's or role's defaults are.
  /// Options of the start packet outrank all of those.
  private static let pinned = [
    "datestyle=ISO", "intervalstyle=postgres", "timezone=UTC", "extra_float_digits=1", "bytea_output=hex",
    "client_encoding=UTF8",
  ]

  /// What this process writes (the canary, and messages that push the log) is for itself: it must not wait for
  /// replicas, least of all when the commits that it looks after do.
  private static let sqlOnly = ["search_path=pg_catalog", "synchronous_commit=local"]

  /// Applications' statements name tables as applications do, so their search_path is the role's. So is
  /// synchronous_commit: a write counts as committed when the application would say so.
  private static func own(_ purpose: Purpose) -> [String] {
    switch purpose {
    case .sql: pinned + sqlOnly
    case .replication: pinned + ["wal_sender_timeout=5s"]
    case .loads: pinned + ["default_transaction_read_only=on"]
    case .writes: pinned
    }
  }

  /// - Throws: `badConnectionString`. The string is never quoted: libpq's own message would repeat the part
  ///   of a badly encoded password that it took for a port or an option.
  init(
    url: Secret, password: Secret?, purpose: Purpose,
    environment: (String) -> String? = { getenv($0).map { String(cString: $0) } }
  ) throws(PostgresError) {
    var given = try Self.parse(url.exposed)
    if let password { given["password"] = password.exposed }

    let own = Self.own(purpose).map { "-c " + $0 }.joined(separator: " ")
    // The user's options come first, so that ours have the last word.
    let others = given["options"] ?? environment("PGOPTIONS") ?? ""
    given["options"] = others.isEmpty ? own : others + " " + own
    // libpq puts PGCLIENTENCODING into the start packet behind `options`, unless this keyword is given.
    given["client_encoding"] = "UTF8"
    given["replication"] = purpose == .replication ? "database" : nil

    var defaults = [
      "fallback_application_name": Self.applicationName(purpose), "keepalives": "1", "keepalives_idle": "5",
      "keepalives_interval": "2", "keepalives_count": "3",
      // Milliseconds that sent data may stay unacknowledged: a host that has died is noticed.
      "tcp_user_timeout": "8000",
    ]
    if environment("PGCONNECT_TIMEOUT") == nil { defaults["connect_timeout"] = "5" }
    if given["host"]?.contains(",") == true || given["hostaddr"]?.contains(",") == true,
      environment("PGTARGETSESSIONATTRS") == nil
    {
      defaults["target_session_attrs"] = purpose == .loads(replica: true) ? "prefer-standby" : "primary"
    }
    given.merge(defaults) { user, _ in user }
    pairs = given.sorted { $0.key < $1.key }.map { (keyword: $0.key, value: $0.value) }
  }

  private static func applicationName(_ purpose: Purpose) -> String {
    switch purpose {
    case .sql, .replication: "nearside"
    case .loads: "nearside loader"
    case .writes: "nearside writer"
    }
  }

  subscript(keyword: String) -> String? { pairs.first { $0.keyword == keyword }?.value }

  private static func parse(_ text: String) throws(PostgresError) -> [String: String] {
    let unreadable = PostgresError(
      kind: .badConnectionString, what: "The connection string of PostgreSQL cannot be read", place: "",
      fix: "It has the form postgresql://role:password@host:port/database, where special characters of the "
        + "password are percent-encoded (@ is %40, / is %2F), or the form host=… dbname=… user=….")
    guard !hasStrayAtSign(text), let list = PQconninfoParse(text, nil) else { throw unreadable }
    defer { PQconninfoFree(list) }
    var given: [String: String] = [:]
    var option = list
    while let keyword = option.pointee.keyword {
      if let value = option.pointee.val { given[String(cString: keyword)] = String(cString: value) }
      option += 1
    }
    // A port that is no number is a piece of a password behind an unencoded slash.
    if let port = given["port"], port.utf8.contains(where: { !($0 >= 48 && $0 <= 57 || $0 == 44) }) {
      throw unreadable
    }
    return given
  }

  /// Whether a URL has an @ that cannot be the one before the host: libpq would take part of the password
  /// for a host or a database, and errors would show it.
  private static func hasStrayAtSign(_ text: String) -> Bool {
    for scheme in ["postgresql://", "postgres://"] where text.hasPrefix(scheme) {
      let rest = text.dropFirst(scheme.count).prefix { $0 != "?" }
      return rest.count { $0 == "@" } > 1 || rest.drop { $0 != "/" }.contains("@")
    }
    return false
  }
}
