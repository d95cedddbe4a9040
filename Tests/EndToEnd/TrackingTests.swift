import TestSupport
import Testing

@Suite("CLIENT TRACKING: clients with a cache of their own")
struct TrackingTests {
  /// One command of one client; of `direct`: of a client of Redis itself, in both runs.
  private struct Step {
    var client: Int
    var command: [String]

    init(_ client: Int, _ command: String) {
      self.client = client
      self.command = command.split(separator: " ").map { $0 == "''" ? "" : String($0) }
    }
  }

  private static let direct = -1
  private static let close = "close"

  private static let orders = """
    TRACKING|TRACKING on REDIRECT|TRACKING maybe|TRACKING on bogus|TRACKING on PREFIX a|TRACKING on BCAST OPTIN
    TRACKING on OPTIN OPTOUT|TRACKING on REDIRECT x|TRACKING on REDIRECT 99999999|CACHING yes|CACHING maybe
    TRACKING on REDIRECT @1 REDIRECT @1|CACHING|CACHING a b|TRACKINGINFO|TRACKINGINFO x|GETREDIR|GETREDIR x
    TRACKING on|TRACKINGINFO|GETREDIR|CACHING yes|CACHING no|CACHING maybe|TRACKING on BCAST|TRACKING off
    TRACKING off bogus|TRACKING on OPTIN|TRACKING on OPTOUT|CACHING no|CACHING yes|TRACKINGINFO|TRACKINGINFO
    TRACKING on|TRACKINGINFO|TRACKING off|TRACKING on OPTOUT NOLOOP|CACHING no|TRACKINGINFO|TRACKING off
    TRACKING on BCAST PREFIX b PREFIX a NOLOOP|TRACKING on BCAST PREFIX ab|TRACKING on BCAST PREFIX c PREFIX cd
    TRACKINGINFO|TRACKING on BCAST PREFIX c|TRACKINGINFO|TRACKING on|TRACKING off|TRACKING on BCAST
    TRACKING on BCAST PREFIX a|TRACKINGINFO|TRACKING off PREFIX a|TRACKINGINFO|TRACKING ON REDIRECT @1|GETREDIR
    TRACKINGINFO|TRACKING ON|GETREDIR
    """.split(whereSeparator: { $0 == "|" || $0.isNewline }).map { Step(0, "CLIENT " + $0) }

  /// Client 0 tracks; for RESP2 client 2 has subscribed, and takes its messages.
  private static func sequences(_ options: String) -> [[Step]] {
    func track(_ words: String = "") -> Step { Step(0, "CLIENT TRACKING ON \(words) \(options)") }
    let yes = Step(0, "CLIENT CACHING YES")
    let reads = [
      "GET x", "MGET y x", "EXISTS x", "STRLEN x", "TTL x", "PTTL x", "TYPE x", "GETRANGE x 0 1",
      "OBJECT ENCODING x", "TOUCH x", "EVAL return(redis.call('get',KEYS[1])) 1 x", "BITCOUNT x",
    ]
    let structures = [
      ("HSET x a 1", "HGETALL x"), ("HSET x a 1", "HMGET x a b"), ("SADD x a", "SMEMBERS x"),
      ("RPUSH x a", "LRANGE x 0 -1"), ("ZADD x 1 a", "ZRANGE x 0 -1"), ("ZADD x 1 a", "ZINTERCARD 1 x"),
      ("XADD x 1-1 a b", "XREAD STREAMS x 0"), ("SADD x a", "SINTER y x"),
    ]
    return [
      [
        track(), Step(0, "GET x"), Step(1, "SET x 1"), Step(1, "SET x 2"), Step(0, "GET x"), Step(1, "DEL x"),
        Step(0, "MGET x y"), Step(1, "MSET y 1 x 2"), Step(0, "GET x"), Step(1, "APPEND x 1"),
        Step(0, "GET x"),
        Step(1, "EXPIRE x 100"), Step(0, "GET x"), Step(direct, "SET x 4"), Step(0, "GET x"),
        Step(direct, "SELECT 5"), Step(direct, "FLUSHDB"),
        Step(direct, "SELECT 0"),
        Step(0, "GET x"), Step(1, "SET x 1"),
      ],
      // What it writes itself.
      [track(), Step(0, "GET x"), Step(0, "SET x 1"), Step(0, "GET x"), Step(0, "GET x"), Step(0, "DEL x")],
      [
        track("NOLOOP"), Step(0, "GET x"), Step(0, "SET x 1"), Step(1, "SET x 2"), Step(0, "GET x"),
        Step(1, "SET x 3"), Step(0, "GET x"), Step(0, "INCR x"), Step(0, "GET x"), Step(0, "DEL x"),
      ],
      [
        track("OPTIN"), Step(0, "GET x"), Step(1, "SET x 1"), yes, Step(0, "GET x"), Step(0, "GET y"),
        Step(1, "MSET x 1 y 2"), yes, Step(0, "CLIENT ID"), Step(0, "GET x"), Step(1, "SET x 1"),
      ],
      // As rueidis reads.
      [
        track("OPTIN"), yes, Step(0, "MULTI"), Step(0, "PTTL x"), Step(0, "GET x"), Step(0, "EXEC"),
        Step(1, "SET x 1"), Step(0, "MULTI"), Step(0, "GET x"), Step(0, "EXEC"), Step(1, "SET x 2"), yes,
        Step(0, "MULTI"), Step(0, "GET x"), Step(0, "DISCARD"), Step(0, "GET x"), Step(1, "SET x 2"),
      ],
      [track(), Step(0, "MULTI"), Step(0, "GET x"), Step(0, "SET x 1"), Step(0, "EXEC"), Step(1, "SET x 2")],
      [
        track("OPTOUT"), Step(0, "CLIENT CACHING NO"), Step(0, "GET x"), Step(1, "SET x 1"), Step(0, "GET x"),
        Step(1, "SET x 2"),
      ],
      [
        track("BCAST PREFIX x PREFIX y"), Step(1, "SET x 1"), Step(1, "MSET x 1 y 2 xx 3 z 4"),
        Step(1, "GET x"),
        Step(1, "DEL x nokey"), Step(direct, "SELECT 5"),
        Step(direct, "FLUSHDB"), Step(0, "SET y 2"),
      ],
      [track("BCAST"), Step(1, "SET x 1"), Step(0, "SET y 2"), Step(1, "GET x")],
      [
        track("BCAST NOLOOP"), Step(1, "SET x 1"), Step(0, "SET y 2"), Step(0, "MSET x 1 y 2"),
        Step(0, "INCR x"),
        Step(1, "SET y 1"), Step(0, "DEL y"),
      ],
      [
        track(), Step(0, "GET x"), Step(0, "CLIENT TRACKING OFF"), Step(1, "SET x 1"), Step(1, "SET x 2"),
        track(),
        Step(0, "GET x"), Step(0, "RESET"), Step(1, "SET x 3"),
      ],
      [
        track(), Step(0, "SELECT 3"), Step(0, "GET x"), Step(0, "MULTI"), Step(0, "GET y"), Step(0, "EXEC"),
        Step(direct, "MSET x 1 y 2"),
      ],
      [
        track(), Step(0, "WATCH x"), Step(0, "GET x"), Step(0, "MULTI"), Step(0, "GET y"), Step(0, "EXEC"),
        Step(1, "MSET x 1 y 2"),
      ],
    ]
      + reads.map { [Step(1, "SET x 12"), track(), Step(0, $0), Step(1, "SET x 3")] }
      + structures.map { [Step(1, $0), track(), Step(0, $1), Step(1, "DEL x")] }
  }

  /// Each element of a row of replies, whole.
  private func elements(_ bytes: [UInt8]) -> [String] {
    var all: [String] = []
    var at = 0
    func line() -> [UInt8] {
      let end = at < bytes.count ? bytes[at...].firstIndex(of: 10) ?? bytes.count - 1 : at - 1
      defer { at = end + 1 }
      return Array(bytes[at..<end + 1])
    }
    func element() {
      let head = line()
      let count = Int(String(decoding: head.dropFirst().dropLast(2), as: UTF8.self)) ?? 0
      switch head.first {
      case UInt8(ascii: "$"), UInt8(ascii: "="): if count >= 0 { at = min(at + count + 2, bytes.count) }
      case UInt8(ascii: "*"), UInt8(ascii: "~"), UInt8(ascii: ">"): for _ in 0..<max(0, count) { element() }
      case UInt8(ascii: "%"): for _ in 0..<2 * count { element() }
      default: break
      }
    }
    while at < bytes.count {
      let start = at
      element()
      all.append(String(decoding: bytes[start..<at], as: UTF8.self))
    }
    return all
  }

  /// What each of three clients gets at each step. `expected`: what Redis said, of which so many bytes are awaited.
  private func run(
    _ path: String, _ redis: RedisServer, _ steps: [Step], version: Int, expected: [[[UInt8]]]?
  ) throws -> [[[UInt8]]] {
    try redis.cli("DEL", "x", "y", "xx", "z")
    try redis.cli("-n", "3", "DEL", "x", "y")
    let clients = try (0..<3).map { _ in try RESPClient(path) }
    let other = try redis.client()
    try other.call("SELECT", "\(steps.contains { $0.command.first == "SELECT" } ? 3 : 0)")
    var ids: [String] = []
    for client in clients {
      try client.call("HELLO", "\(version)")
      ids.append("\(try client.call("CLIENT", "ID").integerValue ?? 0)")
    }
    if version == 2 { try clients[2].call("SUBSCRIBE", "__redis__:invalidate") }
    var seen: [[[UInt8]]] = []
    var isQueueing = false
    for (number, step) in steps.enumerated() {
      let command = step.command.map { $0.hasPrefix("@") ? ids[Int($0.dropFirst()) ?? 0] : $0 }
      var got: [[UInt8]] = [[], [], []]
      if step.client == Self.direct {
        try other.call(command)
      } else {
        try clients[step.client].send(command)
      }
      // Whoever acts is answered first: what it causes comes after.
      for index in [max(0, step.client)] + [0, 1, 2].filter({ $0 != max(0, step.client) }) {
        if let expected {
          let wanted = Self.named(expected[number][index], ids)
          do { got[index] = try clients[index].receive(bytes: wanted.count) } catch {
            Issue.record(
              "\(command), client \(index): \(error), not \(String(decoding: wanted, as: UTF8.self))")
            return seen
          }
        }
        // What Redis broadcasts comes with the answer, not with that to the next command.
        if expected == nil, index == step.client { got[index] += try clients[index].receive(bytes: 1) }
        if index == 0 {
          // Behind MULTI every reply is one line, and so would be that to PING.
          if step.client == 0, ["MULTI", "EXEC", "DISCARD"].contains(command[0]) {
            isQueueing = command[0] == "MULTI"
          }
          if isQueueing {
            while expected == nil, !got[0].ends(with: "\n") { got[0] += try clients[0].receive(bytes: 1) }
            continue
          }
        }
        try clients[index].send("PING", "the end")
        while !got[index].ends(with: "the end\r\n") { got[index] += try clients[index].receive(bytes: 1) }
        let isSubscribed = got[index].ends(with: "*2\r\n$4\r\npong\r\n$7\r\nthe end\r\n")
        got[index].removeLast(isSubscribed ? 27 : 13)
      }
      seen.append(expected == nil ? got.map { Self.unnamed($0, ids) } : got)
      if let expected {
        for index in 0..<3 {
          let wanted = elements(Self.named(expected[number][index], ids))
          // Before or behind the reply, or both: see `Tracking`.
          #expect(
            Set(elements(got[index])) == Set(wanted),
            "client \(index) at step \(number) of \(steps.map { "\($0.client) \($0.command.joined(separator: " "))" })"
          )
        }
      }
    }
    return seen
  }

  /// Ids differ from run to run.
  private static func unnamed(_ bytes: [UInt8], _ ids: [String]) -> [UInt8] {
    replace(bytes, ids.enumerated().map { (":\($1)\r\n", ":@\($0)\r\n") })
  }
  private static func named(_ bytes: [UInt8], _ ids: [String]) -> [UInt8] {
    replace(bytes, ids.enumerated().map { (":@\($0)\r\n", ":\($1)\r\n") })
  }
  private static func replace(_ bytes: [UInt8], _ pairs: [(String, String)]) -> [UInt8] {
    var text = String(decoding: bytes, as: UTF8.self)
    for (a, b) in pairs {
      text = text.split(separator: a, omittingEmptySubsequences: false).joined(separator: b)
    }
    return Array(text.utf8)
  }

  @Test("Orders and errors are answered as by Redis itself, byte for byte", arguments: [2, 3])
  func orders(version: Int) throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let plain = try RedisServer()
    let expected = try run(plain.socket, plain, Self.orders, version: version, expected: nil)
    _ = try run(a.socket, redis, Self.orders, version: version, expected: expected)
  }

  @Test(
    "Clients are told what Redis itself tells them, in every mode, byte for byte",
    arguments: [(2, "REDIRECT @2"), (3, ""), (3, "REDIRECT @2")])
  func sequences(version: Int, options: String) throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    // One that no sidecar writes to: Redis would tell of that, too.
    let plain = try RedisServer()
    for steps in Self.sequences(options) {
      let expected = try run(plain.socket, plain, steps, version: version, expected: nil)
      // The table of the run before must not tell anything in this one.
      _ = try run(a.socket, redis, steps, version: version, expected: expected)
    }
  }

  /// RESP3 clients get pushes; those of RESP2 messages at another client.
  private func tracker(
    _ sidecar: Sidecar, version: Int, _ options: [String]
  ) throws -> (client: RESPClient, messages: RESPClient) {
    let client = try sidecar.client()
    try client.call("HELLO", "\(version)")
    guard version == 2 else {
      #expect(try client.call(["CLIENT", "TRACKING", "ON"] + options) == .ok)
      return (client, client)
    }
    let target = try sidecar.client()
    let id = try target.call("CLIENT", "ID").integerValue ?? 0
    try target.call("SUBSCRIBE", "__redis__:invalidate")
    #expect(try client.call(["CLIENT", "TRACKING", "ON", "REDIRECT", "\(id)"] + options) == .ok)
    return (client, target)
  }

  /// What the next message tells; nil: everything.
  private func told(_ client: RESPClient) throws -> [String]? {
    let next = try client.receive()
    switch next {
    case .push(let elements) where elements.first?.text == "invalidate":
      return elements[1].elements?.compactMap(\.text)
    case .array(let elements) where elements.dropFirst().first?.text == "__redis__:invalidate":
      return elements[2].elements?.compactMap(\.text)
    default: throw HarnessError("\(next) is no message")
    }
  }

  @Test(
    "A change of a row reaches every client that has read its key, in every mode", arguments: [2, 3],
    ["", "NOLOOP", "OPTIN", "OPTOUT", "BCAST"])
  func log(version: Int, mode: String) throws {
    let world = try World()
    let a = try world.sidecar()
    let key = world.key("user:1")
    try warm(key, "one", a)
    var options = mode.isEmpty ? [] : [mode]
    if mode == "BCAST" { options += ["PREFIX", key] }
    let (client, messages) = try tracker(a, version: version, options)
    // Whoever broadcasts is told by the log, and again when Redis removes what it held.
    for round in 0..<(mode == "BCAST" ? 1 : 3) {
      if mode == "OPTIN" { try client.call("CLIENT", "CACHING", "YES") }
      #expect(try client.call("GET", key) == (round == 0 ? "one" : nil))
      try world.psql("UPDATE users SET name = 'r\(round)' WHERE id = 1")
      #expect(try told(messages) == [key])
    }
    // What is near is entered as well, and nothing of Redis's is needed for it.
    #expect(try mode == "BCAST" || a.status()["tracking_watch"] == "off")
    #expect(try a.count("tracked_keys") == 0)
  }

  @Test("INFO counts the clients of the socket and what they have read")
  func info() throws {
    let world = try World()
    let a = try world.sidecar()
    let (client, _) = try tracker(a, version: 3, [])
    let (other, _) = try tracker(a, version: 3, ["BCAST", "PREFIX", "a", "PREFIX", "b"])
    try client.call("MGET", "x", "y", world.key("user:1"))
    let lines = try client.call("INFO").text?.split(separator: "\r\n").map(String.init) ?? []
    for (name, number) in [("clients", 2), ("total_keys", 3), ("total_items", 3), ("total_prefixes", 2)] {
      #expect(lines.first { $0.hasPrefix("tracking_\(name):") } == "tracking_\(name):\(number)")
    }
    #expect(try other.call("PING") == .simple("PONG"))
  }

  @Test("Whoever has waited for a change was told before")
  func waited() throws {
    let world = try World()
    let a = try world.sidecar()
    let key = world.key("user:1")
    let (client, _) = try tracker(a, version: 3, [])
    for round in 0..<20 {
      try warm(key, "v\(round)", a)
      var next = try client.call("GET", key)
      while case .push = next { next = try client.receive() }
      try world.psql("UPDATE users SET name = 'w\(round)' WHERE id = 1")
      try client.send("NEARSIDE", "WAIT", try world.psql("SELECT pg_current_wal_lsn()"), "20000")
      #expect(try told(client) == [key])
      #expect(try client.receive() == 1)
    }
  }

  @Test("A transaction of reads is tracked as rueidis sends it", arguments: [2, 3])
  func transaction(version: Int) throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let (ada, plain) = (world.key("user:1"), "plain")
    try warm(ada, "one", a)
    try redis.cli("SET", plain, "p")
    let (client, messages) = try tracker(a, version: version, ["OPTIN"])
    func read(_ key: String, _ value: String) throws {
      let replies = try client.pipeline([
        ["CLIENT", "CACHING", "YES"], ["MULTI"], ["PTTL", key], ["GET", key], ["EXEC"],
      ])
      #expect(replies[4] == .array([-1, .bulk(value)]))
    }
    try read(ada, "one")
    try read(plain, "p")
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    #expect(try told(messages) == [ada])
    try redis.cli("SET", plain, "q")
    #expect(try told(messages) == [plain])
  }

  @Test("A client's own write of a governed key is told to it, unless it does not want to hear of it")
  func ownWrites() throws {
    let world = try World()
    let a = try world.sidecar()
    let key = world.key("user:1")
    for options in [[], ["NOLOOP"]] {
      let (client, _) = try tracker(a, version: 3, options)
      let (other, _) = try tracker(a, version: 3, [])
      try warm(key, "one", a)
      for client in [client, other] {
        #expect(try client.call("GET", key) == "one")
      }
      try client.send("DEL", key)
      try client.send("PING")
      var replies: [Reply] = []
      while replies.last != .simple("PONG") { replies.append(try client.receive()) }
      // The journal may tell of it before it is answered.
      if options.isEmpty { #expect(replies.contains(.push(["invalidate", .array([.bulk(key)])]))) }
      replies.removeAll { if case .push = $0 { options.isEmpty } else { false } }
      #expect(replies == [1, .simple("PONG")])
      #expect(try told(other) == [key])
    }
  }

  @Test(
    "Redis emptied behind its back, and a lost connection to it, cost every client its copies",
    arguments: [2, 3])
  func lost(version: Int) throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let (client, messages) = try tracker(a, version: version, [])
    #expect(try client.call("GET", "x") == (nil as Reply))
    func watcher() throws -> String? {
      try redis.cli("CLIENT", "LIST").split(whereSeparator: \.isNewline)
        .first { $0.contains(" flags=tB") }
        .flatMap { $0.split(separator: " ").first?.dropFirst(3) }.map { String($0) }
    }
    let number = try #require(try watcher())
    try redis.cli("CLIENT", "KILL", "ID", number)
    #expect(try told(messages) == nil)
    // Nothing is kept unwatched until it is back.
    try client.send("GET", "x")
    try eventually("the connection is back") { try a.status()["tracking_watch"] == "on" }
    try redis.cli("SET", "x", "1")
    if version == 2 { #expect(try client.receive() == nil) }
    var next = try messages.receive()
    if next == nil { next = try messages.receive() }
    #expect(next.elements?.last == .array(["x"]))
    try redis.cli("FLUSHALL")
    #expect(try told(messages) == nil)
  }

  @Test("A FLUSHALL of this host is told once, and not to clients that track after it")
  func flush() throws {
    let world = try World(options: [#""commands": { "allow": ["flushall"] }"#])
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let writer = try a.client()
    let (client, _) = try tracker(a, version: 3, [])
    for round in 0..<30 {
      try redis.cli("SET", "x", "\(round)")
      try client.call("GET", "x")
      #expect(try writer.call("FLUSHALL") == .ok)
      let (later, _) = try tracker(a, version: 3, [])
      for client in [client, later] { try client.send("GET", "y") }
      #expect(try told(client) == nil)
      for client in [client, later] { #expect(try client.receive() == nil) }
      // The next one is told as well, whoever it is.
      if round % 2 == 0 { try redis.cli("-n", "5", "FLUSHDB") } else { try redis.cli("SET", "y", "\(round)") }
      for client in [client, later] { #expect(try told(client) == (round % 2 == 0 ? nil : ["y"])) }
    }
  }

  @Test("A client whose messages go to one that has gone is told so", arguments: [2, 3])
  func broken(version: Int) throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    func run(_ path: String) throws -> [Reply] {
      let (client, writer) = (try RESPClient(path), try RESPClient(path))
      try writer.call("DEL", "x")
      try client.call("HELLO", "\(version)")
      var replies: [Reply] = []
      do {
        let target = try RESPClient(path)
        let id = try target.call("CLIENT", "ID").integerValue ?? 0
        replies.append(try client.call("CLIENT", "TRACKING", "ON", "REDIRECT", "\(id)"))
        replies.append(try client.call("GET", "x"))
        replies.append(try client.call("CLIENT", "TRACKINGINFO").elements?[1] ?? nil)
      }
      try eventually("it is seen that the other has gone") { () throws -> Reply in
        try writer.call("SET", "x", "1")
        try client.send("GET", "x")
        var next = try client.receive()
        while case .push(let elements) = next {
          if replies.count == 3 { replies.append(elements[0]) }
          next = try client.receive()
        }
        return try client.call("CLIENT", "TRACKINGINFO").elements?[1] ?? nil
      } until: { flags in
        flags.elements?.contains("broken_redirect") == true
      }
      return replies
    }
    let (actual, expected) = (try run(a.socket), try run(redis.socket))
    #expect(actual == expected)
  }
}

extension [UInt8] {
  fileprivate func ends(with text: String) -> Bool { suffix(text.utf8.count).elementsEqual(text.utf8) }
}
