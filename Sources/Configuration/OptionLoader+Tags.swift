// Tags: what a change hits, and what the keys of a cache belong to.
extension OptionLoader {
  /// One tag or a list of them.
  mutating func tags(_ node: JSONNode, _ steps: [PathStep], option: String) -> [KeyTemplate] {
    templates(node, steps, option: option).filter { tag in
      guard tag.isPrefix else { return true }
      error(tag.place, .badTemplate, steps, "a tag is a whole name, so it does not end in *")
      return false
    }
  }

  /// The tags of a cache that follow from its keys; what is wrong with the others is reported.
  mutating func cacheTags(_ cache: Section?, of key: KeyTemplate, _ tables: [TableRule]) -> [KeyTemplate] {
    guard let (node, steps) = find("caches.*.tags", in: cache) else { return [] }
    return tags(node, steps, option: "caches.*.tags").filter { tag in
      for (name, filters, place) in tag.columns {
        if let fault = Self.fault(of: name, filters, in: tag, key) {
          error(place, fault.code, steps, fault.message)
          return false
        }
      }
      guard tag.columns.count > KeyTemplate.mostTagColumns else { return true }
      error(
        tag.place, .notSupported, steps, "a tag has at most \(KeyTemplate.mostTagColumns) columns")
      return false
    }
  }

  /// Why a tag's column cannot be read from a key.
  private static func fault(
    of name: String, _ filters: [KeyTemplate.Filter], in tag: KeyTemplate, _ key: KeyTemplate
  ) -> (code: ConfigurationCode, message: String)? {
    guard let column = key.columns.first(where: { $0.name == name }) else {
      return (
        .notSupported,
        "the tag names column \"\(name)\", which the key \(quoted(key.text)) does not hold; a tag must follow "
          + "from the key in this version, so use a key such as \"{\(name)}:…\" or leave the tag out"
      )
    }
    if !sameText(filters, column.filters) {
      return (
        .badValue,
        "the tag and the key \(quoted(key.text)) write column \"\(name)\" with different filters; give both the "
          + "same"
      )
    }
    if !key.divides(name) {
      return (
        .badValue,
        "where column \"\(name)\" begins and ends in a key cannot be told; put a : between the columns of "
          + quoted(key.text)
      )
    }
    return nil
  }

  /// A tag that only one side has does nothing. Columns may have other names there, but must be written alike.
  mutating func warnOfUnusedTags(_ tables: [TableRule], _ caches: [CacheRule]) {
    func meet(_ a: KeyTemplate, _ b: KeyTemplate) -> Bool {
      guard Self.mayMeet(a, b) else { return false }
      return a.columns.count != b.columns.count
        || zip(a.columns, b.columns).allSatisfy { Self.sameText($0.filters, $1.filters) }
    }
    let hit = tables.flatMap(\.tags)
    let held = caches.flatMap(\.tags)
    for tag in hit where !held.contains(where: { meet($0, tag) }) {
      warn(tag.place, .noEffect, [.key("tables")], "no cache has this tag, so hitting it has no effect")
    }
    for tag in held where !hit.contains(where: { meet($0, tag) }) {
      warn(
        tag.place, .noEffect, [.key("caches")], "no table hits this tag, so only NEARSIDE INVALIDATE TAG does"
      )
    }
  }

  /// Whether two lists of filters write a value alike; `raw` only says that a type is fit.
  private static func sameText(_ a: [KeyTemplate.Filter], _ b: [KeyTemplate.Filter]) -> Bool {
    Set(a).subtracting([.raw]) == Set(b).subtracting([.raw])
  }
}

extension KeyTemplate {
  /// A Lua replacement can name nine captures.
  static let mostTagColumns = 9

  /// Each column that the template names, in its order.
  public var columns: [(name: String, filters: [Filter], place: SourcePlace)] {
    parts.compactMap { part in
      guard case .column(let name, let filters, let place) = part else { return nil }
      return (name, filters, place)
    }
  }

  /// Whether a prefix for one row never begins a key of another: a colon, which no value holds, must stand
  /// between the last column and the `*`. Always so without a `*` or without columns.
  var isClosed: Bool {
    guard isPrefix, !columns.isEmpty else { return true }
    guard case .literal(let text) = parts.last else { return false }
    return text.contains(":")
  }

  /// Whether the value of a column can be read from a key: between the colons beside it there is no other
  /// column, and a prefix goes on behind a colon.
  func divides(_ name: String) -> Bool {
    var segments: [[String]] = [[]]
    for part in parts {
      switch part {
      case .literal(let text):
        for character in text.unicodeScalars where character == ":" { segments.append([]) }
      case .column(let name, _, _): segments[segments.count - 1].append(name)
      }
    }
    guard let index = segments.firstIndex(where: { $0.contains(name) }) else { return false }
    return segments[index].count == 1 && !(isPrefix && index == segments.count - 1)
  }
}
