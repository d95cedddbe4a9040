import Foundation
import TestSupport
import Testing

/// A world whose sidecars reach Redis through TLS only; the tests themselves reach it through its Unix socket.
private struct SecuredWorld {
  let world: World
  let redis: RedisServer
  let authority: Certificates
  let pair: Certificates.Pair
  let port: UInt16

  var environment: [String: String] { ["REDIS_URL": "rediss://localhost:\(port)"] }

  /// - Parameter tls: further members of `redis.tls`.
  init(tls: [String] = [], clients: String = "no") throws {
    authority = try Certificates()
    pair = try authority.issue("server", names: ["DNS:localhost"])
    port = try freePort()
    let members = (["\"ca\": \"\(authority.ca)\""] + tls).joined(separator: ", ")
    world = try World(
      options: ["\"redis\": { \"tls\": { \(members) } }"],
      redisArguments: RedisServer.tls(pair, authority: authority, clients: clients, port: port))
    redis = try #require(world.redis)
  }

  func sidecar() throws -> Sidecar { try world.sidecar(environment: environment) }

  /// What the relay's clients are told.
  func trouble(_ sidecar: Sidecar, _ part: String) throws {
    let client = try sidecar.client()
    try eventually("clients are told: \(part)") {
      try client.call("GET", "other")
    } until: {
      $0.errorText?.hasPrefix("ERR Nearside: upstream Redis is unreachable (") == true
        && $0.errorText?.contains(part) == true
    }
  }
}

@Suite("Redis behind TLS")
struct SecuredTests {
  @Test(
    "Everything works as without: fills, hits, invalidation, messages, transactions, blocking, large values")
  func everything() throws {
    let place = try SecuredWorld()
    let world = place.world
    let (a, b) = (try place.sidecar(), try place.sidecar())
    let ada = world.key("user:1")
    try warm(ada, "ada", a, b)
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try world.settle(a, b)
    try expectGone(ada, world, a, b)
    let connections = try place.redis.cli("CLIENT", "LIST").split(separator: "\n").filter {
      $0.contains(" name=nearside")
    }
    #expect(
      connections.count >= 3 && connections.allSatisfy { $0.contains(" laddr=127.0.0.1:\(place.port) ") })

    let client = try a.client()
    client.timeout = .seconds(60)
    #expect(
      try client.pipeline([["MULTI"], ["SET", "x", "1"], ["GET", "x"], ["EXEC"]])[3] == .array([.ok, "1"]))
    let subscriber = try a.client()
    #expect(try subscriber.call("SUBSCRIBE", "news") == .array(["subscribe", "news", 1]))
    try place.redis.cli("PUBLISH", "news", "hello")
    #expect(try subscriber.receive() == .array(["message", "news", "hello"]))

    let block = [UInt8](repeating: 0x61, count: 1000) + [13, 10, 0, 255]
    var value: [UInt8] = []
    while value.count < 64 << 20 { value += block }
    try client.send(
      raw: Array("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$\(value.count)\r\n".utf8) + value + [13, 10])
    #expect(try client.receive() == .ok)
    try client.send("GET", "big")
    #expect(try client.receive() == .bulk(value))
  }

  @Test(
    "Two hundred clients with connections of their own, a thousand connections, and no descriptor is left over"
  )
  func many() throws {
    let place = try SecuredWorld()
    let sidecar = try place.sidecar()
    let pid = try #require(sidecar.pid)
    // Connections that nobody uses are kept for the next client, each with three descriptors.
    func descriptors() throws -> Int {
      let all = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count
      return try all - 3 * sidecar.count("own_connections")
    }
    let redis = try place.redis.client()
    redis.timeout = .seconds(30)
    func waiting() throws -> [Substring] {
      (try redis.call("CLIENT", "LIST").text ?? "").split(separator: "\n").filter {
        $0.contains(" cmd=blpop ") && $0.contains(" flags=b ")
      }
    }
    func round(_ count: Int, killed: Bool) throws {
      let clients = try (0..<count).map { _ in try sidecar.client(timeout: .seconds(30)) }
      for (number, client) in clients.enumerated() { try client.send("BLPOP", "queue:\(number)", "0") }
      try eventually("all wait", within: .seconds(60)) {
        try waiting().count
      } until: {
        $0 == count
      }
      if killed {
        let ids = try waiting().compactMap { $0.split(separator: " ").first?.dropFirst(3) }
        _ = try redis.pipeline(ids.map { ["CLIENT", "KILL", "ID", String($0)] })
        for client in clients { #expect(try client.receive().errorText?.contains("unreachable") == true) }
      } else {
        _ = try redis.pipeline((0..<count).map { ["RPUSH", "queue:\($0)", "\($0)"] })
        for (number, client) in clients.enumerated() {
          #expect(try client.receive() == .array([.bulk("queue:\(number)"), .bulk("\(number)")]))
        }
      }
    }
    try round(10, killed: true)
    try eventually("only one client is left") { try sidecar.status()["clients"] == "1" }
    let before = try descriptors()
    try round(200, killed: false)
    for number in 0..<16 { try round(50, killed: number % 2 == 0) }
    try eventually("nothing is left over", within: .seconds(30)) {
      try descriptors()
    } until: {
      $0 == before
    }
  }

  @Test(
    "Redis may die and come back, also with another certificate, and clients are told what is wrong meanwhile"
  )
  func outages() throws {
    let place = try SecuredWorld()
    let sidecar = try place.sidecar()
    try warm(place.world.key("user:1"), "ada", sidecar)
    place.redis.kill()
    #expect(try sidecar.get(place.world.key("user:1")) == "ada")
    try place.trouble(sidecar, "localhost:\(place.port): Connection refused")
    try place.redis.start()
    try eventually("it is back") { try sidecar.client().call("SET", "other", "1") == .ok }

    // From here on the server has certificates that this host does not accept.
    let other = try Certificates()
    func change(_ pair: Certificates.Pair) throws {
      try place.redis.cli("CONFIG", "SET", "tls-cert-file", pair.certificate, "tls-key-file", pair.key)
      try place.redis.cli("CLIENT", "KILL", "TYPE", "normal")
    }
    try change(other.issue("stranger"))
    try place.trouble(sidecar, "signed by nobody who is trusted here")
    try change(place.authority.issue("elsewhere", names: ["DNS:elsewhere.internal"]))
    try place.trouble(sidecar, "is not for \"localhost\" but for DNS:elsewhere.internal")
    try change(place.authority.issue("old", days: -1))
    try place.trouble(sidecar, "has expired (")
    try change(place.pair)
    try eventually("it is back") { try sidecar.client().call("SET", "other", "1") == .ok }
    // What a server finds only after the handshake (TLS 1.3) is told too.
    try place.redis.cli("CONFIG", "SET", "tls-auth-clients", "yes")
    try place.redis.cli("CLIENT", "KILL", "TYPE", "normal")
    try place.trouble(sidecar, "wants a certificate of this host; give one as redis.tls.certificate")
    let check = try place.world.command("check", environment: place.environment)
    #expect(check.exit == .code(1))
    #expect(
      check.errors.contains(
        "error: There is no TLS connection to Redis at localhost:\(place.port): the server wants a certificate of this "
          + "host; give one as redis.tls.certificate, with its redis.tls.key."), "\(check.errors)")
    try place.redis.cli("CONFIG", "SET", "tls-auth-clients", "no")
    try eventually("it is back") { try sidecar.client().call("SET", "other", "1") == .ok }
    #expect(sidecar.isRunning)
  }

  @Test("A server that wants a certificate of its clients gets the configured one")
  func clientCertificate() throws {
    let folder = try TemporaryFolder()
    let (certificate, key) = (folder.file("c.pem"), folder.file("c.key"))
    let place = try SecuredWorld(
      tls: ["\"certificate\": \"\(certificate)\"", "\"key\": \"\(key)\""], clients: "yes")
    let missing = try place.world.command("check", environment: place.environment)
    #expect(missing.exit == .code(1))
    #expect(missing.errors.contains("the file \(certificate) (redis.tls.certificate) cannot be read"))
    let pair = try place.authority.issue("host")
    try succeed(["cp", pair.certificate, certificate])
    try succeed(["cp", pair.key, key])
    let check = try place.world.command("check", environment: place.environment)
    #expect(check.exit == .code(0), "\(check.errors)")
    let sidecar = try place.sidecar()
    try warm(place.world.key("user:1"), "ada", sidecar)
  }

  @Test("What cannot work is said at the start: no TLS where rediss:// points, and TLS where redis:// points")
  func mixedUp() throws {
    let place = try SecuredWorld()
    let plain = try RedisServer(["--bind", "127.0.0.1", "--port", "\(try freePort())"])
    let plainPort = try plain.cli("CONFIG", "GET", "port").split(separator: "\n")[1]
    let noTLS = try place.world.command(
      "check", environment: ["REDIS_URL": "rediss://localhost:\(plainPort)"])
    #expect(noTLS.exit != .code(0))
    #expect(
      noTLS.errors.contains("There is no TLS connection to Redis at localhost:\(plainPort): "),
      "\(noTLS.errors)")
    let world = try World(
      redisArguments: RedisServer.tls(place.pair, authority: place.authority, port: try freePort()))
    let tlsPort = try #require(try world.redis?.cli("CONFIG", "GET", "tls-port").split(separator: "\n")[1])
    let noPlain = try world.command("check", environment: ["REDIS_URL": "redis://localhost:\(tlsPort)"])
    #expect(noPlain.exit != .code(0))
    #expect(noPlain.errors.contains("Redis at localhost:\(tlsPort)"), "\(noPlain.errors)")
    #expect(noPlain.errors.contains("rediss://"), "\(noPlain.errors)")
    let unverified = try World(options: [#""redis": { "tls": { "verify": false } }"#])
    let check = try unverified.command("check", "--offline", environment: ["REDIS_URL": "rediss://h"])
    #expect(check.exit == .code(0))
    #expect(check.errors.contains("warning: whoever can reach this network can pretend to be this Redis"))
  }

  @Test("While Redis takes nothing, nobody burns time")
  func idle() throws {
    let place = try SecuredWorld()
    let sidecar = try place.sidecar()
    let pid = try #require(sidecar.pid)
    let tasks = "/proc/\(pid)/task"
    let thread = try #require(
      try FileManager.default.contentsOfDirectory(atPath: tasks).first {
        (try? String(contentsOfFile: "\(tasks)/\($0)/comm", encoding: .utf8)) == "redis-tls\n"
      })
    /// In hundredths of a second (proc(5): utime and stime).
    func time() throws -> Int {
      let text = try String(contentsOfFile: "\(tasks)/\(thread)/stat", encoding: .utf8)
      let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
      return (Int(fields[12]) ?? 0) + (Int(fields[13]) ?? 0)
    }
    let client = try sidecar.client()
    place.redis.pause()
    defer { place.redis.resume() }
    // More than the sockets hold, so that the pump has something that the network does not take.
    try client.send("SET", "x", String(repeating: "x", count: 16 << 20))
    // Time must pass, on purpose: what is measured is that nothing happens in it.
    sleep(.milliseconds(500))
    let before = try time()
    sleep(.seconds(1))
    #expect(try time() - before < 20)
  }
}
