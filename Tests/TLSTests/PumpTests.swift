import Configuration
import Glibc
import TestSupport
import Testing

@testable import TLS

@Suite("The pump between OpenSSL and a socketpair")
struct PumpTests {
  /// A Redis with TLS, and how to reach it.
  private struct Place {
    let authority: Certificates
    let server: RedisServer
    let port: UInt16
    var settings: TLSSettings { TLSSettings(ca: authority.ca) }

    init(_ arguments: [String] = []) throws {
      authority = try Certificates()
      (server, port) = try RedisServer.secured(authority.issue("server"), authority: authority, arguments)
    }

    func client() throws -> RESPClient { try TLSTests.client(port, settings) }
  }

  @Test("A value of 64 MiB arrives whole in both directions")
  func large() throws {
    let place = try Place()
    let client = try place.client()
    client.timeout = .seconds(60)
    var value: [UInt8] = []
    value.reserveCapacity(64 << 20)
    let pattern = (0..<65_000).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 13) }
    while value.count < 64 << 20 { value += pattern }
    try client.send(raw: Array("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$\(value.count)\r\n".utf8) + value + [13, 10])
    #expect(try client.receive() == .ok)
    try client.send("GET", "k")
    #expect(try client.receive() == .bulk(value))
  }

  @Test("A pipeline of any depth is answered in order")
  func pipeline() throws {
    let place = try Place()
    let client = try place.client()
    for _ in 0..<5 {
      let replies = try client.pipeline((0..<5000).map { ["ECHO", "\($0)"] })
      #expect(replies == (0..<5000).map { .bulk("\($0)") })
    }
  }

  @Test("Many connections share the thread, each with its own bytes")
  func many() throws {
    let place = try Place(["--maxclients", "400"])
    let clients = try (0..<150).map { _ in try place.client() }
    for (number, client) in clients.enumerated() { try client.send("ECHO", "\(number)") }
    for (number, client) in clients.enumerated() { #expect(try client.receive() == .bulk("\(number)")) }
  }

  @Test("Who reads slowly holds up nobody else, and is given no more memory than the sockets have")
  func slowReader() throws {
    let place = try Place()
    try place.server.cli("EVAL", "redis.call('SET', 'k', string.rep('x', 33554432))", "0")
    let (slow, quick) = (try place.client(), try place.client())
    slow.timeout = .seconds(60)
    try slow.send("GET", "k")
    // What does not fit into the sockets and the pump stays with the server.
    try eventually("the server cannot send everything") {
      let all = try place.server.cli("CLIENT", "LIST", "TYPE", "normal").split(separator: "\n")
      return all.contains { line in
        line.split(separator: " ").contains {
          $0.hasPrefix("tot-mem=") && (Int($0.dropFirst(8)) ?? 0) > 20 << 20
        }
      }
    }
    for _ in 0..<100 { #expect(try quick.call("PING") == .simple("PONG")) }
    #expect(try slow.receive() == .bulk(String(repeating: "x", count: 32 << 20)))
  }

  @Test("A caller that sends nothing more still gets its answers, and then the end")
  func halfClose() throws {
    let place = try Place()
    let client = try place.client()
    #expect(try client.call("PING") == .simple("PONG"))
    try client.send("ECHO", "last words")
    client.finishSending()
    #expect(try client.receive() == "last words")
    #expect(client.isClosed())
  }

  @Test("What was sent before the socket was closed arrives")
  func closedAtOnce() throws {
    let place = try Place()
    var client: RESPClient? = try place.client()
    let value = String(repeating: "v", count: 4 << 20)
    try client?.send("SET", "k", value)
    client = nil
    try eventually("the value arrives") { try place.server.cli("STRLEN", "k") == "\(value.utf8.count)" }
    try eventually("the connection is closed") {
      try place.server.info("clients", "connected_clients") == "1"
    }
  }

  @Test("A server that is killed ends the connection, without a complaint of TLS")
  func killed() throws {
    let place = try Place()
    let socket = try secure(place.port, place.settings)
    let client = RESPClient(descriptor: socket.descriptor)
    #expect(try client.call("PING") == .simple("PONG"))
    place.server.kill()
    #expect(client.isClosed())
    #expect(socket.ending.error == nil)
  }

  @Test("Keys that the server changes in mid-connection do not disturb it", arguments: ["K", "R"])
  func newKeys(command: String) throws {
    let authority = try Certificates()
    let pair = try authority.issue("server")
    let port = try freePort()
    // The commands of s_server(1): K asks for new keys (TLS 1.3), R negotiates anew (TLS 1.2).
    let commands = authority.folder.file("commands")
    try #require(mkfifo(commands, 0o600) == 0)
    let writer = open(commands, O_RDWR)
    defer { close(writer) }
    let server = try ChildProcess(
      [
        "sh", "-c",
        "exec openssl s_server -accept 127.0.0.1:\(port) -cert \(pair.certificate) -key \(pair.key) "
          + "-\(command == "K" ? "tls1_3" : "tls1_2") <\(commands)",
      ])
    func say(_ text: String) { #expect(write(writer, text, text.utf8.count) == text.utf8.count) }
    var socket: SecureSocket?
    try eventually("the server listens") {
      socket = try secure(port, TLSSettings(ca: authority.ca))
      return true
    }
    let client = RESPClient(descriptor: try #require(socket).descriptor)
    for round in 1...3 {
      say("+before \(round)\r\n")
      // s_server sends a line feed as it is, and reads lines.
      #expect(try client.receive() == .simple("before \(round)"))
      if round > 1 { say("\(command)\n") }
      try client.send(raw: "heard \(round)\n")
      try eventually("the server hears it") { server.output.contains("heard \(round)") }
    }
    #expect(socket?.ending.error == nil)
  }
}
