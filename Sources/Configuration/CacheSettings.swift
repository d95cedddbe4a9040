/// What is special about the keys of one template.
public struct CacheRule: Sendable {
  public var template: KeyTemplate
  /// nil: these keys are never kept near.
  public var near: NearRule?
  public var plainSet: PlainSetSettings
  /// nil: the global one.
  public var staleness: StalenessSettings?
  /// The tags that each entry belongs to. Their columns stand in `template` too, so they follow from the key.
  public var tags: [KeyTemplate]
  /// How long a value is kept in Redis at most, in nanoseconds; nil: as long as its SET says.
  public var ttl: UInt64?
  /// The largest part of `ttl` by which it is shortened at random, 0 to 1. It is never lengthened.
  public var jitter: Double
  /// How long "there is no such row" is kept, in nanoseconds; nil: not at all. Only with `load`.
  public var negative: UInt64?
  /// nil: the application loads (cache-aside).
  public var load: LoadSettings?
  public var write: WriteSettings
  public var stampede: StampedeSettings
  public var onChange: OnChange
  /// For how long beyond the bound of staleness the last value is still answered while PostgreSQL cannot be
  /// reached, in nanoseconds; nil: not at all.
  public var failSafe: UInt64?

  public struct NearRule: Sendable, Hashable {
    /// In nanoseconds; nil: as long as Redis keeps it.
    public var ttl: UInt64?
    public init(ttl: UInt64?) { self.ttl = ttl }
  }

  /// What becomes of a key when its row changes.
  public enum OnChange: String, Sendable, CaseIterable {
    /// It is deleted.
    case forget
    /// It is deleted, and loaded again at once if it was read lately. Only with `load`.
    case refresh
  }

  public init(
    template: KeyTemplate, near: NearRule?, plainSet: PlainSetSettings, staleness: StalenessSettings? = nil,
    tags: [KeyTemplate] = [], ttl: UInt64? = nil, jitter: Double = 0, negative: UInt64? = nil,
    load: LoadSettings? = nil, write: WriteSettings = .around,
    stampede: StampedeSettings = StampedeSettings(), onChange: OnChange = .forget, failSafe: UInt64? = nil
  ) {
    self.template = template
    self.near = near
    self.plainSet = plainSet
    self.staleness = staleness
    self.tags = tags
    self.ttl = ttl
    self.jitter = jitter
    self.negative = negative
    self.load = load
    self.write = write
    self.stampede = stampede
    self.onChange = onChange
    self.failSafe = failSafe
  }
}

/// Read-through: the statement that a miss runs.
public struct LoadSettings: Sendable, Hashable {
  /// What a key's value is made of.
  public enum Shape: String, Sendable, CaseIterable {
    /// A single column as it is, several as one JSON object.
    case string
    /// One row: a field for each column.
    case hash
    /// An element for each row of one column, in their order.
    case list
    /// A member for each row of one column.
    case set
  }

  /// Its names are columns of the cache's template.
  public var sql: SQLTemplate
  public var shape: Shape
  /// The statement for several keys at once; its names are those of `sql` and bind arrays. nil: there is none.
  public var many: SQLTemplate?
  /// How long it may take, in nanoseconds.
  public var timeout: UInt64

  public init(
    sql: SQLTemplate, shape: Shape = .string, many: SQLTemplate? = nil, timeout: UInt64 = 2_000_000_000
  ) {
    self.sql = sql
    self.many = many
    self.shape = shape
    self.timeout = timeout
  }
}

/// What a SET of a governed key means for PostgreSQL.
///
/// The names of its statement are columns of the cache's template, `value` (the value that is set) and `ttl`
/// (milliseconds, or NULL without one).
public enum WriteSettings: Sendable, Hashable {
  /// Nothing: the application writes there itself.
  case around
  /// The statement runs first, and the value is stored once it has committed.
  case through(SQLTemplate)
  /// The value is stored and journalled first, and the statement runs later.
  case behind(BehindSettings)

  public enum Policy: String, Sendable, CaseIterable { case around, through, behind }

  public var policy: Policy {
    switch self {
    case .around: .around
    case .through: .through
    case .behind: .behind
    }
  }

  public var sql: SQLTemplate? {
    switch self {
    case .around: nil
    case .through(let sql): sql
    case .behind(let behind): behind.sql
    }
  }
}

extension Settings {
  /// Whether some cache is written behind.
  public var writesBehind: Bool { caches.contains { $0.write.policy == .behind } }
}

/// How what was acknowledged reaches PostgreSQL later.
public struct BehindSettings: Sendable, Hashable {
  public var sql: SQLTemplate
  /// How long an entry waits for others of its batch, in nanoseconds.
  public var delay: UInt64
  /// How many entries a batch has at most, 1 to 10,000.
  public var batch: Int
  /// How often an entry is tried before it goes to the dead-letter stream, 1 to 1,000.
  public var attempts: Int
  /// How many entries of the whole fleet may be pending before a SET waits, `batch` to 1,000,000.
  public var most: Int
  /// How long it waits then before it is refused, in nanoseconds.
  public var wait: UInt64

  public init(
    sql: SQLTemplate, delay: UInt64 = 500_000_000, batch: Int = 200, attempts: Int = 5, most: Int = 10_000,
    wait: UInt64 = 1_000_000_000
  ) {
    self.sql = sql
    self.delay = delay
    self.batch = batch
    self.attempts = attempts
    self.most = most
    self.wait = wait
  }
}

/// What keeps many readers of one missing key from asking PostgreSQL all at once.
public struct StampedeSettings: Sendable, Hashable {
  /// Whether readers on this host wait for the one that loads, or that holds the lease; nil: with `load` they do.
  /// An application that never stores that there is nothing would wait at each such miss, so it has to ask for it.
  public var coalesce: Bool?
  /// For how long one host may keep the others from loading the same key, in nanoseconds; nil: they do not
  /// wait for each other. Only with `load` and Redis.
  public var lock: UInt64?
  /// XFetch's beta, above zero: a larger one begins the refresh earlier, 1 is the best for exponentially
  /// distributed loads; nil: no early refresh. Only with `load` and `ttl`.
  /// Source: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015.
  public var early: Double?
  /// How long a reader waits at most for another's load, in nanoseconds.
  public var wait: UInt64

  public init(
    coalesce: Bool? = nil, lock: UInt64? = nil, early: Double? = nil, wait: UInt64 = 1_000_000_000
  ) {
    self.coalesce = coalesce
    self.lock = lock
    self.early = early
    self.wait = wait
  }
}
