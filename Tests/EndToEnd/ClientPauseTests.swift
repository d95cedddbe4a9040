import TestSupport
import Testing

@Suite("CLIENT PAUSE: clients of this socket wait, and nothing else does")
struct ClientPauseTests {
  private static let options = [#""commands": { "allow": ["client"] }"#]

  private func waitUntilPaused(_ count: Int, _ client: RESPClient) throws {
    try eventually("\(count) clients wait") {
      try client.call("INFO", "clients").text?.contains("blocked_clients:\(count)\r\n") == true
    }
  }

  @Test("WRITE holds what writes, in a transaction too, and lets everything else through")
  func write() throws {
    let world = try World(options: Self.options)
    let redis = try #require(world.redis)
    let (a, b) = (try world.sidecar(), try world.sidecar())
    let key = world.key("user:1")
    try warm(key, "v", a)
    let client = try a.client()
    try client.call("SET", "x", "before")
    let held: [[[String]]] = [
      [["SET", "x", "1"]], [["DEL", "y"]], [["PUBLISH", "c", "m"]], [["PFCOUNT", "h"]],
      [["EVAL", "return 1", "0"]],
      [["MULTI"], ["SET", "x", "2"], ["EXEC"]], [["DEL", key]],
    ]
    let waiting = try held.map { _ in try a.client() }
    try waiting[5].call("MULTI")
    #expect(try waiting[5].call("SET", "x", "2") == .simple("QUEUED"))
    #expect(try client.call("CLIENT", "PAUSE", "100000", "WRITE") == .ok)
    for (waiting, commands) in zip(waiting, held) { try waiting.send(commands[commands.count - 1]) }
    try waitUntilPaused(held.count, client)
    // Reads go on, near ones and others, and so do clients of other hosts, and what clears keys.
    #expect(try client.call("GET", "x") == "before")
    #expect(try client.call("GET", key) == "v")
    #expect(
      try client.pipeline([["MULTI"], ["PING"], ["GET", "x"], ["EXEC"]])[3]
        == .array([.simple("PONG"), "before"]))
    #expect(try client.call("EVAL", "#!lua flags=no-writes\nreturn 12", "0") == 12)
    #expect(try client.call("EVAL_RO", "return redis.call('GET',KEYS[1])", "1", "x") == "before")
    #expect(try client.call("SET", "x").errorText == "ERR wrong number of arguments for 'set' command")
    #expect(try b.client().call("SET", "z", "1") == .ok)
    try world.psql("UPDATE users SET name = 'new' WHERE id = 1")
    try world.settle(a, b)
    try expectGone(key, world, a, b)
    #expect(try redis.cli("GET", "x") == "before")
    #expect(try client.call("CLIENT", "LIST").text?.contains("flags=bU ") == true)
    #expect(try client.call("CLIENT", "UNPAUSE") == .ok)
    let replies = try waiting.map { try $0.receive() }
    #expect(replies == [.ok, 0, 0, 0, 1, .array([.ok]), 0])
  }

  @Test("ALL holds near hits as well, and ends by itself")
  func all() throws {
    let world = try World(options: Self.options)
    let a = try world.sidecar()
    let key = world.key("user:1")
    try warm(key, "v", a)
    let (client, other) = (try a.client(), try a.client())
    let begun = ContinuousClock.now
    #expect(try client.call("CLIENT", "PAUSE", "1500") == .ok)
    try client.send("GET", key)
    #expect(try client.receive() == "v")
    #expect(ContinuousClock.now - begun > .seconds(1))
    // Whatever it is, and whoever sends it.
    #expect(try client.call("CLIENT", "PAUSE", "1500") == .ok)
    let again = ContinuousClock.now
    #expect(try other.call("PING") == .simple("PONG"))
    #expect(ContinuousClock.now - again > .seconds(1))
    #expect(try other.call("GET", key) == "v")
  }

  @Test("Its errors are Redis's own")
  func errors() throws {
    let world = try World(options: Self.options)
    let redis = try #require(world.redis)
    let sidecar = try world.sidecar()
    let (client, direct) = (try sidecar.client(), try redis.client())
    for words in [
      ["PAUSE"], ["PAUSE", "x"], ["PAUSE", "-1"], ["PAUSE", "1", "x"], ["PAUSE", "x", "x"], ["UNPAUSE", "x"],
    ] {
      let (own, theirs) = (try client.call(["CLIENT"] + words), try direct.call(["CLIENT"] + words))
      #expect(own == theirs, "\(words)")
    }
    #expect(try client.call("CLIENT", "PAUSE", "0") == .ok)
    #expect(try client.call("SET", "x", "1") == .ok)
  }

  @Test("EXEC says why Redis takes a command no more that it would have queued")
  func execAborted() throws {
    let world = try World(options: [#""commands": { "allow": ["config"] }"#])
    let redis = try #require(world.redis)
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    try client.call("MULTI")
    try client.call("SET", "x", "1")
    try redis.cli("CONFIG", "SET", "min-replicas-to-write", "2")
    let text = try client.call("EXEC").errorText
    #expect(
      text == "EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write.")
    try redis.cli("CONFIG", "SET", "min-replicas-to-write", "0")
    #expect(try client.call("EXISTS", "x") == 0)
  }
}
