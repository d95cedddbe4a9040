/// What differs between two configurations, by the options' names, and what of it a running sidecar takes over.
///
/// A sidecar takes over what decides how it treats its own clients and entries. What decides which keys a change
/// clears, where the servers are, what is listened on and how much memory was set aside is settled when it starts.
public struct SettingsChanges: Sendable, Equatable {
  /// Taken over: paths of options, such as `near.ttl` and `caches."user:{id}".ttl`.
  public private(set) var live: [String] = []
  /// Those that only hold from the next start on.
  public private(set) var needRestart: [String] = []
  /// What the sidecar works with from now on: the old settings with what is taken over of the new ones.
  public private(set) var settings: Settings
  /// Whether what near entries were kept under has changed.
  public private(set) var concernsEntries = false

  public static func == (a: SettingsChanges, b: SettingsChanges) -> Bool {
    a.live == b.live && a.needRestart == b.needRestart
  }

  public init(from old: Settings, to new: Settings) {
    settings = old
    for option in Self.options where option.differs(old, new) {
      if let take = option.take {
        live.append(option.path)
        take(&settings, new)
        concernsEntries = concernsEntries || option.concernsEntries
      } else {
        needRestart.append(option.path)
      }
    }
    compareCaches(old, new)
  }

  // MARK: Options of the whole sidecar

  private struct Option: Sendable {
    var path: String
    var concernsEntries = false
    var differs: @Sendable (Settings, Settings) -> Bool
    /// nil: it needs a restart.
    var take: (@Sendable (inout Settings, Settings) -> Void)?
  }

  private static func live<Value: Equatable>(
    _ path: String, _ value: any WritableKeyPath<Settings, Value> & Sendable, entries: Bool = false
  ) -> Option {
    Option(
      path: path, concernsEntries: entries, differs: { $0[keyPath: value] != $1[keyPath: value] },
      take: { $0[keyPath: value] = $1[keyPath: value] })
  }

  private static func fixed<Value: Equatable>(
    _ path: String, _ value: @escaping @Sendable (Settings) -> Value
  ) -> Option {
    Option(path: path, differs: { value($0) != value($1) })
  }

  private static let options: [Option] = [
    live("log.level", \.log.level), live("log.slow", \.log.slow), live("audit.share", \.audit.share),
    live("near.ttl", \.near.ttl, entries: true), live("staleness.bound", \.staleness.bound, entries: true),
    live("staleness.beyond", \.staleness.beyond, entries: true), live("leaseWait", \.leaseWait),
    live("clients.queryBuffer", \.clients.queryBuffer), live("clients.idle", \.clients.idle),
    live("clients.outputBuffer.normal", \.clients.output),
    live("clients.outputBuffer.pubsub", \.clients.messageOutput),
    live("commands.allow", \.commands),

    fixed("namespace") { $0.namespace }, fixed("postgres.url") { $0.postgres.url },
    fixed("postgres.password") { $0.postgres.password },
    fixed("postgres.publication") { $0.postgres.publication }, fixed("postgres.slot") { $0.postgres.slot },
    fixed("postgres.loader.url") { $0.postgres.loader.url },
    fixed("postgres.loader.password") { $0.postgres.loader.password },
    fixed("postgres.loader.connections") { $0.postgres.loader.connections },
    fixed("postgres.loader.timeout") { $0.postgres.loader.timeout },
    fixed("postgres.loader.replica") { $0.postgres.loader.isReplica },
    fixed("redis.url") { [$0.redis.map { "\($0.endpoint) \($0.database)" }, $0.redis?.user] },
    fixed("redis.password") { $0.redis?.password }, fixed("redis.timeout") { $0.redis?.timeout },
    fixed("redis.tls") { $0.redis?.tls }, fixed("redis.tracking") { $0.redis?.tracking },
    fixed("listen") { $0.listen }, fixed("admin.socket") { $0.admin.socket },
    fixed("admin.tcp") { $0.admin.tcp }, fixed("threads") { $0.threads },
    fixed("clients.max") { $0.clients.most },
    fixed("clients.trackedKeys") { $0.clients.trackedKeys }, fixed("near.size") { $0.near.size },
    fixed("near.maxEntry") { $0.near.maxEntry }, fixed("plainSet") { $0.plainSet.mode },
    fixed("plainSetWindow") { $0.plainSet.window }, fixed("journal.keep") { $0.journal.keep },
    fixed("journal.size") { $0.journal.size }, fixed("log.format") { $0.log.format },
    fixed("subscribe") { $0.subscribe },
    // Which keys a change clears. The hash leaves out how long what a lookup found is remembered.
    fixed("tables") { [$0.mappingHash] + $0.tables.flatMap(\.lookups).map { "\($0.remember ?? 0)" } },
  ]

  // MARK: Caches

  private mutating func compareCaches(_ old: Settings, _ new: Settings) {
    let names = old.caches.map(\.template.text)
    guard names == new.caches.map(\.template.text) else {
      needRestart.append("caches")
      return
    }
    for index in old.caches.indices {
      let (before, after) = (old.caches[index], new.caches[index])
      let path = "caches.\"\(names[index])\"."
      func note<Value: Equatable>(
        _ name: String, _ value: WritableKeyPath<CacheRule, Value>, entries: Bool = false
      ) {
        guard before[keyPath: value] != after[keyPath: value] else { return }
        live.append(path + name)
        settings.caches[index][keyPath: value] = after[keyPath: value]
        concernsEntries = concernsEntries || entries
      }
      note("near", \.near, entries: true)
      note("ttl", \.ttl)
      note("jitter", \.jitter)
      note("negative", \.negative)
      note("staleness", \.staleness, entries: true)
      note("failSafe", \.failSafe)
      if before.stampede != after.stampede { needRestart.append(path + "stampede") }
      if before.onChange != after.onChange { needRestart.append(path + "onChange") }
      // A window of its own; the global one has been compared.
      if before.plainSet != after.plainSet, old.plainSet == new.plainSet {
        needRestart.append(path + "plainSet")
      }
      if before.load.map(Self.text) != after.load.map(Self.text) { needRestart.append(path + "load") }
      if Self.text(before.write) != Self.text(after.write) { needRestart.append(path + "write") }
    }
  }

  /// A statement without its place in the file, which moves when something is written above it.
  private static func text(_ load: LoadSettings) -> [String?] {
    [text(load.sql), "\(load.shape)", load.many.map(text), "\(load.timeout)"]
  }

  private static func text(_ write: WriteSettings) -> [String?] {
    guard case .behind(let behind) = write else { return ["\(write.policy)", write.sql.map(text)] }
    return [
      "behind", text(behind.sql),
      "\(behind.delay) \(behind.batch) \(behind.attempts) \(behind.most) \(behind.wait)",
    ]
  }

  private static func text(_ sql: SQLTemplate) -> String { sql.text + " " + sql.names.joined(separator: " ") }
}
