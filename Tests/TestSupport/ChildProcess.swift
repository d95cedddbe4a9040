import Dispatch
import Foundation
import Glibc
import Synchronization

/// A process that the tests started. It is killed and reaped when its owner goes, and dies with the test process.
public final class ChildProcess: Sendable {
  /// How a process ended.
  public enum Exit: Equatable, Sendable {
    case code(Int32)
    case signal(Int32)
  }

  public let name: String
  public let pid: pid_t
  /// Where its output goes; nil for a file without a name, which `output` reads all the same.
  private let out: Int32
  private let err: Int32
  private let ended = Mutex<Exit?>(nil)

  /// Starts `arguments[0]`, looked for in PATH.
  /// - Parameters:
  ///   - environment: added to the few variables every child gets (PATH, HOME, LANG, TMPDIR).
  ///   - user: whom to run as; nil: as oneself.
  ///   - input: what it reads from its standard input.
  ///   - handed: descriptors that it has from 3 on.
  ///   - log: the file that both outputs are appended to; nil: they are kept apart, see `output` and `errors`.
  public init(
    _ arguments: [String], environment: [String: String] = [:], user: SystemUser? = nil,
    directory: String = "/", input: String = "", log: String? = nil, handed: [Int32] = []
  ) throws {
    name = arguments.first ?? ""
    var command = ["env", "-C", directory, "setpriv", "--pdeathsig", "KILL"]
    if let user { command += ["--reuid", user.name, "--regid", String(user.gid), "--init-groups"] }
    command += ["--"] + arguments
    let stdin = try anonymousFile()
    defer { close(stdin) }
    if !input.isEmpty {
      guard
        Array(input.utf8).withUnsafeBytes({ pwrite(stdin, $0.baseAddress, $0.count, 0) }) == input.utf8.count
      else { throw HarnessError("input of \(name): \(reason())") }
    }
    if let log {
      out = open(log, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
      err = out
      guard out >= 0 else { throw HarnessError("open \(log): \(reason())") }
    } else {
      out = try anonymousFile()
      err = try anonymousFile()
    }
    do {
      pid = try spawn(
        command, environment: childEnvironment(environment), input: stdin, output: out,
        error: err, newSession: false, handed: handed)
    } catch {
      close(out)
      if err != out { close(err) }
      throw error
    }
  }

  deinit {
    _ = kill()
    close(out)
    if err != out { close(err) }
  }

  /// What it wrote to its standard output so far (with `log`: to both, by all that share the log).
  public var output: String { readAll(out) }
  /// What it wrote to its standard error so far.
  public var errors: String { readAll(err) }

  /// Sends a signal; false if the process has ended.
  @discardableResult
  public func signal(_ number: Int32) -> Bool {
    ended.withLock { ended in
      guard reap(&ended) == nil else { return false }
      return Glibc.kill(pid, number) == 0
    }
  }

  /// Kills (SIGKILL) and reaps it; how it ended.
  @discardableResult
  public func kill() -> Exit {
    ended.withLock { ended in
      if let exit = reap(&ended) { return exit }
      _ = Glibc.kill(pid, SIGKILL)
      var status: Int32 = 0
      while waitpid(pid, &status, 0) == -1, errno == EINTR {}
      let exit = Exit(status: status)
      ended = exit
      return exit
    }
  }

  public var isRunning: Bool { ended.withLock { reap(&$0) == nil } }

  /// Waits for its end; throws, with what it wrote, if it does not end within `limit`.
  @discardableResult
  public func wait(within limit: Duration = .seconds(30)) throws -> Exit {
    let clock = ContinuousClock()
    let deadline = clock.now.advanced(by: limit)
    while true {
      if let exit = ended.withLock({ reap(&$0) }) { return exit }
      if clock.now >= deadline {
        throw HarnessError(
          "\(name) still runs after \(limit); it wrote:\n\(output)\n\(err == out ? "" : errors)")
      }
      sleep(.milliseconds(1))
    }
  }

  /// Asks it to end and waits; after `limit` it is killed, and that throws.
  @discardableResult
  public func terminate(_ number: Int32 = SIGTERM, within limit: Duration = .seconds(30)) throws -> Exit {
    signal(number)
    do { return try wait(within: limit) } catch {
      kill()
      throw error
    }
  }

  private func reap(_ ended: inout Exit?) -> Exit? {
    if let ended { return ended }
    var status: Int32 = 0
    if waitpid(pid, &status, WNOHANG) == pid { ended = Exit(status: status) }
    return ended
  }
}

extension ChildProcess.Exit {
  init(status: Int32) {
    let number = status & 0x7f
    self = number == 0 ? .code((status >> 8) & 0xff) : .signal(number)
  }
}

/// What a finished command left.
public struct Finished: Sendable {
  public let exit: ChildProcess.Exit
  public let output: String
  public let errors: String
}

/// Runs a command to its end.
public func run(
  _ arguments: [String], environment: [String: String] = [:], user: SystemUser? = nil,
  directory: String = "/", input: String = "", within limit: Duration = .seconds(60)
) throws -> Finished {
  let child = try ChildProcess(
    arguments, environment: environment, user: user, directory: directory, input: input)
  let exit = try child.wait(within: limit)
  return Finished(exit: exit, output: child.output, errors: child.errors)
}

/// Runs a command that must succeed; its standard output without the final line break.
@discardableResult
public func succeed(
  _ arguments: [String], environment: [String: String] = [:], user: SystemUser? = nil, input: String = "",
  within limit: Duration = .seconds(60)
) throws -> String {
  let done = try run(arguments, environment: environment, user: user, input: input, within: limit)
  guard done.exit == .code(0) else {
    throw HarnessError("\(arguments.joined(separator: " ")): \(done.exit)\n\(done.output)\(done.errors)")
  }
  return done.output.hasSuffix("\n") ? String(done.output.dropLast()) : done.output
}

/// The few variables that every child gets, and `more`. PG* and REDIS_URL of the tester's shell stay outside.
func childEnvironment(_ more: [String: String]) -> [String] {
  var all = ["LANG": "C.UTF-8"]
  for name in ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "ASAN_OPTIONS", "TSAN_OPTIONS"] {
    if let value = getenv(name) { all[name] = String(cString: value) }
  }
  all.merge(more) { $1 }
  return all.map { "\($0.key)=\($0.value)" }
}

private func anonymousFile() throws -> Int32 {
  let folder = try Root.path()
  var template = Array((folder + "/output-XXXXXX").utf8CString)
  let fd = mkstemp(&template)
  guard fd >= 0 else { throw HarnessError("mkstemp in \(folder): \(reason())") }
  unlink(template)
  _ = fcntl(fd, F_SETFD, FD_CLOEXEC)
  return fd
}

extension Root {
  static func path() throws -> String { try shared.get().path }
}

/// Starts a process from the one thread that never ends.
///
/// PR_SET_PDEATHSIG fires at the end of the *thread* that started the child (prctl(2)), and threads of the
/// concurrency pool come and go: without this the children would be killed at random.
/// A descriptor of -1 stands for /dev/null.
func spawn(
  _ arguments: [String], environment: [String], input: Int32, output: Int32, error: Int32,
  newSession: Bool, handed: [Int32] = []
) throws -> pid_t {
  try Spawner.shared.perform {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for (fd, target) in [(input, Int32(0)), (output, 1), (error, 2)] {
      if fd < 0 {
        posix_spawn_file_actions_addopen(&actions, target, "/dev/null", O_RDWR, 0)
      } else {
        posix_spawn_file_actions_adddup2(&actions, fd, target)
      }
    }
    for (index, fd) in handed.enumerated() {
      posix_spawn_file_actions_adddup2(&actions, fd, Int32(3 + index))
    }
    closeOnExec()

    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // The child starts with no signal blocked and none ignored, whatever the test runner does with its own.
    var none = sigset_t()
    sigemptyset(&none)
    var all = sigset_t()
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    var flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
    // POSIX_SPAWN_SETSID of spawn.h, which only GNU sources see.
    if newSession { flags |= 0x80 }
    posix_spawnattr_setflags(&attributes, Int16(flags))

    var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    var envp: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) } + [nil]
    defer {
      argv.forEach { free($0) }
      envp.forEach { free($0) }
    }
    var pid: pid_t = 0
    let code = posix_spawnp(&pid, arguments[0], &actions, &attributes, &argv, &envp)
    guard code == 0 else { throw HarnessError("\(arguments[0]): \(String(cString: strerror(code)))") }
    return pid
  }
}

/// Libraries under test may open descriptors that a child would inherit (hiredis does): a server would then hold
/// a connection open that its test believes closed.
private func closeOnExec() {
  for name in (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? [] {
    if let fd = Int32(name), fd > 2 { _ = fcntl(fd, F_SETFD, FD_CLOEXEC) }
  }
}

private final class Spawner: Sendable {
  static let shared = Spawner()

  private typealias Job = @Sendable () -> Void
  private let jobs = Mutex<[Job]>([])
  private let waiting = DispatchSemaphore(value: 0)

  private init() {
    Thread.detachNewThread { [self] in
      while true {
        waiting.wait()
        jobs.withLock { $0.removeFirst() }()
      }
    }
  }

  func perform<T: Sendable>(_ body: @escaping @Sendable () throws -> T) throws -> T {
    let done = DispatchSemaphore(value: 0)
    let result = Outcome<T>()
    jobs.withLock {
      $0.append {
        result.value.withLock { $0 = Result { try body() } }
        done.signal()
      }
    }
    waiting.signal()
    done.wait()
    return try result.value.withLock { $0 ?? .failure(HarnessError("no result")) }.get()
  }
}

private final class Outcome<T: Sendable>: Sendable {
  let value = Mutex<Result<T, any Error>?>(nil)
}
