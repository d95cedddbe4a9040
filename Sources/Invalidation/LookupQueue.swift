import Configuration

/// Lookups that transactions have asked for, from the commit until their keys can be sent.
///
/// How it works: 1. a commit brings its asks; 2. when a snapshot has seen the transaction, `next` gives a run: all
/// that visible transactions ask of one lookup, each ask once; 3. its answer adds to `found`, and the next batch takes
/// that along; 4. a run that fails is tried again after a pause, and after a few times the prefixes of its templates
/// are cleared in place of its keys. Until its keys are sent a transaction holds back W (`floor`) and with it what
/// PostgreSQL may forget, so a tailer that dies in between is given the transaction again.
struct LookupQueue {
  /// Asks that one statement answers at most.
  static let mostAsks = 500
  /// Asks that may wait; more than that are cheaper as a new generation.
  static let mostWaiting = 100_000
  static let tries = 4
  static let firstPause: UInt64 = 100_000_000
  /// After this long since its first try a run is not tried again.
  static let patience: UInt64 = 3_000_000_000
  /// Asks whose answers are remembered, for each lookup.
  static let mostRemembered = 10_000

  struct Found {
    var key: [UInt8]
    /// Every key that begins so.
    var isPrefix: Bool
    var table: Int
    var origin: KeyOrigin
  }

  private struct Entry {
    var commit: Commit
    var asks: [LookupAsk]
    /// Whether the run under way answers for some of its asks.
    var isRunning = false
    var isDone: Bool { asks.isEmpty && !isRunning }
  }

  private struct Remembered {
    var keys: [LookupKey]
    var until: Instant
  }

  private let lookups: [Lookup]
  /// In the order of their commits.
  private var entries: [Entry] = []
  private var waiting = 0
  private var run: LookupRun?
  private var isUnderWay = false
  private var attempts = 0
  private var since = Instant(nanoseconds: 0)
  private var nextTry = Instant(nanoseconds: 0)
  private var serial: UInt64 = 0
  /// For each lookup whether it was widened when it was last run: then one failure is enough.
  private var isFailing: [Bool]
  private var remembered: [[[UInt8]: Remembered]]
  private(set) var found: [Found] = []

  init(_ lookups: [Lookup]) {
    self.lookups = lookups
    isFailing = lookups.map { _ in false }
    remembered = lookups.map { _ in [:] }
  }

  /// W must not pass this: the beginning of the first commit whose keys are not all sent.
  var floor: LSN? { entries.first?.commit.record }
  /// Whether what was asked for has been found, if only that it is nothing.
  var isOver: Bool { entries.contains(where: \.isDone) }
  var isFull: Bool { waiting > Self.mostWaiting }

  /// Whether a transaction that the snapshot sees is not applied yet.
  func holdsUp(_ snapshot: Snapshot) -> Bool {
    entries.contains { snapshot.sees($0.commit.transaction) }
  }

  mutating func committed(_ commit: Commit, _ asks: [LookupAsk]) {
    guard !asks.isEmpty else { return }
    entries.append(Entry(commit: commit, asks: asks))
    waiting += asks.count
  }

  /// A new generation stands for all of them. The answer of a run under way is of no more use.
  mutating func removeAll() {
    entries.removeAll()
    found.removeAll()
    waiting = 0
    run = nil
    isUnderWay = false
  }

  /// When `next` may have something; nil: nothing is to be asked.
  func due(isVisible: (Commit) -> Bool) -> Instant? {
    guard !isUnderWay else { return nil }
    if run != nil { return nextTry }
    return entries.contains { !$0.asks.isEmpty && isVisible($0.commit) } ? Instant(nanoseconds: 0) : nil
  }

  /// The run to begin now.
  mutating func next(now: Instant, isVisible: (Commit) -> Bool) -> LookupRun? {
    guard !isUnderWay else { return nil }
    if let run {
      guard now >= nextTry else { return nil }
      isUnderWay = true
      return run
    }
    guard let first = entries.first(where: { !$0.asks.isEmpty && isVisible($0.commit) })?.asks.first else {
      return nil
    }
    var new = LookupRun(serial: serial, lookup: first.lookup)
    serial += 1
    var chosen: Set<[UInt8]> = []
    for index in entries.indices where isVisible(entries[index].commit) {
      let before = entries[index].asks.count
      entries[index].asks.removeAll { ask in
        guard ask.lookup == new.lookup else { return false }
        if !chosen.contains(ask.packed) {
          guard new.asks.count < Self.mostAsks else { return false }
          chosen.insert(ask.packed)
          new.asks.append(ask)
        }
        return true
      }
      guard entries[index].asks.count < before else { continue }
      waiting -= before - entries[index].asks.count
      entries[index].isRunning = true
      new.transactions.append(entries[index].commit.transaction)
    }
    run = new
    isUnderWay = true
    attempts = 0
    since = now
    return new
  }

  /// The run has been answered. False: the statement's snapshot did not see what it was asked for; it is tried again.
  mutating func answered(_ answer: LookupRun, _ keys: [LookupKey], _ snapshot: Snapshot, now: Instant) -> Bool
  {
    guard isUnderWay, let run, run.serial == answer.serial else { return true }
    guard run.transactions.allSatisfy({ snapshot.sees($0) }) else { return false }
    let lookup = lookups[run.lookup]
    isFailing[run.lookup] = false
    for key in keys { found(key, lookup, run) }
    if let remember = lookup.rule.remember { self.remember(keys, lookup, run, for: remember, now) }
    ended()
    return true
  }

  /// The run has failed. True: its prefixes are cleared instead.
  mutating func failed(_ failure: LookupRun, now: Instant) -> Bool {
    guard isUnderWay, let run, run.serial == failure.serial else { return false }
    isUnderWay = false
    attempts += 1
    if attempts < Self.tries, now.since(since) < Self.patience, !isFailing[run.lookup] {
      nextTry = Instant(nanoseconds: now.nanoseconds + Self.firstPause << UInt64(attempts - 1))
      return false
    }
    isFailing[run.lookup] = true
    let lookup = lookups[run.lookup]
    for (prefix, origin) in zip(lookup.prefixes, lookup.origins) {
      var origin = origin
      origin.transaction = run.asks.last?.transaction ?? 0
      found.append(Found(key: prefix, isPrefix: true, table: lookup.table, origin: origin))
    }
    ended()
    return true
  }

  /// What has been found goes with the batch that is being put together; what that completes holds up nothing more.
  mutating func take() -> [Found] {
    defer { found.removeAll() }
    entries.removeAll(where: \.isDone)
    return found
  }

  private mutating func ended() {
    run = nil
    isUnderWay = false
    for index in entries.indices { entries[index].isRunning = false }
  }

  private mutating func found(_ key: LookupKey, _ lookup: Lookup, _ run: LookupRun) {
    var origin = lookup.origins[key.template]
    origin.transaction = run.asks[key.ask].transaction
    found.append(
      Found(
        key: key.key, isPrefix: lookup.rule.keys[key.template].isPrefix, table: lookup.table, origin: origin))
  }

  /// Clears what was found before for the same values, and remembers what was found now.
  private mutating func remember(
    _ keys: [LookupKey], _ lookup: Lookup, _ run: LookupRun, for time: UInt64, _ now: Instant
  ) {
    let until = Instant(nanoseconds: now.nanoseconds + time)
    let present = Dictionary(grouping: keys, by: \.ask)
    if remembered[run.lookup].count > Self.mostRemembered {
      remembered[run.lookup] = remembered[run.lookup].filter { $0.value.until > now }
      if remembered[run.lookup].count > Self.mostRemembered { remembered[run.lookup].removeAll() }
    }
    for (index, ask) in run.asks.enumerated() {
      let fresh = present[index] ?? []
      if let before = remembered[run.lookup][ask.packed], before.until > now {
        for var key in before.keys {
          key.ask = index
          if !fresh.contains(key) { found(key, lookup, run) }
        }
      }
      remembered[run.lookup][ask.packed] = fresh.isEmpty ? nil : Remembered(keys: fresh, until: until)
    }
  }
}

/// What one statement is asked at once.
public struct LookupRun: Sendable {
  let serial: UInt64
  /// An index of the plan's lookups.
  public let lookup: Int
  public internal(set) var asks: [LookupAsk] = []
  /// Whose changes the answer must see.
  var transactions: [UInt32] = []

  init(serial: UInt64, lookup: Int) {
    self.serial = serial
    self.lookup = lookup
  }

  /// The values of the parameter at `index`, one for each ask.
  public func values(_ count: Int) -> [[String?]] {
    let rows = asks.map(\.values)
    return (0..<count).map { index in rows.map { $0[index] } }
  }
}
