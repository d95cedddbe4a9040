import Glibc
import TestSupport
import Testing

@Suite("The loopback listener", .timeLimit(.minutes(2)))
struct LoopbackTests {
  @Test("clients of the loopback address and of the socket are served alike")
  func bothPlaces() throws {
    let world = try World()
    let sidecar = try world.sidecar(tcp: true)
    let place = try sidecar.loopback()
    let tcp = try RESPClient(place)
    #expect(try tcp.call("PING") == .simple("PONG"))
    #expect(try tcp.call("SET", "plain", "1") == .ok)
    #expect(try sidecar.get("plain") == "1")
    #expect(sidecar.log.contains("\(sidecar.socket) and \(place)"), "\(sidecar.log)")

    // A miss and its plain SET, both over TCP, and then a near hit.
    let key = world.key("user:1")
    try eventually("a SET over TCP fills the miss before it") {
      _ = try tcp.call("GET", key)
      _ = try tcp.call("SET", key, "v")
      return try sidecar.hasNear(key)
    }
    #expect(try tcp.call("GET", key) == "v")
    try world.psql("UPDATE users SET name = 'n' WHERE id = 1")
    try world.settle(sidecar)
    #expect(try tcp.call("GET", key) == nil)
  }

  @Test("an address that is taken ends the start with a sentence, and leaves no socket behind")
  func takenAddress() throws {
    let world = try World(redis: false)
    let first = try world.sidecar(tcp: true)
    let port = "\(try first.loopback())"
    let folder = try TemporaryFolder()
    let socket = folder.file("n.sock")
    var text = world.configuration
    text.insert(
      contentsOf: #" "listen": { "socket": "\#(socket)", "tcp": "\#(port)" },"#,
      at: text.index(after: text.startIndex))
    let ended = try Sidecar.command(
      ["run", "--config", folder.write(text, to: "c.json")], environment: world.environment)
    #expect(ended.exit == .code(73), "\(ended.errors)")
    #expect(
      ended.errors.contains(
        "Cannot listen on \(port): Address already in use; give \"listen.tcp\" another port"),
      "\(ended.errors)")
    #expect(access(socket, F_OK) != 0)
  }
}
