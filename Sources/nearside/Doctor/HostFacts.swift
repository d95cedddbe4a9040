import CLinux
import Configuration
import Glibc
import Server

/// What this host offers a sidecar.
struct HostFacts: Equatable {
  /// What is found where the socket is to be.
  enum Place: Equatable {
    case nothing
    /// A socket that answers; the process that listens, as far as it can be seen.
    case listener(pid: Int32, program: String?)
    /// A socket that nobody listens on.
    case leftOver
    /// A socket that this user may not connect to.
    case closed
    case noSocket
  }

  enum Folder: Equatable { case writable, missing, readOnly }
  enum Group: Equatable { case unset, missing, foreign, own }
  enum Supervisor: String { case systemd, kubernetes, none }

  var path = "/run/nearside/redis.sock"
  var folder = Folder.writable
  var place = Place.nothing
  var groupName = ""
  var group = Group.unset
  /// The loopback address to listen on, and whether somebody else has it; nil: none is configured.
  var loopback: (address: String, isTaken: Bool)?
  /// The admin endpoint's socket, and what is found there; nil: it is to have none.
  var admin: (path: String, place: Place)?
  /// The admin endpoint's TCP address, whether only this host reaches it, and what bind(2) says; nil: none is configured.
  var adminTCP: (address: String, isLoopback: Bool, bindError: Int32)?
  /// What a person should be told of the limit of file descriptors; nil: it suffices.
  var descriptors: String?
  var mostClients = 10_000
  /// The least of the limits of this process's control groups, in bytes; nil: none.
  var memoryLimit: UInt64?
  /// The host's memory, in bytes; 0: unknown.
  var memory: UInt64 = 0
  /// `near.size`.
  var nearSize = 0
  var supervisor = Supervisor.none

  /// The longest path of a Unix socket, in bytes (unix(7)).
  static let longestPath = 107

  static func == (a: HostFacts, b: HostFacts) -> Bool { "\(a)" == "\(b)" }

  /// Changes nothing but this process's own limit of descriptors.
  static func read(_ settings: Settings) -> HostFacts {
    var facts = HostFacts(path: settings.listen.path)
    facts.readPlace()
    if let name = settings.listen.group { facts.readGroup(name) }
    if let address = settings.listen.tcp, address.port != 0 {
      facts.loopback = (
        address.description,
        bindError(address.host, address.port, isIPv6: address.isIPv6) == EADDRINUSE
      )
    }
    if let path = settings.admin.socket { facts.admin = (path, place(at: path)) }
    if let address = settings.admin.tcp {
      facts.adminTCP = (
        address.description, address.host.hasPrefix("127.") || address.host == "::1",
        address.port == 0 ? 0 : bindError(address.host, address.port, isIPv6: address.isIPv6)
      )
    }
    facts.mostClients = settings.clients.most
    facts.descriptors = DescriptorLimit.raise(for: settings.clients.most)
    facts.memoryLimit = memoryLimit()
    facts.memory = totalMemory()
    facts.nearSize = settings.near.size
    if Environment.value("KUBERNETES_SERVICE_HOST") != nil {
      facts.supervisor = .kubernetes
    } else if access("/run/systemd/system", F_OK) == 0 {
      facts.supervisor = .systemd
    }
    return facts
  }

  private mutating func readPlace() {
    let parent = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    let parentPath = parent.isEmpty ? "/" : parent
    var info = stat()
    if stat(parentPath, &info) != 0 || info.st_mode & S_IFMT != S_IFDIR {
      folder = .missing
    } else if access(parentPath, W_OK | X_OK) != 0 {
      folder = .readOnly
    }
    place = Self.place(at: path)
  }

  private static func place(at path: String) -> Place {
    var info = stat()
    guard lstat(path, &info) == 0 else { return .nothing }
    return info.st_mode & S_IFMT == S_IFSOCK ? ask(path) : .noSocket
  }

  private static func ask(_ path: String) -> Place {
    let probe = socket(
      AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard probe >= 0 else { return .closed }
    defer { close(probe) }
    guard let connected = withUnixAddress(path, { connect(probe, $0, $1) }) else { return .nothing }
    guard connected == 0 else {
      switch errno {
      case ECONNREFUSED: return .leftOver
      // Its queue is full: somebody is there who is busy.
      case EAGAIN: return .listener(pid: 0, program: nil)
      default: return .closed
      }
    }
    var pid: Int32 = 0
    var user: UInt32 = 0
    var group: UInt32 = 0
    clinux_peer(probe, &pid, &user, &group)
    let program = text(of: "/proc/\(pid)/comm").map { String($0.prefix { $0 != "\n" }) }
    return .listener(pid: pid, program: program)
  }

  private mutating func readGroup(_ name: String) {
    groupName = name
    guard let entry = getgrnam(name) else {
      group = .missing
      return
    }
    let wanted = entry.pointee.gr_gid
    var groups = [gid_t](repeating: 0, count: 1024)
    let count = getgroups(Int32(groups.count), &groups)
    let isMember = groups.prefix(Int(max(count, 0))).contains(wanted) || getegid() == wanted
    group = isMember || geteuid() == 0 ? .own : .foreign
  }

  /// The errno of an attempt to bind a TCP socket there; 0: it can be done.
  private static func bindError(_ host: String, _ port: UInt16, isIPv6: Bool) -> Int32 {
    let descriptor = socket(
      isIPv6 ? AF_INET6 : AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return errno }
    defer { close(descriptor) }
    var one: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
    var bound: Int32 = 0
    if isIPv6 {
      var place = sockaddr_in6()
      place.sin6_family = sa_family_t(AF_INET6)
      place.sin6_port = port.bigEndian
      inet_pton(AF_INET6, host, &place.sin6_addr)
      bound = withUnsafePointer(to: &place) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
        }
      }
    } else {
      var place = sockaddr_in()
      place.sin_family = sa_family_t(AF_INET)
      place.sin_port = port.bigEndian
      inet_pton(AF_INET, host, &place.sin_addr)
      bound = withUnsafePointer(to: &place) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    }
    return bound == 0 ? 0 : errno
  }

  // MARK: Memory

  /// Source: Linux, Documentation/admin-guide/cgroup-v2.rst, memory.max; cgroup-v1/memory.rst, limit_in_bytes.
  private static func memoryLimit() -> UInt64? {
    var limits: [UInt64] = []
    for line in (text(of: "/proc/self/cgroup") ?? "").split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { continue }
      let isSecond = parts[0] == "0" && parts[1].isEmpty
      guard isSecond || parts[1].split(separator: ",").contains("memory") else { continue }
      let (root, file) =
        isSecond ? ("/sys/fs/cgroup", "memory.max") : ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
      var folder = parts[2] == "/" ? "" : String(parts[2])
      while true {
        let found = text(of: root + folder + "/" + file).flatMap { UInt64($0.prefix { $0.isNumber }) }
        // Without a limit the first version has the largest number of pages instead.
        if let found, found < 1 << 62 { limits.append(found) }
        guard let slash = folder.lastIndex(of: "/") else { break }
        folder = String(folder[..<slash])
      }
    }
    return limits.min()
  }

  private static func totalMemory() -> UInt64 {
    let line = (text(of: "/proc/meminfo") ?? "").split(separator: "\n").first { $0.hasPrefix("MemTotal:") }
    return (line.flatMap { UInt64($0.filter(\.isNumber)) } ?? 0) * 1024
  }

  private static func text(of path: String) -> String? {
    Files.read(path).map { String(decoding: $0, as: UTF8.self) }
  }
}
