// Caches: what is special about the keys of one template.
extension OptionLoader {
  /// What holds for every cache that does not say otherwise.
  struct CacheDefaults {
    var near: NearSettings
    var staleness: StalenessSettings
    var plainSet: PlainSetSettings
    var loadTimeout: UInt64
    var hasRedis: Bool
  }

  mutating func caches(
    _ top: Section, tables: [TableRule], _ defaults: CacheDefaults
  ) -> [CacheRule] {
    let steps = [PathStep.key("caches")]
    guard let node = top["caches"]?.node else { return [] }
    guard let members = node.members else {
      wrongType(node, steps, expected: "an object such as {\"user:{id}\": {\"near\": false}}")
      return []
    }
    let mapped = tables.flatMap(\.cleared)
    var rules: [CacheRule] = []
    for member in members {
      let steps = steps + [.key(member.key)]
      let section = open(member.node, option: "caches.*", steps: steps)
      let near = cacheNear(section, global: defaults.near)
      let staleness = cacheStaleness(section, global: defaults.staleness)
      let plainSet = PlainSetSettings(
        mode: choice("caches.*.plainSet", in: section) ?? defaults.plainSet.mode,
        window: durationIfAny("caches.*.plainSetWindow", in: section) ?? defaults.plainSet.window)
      guard let text = expanded(PlacedText(keyOf: member), steps), let template = template(text, steps)
      else { continue }
      if let first = rules.first(where: { $0.template.shape == template.shape }) {
        if !members.contains(where: { $0.key == member.key && $0.keyPlace != member.keyPlace }) {
          let place = first.template.place
          error(
            template.place, .givenTwice, steps,
            "this template covers the same keys as the one at \(place.line):\(place.column)")
        }
        continue
      }
      let tags = cacheTags(section, of: template, tables)
      var rule = CacheRule(
        template: template, near: near, plainSet: plainSet, staleness: staleness, tags: tags)
      strategies(section, of: &rule, defaults)
      if tags.isEmpty, !mapped.isEmpty, !mapped.contains(where: { Self.mayMeet($0, template) }) {
        reportUnmapped(rule, section, steps)
      }
      rules.append(rule)
    }
    warnOfUnusedTags(tables, rules)
    return rules
  }

  /// A template that no table knows is harmless, unless values would be loaded that nothing clears.
  private mutating func reportUnmapped(_ rule: CacheRule, _ cache: Section?, _ steps: [PathStep]) {
    guard rule.load != nil || rule.write != .around else {
      warn(
        rule.template.place, .noEffect, steps,
        "no table has a template for these keys, so they are not cached and this rule has no effect")
      return
    }
    let option = rule.load != nil ? "load" : "write"
    error(
      rule.template.place, .badValue, steps,
      "no table has a template for these keys, so no change of a row would clear what \"\(option)\" stores; add "
        + "\(quoted(rule.template.text)) to the keys of its table")
  }

  private mutating func cacheStaleness(
    _ cache: Section?, global: StalenessSettings
  ) -> StalenessSettings? {
    guard let section = section("caches.*.staleness", in: cache) else { return nil }
    return StalenessSettings(
      bound: durationIfAny("caches.*.staleness.bound", in: section) ?? global.bound,
      beyond: choice("caches.*.staleness.beyond", in: section) ?? global.beyond)
  }

  private mutating func cacheNear(_ cache: Section?, global: NearSettings) -> CacheRule.NearRule? {
    guard let (node, steps) = find("caches.*.near", in: cache) else {
      return CacheRule.NearRule(ttl: global.ttl)
    }
    if node.bool == false { return nil }
    let section = open(node, option: "caches.*.near", steps: steps)
    return CacheRule.NearRule(ttl: durationIfAny("caches.*.near.ttl", in: section) ?? global.ttl)
  }

  /// Whether a plain key of one template is covered by the other.
  static func mayMeet(_ a: KeyTemplate, _ b: KeyTemplate) -> Bool {
    covers(a, sampleOf: b) || covers(b, sampleOf: a)
  }

  private static func covers(_ template: KeyTemplate, sampleOf other: KeyTemplate) -> Bool {
    let sample = other.parts.map { if case .literal(let text) = $0 { text } else { "0" } }.joined()
    return Array(sample.utf8).withUnsafeBytes {
      KeyMatcher(templates: [template], prefix: "").match($0) != nil
    }
  }
}
