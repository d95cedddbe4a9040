import CLinux
import Configuration
import Glibc

/// Why the socket cannot be listened on, as a sentence with what to do.
public struct ListenError: Error, CustomStringConvertible {
  public var description: String
}

/// The Unix socket that applications connect to.
///
/// A lock file beside it tells a living sidecar from a dead one's remains: the lock ends with its process,
/// whatever ended that. So a stale socket file is replaced and a living one never is.
public struct ListenSocket: ~Copyable {
  let descriptor: Int32
  private let lock: Int32
  public let path: String

  public init(_ settings: ListenSettings) throws(ListenError) {
    let lock = try Self.takeLock(beside: settings.path)
    do {
      descriptor = try Self.bindAndListen(settings)
    } catch {
      close(lock)
      throw error
    }
    self.lock = lock
    path = settings.path
  }

  private static func takeLock(beside path: String) throws(ListenError) -> Int32 {
    let lock = open(path + ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard lock >= 0 else {
      throw failed("create \(path).lock", "check that its folder exists and is writable")
    }
    guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
      close(lock)
      throw ListenError(
        description: "Another nearside listens on \(path). Stop it, or give this one another \"listen\".")
    }
    return lock
  }

  private static func bindAndListen(_ settings: ListenSettings) throws(ListenError) -> Int32 {
    let path = settings.path
    var info = stat()
    if lstat(path, &info) == 0 {
      guard info.st_mode & S_IFMT == S_IFSOCK else {
        throw ListenError(description: "\(path) exists and is no socket. Remove it, or listen elsewhere.")
      }
      // A program that is no sidecar holds no lock of ours; if it answers, the socket is its.
      guard !answers(path) else {
        throw ListenError(
          description: "Another program listens on \(path). Stop it, or give this one another \"listen\".")
      }
    }
    let kind = SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue
    let descriptor = socket(AF_UNIX, Int32(kind), 0)
    do throws(ListenError) {
      unlink(path)
      // Created for its owner alone, and opened to others once its group is set: Linux gives the file the mode
      // that the socket has when it is bound (umask(2) would hold for every thread of the process).
      fchmod(descriptor, 0o600)
      guard let bound = withUnixAddress(path, { bind(descriptor, $0, $1) }) else {
        throw ListenError(
          description:
            "\(path) is too long for a Unix socket, which has room for 107 bytes. Use a shorter path.")
      }
      guard bound == 0 else {
        throw failed("create \(path)", "check that its folder exists and is writable")
      }
      if let group = settings.group {
        guard let entry = getgrnam(group) else {
          throw ListenError(
            description: "There is no group \"\(group)\". Create it, or leave \"group\" out of \"listen\".")
        }
        guard chown(path, uid_t.max, entry.pointee.gr_gid) == 0 else {
          throw failed("give \(path) to group \(group)", "run as a member of that group")
        }
      }
      guard chmod(path, mode_t(settings.mode)) == 0, listen(descriptor, 1024) == 0 else {
        throw failed("listen on \(path)", "check that its folder is writable")
      }
      return descriptor
    } catch {
      unlink(path)
      close(descriptor)
      throw error
    }
  }

  deinit {
    unlink(path)
    close(descriptor)
    close(lock)
  }

  private static func failed(_ what: String, _ advice: String) -> ListenError {
    ListenError(description: "Cannot \(what): \(String(cString: strerror(errno))); \(advice).")
  }

  private static func answers(_ path: String) -> Bool {
    let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    defer { close(probe) }
    return withUnixAddress(path) { connect(probe, $0, $1) } == 0
  }
}
