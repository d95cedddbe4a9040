import TestSupport
import Testing

@Suite("Reads from memory, and everything else relayed")
struct NearReadTests {
  @Test("Near hits of GET, MGET, EXISTS and STRLEN are no work for Redis", arguments: [2, 3])
  func noWorkForRedis(version: Int) throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let key = world.key("user:42")
    let other = world.key("product:1")
    try warm(key, "ada", a)
    try warm(other, "soap", a)
    let client = try a.client()
    #expect(try client.call("HELLO", "\(version)").elements?.contains(.integer(Int64(version))) == true)
    func calls() throws -> [Int] {
      try ["get", "mget", "exists", "strlen", "pttl"].map { try redis.calls($0) }
    }
    let before = try calls()
    let hits = try a.count("near_hits")
    for _ in 0..<250 {
      let replies = try client.pipeline([
        ["GET", key], ["MGET", key, other], ["EXISTS", key, other, key], ["STRLEN", other],
      ])
      #expect(replies == ["ada", .array(["ada", "soap"]), 3, 4])
    }
    #expect(try calls() == before)
    #expect(try a.count("near_hits") - hits >= 250 * 7)
  }

  @Test("A miss in both protocols is nil of that protocol")
  func misses() throws {
    let world = try World()
    let a = try world.sidecar()
    let client = try a.client()
    try client.send("GET", world.key("user:1"))
    #expect(try client.receive(bytes: 5) == Array("$-1\r\n".utf8))
    #expect(try client.call("MGET", world.key("user:1"), world.key("user:2")) == .array([nil, nil]))
    try client.call("HELLO", "3")
    try client.send("GET", world.key("user:1"))
    #expect(try client.receive(bytes: 3) == Array("_\r\n".utf8))
  }

  @Test("Keys that no mapping covers are Redis's own affair, and never kept near")
  func ungoverned() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let client = try a.client()
    for key in ["elsewhere", world.key("lock:x"), world.key("user:1:extra"), "other:user:1"] {
      #expect(try client.call("SET", key, "1", "NX") == .ok)
      #expect(try client.call("GET", key) == "1")
      try redis.cli("SET", key, "2")
      #expect(try client.call("GET", key) == "2", "\(key)")
      #expect(try client.call("DEL", key) == 1)
      #expect(try redis.cli("EXISTS", key) == "0")
    }
  }

  /// What takes a value away, or changes how long it lives, is heard of by every sidecar. A value that is put
  /// there counts as read from the same row as the one before it, so other hosts may keep theirs.
  @Test(
    "After a write its sidecar answers what Redis holds, and after a removal or a new time to live all of them do"
  )
  func writesDropNearCopies() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let b = try world.sidecar()
    let client = try a.client()
    let writes: [[String]] = [
      ["SETEX", "KEY", "100", "new"], ["PSETEX", "KEY", "100000", "new"], ["SETNX", "KEY", "new"],
      ["SET", "KEY", "new", "XX", "KEEPTTL"], ["SET", "KEY", "new", "GET"], ["GETSET", "KEY", "new"],
      ["GETDEL", "KEY"], ["GETEX", "KEY", "PX", "90000"], ["GETEX", "KEY", "PERSIST"], ["DEL", "KEY"],
      ["UNLINK", "KEY"], ["EXPIRE", "KEY", "50"], ["PEXPIRE", "KEY", "50000"],
      ["EXPIREAT", "KEY", "99999999999"],
      ["EXPIRE", "KEY", "-1"], ["PERSIST", "KEY"], ["APPEND", "KEY", "1"], ["SETRANGE", "KEY", "1", "9"],
      ["INCR", "KEY"], ["DECRBY", "KEY", "3"], ["INCRBYFLOAT", "KEY", "1.5"], ["MSET", "KEY", "new"],
      ["SETBIT", "KEY", "7", "1"],
    ]
    for (number, write) in writes.enumerated() {
      let key = world.key("user:\(number + 1)")
      try warm(key, "5", a, b)
      // The same on a key beside it, to learn what Redis does.
      let twin = "twin:\(number)"
      try redis.cli("SET", twin, "5")
      let expected = try redis.client().call(write.map { $0 == "KEY" ? twin : $0 })
      let reply = try client.call(write.map { $0 == "KEY" ? key : $0 })
      #expect(reply == expected, "\(write)")
      let value = try redis.client().call("GET", twin)
      #expect(try redis.client().call("GET", key) == value, "\(write) in Redis")
      #expect(try a.get(key) == value, "\(write) through the same sidecar")
      if ["DEL", "UNLINK", "GETDEL", "EXPIRE", "PEXPIRE", "EXPIREAT", "PERSIST", "GETEX"].contains(write[0]) {
        try eventually("\(write) is seen through the other sidecar") {
          try b.get(key)
        } until: {
          $0 == value
        }
      }
      let ttl = try redis.client().call("TTL", twin).integerValue ?? 0
      let mine = try client.call("TTL", key).integerValue ?? 0
      #expect(abs(ttl - mine) <= 2, "\(write): TTL \(mine), in Redis \(ttl)")
    }
  }

  @Test("A near copy does not outlive the key's time to live")
  func expiry() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    let key = world.key("user:1")
    let lease = try a.client().call("NEARSIDE", "LEASE", key)
    let token = try #require(lease.elements?.last?.text)
    #expect(try a.client().call("NEARSIDE", "FILL", key, token, "short", "PX", "3000") == 1)
    let clock = ContinuousClock()
    let end = clock.now.advanced(by: .milliseconds(3000))
    #expect(try b.get(key) == "short")
    while clock.now < end.advanced(by: .milliseconds(-500)) {
      let reply = try a.get(key)
      if clock.now < end.advanced(by: .milliseconds(-500)) { #expect(reply == "short") }
      sleep(.milliseconds(20))
    }
    sleep(.milliseconds(560))
    #expect(try a.get(key) == nil)
    #expect(try b.get(key) == nil)
  }

  @Test("near.ttl bounds how long a copy is kept, and near false keeps none")
  func nearOptions() throws {
    let world = try World(options: [
      #""near": { "ttl": "3s", "maxEntry": "1KiB" }"#,
      #""caches": { "product:{id}": { "near": false } }"#,
    ])
    let a = try world.sidecar()
    let redis = try #require(world.redis)
    try a.store(world.key("user:1"), "v")
    try a.store(world.key("product:1"), "v")
    try a.store(world.key("user:2"), String(repeating: "x", count: 5000))
    #expect(try a.hasNear(world.key("user:1")))
    #expect(try !a.hasNear(world.key("product:1")))
    #expect(try !a.hasNear(world.key("product:1")))
    #expect(try !a.hasNear(world.key("user:2")))
    #expect(try a.client().call("STRLEN", world.key("user:2")) == 5000)
    sleep(.milliseconds(3050))
    let before = try redis.calls("get")
    #expect(try a.get(world.key("user:1")) == "v")
    #expect(try redis.calls("get") > before)
  }

  @Test("A small near cache evicts, and reads stay right")
  func eviction() throws {
    let world = try World(options: [#""near": { "size": "1MiB" }"#])
    let a = try world.sidecar()
    let client = try a.client()
    let value = String(repeating: "v", count: 2000)
    for id in 1...1500 {
      let lease = try client.call("NEARSIDE", "LEASE", world.key("product:\(id)"))
      let token = try #require(lease.elements?.last?.text)
      #expect(try client.call("NEARSIDE", "FILL", world.key("product:\(id)"), token, value + "\(id)") == 1)
    }
    for id in 1...1500 {
      let reply = try client.call("GET", world.key("product:\(id)"))
      guard reply == .bulk(value + "\(id)") else {
        Issue.record("product \(id): \(reply)")
        break
      }
    }
    #expect(try a.count("near_evicted") > 0)
    #expect(try a.count("near_bytes") <= 1 << 20)
  }

  @Test("Values of every kind of bytes and of a megabyte come back as they went in")
  func bytes() throws {
    let world = try World()
    let a = try world.sidecar()
    let client = try a.client()
    let key = world.key("user:1")
    let all = (0...255).map { UInt8($0) } + Array("\r\n$-1\r\n*1\r\n".utf8)
    for value in [[], [0], all, [UInt8](repeating: 0x0d, count: 1_000_000)] {
      #expect(try client.call("DEL", key).integerValue != nil)
      try eventually("the value is stored") {
        _ = try client.call("GET", key)
        let lease = try client.call("NEARSIDE", "LEASE", key)
        guard let token = lease.elements?.last?.text else { throw HarnessError("\(lease)") }
        var request = Array("*5\r\n$8\r\nNEARSIDE\r\n$4\r\nFILL\r\n$\(key.utf8.count)\r\n\(key)\r\n".utf8)
        request += Array("$\(token.utf8.count)\r\n\(token)\r\n$\(value.count)\r\n".utf8) + value + [13, 10]
        try client.send(raw: request)
        return try client.receive() == 1
      }
      for _ in 0..<3 { #expect(try client.call("GET", key) == .bulk(value)) }
    }
  }

  @Test("Hits, misses, relays and local answers of one pipeline keep their order")
  func order() throws {
    let world = try World()
    let a = try world.sidecar()
    try warm(world.key("user:1"), "one", a)
    let client = try a.client()
    var commands: [[String]] = []
    var expected: [Reply] = []
    for turn in 0..<200 {
      commands += [
        ["GET", world.key("user:1")], ["SET", "plain:\(turn)", "\(turn)"], ["GET", world.key("user:2")],
        ["ECHO", "e\(turn)"], ["GET", "plain:\(turn)"], ["INCR", "counter"], ["GET", world.key("user:1")],
        ["NONSENSE"], ["MGET", world.key("user:1"), "plain:\(turn)", world.key("user:3")],
      ]
      expected += [
        "one", .ok, nil, .bulk("e\(turn)"), .bulk("\(turn)"), .integer(Int64(turn + 1)), "one",
        .error("ERR unknown command 'NONSENSE', with args beginning with: "),
        .array(["one", .bulk("\(turn)"), nil]),
      ]
    }
    let replies = try client.pipeline(commands)
    for (index, reply) in replies.enumerated() where reply != expected[index] {
      Issue.record("\(commands[index]): \(reply), not \(expected[index])")
      break
    }
  }

  @Test("Relayed replies are Redis's, byte for byte, in either protocol", arguments: [2, 3])
  func relayed(version: Int) throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let commands: [[String]] = [
      ["HSET", "h", "f", "v", "g", "w"], ["HGETALL", "h"], ["HGET", "h", "none"], ["RPUSH", "l", "a", "b"],
      ["LRANGE", "l", "0", "-1"], ["SADD", "s", "x"], ["SMEMBERS", "s"], ["ZADD", "z", "1.5", "m"],
      ["ZRANGE", "z", "0", "-1", "WITHSCORES"], ["ZSCORE", "z", "m"], ["TYPE", "z"], ["LPUSH", "h", "x"],
      ["GET", "h"], ["GET"], ["SET", "k"], ["SET", "k", "v", "NONSENSE"], ["INCR", "h"],
      ["OBJECT", "ENCODING", "l"],
      ["SCAN", "0", "COUNT", "1000", "MATCH", "zz*"], ["EVAL", "return {1,'two',false}", "0"],
      ["EXPIRE", "l", "x"],
      ["ZADD", "z", "nan", "m"], ["COPY", "l", "l2"], ["XADD", "x", "1-1", "f", "v"],
      ["XRANGE", "x", "-", "+"],
      ["BITCOUNT", "none"], ["STRLEN", "h"], ["EXISTS", "h", "h"], ["MGET", "h", "k"], ["DBSIZE", "extra"],
    ]
    let direct = try redis.client()
    try direct.call("HELLO", "\(version)")
    try direct.call("FLUSHALL")
    let expected = try commands.map { try direct.call($0) }
    try direct.call("DEL", "h", "l", "l2", "s", "z", "x", "k")
    let client = try a.client()
    try client.call("HELLO", "\(version)")
    for (command, reply) in zip(commands, expected) {
      #expect(try client.call(command) == reply, "\(command)")
    }
  }

  @Test("Connection commands answer as a standalone Redis does")
  func connection() throws {
    let world = try World()
    let a = try world.sidecar()
    let client = try a.client()
    #expect(try client.call("PING") == .simple("PONG"))
    #expect(try client.call("ping", "hello") == "hello")
    #expect(try client.call("ECHO", "x") == "x")
    #expect(try client.call("AUTH", "old", "password") == .ok)
    #expect(try client.call("SELECT", "0") == .ok)
    #expect(try client.call("SELECT", "x").errorText?.hasPrefix("ERR") == true)
    #expect(try client.call("CLIENT", "SETNAME", "shop") == .ok)
    #expect(try client.call("CLIENT", "GETNAME") == "shop")
    #expect(try client.call("CLIENT", "SETINFO", "LIB-NAME", "test") == .ok)
    #expect(try client.call("CLIENT", "ID").integerValue ?? 0 > 0)
    #expect(try client.call("CONFIG", "GET", "databases") == .array(["databases", "16"]))
    #expect(try client.call("CONFIG", "SET", "save", "").errorText?.hasPrefix("NOPERM") == true)
    #expect(try client.call("CLUSTER", "SLOTS") == .error("ERR This instance has cluster support disabled"))
    #expect(try client.call("COMMAND", "COUNT").integerValue ?? 0 > 100)
    let info = try client.call("INFO").text ?? ""
    for line in ["redis_version:7", "redis_mode:standalone", "role:master", "loading:0", "# Nearside"] {
      #expect(info.contains(line), "\(line) in INFO")
    }
    // Clients make a table of it, in which the last of two lines with one name counts.
    let names = info.split(whereSeparator: \.isNewline).compactMap { $0.split(separator: ":").first }
      .filter { !$0.hasPrefix("#") }
    #expect(Set(names).count == names.count)
    let hello = try client.call("HELLO", "3")
    guard case .map(let pairs) = hello else {
      Issue.record("HELLO 3: \(hello)")
      return
    }
    let keys: [Reply] = ["server", "version", "proto", "id", "mode", "role", "modules"]
    #expect(pairs.map(\.key) == keys)
    #expect(pairs.contains(Reply.Pair("proto", 3)))
    #expect(try client.call("HELLO", "4") == .error("NOPROTO unsupported protocol version"))
    #expect(try client.call("CLIENT", "INFO").text?.contains("resp=3") == true)
    #expect(try client.call("RESET") == .simple("RESET"))
    try client.send("GET", world.key("user:1"))
    #expect(try client.receive(bytes: 5) == Array("$-1\r\n".utf8))
    #expect(try client.call("QUIT") == .ok)
    #expect(client.isClosed())
  }

  @Test("What is not to be had through this socket gets a clear error, and the connection goes on")
  func refused() throws {
    let world = try World()
    let a = try world.sidecar()
    let client = try a.client()
    for command in [
      ["MONITOR"], ["FLUSHALL"], ["SHUTDOWN"], ["DEBUG", "SLEEP", "0"], ["SYNC"],
      ["BLPOP", world.key("user:1"), "0"], ["NO.SUCHCOMMAND", world.key("user:1")],
    ] {
      let error = try client.call(command).errorText
      #expect(error != nil, "\(command)")
      #expect((error ?? "").utf8.count > 20, "\(command): \(error ?? "")")
      #expect(try client.call("PING") == .simple("PONG"))
    }
  }
}
