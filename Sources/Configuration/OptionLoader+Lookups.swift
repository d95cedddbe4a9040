// Lookups: keys that a statement finds.
extension OptionLoader {
  mutating func lookups(in table: Section) -> [LookupRule] {
    list("tables.*.lookup", in: table) { loader, node, steps in
      guard let section = loader.open(node, option: "tables.*.lookup", steps: steps) else { return nil }
      return loader.lookup(section)
    } ?? []
  }

  private mutating func lookup(_ section: Section) -> LookupRule? {
    for (name, example) in [
      ("sql", "\"SELECT user_id FROM orders WHERE id = :order_id\""), ("keys", "[\"user:{user_id}:orders\"]"),
    ] where section[name] == nil {
      error(
        section.place, .missing, section.steps + [.key(name)],
        "this lookup has no \"\(name)\"; add for example \"\(name)\": \(example)")
    }
    let remember = durationIfAny("tables.*.lookup.remember", in: section)
    let keys = find("tables.*.lookup.keys", in: section).map {
      templates($0.0, $0.1, option: "tables.*.lookup.keys")
    }
    guard let text = text("tables.*.lookup.sql", in: section), let keys else { return nil }
    do {
      let sql = try SQLTemplate.parse(text)
      return LookupRule(sql: sql, keys: keys, remember: remember, place: section.place)
    } catch {
      self.error(error.place, .badValue, section.steps + [.key("sql")], error.message)
      return nil
    }
  }
}
