import Glibc
import Synchronization

/// A private redis-server on a Unix socket: no port, nothing on disk unless asked for.
public final class RedisServer: Sendable {
  private struct State {
    var process: ChildProcess?
    var arguments: [String]
  }

  public let folder: TemporaryFolder
  public let socket: String
  /// Where the server writes its log.
  public let log: String
  private let state: Mutex<State>

  /// Starts it and waits until it answers. `arguments` come last on its command line and win, for example
  /// `["--appendonly", "yes"]`.
  public init(_ arguments: [String] = []) throws {
    folder = try TemporaryFolder()
    socket = folder.file("r.sock")
    log = folder.file("redis.log")
    state = Mutex(State(process: nil, arguments: arguments))
    try start()
  }

  /// For libraries and for REDIS_URL.
  public var url: String { "unix://\(socket)" }

  public var pid: pid_t? { state.withLock { $0.process?.pid } }

  public func start() throws {
    try state.withLock { state in
      guard state.process == nil else { return }
      state.process = try ChildProcess(
        [
          "redis-server", "--port", "0", "--unixsocket", socket, "--dir", folder.path, "--daemonize", "no",
          "--save", "", "--appendonly", "no",
        ] + state.arguments, directory: folder.path, log: log)
    }
    try eventually("redis-server answers PING") {
      guard state.withLock({ $0.process?.isRunning ?? false }) else {
        throw HarnessError("redis-server ended: \(readFile(log) ?? "")")
      }
      return try RESPClient(socket, timeout: .seconds(1)).call("PING").text != nil
    }
  }

  /// Ends it with SIGTERM, or SIGKILL if `hard`.
  public func stop(hard: Bool = false) throws {
    guard let process = state.withLock({ $0.process.take() }) else { return }
    if hard { process.kill() } else { try process.terminate() }
    unlink(socket)
  }

  /// SIGKILL: what was not written to disk is lost.
  public func kill() { try? stop(hard: true) }

  public func restart(hard: Bool = false) throws {
    try stop(hard: hard)
    try start()
  }

  /// SIGSTOP: connections stay, answers do not come, until `resume`.
  public func pause() { state.withLock { _ = $0.process?.signal(SIGSTOP) } }
  public func resume() { state.withLock { _ = $0.process?.signal(SIGCONT) } }

  /// What redis-cli prints, without the final line break. An error reply throws.
  @discardableResult
  public func cli(_ arguments: String...) throws -> String {
    try succeed(["redis-cli", "-e", "-s", socket] + arguments)
  }

  public func client() throws -> RESPClient { try RESPClient(socket) }

  /// A counter of INFO, such as `cmdstat_get` (`calls=3,usec=…`) or `expired_keys`; nil if it is not listed.
  public func info(_ section: String, _ name: String) throws -> String? {
    let text = try client().call("INFO", section).text ?? ""
    for line in text.split(whereSeparator: \.isNewline) where line.hasPrefix(name + ":") {
      return String(line.dropFirst(name.utf8.count + 1))
    }
    return nil
  }

  /// How often `command` (lower case) was executed since the start.
  public func calls(_ command: String) throws -> Int {
    guard let value = try info("commandstats", "cmdstat_" + command),
      let field = value.split(separator: ",").first(where: { $0.hasPrefix("calls=") })
    else { return 0 }
    return Int(field.dropFirst("calls=".count)) ?? 0
  }
}
