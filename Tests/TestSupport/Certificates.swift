import Glibc

/// A certificate authority in a folder of its own, and what it has signed; made by the `openssl` command.
public final class Certificates: Sendable {
  public let folder: TemporaryFolder
  /// The authority's own certificate.
  public var ca: String { folder.file("ca.pem") }

  public init() throws {
    folder = try TemporaryFolder()
    try openssl(
      "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
      "-keyout",
      folder.file("ca.key"), "-out", ca, "-subj", "/CN=Test authority", "-addext",
      "keyUsage=critical,keyCertSign")
  }

  /// A certificate and its key.
  public struct Pair: Sendable {
    public let certificate: String
    public let key: String
  }

  /// - Parameters:
  ///   - names: as X.509 writes them, such as `DNS:localhost` or `IP:127.0.0.1`.
  ///   - days: for how long it is valid; less than zero: it has expired.
  public func issue(_ name: String, names: [String] = ["DNS:localhost", "IP:127.0.0.1"], days: Int = 2) throws
    -> Pair
  {
    let pair = Pair(certificate: folder.file(name + ".pem"), key: folder.file(name + ".key"))
    let request = folder.file(name + ".csr")
    let extensions = try folder.write("subjectAltName=" + names.joined(separator: ","), to: name + ".ext")
    try openssl(
      "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", pair.key,
      "-out", request,
      "-subj", "/CN=\(name)")
    try openssl(
      "x509", "-req", "-in", request, "-CA", ca, "-CAkey", folder.file("ca.key"), "-CAcreateserial", "-days",
      "\(days)",
      "-extfile", extensions, "-out", pair.certificate)
    return pair
  }

  private func openssl(_ arguments: String...) throws { try succeed(["openssl"] + arguments) }
}

extension RedisServer {
  /// The arguments of a server that speaks TLS on a port of the loopback interface besides its Unix socket.
  /// - Parameter clients: `tls-auth-clients`: no, optional or yes.
  public static func tls(
    _ pair: Certificates.Pair, authority: Certificates, clients: String = "no", port: UInt16
  ) -> [String] {
    [
      "--bind", "127.0.0.1", "--tls-port", "\(port)", "--tls-cert-file", pair.certificate, "--tls-key-file",
      pair.key, "--tls-ca-cert-file", authority.ca, "--tls-auth-clients", clients,
    ]
  }

  /// Starts such a server; with another port if one that was free a moment ago is taken.
  public static func secured(
    _ pair: Certificates.Pair, authority: Certificates, clients: String = "no", _ arguments: [String] = []
  ) throws -> (server: RedisServer, port: UInt16) {
    var attempt = 1
    while true {
      let port = try freePort()
      do {
        return (
          try RedisServer(tls(pair, authority: authority, clients: clients, port: port) + arguments), port
        )
      } catch  where attempt < 5 { attempt += 1 }
    }
  }
}

/// A port of the loopback interface that nobody listens on at this moment.
public func freePort() throws -> UInt16 {
  let listener = try SocketPlace.loopback(0).listen()
  defer { close(listener.descriptor) }
  guard case .loopback(let port) = listener.place else { throw HarnessError("not a port: \(listener.place)") }
  return port
}
