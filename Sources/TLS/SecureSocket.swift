import COpenSSL
import Configuration
import Glibc
import Synchronization

/// TLS over a connection, for code that knows sockets only: what is written to `descriptor` goes to the server
/// encrypted, what is read from it came from there. It belongs to the caller, who closes it like the connection itself.
///
/// A thread that all of them share moves the bytes (`Pump`), so nothing here waits for anything but the handshake.
public struct SecureSocket: Sendable {
  /// A connected stream socket, blocking, close-on-exec.
  public let descriptor: Int32
  /// Tells why the connection ended, once it has.
  public let ending: TLSEnding

  /// Secures a connection; blocks until that is done, for `limit` nanoseconds at most.
  ///
  /// - Parameters:
  ///   - connection: a connected stream socket, which is taken, also when this throws.
  ///   - host: the server's host name or IP address, which its certificate must have if the settings name no other.
  public static func open(
    over connection: Int32, host: String, settings: TLSSettings, within limit: UInt64
  ) throws(TLSError) -> SecureSocket {
    prepare()
    guard let pump = Pump.shared else {
      close(connection)
      throw TLSError(.broken, "the system refuses a thread for TLS")
    }
    _ = fcntl(connection, F_SETFL, fcntl(connection, F_GETFL) | O_NONBLOCK)
    _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
    var stream = try TLSStream(connection, name: host, settings: settings)
    try stream.handshake(name: settings.serverName ?? host, within: limit)
    var ends: (Int32, Int32) = (-1, -1)
    let failed = withUnsafeMutableBytes(of: &ends) {
      socketpair(
        AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0,
        $0.bindMemory(to: Int32.self).baseAddress)
    }
    guard failed == 0 else {
      throw TLSError(.broken, "no socket can be made for TLS: \(String(cString: strerror(errno)))")
    }
    _ = fcntl(ends.1, F_SETFL, fcntl(ends.1, F_GETFL) | O_NONBLOCK)
    let ending = TLSEnding()
    pump.adopt(stream, caller: ends.1, ending: ending)
    return SecureSocket(descriptor: ends.0, ending: ending)
  }

  /// To be called before libpq is used: otherwise it has OpenSSL clean up at exit(3), where the thread of the pump may
  /// still work with it.
  public static func prepare() { OPENSSL_init_crypto(UInt64(OPENSSL_INIT_NO_ATEXIT), nil) }
}

/// Why a secured connection ended. Some reasons come only after the handshake: in TLS 1.3 a server looks at the
/// client's certificate when the client is done.
public final class TLSEnding: Sendable {
  private let told = Mutex<TLSError?>(nil)

  init() {}

  /// Nil: it has not ended, or as connections end that have nothing to complain of. Known before the socket says that
  /// it is closed.
  public var error: TLSError? { told.withLock { $0 } }

  /// The first word counts: what follows is its consequence.
  func tell(_ error: TLSError) { told.withLock { $0 = $0 ?? error } }
}
