import Configuration

/// What one seed is about: sizes, times and which faults there are. Most seeds lack most kinds of faults, since
/// a run in which everything goes wrong at once seldom gets anywhere.
struct Swarm {
  enum Fault: Int, CaseIterable {
    // Hosts.
    case pause, pauseTailer, killHost, stopHost
    // Connections of one host.
    case cutRedis, cutPostgres, cutStream, slowNetwork
    // One direction of one connection stands still for a while, and nothing of it is lost.
    case stallReplies, stallFeed, stallSink, stallStream
    // Redis.
    case failover, failoverBehindProxy, restartEmpty, flush, evictState, evictJournal, evictValue, trimJournal
    case redisClock
    // PostgreSQL.
    case crash, restart, promote, dropSlot, moveSlot, recreateSlot, holdCommits, hiddenWrite
    case redefine, redefineSilently, truncate
    // Applications.
    case ask
  }

  /// The danger that the run is about; empty: none in particular.
  var theme = ""
  var hosts: Int
  var keys: Int
  var flows: Int
  /// Nanoseconds.
  var bound: UInt64
  var window: UInt64
  var plainSet: PlainSetSettings.Mode
  var nearTTL: UInt64?
  var journalKeep: UInt64
  /// Mean time between two faults of a kind; nil: none of it.
  var faults: [UInt64?]
  /// Mean time between two transactions.
  var commitPeriod: UInt64
  /// Mean time an application waits between two flows.
  var thinkTime: UInt64
  /// Of 100 commits, those that do not wait for the disk.
  var asynchronous: Int
  /// Of 100 commits, those that stay invisible for a while after they were decoded.
  var lateVisible: Int
  /// Of 100 turns of an event loop or steps of an application, those that are held up.
  var lags: Int
  /// How long at most a turn is held up.
  var lagTimes: [UInt64] = [200_000, 20_000_000, 1_500_000_000]
  /// By how much a message may be late although nothing is wrong.
  var jitter: UInt64
  /// Of 100 steps of an application, those that take up to a window and a bit.
  var slowSteps: Int
  /// How many runs of misses a host's ledger holds.
  var ledger: Int
  /// How long a slot of Redis's SCAN gives at a time.
  var purgeCount: Int
  /// How many keys there are that are written through.
  var written = 0
  /// How long a SET that has committed waits for its value to be stored.
  var patience: UInt64 = 100_000_000
  /// Whether the mapping has prefixes and tags.
  var hasGroups = false
  /// How many keys of others SCAN comes upon, too.
  var foreign = 0
  /// Of so many steps that clear Redis, one is taken back by a failover; 0: none.
  var strikes = 0
  /// The same for steps that sweep groups.
  var sweepStrikes = 0
  /// What comes together, one after the other, each within `stormSpread` of the one before. As far as it concerns one
  /// host that is the same, and not the one that tails.
  var storm: [Fault] = []
  var stormPeriod: UInt64 = 0
  var stormSpread: UInt64 = 0
  /// How long a stall is.
  var stalls: ClosedRange<UInt64> = 50_000_000...600_000_000
  /// Applications do nothing but read and fill under leases: most reads are near hits.
  var isCalm = false
  /// Of 100 flows, those that change something and delete a key, on top of the others.
  var deletes = 0
  /// Whether the three requests of a read can be answered by two servers.
  var splitReads: Bool
  var keysPerStep: Int

  init(_ random: inout SplitMix) {
    // From a generator of its own, so that other runs stay as they are.
    var own = SplitMix(state: random.state ^ 0x5e7)
    hosts = 1 + random.below(3)
    keys = 3 + random.below(8)
    flows = 2 + random.below(5)
    bound = random.one(of: [500, 700, 1000, 2000]) * 1_000_000
    window = random.one(of: [400, 800, 1500]) * 1_000_000
    plainSet = random.once(in: 3) ? .aged : .window
    nearTTL = random.once(in: 4) ? 300_000_000 : nil
    journalKeep = random.one(of: [200, 2000, 60_000])
    commitPeriod = random.one(of: [4, 20, 60, 200, 500]) * 1_000_000
    thinkTime = random.one(of: [2, 8, 25]) * 1_000_000
    asynchronous = random.one(of: [0, 0, 30, 100])
    lateVisible = random.one(of: [0, 2, 20, 60])
    lags = random.one(of: [0, 1, 5])
    jitter = random.one(of: [0, 5, 60]) * 1_000_000
    ledger = random.one(of: [2 * keys, 64])
    slowSteps = random.one(of: [0, 3, 25])
    purgeCount = 1 + random.below(4)
    splitReads = random.once(in: 2)
    keysPerStep = random.one(of: [1, 2, 1000])
    hasGroups = random.once(in: 3)
    faults = Array(repeating: nil, count: Fault.allCases.count)
    for fault in Self.kinds(&random) {
      faults[fault.rawValue] = random.one(of: [150, 400, 1000, 2500]) * 1_000_000
    }
    if random.once(in: 4) { sharpen(&random) }
    if own.once(in: 6) { writeThrough(&own) }
  }

  /// What is dangerous together, since what the one takes away the other needs.
  private static let themes: [[Fault]] = [
    [.recreateSlot, .holdCommits, .dropSlot],
    [.recreateSlot, .cutStream, .holdCommits, .killHost],
    [.moveSlot, .holdCommits, .cutStream],
    [.crash, .promote, .cutStream],
    [.failover, .cutRedis, .cutStream],
    [.failoverBehindProxy, .failover, .killHost],
    [.failover, .ask, .truncate],
    [.failoverBehindProxy, .flush, .evictState],
    [.evictJournal, .trimJournal, .cutRedis],
    [.pause, .slowNetwork, .killHost],
    [.pause, .stopHost, .killHost],
    [.redefine, .redefineSilently, .truncate],
    [.slowNetwork, .cutRedis, .cutPostgres],
    [.promote, .pause, .slowNetwork],
    [.slowNetwork, .cutStream, .pause],
    [.hiddenWrite, .cutStream, .cutPostgres],
    [.failover, .slowNetwork, .cutRedis],
  ]

  private static func kinds(_ random: inout SplitMix) -> [Fault] {
    if random.once(in: 2) {
      let theme = random.one(of: themes)
      return theme.filter { _ in random.below(4) != 0 }
    }
    let count = random.one(of: [0, 1, 2, 3, 4, 6])
    return (0..<count).map { _ in Fault.allCases[random.below(Fault.allCases.count)] }
  }
}
