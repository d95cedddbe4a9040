import CLinux

/// Nanoseconds since boot, the one clock of all threads and processes of a run.
typealias Moment = UInt64

func bootMoment() -> Moment { clinux_boot_nanoseconds() }

extension Moment {
  static func milliseconds(_ count: UInt64) -> Moment { count * 1_000_000 }
  static func seconds(_ count: Double) -> Moment { Moment(count * 1e9) }
  /// This moment less `other`; 0 if that is later.
  func less(_ other: Moment) -> Moment { self > other ? self - other : 0 }
}

/// What one run of writers and readers has seen.
///
/// Each key is one row. Every transaction that changes the row raises its version by one and stores the number of
/// the operation with it, and both are what readers put into the cache: so a value tells which write it comes from,
/// and the versions of a key are dense and ordered.
struct History {
  struct Write: Hashable {
    var key: Int
    var operation: Int
    /// Nil if the writer was never told: its connection broke.
    var version: Int?
    var began: Moment
    /// When the writer was told that it is committed; nil if it was not told.
    var acknowledged: Moment?
  }

  /// A read that the cache answered, near or from Redis.
  struct Read: Hashable {
    var key: Int
    var version: Int
    var operation: Int
    /// Before the request was sent, and after the reply was there.
    var began: Moment
    var ended: Moment
    var host: Int
    /// The operation of this key that its reader had waited for (NEARSIDE WAIT), if it had.
    var waitedFor: Int?
  }

  /// Writes that were acknowledged, or visible, may be missing from the surviving timeline, because PostgreSQL
  /// crashed with asynchronous commits under way or a standby was promoted that had not received everything.
  struct Loss: Hashable {
    /// When the server that knew them was gone.
    var at: Moment
    var what: String
    /// Another server took its place, whose positions go their own way from the last common one on.
    var newTimeline = false
  }

  /// A time in which nothing is harmed and everything has recovered.
  struct Calm: Hashable {
    var from: Moment
    var to: Moment
  }

  /// How many reads of one host fell into one window of time.
  struct Window: Hashable {
    var host: Int
    var from: Moment
    var to: Moment
    var reads = 0
    /// Of these, those that the cache answered with a value.
    var hits = 0
  }

  /// A value found where it may still be served from after everything has come to rest.
  struct Copy: Hashable {
    /// "Redis", "host 2", for the report.
    var place: String
    var key: Int
    var version: Int
    var operation: Int
  }

  /// `staleness.bound`.
  var bound: Moment
  var writes: [Write] = []
  var reads: [Read] = []
  /// The operation behind each version of each key on the surviving timeline; version 0 is where a row began.
  var chains: [Int: [Int]] = [:]
  var losses: [Loss] = []
  var calms: [Calm] = []
  var windows: [Window] = []
  var copies: [Copy] = []
  /// Reads in all, those without a value included.
  var allReads = 0
  /// As the sidecars have counted them.
  var nearHits = 0
}

/// What a history must not show.
enum Rule: String, CaseIterable, Sendable {
  /// A served version is at least the newest acknowledged before the read began, less the bound.
  case bound = "C1"
  /// A served value was written and committed, and no later than it was read.
  case phantom = "C2"
  /// Who has waited for the position of a write reads that write, or a later one.
  case ownWrite = "C3"
  /// After quiet every copy equals the row.
  case quiet = "C4"
  /// PostgreSQL is told to forget only what is visible.
  case confirmed = "C6"
  /// Outside faults the cache works.
  case liveness = "C7"
  /// Within a generation positions and counters never go back.
  case monotonic = "C10"
  /// There is enough in the history to show anything.
  case size
}

struct Violation: Hashable, CustomStringConvertible {
  var rule: Rule
  var description: String

  init(_ rule: Rule, _ text: String) {
    self.rule = rule
    description = "\(rule.rawValue): \(text)"
  }
}
