// Strategies of a cache: how its values are loaded, written, kept and refreshed, and what must fit together.
extension OptionLoader {
  mutating func strategies(_ cache: Section?, of rule: inout CacheRule, _ defaults: CacheDefaults) {
    guard let cache else { return }
    rule.ttl = durationIfAny("caches.*.ttl", in: cache)
    rule.jitter = percent("caches.*.jitter", in: cache)
    rule.negative = durationOrFalse("caches.*.negative", in: cache)
    rule.load = load(cache, of: rule.template, defaults)
    rule.write = write(cache, of: rule.template, hasRedis: defaults.hasRedis)
    rule.stampede = stampede(cache, shape: rule.load?.shape, hasRedis: defaults.hasRedis)
    rule.onChange = choice("caches.*.onChange", in: cache) ?? .forget
    rule.failSafe = durationOrFalse("caches.*.failSafe", in: cache)

    if rule.jitter > 0, cache["ttl"] == nil {
      misfit(
        "caches.*.jitter", cache, "it shortens \"ttl\", and there is none here; add one or leave this out")
    }
    if rule.failSafe != nil, (rule.staleness ?? defaults.staleness).beyond == .fail {
      misfit(
        "caches.*.failSafe", cache,
        "it answers the last value where \"staleness.beyond\": \"fail\" of these keys answers an error; leave one "
          + "of them out")
    }
    if let shape = rule.load?.shape, shape != .string, rule.onChange == .refresh {
      misfit("caches.*.onChange", cache, "refresh is for keys that were near, " + Self.notNear)
    }
    guard cache["load"] == nil else { return }
    let withoutLoad = "and there is no \"load\" here; add one or leave this out"
    if rule.negative != nil {
      misfit("caches.*.negative", cache, "it keeps that a load found no row, " + withoutLoad)
    }
    if rule.onChange == .refresh {
      misfit("caches.*.onChange", cache, "refresh loads the key again, " + withoutLoad)
    }
  }

  private static let notNear = "and only strings are kept near; leave it out, or load a string"

  /// Reports an option that does not fit the others.
  private mutating func misfit(_ path: String, _ section: Section, _ message: String) {
    guard let (node, steps) = find(path, in: section) else { return }
    error(node.place, .badValue, steps, message)
  }

  // MARK: Read-through

  private mutating func load(
    _ cache: Section, of key: KeyTemplate, _ defaults: CacheDefaults
  ) -> LoadSettings? {
    guard let (node, steps) = find("caches.*.load", in: cache) else { return nil }
    if node.string != nil {
      guard let text = text(node, option: "caches.*.load", steps: steps),
        let sql = statement(text, steps, of: key, isWrite: false)
      else { return nil }
      return LoadSettings(sql: sql, timeout: defaults.loadTimeout)
    }
    guard let section = open(node, option: "caches.*.load", steps: steps) else { return nil }
    let shape: LoadSettings.Shape = choice("caches.*.load.as", in: section) ?? .string
    let timeout = durationIfAny("caches.*.load.timeout", in: section) ?? defaults.loadTimeout
    guard section["sql"] != nil else {
      error(
        node.place, .missing, steps + [.key("sql")],
        "this load has no \"sql\"; add for example \"sql\": \"SELECT name FROM users WHERE id = :id\"")
      return nil
    }
    guard let text = text("caches.*.load.sql", in: section),
      let sql = statement(text, steps + [.key("sql")], of: key, isWrite: false)
    else { return nil }
    return LoadSettings(
      sql: sql, shape: shape, many: many(section, steps, of: key, sql, shape), timeout: timeout)
  }

  /// The statement for several keys, which must tell whose each row is.
  private mutating func many(
    _ section: Section, _ steps: [PathStep], of key: KeyTemplate, _ sql: SQLTemplate,
    _ shape: LoadSettings.Shape
  ) -> SQLTemplate? {
    guard let text = text("caches.*.load.many", in: section),
      let many = statement(text, steps + [.key("many")], of: key, isWrite: false)
    else { return nil }
    if shape != .string {
      misfit(
        "caches.*.load.many", section, "it is for MGET, which reads strings; leave it out, or load a string")
    }
    if Set(many.names) != Set(sql.names) {
      misfit("caches.*.load.many", section, "it must bind the columns that \"sql\" binds, and no others")
    }
    return many
  }

  // MARK: Writing

  private mutating func write(_ cache: Section, of key: KeyTemplate, hasRedis: Bool) -> WriteSettings {
    guard let (node, steps) = find("caches.*.write", in: cache) else { return .around }
    if node.string != nil {
      let word: (value: WriteSettings.Policy, place: SourcePlace)? = choice(
        node, option: "caches.*.write", steps: steps)
      if let word, word.value != .around {
        error(
          word.place, .missing, steps,
          "\"\(word.value.rawValue)\" needs a statement; write {\"policy\": \"\(word.value.rawValue)\", "
            + "\"sql\": \"UPDATE …\"}")
      }
      return .around
    }
    guard let section = open(node, option: "caches.*.write", steps: steps) else { return .around }
    let sql = text("caches.*.write.sql", in: section).flatMap {
      statement($0, steps + [.key("sql")], of: key, isWrite: true)
    }
    let delay = duration("caches.*.write.delay", in: section)
    let wait = duration("caches.*.write.wait", in: section)
    let batch = count("caches.*.write.batch", in: section)
    let attempts = count("caches.*.write.attempts", in: section)
    let most = count("caches.*.write.most", in: section)
    guard section["policy"] != nil else {
      error(
        node.place, .missing, steps + [.key("policy")],
        "this write has no \"policy\"; add \"around\", \"through\" or \"behind\"")
      return .around
    }
    guard let policy: WriteSettings.Policy = choice("caches.*.write.policy", in: section) else {
      return .around
    }
    if policy == .around {
      misfit("caches.*.write.sql", section, "around runs no statement; write \"through\" or \"behind\"")
    } else if section["sql"] == nil {
      error(
        node.place, .missing, steps + [.key("sql")],
        "\"\(policy.rawValue)\" needs a statement; add for example "
          + "\"sql\": \"UPDATE users SET name = :value WHERE id = :id\"")
    }
    if policy != .behind {
      for name in ["delay", "batch", "attempts", "most", "wait"] {
        misfit("caches.*.write." + name, section, "it belongs to \"behind\"; leave it out")
      }
    }
    if policy != .around, !hasRedis {
      misfit(
        "caches.*.write.policy", section,
        "\(policy == .behind ? "behind keeps its journal" : "through keeps the value") in Redis, and there is none "
          + "here; add \"redis\" or leave \"write\" out")
    }
    guard let sql else { return .around }
    switch policy {
    case .around: return .around
    case .through: return .through(sql)
    case .behind:
      if most < batch {
        let option = section["most"] != nil ? "most" : "batch"
        misfit(
          "caches.*.write." + option, section,
          "at most \(most) entries may be pending, so a batch never has \(batch); raise \"most\" or lower "
            + "\"batch\"")
      }
      return .behind(
        BehindSettings(sql: sql, delay: delay, batch: batch, attempts: attempts, most: most, wait: wait))
    }
  }

  // MARK: Stampedes

  private mutating func stampede(
    _ cache: Section, shape: LoadSettings.Shape?, hasRedis: Bool
  ) -> StampedeSettings {
    let hasLoad = cache["load"] != nil
    guard let section = section("caches.*.stampede", in: cache) else { return StampedeSettings() }
    let stampede = StampedeSettings(
      coalesce: flagIfAny("caches.*.stampede.coalesce", in: section),
      lock: durationOrFalse("caches.*.stampede.lock", in: section), early: early(section),
      wait: duration("caches.*.stampede.wait", in: section))
    if stampede.lock != nil, !hasLoad || !hasRedis {
      misfit(
        "caches.*.stampede.lock", section,
        hasLoad
          ? "the lock is a key of Redis, and there is none here; add \"redis\" or leave this out"
          : "it lets one host load, and there is no \"load\" here; add one or leave this out")
    }
    if stampede.early != nil, !hasLoad || cache["ttl"] == nil {
      misfit(
        "caches.*.stampede.early", section,
        hasLoad
          ? "it refreshes a key before its time is over, and there is no \"ttl\" here; add one or leave this out"
          : "it loads a key again, and there is no \"load\" here; add one or leave this out")
    }
    if stampede.early != nil, let shape, shape != .string {
      misfit("caches.*.stampede.early", section, "a value is refreshed where it is near, " + Self.notNear)
    }
    if let (node, steps) = find("caches.*.stampede.wait", in: section), !(stampede.coalesce ?? hasLoad),
      stampede.lock == nil
    {
      warn(
        node.place, .noEffect, steps, "without \"coalesce\" and \"lock\" nobody waits, so this has no effect")
    }
    return stampede
  }

  /// XFetch's beta; nil: no early refresh.
  private mutating func early(_ section: Section) -> Double? {
    let path = "caches.*.stampede.early"
    guard let (node, steps) = find(path, in: section) else { return nil }
    if let flag = node.bool { return flag ? 1 : nil }
    if let number = node.number {
      if let beta = Double(number), beta > 0, beta.isFinite { return beta }
      error(node.place, .badValue, steps, "\(number) is not \(Self.expectation(path))")
      return nil
    }
    guard node.string?.hasSuffix("%") == true else {
      wrongType(node, steps, expected: Self.expectation(path))
      return nil
    }
    error(
      node.place, .wrongType, steps,
      "it is no share of \"ttl\", since how early a key is refreshed follows from how long its load takes; "
        + "write true, or a number above 1 to begin sooner")
    return nil
  }

  // MARK: Statements

  /// A statement whose parameters can be told from a key; what is wrong with it is reported.
  private mutating func statement(
    _ text: PlacedText, _ steps: [PathStep], of key: KeyTemplate, isWrite: Bool
  ) -> SQLTemplate? {
    let sql: SQLTemplate
    do {
      sql = try SQLTemplate.parse(text)
    } catch {
      self.error(error.place, .badValue, steps, error.message)
      return nil
    }
    guard !key.isPrefix else {
      error(
        text.place, .notSupported, steps,
        "the template \(quoted(key.text)) ends in *, so one statement cannot tell its keys apart; give a whole "
          + "key its own rule")
      return nil
    }
    let written = isWrite ? SQLTemplate.writtenNames : []
    let columns = key.columns.map(\.name)
    var isSound = true
    for (name, place) in zip(sql.names, sql.places) {
      guard let message = Self.fault(of: name, isShown: !text.isExpanded, in: key, isWrite: isWrite) else {
        continue
      }
      let isKnown = columns.contains(name) || SQLTemplate.writtenNames.contains(name)
      error(
        place, .badValue, steps, message,
        suggestion: text.isExpanded || isKnown ? nil : nearest(to: name, among: columns + written))
      isSound = false
    }
    return isSound ? sql : nil
  }

  /// Why a parameter has no value.
  private static func fault(
    of name: String, isShown: Bool, in key: KeyTemplate, isWrite: Bool
  ) -> String? {
    let columns = key.columns.map(\.name)
    let shown = isShown ? ":" + printable(name) : "a parameter of this statement"
    if SQLTemplate.writtenNames.contains(name) {
      if isWrite, columns.contains(name) {
        return
          "\(shown) is what a SET writes, and a column of \(quoted(key.text)) too; give the column another "
          + "name in the template"
      }
      if isWrite { return nil }
      if !columns.contains(name) { return "\(shown) is what a SET writes, so it stands in \"write\" only" }
    }
    guard columns.contains(name) else {
      let known =
        columns.isEmpty
        ? "which has none"
        : "whose columns are " + columns.map { ":" + printable($0) }.joined(separator: ", ")
      return "\(shown) is no column of the template \(quoted(key.text)), \(known)"
    }
    guard key.hasNeighbours else { return nil }
    return
      "where one column ends and the next begins in a key cannot be told; put a : between the columns of "
      + quoted(key.text)
  }
}

extension SQLTemplate {
  /// The parameters of a `write` that are no columns: the value that is set, and its time in milliseconds.
  public static let writtenNames = ["value", "ttl"]
}

extension KeyTemplate {
  /// Whether two columns stand side by side.
  var hasNeighbours: Bool {
    zip(parts, parts.dropFirst()).contains { pair in
      if case (.column, .column) = pair { true } else { false }
    }
  }
}
