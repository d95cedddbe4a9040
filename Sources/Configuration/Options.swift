/// One key of the configuration file. The table `all` drives the reader, and the JSON Schema in `deploy`
/// says the same, which a test proves.
public struct ConfigurationOption: Sendable {
  public indirect enum Kind: Sendable, Equatable {
    case text
    /// Text that no diagnostic repeats.
    case secret
    /// Lower-case letters, digits and underscores, at most so many.
    case name(longest: Int)
    /// In the file `"250ms"`, in `Settings` nanoseconds; never zero.
    case duration
    /// In the file `"256MiB"`, in `Settings` bytes; never zero.
    case size
    /// In the file `"0660"`.
    case fileMode
    /// In the file `"10%"`, in `Settings` a part of one.
    case percent
    /// A whole number.
    case count(ClosedRange<Int>)
    case flag
    /// `false`, `true` or a number above zero.
    case factor
    /// This, or `false`.
    case orFalse(Kind)
    case choice([String])
    /// A list of some of these words.
    case choices([String])
    /// A list of texts.
    case texts
    /// One key template or a list of them.
    case templates
    /// An object with the options below this one.
    case section
    /// A list of such objects.
    case sections
    /// A section, or this in its place.
    case sectionOr(Kind)
    /// A section, or `false`.
    case sectionOrFalse
    /// An object whose keys are chosen by its author; each value is what `path.*` says.
    case map
  }

  /// The keys that lead to it, with dots between them; `*` stands for any key of a map.
  public var path: String
  public var kind: Kind
  /// As the file would say it; nil: none, or worked out from other values, as the summary says.
  public var defaultValue: String?
  /// One or two sentences.
  public var summary: String

  init(_ path: String, _ kind: Kind, default defaultValue: String? = nil, _ summary: String) {
    self.path = path
    self.kind = kind
    self.defaultValue = defaultValue
    self.summary = summary
  }

  /// The last step of the path.
  public var name: String { path.split(separator: ".").last.map(String.init) ?? path }

  /// The path without its last step; empty for a top-level key.
  public var parent: String { path.split(separator: ".").dropLast().joined(separator: ".") }
}

extension ConfigurationOption {
  /// Every key there is, each section before what it holds.
  public static let all: [ConfigurationOption] =
    [
      .init(
        "$schema", .text, "Where an editor finds the JSON Schema of this file. Nearside does not read it."),
      .init(
        "namespace", .name(longest: 40),
        "Put before every key with a colon, and part of the names of slot and publication. Bounds what a purge "
          + "may touch. Required with Redis; not \"nearside\"."),

      .init(
        "postgres", .sectionOr(.secret),
        "The PostgreSQL primary; a text is its url. Default: the environment variable DATABASE_URL, else "
          + "libpq's own PG* variables."),
      .init(
        "postgres.url", .secret,
        "A libpq connection string or URL. Default: the environment variable DATABASE_URL, else libpq's own "
          + "PG* variables."),
      .init(
        "postgres.password", .secret, "The password, if the url does not hold it. It wins over the url's."),
      .init(
        "postgres.publication", .name(longest: 63),
        "The publication to follow. Default: nearside_<namespace>, without a namespace nearside."),
      .init("postgres.slot", .section, "The replication slot."),
      .init(
        "postgres.slot.name", .name(longest: 63),
        "The slot's name; a temporary slot has at most 54 letters here, and eight random digits are appended. "
          + "Default: nearside_<namespace>, without a namespace nearside."),
      .init(
        "postgres.slot.mode", .choice(words(SlotSettings.Mode.self)),
        "durable: one slot for all sidecars of the namespace, the only mode with Redis and the default there. "
          + "temporary: one for each sidecar, gone with its connection, the only mode without Redis."),
      .init(
        "postgres.slot.maxRetained", .orFalse(.size),
        "When the slot makes the server keep more log than this, for example because a transaction is open for very "
          + "long or Redis is down, it is given up and made anew, with a cold cache, rather than fill the server's "
          + "disk. false: never. Default: 10GiB."),

      .init(
        "postgres.loader", .sectionOr(.secret),
        "The connections on which statements of load and write run; a text is its url."),
      .init(
        "postgres.loader.url", .secret,
        "A libpq connection string or URL, with a role that may read what load names and write what write "
          + "names. Default: postgres.url."),
      .init(
        "postgres.loader.password", .secret,
        "The password, if the loader's url does not hold it. It wins over the url's. Default: postgres.password, "
          + "if the loader has no url."),
      .init(
        "postgres.loader.connections", .count(1...64), default: "4",
        "How many connections each sidecar opens at most for load, and as many again for write."),
      .init(
        "postgres.loader.timeout", .duration, default: "2s",
        "How long a statement may take. A cache's load may say otherwise."),
      .init(
        "postgres.loader.replica", .flag, default: "false",
        "true: the loader's url is a standby. What a load returns is then only kept if the standby has replayed "
          + "far enough, and write goes to postgres.url."),

      .init(
        "redis", .sectionOr(.secret),
        "The Redis behind the near caches; a text is its url. Default: the environment variable REDIS_URL, "
          + "else no Redis, and values live in this host's near cache only."),
      .init(
        "redis.url", .secret,
        "redis://[user[:password]@]host[:port][/database], rediss:// for the same with TLS, or "
          + "unix:///path/to/redis.sock?db=0. Default: the environment variable REDIS_URL."),
      .init("redis.password", .secret, "The password, if the url does not hold it. It wins over the url's."),
      .init(
        "redis.timeout", .duration, default: "5s",
        "How long one command may take before the connection is given up."),
      .init("redis.tls", .section, "How rediss:// is spoken: TLS 1.2 or later."),
      .init(
        "redis.tls.ca", .text,
        "Path of a file with the certificates of those who may sign the server's (PEM). Default: whom the system "
          + "trusts."),
      .init(
        "redis.tls.certificate", .text,
        "Path of a file with this host's own certificate (PEM), if the server asks for one."),
      .init(
        "redis.tls.key", .text,
        "Path of a file with the private key of that certificate (PEM, not encrypted). Default: it is in the same "
          + "file."),
      .init(
        "redis.tls.serverName", .text,
        "The host name or IP address that the server's certificate must have. Default: the host of the url."),
      .init(
        "redis.tls.verify", .flag, default: "true",
        "false: the server's certificate is not looked at, so that anybody in between can read and change "
          + "everything."),
      .init(
        "redis.tracking", .flag, default: "false",
        "true: Redis tells each sidecar of every write of the namespace's keys (CLIENT TRACKING), so that near copies "
          + "also leave when somebody changes Redis behind Nearside's back. Costs a message for each such write."
      ),

      .init("listen", .sectionOr(.text), "The Unix socket for applications; a text is its path."),
      .init(
        "listen.socket", .text,
        "Path of the socket, at most 107 bytes. Default: redis.sock in $RUNTIME_DIRECTORY, else "
          + "/run/nearside/redis.sock."),
      .init("listen.mode", .fileMode, default: "0660", "File mode of the socket, in octal digits."),
      .init("listen.group", .text, "Group that owns the socket. Default: the process's own."),
      .init(
        "listen.tcp", .text,
        "A loopback address such as 127.0.0.1:6380 or [::1]:6380 to listen on beside the socket, for clients "
          + "that know no Unix sockets. Every user of the host may connect there. Default: none."),
      .init(
        "listen.password", .secret,
        "What clients say to AUTH or HELLO before anything else is done for them. Default: none, and AUTH takes any."
      ),
      .init(
        "listen.users", .texts,
        "Names or numbers of the users whose programs may connect to the socket; the kernel tells who they are. "
          + "With listen.groups, being in one of the two is enough. Default: whoever the socket's mode lets in."
      ),
      .init(
        "listen.groups", .texts,
        "The same by the group that a program runs as, which is not its supplementary groups."),
      .init(
        "listen.busyPoll", .orFalse(.duration), default: "false",
        "For how long behind the last command the threads look for the next one before they sleep, at most 1ms: answers "
          + "to few clients come sooner, and a processor is busy meanwhile."),

      .init("admin", .section, "Where operators look: metrics, health, the live page."),
      .init(
        "admin.socket", .orFalse(.text),
        "Path of the Unix socket that speaks HTTP, with the mode and group of listen's; false: there is none. Default: "
          + "listen's with .admin behind it."),
      .init(
        "admin.tcp", .text,
        "An IP address and a port such as 127.0.0.1:9847 or 0.0.0.0:9847 for the same, read-only and without keys. "
          + "Whoever reaches it may read it. Default: none."),

      .init("clients", .section, "What clients may use."),
      .init(
        "clients.max", .count(1...1_000_000), default: "10000",
        "How many may be connected at a time (Redis: maxclients). As many file descriptors are asked for at start, "
          + "and where the system gives fewer, that is the limit."),
      .init(
        "clients.queryBuffer", .size, default: "1GiB",
        "A client whose commands take more than this before they are carried out is disconnected (Redis: "
          + "client-query-buffer-limit)."),
      .init(
        "clients.trackedKeys", .count(1...100_000_000), default: "1000000",
        "How many keys are remembered for clients that use CLIENT TRACKING, counted once for each client; beyond it "
          + "some are told to be forgotten (Redis: tracking-table-max-keys)."),
      .init(
        "clients.idle", .orFalse(.duration), default: "false",
        "How long a client may say nothing before it is disconnected (Redis: timeout). Not meant are those that wait "
          + "for messages or block. Default: never."),
      .init(
        "clients.outputBuffer", .section,
        "A client that does not take its answers is disconnected (Redis: client-output-buffer-limit)."),
    ]
    + outputBuffers
    + [

      .init(
        "threads", .count(1...64),
        "How many threads answer clients from the near cache; one of them does everything else, too. Default: half as "
          + "many as there are processors, at least one and at most four."),

      .init("near", .section, "The near cache in this host's memory."),
      .init("near.size", .size, default: "256MiB", "The most memory it takes."),
      .init("near.maxEntry", .size, default: "512KiB", "A reply larger than this is not kept near."),
      .init(
        "near.ttl", .duration,
        "How long an entry is kept near at most. Default: as long as Redis keeps it."),

      .init("staleness", .section, "How old the evidence behind a near answer may be."),
      .init(
        "staleness.bound", .duration, default: "2s",
        "Beyond this age of the evidence a read is answered as \"beyond\" says."),
      .init(
        "staleness.beyond", .choice(words(StalenessSettings.Beyond.self)), default: "bypass",
        "bypass: a miss without the right to fill. serve: the stale value, counted. fail: an error."),

      .init(
        "plainSet", .choice(words(PlainSetSettings.Mode.self)), default: "window",
        "What a SET without a token is worth. window: it fills the oldest miss of its key within the window. "
          + "aged: it fills a miss that lies a whole window back, for values that are written through. off: it "
          + "is answered and not stored."),
      .init(
        "plainSetWindow", .duration, default: "10s",
        "The longest time between a read and the SET of its value."
      ),

      .init(
        "leaseWait", .duration, default: "20ms",
        "How long a miss waits at most for its row's last change to become visible, so that the value may be "
          + "stored at once."),

      .init("journal", .section, "The Redis stream that tells sidecars which keys are gone."),
      .init("journal.keep", .duration, default: "60s", "How long its entries are kept."),
      .init("journal.size", .size, default: "16MiB", "How large it may grow."),

      .init(
        "subscribe", .texts,
        "Redis channels on which applications publish what they changed: a key, a JSON list of keys, or an object "
          + "with keys, prefixes and tags."),

      .init("commands", .section, "Commands that reach past the namespace."),
      .init(
        "commands.allow", .texts,
        "Which of them may be used, by name (flushdb) or with a subcommand (config|set). Default: none; they are "
          + "answered NOPERM."),

      .init("log", .section, "The log."),
      .init(
        "log.level", .choice(words(LogSettings.Level.self)), default: "info", "The least severe level shown."),
      .init(
        "log.format", .choice(words(LogSettings.Format.self)), default: "auto",
        "auto is text on a terminal and JSON otherwise."),
      .init(
        "log.slow", .orFalse(.duration), default: "false",
        "A command that its client waits for longer than this is logged, with its name and how many keys it has, of each "
          + "command one every ten seconds. Default: none is."
      ),

      .init("audit", .section, "A sampler that compares cached values with the database."),
      .init(
        "audit.share", .percent, default: "0%",
        "Which part of the hits of caches with load is compared with what load answers now. At most 20 a second are."
      ),

      .init(
        "tables", .map,
        "Which keys a change of a table's row clears, by the table's name (with its schema, if that is not "
          + "public). A key is cached only if a template here covers it or its cache has tags."),
      .init(
        "tables.*", .sectionOr(.templates),
        "A template such as \"user:{id}\", a list of templates, or an object."),
      .init(
        "tables.*.keys", .templates,
        "The templates of the keys that a change clears; a final * clears every key that begins so."),
      .init(
        "tables.*.tags", .templates,
        "The tags that a change hits: every key whose cache has one of them is cleared."),
      .init(
        "tables.*.columns", .texts,
        "An UPDATE that changes none of these columns is ignored. Default: every UPDATE counts."),
      .init(
        "tables.*.on", .choices(words(RowOperation.self)),
        "Which operations count. Default: all of them."),
      .init(
        "tables.*.lookup", .sections,
        "Keys that no column of the changed row names: statements that find what they are made of. Each runs once "
          + "for all rows of a batch, as soon as their changes are visible."),
      .init(
        "tables.*.lookup.sql", .text,
        "One query; :name binds a column of the changed row, old and new. It sees the database as it is then."
      ),
      .init(
        "tables.*.lookup.keys", .templates,
        "The templates of the keys to clear; their columns are those of the query's rows."),
      .init(
        "tables.*.lookup.remember", .duration,
        "For how long a key that the query found is cleared once more when the next answer for the same values no "
          + "longer has it. Default: not at all."),
      .init(
        "tables.*.when", .text,
        "A change counts only if this condition on its old and new row is not false. Default: every change "
          + "counts."),
    ] + caches

  private static let outputBuffers: [ConfigurationOption] = [
    ("normal", "1GiB", nil, nil, "clients without subscriptions"),
    ("pubsub", "32MiB", "8MiB", "60s", "clients with subscriptions"),
  ].flatMap { (name: String, hard: String, soft: String?, time: String?, who: String) in
    let path = "clients.outputBuffer.\(name)"
    return [
      ConfigurationOption(path, .section, "For \(who)."),
      ConfigurationOption("\(path).hard", .size, default: hard, "At once beyond this."),
      ConfigurationOption(
        "\(path).soft", .size, default: soft,
        "Beyond this for as long as softTime." + (soft == nil ? " Default: no such limit." : "")),
      ConfigurationOption(
        "\(path).softTime", .duration, default: time,
        "How long more than soft may wait." + (time == nil ? " Default: 60s." : "")),
    ]
  }

  /// Keys that the design names and this version does not have, by their section.
  static let notYet: [String: [String]] = [
    "": ["publish"],
    "redis": ["connections"],
  ]

  private static let byPath = Dictionary(uniqueKeysWithValues: all.map { ($0.path, $0) })

  static func at(_ path: String) -> ConfigurationOption? { byPath[path] }

  /// The names of the keys of one section, in the order of the table.
  static func names(in section: String) -> [String] {
    all.filter { $0.parent == section && $0.name != "*" }.map(\.name)
  }

  /// The path in this table of the value under these keys of a file; nil: there is no such option.
  static func path(of keys: [String]) -> String? {
    var path = ""
    for key in keys {
      let parent = path
      let step = at(parent)?.kind == .map ? "*" : key
      if step.contains(".") { return nil }
      path = parent.isEmpty ? step : parent + "." + step
      if at(path) == nil { return nil }
    }
    return path
  }

  static func words<T: CaseIterable & RawRepresentable<String>>(_ type: T.Type) -> [String] {
    type.allCases.map(\.rawValue)
  }
}
