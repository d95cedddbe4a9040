import Foundation
import Glibc
import Synchronization

/// A folder that goes with its owner.
///
/// All folders of a test process lie in one root folder under `$TMPDIR` or `/tmp`, whose name is short because a Unix
/// socket's path holds 107 bytes at most (unix(7)). A janitor process removes the root when the test process ends,
/// however it ends.
public final class TemporaryFolder: Sendable {
  public let path: String

  /// `owner`: who may write into it besides root; nil: this process's own user.
  public init(owner: SystemUser? = nil) throws {
    path = try Root.shared.get().next()
    guard mkdir(path, 0o755) == 0 else { throw HarnessError("mkdir \(path): \(reason())") }
    if let owner { try owner.own(path) }
  }

  deinit { removeTree(path) }

  /// The path of `name` in this folder.
  public func file(_ name: String) -> String { path + "/" + name }

  /// Writes a file into this folder and returns its path.
  @discardableResult
  public func write(_ text: String, to name: String) throws -> String {
    try writeFile(text, to: file(name))
    return file(name)
  }
}

/// A user that servers run as when the tests run as root, since PostgreSQL refuses to.
public struct SystemUser: Sendable {
  public let name: String
  let uid: uid_t
  let gid: gid_t

  /// `postgres` for root, nil for anybody else, who runs servers as oneself.
  public static let ofServers: SystemUser? = {
    guard geteuid() == 0, let entry = getpwnam("postgres") else { return nil }
    return SystemUser(name: "postgres", uid: entry.pointee.pw_uid, gid: entry.pointee.pw_gid)
  }()

  func own(_ path: String) throws {
    guard chown(path, uid, gid) == 0 else { throw HarnessError("chown \(path): \(reason())") }
  }
}

/// The test process's own folder, and the janitor that removes it.
final class Root: Sendable {
  static let shared = Result { try Root() }

  let path: String
  private let count = Atomic<Int>(0)
  private let janitor: pid_t

  private init() throws {
    let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array((parent + "/nst-XXXXXX").utf8CString)
    guard mkdtemp(&template) != nil else { throw HarnessError("mkdtemp in \(parent): \(reason())") }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    guard chmod(path, 0o755) == 0 else { throw HarnessError("chmod \(path): \(reason())") }

    // The janitor reads from a socket whose other end only this process has: the end of the input is the end of
    // this process. A server's processes that were stopped (SIGSTOP) do not notice that; those that work in the
    // root are killed. Clusters that were killed leave System V segments behind, named in their postmaster.pid.
    var ends: [Int32] = [-1, -1]
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw HarnessError("socketpair: \(reason())") }
    let script = """
      trap '' INT TERM HUP
      cd /
      cat >/dev/null
      sleep 0.3
      for process in /proc/[0-9]*; do
        case $(readlink "$process/cwd") in "$1"/*) kill -9 "${process#/proc/}" ;; esac
      done
      for pid in "$1"/*/data/postmaster.pid; do
        id=$(sed -n 7p "$pid" 2>/dev/null | awk '{print $2}')
        [ -n "$id" ] && ipcrm -m "$id"
      done
      for try in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" && break; sleep 0.3; done
      """
    janitor = try spawn(
      ["/bin/sh", "-c", script, "nearside-test-janitor", path], environment: childEnvironment([:]),
      input: ends[1], output: -1, error: -1, newSession: true)
    close(ends[1])
  }

  func next() -> String { "\(path)/\(count.add(1, ordering: .relaxed).newValue)" }
}

func reason() -> String { String(cString: strerror(errno)) }

public func writeFile(_ text: String, to path: String) throws {
  let fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
  guard fd >= 0 else { throw HarnessError("open \(path): \(reason())") }
  defer { close(fd) }
  var bytes = Array(text.utf8)[...]
  while !bytes.isEmpty {
    let written = bytes.withUnsafeBytes { Glibc.write(fd, $0.baseAddress, $0.count) }
    guard written > 0 else { throw HarnessError("write \(path): \(reason())") }
    bytes = bytes.dropFirst(written)
  }
}

/// The text of a file; nil if it cannot be read.
public func readFile(_ path: String) -> String? {
  let fd = open(path, O_RDONLY | O_CLOEXEC)
  guard fd >= 0 else { return nil }
  defer { close(fd) }
  return readAll(fd)
}

/// Reads from the beginning of the file behind `fd`.
func readAll(_ fd: Int32) -> String {
  var all: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 65_536)
  while true {
    let count = pread(fd, &buffer, buffer.count, all.count)
    if count <= 0 { return String(decoding: all, as: UTF8.self) }
    all += buffer[..<count]
  }
}

func removeTree(_ path: String) { try? FileManager.default.removeItem(atPath: path) }
