/// Rules that a test has switched off, to see that the suite notices their absence. Nothing but tests can set
/// one: the properties that hold it are not public, and it is empty by default.
package struct Weakness: OptionSet, Hashable, Sendable {
  package let rawValue: UInt64

  package init(rawValue: UInt64) { self.rawValue = rawValue }

  // Taking over.
  /// The slot's position is not compared with anything.
  package static let noHoleTest = Weakness(rawValue: 1 << 0)
  /// The slot's position is compared with W.
  package static let holeTestWithApplied = Weakness(rawValue: 1 << 1)
  /// A state that still watches transactions is resumed.
  package static let resumesWhileWatching = Weakness(rawValue: 1 << 2)
  /// What the canary holds is ignored when the slot is taken.
  package static let noCanaryWhenTaking = Weakness(rawValue: 1 << 3)

  // Tailing.
  /// V is W: what is applied counts as visible.
  package static let visibleIsApplied = Weakness(rawValue: 1 << 6)
  /// What the canary holds is ignored in samples.
  package static let noCanaryInSamples = Weakness(rawValue: 1 << 7)
  /// Transactions that were running when the slot was made are not watched.
  package static let noWatch = Weakness(rawValue: 1 << 8)
  /// A sample becomes a beat at once, whatever of the log has been applied.
  package static let beatsBeforeApplied = Weakness(rawValue: 1 << 9)
  /// The next sample is taken while the beat before is being stored.
  package static let pipelinedSamples = Weakness(rawValue: 1 << 10)
  /// PostgreSQL is told to forget what is applied.
  package static let confirmsApplied = Weakness(rawValue: 1 << 11)
  /// Purge steps are not counted in n.
  package static let purgeNotCounted = Weakness(rawValue: 1 << 12)
  /// A generation counts as cleared after the first step.
  package static let clearedTooEarly = Weakness(rawValue: 1 << 13)
  /// Every step of a batch moves W.
  package static let everyStepMovesApplied = Weakness(rawValue: 1 << 14)
  /// A transaction whose keys cannot be told changes nothing.
  package static let ignoresDoubt = Weakness(rawValue: 1 << 15)
  /// Definitions that changed without a word are not noticed.
  package static let ignoresFingerprint = Weakness(rawValue: 1 << 16)
  /// A position that the server tells inside a transaction is believed.
  package static let keepalivesInsideTransactions = Weakness(rawValue: 1 << 17)
  /// The log is never given a push.
  package static let noNudge = Weakness(rawValue: 1 << 18)
  /// A snapshot's list of running transactions is not read.
  package static let ignoresRunning = Weakness(rawValue: 1 << 20)

  /// Sweep steps are not counted in n.
  package static let sweepNotCounted = Weakness(rawValue: 1 << 38)
  /// A pass over the keys of groups counts as done after its first step.
  package static let sweptTooEarly = Weakness(rawValue: 1 << 39)

  // Following.
  /// One beat after a poll proves what two do.
  package static let oneBeat = Weakness(rawValue: 1 << 22)
  /// Every poll proves everything before it.
  package static let arrivalIsEvidence = Weakness(rawValue: 1 << 23)
  /// An entry of the journal whose predecessor was not heard is taken.
  package static let noChain = Weakness(rawValue: 1 << 24)
  /// A poll counts before its entries have been heard.
  package static let pollsCountAtOnce = Weakness(rawValue: 1 << 25)
  /// Whatever was read may be kept near.
  package static let acceptsAnything = Weakness(rawValue: 1 << 26)
  /// A state that goes back within a generation is followed.
  package static let noRegressionCheck = Weakness(rawValue: 1 << 27)
  /// Another generation does not drop the near cache.
  package static let keepsOverGenerations = Weakness(rawValue: 1 << 28)
  /// Evidence of one generation is used in the next.
  package static let keepsEvidence = Weakness(rawValue: 1 << 29)
  /// A reply that comes from another generation, or from long before the latest poll, is shown.
  package static let followsAnything = Weakness(rawValue: 1 << 30)
  /// A reply is judged by what was heard after it was asked for, too.
  package static let lateEvidence = Weakness(rawValue: 1 << 21)
  /// A journal all of whose entries are gone is waited for without end.
  package static let endlessPatience = Weakness(rawValue: 1 << 31)

  // Plain SETs.
  /// A SET gets the lease of the newest miss of its key.
  package static let newestMiss = Weakness(rawValue: 1 << 32)
  /// A SET without a miss gets what is known now.
  package static let presentLease = Weakness(rawValue: 1 << 33)
  /// A SET may have waited for any time.
  package static let lateSets = Weakness(rawValue: 1 << 34)
  /// What a predecessor may have answered does not matter.
  package static let noPredecessor = Weakness(rawValue: 1 << 35)
  /// A miss for which there was no room does not matter.
  package static let forgetsUnrecorded = Weakness(rawValue: 1 << 36)
  /// A miss that gave no right to fill does not matter.
  package static let forgetsBypassed = Weakness(rawValue: 1 << 37)
}
