extension SetupPlan {
  /// Only a superuser may create event triggers; without them sidecars compare the tables' definitions once a
  /// second (`CatalogueFingerprint`).
  mutating func addFunctions(_ publication: String, _ facts: SetupFacts) {
    var functions = [SetupFunctions.invalidate, SetupFunctions.invalidateTag]
    let isComplete = SetupFunctions.eventTriggers.allSatisfy { facts.eventTriggers[$0.name] == true }
    if facts.mayCreateEventTriggers {
      functions += SetupFunctions.noteDefinition(serverVersion: facts.server.version)
    }
    for function in functions where facts.functions[function.name] != function.body {
      add(function.reason, function.sql)
    }
    guard facts.mayCreateEventTriggers || facts.hasRegistry else {
      notes.append(
        "Role \(facts.server.role) may not create event triggers, so a change of a table's definition is "
          + "noticed by sidecars up to a second after it; setup by a superuser makes that exact.")
      return
    }
    if !facts.hasRegistry {
      add(
        "Whose tables the event triggers look at.",
        "CREATE TABLE nearside.publication (name name PRIMARY KEY)")
    }
    if !facts.isRegistered {
      add(
        "This fleet's publication.",
        "INSERT INTO nearside.publication VALUES (\(quotedLiteral(publication))) ON CONFLICT DO NOTHING")
    }
    guard !facts.mayCreateEventTriggers, !isComplete else { return }
    notes.append(
      "The event triggers of schema nearside are not complete, and role \(facts.server.role) may not create "
        + "them; run setup as a superuser.")
  }

  /// They fire in every session, also while it replays changes for others (session_replication_role).
  mutating func addEventTriggers(_ facts: SetupFacts) {
    guard facts.mayCreateEventTriggers else { return }
    for trigger in SetupFunctions.eventTriggers {
      if facts.eventTriggers[trigger.name] == nil {
        add(
          "Says when a published table's definition changes, which may move rows without naming them.",
          "CREATE EVENT TRIGGER \(trigger.name) ON \(trigger.event) "
            + "EXECUTE FUNCTION nearside.\(trigger.function)()")
      }
      if facts.eventTriggers[trigger.name] != true {
        add("In every session.", "ALTER EVENT TRIGGER \(trigger.name) ENABLE ALWAYS")
      }
    }
  }
}
