import Configuration
import DequeModule
import Invalidation

/// What was written behind and has not reached PostgreSQL, as the host that writes knows it: decides what is written
/// next, together with what, and what becomes of writes that fail. It does no I/O and reads no clock.
///
/// How it works: 1. `add` takes entries in the order of the stream; of one key only the newest counts, and the older
/// ones end with it. 2. `next` gives a batch whose time has come, of one cache. 3. Its outcome goes to `written` or
/// `failed`, which say which entries are over. 4. A batch that fails is
/// tried again key by key, so that one poisonous value does not hold up the others. 5. A value that PostgreSQL
/// refuses `attempts` times is given up; what is nobody's fault, or the statement's, is tried for ever.
public struct BehindQueue: Sendable {
  /// One key's newest value, ready to be written.
  public struct Write: Sendable {
    public var key: [UInt8]
    /// Its cache: place in `BehindPlan.caches`.
    public var cache: Int
    public var parameters: [[UInt8]?]
    /// Of its entry.
    public var id: String
  }

  /// Entries that are over.
  public struct Ended: Sendable {
    public var key: [UInt8]
    public var id: String
    /// All that end with it, itself included.
    public var ids: [String]
    /// Why it is given up: a SQLSTATE, or `BehindQueue.noRow`; nil: PostgreSQL has it.
    public var reason: String?
    public var attempts: Int
  }

  private struct Pending {
    var cache: Int
    var parameters: [[UInt8]?]
    var ids: [String]
    /// When it may be written, in nanoseconds.
    var due: UInt64
    /// How often PostgreSQL has refused the newest value, and how often anything has gone wrong with it.
    var attempts = 0
    var failures = 0
  }

  static let shortestPause: UInt64 = 100_000_000
  static let longestPause: UInt64 = 10_000_000_000

  private let settings: [BehindSettings]
  private var pending: [[UInt8]: Pending] = [:]
  /// Of each cache the keys of which nothing has gone wrong yet, in the order in which they are due.
  private var fresh: [Deque<[UInt8]>]
  /// Keys that are to be tried again.
  private var troubled: Set<[UInt8]> = []
  /// Keys of a batch that has failed, to be written one by one.
  private var alone: [[UInt8]] = []
  private var coalescedCount = 0

  /// - Parameter settings: of each cache.
  public init(_ settings: [BehindSettings]) {
    self.settings = settings
    fresh = settings.map { _ in Deque() }
  }

  /// How many keys are here, and how many entries a later one of their key has replaced since the start.
  public var keys: Int { pending.count }
  public var coalesced: Int { coalescedCount }

  /// Not to be called between `next` and its batch's outcome.
  ///
  /// - Parameters:
  ///   - id: greater than all before it.
  ///   - isOld: another host has read it before: it has waited for others long enough.
  public mutating func add(
    _ id: String, key: [UInt8], cache: Int, parameters: [[UInt8]?], isOld: Bool, now: UInt64
  ) {
    let due = isOld ? now : now &+ settings[cache].delay
    guard let place = pending.index(forKey: key) else {
      pending[key] = Pending(cache: cache, parameters: parameters, ids: [id], due: due)
      return queue(key, cache, due)
    }
    coalescedCount += 1
    pending.values[place].ids.append(id)
    pending.values[place].parameters = parameters
    pending.values[place].attempts = 0
    pending.values[place].failures = 0
    // A key that is written all the time must not wait all the time, so one that waits keeps its turn.
    guard troubled.remove(key) != nil else { return }
    pending.values[place].due = due
    queue(key, cache, due)
  }

  private mutating func queue(_ key: [UInt8], _ cache: Int, _ due: UInt64) {
    // What another host has read before waits for nothing, whoever came first here.
    if let first = fresh[cache].first, self.due(first) > due {
      fresh[cache].prepend(key)
    } else {
      fresh[cache].append(key)
    }
  }

  private func due(_ key: [UInt8]) -> UInt64 { pending[key]?.due ?? 0 }

  /// When `next` may have something, in nanoseconds; nil: not before another entry comes.
  public func nextTime() -> UInt64? {
    guard alone.isEmpty else { return 0 }
    if zip(fresh, settings).contains(where: { $0.count >= $1.batch }) { return 0 }
    return (fresh.compactMap(\.first) + troubled).map { due($0) }.min()
  }

  /// A batch to be written in one transaction, ordered by key, so that it locks rows in one order always. It must be
  /// answered by one of the methods below before the next one is asked for.
  public mutating func next(now: UInt64) -> [Write] {
    while let key = alone.popLast() {
      if let one = pending[key] { return [write(key, one)] }
    }
    for cache in settings.indices {
      let most = settings[cache].batch
      // The one that is due first stands last.
      var again = troubled.filter { pending[$0]?.cache == cache && due($0) <= now }
        .sorted { due($0) > due($1) }
      let isDue = !again.isEmpty || fresh[cache].first.map { due($0) <= now } ?? false
      // One that is due takes those with it that are not yet, and a full batch waits for none.
      guard isDue || fresh[cache].count >= most else { continue }
      var keys: [[UInt8]] = []
      while keys.count < most {
        if let key = again.last, fresh[cache].first.map({ due(key) <= due($0) }) ?? true {
          again.removeLast()
          troubled.remove(key)
          keys.append(key)
        } else if let key = fresh[cache].popFirst() {
          keys.append(key)
        } else {
          break
        }
      }
      keys.sort { $0.lexicographicallyPrecedes($1) }
      return keys.compactMap { key in pending[key].map { write(key, $0) } }
    }
    return []
  }

  private func write(_ key: [UInt8], _ one: Pending) -> Write {
    Write(key: key, cache: one.cache, parameters: one.parameters, id: one.ids[one.ids.count - 1])
  }

  /// PostgreSQL has committed the batch.
  public mutating func written(_ batch: [Write]) -> [Ended] { batch.compactMap { end($0, nil) } }

  /// The batch was rolled back. `sqlState`: PostgreSQL's, or `BehindQueue.noRow`. What is over now is returned.
  public mutating func failed(_ batch: [Write], _ sqlState: String, now: UInt64) -> [Ended] {
    if batch.count > 1 {
      alone = batch.reversed().map(\.key)
      return []
    }
    guard let one = batch.first, var state = pending[one.key] else { return [] }
    let isRefused = Self.isRefusal(sqlState)
    state.failures += 1
    if isRefused { state.attempts += 1 }
    pending[one.key] = state
    if isRefused, state.attempts >= settings[state.cache].attempts {
      return end(one, sqlState).map { [$0] } ?? []
    }
    let pause = Self.shortestPause << UInt64(min(state.failures - 1, 10))
    state.due = now &+ min(pause, Self.longestPause)
    pending[one.key] = state
    troubled.insert(one.key)
    return []
  }

  /// Nothing is added while a batch is written, so nothing newer of the key is here.
  private mutating func end(_ write: Write, _ reason: String?) -> Ended? {
    guard let one = pending.removeValue(forKey: write.key) else { return nil }
    return Ended(key: write.key, id: write.id, ids: one.ids, reason: reason, attempts: one.attempts)
  }

  /// The statement changed no row.
  public static let noRow = "no row"

  /// Whether it is the value that PostgreSQL refuses. Everything else may be mended without losing it: an operator
  /// ends a statement, a table or a right is missing for a while, a disk is full.
  /// Source: PostgreSQL documentation, Appendix A, "PostgreSQL Error Codes".
  static func isRefusal(_ sqlState: String) -> Bool {
    if sqlState == noRow { return true }
    let classes = ["21", "22", "23", "44", "54", "P0", "09", "27", "2F", "38", "39"]
    return classes.contains(String(sqlState.prefix(2)))
  }
}

/// Which keys are written behind, and how.
public struct BehindPlan: Sendable {
  public struct Cache: Sendable {
    /// With `$1`, `$2`, … for the parameters.
    public var sql: String
    public var settings: BehindSettings
    /// Its template's text, for messages.
    public var name: String
  }

  public let caches: [Cache]
  private let matcher: KeyMatcher
  /// For each cache of the configuration its place in `caches`, and its rule.
  private let rules: [(place: Int, rule: WriteRule)?]

  /// nil: nothing is written behind.
  public init?(_ settings: Settings) {
    var caches: [Cache] = []
    var rules: [(place: Int, rule: WriteRule)?] = []
    for cache in settings.caches {
      guard case .behind(let behind) = cache.write,
        let rule = WriteRule(cache, statement: nil, prefix: settings.keyPrefix)
      else {
        rules.append(nil)
        continue
      }
      rules.append((caches.count, rule))
      caches.append(Cache(sql: behind.sql.text, settings: behind, name: cache.template.text))
    }
    guard !caches.isEmpty else { return nil }
    self.caches = caches
    self.rules = rules
    matcher = KeyMatcher(templates: settings.caches.map(\.template), prefix: settings.keyPrefix)
  }

  /// How an entry is written; nil: this configuration does not write its key behind.
  public func write(
    _ key: [UInt8], value: [UInt8], milliseconds: Int?
  ) -> (cache: Int, parameters: [[UInt8]?])? {
    guard let match = key.withUnsafeBytes({ matcher.match($0) }), let (place, rule) = rules[match],
      let parameters = rule.values(of: key, value: value, milliseconds: milliseconds)
    else { return nil }
    return (place, parameters)
  }
}
