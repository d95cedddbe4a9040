extension EventLoop {
  /// A job that was handed to the runner has ended.
  mutating func sqlFinished(_ outcome: SQLOutcome) {
    switch loading.jobs.removeValue(forKey: outcome.id) {
    case .load(let job): loaded(job, outcome)
    case .loads(let jobs): loaded(jobs, outcome)
    case .write(let write): wrote(write, outcome)
    case nil: break
    }
  }
}
