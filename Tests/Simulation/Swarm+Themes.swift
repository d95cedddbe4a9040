import Configuration

/// Runs that are about one danger: what depends on each other comes close together, and hits as late as they may.
/// Left to chance, that would take some hundred thousand seeds.
extension Swarm {
  mutating func sharpen(_ random: inout SplitMix) {
    hosts = 2
    flows = 2
    keys = 3
    bound = 500_000_000
    thinkTime = 10_000_000
    nearTTL = nil
    journalKeep = 60_000
    commitPeriod = random.one(of: [40, 100]) * 1_000_000
    asynchronous = 0
    lateVisible = 0
    jitter = 0
    lags = 0
    slowSteps = 0
    ledger = 64
    splitReads = false
    faults = Array(repeating: nil, count: Fault.allCases.count)
    let (name, change) = random.one(of: Self.dangers)
    theme = name
    change(&self, &random)
  }

  static var themeNames: [String] { dangers.map(\.0) + ["writing"] }

  static let dangers: [(String, @Sendable (inout Swarm, inout SplitMix) -> Void)] = [
    ("lateMessages", { $0.lateMessages(&$1) }),
    ("slowLog", { $0.slowLog(&$1) }),
    ("slowReplies", { $0.slowReplies(&$1) }),
    ("backInTime", { $0.backInTime(&$1) }),
    ("clearing", { $0.clearing(&$1) }),
    ("longClearing", { $0.longClearing(&$1) }),
    ("ownRemovals", { $0.ownRemovals(&$1) }),
    ("standstills", { $0.standstills(&$1) }),
    ("sweeping", { $0.sweeping(&$1) }),
    ("lateAnswers", { $0.lateAnswers(&$1) }),
  ]

  private mutating func often(_ all: [Fault], _ random: inout SplitMix, _ periods: [UInt64]) {
    for fault in all { faults[fault.rawValue] = random.one(of: periods) * 1_000_000 }
  }

  private mutating func gather(_ all: [Fault], every period: UInt64, within spread: UInt64) {
    storm = all
    stormPeriod = period * 1_000_000
    stormSpread = spread * 1_000_000
  }

  /// What a beat proves is put to the test: commits that are seen before they are flushed, and messages late for no
  /// reason.
  private mutating func lateMessages(_ random: inout SplitMix) {
    asynchronous = 100
    jitter = 100_000_000
    let theme: [Fault] = random.one(of: [
      [.cutStream], [.cutStream, .cutPostgres], [.cutPostgres], [.failover, .pause, .slowNetwork],
    ])
    often(theme, &random, [250, 700])
  }

  /// A beat is slow to be stored, and then the log stands still.
  private mutating func slowLog(_ random: inout SplitMix) {
    keys = 3 + random.below(3)
    isCalm = true
    commitPeriod = random.one(of: [60, 150, 300]) * 1_000_000
    stalls = 550_000_000...900_000_000
    gather([.stallSink, .stallStream], every: 1200, within: random.one(of: [40, 120]))
  }

  /// A reply outlives its server, and so does the silence of the feed.
  private mutating func slowReplies(_ random: inout SplitMix) {
    isCalm = true
    commitPeriod = random.one(of: [40, 150]) * 1_000_000
    stalls = 650_000_000...950_000_000
    gather([.stallFeed, .stallReplies, .pauseTailer, .failoverBehindProxy], every: 1500, within: 300)
  }

  /// Redis goes back to before a change, and for a while nobody who writes notices.
  private mutating func backInTime(_ random: inout SplitMix) {
    flows = 4
    slowSteps = 25
    deletes = 10
    thinkTime = 4_000_000
    let loss: Fault = random.one(of: [.failover, .failoverBehindProxy])
    stalls = 300_000_000...2_000_000_000
    gather([.pauseTailer, loss], every: 2500, within: 100)
  }

  /// Redis loses steps of its clearing, and nobody's connection.
  private mutating func clearing(_ random: inout SplitMix) {
    keys = 8
    purgeCount = 1
    strikes = random.one(of: [8, 16])
    often([random.one(of: [.truncate, .redefine, .evictState])], &random, [700, 1500])
  }

  /// Clearing Redis takes longer than it takes to have evidence again.
  private mutating func longClearing(_ random: inout SplitMix) {
    foreign = 300
    purgeCount = 1
    often([random.one(of: [.truncate, .redefine])], &random, [2500])
  }

  /// Applications delete what others are reading just now.
  private mutating func ownRemovals(_ random: inout SplitMix) {
    flows = 4
    hasGroups = random.once(in: 2)
    deletes = 30
    jitter = 60_000_000
    thinkTime = 4_000_000
    often([.stallReplies, .stallFeed], &random, [300, 700])
  }

  /// Prefixes and tags are cleared while others of them are being swept.
  private mutating func sweeping(_ random: inout SplitMix) {
    hasGroups = true
    keys = 6
    deletes = 10
    flows = 3
    purgeCount = 1
    foreign = random.one(of: [0, 0, 20, 200])
    sweepStrikes = random.one(of: [0, 8, 40])
    bound = random.one(of: [500, 1000]) * 1_000_000
    commitPeriod = random.one(of: [20, 100, 400]) * 1_000_000
    lateVisible = random.one(of: [0, 30])
    stalls = 50_000_000...900_000_000
    often([.stallFeed, .stallReplies], &random, [500, 1000])
  }

  /// Hosts stand still while commands wait at their sockets.
  private mutating func standstills(_ random: inout SplitMix) {
    flows = 4
    window = 400_000_000
    plainSet = .window
    slowSteps = 25
    often([.pause], &random, [400, 1000])
  }

  /// SETs that are written through: of one key at once on several hosts, and beside other transactions.
  mutating func writeThrough(_ random: inout SplitMix) {
    written = 1 + random.below(2)
    // The last is longer than a takeover takes.
    patience = random.one(of: [2, 20, 100, 3000]) * 1_000_000
    guard random.once(in: 2) else { return }
    theme = "writing"
    keys = 3
    hosts = 1 + random.below(3)
    flows = 3 + random.below(3)
    plainSet = .window
    deletes = 0
    slowSteps = 0
    isCalm = false
    ledger = 64
    thinkTime = random.one(of: [3, 10, 40]) * 1_000_000
    commitPeriod = random.one(of: [5, 20, 60]) * 1_000_000
    keysPerStep = random.one(of: [1, 1000])
    jitter = random.one(of: [0, 5, 60]) * 1_000_000
    storm = []
    faults = Array(repeating: nil, count: Fault.allCases.count)
    let trouble: [Fault] = random.one(of: [
      [], [.stallFeed, .stallReplies], [.cutStream, .stallFeed], [.killHost, .stallFeed], [.trimJournal],
      [.cutStream],
      [.cutRedis, .cutPostgres], [.failover, .cutStream], [.truncate, .stallFeed], [.stallSink, .cutStream],
      [.stallStream], [.stallStream, .cutStream], [.stallStream, .stallFeed],
    ])
    stalls = 20_000_000...random.one(of: [60, 200, 600]) * 1_000_000
    guard random.once(in: 2) else { return }
    // One key, and a log that is late now and then.
    written = 1
    hosts = 2
    flows = 4
    thinkTime = 2_000_000
    commitPeriod = 200_000_000
    asynchronous = random.one(of: [0, 100])
    jitter = random.one(of: [20, 60]) * 1_000_000
    patience = random.one(of: [10, 30]) * 1_000_000
    keysPerStep = 1000
    for fault in trouble { faults[fault.rawValue] = random.one(of: [200, 500, 1000]) * 1_000_000 }
  }

  /// Answers go out long after they were made up, with everything as fresh as it need be.
  private mutating func lateAnswers(_ random: inout SplitMix) {
    hosts = 1
    flows = 3
    keys = 4 + random.below(3)
    bound = 700_000_000
    window = 400_000_000
    plainSet = .window
    commitPeriod = random.one(of: [60, 150, 300]) * 1_000_000
    lags = 8
    lagTimes = [350_000_000]
    slowSteps = 25
  }
}
