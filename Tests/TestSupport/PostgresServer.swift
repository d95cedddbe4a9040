import Glibc
import Synchronization

/// A private PostgreSQL cluster on a Unix socket in a folder of its own, with `wal_level=logical`.
public final class PostgresServer: Sendable {
  /// The signals of `pg_ctl stop -m` (PostgreSQL documentation, "Shutting Down the Server").
  public enum StopMode: Int32, Sendable {
    case smart = 15  // SIGTERM
    case fast = 2  // SIGINT
    case immediate = 3  // SIGQUIT
  }

  private struct State {
    var process: ChildProcess?
    var settings: [String: String]
    var databases = 0
  }

  public let folder: TemporaryFolder
  /// The server's data folder.
  public let data: String
  /// Where the server writes its log.
  public let log: String
  private let state: Mutex<State>

  /// Makes and starts a cluster.
  /// - Parameters:
  ///   - settings: entries of postgresql.conf that win over those of the harness.
  ///   - fsync: whether writes reach the disk before they count; off, since a test only asks what processes see.
  ///   - ownIdentity: whether it gets a system identifier of its own. Otherwise it is a copy of the cluster that
  ///     the test process made first, which takes a tenth of the time.
  public init(settings: [String: String] = [:], fsync: Bool = false, ownIdentity: Bool = false) throws {
    folder = try TemporaryFolder(owner: .ofServers)
    data = folder.file("data")
    log = folder.file("postgres.log")
    var all = [
      // The backend of a psql that was killed ends its transaction soon, and not when its sleep is over.
      "client_connection_check_interval": "'200ms'",
      "listen_addresses": "''", "unix_socket_directories": "'\(folder.path)'", "wal_level": "logical",
      "max_wal_senders": "40", "max_replication_slots": "40", "max_connections": "100",
      "shared_buffers": "'16MB'", "dynamic_shared_memory_type": "mmap", "jit": "off",
      "log_line_prefix": "'%m [%p] %a '", "fsync": fsync ? "on" : "off",
      "full_page_writes": fsync ? "on" : "off",
    ]
    all.merge(settings) { $1 }
    state = Mutex(State(process: nil, settings: all))
    if ownIdentity {
      try initialize(data)
    } else {
      try succeed(
        ["cp", "-a", "--reflink=auto", try Template.shared.get().path, data], user: .ofServers)
    }
    let file = data + "/postgresql.conf"
    try writeFile((readFile(file) ?? "") + "\ninclude_if_exists 'harness.conf'\n", to: file)
    try start()
  }

  /// Makes and starts a hot standby of `primary`: a copy of its cluster that streams from it.
  /// - Parameters:
  ///   - settings: entries of postgresql.conf that win over those of the harness and of the primary.
  ///   - through: the folder of the socket that it streams through; nil: the primary's own.
  public init(standbyOf primary: PostgresServer, settings: [String: String] = [:], through: String? = nil)
    throws
  {
    folder = try TemporaryFolder(owner: .ofServers)
    data = folder.file("data")
    log = folder.file("postgres.log")
    var all = primary.state.withLock { $0.settings }
    all["unix_socket_directories"] = "'\(folder.path)'"
    all["primary_conninfo"] =
      "'host=\(through ?? primary.folder.path) user=postgres application_name=standby'"
    all["synchronous_standby_names"] = "''"
    all.merge(settings) { $1 }
    state = Mutex(State(process: nil, settings: all))
    try succeed(
      [
        Binaries.path("pg_basebackup"), "-h", primary.folder.path, "-U", "postgres", "-D", data,
        "--checkpoint=fast", "--no-sync",
      ], user: .ofServers)
    try writeFile("", to: data + "/standby.signal")
    try start()
  }

  deinit { kill() }

  /// Ends recovery: this standby becomes a primary, on a timeline of its own.
  public func promote() throws {
    guard try psql("SELECT pg_promote(wait_seconds => 30)") == "t" else {
      throw HarnessError("the standby was not promoted within 30 s")
    }
  }

  /// Changes a setting for the next start (or the next `reload`).
  public func set(_ name: String, _ value: String) {
    state.withLock { $0.settings[name] = value }
  }

  public var pid: pid_t? { state.withLock { $0.process?.pid } }

  public func start() throws {
    try state.withLock { state in
      guard state.process == nil else { return }
      try writeSettings(state.settings)
      // The file of a predecessor that was killed would look like a server that is ready.
      unlink(data + "/postmaster.pid")
      state.process = try ChildProcess(
        [Binaries.path("postgres"), "-D", data], user: .ofServers, directory: folder.path, log: log)
    }
    try eventually("PostgreSQL is ready", within: .seconds(60)) {
      guard let pid = state.withLock({ $0.process?.isRunning == true ? $0.process?.pid : nil }) else {
        throw HarnessError("it ended: \(readFile(log) ?? "")")
      }
      // Line 1 is the server's pid, line 8 its state: this is what pg_ctl waits for, too.
      let lines = statusLines()
      return lines.count >= 8 && lines[0] == String(pid)
        && (lines[7].hasPrefix("ready") || lines[7].hasPrefix("standby"))
    }
  }

  public func stop(_ mode: StopMode = .fast) throws {
    guard let process = state.withLock({ $0.process.take() }) else { return }
    try process.terminate(mode.rawValue)
  }

  /// Kills the server and all its backends (SIGKILL) and waits until they are gone.
  public func kill() {
    guard let process = state.withLock({ $0.process.take() }) else { return }
    let segment = statusLines().dropFirst(6).first.flatMap { $0.split(separator: " ").last }.flatMap {
      Int32($0)
    }
    process.kill()
    backends().forEach { _ = Glibc.kill($0, SIGKILL) }
    try? eventually("backends are gone") { backends().isEmpty }
    if let segment { _ = shmctl(segment, IPC_RMID, nil) }
  }

  public func restart(_ mode: StopMode = .fast) throws {
    try stop(mode)
    try start()
  }

  /// Makes it read its settings again; returns when a new session sees `name` as `value` would print it.
  public func reload() throws {
    let settings = state.withLock { $0.settings }
    try writeSettings(settings)
    let before = try psql("SELECT pg_conf_load_time()")
    try psql("SELECT pg_reload_conf()")
    try eventually("settings are read") { try psql("SELECT pg_conf_load_time()") != before }
  }

  /// SIGSTOP to the server and all its backends: connections stay, answers do not come, until `resume`.
  public func pause() { signalAll(SIGSTOP) }
  public func resume() { signalAll(SIGCONT) }

  private func signalAll(_ number: Int32) {
    state.withLock { _ = $0.process?.signal(number) }
    backends().forEach { _ = Glibc.kill($0, number) }
  }

  /// For libpq and for DATABASE_URL.
  public func url(user: String = "postgres", database: String = "postgres") -> String {
    "postgresql://\(user)@/\(database)?host=\(folder.path)"
  }

  /// Runs SQL with the real psql, each statement a transaction of its own; its output without headers, columns
  /// separated by `|`, without the final line break. An error throws with PostgreSQL's text.
  @discardableResult
  public func psql(_ sql: String, database: String = "postgres", user: String = "postgres") throws -> String {
    try succeed(psqlCommand(database: database, user: user), input: sql)
  }

  /// A psql that is still running: a transaction left open, a statement that waits. Its input is `sql`.
  public func background(_ sql: String, database: String = "postgres", user: String = "postgres") throws
    -> ChildProcess
  {
    try ChildProcess(psqlCommand(database: database, user: user), input: sql)
  }

  private func psqlCommand(database: String, user: String) -> [String] {
    [
      Binaries.path("psql"), "-X", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", folder.path, "-U", user, "-d",
      database,
    ]
  }

  /// A new empty database; its name is unique within the cluster and fits a slot's name and a namespace.
  public func createDatabase() throws -> String {
    let number = state.withLock { state in
      state.databases += 1
      return state.databases
    }
    let name = "db\(number)"
    try psql("CREATE DATABASE \(name)")
    return name
  }

  private func writeSettings(_ settings: [String: String]) throws {
    let text = settings.sorted { $0.key < $1.key }.map { "\($0.key) = \($0.value)\n" }.joined()
    try writeFile(text, to: data + "/harness.conf")
  }

  private func statusLines() -> [String] {
    (readFile(data + "/postmaster.pid") ?? "").split(separator: "\n", omittingEmptySubsequences: false)
      .map(String.init)
  }

  /// The processes that work in the data folder: the server and its backends.
  public func backends() -> [pid_t] {
    guard let folder = opendir("/proc") else { return [] }
    defer { closedir(folder) }
    var found: [pid_t] = []
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      guard let pid = pid_t(name) else { continue }
      if let target = linkTarget("/proc/\(pid)/cwd"), target == data { found.append(pid) }
    }
    return found
  }
}

/// The target of a symbolic link; nil if it cannot be read.
public func linkTarget(_ path: String) -> String? {
  var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
  let count = buffer.withUnsafeMutableBytes { buffer in
    buffer.baseAddress.map { readlink(path, $0, buffer.count) } ?? -1
  }
  return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
}

/// The one cluster that others are copied from.
private struct Template {
  static let shared = Result { try Template() }

  let path: String

  private init() throws {
    let root = try Root.path()
    let folder = root + "/template"
    guard mkdir(folder, 0o755) == 0 else { throw HarnessError("mkdir \(folder): \(reason())") }
    try SystemUser.ofServers?.own(folder)
    path = folder + "/data"
    try initialize(path)
  }
}

private func initialize(_ data: String) throws {
  try succeed(
    [
      Binaries.path("initdb"), "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8",
      "--no-sync", "--no-instructions",
    ], user: .ofServers)
}

/// Where PostgreSQL's programs are; Debian keeps the server's outside PATH.
private enum Binaries {
  private static let folder: String? = {
    var all =
      (try? succeed(["sh", "-c", "ls -d /usr/lib/postgresql/*/bin | sort -rV"]))?.split(separator: "\n")
      .map(String.init) ?? []
    if let told = try? succeed(["pg_config", "--bindir"]) { all.append(told) }
    return all.first { access($0 + "/initdb", X_OK) == 0 }
  }()

  static func path(_ program: String) -> String { folder.map { "\($0)/\(program)" } ?? program }
}
