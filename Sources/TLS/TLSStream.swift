import COpenSSL
import Configuration
import Glibc

/// One TLS connection over a connected, non-blocking socket that it owns. It is used by one thread at a time: by the
/// one that connects, then by the pump's.
struct TLSStream: ~Copyable, Sendable {
  /// What a step has come to.
  enum Step {
    case moved(Int)
    /// Nothing can be done before the network has something, or takes something.
    case waitsToRead, waitsToWrite
    /// The network takes nothing any more; what it sent before may still be read.
    case cannotSend
    /// The other side has said that this was all, or has gone without a word.
    case ended
    case failed(TLSError)
  }

  /// SSL * and Link *, as numbers: whoever owns the value owns what they point to.
  private let address: UInt
  private let linkAddress: UInt
  let descriptor: Int32
  private let hasCertificate: Bool

  private var ssl: OpaquePointer? { OpaquePointer(bitPattern: address) }
  private var link: UnsafeMutablePointer<Link>? { UnsafeMutablePointer(bitPattern: linkAddress) }

  /// Takes the socket, also when it throws.
  /// - Parameter name: what the server is called: a host name, which is also asked for (SNI), or an IP address.
  init(_ descriptor: Int32, name: String, settings: TLSSettings) throws(TLSError) {
    let opened: (ssl: UInt, hasCertificate: Bool)
    do throws(TLSError) {
      opened = try ContextCache.shared.use(settings) { context in
        ERR_clear_error()
        return (SSL_new(context.pointer).map { UInt(bitPattern: $0) } ?? 0, context.hasCertificate)
      }
    } catch {
      close(descriptor)
      throw error
    }
    let link = UnsafeMutablePointer<Link>.allocate(capacity: 1)
    link.initialize(to: Link(descriptor: descriptor))
    guard let ssl = OpaquePointer(bitPattern: opened.ssl), let bio = Link.bio(link) else {
      SSL_free(OpaquePointer(bitPattern: opened.ssl))
      link.deallocate()
      close(descriptor)
      throw TLSError(.broken, "no memory is left for TLS")
    }
    SSL_set_bio(ssl, bio, bio)
    Self.expect(settings.serverName ?? name, ssl)
    address = opened.ssl
    linkAddress = UInt(bitPattern: link)
    self.descriptor = descriptor
    hasCertificate = opened.hasCertificate
  }

  deinit {
    SSL_free(ssl)
    link?.deinitialize(count: 1)
    link?.deallocate()
    close(descriptor)
  }

  /// Sets the name that the certificate must have. Source: SSL_set1_host(3), X509_check_ip_asc(3).
  private static func expect(_ name: String, _ ssl: OpaquePointer) {
    var address = in6_addr()
    if inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1 {
      X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name)
      return
    }
    SSL_set_hostflags(ssl, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
    SSL_set1_host(ssl, name)
    _ = name.withCString { text in
      SSL_ctrl(
        ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, Int(TLSEXT_NAMETYPE_host_name),
        UnsafeMutableRawPointer(mutating: text))
    }
  }

  // MARK: Use

  /// Agrees with the server; blocks for `limit` nanoseconds at most.
  mutating func handshake(name: String, within limit: UInt64) throws(TLSError) {
    let examination = Examination(expected: name)
    SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(examination).toOpaque())
    SSL_set_verify(ssl, SSL_get_verify_mode(ssl)) { accepted, store in
      Examination.note(accepted, store)
      return accepted
    }
    defer { SSL_set_ex_data(ssl, 0, nil) }
    let deadline = monotonic() &+ limit
    while true {
      ERR_clear_error()
      let step = self.step(SSL_connect(ssl), doubt: examination.doubt)
      let events: Int32
      switch step {
      case .moved: return
      case .waitsToRead: events = Int32(POLLIN)
      case .waitsToWrite: events = Int32(POLLOUT)
      case .failed(let error): throw error
      case .ended, .cannotSend:
        throw TLSError(
          .broken, "the server closed the connection in the TLS handshake; is this Redis's tls-port?")
      }
      let now = monotonic()
      var watched = pollfd(fd: descriptor, events: Int16(events), revents: 0)
      guard now < deadline, poll(&watched, 1, Int32(clamping: (deadline - now) / 1_000_000 + 1)) != 0 else {
        throw TLSError(
          .silent,
          "no answer to the TLS handshake within \(limit / 1_000_000) ms; a port without TLS never answers it"
        )
      }
    }
  }

  /// Reads once into `buffer`, which has room for a whole record (16 KiB): so nothing stays in OpenSSL that the
  /// socket's readiness does not tell of.
  mutating func read(into buffer: UnsafeMutableRawBufferPointer) -> Step {
    ERR_clear_error()
    return step(SSL_read(ssl, buffer.baseAddress, Int32(clamping: buffer.count)))
  }

  /// Writes some of `bytes`. What was not taken must be offered again as it is.
  mutating func write(_ bytes: UnsafeRawBufferPointer) -> Step {
    ERR_clear_error()
    let step = step(SSL_write(ssl, bytes.baseAddress, Int32(clamping: bytes.count)))
    if case .waitsToWrite = step, link?.pointee.cannotSend == true { return .cannotSend }
    return step
  }

  /// Says that nothing more will be sent.
  mutating func finishSending() {
    ERR_clear_error()
    _ = SSL_shutdown(ssl)
    _ = shutdown(descriptor, Int32(SHUT_WR))
  }

  private func step(_ result: Int32, doubt: CertificateDoubt? = nil) -> Step {
    if result > 0 { return .moved(Int(result)) }
    switch SSL_get_error(ssl, result) {
    case SSL_ERROR_WANT_READ: return .waitsToRead
    case SSL_ERROR_WANT_WRITE: return link?.pointee.cannotSend == true ? .cannotSend : .waitsToWrite
    case SSL_ERROR_ZERO_RETURN: return .ended
    default:
      if link?.pointee.hasEnded == true { return .ended }
      if let code = link?.pointee.failure {
        return .failed(TLSError(.broken, String(cString: strerror(code))))
      }
      return .failed(
        TLSError(openSSL: ERR_get_error(), doubt: doubt, hasCertificate: hasCertificate))
    }
  }
}

/// What a handshake finds wrong with a certificate. OpenSSL calls back in the thread of the handshake.
private final class Examination {
  let expected: String
  var doubt: CertificateDoubt?

  init(expected: String) { self.expected = expected }

  static func note(_ accepted: Int32, _ store: OpaquePointer?) {
    let index = SSL_get_ex_data_X509_STORE_CTX_idx()
    guard accepted == 0, let ssl = X509_STORE_CTX_get_ex_data(store, index),
      let place = SSL_get_ex_data(OpaquePointer(ssl), 0)
    else { return }
    let examination = Unmanaged<Examination>.fromOpaque(place).takeUnretainedValue()
    if examination.doubt == nil {
      examination.doubt = CertificateDoubt(store, expected: examination.expected)
    }
  }
}

/// The socket as OpenSSL sees it. OpenSSL's own way writes with write(2), which raises SIGPIPE.
private struct Link {
  let descriptor: Int32
  /// The socket takes nothing any more. To OpenSSL it only seems full, so that what the server said before it closed,
  /// perhaps why, can still be read.
  var cannotSend = false
  var hasEnded = false
  /// errno of a failed read.
  var failure: Int32?

  init(descriptor: Int32) { self.descriptor = descriptor }

  /// Source: BIO_meth_new(3).
  private static let method: UInt = {
    guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "nearside socket") else {
      return 0
    }
    BIO_meth_set_write(method) { bio, bytes, count in
      guard let link = of(bio) else { return -1 }
      BIO_clear_flags(bio, retryFlags)
      while true {
        let sent = send(link.pointee.descriptor, bytes, Int(count), Int32(MSG_NOSIGNAL))
        if sent >= 0 { return Int32(sent) }
        if errno == EINTR { continue }
        if errno != EAGAIN { link.pointee.cannotSend = true }
        BIO_set_flags(bio, BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY)
        return -1
      }
    }
    BIO_meth_set_read(method) { bio, bytes, count in
      guard let link = of(bio) else { return -1 }
      BIO_clear_flags(bio, retryFlags)
      while true {
        let received = recv(link.pointee.descriptor, bytes, Int(count), 0)
        if received > 0 { return Int32(received) }
        if received == 0 {
          link.pointee.hasEnded = true
          return 0
        }
        if errno == EINTR { continue }
        if errno == EAGAIN {
          BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
        } else if errno == ECONNRESET {
          link.pointee.hasEnded = true
        } else {
          link.pointee.failure = errno
        }
        return -1
      }
    }
    BIO_meth_set_ctrl(method) { bio, command, _, _ in
      switch command {
      case BIO_CTRL_FLUSH: 1
      case BIO_CTRL_EOF: of(bio)?.pointee.hasEnded == true ? 1 : 0
      default: 0
      }
    }
    return UInt(bitPattern: method)
  }()

  private static let retryFlags =
    BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_IO_SPECIAL | BIO_FLAGS_SHOULD_RETRY

  static func bio(_ link: UnsafeMutablePointer<Link>) -> OpaquePointer? {
    guard let method = OpaquePointer(bitPattern: method), let bio = BIO_new(method) else { return nil }
    BIO_set_data(bio, link)
    BIO_set_init(bio, 1)
    return bio
  }

  private static func of(_ bio: OpaquePointer?) -> UnsafeMutablePointer<Link>? {
    BIO_get_data(bio)?.assumingMemoryBound(to: Link.self)
  }
}

/// Nanoseconds of a clock that is never set.
func monotonic() -> UInt64 {
  var now = timespec()
  clock_gettime(CLOCK_MONOTONIC, &now)
  return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}
