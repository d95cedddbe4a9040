// Tables: which keys a change clears.
extension OptionLoader {
  mutating func tables(_ top: Section) -> [TableRule] {
    let steps = [PathStep.key("tables")]
    guard let node = top["tables"]?.node else {
      error(
        top.place, .missing, steps,
        "\"tables\" is missing: it says which keys a change clears; add for example "
          + "\"tables\": {\"users\": \"user:{id}\"}")
      return []
    }
    guard let members = node.members else {
      wrongType(node, steps, expected: "an object such as {\"users\": \"user:{id}\"}")
      return []
    }
    guard !members.isEmpty else {
      error(
        node.place, .missing, steps,
        "\"tables\" names no table, so nothing could be cached; add for example \"users\": \"user:{id}\"")
      return []
    }
    var rules: [TableRule] = []
    for member in members {
      guard let rule = table(member, steps + [.key(member.key)]) else { continue }
      if let first = rules.first(where: { $0.schema == rule.schema && $0.name == rule.name }) {
        // The same key twice has been reported by the JSON reader.
        if !members.contains(where: { $0.key == member.key && $0.keyPlace != member.keyPlace }) {
          error(
            rule.place, .givenTwice, steps + [.key(member.key)],
            "table \(printable(rule.qualifiedName)) has two rules; the first is at "
              + "\(first.place.line):\(first.place.column)")
        }
      } else {
        rules.append(rule)
      }
    }
    return rules
  }

  private mutating func table(_ member: JSONNode.Member, _ steps: [PathStep]) -> TableRule? {
    let name = tableName(member, steps)
    let keys: [KeyTemplate]
    var tags: [KeyTemplate] = []
    var columns: [String]?
    var operations = Set(RowOperation.allCases)
    var lookups: [LookupRule] = []
    var when: RowCondition?
    if member.node.string != nil || member.node.elements != nil {
      keys = templates(member.node, steps, option: "tables.*")
    } else {
      guard let section = open(member.node, option: "tables.*", steps: steps) else { return nil }
      let tagList = find("tables.*.tags", in: section)
      if let (node, steps) = tagList { tags = self.tags(node, steps, option: "tables.*.tags") }
      if let (node, steps) = find("tables.*.keys", in: section) {
        keys = templates(node, steps, option: "tables.*.keys")
      } else {
        keys = []
        if tagList == nil, section["lookup"] == nil {
          error(
            section.place, .missing, steps + [.key("keys")],
            "this table has no \"keys\"; add for example \"keys\": [\"user:{id}\"]")
        }
      }
      lookups = self.lookups(in: section)
      columns = list("tables.*.columns", in: section) { loader, node, steps in
        loader.nonEmpty(node, option: "tables.*.columns" + Self.element, steps: steps)?.text
      }
      let words: [RowOperation]? = list("tables.*.on", in: section) { loader, node, steps in
        loader.choice(node, option: "tables.*.on" + Self.element, steps: steps)?.value
      }
      if let words { operations = Set(words) }
      when = condition("tables.*.when", in: section)
    }
    guard let name else { return nil }
    return TableRule(
      schema: name.schema, name: name.table, keys: keys, tags: tags, columns: columns,
      operations: operations, lookups: lookups, when: when, place: member.keyPlace)
  }

  private mutating func condition(_ path: String, in section: Section) -> RowCondition? {
    guard let (node, steps) = find(path, in: section), let text = text(node, option: path, steps: steps)
    else { return nil }
    do {
      return try RowCondition.parse(text)
    } catch {
      self.error(
        error.place, .badValue, steps, error.message,
        suggestion: text.isExpanded ? nil : error.suggestion)
      return nil
    }
  }

  /// `users` or `shop.users`; the names are the catalogue's own, so capital letters count.
  private mutating func tableName(
    _ member: JSONNode.Member, _ steps: [PathStep]
  ) -> (schema: String, table: String)? {
    guard let text = expanded(PlacedText(keyOf: member), steps) else { return nil }
    let parts = text.text.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    // PostgreSQL's names have at most 63 bytes: its documentation, 4.1.1.
    let areNames = parts.allSatisfy {
      (1...63).contains($0.utf8.count) && !$0.unicodeScalars.contains(where: isControl) && !$0.contains("\"")
    }
    guard (1...2).contains(parts.count), areNames else {
      error(
        text.place, .badValue, steps,
        "\(text.shown) is not a table's name; write it as the catalogue has it, like \"users\" or "
          + "\"shop.users\""
      )
      return nil
    }
    return parts.count == 2 ? (parts[0], parts[1]) : ("public", parts[0])
  }

  /// One template or a list of them; what cannot be read is left out.
  mutating func templates(_ node: JSONNode, _ steps: [PathStep], option: String) -> [KeyTemplate] {
    guard let elements = node.elements else {
      guard let text = text(node, option: option, steps: steps) else { return [] }
      return template(text, steps).map { [$0] } ?? []
    }
    if elements.isEmpty {
      error(node.place, .missing, steps, "this list of keys is empty; add for example \"user:{id}\"")
    }
    var found: [KeyTemplate] = []
    for (index, element) in elements.enumerated() {
      let steps = steps + [.index(index)]
      guard let text = text(element, option: option + Self.element, steps: steps),
        let next = template(text, steps)
      else { continue }
      if found.contains(where: { $0.text == next.text }) {
        warn(next.place, .givenTwice, steps, "this template stands twice in this list")
      } else {
        found.append(next)
      }
    }
    return found
  }

  mutating func template(_ text: PlacedText, _ steps: [PathStep]) -> KeyTemplate? {
    do {
      let template = try KeyTemplate.parse(text)
      if template.isClosed { return template }
      let count = text.text.unicodeScalars.count
      error(
        text.place(count - 1..<count), .badTemplate, steps,
        "a : must stand between the last column and the *, as in \"category:{category_id}:*\"; otherwise the "
          + "keys of 42 would count as keys of 4")
    } catch {
      self.error(error.place, .badTemplate, steps, error.message, suggestion: error.suggestion)
    }
    return nil
  }

  /// A list that is not empty, each element read by `read`; nil if the option is absent.
  mutating func list<T: Hashable>(
    _ path: String, in section: Section?, _ read: (inout OptionLoader, JSONNode, [PathStep]) -> T?
  ) -> [T]? {
    guard let (node, steps) = find(path, in: section) else { return nil }
    guard let elements = node.elements else {
      wrongType(node, steps, expected: "a list")
      return nil
    }
    if elements.isEmpty {
      error(node.place, .badValue, steps, "this list is empty; leave the key out for the default")
    }
    var found: [T] = []
    for (index, element) in elements.enumerated() {
      let steps = steps + [.index(index)]
      guard let value = read(&self, element, steps) else { continue }
      if found.contains(value) {
        warn(element.place, .givenTwice, steps, "this stands twice in this list")
      } else {
        found.append(value)
      }
    }
    return found
  }
}
