/// One comparison of a cached value with the database, allowing for changes on their way: what to do next, and what
/// comes of it. It knows neither sockets nor SQL.
///
/// A value counts as stale only with proof: the database has answered something else (as of some instant), then this
/// host has applied everything that the log held after that, no removal of the key was among it, and the same value is
/// still served.
struct AuditTrial {
  /// What a read of the key was answered, with what this host last heard of it.
  struct Reading: Equatable {
    /// Empty: nothing.
    var value: [[UInt8]]
    /// The last removal that this host has heard of, and the generation; anything that changes with them.
    var removal: String
  }

  enum Verdict: Equatable { case agrees, stale, undecided }

  enum Step: Equatable {
    /// Ask the database.
    case load
    /// Ask how far the log goes, wait until this host has applied it, and read again.
    case settle
    case read
    case done(Verdict)
  }

  private var first: Reading?
  private var loaded: [[UInt8]]?
  private var tries = 0

  /// How often it is tried anew when a change came in between.
  static let mostTries = 5

  mutating func read(_ reading: Reading?) -> Step {
    guard let reading else { return .done(.undecided) }
    guard let first, let loaded else {
      self.first = reading
      return .load
    }
    if reading.value == loaded { return .done(.agrees) }
    if reading == first { return .done(.stale) }
    // Something came in between: begin with what is served now.
    tries += 1
    guard tries < Self.mostTries else { return .done(.undecided) }
    self.first = reading
    self.loaded = nil
    return .load
  }

  /// - Parameter value: nil: there is no answer.
  mutating func loaded(_ value: [[UInt8]]?) -> Step {
    guard let value, let first else { return .done(.undecided) }
    if value == first.value { return .done(.agrees) }
    loaded = value
    return .settle
  }

  /// - Parameter isApplied: whether everything that the log held after the load has been applied here.
  mutating func settled(_ isApplied: Bool) -> Step { isApplied ? .read : .done(.undecided) }
}
