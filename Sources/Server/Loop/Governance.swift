import Configuration
import Invalidation

/// Which keys are governed, and what their templates say.
///
/// A key is governed if a table's mapping covers it or its cache has tags: only then somebody will clear it when
/// its row changes, and only then may it be kept near.
struct Governance: Sendable {
  struct Rule: Sendable {
    /// Whether values may be kept near, and for how long at most (nanoseconds).
    var keepsNear: Bool
    var nearTTL: UInt64?
    /// How long values live at most wherever they are kept (nanoseconds), and the part of it by which that may be
    /// less, so that what was stored together does not end together.
    var ttl: UInt64? = nil
    var jitter = 0.0
    var plainSet: PlainSetSettings
    var staleness: StalenessSettings
    /// For how long beyond that bound near values are shown while PostgreSQL is away, in nanoseconds.
    var failSafe: UInt64? = nil
    /// What an entry of the near cache is marked with.
    var mark: UInt32
    /// The place of its template among `Governance.templates`, counted from 1.
    var number: Int { EntryMark.rule(of: mark) }
    /// nil: what is missing is loaded by the application.
    var load: LoadRule? = nil
    /// How long others wait for the one that fills a missing key, in nanoseconds; nil: nobody does.
    var turn: UInt64? = nil
    /// nil: a SET is no business of PostgreSQL's.
    var write: WriteRule? = nil

    /// For how long a value that is stored now may live; nil: for as long as its command says.
    func lifetime() -> UInt64? {
      guard let ttl, jitter > 0 else { return ttl }
      // A value that is stored lives for the shortest time that Redis knows, at least.
      return max(1_000_000, UInt64(Double(ttl) * (1 - Double.random(in: 0...jitter))))
    }
  }

  private let mapped: KeyMatcher
  private let special: KeyMatcher
  private let specialRules: [Rule]
  /// Of the templates of `mapped`.
  private let commonRules: [Rule]
  /// The templates that rules are numbered by, each once.
  let templates: [String]
  /// Whether some cache is written through.
  let writesThrough: Bool
  /// Whether some cache is written behind.
  let writesBehind: Bool
  /// Whether readers of some cache wait for the one that fills.
  let hasTurns: Bool
  /// Whether some cache says `"onChange": "refresh"`.
  let refreshes: Bool
  /// Which groups keys belong to.
  let groups: KeyGroups
  /// The bound of each template, in nanoseconds, by its number; the first is the global one.
  private let bounds: [UInt64]
  /// The longest of them: with older evidence no entry is fresh.
  let longestBound: UInt64

  init(settings: Settings) {
    mapped = KeyMatcher(templates: settings.governed, prefix: settings.keyPrefix)
    groups = KeyGroups(settings)
    special = KeyMatcher(templates: settings.caches.map(\.template), prefix: settings.keyPrefix)
    let statements = SQLStatements(settings)
    specialRules = settings.caches.enumerated().map { index, cache in
      Rule(
        keepsNear: cache.near != nil, nearTTL: Self.shorter(cache.near?.ttl, settings.near.ttl),
        ttl: cache.ttl, jitter: cache.jitter, plainSet: cache.plainSet,
        staleness: cache.staleness ?? settings.staleness,
        failSafe: cache.failSafe,
        mark: EntryMark.rule(index + 1) | (cache.stampede.early == nil ? 0 : EntryMark.early),
        load: LoadRule(
          cache, statement: statements.loads[index], many: statements.manyLoads[index],
          prefix: settings.keyPrefix),
        turn: cache.load == nil && cache.stampede.coalesce == true ? cache.stampede.wait : nil,
        write: WriteRule(cache, statement: statements.writes[index], prefix: settings.keyPrefix))
    }
    hasTurns = specialRules.contains { $0.turn != nil }
    writesThrough = specialRules.contains { $0.write != nil && $0.write?.behind == nil }
    writesBehind = specialRules.contains { $0.write?.behind != nil }
    var templates = settings.caches.map(\.template.text)
    commonRules = settings.governed.map { template in
      if !templates.contains(template.text) { templates.append(template.text) }
      let number = (templates.firstIndex(of: template.text) ?? 0) + 1
      return Rule(
        keepsNear: true, nearTTL: settings.near.ttl, plainSet: settings.plainSet,
        staleness: settings.staleness, mark: EntryMark.rule(number))
    }
    self.templates = templates
    refreshes = settings.caches.contains { $0.onChange == .refresh }
    let own = settings.caches.map { ($0.staleness ?? settings.staleness).bound }
    let others = templates.count - own.count
    bounds = [settings.staleness.bound] + own + Array(repeating: settings.staleness.bound, count: others)
    longestBound = bounds.max() ?? settings.staleness.bound
  }

  /// How old the evidence behind a near entry with this mark may be, in nanoseconds.
  @inline(__always)
  func bound(marked mark: UInt32) -> UInt64 { bounds[EntryMark.rule(of: mark)] }

  func governs(_ key: UnsafeRawBufferPointer) -> Bool { mapped.match(key) != nil }

  /// nil: the key is not governed.
  func rule(_ key: UnsafeRawBufferPointer) -> Rule? {
    guard let template = mapped.match(key) else { return nil }
    return special.match(key).map { specialRules[$0] } ?? commonRules[template]
  }

  private static func shorter(_ a: UInt64?, _ b: UInt64?) -> UInt64? {
    guard let a else { return b }
    return b.map { min(a, $0) } ?? a
  }
}

/// What the tag of a near entry says, so that a hit needs no template: bit 0 is set if the entry is no value, bit 1 if
/// it may be loaded anew before it ends, bit 2 if it is the anchor of parts, bit 3 if it is a part, bit 4 if that tells
/// of something that does not exist, bit 5 is free, 6 and 7 are kept for what covers groups of keys, and from bit 8 on
/// stands the number of the template that covers the key, counted from 1, by which its staleness is known.
enum EntryMark {
  /// It stands for a row that does not exist.
  static let absent: UInt32 = 1
  /// It may be loaded anew before it ends.
  static let early: UInt32 = 2
  static let anchor: UInt32 = 1 | 4
  static let part: UInt32 = 1 | 8
  /// Of a part: a field, a member or something else of what it was asked for does not exist.
  static let tellsAbsence: UInt32 = 16

  @inline(__always)
  static func isValue(_ mark: UInt32) -> Bool { mark & 1 == 0 }
  static func isAbsent(_ mark: UInt32) -> Bool { mark & (absent | anchor | part) == absent }
  static func isAnchor(_ mark: UInt32) -> Bool { mark & anchor == anchor }
  static func isPart(_ mark: UInt32) -> Bool { mark & part == part }

  static func rule(_ number: Int) -> UInt32 { UInt32(truncatingIfNeeded: number) << 8 }

  @inline(__always)
  static func rule(of mark: UInt32) -> Int { Int(mark >> 8) }
}
