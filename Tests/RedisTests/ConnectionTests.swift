import Configuration
import Foundation
import Glibc
import Invalidation
import TestSupport
import Testing

@testable import Redis

@Suite("Connections to Redis")
struct ConnectionTests {
  func failure(_ settings: RedisSettings, _ more: [String]? = nil) -> RedisError? {
    do throws(RedisError) {
      var redis = try RedisConnection(settings)
      if let more { _ = try redis.demand(more) }
      return nil
    } catch { return error }
  }

  @Test("Every kind of reply is copied as it is")
  func replies() throws {
    let lab = try Lab()
    var redis = try lab.connect()
    #expect(try redis.call("PING") == .status("PONG"))
    #expect(try redis.call("GET", "none") == nil)
    #expect(try redis.command([Array("SET".utf8), Array("k".utf8), [0, 13, 10, 255]]) == .status("OK"))
    #expect(try redis.call("GET", "k") == .bulk([0, 13, 10, 255]))
    #expect(try redis.call("SET", "k", "") == .status("OK"))
    #expect(try redis.call("GET", "k") == .bulk([]))
    #expect(try redis.call("INCRBY", "n", "-9223372036854775808") == .integer(.min))
    #expect(try redis.call("LPUSH", "n", "x").errorText?.hasPrefix("WRONGTYPE") == true)
    #expect(try redis.eval("return {1,{'a',{{}}},false}", []) == [1, ["a", [[]]], nil])
    let big = String(repeating: "x", count: 3_000_000)
    #expect(try redis.call("ECHO", big) == .init(stringLiteral: big))
  }

  @Test("Pipelined commands are answered in order")
  func pipeline() throws {
    let lab = try Lab()
    var redis = try lab.connect()
    for index in 0..<1000 { try redis.append(["ECHO", "\(index)"]) }
    for index in 0..<1000 { #expect(try redis.receive() == .init(stringLiteral: "\(index)")) }
  }

  @Test("A database is selected, and a TCP address works like a socket")
  func databaseAndTCP() throws {
    // No port can be fixed. One that was free a moment ago may be taken by now, so there is more than one try.
    var (lab, port): (Lab?, UInt16) = (nil, 0)
    for attempt in 1...5 where lab == nil {
      port = try freePort()
      do { lab = try Lab(["--port", "\(port)", "--bind", "127.0.0.1"]) } catch  where attempt < 5 {}
    }
    let server = try #require(lab)
    var settings = server.settings
    settings.endpoint = .tcp(host: "127.0.0.1", port: port)
    settings.database = 3
    var redis = try RedisConnection(settings, name: "by-tcp")
    #expect(try redis.call("SET", "k", "v") == .status("OK"))
    let info = try redis.call("CLIENT", "INFO").text ?? ""
    #expect(info.contains("name=by-tcp") && info.contains("db=3"))
    settings.database = 99
    #expect(failure(settings)?.kind == .answered)
    settings.endpoint = .tcp(host: "127.0.0.1", port: 1)
    let refused = failure(settings)
    #expect(refused?.kind == .unreachable)
    #expect(
      refused?.description.hasPrefix("Redis cannot be reached at 127.0.0.1:1: Connection refused.") == true)
  }

  @Test("A socket that is not there is named, with what to do")
  func unreachable() throws {
    let settings = RedisSettings(
      endpoint: .unix(path: "/nowhere/redis.sock"), user: nil, password: nil, database: 0,
      timeout: 1_000_000_000)
    #expect(
      failure(settings)?.description
        == "Redis cannot be reached at /nowhere/redis.sock: No such file or directory. Is Redis "
        + "running there, and is the address in \"redis\" or REDIS_URL the right one?")
  }

  @Test("A missing, wrong or needless password is told apart, and never shown")
  func passwords() throws {
    let open = try Lab()
    var settings = open.settings
    settings.password = Secret("pr1vate")
    let needless = failure(settings)
    #expect(needless?.kind == .refused)
    #expect(needless?.description.contains("has no password for its default user") == true)
    let lab = try Lab()
    var redis = try lab.connect()
    try redis.call("CONFIG", "SET", "requirepass", "0ther")
    try redis.call("ACL", "SETUSER", "bob", "on", ">b0b", "~*", "&*", "+@all")
    #expect(failure(lab.settings)?.description.contains("asks for a password") == true)
    settings = lab.settings
    settings.password = Secret("pr1vate")
    let wrong = failure(settings)
    #expect(wrong?.kind == .refused)
    #expect(wrong?.description.contains("does not accept the configured user name and password") == true)
    for error in [needless, wrong] { #expect(error?.description.contains("pr1vate") == false) }
    settings.password = Secret("0ther")
    #expect(failure(settings) == nil)
    settings.user = "bob"
    #expect(failure(settings)?.kind == .refused)
    settings.password = Secret("b0b")
    #expect(failure(settings) == nil)
  }

  @Test("A permission that the ACL user lacks is named")
  func permissions() throws {
    let lab = try Lab()
    var redis = try lab.connect()
    try redis.call("ACL", "SETUSER", "bob", "on", ">b0b", "~shop:*", "+get")
    var settings = lab.settings
    settings.user = "bob"
    settings.password = Secret("b0b")
    #expect(failure(settings, ["GET", "shop:1"]) == nil)
    let denied = failure(settings, ["SET", "shop:1", "x"])
    #expect(denied?.kind == .denied)
    #expect(denied?.description.contains("'set'") == true)
  }

  @Test("A server that stops answering is given up after the time-out")
  func timeout() throws {
    let lab = try Lab(timeout: 200_000_000)
    var redis = try lab.connect()
    lab.server.pause()
    defer { lab.server.resume() }
    let start = ContinuousClock.now
    var error: RedisError?
    do throws(RedisError) { _ = try redis.command(["PING"]) } catch let caught { error = caught }
    #expect(error?.kind == .timedOut)
    #expect(ContinuousClock.now - start < .seconds(3))
  }

  @Test("Something else than Redis at the other end is recognised")
  func otherProtocol() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("x.sock")
    let child = try ChildProcess([
      "python3", "-c",
      """
      import socket
      s = socket.socket(socket.AF_UNIX); s.bind("\(path)"); s.listen()
      while True:
        c, _ = s.accept(); c.recv(100); c.sendall(b"HTTP/1.1 400 Bad Request\\r\\n\\r\\n"); c.close()
      """,
    ])
    defer { _ = child.kill() }
    let settings = RedisSettings(
      endpoint: .unix(path: path), user: nil, password: nil, database: 0, timeout: 5_000_000_000)
    try eventually { failure(settings)?.kind == .malformed }
    #expect(
      failure(settings)?.description.hasPrefix("What answers at \(path) does not speak Redis's protocol")
        == true)
  }

  @Test("Connections that fail, at once or at the login, leave no descriptor behind")
  func descriptors() throws {
    let lab = try Lab()
    var redis = try lab.connect()
    try redis.call("CONFIG", "SET", "requirepass", "0ther")
    var settings = lab.settings
    settings.password = Secret("wrong")
    for _ in 0..<200 { #expect(failure(settings)?.kind == .refused) }
    settings.endpoint = .unix(path: "/nowhere")
    for _ in 0..<200 { #expect(failure(settings)?.kind == .unreachable) }
    try eventually("only the first connection is left") {
      let clients = try redis.call("CLIENT", "LIST").text ?? ""
      return clients.split(whereSeparator: \.isNewline).count == 1
    }
  }
}

@Suite("Preflight")
struct PreflightTests {
  func findings(_ lab: Lab, user: String? = nil, password: String? = nil) -> [Finding] {
    var settings = lab.settings
    settings.user = user
    settings.password = password.map { Secret($0) }
    return RedisPreflight.findings(settings: settings, keys: lab.keys, keyPrefix: "shop:")
  }

  @Test("A plain Redis 7 is found fit, and looking leaves nothing behind")
  func fit() throws {
    let lab = try Lab()
    var redis = try lab.connect()
    let before = try redis.everything()
    #expect(findings(lab) == [])
    #expect(try redis.everything() == before)
    #expect(try redis.call("DBSIZE") == 0)
  }

  @Test("A policy that may evict the state is a warning, but only with a memory limit")
  func eviction() throws {
    let lab = try Lab(["--maxmemory-policy", "allkeys-lru"])
    #expect(findings(lab) == [])
    var redis = try lab.connect()
    try redis.call("CONFIG", "SET", "maxmemory", "100mb")
    let found = findings(lab)
    #expect(found.count == 1 && found.first?.severity == .warning)
    #expect(found.first?.sentence.contains("allkeys-lru") == true)
    try redis.call("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    #expect(findings(lab) == [])
  }

  @Test("Writes that are acknowledged must not be evicted, and should outlive a crash")
  func writesBehind() throws {
    let lab = try Lab(["--maxmemory-policy", "allkeys-lru"])
    func findings() -> [Finding] {
      RedisPreflight.findings(
        settings: lab.settings, keys: lab.keys, keyPrefix: "shop:", writesBehind: true)
    }
    #expect(findings().map(\.severity) == [.error, .warning])
    #expect(findings().first?.sentence.contains("allkeys-lru") == true)
    #expect(findings().last?.sentence.contains("appendonly") == true)
    var redis = try lab.connect()
    try redis.call("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    try redis.call("CONFIG", "SET", "appendonly", "yes")
    #expect(findings() == [])
    #expect(try redis.call("DBSIZE") == 0)
  }

  @Test("A replica is refused")
  func replica() throws {
    let primary = try Lab()
    let lab = try Lab(["--replicaof", "127.0.0.1 1"])
    _ = primary
    let found = findings(lab)
    #expect(found.first?.severity == .error)
    #expect(found.first?.sentence.contains("is a replica") == true)
  }

  @Test("A server of a cluster is refused")
  func cluster() throws {
    let lab = try Lab(["--cluster-enabled", "yes"])
    #expect(findings(lab).contains { $0.severity == .error && $0.sentence.contains("Redis Cluster") })
  }

  @Test("Missing permissions are listed by command and key; the user that is recommended lacks none")
  func permissions() throws {
    let lab = try Lab()
    var redis = try lab.connect()
    try redis.call("ACL", "SETUSER", "none", "on", ">n", "~shop:*", "+@all")
    let found = findings(lab, user: "none", password: "n")
    #expect(found.count == 1 && found.first?.severity == .error)
    let text = found.first?.sentence ?? ""
    for part in ["HSET on nearside:{shop}:m", "PUBLISH on nearside:shop", "XADD on nearside:{shop}:j:"] {
      #expect(text.contains(part), "\(text)")
    }
    #expect(!text.contains("UNLINK on shop:"))
    try redis.call(
      "ACL", "SETUSER", "good", "on", ">n", "~nearside:{shop}:*", "~shop:*", "&nearside:shop", "+@all",
      "-@dangerous", "-@admin")
    #expect(findings(lab, user: "good", password: "n") == [])
    try redis.call("ACL", "SETUSER", "mute", "on", ">n", "~*", "&*", "+@all", "-@scripting")
    #expect(findings(lab, user: "mute", password: "n").first?.sentence.contains("EVALSHA") == true)
  }

  @Test("A Redis that is not there, or asks for a password, is the one finding")
  func unreachable() throws {
    let lab = try Lab()
    #expect(
      findings(lab, user: "nobody", password: "x").first?.sentence.contains("does not accept") == true)
    try lab.server.stop()
    let found = findings(lab)
    #expect(found.count == 1)
    #expect(found.first?.sentence.hasPrefix("Redis cannot be reached at") == true)
  }
}
