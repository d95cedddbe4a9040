/// What the tailer writes to the state, in which order, and what the replies change.
extension TailSession {
  /// What to do now. `drained`: the log has nothing more at this moment, so waiting would gain nothing.
  public mutating func next(now: Instant, drained: Bool, random: () -> Generation) -> Action {
    pace.judge(transactions, now: now)
    guard underWay == .nothing else {
      return .wait(until: Instant(nanoseconds: now.nanoseconds + Cadence.busy))
    }
    if isEnding, let ending {
      return isMarked || !usesCanary ? .end(ending) : .wait(until: whenToAsk(now))
    }
    judgeSample()
    if let due {
      guard now >= nextGeneration else { return .wait(until: nextGeneration) }
      // A generation remembers under which definitions it began, so they are asked for anew.
      guard !wantsFingerprint else { return .wait(until: whenToAsk(now)) }
      // What arises from here on lies beyond the position, and needs another one.
      self.due = nil
      return begin(random(), because: due, now: now)
    }
    guard let generation else { preconditionFailure("no generation and none due") }
    let check = WriteCheck(token: token, generation: generation, count: count)
    // Clearing and batches take turns, so that steady changes cannot keep a generation from being cleared.
    if sending.isEmpty, !clearing.hasTurn(now: now) { takeBatch(now: now, drained: drained) }
    if !sending.isEmpty { return step(check, now: now) }
    if let request = clearing.next(check, now: now) {
      underWay = .clearing(clearing.step)
      return .send(request)
    }
    var until = whenToAsk(now)
    if let instant = clearing.due { until = min(until, instant) }
    if let instant = lookupDue { until = min(until, max(instant, now)) }
    if hasKeys, let instant = restsUntil { until = min(until, instant) }
    if hasNews { until = min(until, Instant(nanoseconds: lastApply.nanoseconds + Self.idlePeriod)) }
    if fencesWait { until = min(until, Instant(nanoseconds: lastApply.nanoseconds + Self.partPeriod)) }
    return .wait(until: until)
  }

  /// A new generation knows everything up to the position: the keys of what has ended are in it. Leases are
  /// given from V and refused below the position, so that nobody fills before everything up to it is visible.
  private mutating func begin(_ new: Generation, because reason: String, now: Instant) -> Action {
    sending.removeAll()
    unsent = 0
    unsentGroups = 0
    keepOpenOnly()
    lookups.removeAll()
    let start = position
    let visible = min(seen, start)
    let watching = !watch.isEmpty && !weakness.contains(.noWatch)
    beat.forget()
    beat.hurry(now: now)
    pace.disturbed(now: now)
    isMarked = false
    underWay = .generation(
      new, applied: start, visible: visible, watching: watching, ends: ending != nil, reason: reason)
    return .send(
      .newGeneration(
        token: token, old: old, new: new, server: server, mapping: mapping, applied: start,
        visible: visible, watching: watching, fingerprint: fingerprint))
  }

  /// Whether a new generation is being stored.
  var isBeginning: Bool {
    if case .generation = underWay { true } else { false }
  }

  /// V as it could be stored now.
  private var seen: LSN {
    weakness.contains(.visibleIsApplied) ? position : pendingCommits.visible(at: position)
  }
  private var hasKeys: Bool { pending.completeCount > 0 || pending.completeGroupCount > 0 }
  private var hasNews: Bool { held(position) > applied || min(seen, held(position)) > visible }
  /// Whether a fence stands above V that could lie below it: somebody may wait to fill.
  private var fencesWait: Bool { min(lastFence, applied) > visible && min(seen, applied) > visible }

  /// What the sample sees must be applied with everything that lookups find for it.
  private func isBeatReady(at position: LSN) -> Bool {
    guard beat.isReady(at: position, weakness) else { return false }
    return beat.sample.map { !lookups.holdsUp($0.snapshot) } ?? true
  }

  /// Moves what is complete to `sending`, if it is time to.
  private mutating func takeBatch(now: Instant, drained: Bool) {
    let beatDue = isBeatReady(at: position)
    let idleDue = hasNews && now.since(lastApply) >= Self.idlePeriod
    let isFull = pending.completeCount >= keysPerStep || pending.completeGroupCount >= groupsPerStep
    let keysDue = isFull || drained && hasKeys && now.since(lastApply) >= pace.pause
    // V by itself, as soon as nothing is invisible any more: until then nobody can fill a key that changed.
    let visibleDue =
      fencesWait && (pendingCommits.isEmpty || now.since(lastApply) >= Self.partPeriod)
    guard beatDue || idleDue || keysDue || visibleDue || !lookups.found.isEmpty || lookups.isOver else {
      return
    }
    target = max(position, applied)
    unsent = 0
    unsentGroups = 0
    swap(&sending, &pending)
    sending.moveOpen(to: &pending)
    let found = lookups.take()
    for found in found {
      found.key.withUnsafeBytes {
        if found.isPrefix {
          sending.appendPrefix($0, table: found.table, origin: found.origin)
        } else {
          sending.append($0, table: found.table, origin: found.origin)
        }
      }
    }
    // Of a key that a transaction of the batch has named too, the origin says what was found: `complete` sees to it.
    // A batch without a key still moves the position and counts as a beat.
    if !found.isEmpty || sending.through < target { sending.complete(through: target) }
  }

  private mutating func step(_ check: WriteCheck, now: Instant) -> Action {
    let end = min(unsent + keysPerStep, sending.completeCount)
    let chunk = unsent..<end
    let groupEnd = min(unsentGroups + groupsPerStep, sending.completeGroupCount)
    let last = end == sending.completeCount && groupEnd == sending.completeGroupCount
    let parts = max(
      1, (sending.completeCount + keysPerStep - 1) / keysPerStep,
      (sending.completeGroupCount + groupsPerStep - 1) / groupsPerStep)
    // The sample may have come after the batch was taken: what counts is what the batch reaches.
    let sampled =
      last && due == nil && isBeatReady(at: target) ? beat.take(reaching: target, weakness) : nil
    let stopsWatching = sampled != nil && watching && watch.isEmpty
    lastApply = now
    underWay = .apply(last: last, beat: sampled != nil, stopsWatching: stopsWatching)
    let reached = last || weakness.contains(.everyStepMovesApplied) ? held(target) : applied
    let request = ApplyRequest(
      check: check, applied: reached, visible: last ? max(visible, min(reached, seen)) : visible,
      fence: target, sampled: sampled,
      stopsWatching: stopsWatching, part: max(unsent / keysPerStep, unsentGroups / groupsPerStep) + 1,
      parts: parts, groups: unsentGroups..<groupEnd, tellsPending: last && !clearing.isUnderWay)
    unsent = end
    unsentGroups = groupEnd
    return .apply(request, chunk: chunk)
  }

  /// The reply of the request under way.
  public mutating func replied(_ reply: StateReply, now: Instant) -> Outcome {
    let request = underWay
    underWay = .nothing
    switch (request, reply) {
    case (.apply(let last, let isBeat, let stopsWatching), .applied(let w, let v, let asked, let waiting)):
      // Within a generation neither goes back. A reply comes from outside, so this is no precondition.
      guard w >= applied, v >= visible, v <= w else { return .over(.regressed) }
      count += 1
      applied = w
      visible = v
      if last {
        sending.removeAll()
        clearing.batchWent()
      }
      // Only now: the next sample must be taken after this beat was stored.
      if isBeat { beat.stored(now: now) }
      if stopsWatching { watching = false }
      if asked {
        beginGeneration(
          because: waiting.isTooMuch
            ? "more prefixes and tags wait to be swept than \(PendingGroups.most)" : "NEARSIDE INVALIDATE ALL"
        )
      }
      // A pass removes what waited when it began, and what comes later waits for the next one.
      if !clearing.isUnderWay, !waiting.isEmpty { clearing.begin(waiting, now: now) }
      return .goOn
    case (.generation(let new, let start, let seen, let watching, let ends, let reason), .began):
      generation = new
      old = new
      count = 0
      applied = start
      visible = seen
      lastFence = max(lastFence, start)
      self.watching = watching
      clearing.begin(nil, now: now)
      nextGeneration = Instant(nanoseconds: now.nanoseconds + Self.generationPause)
      beat.next = now
      // Whatever was marked meanwhile was the old one. What was redefined meanwhile needs another generation.
      isMarked = false
      isEnding = ends
      return .began(new, reason: reason)
    case (.clearing(.scan), .purgeStep(let next, _)):
      let isPurge = clearing.isPurge
      if !weakness.contains(isPurge ? .purgeNotCounted : .sweepNotCounted) { count += 1 }
      clearing.went(
        to: next, endsEarly: weakness.contains(isPurge ? .clearedTooEarly : .sweptTooEarly), now: now)
      return .goOn
    case (.clearing(.purged), .cleared):
      count += 1
      clearing.ended()
      return .cleared
    case (.clearing(.swept), .swept(let left)):
      count += 1
      clearing.ended()
      if !left.isEmpty { clearing.begin(left, now: now) }
      return .goOn
    case (_, .fenced), (_, .raced): return .over(.fenced)
    case (_, .noState): return .over(.noState)
    case (_, .regressed): return .over(.regressed)
    default: return .over(.unexpected)
    }
  }

  private mutating func keepOpenOnly() {
    var open = KeyBatch()
    pending.moveOpen(to: &open)
    pending = open
  }
}
