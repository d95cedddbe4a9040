import COpenSSL
import Configuration
import Glibc
import Synchronization

/// What all connections with the same settings share: whom to trust, and what to show. An SSL_CTX is read only once
/// it is complete, and OpenSSL counts who uses it.
struct TLSContext: ~Copyable, Sendable {
  /// SSL_CTX *, as a number, since several threads hold it in turn.
  private let address: UInt
  let hasCertificate: Bool

  var pointer: OpaquePointer? { OpaquePointer(bitPattern: address) }

  init(_ settings: TLSSettings) throws(TLSError) {
    // SSL_CTX_set_ciphers and the like stay with the system's policy (openssl.cnf).
    ERR_clear_error()
    guard let context = SSL_CTX_new(TLS_client_method()) else {
      throw TLSError(.broken, "no memory is left for TLS")
    }
    do throws(TLSError) {
      try Self.prepare(context, settings)
    } catch {
      SSL_CTX_free(context)
      throw error
    }
    address = UInt(bitPattern: context)
    hasCertificate = settings.certificate != nil
  }

  deinit { SSL_CTX_free(pointer) }

  private static func prepare(_ context: OpaquePointer, _ settings: TLSSettings) throws(TLSError) {
    _ = SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, Int(TLS1_2_VERSION), nil)
    let modes = SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS
    _ = SSL_CTX_ctrl(context, SSL_CTRL_MODE, Int(modes), nil)
    // An encrypted key makes OpenSSL ask on the terminal, unless there is somebody who knows no answer.
    SSL_CTX_set_default_passwd_cb(context) { _, _, _, _ in -1 }
    SSL_CTX_set_verify(context, settings.verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nil)
    if settings.verifies {
      if let ca = settings.ca {
        guard SSL_CTX_load_verify_file(context, ca) == 1 else {
          throw unusable(ca, "redis.tls.ca", "holds no certificates (PEM)")
        }
      } else {
        SSL_CTX_set_default_verify_paths(context)
      }
    }
    guard let certificate = settings.certificate else { return }
    guard SSL_CTX_use_certificate_chain_file(context, certificate) == 1 else {
      throw unusable(certificate, "redis.tls.certificate", "holds no certificate (PEM)")
    }
    let key = settings.key ?? certificate
    let option = settings.key == nil ? "redis.tls.certificate" : "redis.tls.key"
    guard SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1 else {
      throw unusable(key, option, "holds no private key (PEM, not encrypted) that goes with the certificate")
    }
  }

  /// A file that OpenSSL did not take: unreadable, or not what it should be.
  private static func unusable(_ path: String, _ option: String, _ otherwise: String) -> TLSError {
    ERR_clear_error()
    guard access(path, R_OK) == 0 else {
      return TLSError(
        .settings, "the file \(path) (\(option)) cannot be read: \(String(cString: strerror(errno)))")
    }
    return TLSError(.settings, "the file \(path) (\(option)) \(otherwise)")
  }
}

/// The context made last. A process has one Redis, and reading the system's certificates takes milliseconds; but a
/// certificate that was renewed counts for the next connection.
final class ContextCache: Sendable {
  static let shared = ContextCache()

  private struct Made: ~Copyable {
    var settings: TLSSettings
    var stamps: [Stamp]
    let context: TLSContext
  }

  /// By which a file that was replaced or rewritten is told.
  private struct Stamp: Equatable {
    var inode: UInt
    var size: Int
    var seconds: Int
    var nanoseconds: Int

    init?(_ path: String) {
      var about = stat()
      guard stat(path, &about) == 0 else { return nil }
      (inode, size) = (about.st_ino, about.st_size)
      (seconds, nanoseconds) = (about.st_mtim.tv_sec, about.st_mtim.tv_nsec)
    }
  }

  private let made = Mutex<Made?>(nil)

  /// Calls `body` with the context for these settings.
  func use<Result>(
    _ settings: TLSSettings, _ body: (borrowing TLSContext) -> Result
  ) throws(TLSError) -> sending Result where Result: ~Copyable & Sendable {
    let trusted = settings.ca ?? String(cString: X509_get_default_cert_file())
    // Taken before the files are read: one that changes meanwhile is then read again.
    let stamps = [trusted, settings.certificate, settings.key].compactMap { $0.flatMap { Stamp($0) } }
    return try made.withLock { made throws(TLSError) -> Result in
      let isCurrent =
        switch made {
        case .some(let current): current.settings == settings && current.stamps == stamps
        case .none: false
        }
      if !isCurrent {
        made = nil
        made = Made(settings: settings, stamps: stamps, context: try TLSContext(settings))
      }
      switch made {
      case .some(let current): return body(current.context)
      case .none: preconditionFailure("the context has just been made")
      }
    }
  }
}
