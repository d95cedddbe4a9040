import Configuration
import Invalidation

/// The tail's questions as SQL, and what their rows mean.
public struct TailSQL: Sendable {
  private let namespace: String
  private let fingerprint: (sql: String, parameters: [String?])
  /// Whether the canary is read and written.
  public let usesCanary: Bool

  /// - Parameters:
  ///   - namespace: nil for a sidecar by itself, whose every connection begins a generation anyway.
  ///   - tables: those of the configuration.
  public init(
    namespace: String?, publication: String, tables: [TableName], _ session: borrowing SQLSession
  ) throws(PostgresError) {
    self.namespace = namespace ?? ""
    fingerprint = CatalogueFingerprint.query(
      publication: publication, tables: tables, serverVersion: session.serverVersion)
    guard namespace != nil else {
      usesCanary = false
      return
    }
    let rows = try session.query(
      """
      SELECT count(*) = 2 AS usable FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'nearside'
        AND has_schema_privilege(n.oid, 'USAGE')
      WHERE (c.relname = 'canary' AND c.relpersistence = 'u' OR c.relname = 'gen')
        AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
        AND has_table_privilege(c.oid, 'UPDATE')
      """)
    usesCanary = rows.first?.isTrue("usable") ?? false
  }

  /// What is so now, without anything watched. The snapshot names every transaction that is running.
  ///
  /// By itself it would not: it begins to count at the last transaction that has ended, so one that is younger and
  /// runs is not listed. Ending one of our own first puts all that are running below it.
  /// Source: PostgreSQL's procarray.c, `GetSnapshotData`, xmax is latestCompletedXid + 1.
  public func sample(_ session: borrowing SQLSession) throws(PostgresError) -> Sample {
    _ = try session.query("SELECT pg_current_xact_id()")
    let (text, parameters) = statement(.sample(watched: []))
    guard case .sample(let sample) = try answer(.sample(watched: []), try session.query(text, parameters))
    else { throw unreadable(.sample(watched: [])) }
    return sample
  }

  /// Waits for the fingerprint of what the catalogue says now.
  public func fingerprint(_ session: borrowing SQLSession) throws(PostgresError) -> String {
    let (text, parameters) = statement(.fingerprint)
    return try session.query(text, parameters).first?[0] ?? ""
  }

  private static let look = "SELECT pg_current_snapshot()"

  /// The statement that asks `question`, and its parameters.
  public func statement(_ question: Question) -> (text: String, parameters: [String?]) {
    switch question {
    case .look: return (Self.look, [])
    case .sample(let watched):
      // One statement has one snapshot, taken before anything in it is computed.
      let canary = usesCanary ? "(SELECT g FROM nearside.canary WHERE ns = $2)" : "$2"
      return (
        """
        SELECT pg_current_wal_insert_lsn() AS written, pg_current_snapshot() AS snapshot, \(canary) AS canary,
          (SELECT string_agg(coalesce(pg_xact_status(id::xid8), 'committed'), ',' ORDER BY place)
            FROM unnest($1::text[]) WITH ORDINALITY AS watched(id, place)) AS watched
        """, ["{" + watched.map(String.init).joined(separator: ",") + "}", namespace]
      )
    case .nudge: return ("SELECT pg_logical_emit_message(true, 'nearside', '')", [])
    case .mark(let generation):
      return (
        """
        WITH canary AS (
          INSERT INTO nearside.canary VALUES ($1, $2) ON CONFLICT (ns) DO UPDATE SET g = excluded.g)
        INSERT INTO nearside.gen VALUES ($1, $2) ON CONFLICT (ns) DO UPDATE SET g = excluded.g
        """, [namespace, generation.hex]
      )
    case .fingerprint: return (fingerprint.sql, fingerprint.parameters)
    }
  }

  public func answer(_ question: Question, _ rows: Rows) throws(PostgresError) -> Answer {
    switch question {
    case .look:
      guard let snapshot = rows.first?[0].flatMap({ Snapshot($0) }) else { throw unreadable(question) }
      return .look(snapshot)
    case .sample(let watched):
      guard let row = rows.first, let written = row["written"].flatMap({ LSN($0) }),
        let snapshot = row["snapshot"].flatMap({ Snapshot($0) })
      else { throw unreadable(question) }
      let statuses = (row["watched"] ?? "").split(separator: ",").map { Self.status($0) }
      guard statuses.count == watched.count else { throw unreadable(question) }
      return .sample(
        Sample(
          written: written, snapshot: snapshot, canary: row["canary"].flatMap { Generation(hex: $0) },
          watched: statuses))
    case .nudge: return .nudged
    case .mark: return .marked
    case .fingerprint: return .fingerprint(rows.first?[0] ?? "")
    }
  }

  /// Source: PostgreSQL documentation, 9.27.7, `pg_xact_status`.
  private static func status(_ word: Substring) -> TransactionStatus {
    switch word {
    case "in progress": .running
    case "aborted": .aborted
    default: .committed
    }
  }

  private func unreadable(_ question: Question) -> PostgresError {
    PostgresError(
      kind: .protocolViolation, what: "PostgreSQL's answer to \(question) cannot be read", place: "")
  }
}
