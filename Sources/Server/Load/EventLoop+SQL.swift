extension EventLoop {
  /// A job that was handed to the runner has ended.
  mutating func sqlFinished(_ outcome: SQLOutcome) {}
}
