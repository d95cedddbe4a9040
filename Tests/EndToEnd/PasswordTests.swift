import Glibc
import TestSupport
import Testing

@Suite("Who may connect", .timeLimit(.minutes(2)))
struct PasswordTests {
  @Test("With a password everything is answered as by a Redis that has it", arguments: [false, true])
  func password(byteByByte: Bool) throws {
    let world = try World()
    let redis = try RedisServer()
    try redis.cli("CONFIG", "SET", "requirepass", "s3cret")
    let sidecar = try Sidecar(
      world.configuration, postgres: world.environment["DATABASE_URL"], redis: world.redis?.url,
      environment: ["SOCKET_PASSWORD": "s3cret"], listen: [#""password": "${SOCKET_PASSWORD}""#])
    let scripts: [[[String]]] = [
      [
        ["PING"], ["GET", "x"], ["SET", "x", "1"], ["NOSUCH", "a"], ["GET"], ["SUBSCRIBE", "a"], ["MULTI"],
        ["EXEC"],
      ],
      [
        ["CLIENT", "ID"], ["CONFIG", "GET", "databases"], ["INFO"], ["COMMAND"], ["ECHO", "a"],
        ["SELECT", "1"],
      ],
      [["HELLO"], ["HELLO", "3"], ["HELLO", "2"], ["HELLO", "4"], ["HELLO", "x"], ["PING"]],
      [["HELLO", "3", "AUTH", "default", "wrong"], ["HELLO", "3", "AUTH", "other", "s3cret"], ["PING"]],
      [
        ["AUTH", "wrong"], ["AUTH", "default", "wrong"], ["AUTH", "other", "s3cret"],
        ["AUTH", "a", "b", "c"], ["PING"],
      ],
      [
        ["AUTH"], ["AUTH", ""], ["AUTH", "s3cre"], ["AUTH", "s3crets"], ["AUTH", "s3crets3cret"], ["PING"],
      ],
      [["AUTH", "s3cret"], ["PING"], ["AUTH", "wrong"], ["PING"], ["RESET"], ["PING"]],
      [["AUTH", "default", "s3cret"], ["SET", "x", "1"], ["GET", "x"], ["DEL", "x"]],
      [["QUIT"]],
      [["*11"]], [["PING", String(repeating: "x", count: 16_385)]],
      // What stands behind the password in one piece is bounded as after it.
      [["AUTH", "s3cret"], ["PING", String(repeating: "x", count: 16_385)], ["PING"]],
      [["PING"], ["AUTH", "s3cret"], ["EXISTS"] + (1...12).map { "k\($0)" }, ["PING"]],
    ]
    func run(_ path: String, _ script: [[String]]) throws -> String {
      let client = try RESPClient(path)
      let bytes = script == [["*11"]] ? Array("*11\r\n".utf8) : script.flatMap(RESPClient.encode)
      if byteByByte, bytes.count < 1000 {
        for byte in bytes { try client.send(raw: [byte]) }
      } else {
        try client.send(raw: bytes)
      }
      client.finishSending()
      var answer: [UInt8] = []
      while let byte = try? client.receive(bytes: 1) { answer += byte }
      return String(decoding: answer, as: UTF8.self)
    }
    for script in scripts {
      let expected = try run(redis.socket, script)
      let actual = try run(sidecar.socket, script)
      #expect(actual == expected, "\(script)")
    }
    let client = try sidecar.client()
    let greeting = try client.call("HELLO", "3", "AUTH", "default", "s3cret", "SETNAME", "me")
    #expect(greeting.elements?.count == 14)
    #expect(try client.call("CLIENT", "GETNAME") == "me")
    #expect(!sidecar.log.contains("s3cret"))
    // What is done there is as fast as ever: a near hit is one.
    #expect(try client.call("NEARSIDE", "STATUS").text?.contains("mode:redis") == true)
  }

  @Test("Without a password AUTH takes any, as clients keep that of their old address")
  func noPassword() throws {
    let world = try World(redis: false)
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    #expect(try client.call("AUTH", "anything") == .ok)
    #expect(try client.call("AUTH", "me", "anything") == .ok)
    #expect(try client.call("HELLO", "3", "AUTH", "me", "anything").elements?.count == 14)
  }

  @Test("Whoever is not in the list is told so and let go; whoever is in it by user or group is served")
  func users() throws {
    let world = try World(redis: false)
    func answer(_ listen: [String]) throws -> (Reply, Bool) {
      let sidecar = try Sidecar(
        world.configuration, postgres: world.environment["DATABASE_URL"], redis: nil, listen: listen,
        ready: false)
      // It refuses once it listens, and listens once it has looked at Redis.
      let client = try eventually("it listens") {
        try RESPClient(sidecar.socket)
      } until: { _ in
        true
      }
      return (try client.receive(), client.isClosed())
    }
    let refused = try answer([#""users": ["daemon", "65000"], "groups": ["65001"]"#])
    #expect(
      refused.0.errorText
        == "NOPERM Nearside: user \(getuid()) with group \(getgid()) is neither in listen.users nor in listen.groups "
        + "of the configuration")
    #expect(refused.1)
    for listen in [
      "\"users\": [\"\(getuid())\"]", "\"groups\": [\"\(getgid())\"]",
      "\"users\": [\"65000\"], \"groups\": [\"\(getgid())\"]",
    ] {
      let sidecar = try world.sidecar(listen: [listen])
      #expect(try sidecar.client().call("PING") == .simple("PONG"))
    }
    let unknown = try Sidecar(
      world.configuration, postgres: world.environment["DATABASE_URL"], redis: nil,
      listen: [#""users": ["nobody-of-that-name"]"#], ready: false)
    #expect(try unknown.wait() == .code(73))
    #expect(
      unknown.log.contains(
        #"There is no user "nobody-of-that-name". Create it, or take it out of "listen.users"."#))
  }
}
