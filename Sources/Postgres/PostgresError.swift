/// What went wrong with PostgreSQL: what happened, where, and what to do about it.
///
/// It never holds a password or a value of a row: a connection string that cannot be read is not quoted, and
/// of a server's error only the primary message is kept, and not even that where it may repeat data.
public struct PostgresError: Error, Sendable, Hashable, CustomStringConvertible {
  public enum Kind: Hashable, Sendable {
    /// The connection string cannot be read.
    case badConnectionString
    /// No server answered: wrong address, server down, firewall, or a name that does not resolve.
    case unreachable
    /// Wrong password, unknown role, unknown database, or no right to connect to it.
    case authentication
    /// pg_hba.conf has no line that lets this connection in.
    case noHostLine
    /// The role lacks the REPLICATION attribute.
    case noReplicationRight
    /// All of max_connections are used.
    case connectionsExhausted
    /// All of max_wal_senders are used.
    case walSendersExhausted
    /// A pooler such as PgBouncer stands between us and the server.
    case pooler
    case wrongWalLevel
    /// All of max_replication_slots are used.
    case slotsExhausted
    /// Another walsender holds the slot: for a durable slot, another sidecar is the tailer.
    case slotActive(pid: Int32?)
    case slotMissing
    case slotExists
    /// The server has removed log that the slot still needed. Only told apart where the server speaks
    /// English; `SlotStatus.walStatus` tells it always.
    case slotLost
    case publicationMissing
    /// The connection was there and is gone.
    case connectionLost
    /// No answer within the time that the caller allowed. The connection is of no further use.
    case timedOut
    /// The server sent what the protocol does not allow here.
    case protocolViolation
    /// Any other error that the server reported; `sqlState` says which.
    case server
  }

  public var kind: Kind
  /// The five characters of PostgreSQL's error code, where the server sent one.
  /// Source: PostgreSQL documentation, Appendix A, "PostgreSQL Error Codes".
  public var sqlState: String?
  /// What happened, without a full stop.
  public var what: String
  /// Database and server, for example `database shop on db.internal:5432`.
  public var place: String
  /// What to do, as a sentence.
  public var fix: String?

  public init(kind: Kind, sqlState: String? = nil, what: String, place: String, fix: String? = nil) {
    self.kind = kind
    self.sqlState = sqlState
    self.what = what
    self.place = place
    self.fix = fix
  }

  public var description: String {
    let happened = place.isEmpty ? what : "\(what) (\(place))"
    return fix.map { "\(happened). \($0)" } ?? happened + "."
  }

  /// Whether trying again later can succeed without anybody changing a setting.
  public var isTemporary: Bool {
    switch kind {
    case .unreachable, .connectionsExhausted, .walSendersExhausted, .slotsExhausted, .slotActive,
      .connectionLost, .timedOut:
      true
    case .server:
      // 57: the operator shuts down, or the server is starting up. 40: a conflict of transactions.
      sqlState.map { $0.hasPrefix("57") || $0.hasPrefix("40") } ?? false
    default: false
    }
  }
}
