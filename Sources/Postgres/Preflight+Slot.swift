import Configuration

extension PostgresPreflight {
  static func judge(_ slot: SlotStatus?, _ settings: SlotSettings, _ server: ServerFacts) -> [Finding] {
    let isDurable = settings.mode == .durable
    var findings = [walSenders(slot, server)]
    if !isDurable || slot == nil { findings.insert(freeSlot(server), at: 0) }
    guard isDurable else { return findings }
    findings.append(keptWAL(server))
    guard let slot else {
      findings.append(
        Finding(
          "slot", .warning, "Replication slot \(settings.name) does not exist yet.",
          fix: "Run nearside setup; otherwise the first sidecar creates it."))
      return findings
    }
    if let refusal = slot.refusal(settings.name, database: server.database) {
      findings.append(Finding("slot", .error, refusal, fix: "Choose another postgres.slot.name."))
      return findings
    }
    findings.append(.good("slot", "Replication slot \(settings.name) exists and is ours."))
    findings.append(log(of: slot, settings))
    return findings
  }

  private static func freeSlot(_ server: ServerFacts) -> Finding {
    guard let reason = server.needsFreeSlot else {
      return .good(
        "max_replication_slots", "\(server.usedSlots) of \(server.maxSlots) replication slots are used.")
    }
    return Finding(
      "max_replication_slots", .error, reason + ".",
      fix: "Raise max_replication_slots and restart PostgreSQL, or drop a slot that nobody needs.")
  }

  private static func walSenders(_ slot: SlotStatus?, _ server: ServerFacts) -> Finding {
    guard server.usedWalSenders >= server.maxWalSenders, slot?.isActive != true else {
      return .good(
        "max_wal_senders", "\(server.usedWalSenders) of \(server.maxWalSenders) walsenders are used.")
    }
    return Finding(
      "max_wal_senders", .error, "All \(server.maxWalSenders) walsenders of the server are used.",
      fix: "Raise max_wal_senders and restart PostgreSQL.")
  }

  private static func keptWAL(_ server: ServerFacts) -> Finding {
    guard server.maxSlotWALKeepSize == "-1" else {
      return .good(
        "max_slot_wal_keep_size",
        "A slot that nobody reads keeps at most \(server.maxSlotWALKeepSize) of log.")
    }
    return Finding(
      "max_slot_wal_keep_size", .warning,
      "max_slot_wal_keep_size is -1: while no sidecar runs, the slot keeps log without limit and could "
        + "fill the server's disk.",
      fix: "Run ALTER SYSTEM SET max_slot_wal_keep_size = '10GB' and SELECT pg_reload_conf(). A slot that "
        + "is lost costs Nearside no more than a cold cache.")
  }

  private static func log(of slot: SlotStatus, _ settings: SlotSettings) -> Finding {
    let kept = slot.retainedBytes.map { " It keeps \($0 / 1_048_576) MiB of log." } ?? ""
    switch slot.walStatus {
    case "lost":
      return Finding(
        "slot_wal", .warning,
        "Replication slot \(settings.name) is lost: the server has removed log that it still needed.",
        fix: "The next sidecar creates it anew and starts with a cold cache.")
    case "extended", "unreserved":
      return Finding(
        "slot_wal", .warning, "Replication slot \(settings.name) is far behind and may be lost.\(kept)",
        fix: slot.isActive ? "See why the tailer is slow." : "Start a sidecar, or run nearside uninstall.")
    default:
      if let most = settings.maxRetained, let bytes = slot.retainedBytes, bytes > Int64(clamping: most / 2) {
        return Finding(
          "slot_wal", .warning,
          "Replication slot \(settings.name) is given up and made anew, with a cold cache, beyond "
            + "\(most / 1_048_576) MiB (postgres.slot.maxRetained).\(kept)",
          fix: slot.isActive
            ? "End the longest transactions of pg_stat_activity, or see why the tailer is slow."
            : "Start a sidecar, or run nearside uninstall.")
      }
      guard !slot.isActive, let bytes = slot.retainedBytes, bytes > 1 << 30 else {
        let safe = slot.safeWALSize.map {
          ", and \($0 / 1_048_576) MiB more may be written before it is lost"
        }
        let most = settings.maxRetained.map { ", of at most \($0 / 1_048_576) MiB" }
        return .good(
          "slot_wal",
          "It keeps \((slot.retainedBytes ?? 0) / 1_048_576) MiB of log\(most ?? "")\(safe ?? "").")
      }
      return Finding(
        "slot_wal", .warning, "No sidecar reads replication slot \(settings.name).\(kept)",
        fix: "Start a sidecar, or run nearside uninstall.")
    }
  }
}

extension SlotStatus {
  /// Why a durable slot of this name cannot be ours; nil if it can.
  func refusal(_ name: String, database own: String) -> String? {
    guard plugin == "pgoutput" else {
      return "Replication slot \(name) belongs to something else: its plugin is "
        + "\(plugin ?? "none, it is physical")."
    }
    guard database == own else {
      return "Replication slot \(name) belongs to database \(database ?? "?"), not to \(own)."
    }
    return isTemporary ? "Replication slot \(name) is another session's temporary one." : nil
  }
}
