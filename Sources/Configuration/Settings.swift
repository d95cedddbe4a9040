/// Everything a sidecar is told: the file, the environment and the defaults, already checked.
///
/// Durations are nanoseconds, sizes are bytes. The values of secrets are never printed: see `Secret`.
public struct Settings: Sendable {
  /// Put before every template with a colon; nil only without Redis. `^[a-z0-9_]{1,40}$`, not `nearside`.
  public var namespace: String?
  public var postgres: PostgresSettings
  /// nil is the embedded mode: values live in the near cache only.
  public var redis: RedisSettings?
  public var listen: ListenSettings
  public var admin: AdminSettings
  public var clients: ClientSettings
  /// How many threads serve clients; nil: by the number of processors.
  public var threads: Int?
  public var near: NearSettings
  public var staleness: StalenessSettings
  /// What a SET without a token is worth; each cache may differ.
  public var plainSet: PlainSetSettings
  /// How long a miss is held back at most because a change of its row is not visible yet, in nanoseconds.
  public var leaseWait: UInt64
  public var journal: JournalSettings
  public var log: LogSettings
  public var audit: AuditSettings
  /// In the order of the file.
  public var tables: [TableRule]
  public var caches: [CacheRule]
  /// The Redis channels on which applications say what they changed.
  public var subscribe: [String]
  public var commands: CommandSettings
  /// Sixteen lower-case hexadecimal digits over everything that decides which keys a change clears: the
  /// namespace, the tables' rules, the tags of caches and the number of fence buckets. Sidecars that differ here never trust
  /// each other's state.
  public var mappingHash: String

  public init(
    namespace: String?, postgres: PostgresSettings, redis: RedisSettings?, listen: ListenSettings,
    admin: AdminSettings? = nil, clients: ClientSettings = ClientSettings(), threads: Int? = nil,
    near: NearSettings,
    staleness: StalenessSettings,
    plainSet: PlainSetSettings,
    leaseWait: UInt64 = 20_000_000, journal: JournalSettings, log: LogSettings,
    audit: AuditSettings = AuditSettings(), tables: [TableRule],
    caches: [CacheRule], subscribe: [String] = [], commands: CommandSettings = CommandSettings(),
    mappingHash: String
  ) {
    self.namespace = namespace
    self.postgres = postgres
    self.redis = redis
    self.listen = listen
    self.admin = admin ?? AdminSettings(socket: nil)
    self.clients = clients
    self.threads = threads
    self.near = near
    self.staleness = staleness
    self.plainSet = plainSet
    self.leaseWait = leaseWait
    self.journal = journal
    self.log = log
    self.audit = audit
    self.tables = tables
    self.caches = caches
    self.subscribe = subscribe
    self.commands = commands
    self.mappingHash = mappingHash
  }

  /// `shop:`, or nothing without a namespace.
  public var keyPrefix: String { namespace.map { $0 + ":" } ?? "" }

  /// The least of the bounds that reads here have, in nanoseconds.
  public var shortestBound: UInt64 {
    caches.reduce(staleness.bound) { min($0, $1.staleness?.bound ?? $0) }
  }

  /// The templates of all governed keys: those that a change of some table's row clears, by a key, by a
  /// prefix or by a tag.
  public var governed: [KeyTemplate] {
    tables.flatMap(\.cleared) + caches.filter { !$0.tags.isEmpty }.map(\.template)
  }
}

/// A value that must not reach a log, an error or a dump: printing it shows `***`.
public struct Secret: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible {
  public let exposed: String
  public init(_ exposed: String) { self.exposed = exposed }
  public var description: String { "***" }
  public var debugDescription: String { "***" }
}

public struct PostgresSettings: Sendable {
  /// A libpq connection string or URL. Empty: libpq's own PG* variables decide. May hold a password, so it
  /// is a secret.
  public var url: Secret
  public var password: Secret?
  public var publication: String
  public var slot: SlotSettings
  public var loader: LoaderSettings

  /// Without a `loader` there is one at the same server, with the defaults.
  public init(
    url: Secret, password: Secret?, publication: String, slot: SlotSettings, loader: LoaderSettings? = nil
  ) {
    self.url = url
    self.password = password
    self.publication = publication
    self.slot = slot
    self.loader = loader ?? LoaderSettings(url: url, password: password)
  }
}

public struct SlotSettings: Sendable, Hashable {
  public enum Mode: String, Sendable, CaseIterable {
    /// One slot a fleet; whoever holds it is the tailer.
    case durable
    /// A slot of this process's own, gone with its connection. The embedded mode's default and only mode.
    case temporary
  }

  /// Lower-case letters, digits and underscores, at most 63 bytes (for a temporary slot at most 54, since
  /// eight random digits are appended).
  public var name: String
  public var mode: Mode
  /// How many bytes of log the slot may make the server keep before it is given up; nil: as many as the server lets it.
  public var maxRetained: UInt64?

  public init(name: String, mode: Mode, maxRetained: UInt64? = nil) {
    self.name = name
    self.mode = mode
    self.maxRetained = maxRetained
  }
}

public struct RedisSettings: Sendable {
  public enum Endpoint: Sendable, Hashable {
    case unix(path: String)
    case tcp(host: String, port: UInt16)
  }

  public var endpoint: Endpoint
  public var user: String?
  public var password: Secret?
  public var database: Int
  /// How long one command may take before the connection is given up, in nanoseconds.
  public var timeout: UInt64
  /// nil: not encrypted.
  public var tls: TLSSettings?
  /// Whether Redis is asked to tell of every write of the namespace's keys.
  public var tracking: Bool

  public init(
    endpoint: Endpoint, user: String?, password: Secret?, database: Int, timeout: UInt64,
    tls: TLSSettings? = nil, tracking: Bool = false
  ) {
    self.endpoint = endpoint
    self.user = user
    self.password = password
    self.database = database
    self.timeout = timeout
    self.tls = tls
    self.tracking = tracking
  }

  /// Whether it goes over a network without TLS.
  public var isPlainNetwork: Bool { if case .tcp = endpoint { tls == nil } else { false } }
}

/// How the server proves who it is, and this host too if it must.
public struct TLSSettings: Sendable, Hashable {
  /// Path of a file with the certificates (PEM) of who may sign the server's; nil: whom the system trusts.
  public var ca: String?
  /// Path of a file with this host's certificate (PEM) and those between it and its CA.
  public var certificate: String?
  /// Path of a file with its private key (PEM, not encrypted); nil: in the same file as the certificate.
  public var key: String?
  /// The name that the server's certificate must have; nil: the host of the URL.
  public var serverName: String?
  /// Whether the server must have a certificate of that name that is trusted.
  public var verifies: Bool

  public init(
    ca: String? = nil, certificate: String? = nil, key: String? = nil, serverName: String? = nil,
    verifies: Bool = true
  ) {
    self.ca = ca
    self.certificate = certificate
    self.key = key
    self.serverName = serverName
    self.verifies = verifies
  }
}

public struct NearSettings: Sendable, Hashable {
  /// The hard bound of the near cache's memory, in bytes.
  public var size: Int
  /// A reply larger than this is not kept near, in bytes.
  public var maxEntry: Int
  /// How long an entry is kept at most, in nanoseconds; nil: as long as Redis keeps it.
  public var ttl: UInt64?

  public init(size: Int, maxEntry: Int, ttl: UInt64?) {
    self.size = size
    self.maxEntry = maxEntry
    self.ttl = ttl
  }
}

public struct StalenessSettings: Sendable, Hashable {
  /// What a read is answered when the evidence is older than the bound.
  public enum Beyond: String, Sendable, CaseIterable {
    /// A miss without the right to fill: the application goes to the database.
    case bypass
    /// The stale value, counted.
    case serve
    /// An error that says how old the evidence is.
    case fail
  }

  /// In nanoseconds.
  public var bound: UInt64
  public var beyond: Beyond

  public init(bound: UInt64, beyond: Beyond) {
    self.bound = bound
    self.beyond = beyond
  }
}

public struct PlainSetSettings: Sendable, Hashable {
  public enum Mode: String, Sendable, CaseIterable {
    /// A SET counts as filling the oldest miss of its key within the window.
    case window
    /// A SET counts as filling a miss that lies a whole window back.
    case aged
    /// A SET of a governed key is never stored.
    case off
  }

  public var mode: Mode
  /// In nanoseconds.
  public var window: UInt64

  public init(mode: Mode, window: UInt64) {
    self.mode = mode
    self.window = window
  }
}

public struct JournalSettings: Sendable, Hashable {
  /// How long entries are kept, in nanoseconds.
  public var keep: UInt64
  /// How large the journal may grow, in bytes.
  public var size: Int

  public init(keep: UInt64, size: Int) {
    self.keep = keep
    self.size = size
  }
}

public struct LogSettings: Sendable, Hashable {
  public enum Level: String, Sendable, CaseIterable { case trace, debug, info, notice, warning, error }
  public enum Format: String, Sendable, CaseIterable { case auto, text, json }

  public var level: Level
  /// `auto`: text on a terminal, JSON otherwise.
  public var format: Format
  /// What a client waits for longer than this is logged, in nanoseconds; nil: nothing is.
  public var slow: UInt64?

  public init(level: Level, format: Format, slow: UInt64? = nil) {
    self.level = level
    self.format = format
    self.slow = slow
  }
}

public struct AuditSettings: Sendable, Hashable {
  /// Which part of the hits is compared with the database, 0 to 1.
  public var share: Double

  public init(share: Double = 0) { self.share = share }
}

public enum RowOperation: String, Sendable, CaseIterable { case insert, update, delete, truncate }

/// Which keys a change of one table's row clears.
public struct TableRule: Sendable {
  /// `public` when the file gives none.
  public var schema: String
  public var name: String
  public var keys: [KeyTemplate]
  /// The tags that a change hits: every entry whose cache has such a tag goes.
  public var tags: [KeyTemplate]
  /// An UPDATE that changes none of these is ignored; nil: every UPDATE counts.
  public var columns: [String]?
  public var operations: Set<RowOperation>
  public var lookups: [LookupRule]
  /// Which changes count; nil: every one.
  public var when: RowCondition?
  /// Where the rule stands in the file.
  public var place: SourcePlace

  public init(
    schema: String, name: String, keys: [KeyTemplate], tags: [KeyTemplate] = [], columns: [String]?,
    operations: Set<RowOperation>, lookups: [LookupRule] = [], when: RowCondition? = nil,
    place: SourcePlace
  ) {
    self.schema = schema
    self.name = name
    self.keys = keys
    self.tags = tags
    self.columns = columns
    self.operations = operations
    self.lookups = lookups
    self.when = when
    self.place = place
  }

  public var qualifiedName: String { schema + "." + name }
}

/// A place in the configuration file; line and column count from 1, the column in characters.
public struct SourcePlace: Sendable, Hashable {
  public var line: Int
  public var column: Int
  /// How many characters the caret line underlines, at least 1.
  public var length: Int

  public init(line: Int, column: Int, length: Int) {
    self.line = line
    self.column = column
    self.length = length
  }
}
