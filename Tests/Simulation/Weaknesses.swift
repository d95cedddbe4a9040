import Invalidation

/// Which rules are switched off in a run.
struct Weaknesses: Sendable {
  /// In the product's own code.
  var product: Weakness = []
  /// In the twin of the scripts.
  var scripts: ScriptWeakness = []
  /// In what mirrors the rim.
  var rim: RimWeakness = []
  /// Faults that such a run should have, so that it is caught soon.
  var focus: (@Sendable (inout Swarm, inout SplitMix) -> Void)?
  /// Whether what happens is counted.
  var counts = false

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
}
