/// Lookups run beside everything else. A transaction's begins when a snapshot has seen the transaction: a statement
/// before that would not see its rows. Until its keys are sent W stays before it, and a sample that sees it makes no
/// beat; keys that rows name themselves are cleared without waiting for any of that.
extension TailSession {
  /// The run to begin now; nil: none. One is under way at a time.
  public mutating func nextLookup(now: Instant) -> LookupRun? {
    let pending = pendingCommits
    return lookups.next(now: now) { !pending.contains($0) }
  }

  /// - Parameter snapshot: what the statement itself saw.
  /// - Returns: false if that was not enough, and the run has therefore failed.
  public mutating func lookupAnswered(
    _ run: LookupRun, _ keys: [LookupKey], snapshot: Snapshot, now: Instant
  ) -> Bool {
    let isAnswer = lookups.answered(run, keys, snapshot, now: now)
    if let excess = lookups.excess { beginGeneration(because: excess) }
    return isAnswer
  }

  /// True: it is given up, and every key that begins like its templates is cleared.
  public mutating func lookupFailed(_ run: LookupRun, now: Instant) -> Bool {
    lookups.failed(run, now: now)
  }

  var lookupDue: Instant? {
    let pending = pendingCommits
    return lookups.due { !pending.contains($0) }
  }

  /// How far W may go, of a write that reaches `position`.
  func held(_ position: LSN) -> LSN {
    max(applied, lookups.floor.map { min($0, position) } ?? position)
  }
}
