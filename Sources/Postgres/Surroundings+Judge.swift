import Configuration

extension PostgresPreflight {
  public static func judge(_ around: PostgresSurroundings) -> [Finding] {
    [
      encryption(around), directness(around), decodingMemory(around), idleSlots(around),
      statementTimeout(around), clock(around), holder(around),
    ] + otherSlots(around)
  }

  private static func encryption(_ around: PostgresSurroundings) -> Finding {
    if around.isLocal { return .good("encryption", "The connection does not leave this host.") }
    if let tls = around.tls { return .good("encryption", "The connection is encrypted with \(tls).") }
    return Finding(
      "encryption", .warning, "The connection to PostgreSQL leaves this host and is not encrypted.",
      fix: "Add sslmode=verify-full to postgres.url.")
  }

  private static func directness(_ around: PostgresSurroundings) -> Finding {
    guard !around.isDirect else { return .good("pooler", "No pooler stands before the server.") }
    return Finding(
      "pooler", .error, "A connection pooler such as PgBouncer stands before PostgreSQL.",
      fix: "Point postgres.url at the PostgreSQL server itself: Nearside needs a direct connection.")
  }

  private static func decodingMemory(_ around: PostgresSurroundings) -> Finding {
    let size = around.decodingMemory / 1024
    guard around.decodingMemory < 1 << 20 else {
      return .good("logical_decoding_work_mem", "logical_decoding_work_mem is \(size) kB.")
    }
    return Finding(
      "logical_decoding_work_mem", .warning,
      "logical_decoding_work_mem is \(size) kB, so that transactions of some size are written to the server's disk "
        + "before they are sent.",
      fix: "Run ALTER SYSTEM SET logical_decoding_work_mem = '64MB' and SELECT pg_reload_conf().")
  }

  private static func idleSlots(_ around: PostgresSurroundings) -> Finding {
    let seconds = Int(around.idleSlotTimeout)
    guard seconds > 0, seconds < 60 else {
      return .good(
        "idle_replication_slot_timeout",
        seconds == 0 ? "A slot outlives a pause of all sidecars." : "A slot outlives a pause of \(seconds) s."
      )
    }
    return Finding(
      "idle_replication_slot_timeout", .warning,
      "idle_replication_slot_timeout is \(seconds) s: when no sidecar runs for as long, the slot is lost, and the next "
        + "one starts with a cold cache.",
      fix: "Run ALTER SYSTEM SET idle_replication_slot_timeout = '1h' and SELECT pg_reload_conf().")
  }

  private static func statementTimeout(_ around: PostgresSurroundings) -> Finding {
    guard around.statementTimeout > 0, around.statementTimeout < 5 else {
      return .good("statement_timeout", "statement_timeout leaves the sidecar's own questions time.")
    }
    return Finding(
      "statement_timeout", .warning,
      "statement_timeout of role \(around.role) is \(Int(around.statementTimeout * 1000)) ms, which may cut off the "
        + "sidecar's own questions when the server is busy.",
      fix:
        "Run ALTER ROLE \(quotedIdentifier(around.role)) SET statement_timeout = '10s'. Statements of load, write "
        + "and lookup have time limits of their own.")
  }

  private static func clock(_ around: PostgresSurroundings) -> Finding {
    let difference = around.clockDifference
    guard difference.magnitude > 1000 else { return .good("clock", "The clocks of server and host agree.") }
    return Finding(
      "clock", .warning,
      "The server's clock is \(difference.magnitude) ms \(difference > 0 ? "ahead of" : "behind") this host's. Nothing "
        + "that is served depends on it, but delays are shown wrong.",
      fix: "Have both follow the same time server (NTP).")
  }

  private static func holder(_ around: PostgresSurroundings) -> Finding {
    guard let holder = around.holder else {
      return .good("slot_reader", "Nobody else reads the slot.")
    }
    let isOurs =
      (holder.role ?? around.role) == around.role
      && (holder.application ?? around.application) == around.application
    let who = holder.application.map { " (\($0))" } ?? ""
    guard !isOurs else {
      return .good(
        "slot_reader", "Process \(holder.pid) of the server sends the slot's changes to a sidecar\(who).")
    }
    return Finding(
      "slot_reader", .error,
      "Replication slot \(around.slot) is read by process \(holder.pid) of the server\(who), role "
        + "\(holder.role ?? "unknown"), which is no sidecar of this configuration and takes away its changes.",
      fix:
        "Stop that client, or choose another postgres.slot.name. If it is a sidecar of this fleet, give all of "
        + "them the same role and application_name.")
  }

  private static func otherSlots(_ around: PostgresSurroundings) -> [Finding] {
    guard !around.otherSlots.isEmpty else {
      return [.good("orphaned_slots", "No slot of another fleet lies about.")]
    }
    return around.otherSlots.map { slot in
      let kept = slot.retained.map { " and keeps \($0 / 1_048_576) MiB of log" } ?? ""
      return Finding(
        "orphaned_slots", .warning,
        "Replication slot \(slot.name) of database \(slot.database) has no reader\(kept). It bears a name of ours and "
          + "is not the slot of this configuration.",
        fix:
          "If no sidecar is to come back to it, run SELECT pg_drop_replication_slot(\(quotedLiteral(slot.name)))."
      )
    }
  }

  /// - Parameter milliseconds: `ReplicationStream.senderTimeout`. The sidecar says something once a second.
  public static func judge(senderTimeout milliseconds: Int64) -> Finding {
    switch milliseconds {
    case 3000...30_000:
      return .good("wal_sender_timeout", "The server notices a dead sidecar after \(milliseconds) ms.")
    case 1..<3000:
      return Finding(
        "wal_sender_timeout", .error,
        "wal_sender_timeout of the sidecar's connection is \(milliseconds) ms, and it speaks once a second.",
        fix:
          "The sidecar asks for 5 s when it connects; whatever stands between it and PostgreSQL must let that pass."
      )
    default:
      return Finding(
        "wal_sender_timeout", .warning,
        "wal_sender_timeout of the sidecar's connection is "
          + "\(milliseconds == 0 ? "off" : "\(milliseconds) ms"), so a host that dies keeps the slot for as long.",
        fix:
          "The sidecar asks for 5 s when it connects; whatever stands between it and PostgreSQL must let that pass."
      )
    }
  }
}
