import Configuration

/// What `nearside doctor` asks beyond what a start needs: what may bite one day, and who else is there.
public struct PostgresSurroundings: Equatable, Sendable {
  /// A logical slot that bears a name of ours and is not the configured one.
  struct OtherSlot: Equatable {
    var name: String
    var database: String
    /// In bytes; nil on a standby.
    var retained: Int64?
  }

  /// Who reads from the configured slot.
  struct Holder: Equatable {
    var pid: Int32
    /// nil: the server does not tell this role.
    var role: String?
    var application: String?
  }

  var role = "nearside"
  var application = "nearside"
  /// The version of TLS; nil: the connection is not encrypted.
  var tls: String?
  /// Whether the connection does not leave this host.
  var isLocal = true
  /// Whether the server process is the one that libpq was told of when it connected; a pooler lends another one.
  var isDirect = true
  /// In bytes.
  var decodingMemory: Int64 = 64 << 20
  /// After how many seconds without a reader the server invalidates a slot; 0: never.
  var idleSlotTimeout: Double = 0
  /// In seconds; 0: none.
  var statementTimeout: Double = 0
  /// How far the server's clock is ahead of this host's, in milliseconds, less the time the question took.
  var clockDifference: Int64 = 0
  /// Those that nobody reads.
  var otherSlots: [OtherSlot] = []
  var slot = ""
  var holder: Holder?

  /// - Parameter session: of the sidecar's own role, or of an administrator, who sees more.
  public static func read(
    _ settings: PostgresSettings, _ session: borrowing SQLSession
  ) throws(PostgresError) -> PostgresSurroundings {
    var all = PostgresSurroundings()
    let asked = Self.now()
    // The texts of settings with their units are what interval and pg_size_bytes read.
    let rows = try session.query(
      """
      SELECT pg_backend_pid() AS pid, current_user AS role, current_setting('application_name') AS application,
        (SELECT s.version FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_backend_pid() AND s.ssl) AS tls,
        inet_client_addr() IS NULL OR inet_client_addr() <<= '127.0.0.0/8' OR inet_client_addr() = '::1' AS local,
        pg_size_bytes(current_setting('logical_decoding_work_mem')) AS memory,
        extract(epoch FROM coalesce(current_setting('idle_replication_slot_timeout', true), '0')::interval) AS idle,
        extract(epoch FROM current_setting('statement_timeout')::interval) AS statement,
        (extract(epoch FROM clock_timestamp()) * 1000)::int8 AS clock
      """)
    let answered = Self.now()
    guard let row = rows.first else { return all }
    all.role = row["role"] ?? ""
    all.application = row["application"] ?? ""
    all.tls = row["tls"]
    all.isLocal = row.isTrue("local")
    all.isDirect = row.integer("pid") == Int64(session.backendPID)
    all.decodingMemory = row.integer("memory") ?? 0
    all.idleSlotTimeout = row["idle"].flatMap { Double($0) } ?? 0
    all.statementTimeout = row["statement"].flatMap { Double($0) } ?? 0
    all.clockDifference = Self.difference(
      asked: asked, answered: answered, told: row.integer("clock") ?? asked)
    all.slot = settings.slot.name
    let slots = try session.query(
      """
      SELECT s.slot_name AS name, s.database, s.active, s.active_pid AS pid, r.usename AS role,
        r.application_name AS application, CASE WHEN NOT pg_is_in_recovery()
          THEN pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::int8 END AS retained
      FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid
      WHERE s.slot_name = $1 OR s.slot_name LIKE 'nearside\\_%' AND NOT s.active AND NOT s.temporary
        AND s.plugin = 'pgoutput'
      ORDER BY s.slot_name
      """, [settings.slot.name])
    for row in slots {
      if row["name"] != settings.slot.name {
        all.otherSlots.append(
          OtherSlot(
            name: row["name"] ?? "", database: row["database"] ?? "", retained: row.integer("retained")))
      } else if let pid = row.integer("pid").flatMap({ Int32(exactly: $0) }) {
        all.holder = Holder(pid: pid, role: row["role"], application: row["application"])
      }
    }
    return all
  }

  /// How far a clock that told `told` somewhere between the two instants is at least ahead (or, below zero, behind).
  static func difference(asked: Int64, answered: Int64, told: Int64) -> Int64 {
    told > answered ? told - answered : told < asked ? told - asked : 0
  }

  /// Milliseconds since 1970.
  private static func now() -> Int64 {
    postgresMicroseconds() / 1000 + 946_684_800_000
  }
}

extension ReplicationStream {
  /// After how long a silence the server drops this connection, in milliseconds; 0: never.
  public func senderTimeout() throws(PostgresError) -> Int64? {
    try connection.run(
      "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'", nil, .query
    ).first?.integer("setting")
  }
}

extension PostgresPreflight {
  /// Whether the connection on which statements of `load` run is one of PostgreSQL's own.
  public static func loaderIsDirect(_ settings: PostgresSettings) throws(PostgresError) -> Bool {
    let loader = settings.loader
    let connection = try PostgresConnection.connect(
      url: loader.url, password: loader.password, .loads(replica: loader.isReplica))
    return try connection.run("SELECT pg_catalog.pg_backend_pid() AS pid", nil, .query).first?.integer("pid")
      == Int64(connection.backendPID)
  }

  /// How many lines of pg_hba.conf the server cannot read; nil: this role may not ask.
  public static func brokenHostLines(_ session: borrowing SQLSession) throws(PostgresError) -> Int? {
    do throws(PostgresError) {
      let rows = try session.query(
        "SELECT count(*) AS broken FROM pg_catalog.pg_hba_file_rules WHERE error IS NOT NULL")
      return rows.first?.integer("broken").map { Int($0) }
    } catch {
      // insufficient_privilege (PostgreSQL documentation, appendix A)
      guard error.sqlState == "42501" else { throw error }
      return nil
    }
  }
}
