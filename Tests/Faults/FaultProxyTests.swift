import Glibc
import TestSupport
import Testing

/// The proxy stands before a real Redis here, since that answers each request with one reply.
@Suite("The proxy that harms connections")
struct FaultProxyTests {
  let redis: RedisServer
  let folder: TemporaryFolder
  let proxy: FaultProxy

  init() throws {
    redis = try RedisServer()
    folder = try TemporaryFolder()
    proxy = try FaultProxy(at: .unix(folder.file("p.sock")), to: .unix(redis.socket))
  }

  func client(timeout: Duration = .seconds(5)) throws -> RESPClient {
    try RESPClient(folder.file("p.sock"), timeout: timeout)
  }

  @Test("Bytes pass unchanged, many at once, in both directions")
  func passes() throws {
    let client = try client()
    let value = String(repeating: "v", count: 3_000_000)
    #expect(try client.call("SET", "k", value) == .ok)
    #expect(try client.call("GET", "k") == .bulk(value))
    let replies = try client.pipeline((0..<500).map { ["ECHO", "\($0)"] })
    #expect(replies == (0..<500).map { .bulk("\($0)") })
    #expect(proxy.forwarded(.toServer) > 3_000_000 && proxy.forwarded(.toClient) > 3_000_000)
  }

  @Test("Cut closes what exists, and new connections work")
  func cut() throws {
    let client = try client()
    #expect(try client.call("PING") == .simple("PONG"))
    proxy.cut()
    #expect(client.isClosed())
    #expect(try self.client().call("PING") == .simple("PONG"))
    try eventually("the server has seen the end") { proxy.connections <= 1 }
  }

  @Test("Refused connections are closed at once, others stay")
  func refuse() throws {
    let old = try client()
    #expect(try old.call("PING") == .simple("PONG"))
    proxy.refuse()
    #expect(try client().isClosed())
    #expect(try old.call("PING") == .simple("PONG"))
    proxy.heal()
    #expect(try client().call("PING") == .simple("PONG"))
  }

  @Test("A frozen direction passes nothing until it is healed, not even the end", arguments: [true, false])
  func freeze(toServer: Bool) throws {
    let client = try client(timeout: .milliseconds(150))
    #expect(try client.call("SET", "k", "0") == .ok)
    proxy.freeze([toServer ? .toServer : .toClient])
    try client.send("INCR", "k")
    #expect(throws: HarnessError.self) { try client.receive() }
    // Whether the request arrived tells the directions apart.
    #expect(try redis.cli("GET", "k") == (toServer ? "0" : "1"))
    proxy.heal()
    client.timeout = .seconds(5)
    #expect(try client.receive() == 1)
    proxy.freeze()
    client.finishSending()
    client.timeout = .milliseconds(150)
    #expect(!client.isClosed())
    #expect(proxy.connections == 1)
    proxy.heal()
    client.timeout = .seconds(5)
    #expect(client.isClosed())
    try eventually("nothing is left") { proxy.connections == 0 }
  }

  @Test("A delay holds each byte as long as it was told, and bytes keep their order")
  func delay() throws {
    let client = try client()
    let clock = ContinuousClock()
    proxy.delay(.milliseconds(80), [.toClient])
    var began = clock.now
    #expect(try client.call("PING") == .simple("PONG"))
    #expect(began.duration(to: clock.now) >= .milliseconds(80))
    proxy.delay(.milliseconds(40))
    began = clock.now
    let replies = try client.pipeline((0..<20).map { ["ECHO", "\($0)"] })
    #expect(replies == (0..<20).map { .bulk("\($0)") })
    let both = began.duration(to: clock.now)
    // Twenty requests are on their way at the same time: they do not wait for each other.
    #expect(both >= .milliseconds(80) && both < .milliseconds(800))
  }

  @Test("A throttled direction passes no more than it may")
  func throttle() throws {
    let client = try client()
    try client.call("SET", "k", String(repeating: "v", count: 50_000))
    proxy.throttle(bytesPerSecond: 100_000, [.toClient])
    let time = try ContinuousClock().measure { _ = try client.call("GET", "k") }
    #expect(time >= .milliseconds(350) && time < .seconds(3), "\(time)")
  }

  @Test("It can be pointed to another server, and listens on a free port of its own")
  func point() throws {
    let other = try RedisServer()
    try redis.cli("SET", "who", "first")
    try other.cli("SET", "who", "second")
    let front = try FaultProxy(at: .loopback(0), to: proxy.place)
    guard case .loopback(let port) = front.place else {
      Issue.record("not a port")
      return
    }
    #expect(port > 0)
    #expect(try succeed(["redis-cli", "-p", "\(port)", "GET", "who"]) == "first")
    let old = try client()
    #expect(try old.call("GET", "who") == "first")
    proxy.point(to: .unix(other.socket))
    #expect(try succeed(["redis-cli", "-p", "\(port)", "GET", "who"]) == "second")
    #expect(try old.call("GET", "who") == "first")
    try other.stop()
    #expect(try client().isClosed())
  }

  @Test("It leaves neither socket nor connection behind")
  func end() throws {
    let path = folder.file("q.sock")
    var client: RESPClient?
    do {
      let proxy = try FaultProxy(at: .unix(path), to: .unix(redis.socket))
      #expect(proxy.connections == 0)
      client = try RESPClient(path)
      #expect(try client?.call("PING") == .simple("PONG"))
    }
    #expect(client?.isClosed() == true)
    #expect(access(path, F_OK) != 0)
  }
}

@Suite("The client for SQL")
struct SQLClientTests {
  @Test("Rows, parameters, errors, and a standby that is promoted")
  func sql() throws {
    let primary = try PostgresServer()
    let client = try SQLClient(primary.url())
    #expect(try client.query("SELECT $1::int + 1, NULL, 'a'", ["41"]) == [["42", nil, "a"]])
    let failure = #expect(throws: SQLClient.Failure.self) { try client.query("SELECT 1/0") }
    #expect(failure?.code == "22012" && !client.isBroken)
    try client.query("CREATE TABLE t (id int)")
    let standby = try PostgresServer(standbyOf: primary)
    try client.query("INSERT INTO t VALUES (1)")
    try eventually("the standby has the row") { try standby.psql("SELECT count(*) FROM t") == "1" }
    #expect(try standby.psql("SELECT pg_is_in_recovery()") == "t")
    primary.kill()
    #expect(throws: SQLClient.Failure.self) { try client.query("SELECT 1") }
    #expect(client.isBroken)
    try standby.promote()
    try standby.psql("INSERT INTO t VALUES (2)")
    #expect(try standby.psql("SELECT count(*) FROM t") == "2")
  }
}
