import Glibc
import TestSupport

/// Where a server listens.
enum Endpoint: Equatable {
  case unix(String)
  /// A port on 127.0.0.1.
  case loopback(UInt16)

  /// A connection that does not block; the caller closes it.
  func connect() throws -> Int32 {
    let descriptor: Int32
    let code: Int32
    switch self {
    case .unix(let path):
      descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else {
        throw HarnessError("the path of the socket is too long: \(path)")
      }
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
      code = Self.connect(descriptor, &address)
    case .loopback(let port):
      descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = port.bigEndian
      address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
      code = Self.connect(descriptor, &address)
      var on: Int32 = 1
      setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    }
    guard code == 0 else {
      let reason = String(cString: strerror(errno))
      close(descriptor)
      throw HarnessError("connecting to \(self): \(reason)")
    }
    _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
    return descriptor
  }

  private static func connect<Address>(_ descriptor: Int32, _ address: inout Address) -> Int32 {
    withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<Address>.size))
      }
    }
  }
}
