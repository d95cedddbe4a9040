import Configuration
import Invalidation

/// What a plain SET is told: under which lease its value may be stored, or why it may not be.
public enum SetVerdict: Hashable, Sendable {
  /// Run the fill script with this lease. The lease may be of a generation that is over; the script says so.
  case fill(Lease)
  /// Answer OK, store nothing, drop what is near, and count it.
  case refuse(Refusal)
}

/// Why a plain SET is not stored. The raw value is the word that counters and logs use.
public enum Refusal: String, Hashable, Sendable, CaseIterable {
  /// The configuration says that a plain SET of this key is never stored.
  case off
  /// The SET waited for a whole window before it was looked at.
  case late
  /// A predecessor of this process may have answered the miss that this SET fills, and its table is lost.
  case predecessor
  /// The table of misses had no room for a miss that this SET may be filling.
  case full
  /// The miss was answered without the right to fill.
  case bypassed
  /// There was no miss of this key, and this process has not yet known the fleet for a window.
  case young
}

/// Decides which value a client may store with a plain SET, without a token that ties it to its GET.
///
/// A connection pool sends the GET and the SET of one flow over different connections, so nothing in the
/// bytes says which miss a SET answers. What is known: the flow missed the key on this host before it read
/// the database, and less than a window ago. In the mode `window` the SET therefore gets the stamp of the
/// **oldest** miss of its key within the window: whichever of them was its own, the oldest stamp is at most
/// as large. A SET without a miss gets what this host knew a whole window before. In the mode `aged` every
/// SET does, and misses do not matter.
///
/// Keys are 64-bit hashes under `seed`. Two keys with one hash count as one, which only makes the oldest
/// miss older. Instants are CLOCK_BOOTTIME and never go back from call to call.
public struct FillLedger {
  /// How often the owner writes the file beside the socket, in nanoseconds. It does so at the end of a turn of its
  /// loop, so somewhat later than that; a process may have answered for two periods after the last touch that is
  /// found.
  public static let touchPeriod: UInt64 = 1_000_000_000

  package var weakness: Weakness = []

  /// Hash keys with this: it is random, and comes back with a restored table.
  public private(set) var seed: UInt64
  private var misses: MissRuns
  private var history: LeaseHistory
  private var bars: Bars
  /// The latest miss for which there was no room.
  private var unrecorded: Instant?
  /// Up to when a predecessor whose table is lost may have answered misses.
  private var predecessorUntil: Instant?
  private let started: Instant
  private let keep: UInt64
  private var now: Instant

  /// - Parameters:
  ///   - capacity: how many runs of misses, and how many barred keys, are kept; about 100 bytes each, taken as
  ///     they are needed.
  ///   - seed: random.
  ///   - started: before this process answered its first client.
  ///   - keep: the largest window of any rule, in nanoseconds.
  ///
  /// Until `predecessor`, `restore` or `adopt` is called, a predecessor counts as alive until `started`.
  public init(capacity: Int, seed: UInt64, started: Instant, keep: UInt64) {
    self.init(capacity: capacity, seed: seed, started: started, keep: keep, grain: keep / 256)
  }

  init(capacity: Int, seed: UInt64, started: Instant, keep: UInt64, grain: UInt64) {
    self.seed = seed
    self.started = started
    self.keep = keep
    now = started
    misses = MissRuns(capacity: capacity, grain: grain)
    history = LeaseHistory(grain: grain)
    bars = Bars(capacity: capacity, window: keep)
    predecessorUntil = started
  }

  // MARK: What happened

  /// A client is told that a governed key is absent. `lease` is what the answer gives the right to; nil for
  /// an answer that gives none, a bypassed or poisoned one. `at` is when the answer is written: an earlier
  /// instant would let the miss leave the window too early.
  public mutating func missed(_ key: UInt64, lease: Lease?, at: Instant) {
    let at = forward(at)
    misses.drop(until: at.back(2 * keep), limit: 16)
    if !misses.append(key, lease, at: at) { unrecorded = at }
  }

  /// A poll was answered with this state's lease. `at` is when the answer had arrived, not when the poll was
  /// sent: the state may be as young as the answer, and a lease must not be dated before its state existed.
  public mutating func observed(_ lease: Lease, at: Instant) {
    let at = forward(at)
    history.append(lease, at: at)
    history.drop(until: at.back(2 * keep))
  }

  /// A whole-value fill of this key was refused, by this ledger or by the script.
  public mutating func refused(_ key: UInt64, at: Instant) { bars.append(key, at: forward(at)) }

  // MARK: What may be done

  /// Whether a command that merges into what is there may run on this key.
  public func mayMerge(_ key: UInt64, at: Instant) -> Bool {
    if let predecessorUntil, at.since(predecessorUntil) < keep { return false }
    return !bars.bars(key, at: at)
  }

  /// What becomes of a SET of `key`.
  ///
  /// - Parameters:
  ///   - e: the last moment at which the SET's connection was seen empty. It may have waited since, so it
  ///     must not be dated by when it is looked at.
  ///   - now: when it is looked at.
  ///   - rule: the rule of the key's cache; its window is at most `keep`.
  public func verdict(
    forSetOf key: UInt64, dated e: Instant, now: Instant, rule: PlainSetSettings
  ) -> SetVerdict {
    precondition(rule.window <= keep, "misses are not kept long enough for this window")
    if rule.mode == .off { return .refuse(.off) }
    if now.since(e) >= rule.window, !weakness.contains(.lateSets) { return .refuse(.late) }
    if !weakness.contains(.noPredecessor), let predecessorUntil, within(predecessorUntil, e, rule.window) {
      return .refuse(.predecessor)
    }
    if rule.mode == .window {
      if !weakness.contains(.forgetsUnrecorded), let unrecorded, within(unrecorded, e, rule.window) {
        return .refuse(.full)
      }
      switch misses.oldest(of: key, after: e.back(rule.window), weakness) {
      case .oldest(.some(let lease)): return .fill(lease)
      case .oldest(nil): return .refuse(.bypassed)
      case .none: break
      }
    }
    guard e.nanoseconds >= rule.window,
      let lease = history.lease(
        asOf: weakness.contains(.presentLease) ? now : e.back(rule.window))
    else {
      return .refuse(.young)
    }
    return .fill(lease)
  }

  /// Whether `instant` lies after e - window.
  private func within(_ instant: Instant, _ e: Instant, _ window: UInt64) -> Bool {
    instant >= e || e.since(instant) < window
  }

  // MARK: From one process to the next

  /// What is known of the process that served this socket before: when its file was last touched, or nil if
  /// there was none since boot. Call it, `restore` or `adopt` once, before the first client is answered.
  ///
  /// A predecessor may have answered for two of `touchPeriod` after its last touch, but not after this process
  /// started.
  public mutating func predecessor(lastTouched: Instant?) {
    predecessorUntil = lastTouched.map {
      min(started, Instant(nanoseconds: $0.nanoseconds &+ 2 * Self.touchPeriod))
    }
  }

  /// The whole table, for the successor. Answer no client after it.
  public func serialise() -> [UInt8] {
    var out = LedgerWriter()
    out.number(LedgerWriter.format)
    out.number(seed)
    out.number(keep)
    out.number(now.nanoseconds)
    out.optional(unrecorded)
    out.optional(predecessorUntil)
    out.optional(bars.unrecorded)
    out.number(UInt64(misses.count))
    misses.forEach { run in
      out.number(run.key)
      out.number(run.first.nanoseconds)
      out.number(run.latest.nanoseconds)
      out.optional(run.lease)
    }
    out.number(UInt64(history.count))
    history.forEach { record in
      out.number(record.at.nanoseconds)
      out.optional(record.lease)
    }
    out.number(UInt64(bars.count))
    bars.forEach { key, refused in
      out.number(key)
      out.number(refused.nanoseconds)
    }
    return out.bytes
  }

  /// Goes on where a predecessor of the same boot stopped. False, and nothing has changed, if the bytes are
  /// not a whole table, if its misses were kept for less than this ledger's window, or if there are more of
  /// them than fit: then call `predecessor`.
  public mutating func restore(from bytes: [UInt8]) -> Bool {
    guard let restored = restored(from: bytes) else { return false }
    self = restored
    return true
  }

  private func restored(from bytes: [UInt8]) -> FillLedger? {
    var input = LedgerReader(bytes: bytes)
    guard input.number() == LedgerWriter.format, let seed = input.number(), let kept = input.number(),
      kept >= keep, let stopped = input.instant(), stopped <= started
    else { return nil }
    var ledger = FillLedger(
      capacity: misses.capacity, seed: seed, started: started, keep: keep, grain: misses.grain)
    guard let unrecorded = input.optionalInstant(), let predecessor = input.optionalInstant(),
      let unbarred = input.optionalInstant()
    else { return nil }
    ledger.unrecorded = unrecorded
    ledger.predecessorUntil = predecessor
    ledger.bars.restore(unrecorded: unbarred)

    guard let runs = input.number() else { return nil }
    var last = Instant(nanoseconds: 0)
    for _ in 0..<runs {
      guard let key = input.number(), let first = input.instant(), let latest = input.instant(),
        let lease = input.optionalLease(), first <= latest, last <= latest, latest <= stopped,
        ledger.misses.restore(key: key, lease: lease, first: first, latest: latest)
      else { return nil }
      last = latest
    }
    guard let records = input.number() else { return nil }
    last = Instant(nanoseconds: 0)
    for _ in 0..<records {
      guard let at = input.instant(), case .some(.some(let lease)) = input.optionalLease(), last <= at,
        at <= stopped
      else { return nil }
      ledger.history.append(lease, at: at)
      last = at
    }
    guard let barred = input.number() else { return nil }
    for _ in 0..<barred {
      guard let key = input.number(), let refused = input.instant(), refused <= stopped else { return nil }
      ledger.bars.append(key, at: refused)
    }
    return input.isAtEnd ? ledger : nil
  }

  /// This instant, or the latest that was handed in if that is later.
  private mutating func forward(_ at: Instant) -> Instant {
    now = max(now, at)
    return now
  }
}
