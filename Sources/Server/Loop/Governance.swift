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
    var plainSet: PlainSetSettings
  }

  private let mapped: KeyMatcher
  private let special: KeyMatcher
  private let specialRules: [Rule]
  private let common: Rule
  /// Which groups keys belong to.
  let groups: KeyGroups

  init(settings: Settings) {
    mapped = KeyMatcher(templates: settings.governed, prefix: settings.keyPrefix)
    groups = KeyGroups(settings)
    special = KeyMatcher(templates: settings.caches.map(\.template), prefix: settings.keyPrefix)
    specialRules = settings.caches.map { cache in
      Rule(
        keepsNear: cache.near != nil, nearTTL: Self.shorter(cache.near?.ttl, settings.near.ttl),
        plainSet: cache.plainSet)
    }
    common = Rule(keepsNear: true, nearTTL: settings.near.ttl, plainSet: settings.plainSet)
  }

  func governs(_ key: UnsafeRawBufferPointer) -> Bool { mapped.match(key) != nil }

  /// nil: the key is not governed.
  func rule(_ key: UnsafeRawBufferPointer) -> Rule? {
    guard governs(key) else { return nil }
    return special.match(key).map { specialRules[$0] } ?? common
  }

  private static func shorter(_ a: UInt64?, _ b: UInt64?) -> UInt64? {
    guard let a else { return b }
    return b.map { min(a, $0) } ?? a
  }
}
