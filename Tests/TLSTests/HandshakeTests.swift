import Configuration
import Glibc
import TestSupport
import Testing

@testable import TLS

@Suite("Handshakes with a real Redis")
struct HandshakeTests {
  @Test("A server with a certificate of the right authority and name is spoken to, by name and by address")
  func good() throws {
    let authority = try Certificates()
    let (server, port) = try RedisServer.secured(authority.issue("server"), authority: authority)
    let settings = TLSSettings(ca: authority.ca)
    for host in ["localhost", "127.0.0.1"] {
      let client = RESPClient(descriptor: try secure(port, settings, host: host).descriptor)
      #expect(try client.call("PING") == .simple("PONG"))
    }
    #expect(try refusal(port, TLSSettings(ca: authority.ca, serverName: "localhost"), host: "other") == nil)
    _ = server
  }

  @Test("A certificate that is not right is refused, and the reason says which of all")
  func certificates() throws {
    let authority = try Certificates()
    let other = try Certificates()
    let (server, port) = try RedisServer.secured(
      authority.issue("server", names: ["DNS:cache.internal", "IP:127.0.0.9"]), authority: authority)
    let settings = TLSSettings(ca: authority.ca)
    let wrongName = try #require(try refusal(port, settings))
    #expect(wrongName.kind == .certificate)
    #expect(
      wrongName.description
        == "the server's certificate is not for \"localhost\" but for DNS:cache.internal, IP Address:127.0.0.9; "
        + "name the server so, or give the name as redis.tls.serverName")
    #expect(
      try refusal(port, settings, host: "127.0.0.1")?.description.contains("not for \"127.0.0.1\"") == true)
    #expect(try refusal(port, settings, host: "127.0.0.9") == nil)
    #expect(try refusal(port, TLSSettings(ca: authority.ca, serverName: "cache.internal")) == nil)
    let untrusted = try #require(try refusal(port, TLSSettings(ca: other.ca, serverName: "cache.internal")))
    #expect(untrusted.kind == .certificate)
    #expect(untrusted.description.contains("signed by nobody who is trusted here"))
    #expect(try refusal(port, TLSSettings(serverName: "cache.internal")) == untrusted)
    #expect(try refusal(port, TLSSettings(verifies: false)) == nil)
    _ = server
  }

  @Test("An expired certificate is refused with its dates")
  func expired() throws {
    let authority = try Certificates()
    let (server, port) = try RedisServer.secured(authority.issue("old", days: -1), authority: authority)
    let error = try #require(try refusal(port, TLSSettings(ca: authority.ca)))
    #expect(error.kind == .certificate)
    #expect(error.description.hasPrefix("the server's certificate has expired ("))
    #expect(error.description.contains(" to ") && error.description.contains("GMT"))
    _ = server
  }

  @Test(
    "A server that asks for a client certificate gets one, or says that it wants one",
    arguments: ["1.2", "1.3"])
  func clientCertificates(version: String) throws {
    let authority = try Certificates()
    let other = try Certificates()
    let (server, port) = try RedisServer.secured(
      authority.issue("server"), authority: authority, clients: "yes", ["--tls-protocols", "TLSv\(version)"])
    var settings = TLSSettings(ca: authority.ca)
    let missing = try #require(try refusal(port, settings))
    #expect(missing.kind == .clientCertificate)
    #expect(missing.description.contains("redis.tls.certificate"))
    let stranger = try other.issue("stranger")
    (settings.certificate, settings.key) = (stranger.certificate, stranger.key)
    let unknown = try #require(try refusal(port, settings))
    #expect(unknown.kind == .clientCertificate)
    #expect(unknown.description.contains("does not accept this host's certificate (unknown CA)"))
    let friend = try authority.issue("friend")
    (settings.certificate, settings.key) = (friend.certificate, friend.key)
    #expect(try refusal(port, settings) == nil)
    // Both in one file.
    let both = try authority.folder.write(
      succeed(["cat", friend.certificate, friend.key]), to: "both.pem")
    #expect(try refusal(port, TLSSettings(ca: authority.ca, certificate: both)) == nil)
    _ = server
  }

  @Test("A file that cannot be used is named, and no key is asked for on the terminal")
  func files() throws {
    let authority = try Certificates()
    let pair = try authority.issue("client")
    let (server, port) = try RedisServer.secured(authority.issue("server"), authority: authority)
    let folder = authority.folder
    let text = try folder.write("secret", to: "text.pem")
    let locked = folder.file("locked.key")
    try succeed(["openssl", "ec", "-aes128", "-passout", "pass:secret", "-in", pair.key, "-out", locked])
    let other = try authority.issue("other")
    for (settings, expected) in [
      (TLSSettings(ca: "/nowhere.pem"), "the file /nowhere.pem (redis.tls.ca) cannot be read: No such file"),
      (TLSSettings(ca: text), "the file \(text) (redis.tls.ca) holds no certificates"),
      (TLSSettings(certificate: text), "the file \(text) (redis.tls.certificate) holds no certificate"),
      (
        TLSSettings(certificate: pair.certificate, key: "/nowhere.key"),
        "the file /nowhere.key (redis.tls.key) cannot be read: No such file"
      ),
      (
        TLSSettings(certificate: pair.certificate, key: locked),
        "the file \(locked) (redis.tls.key) holds no private"
      ),
      (
        TLSSettings(certificate: pair.certificate, key: other.key),
        "the file \(other.key) (redis.tls.key) holds no private key"
      ),
      (
        TLSSettings(certificate: pair.certificate),
        "the file \(pair.certificate) (redis.tls.certificate) holds no private key"
      ),
    ] {
      let error = try #require(try refusal(port, settings))
      #expect(error.kind == .settings)
      #expect(error.description.hasPrefix(expected), "\(error)")
    }
    _ = server
  }

  @Test("A certificate that was renewed in its file counts for the next connection")
  func renewed() throws {
    let (old, new) = (try Certificates(), try Certificates())
    let (server, port) = try RedisServer.secured(new.issue("server"), authority: new)
    let folder = try TemporaryFolder()
    let ca = folder.file("ca.pem")
    try succeed(["cp", old.ca, ca])
    #expect(try refusal(port, TLSSettings(ca: ca))?.kind == .certificate)
    try succeed(["cp", new.ca, ca])
    #expect(try refusal(port, TLSSettings(ca: ca)) == nil)
    _ = server
  }

  @Test("A server that does not speak TLS, speaks an old one or none at all is told apart")
  func strangers() throws {
    let authority = try Certificates()
    let settings = TLSSettings(ca: authority.ca)
    // One that speaks first.
    let talker = try SocketPlace.loopback(0).listen()
    guard case .loopback(let port) = talker.place else { throw HarnessError("no port") }
    defer { close(talker.descriptor) }
    let connection = try #require(talker.place.connect())
    let accepted = accept(talker.descriptor, nil, nil)
    let greeting = "-ERR this is no TLS, whatever you say\r\n"
    #expect(send(accepted, greeting, greeting.utf8.count, 0) == greeting.utf8.count)
    let plain = #expect(throws: TLSError.self) {
      try SecureSocket.open(over: connection, host: "localhost", settings: settings, within: 5_000_000_000)
    }
    close(accepted)
    #expect(plain?.kind == .disagreement)
    #expect(plain?.description.hasPrefix("what answers does not speak TLS") == true)
    // One that never answers: the kernel accepts, nobody else.
    let silent = try #require(try refusal(port, settings, within: .milliseconds(150)))
    #expect(silent.kind == .silent)
    #expect(silent.description.hasPrefix("no answer to the TLS handshake within 150 ms"))
    // A Redis without TLS answers, or waits for the end of a line.
    let redis = try RedisServer(["--bind", "127.0.0.1", "--port", "\(try freePort())"])
    let number = UInt16(try redis.cli("CONFIG", "GET", "port").split(separator: "\n")[1]) ?? 0
    let noTLS = try #require(try refusal(number, settings, within: .milliseconds(300)))
    #expect([.disagreement, .silent, .broken].contains(noTLS.kind), "\(noTLS)")
    #expect(noTLS.description.contains("TLS"))
  }
}
