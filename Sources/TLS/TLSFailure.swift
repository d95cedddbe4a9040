import COpenSSL

// What OpenSSL's errors mean to whoever has to mend them.
extension TLSError {
  /// - Parameters:
  ///   - error: what ERR_get_error returned.
  ///   - doubt: what was wrong with the server's certificate, if that was looked at.
  ///   - hasCertificate: whether this host has one to show.
  init(openSSL error: UInt, doubt: CertificateDoubt?, hasCertificate: Bool) {
    let reason = ERR_GET_REASON(error)
    switch reason {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
      if let doubt {
        self = TLSError(doubt)
      } else {
        self.init(.certificate, "the server's certificate is not trusted")
      }
    case SSL_R_WRONG_VERSION_NUMBER, SSL_R_BAD_RECORD_TYPE, SSL_R_HTTP_REQUEST, SSL_R_PACKET_LENGTH_TOO_LONG:
      self.init(
        .disagreement,
        "what answers does not speak TLS; name Redis's tls-port, or write redis:// if it has none")
    case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_NO_PROTOCOLS_AVAILABLE:
      self.init(
        .disagreement, "the server speaks no TLS of version 1.2 or later; allow it there (tls-protocols)")
    case SSL_AD_REASON_OFFSET..<SSL_AD_REASON_OFFSET + 256:
      self.init(alert: reason - SSL_AD_REASON_OFFSET, hasCertificate: hasCertificate)
    default:
      self.init(.broken, "TLS failed (\(reasonText(error)))")
    }
  }

  /// What the server sent before it closed. Source: RFC 8446, section 6.
  private init(alert: Int32, hasCertificate: Bool) {
    let name = String(cString: SSL_alert_desc_string_long(alert))
    switch alert {
    case TLS13_AD_CERTIFICATE_REQUIRED:
      self.init(.clientCertificate, Self.wantsCertificate)
    case SSL_AD_HANDSHAKE_FAILURE where !hasCertificate:
      // Before TLS 1.3 there was no alert of its own for it.
      self.init(
        .clientCertificate,
        "the server refuses the handshake; it may want a certificate of this host (redis.tls.certificate and "
          + "redis.tls.key), or allow no cipher that is allowed here")
    case SSL_AD_HANDSHAKE_FAILURE:
      self.init(
        .disagreement, "the server refuses the handshake; it may allow no cipher that is allowed here")
    case SSL_AD_BAD_CERTIFICATE, SSL_AD_UNSUPPORTED_CERTIFICATE, SSL_AD_CERTIFICATE_REVOKED,
      SSL_AD_CERTIFICATE_EXPIRED, SSL_AD_CERTIFICATE_UNKNOWN, SSL_AD_UNKNOWN_CA, SSL_AD_ACCESS_DENIED:
      self.init(
        .clientCertificate,
        hasCertificate
          ? "the server does not accept this host's certificate (\(name)); is redis.tls.certificate of the CA "
            + "that the server trusts, and still valid?"
          : Self.wantsCertificate)
    case SSL_AD_PROTOCOL_VERSION:
      self.init(
        .disagreement, "the server speaks no TLS of version 1.2 or later; allow it there (tls-protocols)")
    case SSL_AD_UNRECOGNIZED_NAME:
      self.init(
        .disagreement,
        "the server does not know the name it was asked for; give the right one as "
          + "redis.tls.serverName")
    default: self.init(.broken, "the server ended TLS (\(name))")
    }
  }

  private static let wantsCertificate =
    "the server wants a certificate of this host; give one as redis.tls.certificate, with its redis.tls.key"

  init(_ doubt: CertificateDoubt) {
    let text = String(cString: X509_verify_cert_error_string(Int(doubt.code)))
    switch doubt.code {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      self.init(
        .certificate,
        "the server's certificate\(doubt.depth == 0 ? "" : " authority") has expired (\(doubt.validity)); renew it, "
          + "or correct this host's clock")
    case X509_V_ERR_CERT_NOT_YET_VALID:
      self.init(
        .certificate,
        "the server's certificate\(doubt.depth == 0 ? "" : " authority") is not valid yet (\(doubt.validity)); is "
          + "this host's clock right?")
    case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
      self.init(
        .certificate,
        "the server's certificate is not for \"\(doubt.expected)\" but for \(doubt.names); name the server so, or "
          + "give the name as redis.tls.serverName")
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
      X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
      X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_CERT_SIGNATURE_FAILURE:
      self.init(
        .certificate,
        "the server's certificate is signed by nobody who is trusted here (\(text)); name its CA's file as "
          + "redis.tls.ca")
    default: self.init(.certificate, "the server's certificate is not accepted (\(text))")
    }
  }
}

/// OpenSSL's words for an error, such as `no shared cipher`.
func reasonText(_ error: UInt) -> String {
  ERR_reason_error_string(error).map { String(cString: $0) } ?? "error \(ERR_GET_REASON(error))"
}

/// What the verification of a server's certificate stumbled over first.
struct CertificateDoubt: Hashable {
  /// One of X509_V_ERR_….
  var code: Int32
  /// 0: the server's own certificate, otherwise one above it.
  var depth: Int32
  /// The name or address that was looked for.
  var expected: String
  /// Those that stand in the certificate.
  var names = "no name"
  /// From when to when it is valid.
  var validity = ""

  init(_ store: OpaquePointer?, expected: String) {
    code = X509_STORE_CTX_get_error(store)
    depth = X509_STORE_CTX_get_error_depth(store)
    self.expected = expected
    guard let certificate = X509_STORE_CTX_get_current_cert(store) else { return }
    validity =
      "\(Self.date(X509_get0_notBefore(certificate))) to \(Self.date(X509_get0_notAfter(certificate)))"
    let place = X509_get_ext_by_NID(certificate, NID_subject_alt_name, -1)
    if place >= 0, let text = Self.printed({ X509V3_EXT_print($0, X509_get_ext(certificate, place), 0, 0) }),
      !text.isEmpty
    {
      names = text
    }
  }

  private static func date(_ time: UnsafePointer<ASN1_TIME>?) -> String {
    printed { ASN1_TIME_print($0, time) } ?? "?"
  }

  /// What `body` writes, at most 300 bytes of it; control bytes, which a certificate may hold, become spaces.
  private static func printed(_ body: (OpaquePointer?) -> Int32) -> String? {
    guard let memory = BIO_new(BIO_s_mem()) else { return nil }
    defer { BIO_free(memory) }
    guard body(memory) == 1 else { return nil }
    var bytes = [UInt8](repeating: 0, count: 300)
    let count = BIO_read(memory, &bytes, Int32(bytes.count))
    guard count > 0 else { return nil }
    return String(decoding: bytes[..<Int(count)].map { $0 < 0x20 || $0 == 0x7f ? 0x20 : $0 }, as: UTF8.self)
  }
}
