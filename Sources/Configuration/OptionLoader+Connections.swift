// PostgreSQL and Redis: where they are, and what must fit together.
extension OptionLoader {
  mutating func postgres(_ top: Section, namespace: String?, hasRedis: Bool) -> PostgresSettings {
    let section = section("postgres", in: top)
    let given = postgresURL("postgres", in: top)
    let variable = expansion.environment["DATABASE_URL"] ?? ""
    if given == nil, let message = Self.flaw(ofPostgresURL: variable) {
      if top["postgres"] == nil || section.map({ $0["url"] == nil }) == true {
        error(nil, .badValue, [.key("postgres")], "environment variable DATABASE_URL: " + message)
      }
    }
    let url = Secret(given ?? variable)
    let password = password("postgres.password", in: section)
    let name = namespace.map { "nearside_" + $0 } ?? "nearside"
    return PostgresSettings(
      url: url, password: password,
      publication: self.name("postgres.publication", in: section)?.text ?? name,
      slot: slot(section, defaultName: name, hasRedis: hasRedis),
      loader: loader(section, url: url, password: password))
  }

  /// The connections of `load` and `write`; at the primary with its password unless they have their own url.
  private mutating func loader(_ postgres: Section?, url: Secret, password: Secret?) -> LoaderSettings {
    let section = section("postgres.loader", in: postgres)
    let own = postgres.flatMap { postgresURL("postgres.loader", in: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    let ownPassword = self.password("postgres.loader.password", in: section)
    let isReplica = flag("postgres.loader.replica", in: section)
    if isReplica, own == nil, let section, let replica = section["replica"] {
      error(
        replica.node.place, .badValue, section.steps + [.key("replica")],
        "\"replica\" is about the loader's own url, and it has none here; add the standby's \"url\"")
    }
    return LoaderSettings(
      url: own.map(Secret.init) ?? url, password: ownPassword ?? (own == nil ? password : nil),
      connections: count("postgres.loader.connections", in: section),
      timeout: duration("postgres.loader.timeout", in: section), isReplica: isReplica)
  }

  /// A libpq connection string, given in the short form or under `url`; what is wrong with it is reported.
  private mutating func postgresURL(_ path: String, in parent: Section) -> String? {
    guard let url = secret(path, in: parent) else { return nil }
    if let message = Self.flaw(ofPostgresURL: url.text.text) {
      error(url.text.place, .badValue, url.steps, message)
    }
    return url.text.text
  }

  private mutating func slot(_ postgres: Section?, defaultName: String, hasRedis: Bool) -> SlotSettings {
    let section = section("postgres.slot", in: postgres)
    let given = find("postgres.slot.mode", in: section)
    let mode: SlotSettings.Mode =
      choice("postgres.slot.mode", in: section) ?? (hasRedis ? .durable : .temporary)
    if mode == .durable, !hasRedis, let given {
      error(
        given.0.place, .badValue, given.1,
        "a durable slot needs Redis, where its sidecars keep what they know; without Redis write "
          + "\"temporary\" or leave this out")
    }
    if mode == .temporary, hasRedis, let given {
      error(
        given.0.place, .badValue, given.1,
        "with Redis the sidecars of a namespace share one durable slot; write \"durable\" or leave this out")
    }
    let name = name("postgres.slot.name", in: section)
    if let name, mode == .temporary, name.text.utf8.count > 54 {
      error(
        name.place, .badValue, [.key("postgres"), .key("slot"), .key("name")],
        "a temporary slot's name has at most 54 letters, since nine are appended to it")
    }
    return SlotSettings(name: name?.text ?? defaultName, mode: mode)
  }

  /// Redis as the file or REDIS_URL gives it; `isUsed` is also true where what is given cannot be read.
  mutating func redis(_ top: Section) -> (settings: RedisSettings?, isUsed: Bool) {
    let section = section("redis", in: top)
    let timeout = duration("redis.timeout", in: section)
    let tracking = flag("redis.tracking", in: section)
    let password = password("redis.password", in: section)
    let url: String
    var place: SourcePlace?
    var steps: [PathStep] = [.key("redis")]
    var origin = ""
    if let given = secret("redis", in: top) {
      (url, place, steps) = (given.text.text, given.text.place, given.steps)
      if url.isEmpty {
        error(place, .badValue, steps, "the Redis URL is empty; leave the key out to work without Redis")
        return (nil, true)
      }
    } else if top["redis"] != nil, section.map({ $0["url"] != nil }) ?? true {
      // Its fault has been reported: a wrong type, or a reference that cannot be replaced.
      return (nil, true)
    } else if let variable = expansion.environment["REDIS_URL"], !variable.isEmpty {
      (url, origin) = (variable, "environment variable REDIS_URL: ")
    } else if let section {
      error(
        section.place, .missing, [.key("redis"), .key("url")],
        "Redis has no url here, and REDIS_URL is not set; add for example "
          + "\"url\": \"redis://cache.internal:6379\"")
      return (nil, true)
    } else {
      return (nil, false)
    }
    do {
      let parsed = try RedisURL.parse(url)
      return (
        RedisSettings(
          endpoint: parsed.endpoint, user: parsed.user, password: password ?? parsed.password,
          database: parsed.database, timeout: timeout, tracking: tracking), true
      )
    } catch {
      self.error(place, error.code, steps, origin + error.message)
      return (nil, true)
    }
  }

  /// An empty password, as an optional variable gives it, is none.
  mutating func password(_ path: String, in section: Section?) -> Secret? {
    guard let text = text(path, in: section), !text.text.isEmpty else { return nil }
    return Secret(text.text)
  }

  /// The url of a connection, given in the short form or under `url`.
  private mutating func secret(
    _ path: String, in parent: Section
  ) -> (text: PlacedText, steps: [PathStep])? {
    guard let (node, steps) = find(path, in: parent) else { return nil }
    if node.string != nil { return text(node, option: path, steps: steps).map { ($0, steps) } }
    guard let url = node.members?.first(where: { $0.key == "url" }) else { return nil }
    let below = steps + [.key("url")]
    return text(url.node, option: path + ".url", steps: below).map { ($0, below) }
  }

  /// What is wrong with a libpq connection string, as far as that can be told without libpq. Says nothing of
  /// what it holds.
  private static func flaw(ofPostgresURL url: String) -> String? {
    if url.utf8.contains(0) { return "a connection string has no zero bytes" }
    if url.isEmpty || url.hasPrefix("postgresql://") || url.hasPrefix("postgres://") { return nil }
    if url.firstRange(of: "://") == nil, url.contains("=") { return nil }
    return
      "a PostgreSQL URL begins with postgresql://; libpq's other form is \"host=db.internal dbname=shop\""
  }
}
