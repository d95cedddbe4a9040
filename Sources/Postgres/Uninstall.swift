import Configuration

extension SetupPlan {
  static func uninstall(_ request: SetupRequest, _ facts: SetupFacts) -> SetupPlan {
    var plan = SetupPlan()
    let slot = request.postgres.slot
    if slot.mode == .durable, let found = facts.slot {
      if let refusal = found.refusal(slot.name, database: facts.server.database) {
        plan.notes.append(refusal + " It is left as it is.")
      } else if found.isActive {
        return SetupPlan(refusals: [inUse(slot.name, found)])
      } else {
        plan.add(
          "Frees the log that the slot keeps.",
          "SELECT pg_catalog.pg_drop_replication_slot(\(quotedLiteral(slot.name)))")
      }
    }
    if let publication = facts.publication {
      if publication.isOurs {
        plan.add(
          "Nobody reads it any more.", "DROP PUBLICATION \(quotedIdentifier(request.postgres.publication))")
      } else {
        plan.notes.append(
          "Publication \(request.postgres.publication) was not made by nearside setup and is left as it is.")
      }
    }
    plan.removeSchema(request, facts)
    plan.removeRole(request, facts)
    return plan
  }

  private mutating func removeSchema(_ request: SetupRequest, _ facts: SetupFacts) {
    guard facts.hasSchema else { return }
    guard facts.otherFleets.isEmpty else {
      notes.append(
        "Schema nearside stays: other fleets use it (\(facts.otherFleets.joined(separator: ", "))).")
      if facts.isRegistered {
        let name = quotedLiteral(request.postgres.publication)
        add("This fleet's row.", "DELETE FROM nearside.publication WHERE name = \(name)")
      }
      guard let namespace = request.namespace else { return }
      for (table, exists) in [("canary", facts.canary != nil), ("gen", facts.hasGen)] where exists {
        add("This fleet's row.", "DELETE FROM nearside.\(table) WHERE ns = \(quotedLiteral(namespace))")
      }
      return
    }
    for trigger in SetupFunctions.eventTriggers where facts.eventTriggers[trigger.name] != nil {
      add("Nobody listens any more.", "DROP EVENT TRIGGER \(trigger.name)")
    }
    for name in SetupFunctions.functionNames where facts.functions[name] != nil {
      add("Nearside's own function.", "DROP FUNCTION nearside.\(name)")
    }
    let tables = [
      ("publication", facts.hasRegistry), ("canary", facts.canary != nil), ("gen", facts.hasGen),
    ]
    for (table, exists) in tables where exists {
      add("Nearside's own table.", "DROP TABLE nearside.\(table)")
    }
    if facts.schemaHoldsOthers {
      notes.append("Schema nearside stays: it holds objects that nearside setup did not make.")
    } else {
      add("Empty now.", "DROP SCHEMA nearside")
    }
  }

  private mutating func removeRole(_ request: SetupRequest, _ facts: SetupFacts) {
    guard let role = request.role, let found = facts.role else { return }
    let name = quotedIdentifier(role)
    guard found.isOurs else {
      notes.append("Role \(role) was not made by nearside setup and is left as it is.")
      return
    }
    guard !found.isUsedElsewhere, facts.otherFleets.isEmpty else {
      notes.append("Role \(role) stays: it owns something or has rights elsewhere.")
      return
    }
    add(
      "The role cannot go while it has rights here.",
      "REVOKE ALL ON DATABASE \(quotedIdentifier(facts.server.database)) FROM \(name)")
    add("Nobody logs in as this role any more.", "DROP ROLE \(name)")
  }

  static func inUse(_ name: String, _ slot: SlotStatus) -> String {
    "Replication slot \(name) is in use by process \(slot.activePID.map { String($0) } ?? "?") of the "
      + "server; stop all sidecars first."
  }
}
