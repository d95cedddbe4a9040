import Configuration
import Invalidation
import Metrics
import NearCache

/// What the event loop counts for the admin endpoint beside `Counters`: by template, by command and by table.
///
/// Counting allocates nothing on the way of a near hit, which adds to one number in memory of its own.
struct Tally: ~Copyable {
  /// Reads that the near cache answered in a run, by the number of their template. A run that is taken back, because
  /// the process stood still for longer than the bound, has been counted.
  let runHits: UnsafeMutablePointer<Int>
  /// Set while a read is done again that has been counted: it waited for a load, or for its turn.
  var isRepeated = false
  /// Everything else by template; the first is of no template.
  private(set) var caches: [CacheReport]
  /// GETs and MGETs that were answered in runs.
  var runGets = 0
  var runMgets = 0
  /// GETs that were passed on without more ado.
  var relayedGets = 0
  /// The number of GET in the table.
  let get: Int

  /// By the number of a command in the table; behind the last, commands that it does not have.
  private(set) var commands: [CommandReport]
  /// The number of the command that is being executed, and whether it was sent to Redis.
  var current: Int
  var kind: CommandKind?
  var wentUpstream = false

  private(set) var invalidations: [InvalidationReport] = []
  var nearDelay = Histogram(.delays)
  var generations = 0
  var upstreamErrors = 0
  /// The longest wait for a reply of Redis, once for each time that replies are read.
  private(set) var redisDelay = Histogram(.commands)
  /// Set when replies are about to be read of which the first, which has waited longest, is to be observed.
  var observesRedis = false
  /// How long statements in the database took.
  var databaseDelay = Histogram(.loads)

  /// Which near hits of this thread are drawn for the keys that are read most.
  var draw = HotKeyBoard.draw()
  let hotKeys = HotKeyBoard()

  /// Who watches what clears keys; nil: nobody.
  var tap: (@Sendable ([TapEvent]) -> Void)?
  /// What they are told at the end of the present message.
  var tapped: [TapEvent] = []

  init(templates: [String], commands table: CommandTable) {
    runHits = .allocate(capacity: templates.count + 1)
    runHits.initialize(repeating: 0, count: templates.count + 1)
    caches = [CacheReport(name: "")] + templates.map { CacheReport(name: $0) }
    commands = table.names.map { CommandReport(name: $0) } + [CommandReport(name: "other")]
    current = table.names.count
    get = table.names.firstIndex(of: "get") ?? table.names.count
  }

  deinit { runHits.deallocate() }

  // MARK: Reads

  enum Outcome { case hit, negativeHit, redisHit, miss, stale, bypass }

  mutating func read(_ outcome: Outcome, of rule: Governance.Rule) {
    guard !isRepeated else { return }
    let number = rule.number
    switch outcome {
    case .hit: caches[number].hit += 1
    case .negativeHit: caches[number].negativeHit += 1
    case .redisHit: caches[number].redisHit += 1
    case .miss: caches[number].miss += 1
    case .stale: caches[number].stale += 1
    case .bypass: caches[number].bypass += 1
    }
  }

  mutating func put(_ rule: Governance.Rule) { caches[rule.number].puts += 1 }

  mutating func coalesced(_ rule: Governance.Rule) { caches[rule.number].loads.coalesced += 1 }

  enum LoadResult { case found, negative, failed, timedOut }

  mutating func loaded(_ result: LoadResult, of rule: Governance.Rule, took nanoseconds: UInt64) {
    let number = rule.number
    switch result {
    case .found: caches[number].loads.found += 1
    case .negative: caches[number].loads.negative += 1
    case .failed: caches[number].loads.failed += 1
    case .timedOut: caches[number].loads.timedOut += 1
    }
    caches[number].loads.durations.observe(nanoseconds)
  }

  /// By template, the hits of runs included. Keys of no template are not governed, and their reads are not counted.
  var cacheReports: [CacheReport] {
    var all = caches
    for index in all.indices { all[index].hit += runHits[index] }
    return Array(all.dropFirst())
  }

  // MARK: Commands

  mutating func executed(isEmbedded: Bool) {
    if wentUpstream {
      commands[current].redis += 1
    } else if kind == .near || kind.isRead || isEmbedded && kind != .local {
      commands[current].near += 1
    } else {
      commands[current].local += 1
    }
    wentUpstream = false
  }

  mutating func answered(_ command: Int, after nanoseconds: UInt64) {
    if commands[command].durations == nil { commands[command].durations = Histogram(.commands) }
    commands[command].durations?.observe(nanoseconds)
    if observesRedis {
      redisDelay.observe(nanoseconds)
      observesRedis = false
    }
  }

  /// Those that were used.
  var commandReports: [CommandReport] {
    commands.compactMap { command in
      var command = command
      if command.name == "get" {
        command.near += runGets
        command.redis += relayedGets
      }
      if command.name == "mget" { command.near += runMgets }
      return command.near + command.redis + command.local > 0 ? command : nil
    }
  }

  // MARK: Invalidations

  mutating func invalidated(_ table: String?, _ source: InvalidationReport.Source, count: Int = 1, keys: Int)
  {
    let index: Int
    if let known = invalidations.firstIndex(where: { $0.table == table && $0.source == source }) {
      index = known
    } else {
      index = invalidations.count
      invalidations.append(InvalidationReport(table: table, source: source))
    }
    invalidations[index].count += count
    invalidations[index].keys += keys
  }
}

extension CommandKind? {
  fileprivate var isRead: Bool { if case .some(.read) = self { true } else { false } }
}
