import Invalidation

/// What `pg_replication_slots` says of one slot.
///
/// Source: PostgreSQL documentation, 54.19 "pg_replication_slots".
public struct SlotStatus: Hashable, Sendable {
  /// The output plugin; nil for a physical slot.
  public var plugin: String?
  public var database: String?
  public var isTemporary = false
  public var isActive = false
  /// The walsender that holds the slot.
  public var activePID: Int32?
  /// Everything up to here has been confirmed and will not be sent again.
  public var confirmedFlush: LSN?
  /// The oldest log that the slot keeps from being removed.
  public var restart: LSN?
  /// `reserved`, `extended`, `unreserved` or `lost`; nil before the slot reserves anything.
  public var walStatus: String?
  /// How many bytes of log can still be written before the slot may be lost; nil: no limit is set, or it is
  /// lost.
  public var safeWALSize: Int64?
  /// How many bytes of log the slot keeps on the server's disk; nil on a standby.
  public var retainedBytes: Int64?

  public var isLost: Bool { walStatus == "lost" }

  /// The slot called `name`; nil if there is none.
  public static func read(_ name: String, _ session: borrowing SQLSession) throws(PostgresError)
    -> SlotStatus?
  {
    let (text, parameters) = statement(name)
    return SlotStatus(try session.query(text, parameters))
  }

  /// The statement that asks for the slot called `name`, and its parameters.
  public static func statement(_ name: String) -> (text: String, parameters: [String?]) {
    (
      """
      SELECT plugin, database, temporary, active, active_pid, confirmed_flush_lsn, restart_lsn, wal_status,
        safe_wal_size, CASE WHEN NOT pg_is_in_recovery()
          THEN pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 END AS retained
      FROM pg_catalog.pg_replication_slots WHERE slot_name = $1
      """, [name]
    )
  }

  /// What it costs the server.
  public var health: SlotHealth {
    SlotHealth(
      walStatus: walStatus, retained: retainedBytes.flatMap { UInt64(exactly: $0) }, safe: safeWALSize)
  }

  /// Drops the slot called `name` if it is a logical one of this database for pgoutput, nobody holds it, and it keeps
  /// more than `bound` bytes of log: it may have been made anew since somebody looked. True: it is gone.
  public static func drop(
    _ name: String, keepingMoreThan bound: UInt64, _ session: borrowing SQLSession
  ) throws(PostgresError) -> Bool {
    do throws(PostgresError) {
      let rows = try session.query(
        """
        SELECT pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots
        WHERE slot_name = $1 AND NOT active AND plugin = 'pgoutput' AND database = current_database()
          AND pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > $2::numeric
        """, [name, String(bound)])
      return !rows.isEmpty
    } catch {
      // object_in_use, undefined_object (PostgreSQL documentation, appendix A): others were quicker.
      guard error.sqlState == "55006" || error.sqlState == "42704" else { throw error }
      return false
    }
  }

  /// The walsender that holds a slot, if it is one of this session's own role and its client has answered once; nil
  /// also where the role may not see that (it needs pg_read_all_stats or to be a superuser).
  ///
  /// Source: PostgreSQL documentation, 28.2.4 "pg_stat_replication".
  public static func holder(
    of name: String, _ session: borrowing SQLSession
  ) throws(PostgresError) -> Standstill.Holder? {
    let rows = try session.query(
      """
      SELECT r.pid, r.reply_time FROM pg_catalog.pg_replication_slots s
      JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid
      WHERE s.slot_name = $1 AND r.usename = current_user AND r.reply_time IS NOT NULL
      """, [name])
    guard let row = rows.first, let answered = row["reply_time"],
      let walsender = row.integer("pid").flatMap({ Int32(exactly: $0) })
    else { return nil }
    return Standstill.Holder(walsender: walsender, answered: answered)
  }

  /// Ends a walsender, if it still holds the slot. True: it was told to end.
  ///
  /// Source: PostgreSQL documentation, 9.27.2 "Server Signaling Functions": a role may end its own sessions.
  public static func endHolder(
    of name: String, walsender: Int32, _ session: borrowing SQLSession
  ) throws(PostgresError) -> Bool {
    let rows = try session.query(
      """
      SELECT pg_terminate_backend(active_pid) AS ended FROM pg_catalog.pg_replication_slots
      WHERE slot_name = $1 AND active_pid = $2::int4
      """, [name, String(walsender)])
    return rows.first?.isTrue("ended") ?? false
  }
}

// Beside the members, so that these keep their own initializer.
extension SlotStatus {
  /// From the rows of `statement`; nil: there is no such slot.
  public init?(_ rows: Rows) {
    guard let row = rows.first else { return nil }
    self.init(
      plugin: row["plugin"], database: row["database"], isTemporary: row.isTrue("temporary"),
      isActive: row.isTrue("active"),
      activePID: row.integer("active_pid").flatMap { Int32(exactly: $0) },
      confirmedFlush: row["confirmed_flush_lsn"].flatMap { LSN($0) },
      restart: row["restart_lsn"].flatMap { LSN($0) }, walStatus: row["wal_status"],
      safeWALSize: row.integer("safe_wal_size"), retainedBytes: row.integer("retained"))
  }
}
