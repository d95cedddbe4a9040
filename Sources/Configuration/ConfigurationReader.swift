/// Reads a configuration file: JSON, references, every option of the table, and what the options must agree
/// on. It touches nothing: the environment and the files that `${file:…}` names are handed in.
public enum ConfigurationReader {
  public struct Reading: Sendable {
    /// nil if there is any error.
    public var settings: Settings?
    /// Every error and warning, in the order of the file; those without a place come first.
    public var diagnostics: [Diagnostic]
    /// The file's lines for a `DiagnosticReport`, with secrets hidden.
    public var source: SourceText

    /// The diagnostics as a person or a program reads them.
    public var report: DiagnosticReport { DiagnosticReport(diagnostics, in: source) }
  }

  /// Reads `text`, the bytes of `file`. A name that ends in `.jsonc` allows comments and trailing commas.
  ///
  /// `readFile` gives the bytes of the file with that absolute path, or nil if it cannot be read; it is
  /// called for `${file:…}` and `${cred:…}` only.
  public static func read(
    _ text: [UInt8], file: String, environment: [String: String], readFile: (String) -> [UInt8]?
  ) -> Reading {
    let json = JSONReader.read(text, comments: file.hasSuffix(".jsonc"))
    return withoutActuallyEscaping(readFile) { readFile in
      var loader = OptionLoader(
        expansion: Expansion(environment: environment, readFile: readFile), diagnostics: json.diagnostics)
      var settings: Settings?
      if let root = json.node { settings = loader.settings(root) }
      let diagnostics = inFileOrder(loader.diagnostics)
      return Reading(
        settings: diagnostics.contains { $0.severity == .error } ? nil : settings,
        diagnostics: diagnostics,
        source: SourceText(file: file, text: text, reading: json))
    }
  }

  private static func inFileOrder(_ diagnostics: [Diagnostic]) -> [Diagnostic] {
    func rank(_ item: (offset: Int, element: Diagnostic)) -> (Int, Int, Int) {
      (item.element.place?.line ?? 0, item.element.place?.column ?? 0, item.offset)
    }
    return diagnostics.enumerated().sorted { rank($0) < rank($1) }.map(\.element)
  }
}

extension OptionLoader {
  /// Reads the whole file. The result counts only if no error was found on the way.
  mutating func settings(_ root: JSONNode) -> Settings? {
    guard let top = open(root, option: "", steps: []) else { return nil }
    if top["$schema"] != nil { _ = text("$schema", in: top, expanding: false) }
    let namespace = namespace(top)
    let redis = redis(top)
    if redis.isUsed, top["namespace"] == nil {
      error(
        top.place, .missing, [.key("namespace")],
        "\"namespace\" is required with Redis: it bounds which keys there may be cleared, and names the "
          + "replication slot; add for example \"namespace\": \"shop\"")
    }
    let plainSet = PlainSetSettings(
      mode: choice("plainSet", in: top) ?? .window, window: duration("plainSetWindow", in: top))
    let near = near(top)
    let tables = tables(top)
    let journal = section("journal", in: top)
    let log = section("log", in: top)
    let staleness = staleness(top)
    let postgres = postgres(top, namespace: namespace, hasRedis: redis.isUsed)
    let caches = caches(
      top, tables: tables,
      CacheDefaults(
        near: near, staleness: staleness, plainSet: plainSet, loadTimeout: postgres.loader.timeout,
        hasRedis: redis.isUsed))
    let listen = listen(top)
    return Settings(
      namespace: namespace, postgres: postgres, redis: redis.settings, listen: listen,
      admin: admin(top, listen), clients: clients(top),
      threads: countIfAny("threads", in: top),
      near: near,
      staleness: staleness,
      plainSet: plainSet, leaseWait: duration("leaseWait", in: top),
      journal: JournalSettings(
        keep: duration("journal.keep", in: journal), size: size("journal.size", in: journal)),
      log: LogSettings(
        level: choice("log.level", in: log) ?? .info, format: choice("log.format", in: log) ?? .auto,
        slow: durationOrFalse("log.slow", in: log)),
      audit: AuditSettings(share: percent("audit.share", in: section("audit", in: top))),
      tables: tables, caches: caches, subscribe: subscribe(top, hasRedis: redis.isUsed),
      commands: commands(top),
      mappingHash: MappingHash.of(namespace: namespace, tables: tables, caches: caches))
  }

  private mutating func staleness(_ top: Section) -> StalenessSettings {
    let section = section("staleness", in: top)
    return StalenessSettings(
      bound: duration("staleness.bound", in: section),
      beyond: choice("staleness.beyond", in: section) ?? .bypass)
  }

  private mutating func namespace(_ top: Section) -> String? {
    guard let text = name("namespace", in: top) else { return nil }
    if text.text == "nearside" {
      error(
        text.place, .badValue, [.key("namespace")],
        "the namespace cannot be \"nearside\", under which Nearside keeps its own state in Redis")
    }
    return text.text
  }

  /// The channels that applications publish on; Nearside's own are not among them.
  private mutating func subscribe(_ top: Section, hasRedis: Bool) -> [String] {
    let steps = [PathStep.key("subscribe")]
    if let node = top["subscribe"]?.node, !hasRedis {
      error(
        node.place, .badValue, steps,
        "channels are Redis's, and there is no Redis here; add \"redis\" or leave this out")
    }
    return list("subscribe", in: top) { loader, node, steps in
      guard let channel = loader.nonEmpty(node, option: "subscribe" + Self.element, steps: steps) else {
        return nil
      }
      if channel.text.hasPrefix("nearside:") {
        loader.error(
          channel.place, .badValue, steps,
          "\(channel.shown) is one of Nearside's own names; applications publish on a channel of their own, "
            + "for example \"cache-invalidation\"")
      }
      return channel.text
    } ?? []
  }

  private mutating func near(_ top: Section) -> NearSettings {
    let section = section("near", in: top)
    let faults = diagnostics.count
    let near = NearSettings(
      size: size("near.size", in: section), maxEntry: size("near.maxEntry", in: section),
      ttl: durationIfAny("near.ttl", in: section))
    if near.maxEntry > near.size, diagnostics.count == faults {
      let member = section?["maxEntry"] ?? section?["size"]
      error(
        member?.node.place, .badValue, [.key("near"), .key(member?.key ?? "size")],
        "near.maxEntry (\(near.maxEntry) bytes) is larger than near.size (\(near.size) bytes)")
    }
    return near
  }
}
