import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Server

@Suite("What the embedded mode cannot hold")
struct EmbeddedKeyTests {
  private static let unmapped =
    "-ERR Nearside: no mapping covers this key and no Redis is configured to hold it"

  private func client(_ near: NearSettings? = nil) throws -> (EmbeddedSidecar, RawClient) {
    let sidecar =
      try near.map { try EmbeddedSidecar(near: $0) } ?? EmbeddedSidecar()
    var tail = Tail(sidecar)
    try tail.begin()
    return (sidecar, try RawClient(sidecar.path))
  }

  @Test(
    "a key that no mapping covers gets the reason, never nil",
    arguments: [
      "GET other:1", "MGET user:1 other:1", "EXISTS user:1 other:1", "STRLEN other:1", "TTL other:1",
      "TYPE other:1", "SET other:1 v", "SETEX other:1 10 v", "SETNX other:1 v", "GETSET other:1 v",
      "MSET user:1 v other:1 v", "APPEND other:1 v", "INCR other:1", "DEL user:1 other:1", "GETDEL other:1",
      "GETEX other:1", "EXPIRE other:1 10", "PERSIST other:1", "NEARSIDE LEASE other:1", "GET user",
      "GET ''",
    ])
  func unmapped(_ command: String) throws {
    let (sidecar, client) = try client()
    defer { sidecar.stop() }
    let answer = try client.answer(Recorded(sent: command, answer: "").command)
    #expect(text(answer) == Self.unmapped + #"\r\n"#)
    // Nothing of the command was carried out.
    #expect(try client.answer("GET", "user:1") == #"$-1\r\n"#)
  }

  @Test("a key whose cache may not be near gets the reason")
  func notNear() throws {
    let (sidecar, client) = try client()
    defer { sidecar.stop() }
    let reason =
      #"-ERR Nearside: the cache of this key says "near": false and no Redis is configured to hold it\r\n"#
    #expect(try client.answer("GET", "far:1") == reason)
    #expect(try client.answer("SET", "far:1", "v") == reason)
    #expect(try client.answer("DEL", "far:1") == reason)
  }

  @Test("commands on other types and commands of the server say that there is no Redis")
  func otherCommands() throws {
    let (sidecar, client) = try client()
    defer { sidecar.stop() }
    for (command, name) in [
      (["HSET", "user:1", "f", "v"], "hset"), (["LPUSH", "user:1", "v"], "lpush"), (["MULTI"], "multi"),
      (["SUBSCRIBE", "c"], "subscribe"), (["EVAL", "return 1", "0"], "eval"), (["SCAN", "0"], "scan"),
      (["SETRANGE", "user:1", "0", "v"], "setrange"),
      (["RENAME", "user:1", "user:2"], "rename"), (["BLPOP", "user:1", "0"], "blpop"),
    ] {
      #expect(try client.answer(command) == #"-ERR Nearside: '\#(name)' is not available without Redis\r\n"#)
    }
    #expect(
      try client.answer("FLUSHALL").hasPrefix(
        "-NOPERM this command is not available through Nearside: 'flushall'"))
    #expect(
      try client.answer("json.get", "user:1")
        == #"-ERR unknown command 'json.get', with args beginning with: 'user:1' \r\n"#)
    #expect(try client.answer("HSET", "user:1") == #"-ERR wrong number of arguments for 'hset' command\r\n"#)
  }

  @Test("a value larger than near.maxEntry is an error, and what was there is gone")
  func tooLarge() throws {
    let (sidecar, client) = try client(NearSettings(size: 4 << 20, maxEntry: 1024, ttl: nil))
    defer { sidecar.stop() }
    let error =
      #"-ERR Nearside: the value is larger than near.maxEntry (1024 bytes) and no Redis is configured to hold it\r\n"#
    // The reply counts, with its line `$1015\r\n` and the end of the value's own.
    let (largest, larger) = (String(repeating: "x", count: 1015), String(repeating: "x", count: 1016))
    #expect(try client.answer("MGET", "user:1", "user:2") == #"*2\r\n$-1\r\n$-1\r\n"#)
    #expect(try client.answer("SET", "user:1", largest) == #"+OK\r\n"#)
    #expect(try client.answer("STRLEN", "user:1") == #":1015\r\n"#)
    // An APPEND that does not fit leaves the value as it was.
    #expect(try client.answer("APPEND", "user:1", "x") == error)
    #expect(try client.answer("STRLEN", "user:1") == #":1015\r\n"#)
    // A MSET of which one value does not fit stores none.
    #expect(try client.answer("MSET", "user:2", "v", "user:1", larger) == error)
    #expect(try client.answer("MGET", "user:2") == #"*1\r\n$-1\r\n"#)
    #expect(try client.answer("STRLEN", "user:1") == #":1015\r\n"#)
    #expect(try client.answer("SET", "user:1", larger) == error)
    #expect(try client.answer("GET", "user:1") == #"$-1\r\n"#)
    let token = try lease(client, "user:2")
    #expect(try client.answer("NEARSIDE", "FILL", "user:2", token, larger) == error)
  }

  @Test("a key longer than 65,535 bytes is an error")
  func longKeys() throws {
    let (sidecar, client) = try client(NearSettings(size: 4 << 20, maxEntry: 1 << 20, ttl: nil))
    defer { sidecar.stop() }
    let longest = "user:" + String(repeating: "x", count: 65_530)
    #expect(try client.answer("GET", longest) == #"$-1\r\n"#)
    #expect(try client.answer("SET", longest, "v") == #"+OK\r\n"#)
    #expect(try client.answer("GET", longest) == #"$1\r\nv\r\n"#)
    #expect(
      try client.answer("GET", longest + "x")
        == #"-ERR Nearside: a key is held only up to 65535 bytes\r\n"#)
  }

  @Test("the time that the configuration gives a cache bounds every other")
  func shortest() throws {
    let (sidecar, client) = try client()
    defer { sidecar.stop() }
    #expect(try client.answer("GET", "short:1") == #"$-1\r\n"#)
    let answers = cutReplies(
      try client.answer(
        [
          ["SET", "short:1", "v"], ["TTL", "short:1"], ["EXPIRE", "short:1", "7200"], ["TTL", "short:1"],
          ["EXPIRE", "short:1", "60"], ["TTL", "short:1"], ["PERSIST", "short:1"], ["TTL", "short:1"],
          ["SET", "short:1", "w", "EX", "20"], ["TTL", "short:1"], ["SET", "short:1", "w", "EX", "9999"],
          ["TTL", "short:1"],
        ].flatMap { RESPClient.encode($0) }))
    #expect(
      answers
        == [
          "+OK", ":3600", ":1", ":3600", ":1", ":60", ":1", ":3600", "+OK", ":20", "+OK", ":3600",
        ].map { $0 + #"\r\n"# })
  }

  @Test("a time to live beyond every clock is kept as the longest there is")
  func longest() throws {
    let (sidecar, client) = try client()
    defer { sidecar.stop() }
    #expect(try client.answer("GET", "user:1") == #"$-1\r\n"#)
    for command in [
      ["SET", "user:1", "v", "PX", "1000000000000000"], ["SET", "user:1", "v", "EX", "9000000000000000"],
      ["PEXPIREAT", "user:1", "9223372036854775807"], ["PSETEX", "user:1", "9000000000000000000", "v"],
    ] {
      #expect(try !client.answer(command).hasPrefix("-"), "\(command)")
      #expect(try client.answer("GET", "user:1") == #"$1\r\nv\r\n"#)
      let left = try client.answer("TTL", "user:1").dropFirst().dropLast(4)
      #expect(try #require(Int(left)) > 500 * 365 * 86_400)
    }
    let token = try lease(client, "user:2")
    #expect(
      try client.answer("NEARSIDE", "FILL", "user:2", token, "v", "PX", "1000000000000000") == #":1\r\n"#)
    #expect(try client.answer("GET", "user:2") == #"$1\r\nv\r\n"#)
  }

  @Test("a value goes when its time has come")
  func expires() throws {
    let (sidecar, client) = try client()
    defer { sidecar.stop() }
    #expect(try client.answer("GET", "user:1") == #"$-1\r\n"#)
    #expect(try client.answer("SET", "user:1", "v", "PX", "30") == #"+OK\r\n"#)
    try eventually("the value is gone") { try client.answer("GET", "user:1") == #"$-1\r\n"# }
    #expect(try client.answer("SET", "user:1", "v") == #"+OK\r\n"#)
    #expect(try client.answer("PEXPIRE", "user:1", "30") == #":1\r\n"#)
    try eventually("the value is gone again") { try client.answer("EXISTS", "user:1") == #":0\r\n"# }
  }

  @Test("what made room for something else is a miss")
  func evicted() throws {
    let (sidecar, client) = try client(NearSettings(size: 1 << 20, maxEntry: 65_536, ttl: nil))
    defer { sidecar.stop() }
    let value = String(repeating: "x", count: 1000)
    for id in 0..<3000 {
      _ = try client.answer(
        RESPClient.encode(["GET", "user:\(id)"]) + RESPClient.encode(["SET", "user:\(id)", value]))
    }
    var found = 0
    for id in 0..<3000 {
      let answer = try client.answer("GET", "user:\(id)")
      if answer != #"$-1\r\n"# {
        #expect(answer == #"$1000\r\n\#(value)\r\n"#)
        found += 1
      }
    }
    #expect(found > 100 && found < 1000)
  }
}

/// Asks for a lease, and gives its token.
func lease(_ client: RawClient, _ key: String) throws -> String {
  let answer = cutReplies(try client.answer(RESPClient.encode(["NEARSIDE", "LEASE", key])))[0]
  let parts = answer.split(separator: #"\r\n"#)
  guard parts.count == 4, parts[1] == "$-1", parts[2] == "$48" else {
    throw HarnessError("no lease of \(key): \(answer)")
  }
  return String(parts[3])
}

/// The value of a line of NEARSIDE STATUS.
func status(_ client: RawClient, _ name: String) throws -> String {
  let lines = try client.answer("NEARSIDE", "STATUS").split(separator: #"\n"#)
  guard let line = lines.first(where: { $0.hasPrefix(name + ":") }) else {
    throw HarnessError("NEARSIDE STATUS has no \(name)")
  }
  return String(line.dropFirst(name.utf8.count + 1))
}
