import TestSupport
import Testing

/// What reads and writes several keys, or runs a script on them: carried out, with what it may not leave removed.
@Suite("Scripts and commands of several keys, on keys that a mapping covers")
struct KeyCommandTests {
  private static let add =
    "if redis.call('EXISTS',KEYS[1])==1 then return 0 end redis.call('SET',KEYS[1],ARGV[1],'EX',100) return 1"

  /// In place of `1`, `2`, `3` stand the names of governed keys, in that of `q` of one that is not.
  private static let scripts: [[[String]]] = [
    [["EVAL", add, "1", "1", "v"], ["EVAL", add, "1", "1", "w"], ["GET", "1"]],
    [["EVAL", "return redis.call('INCRBY',KEYS[1],ARGV[1])", "1", "1", "5"], ["GET", "1"], ["TTL", "1"]],
    [["EVAL", "return {KEYS[1]==ARGV[1],1.5,false,{ok='fine'}}", "1", "1", "x"]],
    [["EVAL", "return redis.error_reply('MY error')", "1", "1"], ["EVAL", "syntax error", "1", "1"]],
    [["EVALSHA", "ffffffffffffffffffffffffffffffffffffffff", "1", "1"], ["EVAL", "x", "-1", "1"]],
    [["EVAL", "return 1", "0"], ["EVAL", "return 1", "2", "1"], ["EVAL", "return 1", "x", "q"]],
    [["SET", "1", "a"], ["EVAL", "return redis.call('DEL',KEYS[1])", "1", "1"], ["EXISTS", "1"]],
    [["SET", "1", "a"], ["EVAL_RO", "return redis.call('GET',KEYS[1])", "1", "1"]],
    [["SADD", "q", "a", "b"], ["SUNIONSTORE", "1", "q", "nosuch"], ["SMEMBERS", "1"], ["TYPE", "1"]],
    [["RPUSH", "q", "a", "b"], ["LMOVE", "q", "1", "LEFT", "RIGHT"], ["LRANGE", "1", "0", "-1"]],
    [["ZADD", "q", "1", "a", "2", "b"], ["ZRANGESTORE", "1", "q", "0", "-1"], ["ZRANGE", "1", "0", "-1"]],
    [["ZADD", "q", "1", "a"], ["ZUNIONSTORE", "1", "1", "q", "WEIGHTS", "3"], ["ZSCORE", "1", "a"]],
    [["SET", "q", "v"], ["RENAME", "q", "1"], ["GET", "1"], ["EXISTS", "q"], ["RENAME", "q", "1"]],
    [
      ["SET", "q", "v"], ["COPY", "q", "1"], ["GET", "1"], ["COPY", "q", "1"], ["COPY", "q", "1", "REPLACE"],
    ],
    [["MSETNX", "1", "a", "q", "b"], ["MSETNX", "1", "c"], ["GET", "1"]],
    [
      ["RPUSH", "1", "c", "a", "b"], ["SORT", "1", "ALPHA"], ["SORT", "1", "ALPHA", "STORE", "q"],
      ["LLEN", "q"],
    ],
    [["RPUSH", "1", "a", "b"], ["LMPOP", "2", "nosuch", "1", "LEFT"], ["LLEN", "1"]],
    [
      ["SADD", "1", "a", "b"], ["SADD", "q", "b"], ["SINTERCARD", "2", "1", "q"], ["SMOVE", "1", "q", "a"],
    ],
    [
      ["ZADD", "1", "1", "a"], ["ZINTER", "1", "1", "WITHSCORES"], ["ZUNION", "1", "1"],
      ["ZMPOP", "1", "1", "MIN"],
    ],
    [
      ["SET", "1", "v"], ["OBJECT", "ENCODING", "1"], ["RENAME", "1", "q"], ["GET", "q"], ["EXISTS", "1"],
    ],
    [
      ["SET", "1", "v"], ["MOVE", "1", "5"], ["EXISTS", "1"], ["SELECT", "5"], ["DEL", "1"], ["SELECT", "0"],
    ],
    [["XADD", "1", "1-1", "f", "v"], ["XREAD", "STREAMS", "1", "0"], ["XGROUP", "CREATE", "1", "g", "0"]],
    [
      ["PFADD", "q", "a"], ["PFMERGE", "1", "q"], ["PFCOUNT", "1"], ["BITOP", "NOT", "1", "q"],
      ["STRLEN", "1"],
    ],
    [
      ["MULTI"], ["EVAL", add, "1", "1", "v"], ["GET", "1"], ["RENAME", "1", "q"], ["EXEC"], ["GET", "q"],
    ],
  ]

  private func texts(_ replies: [Reply]) -> [String] { replies.map { "\($0)" } }

  @Test("are answered as Redis answers them, in both protocols", arguments: scripts)
  func differential(script: [[String]]) throws {
    let world = try World(options: [#""plainSetWindow": "10ms""#])
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    for (index, version) in ["2", "3"].enumerated() {
      let commands = script.map { command in
        [command[0]]
          + command.dropFirst().enumerated().map { place, word in
            switch word {
            case "1" where place > 0 || !["SINTERCARD"].contains(command[0]):
              isCount(command, place + 1) ? "1" : world.key("user:\(index + 1)")
            case "q", "nosuch": "\(word)\(index)"
            default: word
            }
          }
      }
      let direct = try redis.client()
      try direct.call("HELLO", version)
      let expected = try commands.map { try direct.call($0) }
      try direct.call("DEL", world.key("user:\(index + 1)"), "q\(index)")
      let client = try a.client()
      try client.call("HELLO", version)
      var found: [Reply] = []
      for _ in 0..<20 {
        // The own miss that a fill needs.
        try client.call("GET", world.key("user:\(index + 1)"))
        found = try commands.map { try client.call($0) }
        // On a busy machine a window may be over before the write is looked at.
        if !texts(found).contains(where: { $0.hasPrefix("-TRYAGAIN") }) { break }
        try direct.call("DEL", world.key("user:\(index + 1)"), "q\(index)")
      }
      #expect(texts(found) == texts(expected), "\(commands)")
      try direct.call("DEL", world.key("user:\(index + 1)"), "q\(index)")
    }
  }

  /// Whether the word at this place counts keys, or is a number of another kind.
  private func isCount(_ command: [String], _ place: Int) -> Bool {
    switch command[0] {
    case "EVAL", "EVAL_RO", "EVALSHA", "ZUNIONSTORE": place == 2
    case "SINTERCARD", "ZINTER", "ZUNION", "LMPOP", "ZMPOP": place == 1
    case "ZADD": place == 2
    default: false
    }
  }

  @Test("What a script writes from before a change is answered and not kept")
  func late() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let b = try world.sidecar()
    let key = world.key("user:42")
    let client = try a.client()
    #expect(try client.call("GET", key) == nil)
    try world.psql("UPDATE users SET name = 'new' WHERE id = 42")
    try world.settle(a, b)
    let refused = try a.count("fills_refused")
    #expect(try client.call("EVAL", Self.add, "1", key, "old") == 1)
    #expect(try redis.cli("EXISTS", key) == "0")
    #expect(try a.count("fills_refused") == refused + 1)
    try expectGone(key, world, a, b)
    // RENAME of a value read before is no way around it.
    try client.call("SET", "elsewhere", "old")
    #expect(try client.call("RENAME", "elsewhere", key) == .ok)
    try expectGone(key, world, a, b)
    #expect(try redis.cli("HEXISTS", "nearside:{\(world.database)}:m", "x") == "0")
  }

  @Test("What a script only looks at stays, though no lease lets it be written")
  func unchanged() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let (a, b) = (try world.sidecar(), try world.sidecar())
    let (one, two) = (world.key("user:1"), world.key("user:2"))
    let client = try a.client()
    // A miss of before a change, and a value of after it: what this host would write now is refused.
    #expect(try client.call("GET", one) == nil)
    try world.psql("UPDATE users SET name = 'new' WHERE id = 1")
    try world.settle(a, b)
    for key in [one, two] { try b.store(key, "v") }
    let refused = try a.count("fills_refused")
    let look = "return redis.call('GET',KEYS[1])"
    for _ in 0..<2 {
      #expect(try client.call("EVAL", look, "1", one) == "v")
      // Of two keys each might have got what the other has.
      #expect(try client.call("EVAL", look, "2", one, two) == "v")
    }
    #expect(try client.call("EVAL", "return redis.call('SET',KEYS[1],'w','NX')", "1", one) == nil)
    #expect(try client.call("MSETNX", one, "w") == 0)
    #expect(try client.call("COPY", two, one) == 0)
    #expect(try redis.cli("MGET", one, two) == "v\nv")
    #expect(try a.count("fills_refused") == refused)
    for key in [one, two] { #expect(try a.get(key) == "v" && b.get(key) == "v") }
    // Its end is a part of it, and of what is long nobody can tell.
    #expect(try client.call("EVAL", "return redis.call('PEXPIRE',KEYS[1],900000)", "1", one) == 1)
    #expect(try redis.cli("EXISTS", one) == "0")
    #expect(try client.call("DEL", two) == 1)
    try b.store(two, String(repeating: "v", count: 100_000))
    #expect(try client.call("EVAL", "return redis.call('STRLEN',KEYS[1])", "2", two, one) == 100_000)
    #expect(try redis.cli("EXISTS", two) == "0")
    let meta = "nearside:{\(world.database)}:m"
    #expect(try redis.cli("HMGET", meta, "x", "y") == "\n")
  }

  @Test("SORT does not look up what a mapping may cover")
  func lookup() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    try world.redis?.cli("RPUSH", "ids", "user:7")
    try world.redis?.cli("SET", world.key("user:7"), "of before")
    for pattern in [world.key("*"), "*", world.key("user:*")] {
      for name in ["SORT", "SORT_RO"] {
        let reply = try client.call(name, "ids", "BY", "nosort", "GET", pattern)
        #expect(reply.errorText?.contains("cannot look up") == true, "\(name) \(pattern): \(reply)")
      }
    }
    #expect(try client.call("SORT", "ids", "BY", "nosort", "GET", "#") == .array(["user:7"]))
    #expect(try client.call("SORT_RO", "ids", "BY", "weight_*", "ALPHA") == .array(["user:7"]))
  }

  @Test("What a script deletes leaves every near copy")
  func deletes() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    let key = world.key("user:7")
    try warm(key, "v", a, b)
    #expect(try a.client().call("EVAL", "return redis.call('DEL',KEYS[1])", "1", key) == 1)
    #expect(try a.get(key) == nil)
    try eventually("the other host's copy is gone") { try b.get(key) == nil }
    // A rename away is a removal, too.
    try warm(key, "v", a, b)
    #expect(try a.client().call("RENAME", key, "kept") == .ok)
    #expect(try a.get(key) == nil)
    try eventually("the other host's copy is gone") { try b.get(key) == nil }
  }

  @Test("What comes from another governed key is not kept under one whose rows it does not follow")
  func crossing() throws {
    let world = try World(options: [#""plainSetWindow": "10ms""#])
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let (one, two) = (world.key("user:1"), world.key("user:2"))
    try a.store(one, "v")
    let client = try a.client()
    #expect(try client.call("COPY", one, two) == 1)
    #expect(try redis.cli("EXISTS", one, two) == "1")
    #expect(try client.call("RENAME", one, two) == .ok)
    #expect(try redis.cli("EXISTS", one, two) == "0")
    let both = "redis.call('SET',KEYS[1],'x') redis.call('SET',KEYS[2],'x') return redis.call('GET',KEYS[2])"
    #expect(try client.call("EVAL", both, "2", one, two) == "x")
    #expect(try redis.cli("EXISTS", one, two) == "0")
    try expectGone(one, world, a)
  }

  @Test("A value that does not count is not shown to a script")
  func hidden() throws {
    let world = try World(
      options: [
        #""caches": { "report:{tenant_id}:{name}": { "tags": ["tenant:{tenant_id}"] } }"#
      ], setup: true)
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let key = world.key("user:3")
    try a.store(key, "old")
    // As while the namespace is being cleared: c differs from g.
    let meta = "nearside:{\(world.database)}:m"
    let c = try redis.cli("HGET", meta, "c")
    try redis.cli("HSET", meta, "c", String(repeating: "0", count: 16))
    #expect(try a.client().call("EVAL", "return redis.call('GET',KEYS[1])", "1", key) == nil)
    try redis.cli("HSET", meta, "c", c)
    #expect(try redis.cli("EXISTS", key) == "0")
  }

  @Test("A key that is written to PostgreSQL, and one that would be waited for, are refused with the reason")
  func refused() throws {
    let world = try World(options: [
      #""caches": { "product:{id}": { "write": { "policy": "through", "sql": "UPDATE products SET name = :value WHERE id = :id" } } }"#
    ])
    let a = try world.sidecar()
    let client = try a.client()
    let key = world.key("product:1")
    #expect(
      try client.call("EVAL", "return 1", "1", key).errorText?.contains("written to PostgreSQL") == true)
    #expect(
      try client.call("BLPOP", world.key("user:1"), "0").errorText?.contains("cannot wait on a key") == true)
    #expect(
      try client.call("SORT", "q", "GET", world.key("user:*")).errorText?.contains("mapping covers") != false)
  }
}
