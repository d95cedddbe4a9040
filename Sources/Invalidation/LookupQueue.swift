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
  /// Found keys that may wait; more than that are cheaper as a new generation.
  static let mostFound = 100_000
  /// Found keys above which no further run begins.
  static let enoughFound = 5000
  /// Keys that are remembered, for each lookup.
  static let mostRemembered = 100_000

  struct Found {
    var key: [UInt8]
    /// Every key that begins so.
    var isPrefix: Bool
    var table: Int
    /// It names no transaction: a key is found once for all that ask the same, and goes behind keys of transactions
    /// that are younger. So nobody may take it for the last word of one of them.
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

  /// What one lookup has found for each ask, by the ask's bytes.
  private struct Memory {
    var answers: [[UInt8]: Remembered] = [:]
    /// Of all answers.
    var keys = 0

    mutating func take(_ ask: [UInt8]) -> Remembered? {
      guard let answer = answers.removeValue(forKey: ask) else { return nil }
      keys -= answer.keys.count
      return answer
    }

    mutating func keep(_ answer: Remembered, for ask: [UInt8]) {
      answers[ask] = answer
      keys += answer.keys.count
    }

    /// Makes room for so many more: first by what has expired.
    mutating func makeRoom(for count: Int, _ now: Instant) {
      guard keys + count > LookupQueue.mostRemembered else { return }
      answers = answers.filter { $0.value.until > now }
      keys = answers.values.reduce(0) { $0 + $1.keys.count }
      if keys + count > LookupQueue.mostRemembered { self = Memory() }
    }
  }

  private let lookups: [Lookup]
  /// In the order of their commits.
  private var entries: [Entry] = []
  private var waiting = 0
  private var run: LookupRun?
  /// The run whose statement has been sent and not answered. A new generation makes the run void, and yet the next one
  /// has to wait for the answer.
  private var underWay: UInt64?
  private var attempts = 0
  private var since = Instant(nanoseconds: 0)
  private var nextTry = Instant(nanoseconds: 0)
  private var serial: UInt64 = 0
  /// For each lookup whether it was widened when it was last run: then one failure is enough.
  private var isFailing: [Bool]
  private var remembered: [Memory]
  private(set) var found: [Found] = []
  /// Whether what was asked for has been found, if only that it is nothing.
  private(set) var isOver = false

  init(_ lookups: [Lookup]) {
    self.lookups = lookups
    isFailing = lookups.map { _ in false }
    remembered = lookups.map { _ in Memory() }
  }

  /// W must not pass this: the beginning of the first commit whose keys are not all sent.
  var floor: LSN? { entries.first?.commit.record }
  /// Why a new generation should stand for all of this; nil: it is not too much.
  var excess: String? {
    if waiting > Self.mostWaiting {
      return "more than \(Self.mostWaiting) lookups wait for their transactions"
    }
    return found.count > Self.mostFound ? "lookups have found more than \(Self.mostFound) keys at once" : nil
  }

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
    isOver = false
  }

  private var mayRun: Bool { underWay == nil && found.count < Self.enoughFound }

  /// When `next` may have something; nil: nothing is to be asked.
  func due(isVisible: (Commit) -> Bool) -> Instant? {
    guard mayRun else { return nil }
    if run != nil { return nextTry }
    return entries.contains { !$0.asks.isEmpty && isVisible($0.commit) } ? Instant(nanoseconds: 0) : nil
  }

  /// The run to begin now.
  mutating func next(now: Instant, isVisible: (Commit) -> Bool) -> LookupRun? {
    guard mayRun else { return nil }
    if let run {
      guard now >= nextTry else { return nil }
      underWay = run.serial
      return run
    }
    guard let start = entries.firstIndex(where: { !$0.asks.isEmpty && isVisible($0.commit) }) else {
      return nil
    }
    var new = LookupRun(serial: serial, lookup: entries[start].asks[0].lookup)
    serial += 1
    var chosen: Set<[UInt8]> = []
    for index in start..<entries.count where isVisible(entries[index].commit) {
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
      if new.asks.count == Self.mostAsks { break }
    }
    run = new
    underWay = new.serial
    attempts = 0
    since = now
    return new
  }

  /// The run has been answered. False: the statement's snapshot did not see what it was asked for, so it has failed.
  mutating func answered(_ answer: LookupRun, _ keys: [LookupKey], _ snapshot: Snapshot, now: Instant) -> Bool
  {
    guard let run = current(answer) else { return true }
    guard run.transactions.allSatisfy({ snapshot.sees($0) }) else { return false }
    underWay = nil
    let lookup = lookups[run.lookup]
    isFailing[run.lookup] = false
    for key in keys { found(key, lookup) }
    if let remember = lookup.rule.remember { self.remember(keys, lookup, run, for: remember, now) }
    ended()
    return true
  }

  /// The run has failed. True: its prefixes are cleared instead.
  mutating func failed(_ failure: LookupRun, now: Instant) -> Bool {
    guard let run = current(failure) else { return false }
    underWay = nil
    attempts += 1
    if attempts < Self.tries, now.since(since) < Self.patience, !isFailing[run.lookup] {
      nextTry = Instant(nanoseconds: now.nanoseconds + Self.firstPause << UInt64(attempts - 1))
      return false
    }
    isFailing[run.lookup] = true
    let lookup = lookups[run.lookup]
    for (prefix, origin) in zip(lookup.prefixes, lookup.origins) {
      found.append(Found(key: prefix, isPrefix: true, table: lookup.table, origin: origin))
    }
    ended()
    return true
  }

  /// The run that an answer is to; nil: a new generation stands for it.
  private mutating func current(_ answer: LookupRun) -> LookupRun? {
    guard underWay == answer.serial else { return nil }
    if let run { return run }
    underWay = nil
    return nil
  }

  /// What has been found goes with the batch that is being put together; what that completes holds up nothing more.
  mutating func take() -> [Found] {
    defer { found.removeAll() }
    if isOver { entries.removeAll(where: \.isDone) }
    isOver = false
    return found
  }

  private mutating func ended() {
    run = nil
    for index in entries.indices where entries[index].isRunning {
      entries[index].isRunning = false
      if entries[index].isDone { isOver = true }
    }
  }

  private mutating func found(_ key: LookupKey, _ lookup: Lookup) {
    found.append(
      Found(
        key: key.key, isPrefix: lookup.rule.keys[key.template].isPrefix, table: lookup.table,
        origin: lookup.origins[key.template]))
  }

  /// Clears what was found before for the same values, and remembers what was found now.
  private mutating func remember(
    _ keys: [LookupKey], _ lookup: Lookup, _ run: LookupRun, for time: UInt64, _ now: Instant
  ) {
    let until = Instant(nanoseconds: now.nanoseconds + time)
    let present = Set(keys)
    // First of all of them: room is made by forgetting, and what is forgotten cannot be cleared.
    for (index, ask) in run.asks.enumerated() {
      guard let before = remembered[run.lookup].take(ask.packed), before.until > now else { continue }
      for var key in before.keys {
        key.ask = index
        if !present.contains(key) { found(key, lookup) }
      }
    }
    guard keys.count <= Self.mostRemembered else { return }
    remembered[run.lookup].makeRoom(for: keys.count, now)
    let fresh = Dictionary(grouping: keys, by: \.ask)
    for (index, ask) in run.asks.enumerated() {
      guard let keys = fresh[index] else { continue }
      remembered[run.lookup].keep(Remembered(keys: keys, until: until), for: ask.packed)
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
