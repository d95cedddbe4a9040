import CLinux
import Configuration
import Glibc

/// Why the socket cannot be listened on, as a sentence with what to do.
public struct ListenError: Error, CustomStringConvertible {
  public var description: String
}

/// The Unix socket that applications connect to, and the loopback address beside it, if one is configured.
///
/// A lock file beside it tells a living sidecar from a dead one's remains: the lock ends with its process,
/// whatever ended that. So a stale socket file is replaced and a living one never is.
public struct ListenSocket: ~Copyable {
  let descriptor: Int32
  /// Negative: none, since the socket was made by somebody else.
  private let lock: Int32
  public let path: String
  /// Whether somebody else made the socket, and keeps it for the next process.
  private let isBorrowed: Bool
  /// The descriptor of the loopback listener, and its address with the port that it really has.
  let loopback: (descriptor: Int32, address: LoopbackAddress)?
  let admission: Admission

  public init(_ settings: ListenSettings) throws(ListenError) {
    let admission = try Admission(settings)
    let lock = try Self.takeLock(beside: settings.path)
    var unix: Int32 = -1
    var loopback: (descriptor: Int32, address: LoopbackAddress)?
    do throws(ListenError) {
      unix = try Self.bindAndListen(settings)
      if let address = settings.tcp { loopback = try Self.openLoopback(address) }
    } catch {
      if unix >= 0 {
        unlink(settings.path)
        close(unix)
      }
      close(lock)
      throw error
    }
    descriptor = unix
    self.loopback = loopback
    self.admission = admission
    self.lock = lock
    path = settings.path
    isBorrowed = false
  }

  /// Takes a Unix socket that listens already and was handed over. Its file, mode and group are its maker's; nobody is
  /// refused while one process ends and the next begins, since the kernel keeps who connects meanwhile. The loopback
  /// address is opened as ever.
  public init(handed descriptors: [Int32], _ settings: ListenSettings) throws(ListenError) {
    guard descriptors.count == 1, let descriptor = descriptors.first else {
      throw ListenError(
        description:
          "\(descriptors.count) sockets were handed over, and Nearside takes one. Give the socket unit one "
          + "ListenStream.")
    }
    let admission = try Admission(settings)
    guard let path = Self.unixPath(of: descriptor) else {
      throw ListenError(
        description:
          "Descriptor \(descriptor), which was handed over, is no Unix socket that listens. Give the socket "
          + "unit one ListenStream with a path.")
    }
    var loopback: (descriptor: Int32, address: LoopbackAddress)?
    if let address = settings.tcp { loopback = try Self.openLoopback(address) }
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    self.descriptor = descriptor
    self.loopback = loopback
    self.admission = admission
    self.path = path
    lock = -1
    isBorrowed = true
  }

  /// Where a Unix socket listens; nil: it is none, has no path or does not listen.
  private static func unixPath(of descriptor: Int32) -> String? {
    var isListening: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    guard getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &isListening, &size) == 0, isListening == 1 else {
      return nil
    }
    var address = sockaddr_un()
    var length = socklen_t(MemoryLayout<sockaddr_un>.size)
    let result = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
    }
    guard result == 0, address.sun_family == sa_family_t(AF_UNIX) else { return nil }
    let bytes = withUnsafeBytes(of: &address.sun_path) { Array($0.prefix { $0 != 0 }) }
    return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
  }

  /// Everything that it listens on, for people.
  public var places: String { loopback.map { "\(path) and \($0.address)" } ?? path }

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

  /// Another Unix socket that listens, with the same mode and group, such as the admin endpoint's; whoever takes the
  /// descriptor closes it and removes the file.
  public static func beside(_ settings: ListenSettings, at path: String) throws(ListenError) -> Int32 {
    var settings = settings
    settings.path = path
    return try bindAndListen(settings)
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

  /// The receive buffer of loopback connections. `Arrivals` relies on the sender's being able to send as much as
  /// `Arrivals.crowd` while nothing is read.
  private static let receiveBuffer: Int32 = 256 * 1024

  private static func openLoopback(
    _ wanted: LoopbackAddress
  ) throws(ListenError) -> (descriptor: Int32, address: LoopbackAddress) {
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    let descriptor = socket(wanted.isIPv6 ? AF_INET6 : AF_INET, kind, 0)
    var address = wanted
    do throws(ListenError) {
      var one: Int32 = 1
      setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
      var buffer = receiveBuffer
      setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &buffer, socklen_t(MemoryLayout<Int32>.size))
      guard withAddress(wanted, { bind(descriptor, $0, $1) }) == 0, listen(descriptor, 1024) == 0 else {
        throw failed("listen on \(wanted)", "give \"listen.tcp\" another port, or leave it out")
      }
      guard let port = port(of: descriptor) else {
        throw failed("listen on \(wanted)", "leave \"listen.tcp\" out")
      }
      address.port = port
    } catch {
      close(descriptor)
      throw error
    }
    return (descriptor, address)
  }

  private static func withAddress(
    _ address: LoopbackAddress, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) -> Int32 {
    var storage = sockaddr_storage()
    return withUnsafeMutablePointer(to: &storage) { storage in
      var length = MemoryLayout<sockaddr_in>.size
      if address.isIPv6 {
        length = MemoryLayout<sockaddr_in6>.size
        storage.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
          $0.pointee.sin6_family = sa_family_t(AF_INET6)
          $0.pointee.sin6_port = address.port.bigEndian
          inet_pton(AF_INET6, address.host, &$0.pointee.sin6_addr)
        }
      } else {
        storage.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
          $0.pointee.sin_family = sa_family_t(AF_INET)
          $0.pointee.sin_port = address.port.bigEndian
          inet_pton(AF_INET, address.host, &$0.pointee.sin_addr)
        }
      }
      return storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(length)) }
    }
  }

  /// `127.0.0.1:6380` of one end of a TCP connection, as Redis writes it.
  static func address(of descriptor: Int32, peer: Bool) -> String {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    return withUnsafeMutablePointer(to: &storage) { storage in
      let result = storage.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        peer ? getpeername(descriptor, $0, &length) : getsockname(descriptor, $0, &length)
      }
      guard result == 0 else { return "?:0" }
      var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
      let isIPv6 = storage.pointee.ss_family == sa_family_t(AF_INET6)
      let port = storage.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
        UInt16(bigEndian: $0.pointee.sin_port)
      }
      if isIPv6 {
        storage.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
          _ = inet_ntop(AF_INET6, &$0.pointee.sin6_addr, &text, socklen_t(text.count))
        }
      } else {
        storage.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
          _ = inet_ntop(AF_INET, &$0.pointee.sin_addr, &text, socklen_t(text.count))
        }
      }
      let host = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      return isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
  }

  private static func port(of descriptor: Int32) -> UInt16? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    return withUnsafeMutablePointer(to: &storage) { storage in
      let result = storage.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        getsockname(descriptor, $0, &length)
      }
      guard result == 0 else { return nil }
      // The port stands at the same place in both families' addresses.
      return storage.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
        UInt16(bigEndian: $0.pointee.sin_port)
      }
    }
  }

  deinit {
    if !isBorrowed { unlink(path) }
    if let loopback { close(loopback.descriptor) }
    close(descriptor)
    if lock >= 0 { close(lock) }
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
