/// Everything that one scrape shows: the event loop, the process around it, and what Redis says of itself.
public struct SidecarReport: Sendable {
  public var loop: LoopReport
  public var process: ProcessReport
  /// nil: it has not been asked, does not answer, or there is none.
  public var redis: RedisReport?
  public var reloads: ReloadReport
  public var time: WallTime

  public init(
    loop: LoopReport, process: ProcessReport, redis: RedisReport? = nil,
    reloads: ReloadReport = ReloadReport(), time: WallTime
  ) {
    self.loop = loop
    self.process = process
    self.redis = redis
    self.reloads = reloads
    self.time = time
  }
}

/// How often the configuration was read again.
public struct ReloadReport: Sendable, Hashable {
  /// All of it was good.
  public var taken = 0
  /// It could not be used, and what was in force stayed.
  public var refused = 0
  /// Why the newest one was refused, as sentences; nil: it was not.
  public var trouble: String?
  /// Options that differ from the file since the newest reload, and hold from the next start on.
  public var needRestart: [String] = []

  public init() {}
}

/// This process as the kernel shows it. nil: it does not.
public struct ProcessReport: Sendable, Equatable {
  public var pid = 0
  public var resident: Int?
  public var virtual: Int?
  /// In nanoseconds, user and system together.
  public var cpu: UInt64?
  public var openDescriptors: Int?
  public var mostDescriptors: Int?
  /// Seconds since 1970.
  public var started: Double?

  public init() {}
}

/// Figures of Redis's INFO. nil: this version does not tell.
public struct RedisReport: Sendable, Equatable {
  public var hits: Int?
  public var misses: Int?
  public var evicted: Int?
  public var expired: Int?
  public var usedMemory: Int?
  /// 0: without limit.
  public var mostMemory: Int?
  public var clients: Int?

  public init() {}

  /// Takes INFO's text: lines of `name:value`.
  public init(info: String) {
    for line in info.split(whereSeparator: \.isNewline) {
      guard let colon = line.firstIndex(of: ":"), let value = Int(line[line.index(after: colon)...])
      else { continue }
      switch line[..<colon] {
      case "keyspace_hits": hits = value
      case "keyspace_misses": misses = value
      case "evicted_keys": evicted = value
      case "expired_keys": expired = value
      case "used_memory": usedMemory = value
      case "maxmemory": mostMemory = value
      case "connected_clients": clients = value
      default: break
      }
    }
  }
}
