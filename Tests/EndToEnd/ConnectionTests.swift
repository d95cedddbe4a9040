import Glibc
import TestSupport
import Testing

@Suite("Connections that come and go, and a Redis that does")
struct ConnectionTests {
  @Test("Requests that arrive byte by byte, and inline ones, are understood")
  func pieces() throws {
    let world = try World()
    let a = try world.sidecar()
    try warm(world.key("user:1"), "v", a)
    let client = try a.client()
    for byte in RESPClient.encode(["GET", world.key("user:1")])
      + Array("\r\n\nPING\r\nget \(world.key("user:1"))\n".utf8)
    {
      try client.send(raw: [byte])
    }
    #expect(try client.receive() == "v")
    #expect(try client.receive() == .simple("PONG"))
    #expect(try client.receive() == "v")
    try client.send(raw: "*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n")
    #expect(try client.receive() == .simple("PONG"))
  }

  @Test("A client that goes in the middle of a request, or that does not read, harms nobody")
  func rudeClients() throws {
    let world = try World()
    let a = try world.sidecar()
    let value = String(repeating: "v", count: 100_000)
    try warm(world.key("user:1"), value, a)
    for cut in 1..<25 {
      let client = try a.client()
      try client.send(raw: Array(RESPClient.encode(["GET", world.key("user:1")]).prefix(cut)))
    }
    // Asks for 40 MB and reads none of it.
    let deaf = try a.client()
    let burst = (0..<400).flatMap { _ in RESPClient.encode(["GET", world.key("user:1")]) }
    try deaf.send(raw: burst)
    let polite = try a.client()
    for _ in 0..<50 { #expect(try polite.call("GET", world.key("user:1")) == .bulk(value)) }
    let memory = try #require(a.pid.flatMap { residentBytes($0) })
    #expect(memory < 100_000_000, "\(memory) bytes resident")
    // Its replies were kept, not dropped.
    for _ in 0..<400 {
      guard try deaf.receive() == .bulk(value) else {
        Issue.record("a reply got lost")
        break
      }
    }
  }

  private func residentBytes(_ pid: pid_t) -> Int? {
    guard let fields = readFile("/proc/\(pid)/statm")?.split(separator: " "), fields.count > 1 else {
      return nil
    }
    return Int(fields[1]).map { $0 * Int(sysconf(Int32(_SC_PAGESIZE))) }
  }

  @Test("A client that has sent its last command still gets all replies")
  func halfClosed() throws {
    let world = try World()
    let a = try world.sidecar()
    try warm(world.key("user:1"), "v", a)
    let client = try a.client()
    try client.send(
      raw: (0..<100).flatMap { RESPClient.encode(["SET", "k\($0)", "x"]) }
        + RESPClient.encode(["GET", world.key("user:1")]))
    client.finishSending()
    for _ in 0..<100 { #expect(try client.receive() == .ok) }
    #expect(try client.receive() == "v")
    #expect(client.isClosed())
  }

  @Test("The socket has the mode that the configuration gives it")
  func socketMode() throws {
    let world = try World()
    let folder = try TemporaryFolder()
    let a = try Sidecar(
      world.configuration.replacing(
        "{ \"namespace\"",
        with: "{ \"listen\": { \"socket\": \"\(folder.file("s"))\", \"mode\": \"0600\" }, \"namespace\""),
      postgres: world.postgres.url(database: world.database), redis: world.redis?.url, ready: false)
    try eventually("it listens") { try RESPClient(folder.file("s")).call("PING") == .simple("PONG") }
    var info = stat()
    #expect(stat(folder.file("s"), &info) == 0)
    #expect(info.st_mode & 0o777 == 0o600)
    #expect(a.isRunning)
  }

  @Test(
    "While Redis is away near hits go on within the bound, everything else is an error, and it comes back")
  func redisAway() throws {
    let world = try World(options: [#""staleness": { "bound": "3s" }"#])
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    try warm(world.key("user:1"), "v", a)
    let client = try a.client()
    try redis.stop()
    #expect(try client.call("GET", world.key("user:1")) == "v")
    for command in [["GET", world.key("user:2")], ["SET", "plain", "x"], ["DEL", world.key("user:1")]] {
      let error = try client.call(command).errorText ?? ""
      #expect(error.contains("Redis") && error.contains("unreachable"), "\(command): \(error)")
    }
    #expect(try client.call("PING") == .simple("PONG"))
    #expect(try client.call("INFO").text?.contains("loading:0") == true)
    try eventually("the bound has passed") { try client.call("GET", world.key("user:1")) != "v" }
    try redis.start()
    try a.waitUntilFollowing()
    try warm(world.key("user:3"), "v", a)
    #expect(try client.call("SET", "plain", "x") == .ok)
  }
}
