import CLinux
import Configuration
import Glibc
import Invalidation
import Logging
import Synchronization
import TestSupport
import Testing

@testable import Server

private func encode(_ commands: [[String]]) -> [UInt8] { commands.flatMap { RESPClient.encode($0) } }

@Suite("In front of a real Redis")
struct RelayTests {
  @Test("replies keep their order across relays, near hits, local answers, HELLO and a Redis that waits")
  func order() throws {
    let sidecar = try RelaySidecar()
    try sidecar.redis.client().call("SET", "plain", "p")
    let warm = try sidecar.client()
    _ = try warm.call("GET", "user:1")
    #expect(try warm.call("SET", "user:1", "near") == .ok)
    let client = try sidecar.client()
    let replies = try client.pipeline([
      ["GET", "plain"], ["PING"], ["GET", "user:1"], ["GET", "user:2"], ["HELLO", "3"], ["GET", "user:2"],
      ["NEARSIDE", "WAIT", "F/0", "50"], ["GET", "plain"], ["HELLO", "2"],
      ["MGET", "user:1", "user:2", "plain"],
      ["ECHO", "x"], ["QUIT"],
    ])
    #expect(replies[0] == .bulk("p"))
    #expect(replies[1] == .simple("PONG"))
    #expect(replies[2] == .bulk("near"))
    #expect(replies[3] == .null)
    #expect(replies[4].elements?.count == 14)
    #expect(replies[5] == .null)
    #expect(replies[6] == .integer(0))
    #expect(replies[7] == .bulk("p"))
    #expect(replies[8].elements?.count == 14)
    #expect(replies[9] == .array([.bulk("near"), .null, .bulk("p")]))
    #expect(replies[10] == .bulk("x"))
    #expect(replies[11] == .ok)
  }

  @Test("more commands in one stream than may be owed are all answered")
  func manyCommands() throws {
    let sidecar = try RelaySidecar()
    let commands = encode((0..<30_000).map { ["SET", "plain:\($0)", "value"] })
    let said = try succeed(
      ["redis-cli", "-s", sidecar.path, "--pipe", "--pipe-timeout", "10"],
      input: String(decoding: commands, as: UTF8.self))
    #expect(said.contains("errors: 0, replies: 30000"))

    // More than may be owed, while Redis gives none of it: what lies in the socket is read when it does.
    let client = try sidecar.client()
    sidecar.redis.pause()
    try client.send(raw: encode([[String]](repeating: ["GET", "plain"], count: 11_000)))
    let other = try sidecar.client()
    for _ in 0..<3 { try other.call("PING") }
    sidecar.redis.resume()
    for _ in 0..<11_000 where try client.receive() != .null { Issue.record("not the reply to GET") }
    #expect(try client.call("PING") == .simple("PONG"))
  }

  @Test("commands that waited for their client to read are carried out once it has")
  func slowReader() throws {
    let sidecar = try RelaySidecar()
    let client = try sidecar.client()
    let value = String(repeating: "v", count: 200_000)
    _ = try client.call("GET", "user:1")
    #expect(try client.call("SET", "user:1", value) == .ok)
    let replies = try client.pipeline([[String]](repeating: ["GET", "user:1"], count: 500))
    #expect(replies.allSatisfy { $0 == .bulk(value) })
    // The client is still read from.
    #expect(try client.call("PING") == .simple("PONG"))
  }

  @Test("a SET that waited while its client was paused is dated before the pause")
  func pausedDate() throws {
    let sidecar = try RelaySidecar(window: 400_000_000)
    let client = try sidecar.client()
    #expect(try client.call("GET", "user:1") == .null)
    try client.send("NEARSIDE", "WAIT", "F/0", "1000")
    let other = try sidecar.client()
    for _ in 0..<3 { try other.call("PING") }
    try client.send("SET", "user:1", "old")
    #expect(try client.receive() == .integer(0))
    #expect(try client.receive() == .ok)
    #expect(try sidecar.redis.client().call("EXISTS", "user:1") == .integer(0))
  }

  @Test("the state's own keys are not written through the socket, and may be read")
  func stateKeys() throws {
    let sidecar = try RelaySidecar()
    let client = try sidecar.client()
    for command in [
      ["SET", "nearside:{shop}:m", "x"], ["DEL", "nearside:{shop}:m"],
      ["HSET", "nearside:{shop}:m", "V", "f"],
      ["EVAL", "return redis.call('DEL', KEYS[1])", "1", "nearside:{shop}:m"],
      ["RENAME", "a", "nearside:{shop}:m"],
    ] {
      let text = try client.call(command).errorText ?? ""
      #expect(text.hasPrefix("NOPERM keys that begin with 'nearside:{'"), "\(command)")
    }
    #expect(try client.call("EXISTS", "nearside:{other}:m") == .integer(0))
  }

  @Test("a SET that comes in pieces is dated before its first piece")
  func pieces() throws {
    let sidecar = try RelaySidecar(window: 400_000_000)
    let client = try sidecar.client()
    #expect(try client.call("GET", "user:1") == .null)
    let bytes = RESPClient.encode(["SET", "user:1", "old"])
    try client.send(raw: Array(bytes.prefix(10)))
    for byte in bytes.dropFirst(10) {
      try client.send(raw: [byte])
      usleep(50_000)
    }
    #expect(try client.receive() == .ok)
    #expect(try sidecar.redis.client().call("EXISTS", "user:1") == .integer(0))
  }

  @Test(
    "every reply that says that a key does not exist is a miss of it",
    arguments: [
      ["EXISTS", "user:1"], ["EXISTS", "plain", "user:1"], ["STRLEN", "user:1"], ["TTL", "user:1"],
      ["PTTL", "user:1"], ["TYPE", "user:1"], ["MGET", "plain", "user:1"], ["HGET", "user:1", "f"],
      ["HMGET", "user:1", "f", "g"], ["HGETALL", "user:1"], ["SMEMBERS", "user:1"],
      ["ZSCORE", "user:1", "m"],
      ["LRANGE", "user:1", "0", "-1"], ["GETRANGE", "user:1", "0", "1"], ["TOUCH", "user:1"],
      ["SISMEMBER", "user:1", "m"], ["SMISMEMBER", "user:1", "m"], ["GETEX", "user:1", "EX", "9"],
      ["GETDEL", "user:1"], ["EXPIRE", "user:1", "9"], ["SRANDMEMBER", "user:1"], ["DUMP", "user:1"],
      ["HSCAN", "user:1", "0"],
    ])
  func absence(_ command: [String]) throws {
    let sidecar = try RelaySidecar()
    let client = try sidecar.client()
    _ = try client.call(command)
    // The row changes, another flow misses, and the first one stores what it had read before.
    try sidecar.change("user:1")
    #expect(try sidecar.client().call("GET", "user:1") == .null)
    #expect(try client.call("SET", "user:1", "old") == .ok)
    #expect(try sidecar.redis.client().call("EXISTS", "user:1") == .integer(0))
  }

  @Test("nothing of a value that does not count yet is seen, not even its type")
  func untrusted() throws {
    let sidecar = try RelaySidecar()
    let direct = try sidecar.redis.client()
    try direct.call("HSET", "user:1", "f", "v")
    try direct.call("SET", "user:2", "v")
    try sidecar.begin(Generation(0xa2), cleared: false)
    for version in ["2", "3"] {
      let client = try sidecar.client()
      try client.call("HELLO", version)
      #expect(try client.call("GET", "user:1") == .null)
      #expect(try client.call("STRLEN", "user:1") == .integer(0))
      #expect(try client.call("HGET", "user:2", "f") == .null)
      #expect(try client.call("HLEN", "user:1") == .integer(0))
      #expect(try client.call("TYPE", "user:1") == .simple("none"))
      #expect(try client.call("EXISTS", "user:1", "user:2") == .integer(0))
      #expect(try client.call("MGET", "user:1", "user:2") == .array([.null, .null]))
      #expect(try client.call("NEARSIDE", "LEASE", "user:1").elements?.first == .null)
    }
  }

  @Test("near values behind replies of a slow Redis are not sent when their evidence has become old")
  func nearBehindRelay() throws {
    let sidecar = try RelaySidecar(bound: 1_000_000_000)
    let client = try sidecar.client()
    _ = try client.call("GET", "user:1")
    #expect(try client.call("SET", "user:1", "near") == .ok)
    try sidecar.beat()
    try sidecar.beat()
    sidecar.redis.pause()
    try client.send(raw: encode([["GET", "plain"], ["GET", "user:1"], ["PING"]]))
    try eventually("the evidence is old") {
      (try sidecar.status("staleness_ms").flatMap { Int($0) } ?? 0) > 1200
    }
    sidecar.redis.resume()
    #expect(try client.receive() == .null)
    #expect(try client.receive().errorText?.hasPrefix("TRYAGAIN Nearside: Redis took longer") == true)
    #expect(try client.receive() == .simple("PONG"))
  }

  @Test("a protocol error behind a wait is answered behind it")
  func errorBehindWait() throws {
    let sidecar = try RelaySidecar()
    let client = try RawClient(sidecar.path)
    try client.send(
      encode([["GET", "plain"], ["NEARSIDE", "WAIT", "F/0", "50"]]) + Array("*1\r\n!\r\n".utf8))
    #expect(
      text(try client.readToEnd()) == "$-1\\r\\n:0\\r\\n-ERR Protocol error: expected '$', got '!'\\r\\n")
  }

  @Test("a client that has finished sending gets its answers")
  func halfClosed() throws {
    let sidecar = try RelaySidecar()
    let client = try RawClient(sidecar.path)
    sidecar.redis.pause()
    try client.send(encode([["GET", "plain"], ["PING"]]))
    client.finishSending()
    let other = try sidecar.client()
    for _ in 0..<3 { try other.call("PING") }
    sidecar.redis.resume()
    #expect(text(try client.readToEnd()) == "$-1\\r\\n+PONG\\r\\n")
  }

  @Test("a client is not read from for ever while Redis does not answer")
  func boundedMemory() throws {
    let sidecar = try RelaySidecar(timeout: 600_000_000_000)
    for commands in [[["GET", "plain"], ["ECHO"]], [["GET", "plain"], ["SET", "plain"]]] {
      sidecar.redis.pause()
      let client = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
      defer { close(client) }
      #expect(withUnixAddress(sidecar.path) { connect(client, $0, $1) } == 0)
      var limit = timeval(tv_sec: 0, tv_usec: 500_000)
      setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
      var bytes = RESPClient.encode(commands[0])
      var sent = 0
      while sent < 100 << 20 {
        let count = bytes.withUnsafeBytes { send(client, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        guard count == bytes.count else { break }
        sent += count
        bytes = RESPClient.encode(commands[1] + [String(repeating: "x", count: 1_000_000)])
      }
      #expect(sent < 40 << 20)
      sidecar.redis.resume()
    }
  }

  @Test("a Redis that does not answer within the configured time is given up, and found again")
  func silentRedis() throws {
    let sidecar = try RelaySidecar(timeout: 400_000_000)
    let client = try sidecar.client()
    sidecar.redis.pause()
    #expect(try client.call("GET", "plain").errorText?.contains("no answer within 400 ms") == true)
    sidecar.redis.resume()
    try eventually("Redis answers again") { try client.call("GET", "plain") == .null }
  }

  @Test("a new generation can be asked for when Redis has forgotten the scripts")
  func forgottenScripts() throws {
    let sidecar = try RelaySidecar()
    let direct = try sidecar.redis.client()
    try direct.call("SCRIPT", "FLUSH")
    let client = try sidecar.client()
    try client.send("NEARSIDE", "INVALIDATE", "ALL")
    try eventually("the request is there") {
      try direct.call("HGET", "nearside:{}:m", "req") == .bulk("1")
    }
    try sidecar.begin(Generation(0xa3))
    #expect(try client.receive() == .ok)
  }

  @Test("replies, also errors, are those of Redis itself", arguments: ["2", "3"])
  func differential(_ version: String) throws {
    let sidecar = try RelaySidecar()
    let other = try RedisServer()
    let (ours, theirs) = (try sidecar.client(), try other.client())
    try ours.call("HELLO", version)
    try theirs.call("HELLO", version)
    let long = String(repeating: "x", count: 4_000_000)
    let commands = """
      GET k|SET k v|GET k|STRLEN k|EXISTS k k|MGET k k|HGET k f|INCR k|LPUSH k x|GETRANGE k 0 1|TYPE k|TTL k
      SET k|SET k v EX|SET k v EX 0|SET k v EX abc|SET k v NX XX|SET k v EX 10 PX 10|SETEX k 0 v|SETEX k x v
      SETNX k w|SET k w NX|SET k w XX GET|GETSET k z|GET k|APPEND k abc|SETRANGE k 2 q|GET k
      EXPIRE k 100|EXPIRE k x|PERSIST k|PERSIST k|GETEX k EX 10|GETEX k FOO|GETDEL k|GETDEL k|GET k
      INCRBY k 5|INCRBYFLOAT k 1.5|DECR k|DEL k|DEL k
      HSET k f 1 g 2|HGET k f|HGET k x|HMGET k f x|HGETALL k|HKEYS k|HLEN k|HINCRBY k f 2|HINCRBYFLOAT k f 1.5
      HINCRBY k f 1|GET k|MGET k k|STRLEN k|APPEND k x|HSCAN k 0|HRANDFIELD k 0|HDEL k f|HSET k f|DEL k
      ZADD k 1 a 2.5 b|ZADD k INCR 2 a|ZADD k NX INCR 2 a|ZINCRBY k 1.5 b|ZSCORE k b|ZMSCORE k a x
      ZRANGE k 0 -1 WITHSCORES|ZRANGE k 0 -1|ZPOPMIN k|ZADD k 1 a 2 b 3 c inf d|ZPOPMAX k 2|ZPOPMIN k 1|ZADD k x a
      ZRANK k zz|ZPOPMIN k 5|ZPOPMIN k|ZPOPMIN k 2|DEL k
      SADD k a|SPOP k 1|SPOP k 2|SPOP k|SMEMBERS k|SADD k a|SMEMBERS k|SISMEMBER k a|SMISMEMBER k a b|SPOP k|DEL k
      RPUSH k a b c|LRANGE k 0 -1|LPOP k|LPOP k 2|LPOP k 2|LPOP k|LINDEX k 0|LSET k 0 x|LLEN k|DEL k
      XADD k 1-1 f v|XRANGE k - +|XLEN k|DEL k
      PFADD k a|PFCOUNT k
      SETBIT k 7 1|BITCOUNT k|BITFIELD k GET u8 0
      GET|MGET|DEL|EXISTS|SETEX k|HGET k|FOO|FOO bar baz|CLIENT FOO|CLIENT|CLIENT SETNAME a b|CLIENT SETNAME
      HELLO 4|HELLO x|HELLO 3 FOO|HELLO 3 AUTH a|SELECT x|SELECT|PING a b|PING a|ECHO|RESET x|CONFIG
      CLUSTER INFO|READONLY|COMMAND COUNT|AUTH|MSET k v l|MSET k|MSET k v|OBJECT FOO|SCRIPT FOO|CLIENT ID x
      CLIENT GETNAME|EVAL return 0 x|EVALSHA abc 0|DBSIZE x|TIME x|BITPOS k|GEOADD k 1
      """
    var differences: [String] = []
    for (number, line) in commands.split(separator: "\n").enumerated() {
      // A key for each line: what was deleted in one may not be filled by what was missed before.
      for command in ("GET k|" + line).split(separator: "|") {
        let words = command.split(separator: " ").map { $0 == "k" ? "user:\(number)" : String($0) }
        let (a, b) = (try ours.call(words), try theirs.call(words))
        if a != b { differences.append("\(command): \(a) and not \(b)") }
      }
    }
    #expect(differences == [])
    try ours.call("GET", "user:100")
    for key in ["user:100", "plain"] {
      #expect(try ours.call("SET", key, long) == .ok)
      #expect(try ours.call("GET", key) == .bulk(long))
    }
  }
}
