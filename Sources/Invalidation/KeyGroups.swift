import Configuration

/// A name under which many keys are cleared at once: its kind, one byte, and behind it a whole prefix
/// (`pshop:category:7:`) or a tag (`ttenant:7`). A key belongs to groups, and a fence of one is a fence of each
/// of its keys.
public enum KeyGroup {
  public static let prefix = UInt8(ascii: "p")
  public static let tag = UInt8(ascii: "t")

  /// The longest prefix or tag, in bytes: the longest packed name less its kind.
  public static let longestName = PackedKeys.longestKey - 1
}

/// The groups that a key belongs to.
public struct GroupMembership: Hashable, Sendable {
  /// Their fence buckets.
  public var buckets: [Int32] = []
  /// Those that are tags, kind included. Whether a prefix covers a key, the key itself tells.
  public var tags = PackedKeys()
}

/// Which groups there are, by the mapping. A key's groups follow from the key alone: each prefix rule that
/// covers it, filled in, and the tags of its cache's template.
public struct KeyGroups: Sendable {
  /// A tag of a cache, as it is read from a key.
  private struct Tag {
    enum Part { case literal([UInt8]), column(Int) }

    var parts: [Part]
  }

  private let prefixes: KeyMatcher
  private let caches: KeyMatcher
  /// For each cache its tags.
  private let tags: [[Tag]]
  private let tagNames: KeyMatcher
  /// Whether no key belongs to a group.
  public let isEmpty: Bool

  /// How a key's tag is found by Lua: `string.gsub(key, pattern, replacement)` is the tag, if the pattern is
  /// found. It finds at least every key that has the tag.
  public let sweepRules: [SweepRule]

  public struct SweepRule: Hashable, Sendable {
    public var pattern: String
    public var replacement: String
  }

  /// - Parameter keyPrefix: `Settings.keyPrefix`.
  public init(tables: [TableRule], caches: [CacheRule], keyPrefix: String) {
    // Rules of several tables may give the same prefixes.
    var shapes: Set<String> = []
    let prefixes = tables.flatMap(\.cleared).filter {
      $0.isPrefix && shapes.insert($0.luaPattern(prefix: "")).inserted
    }
    let tagTemplates = caches.flatMap(\.tags)
    self.prefixes = KeyMatcher(templates: prefixes, prefix: keyPrefix)
    self.caches = KeyMatcher(templates: caches.map(\.template), prefix: keyPrefix)
    tagNames = KeyMatcher(templates: tagTemplates, prefix: "")
    isEmpty = prefixes.isEmpty && tagTemplates.isEmpty
    var rules: [SweepRule] = []
    var tags: [[Tag]] = []
    for cache in caches {
      let names = cache.template.columns.map(\.name)
      tags.append(
        cache.tags.map { tag in
          Tag(
            parts: tag.parts.compactMap { part in
              switch part {
              case .literal(let text): .literal(Array(text.utf8))
              // The configuration has no tag with another column.
              case .column(let name, _, _): names.firstIndex(of: name).map { .column($0) }
              }
            })
        })
      for tag in cache.tags { rules.append(SweepRule(tag, of: cache.template, keyPrefix)) }
    }
    self.tags = tags
    sweepRules = rules
  }

  public init(_ settings: Settings) {
    self.init(tables: settings.tables, caches: settings.caches, keyPrefix: settings.keyPrefix)
  }

  /// nil: the key belongs to no group.
  public func membership(of key: UnsafeRawBufferPointer) -> GroupMembership? {
    guard !isEmpty else { return nil }
    var membership = GroupMembership()
    forEach(of: key) { group in
      membership.buckets.append(Int32(KeyHash.bucket(group)))
      if group[0] == KeyGroup.tag { membership.tags.append(group) }
    }
    return membership.buckets.isEmpty ? nil : membership
  }

  /// Hands over each group of the key, kind included.
  public func forEach(of key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
    guard !isEmpty else { return }
    withUnsafeTemporaryAllocation(byteCount: key.count + 1, alignment: 8) { memory in
      var copied = false
      prefixes.forEachPrefix(of: key) { _, count in
        if !copied {
          memory[0] = KeyGroup.prefix
          UnsafeMutableRawBufferPointer(rebasing: memory[1...]).copyMemory(from: key)
          copied = true
        }
        body(UnsafeRawBufferPointer(rebasing: memory[..<(count + 1)]))
      }
    }
    var columns: [Range<Int>] = []
    guard !tags.isEmpty, let cache = caches.match(key, columns: &columns) else { return }
    for tag in tags[cache] {
      var group = [KeyGroup.tag]
      for part in tag.parts {
        switch part {
        case .literal(let bytes): group.append(contentsOf: bytes)
        case .column(let index): group.append(contentsOf: key[columns[index]])
        }
      }
      guard group.count <= PackedKeys.longestKey else { continue }
      group.withUnsafeBytes(body)
    }
  }

  /// Whether every key under this prefix has it among its groups: it is that of a rule, filled in. Any other
  /// prefix has no fence that its keys' leases are compared with.
  public func isRule(prefix: UnsafeRawBufferPointer) -> Bool {
    var found = false
    prefixes.forEachPrefix(of: prefix) { _, count in if count == prefix.count { found = true } }
    return found
  }

  /// Whether the group (kind included) is a prefix that no rule gives.
  public func isAdHoc(_ group: UnsafeRawBufferPointer) -> Bool {
    group.first == KeyGroup.prefix && !isRule(prefix: UnsafeRawBufferPointer(rebasing: group[1...]))
  }

  /// Whether some cache's keys can have this tag.
  public func hasTag(_ tag: UnsafeRawBufferPointer) -> Bool { tagNames.match(tag) != nil }
}

extension KeyGroups.SweepRule {
  fileprivate init(_ tag: KeyTemplate, of key: KeyTemplate, _ keyPrefix: String) {
    let names = tag.columns.map(\.name)
    var captured: [String] = []
    for column in key.columns where names.contains(column.name) && !captured.contains(column.name) {
      captured.append(column.name)
    }
    pattern = key.luaPattern(prefix: keyPrefix, capturing: captured) + (key.isPrefix ? ".*$" : "")
    replacement = ""
    for part in tag.parts {
      switch part {
      case .literal(let text):
        for scalar in text.unicodeScalars { replacement += scalar == "%" ? "%%" : "\(scalar)" }
      case .column(let name, _, _):
        if let index = captured.firstIndex(of: name) { replacement += "%\(index + 1)" }
      }
    }
  }
}

/// The groups whose keys Redis may still hold from before they were cleared, as field `pd` of the state has
/// them: each with the id of the journal entry that told of it last. While one of them covers a key, what
/// Redis holds for it does not count.
public struct PendingGroups: Hashable, Sendable {
  /// Packed names: group and id in turn.
  public let packed: PackedKeys
  public let count: Int

  /// More than so many begin a new generation instead: each read that asks Redis carries all of them.
  public static let most = 1000
  /// The same for their bytes.
  public static let mostBytes = 65_536

  public init() {
    packed = PackedKeys()
    count = 0
  }

  /// nil if these are not such bytes; then nothing is known of what Redis holds.
  public init?(bytes: [UInt8]) {
    guard let packed = PackedKeys(bytes: bytes) else { return nil }
    var number = 0
    var isKnown = true
    packed.forEach { name in
      if number % 2 == 0, name.first != KeyGroup.prefix, name.first != KeyGroup.tag { isKnown = false }
      number += 1
    }
    guard isKnown, number % 2 == 0 else { return nil }
    self.packed = packed
    count = number / 2
  }

  public var isEmpty: Bool { count == 0 }

  /// Whether these are more than a state should carry.
  public var isTooMuch: Bool { count > Self.most || packed.bytes.count > Self.mostBytes }

  /// The groups alone.
  public var groups: PackedKeys {
    var groups = PackedKeys()
    var number = 0
    packed.forEach { name in
      if number % 2 == 0 { groups.append(name) }
      number += 1
    }
    return groups
  }

  /// - Parameter tags: those of the key, as `GroupMembership` has them.
  public func covers(_ key: UnsafeRawBufferPointer, tags: PackedKeys) -> Bool {
    guard !isEmpty else { return false }
    var covers = false
    var number = 0
    packed.forEach { name in
      defer { number += 1 }
      guard !covers, number % 2 == 0 else { return }
      if name[0] == KeyGroup.prefix {
        covers = key.count >= name.count - 1 && key.starts(with: name.dropFirst())
      } else {
        tags.forEach { if sameBytes($0, name) { covers = true } }
      }
    }
    return covers
  }
}
