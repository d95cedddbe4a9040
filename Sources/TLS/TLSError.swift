/// Why a connection could not be secured, or broke, as a sentence without its full stop: what is the case, and what
/// to do. It names files and host names, never a secret.
public struct TLSError: Error, Sendable, Hashable, CustomStringConvertible {
  public enum Kind: Sendable, Hashable {
    /// A file of the settings cannot be used.
    case settings
    /// The server's certificate is not accepted here.
    case certificate
    /// The server wants a certificate of this host, or another one.
    case clientCertificate
    /// Both sides cannot agree, or the other side does not speak TLS.
    case disagreement
    /// No answer in time.
    case silent
    /// The connection broke, or could not be made for want of something on this host.
    case broken

    /// Whether trying again later can succeed without anybody changing something.
    public var isTemporary: Bool { self == .silent || self == .broken }
  }

  public var kind: Kind
  public var description: String

  init(_ kind: Kind, _ description: String) {
    self.kind = kind
    self.description = description
  }
}
