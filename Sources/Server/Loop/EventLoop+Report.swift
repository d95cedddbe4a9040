import Configuration
import Invalidation
import Metrics
import NearCache
import Policies

/// What the admin endpoint is told.
extension EventLoop {
  mutating func report() -> LoopReport {
    // A turn is told by when it began.
    let began = now
    now = clock()
    defer { now = began }
    collectCounts()
    var report = LoopReport()
    report.version = version
    report.namespace = settings.namespace
    report.isEmbedded = embedded != nil
    report.socket = listener.path
    report.loopback = listener.loopback.map { String(describing: $0.address) }
    report.uptime = now.since(started)
    report.isAccepting = !isOpening && !isStopping
    report.role = tail.role.rawValue
    report.standing = standing
    report.trouble = tail.trouble
    report.isPostgresAway = tail.isPostgresAway
    report.generation = generationReport
    report.applied = appliedPosition.rawValue
    report.position = tail.position.rawValue
    report.confirmed = tail.confirmed.rawValue
    report.tail = tail.figures
    report.staleness = certificate.map { now.since($0) }
    report.stalenessBound = settings.staleness.bound
    report.near = nearReport
    report.caches = tally.cacheReports
    let holdings = near.statistics.holdings
    for index in report.caches.indices {
      report.caches[index].entries = holdings[index + 1].entries
      report.caches[index].bytes = holdings[index + 1].bytes
    }
    report.invalidations = tally.invalidations
    report.nearDelay = tally.nearDelay
    report.commands = tally.commandReports
    report.hotKeys = tally.hotKeys.top(20, at: now)
    if settings.redis != nil {
      report.redis = RedisLinkReport()
      report.redis?.isUp = resp2.isReady
      report.redis?.trouble = resp2.isReady ? nil : resp2.trouble
      report.redis?.version = redisVersion
      report.redis?.errors = tally.upstreamErrors
      report.redis?.durations = tally.redisDelay
    }
    report.clients = clientsReport
    report.loader = loaderReport
    report.writes = writesReport
    if sampler != nil {
      report.audit = audit
      report.audit?.share = settings.audit.share
    }
    report.counters = statusLines().compactMap { line in
      guard let colon = line.firstIndex(of: ":"), let value = Int(line[line.index(after: colon)...])
      else { return nil }
      return (String(line[..<colon]), value)
    }
    return report
  }

  private var generationReport: GenerationReport {
    var report = GenerationReport()
    report.id = currentGeneration?.hex
    if let beginning = chronicle.beginning, beginning.generation == currentGeneration {
      report.age = now.since(beginning.at)
    }
    if let reason = generationReason, reason.generation == currentGeneration { report.reason = reason.text }
    report.isCleared = isCleared
    report.isWatching = isWatching
    report.begun = tally.generations
    return report
  }

  private var nearReport: NearReport {
    let statistics = near.statistics
    var report = NearReport()
    report.entries = statistics.entries
    report.bytes = statistics.bytes
    report.limit = statistics.limit
    report.hits = counters.nearHits
    report.misses = counters.nearMisses
    report.evictedForRoom = Int(clamping: statistics.evictions.size)
    report.expired = Int(clamping: statistics.evictions.expired)
    report.invalidated = Int(clamping: statistics.evictions.invalidated)
    report.flushed = Int(clamping: statistics.evictions.flush)
    report.drops = counters.drops
    return report
  }

  /// What clients call themselves is theirs to choose: of more names than these the rest is `other`.
  private static let mostLibraries = 20

  private var clientsReport: ClientsReport {
    var report = ClientsReport()
    report.now = counters.clients
    report.limit = inUse.count
    report.refused = counters.clientsRefused
    report.dropped = counters.clientsDropped
    report.connections = counters.connections
    report.commands = counters.commands
    report.protocolErrors = counters.protocolErrors
    var counts: [ClientsReport.Library: Int] = [:]
    for slot in inUse.indices where inUse[slot] {
      let resp = clients[slot].resp3 ? 3 : 2
      var library = ClientsReport.Library(
        name: Self.shown(clients[slot].libraryName), version: Self.shown(clients[slot].libraryVersion),
        resp: resp, clients: 0)
      if counts[library] == nil, counts.count >= Self.mostLibraries {
        library = ClientsReport.Library(name: "other", version: "", resp: resp, clients: 0)
      }
      counts[library, default: 0] += 1
    }
    report.libraries = counts.map { library, count in
      var library = library
      library.clients = count
      return library
    }.sorted { ($0.name, $0.version, $0.resp) < ($1.name, $1.version, $1.resp) }
    return report
  }

  private static func shown(_ name: String) -> String { String(name.prefix(40)) }

  private var loaderReport: LoaderReport? {
    guard sql != nil else { return nil }
    var report = LoaderReport()
    report.limit = loading.pace.limit
    report.loads = counters.loads
    report.failed = counters.loadsFailed
    report.coalesced = tally.cacheReports.reduce(0) { $0 + $1.loads.coalesced }
    report.waiting = loading.table.count
    report.isAway = loading.isAway
    report.durations = tally.databaseDelay
    return report
  }

  private var writesReport: WritesReport {
    var report = WritesReport()
    report.through = counters.writes
    report.failed = counters.writesFailed
    guard governance.writesBehind else { return report }
    var behind = WritesReport.Behind()
    behind.depth = writing.backlog.depth
    behind.age = UInt64(clamping: writing.backlog.age) * 1_000_000
    behind.dead = writing.backlog.dead
    behind.isFlushing = writing.flusher.isFlushing
    behind.trouble = writing.flusher.trouble
    report.behind = behind
    return report
  }
}
