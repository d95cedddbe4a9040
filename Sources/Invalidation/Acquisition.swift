/// What a sidecar does once it holds the slot: go on with the fleet's state, or begin a new generation because
/// something may have happened that nobody saw.
public enum Acquisition: Hashable, Sendable {
  /// The state is what this slot has led to.
  case resume(StateReply.Takeover)
  /// A new generation in place of `old`; the reason is for the log.
  case begin(old: Generation?, reason: String)
  /// This sidecar must not write: a person has to decide. One or two sentences.
  case refuse(String)

  /// - Parameters:
  ///   - reply: what the state answered to `takeover`.
  ///   - slotCreated: whether this sidecar has just created the slot.
  ///   - confirmed: the slot's own confirmed position, read while it is held.
  ///   - written: up to where PostgreSQL has written its log, read while the slot is held.
  ///   - canary: what the canary holds, read while the slot is held.
  ///   - regressed: whether this sidecar has seen the state go back in time before.
  public static func decide(
    _ reply: StateReply, slotCreated: Bool, confirmed: LSN, written: LSN, canary: Canary,
    regressed: Bool
  ) -> Acquisition {
    decide(
      reply, slotCreated: slotCreated, confirmed: confirmed, written: written, canary: canary,
      regressed: regressed, weakness: [])
  }

  package static func decide(
    _ reply: StateReply, slotCreated: Bool, confirmed: LSN, written: LSN, canary: Canary, regressed: Bool,
    weakness: Weakness
  ) -> Acquisition {
    switch reply {
    case .takenOver(let state):
      if slotCreated {
        return .begin(old: state.generation, reason: "the replication slot is new")
      }
      // No script writes that; whoever did, no position in it can be relied upon.
      if state.visible > state.applied {
        return .begin(old: state.generation, reason: "the state in Redis contradicts itself")
      }
      // The hole test. What lies between V and the slot's position will never be sent: somebody else has
      // consumed or advanced the slot, or Redis has lost what was applied. V and not W, because what is
      // applied but perhaps not yet visible may still be read by a loader in its old form.
      let known = weakness.contains(.holeTestWithApplied) ? state.applied : state.visible
      if confirmed > known, !weakness.contains(.noHoleTest) {
        return .begin(
          old: state.generation,
          reason: "the replication slot has moved on to \(confirmed), but only changes up to "
            + "\(state.visible) are known")
      }
      if state.watching, !weakness.contains(.resumesWhileWatching) {
        return .begin(old: state.generation, reason: "transactions from before the slot were being watched")
      }
      // An old copy of the data directory, cleanly shut down, has a canary that tells of nothing.
      if written < state.applied {
        return .begin(
          old: state.generation,
          reason: "PostgreSQL's log ends at \(written), but changes up to \(state.applied) are known")
      }
      switch canary {
      case .unused:
        return .begin(
          old: state.generation,
          reason: "table nearside.canary cannot be used, so a crash of PostgreSQL would go unnoticed")
      case .holds(let generation)
      where generation != state.generation && !weakness.contains(.noCanaryWhenTaking):
        return .begin(
          old: state.generation,
          reason: "PostgreSQL has crashed, failed over or been restored: commits may be lost")
      case .holds: break
      }
      if regressed { return .begin(old: state.generation, reason: "Redis has lost writes") }
      return .resume(state)
    case .noState: return .begin(old: nil, reason: "there is no state of this namespace yet")
    case .needsGeneration(let old):
      return .begin(
        old: old, reason: "PostgreSQL's timeline, the mapping or the definition of a table has changed")
    case .otherSystem(let system):
      return .refuse(
        "The state in Redis belongs to another PostgreSQL system (\(system)). Give this database a namespace "
          + "of its own, or remove the old state: redis-cli DEL with the key named in NEARSIDE STATUS.")
    case .olderTimeline(let timeline):
      return .refuse(
        "The state in Redis has followed PostgreSQL's timeline \(timeline), which is later than the one of the "
          + "server connected to: that server is an abandoned primary. Point \"postgres\" at the present one."
      )
    case .applied, .began, .purgeStep, .cleared, .swept, .fenced, .regressed, .raced:
      return .refuse("Redis answered a takeover with something else. This is a bug; please report it.")
    }
  }
}

/// What the unlogged table `nearside.canary` says. PostgreSQL keeps an unlogged table over a clean restart and
/// empties it after a crash and on promotion: just when commits that readers have seen may be lost.
/// Source: PostgreSQL documentation, CREATE TABLE, UNLOGGED.
public enum Canary: Hashable, Sendable {
  /// The table is missing, or the role may not read and write it.
  case unused
  /// nil: it has no row of this namespace.
  case holds(Generation?)
}
