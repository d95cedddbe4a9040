import Glibc

/// What the event loop says of itself at one moment. Durations are nanoseconds, sizes are bytes, counts run from
/// the start of the process; no member but `hotKeys` holds a key, and none a value.
public struct LoopReport: Sendable {
  public var version = ""
  /// nil: none is configured.
  public var namespace: String?
  public var isEmbedded = false
  public var socket = ""
  /// The loopback address with its port; nil: there is none.
  public var loopback: String?
  public var uptime: UInt64 = 0
  /// Whether new connections are accepted.
  public var isAccepting = false

  /// `tailer`, `follower`, `standalone` or `waiting`.
  public var role = ""
  /// What is followed, in words; `following` is good.
  public var standing = ""
  /// What is wrong with the tail; nil: nothing.
  public var trouble: String?
  /// Whether the trouble is that PostgreSQL cannot be reached.
  public var isPostgresAway = false
  public var generation = GenerationReport()
  public var applied: LogPosition = 0
  public var position: LogPosition = 0
  public var confirmed: LogPosition = 0
  public var tail: TailFigures?
  /// How old the evidence is that near values are current; nil: there is none.
  public var staleness: UInt64?
  public var stalenessBound: UInt64 = 0

  public var near = NearReport()
  public var caches: [CacheReport] = []
  public var invalidations: [InvalidationReport] = []
  /// From the commit of the oldest transaction of a batch until its keys had left this near cache.
  public var nearDelay = Histogram(.delays)
  public var commands: [CommandReport] = []
  /// The keys that were read most near, the most first; for whoever may see keys.
  public var hotKeys: [HotKeys.Entry] = []
  /// nil in the embedded mode.
  public var redis: RedisLinkReport?
  public var clients = ClientsReport()
  /// nil: nothing is loaded or written.
  public var loader: LoaderReport?
  public var writes = WritesReport()
  /// nil: there is nothing to compare, since no cache loads anything.
  public var audit: AuditReport?
  /// Every figure of NEARSIDE STATUS, under its name there.
  public var counters: [(name: String, value: Int)] = []

  public init() {}
}

/// A position of PostgreSQL's log.
public typealias LogPosition = UInt64

extension LogPosition {
  /// `16/B374D848`, as PostgreSQL writes it.
  public var logPosition: String {
    String(self >> 32, radix: 16, uppercase: true) + "/"
      + String(self & 0xffff_ffff, radix: 16, uppercase: true)
  }
}

public struct GenerationReport: Sendable {
  /// Sixteen hexadecimal digits; nil: none is followed.
  public var id: String?
  public var age: UInt64?
  /// Why it began, as far as this host has been told.
  public var reason: String?
  /// Whether what older generations left in Redis is cleared.
  public var isCleared = false
  /// Whether transactions from before the slot may still become visible.
  public var isWatching = false
  /// How many this host has followed.
  public var begun = 0

  public init() {}
}

/// What only the holder of the slot knows.
public struct TailFigures: Sendable, Equatable {
  public var transactions = 0
  /// How many rows that rules ask for, by table and operation.
  public var changes: [Change] = []
  /// The age of the oldest commit that the state does not reflect yet; 0: it reflects all that was received.
  public var lag: UInt64 = 0
  /// How far the server's log reached when it was last asked.
  public var serverEnd: LogPosition = 0
  /// From the commit of the oldest transaction of a batch until the state reflected it.
  public var delay = Histogram(.delays)
  /// nil: it has not been looked at.
  public var slot: SlotReport?

  public struct Change: Sendable, Hashable {
    /// With its schema.
    public var table: String
    /// `insert`, `update` or `delete`.
    public var operation: String
    public var count: Int

    public init(table: String, operation: String, count: Int) {
      self.table = table
      self.operation = operation
      self.count = count
    }
  }

  public init() {}
}

/// The replication slot as PostgreSQL shows it.
public struct SlotReport: Sendable, Hashable {
  public var name: String
  /// `reserved`, `extended`, `unreserved` or `lost`.
  public var walStatus: String?
  /// How much log the server keeps for it, in bytes.
  public var retained: UInt64?
  /// How much more may be written before it is lost, in bytes; nil: without limit.
  public var safe: Int64?
  /// Beyond so many bytes of retained log it is given up; nil: never.
  public var bound: UInt64?

  public init(
    name: String, walStatus: String?, retained: UInt64?, safe: Int64?, bound: UInt64? = nil
  ) {
    self.name = name
    self.walStatus = walStatus
    self.retained = retained
    self.safe = safe
    self.bound = bound
  }
}

/// What came of comparing cached values with the database.
public struct AuditReport: Sendable, Hashable {
  /// Which part of the hits is compared, 0 to 1.
  public var share = 0.0
  /// Compared with an outcome.
  public var samples = 0
  /// Of these, values that differed though no change of their key was on its way.
  public var stale = 0
  /// Not comparable: changed all the time, or a server did not answer.
  public var undecided = 0

  public init() {}

  /// How many nines the share of values that were not stale amounts to: 3 is 99.9 %. While none was stale it is what
  /// so many samples can show: 3 after 1,000. nil: nothing was compared.
  public var nines: Double? {
    guard samples > 0 else { return nil }
    return stale == 0 ? log10(Double(samples)) : max(0, -log10(Double(stale) / Double(samples)))
  }
}

public struct NearReport: Sendable {
  public var entries = 0
  public var bytes = 0
  public var limit = 0
  public var hits = 0
  public var misses = 0
  public var evictedForRoom = 0
  public var expired = 0
  public var invalidated = 0
  public var flushed = 0
  /// How often the whole near cache was dropped.
  public var drops = 0

  public init() {}
}

/// What became of reads of the keys of one template. A read of one key counts once.
public struct CacheReport: Sendable, Equatable {
  /// The template, as the configuration has it.
  public var name: String
  /// Answered from the near cache.
  public var hit = 0
  /// The near cache knew that there is no such row.
  public var negativeHit = 0
  /// Redis had a value that counts.
  public var redisHit = 0
  public var miss = 0
  /// A value that was shown although the evidence was too old, by configuration.
  public var stale = 0
  /// A miss without the right to fill.
  public var bypass = 0
  /// Values that were put into the near cache.
  public var puts = 0
  /// What the near cache holds of it now.
  public var entries = 0
  public var bytes = 0
  public var loads = LoadFigures()

  /// Reads that the near cache answered.
  public var near: Int { hit + negativeHit + stale }
  public var reads: Int { near + redisHit + miss + bypass }

  public init(name: String) { self.name = name }
}

public struct LoadFigures: Sendable, Equatable {
  public var found = 0
  /// The statement found no row.
  public var negative = 0
  public var failed = 0
  public var timedOut = 0
  /// Reads that waited for a load that another read had begun.
  public var coalesced = 0
  public var durations = Histogram(.loads)

  public init() {}
}

public struct InvalidationReport: Sendable, Hashable {
  public enum Source: String, Sendable, CaseIterable {
    /// A row changed.
    case wal
    /// Redis told that somebody wrote the key there.
    case redis
    /// An application's command: DEL, NEARSIDE INVALIDATE, a change of expiry.
    case write
    /// `nearside.invalidate`, called in SQL.
    case manual
  }

  /// With its schema; nil: no table's row.
  public var table: String?
  public var source: Source
  /// How many messages.
  public var count = 0
  /// How many keys, prefixes and tags they named.
  public var keys = 0

  public init(table: String?, source: Source) {
    self.table = table
    self.source = source
  }
}

public struct CommandReport: Sendable {
  /// In lower case; `other` for one that Nearside does not know.
  public var name: String
  public var near = 0
  public var redis = 0
  public var local = 0
  /// From sending it to Redis until the reply was here.
  public var durations: Histogram?

  public init(name: String) { self.name = name }
}

/// The connections that all clients share.
public struct RedisLinkReport: Sendable {
  public var isUp = false
  /// nil while it is up.
  public var trouble: String?
  public var version = ""
  /// How often a connection was lost or could not be made.
  public var errors = 0
  /// The longest that a command of a client had waited for its reply, once for each time that replies were read.
  public var durations = Histogram(.commands)

  public init() {}
}

public struct ClientsReport: Sendable {
  public struct Library: Sendable, Hashable {
    /// As its CLIENT SETINFO said; empty: it said nothing.
    public var name: String
    public var version: String
    public var resp: Int
    public var clients: Int

    public init(name: String, version: String, resp: Int, clients: Int) {
      self.name = name
      self.version = version
      self.resp = resp
      self.clients = clients
    }
  }

  public var now = 0
  public var limit = 0
  public var refused = 0
  public var dropped = 0
  public var connections = 0
  public var libraries: [Library] = []
  public var commands = 0
  public var protocolErrors = 0

  public init() {}
}

public struct LoaderReport: Sendable {
  /// How many loads may run at a time now.
  public var limit = 0
  public var loads = 0
  public var failed = 0
  public var coalesced = 0
  public var waiting = 0
  /// Whether the newest statement found no server.
  public var isAway = false
  /// How long statements took, once each.
  public var durations = Histogram(.loads)

  public init() {}
}

public struct WritesReport: Sendable {
  public struct Behind: Sendable, Equatable {
    public var depth = 0
    public var age: UInt64 = 0
    public var dead = 0
    public var isFlushing = false
    public var trouble: String?

    public init() {}
  }

  public var through = 0
  public var failed = 0
  /// nil: no cache is written behind.
  public var behind: Behind?

  public init() {}
}
