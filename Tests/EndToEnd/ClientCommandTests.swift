import TestSupport
import Testing

@Suite("CLIENT and its subcommands, of the clients of the socket", .timeLimit(.minutes(2)))
struct ClientCommandTests {
  @Test("Errors and answers are those of Redis, byte for byte", arguments: [2, 3])
  func asRedis(version: Int) throws {
    let world = try World()
    let redis = try #require(world.redis)
    let sidecar = try world.sidecar()
    let scripts: [[[String]]] = [
      [
        ["CLIENT", "LIST", "TYPE", "nope"], ["CLIENT", "LIST", "ID", "x"], ["CLIENT", "LIST", "x"],
        ["CLIENT", "INFO", "x"],
      ],
      [
        ["CLIENT", "LIST", "TYPE", "master"], ["CLIENT", "LIST", "TYPE"], ["CLIENT", "LIST", "ID", "999999"],
      ],
      [
        ["CLIENT", "KILL"], ["CLIENT", "KILL", "1.2.3.4:5"], ["CLIENT", "KILL", "ID", "0"],
        ["CLIENT", "KILL", "ID", "x"],
      ],
      [
        ["CLIENT", "KILL", "TYPE", "nope"], ["CLIENT", "KILL", "USER", "nope"],
        ["CLIENT", "KILL", "ID", "999999"],
      ],
      [
        ["CLIENT", "KILL", "SKIPME", "maybe"], ["CLIENT", "KILL", "ID", "1", "ADDR"],
        ["CLIENT", "KILL", "x", "y"],
      ],
      [["CLIENT", "REPLY", "x"], ["CLIENT", "REPLY"], ["CLIENT", "REPLY", "ON"], ["PING"]],
      [
        ["CLIENT", "REPLY", "SKIP"], ["PING"], ["ECHO", "a"], ["CLIENT", "REPLY", "SKIP"], ["GET", "x"],
        ["ECHO", "b"],
      ],
      [["CLIENT", "REPLY", "SKIP"], ["CLIENT", "REPLY", "SKIP"], ["ECHO", "a"], ["ECHO", "b"]],
      [
        ["CLIENT", "REPLY", "OFF"], ["RESET"], ["PING"], ["CLIENT", "REPLY", "SKIP"], ["PING"],
        ["ECHO", "a"],
      ],
      [
        ["CLIENT", "REPLY", "OFF"], ["PING"], ["GET", "x"], ["NOSUCH"], ["CLIENT", "REPLY", "SKIP"],
        ["CLIENT", "REPLY", "ON"], ["ECHO", "a"],
      ],
      [
        ["GET", "x"], ["CLIENT", "REPLY", "OFF"], ["GET", "x"], ["CLIENT", "REPLY", "ON"], ["GET", "x"],
        ["ECHO", "a"],
      ],
      [
        ["CLIENT", "REPLY", "OFF"], ["MULTI"], ["GET", "x"], ["EXEC"], ["CLIENT", "REPLY", "ON"],
        ["ECHO", "a"],
      ],
      [
        ["CLIENT", "UNBLOCK"], ["CLIENT", "UNBLOCK", "x"], ["CLIENT", "UNBLOCK", "999999"],
        ["CLIENT", "UNBLOCK", "1", "x"],
      ],
      [
        ["CLIENT", "NO-EVICT"], ["CLIENT", "NO-EVICT", "x"], ["CLIENT", "NO-EVICT", "on"],
        ["CLIENT", "NO-EVICT", "OFF"],
      ],
      [
        ["CLIENT", "SETNAME", "a b"], ["CLIENT", "SETNAME", "a"], ["CLIENT", "GETNAME"],
        ["CLIENT", "SETNAME", ""], ["CLIENT", "GETNAME"],
      ],
    ]
    func run(_ path: String, _ script: [[String]], pipelined: Bool) throws -> String {
      let client = try RESPClient(path)
      if version == 3 { try client.call("HELLO", "3") }
      if pipelined {
        try client.send(raw: script.flatMap(RESPClient.encode))
      } else {
        for command in script { try client.send(command) }
      }
      client.finishSending()
      var answer: [UInt8] = []
      while let byte = try? client.receive(bytes: 1) { answer += byte }
      return String(decoding: answer, as: UTF8.self)
    }
    for script in scripts {
      let expected = try run(redis.socket, script, pipelined: true)
      for pipelined in [true, false] {
        let actual = try run(sidecar.socket, script, pipelined: pipelined)
        #expect(actual == expected, "\(script), pipelined: \(pipelined)")
      }
    }
  }

  @Test("LIST has a line for each client with Redis's fields; KILL ends those that are meant")
  func listAndKill() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let sidecar = try world.sidecar(tcp: true)
    let first = try sidecar.client()
    try first.call("CLIENT", "SETNAME", "first")
    let second = try RESPClient(try sidecar.loopback())
    try second.call("CLIENT", "SETNAME", "second")
    let third = try sidecar.client()
    try third.call("SUBSCRIBE", "a", "b")
    func fields(_ line: Substring) -> [String: String] {
      Dictionary(
        line.split(separator: " ").map {
          let halves = $0.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
          return (String(halves[0]), String(halves[1]))
        }, uniquingKeysWith: { $1 })
    }
    let names = { (text: String) in
      text.split(separator: "\n")[0].split(separator: " ").map { String($0.prefix { $0 != "=" }) }
    }
    let theirs = names(try redis.cli("CLIENT", "INFO"))
    let text = try #require(try first.call("CLIENT", "INFO").text)
    #expect(Array(names(text).prefix(theirs.count)) == theirs)
    let lines = try #require(try first.call("CLIENT", "LIST").text).split(separator: "\n").map(fields)
    let me = try #require(lines.first { $0["name"] == "first" })
    #expect(me["addr"] == "\(sidecar.socket):0" && me["flags"] == "U" && me["cmd"] == "client|list", "\(me)")
    let other = try #require(lines.first { $0["name"] == "second" })
    #expect(other["addr"]?.hasPrefix("127.0.0.1:") == true && other["flags"] == "N", "\(other)")
    let subscribers = try #require(try first.call("CLIENT", "LIST", "TYPE", "pubsub").text)
      .split(separator: "\n").map(fields)
    #expect(subscribers.count == 1 && subscribers[0]["sub"] == "2" && subscribers[0]["flags"] == "PU")

    let id = try #require(other["id"])
    #expect(try first.call("CLIENT", "LIST", "ID", id).text?.split(separator: "\n").count == 1)
    #expect(try first.call("CLIENT", "KILL", "ID", id) == 1)
    #expect(second.isClosed())
    #expect(try first.call("CLIENT", "KILL", "TYPE", "pubsub") == 1)
    #expect(third.isClosed())
    let fourth = try RESPClient(try sidecar.loopback())
    let info = try fourth.call("CLIENT", "INFO").text ?? ""
    let address = try #require(fields(Substring(info))["addr"])
    #expect(try first.call("CLIENT", "KILL", address) == .ok)
    #expect(fourth.isClosed())
    // The harness's last client may not have been noticed to be gone.
    #expect(try first.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no").integerValue ?? 0 >= 1)
    #expect(first.isClosed())
  }

  @Test("UNBLOCK ends a command that blocks, with nothing or with an error")
  func unblock() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let blocked = try sidecar.client()
    let id = try #require(try blocked.call("CLIENT", "ID").integerValue)
    let other = try sidecar.client()
    #expect(try other.call("CLIENT", "UNBLOCK", "\(id)") == 0)
    for (reason, answer) in [
      ("TIMEOUT", Reply.nullArray), ("ERROR", .error("UNBLOCKED client unblocked via CLIENT UNBLOCK")),
    ] {
      try blocked.send("BLPOP", "queue", "0")
      try eventually("it blocks and is unblocked") {
        try other.call("CLIENT", "UNBLOCK", "\(id)", reason) == 1
      }
      #expect(try blocked.receive() == answer)
    }
    #expect(try blocked.call("PING") == .simple("PONG"))
  }
}
