import Configuration
import Glibc
import Invalidation

/// The tailer's way to the fleet's state in Redis: one request at a time, each a script, on a connection that
/// never blocks.
///
/// It begins with a blocking conversation (connect, log in, load the scripts, read the state), before the
/// tailer takes the slot, so that nobody takes it who does not reach Redis; a sink whose connection breaks is
/// replaced, not repaired.
public struct RedisSink: ~Copyable, TailSink {
  /// How long an answer may be awaited, whatever `redis.timeout` allows: who holds the slot without reaching
  /// Redis keeps every other sidecar from doing better.
  static let patience: UInt64 = 1_500_000_000

  var connection: RedisConnection
  let keys: StateKeys
  let journal: JournalSettings
  let tableNames: [String]
  let groups: KeyGroups
  let purgePatterns: [String]
  let purgeMatch: String
  let timeout: UInt64

  /// What EVALSHA calls each script.
  let digests: [Request: String]
  var underWay: Request?
  /// What the replies to come are, in their order.
  var expected: [Expected] = []
  /// The answer of the request under way, while replies behind it are to come.
  var held: StateReply?
  /// Redis's clock before the request under way, in microseconds.
  var clock: UInt64?
  var stepSize = StepSize()
  var sent = Instant(nanoseconds: 0)
  var unsent = false
  /// The request under way, kept to be sent again if Redis has lost the script.
  var arguments = RedisArguments()
  var buckets: [Int32] = []
  var journalCheck: JournalCheck

  enum Expected { case answer, clock, nothing }

  enum Request: String, CaseIterable {
    case apply, takeover, newGeneration, purge, purged, sweep, swept

    /// Whether it is a step of clearing, whose time decides how large the next one is.
    var isTimed: Bool { self == .purge || self == .sweep }

    var script: String {
      switch self {
      case .apply: StateScripts.apply
      case .takeover: StateScripts.takeover
      case .newGeneration: StateScripts.newGeneration
      case .purge: StateScripts.purge
      case .purged: StateScripts.purged
      case .sweep: StateScripts.sweep
      case .swept: StateScripts.swept
      }
    }
  }

  /// - Parameters:
  ///   - tableNames: `schema.name` by the table indices of the batches' keys.
  ///   - groups: which prefixes rules give, and how the tags of a key are told.
  ///   - purgePatterns: Lua patterns of the governed keys; none: all keys that `purgeMatch` covers.
  ///   - purgeMatch: SCAN's glob for the namespace, such as `shop:*`.
  public init(
    settings: RedisSettings, keys: StateKeys, journal: JournalSettings, tableNames: [String],
    groups: KeyGroups, purgePatterns: [String], purgeMatch: String
  ) throws(RedisError) {
    var connection = try RedisConnection(settings, name: "nearside-tailer")
    var digests: [Request: String] = [:]
    for request in Request.allCases {
      guard let digest = try connection.demand(["SCRIPT", "LOAD", request.script]).text else {
        throw RedisError(unexpected: "SCRIPT LOAD", place: connection.place)
      }
      digests[request] = digest
    }
    // An answer of any kind will do: what is there is judged once the slot is held, by `takeover`.
    _ = try connection.command(["HMGET", keys.meta, "g", "h"])
    connection.becomeNonBlocking()
    self.connection = connection
    self.digests = digests
    self.keys = keys
    self.journal = journal
    self.tableNames = tableNames
    self.groups = groups
    self.purgePatterns = purgePatterns
    self.purgeMatch = purgeMatch
    timeout = min(settings.timeout, Self.patience)
    journalCheck = JournalCheck(limit: journal.size)
  }

  public var descriptor: Int32 { connection.descriptor }
  public var wantsToWrite: Bool { unsent }
}

extension SinkError {
  init(_ error: RedisError) {
    let cause: Cause =
      switch error.kind {
      case .unreachable, .closed: .closed
      case .timedOut: .silent
      case .refused, .denied, .answered, .malformed: .refused
      }
    self.init(error.description, cause: cause)
  }
}

/// When the journal's size is looked at: MEMORY USAGE costs as much as a small apply, so not every time.
struct JournalCheck {
  private let limit: Int
  private var bytes = 0
  private var steps = 0

  init(limit: Int) { self.limit = limit }

  /// Every hundredth step, since applications' deletions add entries too, and whenever a sixteenth of the
  /// limit has been added.
  mutating func isDue(adding count: Int) -> Bool {
    bytes += count
    steps += 1
    guard steps >= 100 || bytes >= limit / 16 else { return false }
    (bytes, steps) = (0, 0)
    return true
  }
}

func hexadecimal8(_ value: UInt32) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: 8 - digits.utf8.count) + digits
}

/// This instant by the clock of `Instant`.
func bootInstant() -> Instant {
  var now = timespec()
  clock_gettime(CLOCK_BOOTTIME, &now)
  return Instant(nanoseconds: UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec))
}
