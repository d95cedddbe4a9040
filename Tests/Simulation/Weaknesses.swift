import Invalidation

/// Which rules are switched off in a run.
struct Weaknesses: Sendable {
  /// In the product's own code.
  var product: Weakness = []
  /// In the twin of the scripts.
  var scripts: ScriptWeakness = []
  /// In what mirrors the rim.
  var rim: RimWeakness = []

  func contains(_ weakness: RimWeakness) -> Bool { rim.contains(weakness) }
}

/// Rules of the rim, as `Host+…` mirrors it.
struct RimWeakness: OptionSet, Sendable {
  let rawValue: UInt32
  static let missesKeepTheirDate = RimWeakness(rawValue: 1 << 0)
  static let setsDatedWhenRead = RimWeakness(rawValue: 1 << 1)
  static let untrustedCounts = RimWeakness(rawValue: 1 << 2)
  static let redisHitsNeedNoEvidence = RimWeakness(rawValue: 1 << 3)
  static let nearHitsNeedNoEvidence = RimWeakness(rawValue: 1 << 4)
  static let bypassedMissesForgotten = RimWeakness(rawValue: 1 << 5)
  static let ownWritesNotCounted = RimWeakness(rawValue: 1 << 6)
  static let valueBeforeState = RimWeakness(rawValue: 1 << 7)
  static let keepsWhateverCame = RimWeakness(rawValue: 1 << 8)
  static let pendingCounts = RimWeakness(rawValue: 1 << 9)
  static let groupsStayNear = RimWeakness(rawValue: 1 << 10)
  static let groupsDatedWhenKept = RimWeakness(rawValue: 1 << 11)
  static let storesAtAnySighting = RimWeakness(rawValue: 1 << 12)
  static let storesOlderSets = RimWeakness(rawValue: 1 << 13)
  static let keepsOnCommit = RimWeakness(rawValue: 1 << 14)
  static let forgetsRemovals = RimWeakness(rawValue: 1 << 15)
}

/// A rule, and what a run is without it. The names in capitals are those of the protocol's models. A rule behind
/// which others stand, so that its absence alone does no harm, is not among them.
struct Rule: Sendable {
  var name: String
  var says: String
  var without: Weaknesses

  /// A seed that notices its absence.
  var seed: UInt64 { Self.seeds[name] ?? 1 }

  static let all: [Rule] =
    product.map { Rule(name: $0.0, says: $0.1, without: Weaknesses(product: $0.2)) }
    + scripts.map { Rule(name: $0.0, says: $0.1, without: Weaknesses(product: $0.3, scripts: $0.2)) }
    + rim.map { Rule(name: $0.0, says: $0.1, without: Weaknesses(rim: $0.2)) }

  private static let product: [(String, String, Weakness)] = [
    ("visibleIsApplied", "leases carry V, never W (STAMPW)", .visibleIsApplied),
    ("ignoresRunning", "V is computed from a snapshot's list, not from its end", .ignoresRunning),
    ("noHoleTest", "what the slot will not send begins a generation (NOHOLE)", .noHoleTest),
    ("holeTestWithApplied", "the hole test compares with V, not with W (HOLEW)", .holeTestWithApplied),
    ("noWatch", "transactions from before the slot are watched (NOWATCH)", .noWatch),
    ("resumesWhileWatching", "a state that still watches is not resumed (NOWT)", .resumesWhileWatching),
    ("noCanary", "the canary is read (NOINC)", [.noCanaryInSamples, .noCanaryWhenTaking]),
    (
      "lateEvidence", "a reply is judged by what was known when it was asked for (LATEEVIDENCE)",
      .lateEvidence
    ),
    ("beatsBeforeApplied", "a beat waits for its sample's position (BEATANY)", .beatsBeforeApplied),
    ("pipelinedSamples", "a sample is taken after the beat before was stored (PIPE)", .pipelinedSamples),
    ("confirmsApplied", "PostgreSQL forgets up to V, not up to W (ACKW)", .confirmsApplied),
    ("clearedTooEarly", "c is set after SCAN's cursor came back to 0 (CEARLY)", .clearedTooEarly),
    ("sweptTooEarly", "a pass ends after SCAN's cursor came back to 0 (PDEARLY)", .sweptTooEarly),
    ("everyStepMovesApplied", "only the last step of a batch moves W", .everyStepMovesApplied),
    ("ignoresDoubt", "TRUNCATE and DDL begin a generation", .ignoresDoubt),
    ("ignoresFingerprint", "DDL that the log does not tell is noticed", .ignoresFingerprint),
    (
      "keepalivesInsideTransactions", "inside a transaction the server's position counts for nothing",
      .keepalivesInsideTransactions
    ),
    ("noNudge", "a log that is not flushed is given a push", .noNudge),
    ("oneBeat", "evidence needs two beats (ONEBEAT)", .oneBeat),
    ("arrivalIsEvidence", "evidence needs beats, not answers", .arrivalIsEvidence),
    ("noChain", "a gap in the journal drops the near cache (NOCHAIN)", .noChain),
    ("pollsCountAtOnce", "a poll counts once its entries have been heard", .pollsCountAtOnce),
    ("acceptsAnything", "nothing older than what was heard is kept near (NOCHECK)", .acceptsAnything),
    ("noRegressionCheck", "a state that goes back poisons its generation (NOREGR)", .noRegressionCheck),
    ("keepsOverGenerations", "another generation drops the near cache", .keepsOverGenerations),
    ("followsAnything", "replies of other generations and times are not shown", .followsAnything),
    ("keepsEvidence", "evidence ends with its generation", .keepsEvidence),
    ("endlessPatience", "a journal that is gone altogether is given up", .endlessPatience),
    ("newestMiss", "a SET gets the lease of the oldest miss (NEWEST)", .newestMiss),
    ("presentLease", "a SET without a miss gets the lease of a window ago", .presentLease),
    ("lateSets", "a SET that waited for a window is refused (LATE)", .lateSets),
    ("noPredecessor", "what a lost predecessor answered bars SETs (START0)", .noPredecessor),
    ("forgetsUnrecorded", "a full table of misses bars SETs", .forgetsUnrecorded),
    ("forgetsBypassed", "a miss without a lease bars SETs", .forgetsBypassed),
  ]

  private static let scripts: [(String, String, ScriptWeakness, Weakness)] = [
    ("noCompare", "a tailer's writes are compare-and-set (NOCAS, NOTOK)", [.noToken, .noCount], []),
    ("noCount", "a tailer's writes name the number of writes before them (NOCAS)", .noCount, []),
    ("noFences", "applying raises fences", .noFences, []),
    ("noJournal", "applying enters the keys into the journal", .noJournal, []),
    ("floorAtV", "leases from below a generation's W are void (FLOORV)", .floorAtV, []),
    ("noFloor", "fills ask for the floor", .noFloor, []),
    ("carryCleared", "a generation begins without c (CARRY)", .carryCleared, []),
    ("purgeNotCounted", "purge steps are counted in n (NOCOUNT)", .purgeNotCounted, .purgeNotCounted),
    ("anyGeneration", "fills name their lease's generation (NOGCHK, NOG)", .anyGeneration, []),
    ("fillUnfenced", "fills ask for the fence", .fillUnfenced, []),
    ("groupsUnfenced", "clearing a group raises its fence (NOGROUPFENCE)", .groupsUnfenced, []),
    ("fillsIgnoreGroups", "fills ask for the fences of their key's groups", .fillsIgnoreGroups, []),
    ("nothingPending", "a cleared group waits to be swept (NOPD)", .nothingPending, []),
    ("noGroupsInJournal", "clearing a group enters it into the journal (NOJGROUP)", .noGroupsInJournal, []),
    ("sweepNotCounted", "sweep steps are counted in n (NOCOUNT)", .sweepNotCounted, .sweepNotCounted),
    (
      "sweptForgetsLater", "what is cleared during a pass waits for the next (PDRAISED)", .sweptForgetsLater,
      []
    ),
    ("writtenIgnoresLater", "a SET's value asks what the journal has told since", .writtenIgnoresLater, []),
    ("removeUnfenced", "an application's DEL raises the fence (DELNOF)", .removeUnfenced, []),
  ]

  /// What `simulate --weaknesses` tells after a change of the simulator.
  private static let seeds: [String: UInt64] = [
    "storesAtAnySighting": 49423, "storesOlderSets": 1834, "forgetsRemovals": 35242, "keepsOnCommit": 28,
    "writtenIgnoresLater": 1488, "noPredecessor": 13471,
    "sweepNotCounted": 149772, "missesKeepTheirDate": 85715,
    "ignoresFingerprint": 1116, "noCompare": 399,
    "oneBeat": 83,
    "forgetsUnrecorded": 3527, "noCount": 399,
    "acceptsAnything": 228, "anyGeneration": 132, "arrivalIsEvidence": 20, "beatsBeforeApplied": 75,
    "bypassedMissesForgotten": 86, "carryCleared": 91, "clearedTooEarly": 2, "confirmsApplied": 1,
    "endlessPatience": 379, "everyStepMovesApplied": 124, "fillUnfenced": 4, "fillsIgnoreGroups": 27,
    "floorAtV": 14, "followsAnything": 115, "forgetsBypassed": 86, "groupsDatedWhenKept": 4302,
    "groupsStayNear": 9, "groupsUnfenced": 15, "holeTestWithApplied": 141, "ignoresDoubt": 44,
    "ignoresRunning": 1, "keepalivesInsideTransactions": 3, "keepsEvidence": 297,
    "keepsOverGenerations": 7, "keepsWhateverCame": 228, "lateEvidence": 543, "lateSets": 1602,
    "nearHitsNeedNoEvidence": 18, "newestMiss": 9, "noCanary": 88, "noChain": 4, "noFences": 15,
    "noFloor": 13, "noGroupsInJournal": 15, "noHoleTest": 125, "noJournal": 6, "noNudge": 43,
    "noRegressionCheck": 22932, "noWatch": 612, "nothingPending": 9, "ownWritesNotCounted": 2201,
    "pendingCounts": 9, "pipelinedSamples": 2862, "pollsCountAtOnce": 6, "presentLease": 59,
    "purgeNotCounted": 5925, "redisHitsNeedNoEvidence": 19, "removeUnfenced": 4,
    "resumesWhileWatching":
      484, "setsDatedWhenRead": 244, "sweptForgetsLater": 927,
    "sweptTooEarly":
      9, "untrustedCounts": 620, "valueBeforeState": 252, "visibleIsApplied": 1,
  ]

  private static let rim: [(String, String, RimWeakness)] = [
    ("untrustedCounts", "a value counts only while c equals g (NOC)", .untrustedCounts),
    ("valueBeforeState", "the state is read before the value (VALFIRST)", .valueBeforeState),
    ("redisHitsNeedNoEvidence", "a hit in Redis needs evidence", .redisHitsNeedNoEvidence),
    ("nearHitsNeedNoEvidence", "a near hit needs evidence", .nearHitsNeedNoEvidence),
    ("keepsWhateverCame", "a reply behind the news is not kept near", .keepsWhateverCame),
    ("ownWritesNotCounted", "a read that a write of this host overtook is not kept", .ownWritesNotCounted),
    ("pendingCounts", "a value of a group that waits to be swept does not count (PDIGNORE)", .pendingCounts),
    ("groupsStayNear", "a near entry counts only while its groups are not cleared", .groupsStayNear),
    ("groupsDatedWhenKept", "a near entry is dated by when it was asked for", .groupsDatedWhenKept),
    ("setsDatedWhenRead", "a SET is dated by when its socket was empty (PAUSE)", .setsDatedWhenRead),
    ("missesKeepTheirDate", "a miss is dated by when it was written", .missesKeepTheirDate),
    (
      "storesAtAnySighting", "a SET's value is stored where its transaction is the last to name the key",
      .storesAtAnySighting
    ),
    ("storesOlderSets", "a SET's value is stored if no later SET of the key has come", .storesOlderSets),
    (
      "forgetsRemovals", "a SET's value is not stored if somebody else has removed the key since it came",
      .forgetsRemovals
    ),
    ("keepsOnCommit", "a key is removed behind the commit of its SET", .keepsOnCommit),
    ("bypassedMissesForgotten", "a bypassed miss enters the table", .bypassedMissesForgotten),
  ]
}
