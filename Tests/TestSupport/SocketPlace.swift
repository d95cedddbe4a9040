import Glibc

/// Where a server of the tests listens.
public enum SocketPlace: Hashable, Sendable, CustomStringConvertible {
  case unix(String)
  /// 127.0.0.1; port 0, for a listener: any free one.
  case loopback(UInt16)

  public var description: String {
    switch self {
    case .unix(let path): path
    case .loopback(let port): "127.0.0.1:\(port)"
    }
  }

  /// Connects; blocks for no longer than the kernel needs, since both ends are on this machine.
  public func connect() -> Int32? {
    guard let descriptor = descriptor() else { return nil }
    let result = withAddress { Glibc.connect(descriptor, $0, $1) }
    guard result == 0 else {
      close(descriptor)
      return nil
    }
    return descriptor
  }

  /// A listening socket, and where it listens.
  public func listen() throws -> (descriptor: Int32, place: SocketPlace) {
    if case .unix(let path) = self { unlink(path) }
    guard let descriptor = descriptor() else { throw HarnessError("socket: \(reason())") }
    guard withAddress({ bind(descriptor, $0, $1) }) == 0, Glibc.listen(descriptor, 128) == 0 else {
      let why = reason()
      close(descriptor)
      throw HarnessError("listen at \(self): \(why)")
    }
    switch self {
    case .unix(let path):
      // Servers and clients may run as another user.
      chmod(path, 0o777)
      return (descriptor, self)
    case .loopback:
      var address = sockaddr_in()
      var length = socklen_t(MemoryLayout<sockaddr_in>.size)
      let result = withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
      }
      guard result == 0 else {
        close(descriptor)
        throw HarnessError("getsockname: \(reason())")
      }
      return (descriptor, .loopback(UInt16(bigEndian: address.sin_port)))
    }
  }

  private func descriptor() -> Int32? {
    let domain = if case .unix = self { AF_UNIX } else { AF_INET }
    let descriptor = socket(domain, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    return descriptor >= 0 ? descriptor : nil
  }

  private func withAddress(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    switch self {
    case .unix(let path):
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else {
        errno = ENAMETOOLONG
        return -1
      }
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
      return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
    case .loopback(let port):
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = port.bigEndian
      address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
      return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    }
  }
}
