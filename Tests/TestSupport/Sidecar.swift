import Glibc
import Synchronization

/// A running `nearside run`, with a configuration file and a socket in a folder of its own.
public final class Sidecar: Sendable {
  public let folder: TemporaryFolder
  public let socket: String
  /// The configuration file's path.
  public let configuration: String
  private let environment: [String: String]
  /// A listener that it is handed, as a service manager does; nil: it makes its own.
  private let listener: Int32?
  private let process = Mutex<ChildProcess?>(nil)

  /// The built executable, which lies beside the running test binary.
  public static let executable: String = {
    let test = linkTarget("/proc/self/exe") ?? ""
    let folder = test.split(separator: "/").dropLast().joined(separator: "/")
    return "/\(folder)/nearside"
  }()

  /// Writes the configuration and starts the sidecar.
  /// - Parameters:
  ///   - configuration: the file's text. A `"listen"` is put in if there is none.
  ///   - postgres: DATABASE_URL.
  ///   - redis: REDIS_URL; nil: none.
  ///   - tcp: whether it also listens on a free loopback port: see `loopback()`.
  ///   - listen: further members of `listen`, such as `"password": "p"`.
  ///   - listener: a socket that listens at a path and is handed over as descriptor 3.
  ///   - ready: whether to wait until the socket answers PING.
  public init(
    _ configuration: String, postgres: String?, redis: String?, environment: [String: String] = [:],
    tcp: Bool = false, listen: [String] = [], listener: (descriptor: Int32, path: String)? = nil,
    ready: Bool = true
  ) throws {
    folder = try TemporaryFolder()
    socket = listener?.path ?? folder.file("n.sock")
    self.listener = listener?.descriptor
    var text = configuration
    if !text.contains("\"listen\""), let brace = text.firstIndex(of: "{") {
      let members = ["\"socket\": \"\(socket)\""] + (tcp ? ["\"tcp\": \"127.0.0.1:0\""] : []) + listen
      text.insert(
        contentsOf: " \"listen\": { \(members.joined(separator: ", ")) },", at: text.index(after: brace))
    }
    // A suite may be run again with clients spread over several threads, the first hit being enough to move one.
    var all = ["RUNTIME_DIRECTORY": folder.path]
    if let threads = getenv("NEARSIDE_TEST_THREADS").map({ String(cString: $0) }),
      let brace = text.firstIndex(of: "{"),
      !text.contains("\"threads\"")
    {
      text.insert(contentsOf: " \"threads\": \(threads),", at: text.index(after: brace))
      all["NEARSIDE_LEND_AFTER"] = "1"
    }
    self.configuration = try folder.write(text, to: "config.json")
    all["DATABASE_URL"] = postgres
    all["REDIS_URL"] = redis
    all.merge(environment) { $1 }
    self.environment = all
    try start(ready: ready)
  }

  /// Starts it (again).
  public func start(ready: Bool = true) throws {
    try process.withLock { process in
      guard process == nil else { return }
      var command = [Sidecar.executable, "run", "--config", configuration]
      if listener != nil {
        // LISTEN_PID names the process that the sidecar then is.
        command = ["sh", "-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\""] + command
      }
      process = try ChildProcess(
        command, environment: environment, directory: folder.path, log: folder.file("log"),
        handed: listener.map { [$0] } ?? [])
    }
    if ready { try waitUntilReady() }
  }

  /// Waits until the socket answers PING.
  public func waitUntilReady(within limit: Duration = .seconds(20)) throws {
    let clock = ContinuousClock()
    let deadline = clock.now.advanced(by: limit)
    while true {
      if let reply = try? RESPClient(socket, timeout: .seconds(1)).call("PING"),
        reply == .simple("PONG") || reply.errorText?.hasPrefix("NOAUTH") == true
      {
        return
      }
      guard isRunning else { throw HarnessError("the sidecar ended: \(log)") }
      guard clock.now < deadline else { throw HarnessError("no PONG from the sidecar; its log:\n\(log)") }
      sleep(.milliseconds(3))
    }
  }

  public var isRunning: Bool { process.withLock { $0?.isRunning ?? false } }
  public var pid: pid_t? { process.withLock { $0?.pid } }

  /// Whether it is stopped by a signal (proc(5), the state in /proc/PID/stat, behind the name in brackets).
  public var isStopped: Bool {
    guard let pid, let line = readFile("/proc/\(pid)/stat") else { return false }
    return line.split(separator: ")").last?.hasPrefix(" T") ?? false
  }

  /// What it wrote so far, all starts together.
  public var log: String { readFile(folder.file("log")) ?? "" }

  /// Kills it with SIGKILL.
  public func kill() { process.withLock { $0.take() }?.kill() }

  public func signal(_ number: Int32) { process.withLock { _ = $0?.signal(number) } }

  /// Asks it to end (SIGTERM) and waits.
  @discardableResult
  public func terminate(within limit: Duration = .seconds(15)) throws -> ChildProcess.Exit? {
    try process.withLock { $0.take() }?.terminate(within: limit)
  }

  /// Waits for an end that comes by itself.
  public func wait(within limit: Duration = .seconds(15)) throws -> ChildProcess.Exit? {
    try process.withLock { $0 }?.wait(within: limit)
  }

  public func client(timeout: Duration = .seconds(10)) throws -> RESPClient {
    try RESPClient(socket, timeout: timeout)
  }

  /// Its admin endpoint.
  public var admin: HTTPClient { HTTPClient(.unix(socket + ".admin")) }

  /// The loopback address on which it listens, if it was asked to.
  public func loopback() throws -> SocketPlace {
    guard let text = try status()["listen_tcp"],
      let port = text.split(separator: ":").last.flatMap({ UInt16($0) })
    else { throw HarnessError("the sidecar listens on no loopback address") }
    return .loopback(port)
  }

  /// What redis-cli prints for a command sent to the sidecar. An error reply throws.
  @discardableResult
  public func cli(_ arguments: String...) throws -> String {
    try succeed(["redis-cli", "-e", "-s", socket] + arguments)
  }

  /// The lines of NEARSIDE STATUS.
  public func status() throws -> [String: String] {
    let text = try client().call("NEARSIDE", "STATUS").text ?? ""
    var all: [String: String] = [:]
    for line in text.split(whereSeparator: \.isNewline) where !line.hasPrefix("#") {
      let halves = line.split(separator: ":", maxSplits: 1)
      if halves.count == 2 { all[String(halves[0])] = String(halves[1]) }
    }
    return all
  }

  /// A number of NEARSIDE STATUS; 0 if it is not listed.
  public func count(_ name: String) throws -> Int { Int(try status()[name] ?? "") ?? 0 }

  /// Runs another verb of the executable with this sidecar's environment.
  public static func command(
    _ arguments: [String], environment: [String: String] = [:], directory: String = "/",
    within limit: Duration = .seconds(30)
  ) throws -> Finished {
    try run([executable] + arguments, environment: environment, directory: directory, within: limit)
  }
}
