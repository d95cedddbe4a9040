import CLinux
import Configuration
import Invalidation
import Logging
import NearCache

/// When this host may answer from what it remembers.
extension EventLoop {
  @inline(__always)
  func clock() -> Instant { Instant(nanoseconds: clinux_boot_nanoseconds()) }

  /// Whether the evidence that the near cache is complete is younger than the bound.
  @inline(__always)
  func isFresh(at instant: Instant, bound: UInt64) -> Bool {
    guard let certificate else { return false }
    return instant.since(certificate) <= bound
  }

  @inline(__always)
  var certificate: Instant? {
    if let embedded { return embedded.certificate }
    return follower.certificate
  }

  /// How long ago the evidence was gathered, in words, for an error.
  func staleError(since evidence: Instant?, bound: UInt64) -> String {
    let bound = Double(bound) / 1e9
    guard let evidence else { return "STALE there is no evidence yet that cached values are current" }
    let age = (Double(now.since(evidence)) / 1e8).rounded() / 10
    return "STALE the evidence that cached values are current is \(age)s old, the bound is \(bound)s"
  }

  /// A, the position up to which this sidecar has applied everything.
  var appliedPosition: LSN {
    if let embedded { return embedded.applied }
    return follower.consumed
  }

  var currentGeneration: Generation? {
    if let embedded { return embedded.generation }
    return follower.state?.generation
  }

  /// What a value or its absence, read from Redis under `state`, is worth.
  enum Judgement {
    /// It counts; its absence gives the right to fill. It may be kept near unless this host has heard of
    /// something since it was read: a reply may arrive behind news that came on another connection.
    case trusted(Lease, mayKeep: Bool)
    /// It counts by configuration only: the evidence is too old.
    case stale(Lease)
    /// As if the key did not exist; with the right to fill it.
    case absent(Lease)
    /// As if the key did not exist. The lease is for a key that really does not exist in Redis, and only
    /// while evidence is still being gathered, after a start or a new generation; with evidence that has
    /// become too old there is none.
    case bypass(Lease?)
    case fail(String)
    /// A write of the key waits for PostgreSQL: what Redis answers counts, whatever else is known, and its absence
    /// gives no right to fill.
    case pending(mayKeep: Bool)
  }

  /// Judges each key of a read by itself: by its own bound, and by the groups that wait to be swept.
  func judge(_ read: GovernedRead, _ state: FleetState?) -> [Judgement] {
    // Asked of the clock, not of the poll: between the two the process may have been stopped.
    let instant = clock()
    let state = state.flatMap { follower.follows($0, read.basis) ? $0 : nil }
    let evidence = state.flatMap { follower.certificate($0, read.basis) }
    return read.keys.map { judge($0, state, evidence, at: instant) }
  }

  private func judge(
    _ key: GovernedKey, _ state: FleetState?, _ evidence: Instant?, at instant: Instant
  ) -> Judgement {
    let staleness = key.rule.staleness
    guard let state else { return .bypass(nil) }
    let tags = key.groups?.tags ?? PackedKeys()
    let trusted = key.bytes.withUnsafeBytes { state.trusts($0, tags: tags) }
    guard trusted else { return .absent(state.lease) }
    if let evidence, instant.since(evidence) <= staleness.bound {
      return .trusted(state.lease, mayKeep: follower.accepts(state))
    }
    switch staleness.beyond {
    case .bypass: return .bypass(evidence == nil ? state.lease : nil)
    case .serve: return .stale(state.lease)
    case .fail: return .fail(staleError(since: evidence, bound: staleness.bound))
    }
  }

  /// The count of local writes to keys like this one.
  func writeVersion(_ hash: UInt64) -> UInt32 { localWrites[Int(hash & 4095)] }

  /// A governed write of this host begins or has ended: what was read before it must not be kept near.
  mutating func noteWrite(_ key: GovernedKey) {
    localWrites[Int(key.hash & 4095)] &+= 1
    _ = key.bytes.withUnsafeBytes { near.remove($0, hash: key.hash) }
    // With Redis the write has yet to be carried out.
    guard embedded != nil else { return }
    endTurn(key.bytes)
    noteChange(key)
  }

  /// The key of a miss in the ledger of fills.
  func ledgerKey(_ key: UnsafeRawBufferPointer) -> UInt64 { KeyHash.hash(key, seed: ledger.seed) }

  mutating func noteMiss(_ key: GovernedKey, lease: Lease?) {
    let hash = key.bytes.withUnsafeBytes { ledgerKey($0) }
    ledger.missed(hash, lease: lease, at: now)
    misses.append((hash, lease))
  }

  func governedKey(_ key: UnsafeRawBufferPointer) -> GovernedKey? {
    guard key.count <= PackedKeys.longestKey, let rule = governance.rule(key) else { return nil }
    let hash = near.hash(key)
    return GovernedKey(
      bytes: [UInt8](key), hash: hash, rule: rule, version: writeVersion(hash),
      groups: governance.groups.membership(of: key), serial: epochs.serial)
  }

  /// Keeps a value near if nothing moved since it was asked for. `expires` is when Redis forgets it.
  mutating func keepNear(_ key: GovernedKey, _ value: UnsafeRawBufferPointer, expires: Instant?) {
    if tracking.isActive, let expires { tracking.table.setEnd(of: key.bytes, expires.nanoseconds) }
    guard mayKeepNear(key) else { return }
    tally.put(key.rule)
    let until = nearEnd(key, expires)
    _ = key.bytes.withUnsafeBytes {
      near.insert(
        $0, hash: key.hash, value: value, expires: until, tag: key.rule.mark,
        serial: key.nearSerial)
    }
  }

  /// Whether nothing moved on this host since something was asked about the key.
  func mayKeepNear(_ key: GovernedKey) -> Bool {
    key.rule.keepsNear && key.version == writeVersion(key.hash)
      && epochs.isSince(droppedSerial, key.serial)
  }

  /// When this host forgets what Redis forgets at `end`. What others stored beside Nearside may live longer than
  /// `ttl` in Redis; here it does not.
  func nearEnd(_ key: GovernedKey, _ end: Instant?) -> Instant? {
    earliest(end, [key.rule.nearTTL, key.rule.ttl])
  }
}

extension EventLoop {
  /// `end`, or the end of the shortest of these times from now if that comes before; nil: never.
  func earliest(_ end: Instant?, _ limits: [UInt64?]) -> Instant? {
    guard let limit = limits.compactMap({ $0 }).min().map({ now.after(nanoseconds: $0) }) else { return end }
    return end.map { min($0, limit) } ?? limit
  }
}

extension Instant {
  /// So many nanoseconds later, but not the near cache's "never".
  func after(nanoseconds more: UInt64) -> Instant {
    let (sum, carry) = nanoseconds.addingReportingOverflow(more)
    return Instant(nanoseconds: carry ? .max - 1 : min(sum, .max - 1))
  }

  /// So many milliseconds later. Redis takes times to live of 292 million years, and a clock in nanoseconds
  /// reaches 584: what lies beyond it is its last instant but one, for the near cache's last means "never".
  func after(milliseconds: Int) -> Instant {
    let (more, overflow) = UInt64(max(0, milliseconds)).multipliedReportingOverflow(by: 1_000_000)
    let (sum, carry) = nanoseconds.addingReportingOverflow(more)
    return Instant(nanoseconds: overflow || carry ? .max - 1 : min(sum, .max - 1))
  }
}
