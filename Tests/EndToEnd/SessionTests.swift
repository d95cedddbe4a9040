import TestSupport
import Testing

@Suite("What a connection carries: transactions, subscriptions, blocking commands, other databases")
struct SessionTests {
  /// Each is sent as one pipeline.
  private static let scripts: [[[String]]] = [
    [["MULTI"], ["SET", "x", "1"], ["INCR", "x"], ["GET", "x"], ["EXEC"], ["GET", "x"]],
    [["MULTI"], ["EXEC"]],
    [["MULTI"], ["PING"], ["EXEC"], ["PING"]],
    [["MULTI"], ["PING"], ["ECHO", "a"], ["GET", "x"], ["PING", "b"], ["EXEC"], ["PING"]],
    [["MULTI"], ["SET", "x", "a"], ["LPUSH", "x", "b"], ["GET", "x"], ["EXEC"]],
    [["MULTI"], ["SET", "x"], ["SET", "x", "1"], ["EXEC"], ["EXISTS", "x"]],
    [["MULTI"], ["NOSUCHCOMMAND", "a", "b"], ["EXEC"]],
    [["MULTI"], ["MULTI"], ["SET", "x", "1"], ["EXEC"]],
    [["MULTI"], ["WATCH", "x"], ["SET", "x", "1"], ["EXEC"]],
    [["MULTI"], ["SET", "x", "1"], ["DISCARD"], ["GET", "x"]],
    [["EXEC"], ["DISCARD"], ["UNWATCH"]],
    [["WATCH", "x"], ["GET", "x"], ["MULTI"], ["SET", "x", "1"], ["EXEC"], ["GET", "x"]],
    [
      ["WATCH", "x"], ["SET", "x", "0"], ["MULTI"], ["SET", "x", "1"], ["GET", "x"], ["EXEC"], ["GET", "x"],
    ],
    [
      ["WATCH", "x"], ["SET", "x", "0"], ["UNWATCH"], ["MULTI"], ["SET", "x", "1"], ["EXEC"], ["GET", "x"],
    ],
    [["WATCH", "x", "y"], ["SET", "y", "0"], ["MULTI"], ["EXEC"], ["MULTI"], ["EXEC"]],
    [
      ["WATCH", "x"], ["SET", "x", "0"], ["MULTI"], ["SET", "x", "1"], ["DISCARD"], ["MULTI"], ["GET", "x"],
      ["EXEC"],
    ],
    [
      ["MULTI"], ["HSET", "x", "a", "1"], ["HGETALL", "x"], ["SADD", "y", "m"], ["SMEMBERS", "y"], ["EXEC"],
    ],
    [["MULTI"], ["BLPOP", "x", "0"], ["RPUSH", "x", "a"], ["BLPOP", "x", "0"], ["EXEC"]],
    [["MULTI"], ["MSET", "x", "1", "y", "2"], ["MGET", "x", "y"], ["DEL", "x", "y"], ["EXEC"]],
    [["RPUSH", "x", "a", "b"], ["BLPOP", "x", "1"], ["BRPOP", "x", "1"], ["PING"]],
    [["BLPOP", "x", "0.02"], ["PING"]],
    [["XADD", "x", "1-1", "f", "v"], ["XREAD", "COUNT", "1", "STREAMS", "x", "0"]],
    [["XADD", "x", "1-1", "f", "v"], ["XREAD", "BLOCK", "10", "STREAMS", "x", "1-1"], ["PING"]],
    [["WAIT", "0", "10"], ["PING"]],
    [["WAIT", "1", "10"], ["PING"]],
    [
      ["SET", "x", "0"], ["SELECT", "3"], ["SET", "x", "3"], ["GET", "x"], ["SELECT", "0"], ["GET", "x"],
    ],
    [
      ["SELECT", "3"], ["MULTI"], ["SET", "x", "3"], ["GET", "x"], ["EXEC"], ["DEL", "x"], ["SELECT", "0"],
    ],
    [
      ["WATCH", "x"], ["SELECT", "3"], ["SELECT", "0"], ["SET", "x", "1"], ["MULTI"], ["GET", "x"], ["EXEC"],
      ["MULTI"], ["GET", "x"], ["EXEC"],
    ],
    [
      ["WATCH", "x"], ["SELECT", "3"], ["WATCH", "y"], ["SELECT", "0"], ["MULTI"], ["GET", "x"], ["EXEC"],
      ["SELECT", "3"], ["WATCH", "x"], ["SET", "x", "1"], ["SELECT", "0"], ["MULTI"], ["EXEC"],
      ["SELECT", "3"],
      ["DEL", "x"], ["SELECT", "0"],
    ],
    [["WATCH", "x"], ["SELECT", "99"], ["SET", "x", "1"], ["MULTI"], ["GET", "x"], ["EXEC"]],
    [["MULTI"], ["SAVE"], ["EXEC"]],
    [
      ["SELECT", "3"], ["MULTI"], ["PING"], ["ECHO", "a"], ["SET", "x", "1"], ["EXEC"], ["DEL", "x"],
      ["SELECT", "0"],
    ],
    [["SELECT", "3"], ["MULTI"], ["SET", "x", "1"], ["RESET"], ["SELECT", "3"], ["EXISTS", "x"]],
    [["SELECT", "3"], ["WATCH", "x"], ["UNWATCH"], ["SELECT", "0"], ["GET", "x"]],
    [["SELECT", "99"], ["SELECT", "a"], ["SELECT", "-1"], ["GET", "x"]],
    [
      ["SELECT", "3"], ["SELECT", "99"], ["SELECT", "4"], ["EXISTS", "x"], ["SELECT", "0"], ["EXISTS", "x"],
    ],
    [["SELECT", "3"], ["RPUSH", "x", "a"], ["BLPOP", "x", "1"], ["SELECT", "0"]],
    [
      ["SELECT", "3"], ["WATCH", "x"], ["SET", "x", "1"], ["MULTI"], ["EXEC"], ["DEL", "x"], ["SELECT", "0"],
    ],
    [["MULTI"], ["SET", "x", "1"], ["RESET"], ["EXEC"]],
    [["SUBSCRIBE", "a"], ["PING"], ["UNSUBSCRIBE", "a"], ["GET", "x"]],
    [["SUBSCRIBE", "a", "b"], ["PSUBSCRIBE", "c*"], ["UNSUBSCRIBE"], ["PUNSUBSCRIBE"], ["PING", "m"]],
    [["UNSUBSCRIBE"], ["PUNSUBSCRIBE", "x"], ["PING"]],
    [["SSUBSCRIBE", "s"], ["SUNSUBSCRIBE"], ["SET", "x", "1"]],
    [["SUBSCRIBE", "a"], ["GET", "x"], ["RESET"], ["GET", "x"]],
  ]

  @Test("Every script of commands is answered as by Redis itself, byte for byte", arguments: [2, 3])
  func asRedis(version: Int) throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    func run(_ path: String, _ script: [[String]], pipelined: Bool) throws -> [UInt8] {
      try redis.cli("DEL", "x", "y")
      let client = try RESPClient(path)
      if version == 3 { try client.call("HELLO", "3") }
      // RESET goes back to the older protocol, and its answer shows where all others end.
      let last = RESPClient.encode(["ECHO", "the end"])
      if pipelined {
        try client.send(raw: script.flatMap(RESPClient.encode) + RESPClient.encode(["RESET"]) + last)
      } else {
        for command in script + [["RESET"]] { try client.send(command) }
        try client.send(raw: last)
      }
      var bytes: [UInt8] = []
      while !bytes.ends(with: "the end\r\n") { bytes += try client.receive(bytes: 1) }
      return bytes
    }
    for script in Self.scripts {
      // A subscriber's RESP3 messages stand beside its replies, in an order that nothing promises.
      if version == 3, script[0][0].hasSuffix("SUBSCRIBE") { continue }
      let expected = String(decoding: try run(redis.socket, script, pipelined: true), as: UTF8.self)
      for pipelined in [true, false] {
        let actual = String(decoding: try run(a.socket, script, pipelined: pipelined), as: UTF8.self)
        #expect(actual == expected, "\(script), pipelined: \(pipelined)")
      }
    }
  }

  @Test("A transaction of governed keys writes under leases, and reads what Redis holds")
  func governed() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let (a, b) = (try world.sidecar(), try world.sidecar())
    let (ada, bob) = (world.key("user:1"), world.key("user:2"))
    try warm(ada, "old", a, b)
    let client = try a.client()
    #expect(try client.call("GET", bob) == nil)
    try eventually("the miss lies behind the newest change") { () throws -> Reply in
      _ = try client.call("GET", bob)
      return try client.pipeline([["MULTI"], ["SET", bob, "new"], ["GET", bob], ["TTL", bob], ["EXEC"]])[4]
    } until: {
      $0 == .array([.ok, "new", -1])
    }
    #expect(try client.call("GET", bob) == "new")
    // A removal in a transaction reaches the near caches of other hosts.
    #expect(try client.pipeline([["MULTI"], ["DEL", ada], ["EXEC"]])[2] == .array([1]))
    try eventually("it is gone elsewhere") {
      try b.get(ada)
    } until: {
      $0 == nil
    }
    // What Redis holds shows, not what is near; and it is kept near.
    try warm(ada, "one", a)
    try redis.cli("SET", ada, "two")
    #expect(
      try client.pipeline([["MULTI"], ["GET", ada], ["STRLEN", ada], ["EXEC"]])[3] == .array(["two", 3]))
    #expect(try client.call("GET", ada) == "two")
  }

  @Test("A SET in a transaction with an old lease is answered OK and stores nothing")
  func refused() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let key = world.key("user:7")
    let client = try a.client()
    #expect(try client.call("GET", key) == nil)
    try world.psql("UPDATE users SET name = 'x' WHERE id = 7")
    try world.settle(a)
    #expect(try client.pipeline([["MULTI"], ["SET", key, "old"], ["EXEC"]])[2] == .array([.ok]))
    #expect(try redis.cli("EXISTS", key) == "0")
  }

  @Test("A change of the row makes a transaction that watches its key fail")
  func watched() throws {
    let world = try World()
    let a = try world.sidecar()
    let key = world.key("user:3")
    try warm(key, "three", a)
    let client = try a.client()
    #expect(try client.call("WATCH", key) == .ok)
    #expect(try client.call("GET", key) == "three")
    try world.psql("UPDATE users SET name = 'x' WHERE id = 3")
    try world.settle(a)
    #expect(try client.pipeline([["MULTI"], ["SET", "mine", "1"], ["EXEC"]])[2] == .nullArray)
    #expect(try client.call("EXISTS", "mine") == 0)
  }

  @Test("What is watched is read from Redis, never from memory")
  func watchedIsNotNear() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let key = world.key("user:3")
    try warm(key, "near", a)
    try redis.cli("SET", key, "redis")
    let client = try a.client()
    #expect(try client.call("GET", key) == "near")
    try client.call("WATCH", key)
    #expect(try client.call("GET", key) == "redis")
    try client.call("UNWATCH")
  }

  @Test("Messages reach subscribers of both protocols between their other replies", arguments: [2, 3])
  func messages(version: Int) throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let client = try a.client()
    try client.call("HELLO", "\(version)")
    func message(_ elements: Reply...) -> Reply { version == 3 ? .push(elements) : .array(elements) }
    #expect(try client.call("SUBSCRIBE", "news") == message("subscribe", "news", 1))
    #expect(try client.call("PSUBSCRIBE", "w*") == message("psubscribe", "w*", 2))
    for number in 0..<200 { try redis.cli("PUBLISH", number % 2 == 0 ? "news" : "weather", "\(number)") }
    if version == 3 { try client.send(["GET", "x"]) }
    var (seen, replies) = (0, 0)
    while seen < 200 || replies < (version == 3 ? 1 : 0) {
      let next = try client.receive()
      if next == .null {
        replies += 1
        continue
      }
      let expected =
        seen % 2 == 0
        ? message("message", "news", .bulk("\(seen)"))
        : message("pmessage", "w*", "weather", .bulk("\(seen)"))
      #expect(next == expected)
      seen += 1
    }
    #expect(try client.call("UNSUBSCRIBE", "news") == message("unsubscribe", "news", 1))
    #expect(try client.call("PUNSUBSCRIBE") == message("punsubscribe", "w*", 0))
    #expect(try client.call("SET", "x", "1") == .ok)
  }

  @Test("Keyspace notifications come without those about Nearside's own keys")
  func notifications() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    try redis.cli("CONFIG", "SET", "notify-keyspace-events", "KEA")
    let (client, witness) = (try a.client(), try redis.client())
    // One hears patterns, and the other kind of message is heard by name.
    let state = "__keyspace@0__:nearside:{\(world.database)}:m"
    let names = [["PSUBSCRIBE", "__key*"], ["SUBSCRIBE", state], ["SUBSCRIBE", "__keyevent@0__:hset"]]
    for command in names { _ = try client.call(command) }
    // Redis itself does tell of them.
    _ = try witness.call("SUBSCRIBE", state)
    for _ in 0..<3 { _ = try witness.receive() }
    try redis.cli("HSET", "x", "f", "v")
    #expect(try client.receive() == .array(["pmessage", "__key*", "__keyspace@0__:x", "hset"]))
    let both: Set<Reply> = [
      .array(["message", "__keyevent@0__:hset", "x"]),
      .array(["pmessage", "__key*", "__keyevent@0__:hset", "x"]),
    ]
    #expect(try [client.receive(), client.receive()].allSatisfy(both.contains))
  }

  @Test("A script that does not end is ended by SCRIPT KILL, and others are told BUSY until then")
  func endlessScript() throws {
    let world = try World(options: [#""redis": { "timeout": "500ms" }"#])
    let redis = try #require(world.redis)
    #expect(try redis.client().call("CONFIG", "SET", "busy-reply-threshold", "50") == .simple("OK"))
    let a = try world.sidecar()
    let endless = try a.client()
    try endless.send("EVAL", "while true do end", "0")
    let other = try a.client()
    try eventually("the other is told", every: .milliseconds(50)) {
      try other.call("GET", "x").errorText?.hasPrefix("BUSY Redis is busy running a script") == true
    }
    #expect(try other.call("SCRIPT", "KILL") == .simple("OK"))
    try eventually("Redis serves again", every: .milliseconds(50)) { try other.call("GET", "x") == .null }
    #expect(try other.call("SCRIPT", "KILL").errorText?.hasPrefix("NOTBUSY") == true)
  }

  @Test("A client that blocks holds up nobody else, and its connection is used again")
  func blocking() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let waiting = try (0..<20).map { _ in try a.client() }
    for (index, client) in waiting.enumerated() { try client.send("BLPOP", "queue:\(index)", "0") }
    try eventually("all of them block") {
      try redis.info("clients", "blocked_clients")
    } until: {
      $0 == "20"
    }
    let other = try a.client()
    #expect(try other.call("SET", "x", "1") == .ok)
    for index in waiting.indices { #expect(try other.call("RPUSH", "queue:\(index)", "job") == 1) }
    for (index, client) in waiting.enumerated() {
      #expect(try client.receive() == .array([.bulk("queue:\(index)"), "job"]))
      #expect(try client.call("PING") == .simple("PONG"))
    }
    func connections() throws -> Int { try Int(redis.info("clients", "connected_clients") ?? "") ?? -1 }
    let before = try connections()
    for client in waiting { #expect(try client.call("BLPOP", "queue", "0.001") == .nullArray) }
    #expect(try connections() <= before)
    // One that goes away in the middle takes its connection with it.
    try waiting[0].send("BLPOP", "queue", "0")
    try eventually("it blocks") {
      try redis.info("clients", "blocked_clients")
    } until: {
      $0 == "1"
    }
    do {
      let short = try a.client()
      try short.send("BLPOP", "queue", "0")
      try eventually("two block") {
        try redis.info("clients", "blocked_clients")
      } until: {
        $0 == "2"
      }
    }
    try eventually("one blocks") {
      try redis.info("clients", "blocked_clients")
    } until: {
      $0 == "1"
    }
    try other.call("RPUSH", "queue", "last")
    #expect(try waiting[0].receive() == .array(["queue", "last"]))
  }

  @Test("A governed key cannot be blocked on, and its database is the configured one alone")
  func limits() throws {
    let world = try World()
    let a = try world.sidecar()
    let key = world.key("user:1")
    try warm(key, "near", a)
    let client = try a.client()
    #expect(try client.call("BLPOP", key, "1").errorText?.hasPrefix("ERR Nearside: 'blpop'") == true)
    try client.call("SELECT", "5")
    #expect(try client.call("GET", key) == nil)
    #expect(try client.call("SET", key, "other") == .ok)
    #expect(try client.call("SELECT", "0") == .ok)
    #expect(try client.call("GET", key) == "near")
  }

  @Test("HELLO changes the protocol in another database, which stays selected; not while keys are watched")
  func helloElsewhere() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    #expect(try client.call("SELECT", "5") == .ok)
    #expect(try client.call("HSET", "hash", "field", "value") == 1)
    for version in ["3", "2", "3"] {
      let hello = try client.call("HELLO", version)
      #expect(hello.errorText == nil, "\(hello)")
      let hash = try client.call("HGETALL", "hash")
      if version == "3" {
        #expect(hash == .map([Reply.Pair("field", "value")]))
      } else {
        #expect(hash == .array(["field", "value"]))
      }
    }
    #expect(try world.redis?.cli("-n", "5", "EXISTS", "hash") == "1")
    try client.call("WATCH", "hash")
    #expect(try client.call("HELLO", "2").errorText?.contains("while keys are watched") == true)
    #expect(try client.call("UNWATCH") == .ok)
    #expect(try client.call("HELLO", "2").errorText == nil)
    #expect(try client.call("SELECT", "0") == .ok)
    #expect(try client.call("EXISTS", "hash") == 0)
  }

  @Test("From another database nothing reaches past the guards of the configured one")
  func elsewhere() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let key = world.key("user:1")
    let client = try a.client()
    try client.call("SELECT", "3")
    try client.call("SET", key, "old")
    for command in [["MOVE", key, "0"], ["COPY", key, key, "DB", "0", "REPLACE"]] {
      #expect(try client.call(command).errorText?.contains("mapping covers") == true, "\(command)")
    }
    for command in [
      ["NEARSIDE", "INVALIDATE", "KEY", key], ["NEARSIDE", "LEASE", key],
      ["NEARSIDE", "INVALIDATE", "TAG", "x"],
    ] {
      #expect(try client.call(command).errorText?.contains("configured database") == true, "\(command)")
    }
    // What is answered here must not become a part of a transaction there, and then none of it is carried out.
    for command in [
      ["SELECT", "0"], ["CONFIG", "GET", "requirepass"], ["CLIENT", "ID"], ["SUBSCRIBE", "x"],
      ["HELLO", "3"],
    ] {
      #expect(try client.call("MULTI") == .ok)
      #expect(try client.call("SET", "half", "1") == .simple("QUEUED"))
      #expect(try client.call(command).errorText != nil, "\(command)")
      #expect(try client.call("SET", "half", "2").errorText != nil)
      #expect(try client.call("EXEC").errorText?.hasPrefix("EXECABORT") == true)
      #expect(try client.call("EXISTS", "half") == 0)
    }
    try client.call("DEL", key)
    #expect(try client.call("SELECT", "0") == .ok)
    #expect(try client.call("GET", key) == nil)
    #expect(try redis.cli("EXISTS", key) == "0")
  }

  @Test("What was watched or queued on a connection that is gone is void, whatever came in between")
  func lost() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let (watcher, elsewhere, queueing) = (try a.client(), try a.client(), try a.client())
    #expect(try watcher.call("WATCH", "x") == .ok)
    for client in [elsewhere, queueing] { try client.call("SELECT", "3") }
    #expect(try elsewhere.call("WATCH", "x") == .ok)
    #expect(try queueing.call("MULTI") == .ok)
    #expect(try queueing.call("SET", "x", "1") == .simple("QUEUED"))
    redis.kill()
    try redis.start()
    let other = try a.client()
    try eventually("Redis is back") {
      try other.call("SET", "x", "other") == .ok
    } until: {
      $0
    }
    try eventually("it watches on a new connection") {
      try watcher.call("WATCH", "y")
    } until: {
      $0 == .ok
    }
    #expect(try watcher.pipeline([["MULTI"], ["SET", "x", "1"], ["EXEC"]])[2] == .nullArray)
    #expect(try watcher.pipeline([["MULTI"], ["GET", "x"], ["EXEC"]])[2] == .array(["other"]))
    try eventually("it reads on a new connection") {
      try elsewhere.call("GET", "y")
    } until: {
      $0 == nil
    }
    #expect(try elsewhere.call("MULTI") == .ok)
    #expect(try elsewhere.call("SET", "x", "1").errorText != nil)
    #expect(try elsewhere.call("EXEC").errorText?.hasPrefix("EXECABORT") == true)
    #expect(try queueing.call("SET", "y", "1").errorText != nil)
    #expect(try queueing.call("EXEC").errorText?.hasPrefix("EXECABORT") == true)
    #expect(try queueing.call("EXISTS", "x", "y") == 0)
  }

  @Test("Without Redis a transaction is one error, a subscriber is let go, and both work again afterwards")
  func redisGone() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let client = try a.client()
    let watcher = try a.client()
    let subscriber = try a.client()
    try subscriber.call("SUBSCRIBE", "news")
    #expect(try watcher.call("WATCH", "x") == .ok)
    redis.kill()
    #expect(subscriber.isClosed())
    try eventually("the sidecar has noticed") {
      try client.call("GET", "x").errorText != nil
    } until: {
      $0
    }
    let replies = try client.pipeline([
      ["MULTI"], ["SET", "x", "1"], ["PING"], ["GET", "x"], ["EXEC"], ["PING"],
    ])
    #expect(replies[..<4] == [.ok, .simple("QUEUED"), .simple("QUEUED"), .simple("QUEUED")])
    #expect(replies[4].errorText?.hasPrefix("ERR Nearside: upstream Redis is unreachable") == true)
    #expect(replies[5] == .simple("PONG"))
    // What it watched nobody watches any more.
    #expect(try watcher.pipeline([["MULTI"], ["SET", "x", "1"], ["EXEC"]])[2] == .nullArray)
    #expect(
      try client.call("SUBSCRIBE", "a").errorText?.hasPrefix("ERR Nearside: upstream Redis is unreachable")
        == true)
    try redis.start()
    try eventually("transactions work again") {
      try client.pipeline([["MULTI"], ["SET", "x", "1"], ["EXEC"]])[2]
    } until: {
      $0 == .array([.ok])
    }
    try eventually("subscriptions work again") {
      try client.call("SUBSCRIBE", "a")
    } until: {
      $0 == .array(["subscribe", "a", 1])
    }
  }
}

extension [UInt8] {
  fileprivate func ends(with text: String) -> Bool { suffix(text.utf8.count).elementsEqual(text.utf8) }
}
