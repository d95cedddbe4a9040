import Invalidation
import Metrics
import Policies

extension EventLoop {
  /// A job that was handed to the runner has ended.
  mutating func sqlFinished(_ outcome: SQLOutcome) {
    if outcome.took > 0 { tally.databaseDelay.observe(outcome.took) }
    switch loading.jobs.removeValue(forKey: outcome.id) {
    case .load(let job):
      notePace(outcome)
      loaded(job, outcome)
    case .loads(let jobs):
      notePace(outcome)
      loaded(jobs, outcome)
    case .write(let write): wrote(write, outcome)
    case nil: break
    }
  }

  /// How the database does decides how many loads it is given.
  private mutating func notePace(_ outcome: SQLOutcome) {
    switch outcome.result {
    case .success: loading.pace.succeeded()
    case .failure(let failure):
      switch failure.kind {
      case .statement: loading.pace.succeeded()
      case .timedOut, .overloaded: loading.pace.slowed()
      case .unreachable:
        loading.isAway = true
        loading.awayAt = now
        return loading.pace.begin()
      }
    }
    loading.isAway = false
  }

  /// What is shown while PostgreSQL is away begins no load, so that only this finds out whether it is back.
  mutating func tickAway() {
    if loading.isAway, now.since(loading.awayAt) >= Loading.awayPeriod { loading.isAway = false }
  }

  /// Everything that was cached may be missed at once.
  mutating func expectHerd() {
    endAllTurns()
    loading.pace.begin()
  }
}
