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
    return SlotSettings(
      name: name?.text ?? defaultName, mode: mode,
      maxRetained: section?["maxRetained"] == nil
        ? Self.mostRetained : sizeOrFalse("postgres.slot.maxRetained", in: section).map { UInt64($0) })
  }

  /// The default of postgres.slot.maxRetained, in bytes.
  private static let mostRetained: UInt64 = 10 << 30

  /// Redis as the file or REDIS_URL gives it; `isUsed` is also true where what is given cannot be read.
  mutating func redis(_ top: Section) -> (settings: RedisSettings?, isUsed: Bool) {
    let section = section("redis", in: top)
    let timeout = duration("redis.timeout", in: section)
    let tracking = flag("redis.tracking", in: section)
    let password = password("redis.password", in: section)
    let tls = self.tls(section)
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
      // A Unix socket has nothing to encrypt; a network has, and an author who wrote of TLS means it.
      if case .tcp = parsed.endpoint, !parsed.isSecure, tls != TLSSettings() {
        let message =
          "the Redis URL says redis://, which is not encrypted, but \"tls\" is set; write rediss://"
        self.error(place, .badValue, steps, origin + message)
      }
      if parsed.isSecure, !tls.verifies,
        let verify = section?["tls"]?.node.members?.first(where: { $0.key == "verify" })
      {
        warn(
          verify.node.place, .badValue, [.key("redis"), .key("tls"), .key("verify")],
          "whoever can reach this network can pretend to be this Redis, and read the password; "
            + "leave \"verify\" out, and name the CA's file as \"ca\"")
      }
      return (
        RedisSettings(
          endpoint: parsed.endpoint, user: parsed.user, password: password ?? parsed.password,
          database: parsed.database, timeout: timeout, tls: parsed.isSecure ? tls : nil, tracking: tracking),
        true
      )
    } catch {
      self.error(place, .badValue, steps, origin + error.message)
      return (nil, true)
    }
  }

  /// How rediss:// is spoken. An empty text, as an optional variable gives it, is none.
  private mutating func tls(_ redis: Section?) -> TLSSettings {
    guard let section = section("redis.tls", in: redis) else { return TLSSettings() }
    let settings = TLSSettings(
      ca: file("redis.tls.ca", in: section), certificate: file("redis.tls.certificate", in: section),
      key: file("redis.tls.key", in: section), serverName: serverName(in: section),
      verifies: flag("redis.tls.verify", in: section))
    if settings.key != nil, settings.certificate == nil, let key = section["key"] {
      error(
        key.node.place, .missing, section.steps + [.key("certificate")],
        "a private key is of use only with its certificate; add \"certificate\"")
    }
    return settings
  }

  private mutating func file(_ path: String, in section: Section) -> String? {
    guard let text = text(path, in: section), !text.text.isEmpty else { return nil }
    guard text.text.hasPrefix("/"), !text.text.utf8.contains(0) else {
      let steps = section.steps + [.key(String(path.split(separator: ".").last ?? ""))]
      error(text.place, .badValue, steps, "a file is named with its whole path, from /")
      return nil
    }
    return text.text
  }

  private mutating func serverName(in section: Section) -> String? {
    guard let text = text("redis.tls.serverName", in: section), !text.text.isEmpty else { return nil }
    let isName = text.text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "/") }
    guard isName, text.text.utf8.count <= 253 else {
      error(
        text.place, .badValue, section.steps + [.key("serverName")],
        "the name in the server's certificate is a host name, such as \"cache.internal\", or an IP address")
      return nil
    }
    return text.text
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
