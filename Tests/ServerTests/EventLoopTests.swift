import Configuration
import Glibc
import Invalidation
import Synchronization
import TestSupport
import Testing

@testable import Server

@Suite("The event loop")
struct EventLoopTests {
  private func start(
    near: NearSettings = NearSettings(size: 64 << 20, maxEntry: 16 << 20, ttl: nil)
  ) throws -> (EmbeddedSidecar, RawClient) {
    let sidecar = try EmbeddedSidecar(near: near)
    var tail = Tail(sidecar)
    try tail.begin()
    return (sidecar, try RawClient(sidecar.path))
  }

  /// Random commands on a few keys, each behind a number that says where it stands.
  private func commands(_ count: Int, prefix: String, _ random: inout Seeded) -> [[String]] {
    (0..<count).map { index in
      let key = "user:\(prefix)-\(Int.random(in: 0..<20, using: &random))"
      switch Int.random(in: 0..<24, using: &random) {
      case 0..<8: return ["GET", key]
      case 8, 9: return ["get", "page:\(prefix)"]
      case 10..<13: return ["SET", key, "\(index)"]
      case 13: return ["MGET", key, "user:\(prefix)-0", key]
      case 14: return ["INCR", key]
      case 15: return ["APPEND", key, "1"]
      case 16: return ["GETSET", key, "\(index)"]
      case 17: return ["STRLEN", key]
      case 18: return ["PING"]
      case 19: return ["SET", key, "1", "FOO"]
      case 20: return ["HSET", key, "f", "v"]
      case 21: return ["GET", "other:1"]
      case 22: return ["NOSUCH", "\(index)"]
      default: return ["ECHO", "\(index)"]
      }
    }
  }

  @Test("a pipeline of thousands of commands is answered in order, as if they came one by one")
  func pipelines() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    for seed in 1...2 as ClosedRange<UInt64> {
      // The same commands under two names.
      var (first, second) = (Seeded(seed), Seeded(seed))
      let single = commands(4000, prefix: "a\(seed)", &first)
      let pipelined = commands(4000, prefix: "b\(seed)", &second)
      for prefix in ["a\(seed)", "b\(seed)"] {
        for id in 0..<20 { _ = try client.answer("GET", "user:\(prefix)-\(id)") }
      }
      let expected = try single.map { try client.answer($0) }
      let answers = cutReplies(try client.answer(pipelined.flatMap { RESPClient.encode($0) }))
      #expect(answers.count == expected.count)
      for index in 0..<min(answers.count, expected.count) where answers[index] != expected[index] {
        Issue.record("\(pipelined[index]) at \(index): \(answers[index]), alone \(expected[index])")
        break
      }
      #expect(expected.contains { $0.hasPrefix("$4") })
    }
  }

  @Test("a pipeline that comes in small pieces is answered alike")
  func pieces() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    var random = Seeded(5)
    let sent = (0..<300).flatMap { RESPClient.encode(["ECHO", "\($0)"]) }
    let expected = (0..<300).map { #"$\#("\($0)".count)\r\n\#($0)\r\n"# }
    var rest = sent[...]
    while !rest.isEmpty {
      let count = min(rest.count, Int.random(in: 1...40, using: &random))
      try client.send(Array(rest.prefix(count)))
      rest = rest.dropFirst(count)
    }
    #expect(cutReplies(try client.answer([])) == expected)
  }

  @Test("HELLO in the middle of a pipeline changes the replies behind it and none before")
  func helloInside() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    let commands = [
      ["GET", "user:1"], ["HELLO", "3"], ["GET", "user:1"], ["HELLO", "2"], ["GET", "user:1"],
    ]
    let answers = cutReplies(try client.answer(commands.flatMap { RESPClient.encode($0) }))
    #expect([answers[0], answers[2], answers[4]] == [#"$-1\r\n"#, #"_\r\n"#, #"$-1\r\n"#])
  }

  @Test("a wait holds what stands behind it and lets it go in order")
  func waitInside() throws {
    let sidecar = try EmbeddedSidecar()
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    try tail.begin()
    let (client, other) = (try RawClient(sidecar.path), try RawClient(sidecar.path))
    let position = LSN(tail.position.rawValue + 0x100)
    // More behind the wait than one batch takes.
    let commands =
      [["GET", "user:1"], ["NEARSIDE", "WAIT", position.description, "60000"], ["GET", "user:1"]]
      + (0..<200).map { ["ECHO", "\($0)"] }
    try client.send(commands.flatMap { RESPClient.encode($0) })
    #expect(text(try client.read()) == #"$-1\r\n"#)
    #expect(try other.answer("PING") == #"+PONG\r\n"#)
    try tail.change("user:2")
    let expected = [":1", "$-1"] + (0..<200).map { #"$\#("\($0)".count)\r\n\#($0)"# }
    #expect(cutReplies(try client.answer([])) == expected.map { $0 + #"\r\n"# })
  }

  @Test("whoever takes the place of a client that went while it waited gets nothing of its replies")
  func slotsAreTakenOver() throws {
    let sidecar = try EmbeddedSidecar()
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    try tail.begin()
    for round in 0..<20 {
      let position = LSN(tail.position.rawValue + 0x100)
      let first = try RESPClient(sidecar.path)
      try first.send(["NEARSIDE", "WAIT", position.description, "60000"])
      let probe = try RawClient(sidecar.path)
      try eventually("the client waits") { try status(probe, "clients") == "2" }
      withExtendedLifetime(consume first) {}
      try eventually("the client is gone") { try status(probe, "clients") == "1" }
      let second = try RawClient(sidecar.path)
      #expect(try second.answer("ECHO", "\(round)") == #"$\#("\(round)".count)\r\n\#(round)\r\n"#)
      try tail.change("user:1")
      #expect(try second.answer("PING") == #"+PONG\r\n"#)
      withExtendedLifetime(consume second) {}
      withExtendedLifetime(consume probe) {}
      let last = try RawClient(sidecar.path)
      try eventually("all are gone") { try status(last, "clients") == "1" }
    }
  }

  @Test("bytes that are no command close their connection alone, behind the answers of what came before")
  func malformed() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    _ = try client.answer("GET", "user:1")
    _ = try client.answer("SET", "user:1", "v")
    let bad = try RawClient(sidecar.path)
    try bad.send(
      (0..<500).flatMap { RESPClient.encode($0 % 2 == 0 ? ["GET", "user:1"] : ["ECHO", "\($0)"]) }
        + Array("*1\r\n$x\r\n".utf8) + RESPClient.encode(["SET", "user:1", "w"]))
    let replies = cutReplies(try bad.readToEnd())
    #expect(replies.count == 501)
    #expect(replies[498] == #"$1\r\nv\r\n"# && replies[499] == #"$3\r\n499\r\n"#)
    #expect(replies.last == #"-ERR Protocol error: invalid bulk length\r\n"#)
    #expect(try client.answer("GET", "user:1") == #"$1\r\nv\r\n"#)
    #expect(try status(client, "clients") == "1")
  }

  @Test("a connection that ends in the middle of a command leaves nothing behind")
  func truncated() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    let command = RESPClient.encode(["SET", "user:1", "value"])
    for count in 1..<command.count {
      let other = try RawClient(sidecar.path)
      try other.send(Array(command.prefix(count)))
      other.finishSending()
      #expect(try other.readToEnd() == [])
    }
    try eventually("only this client is left") { try status(client, "clients") == "1" }
    #expect(try status(client, "fills_refused") == "0")
  }

  @Test("a client that does not read holds up itself alone, and loses nothing")
  func doesNotRead() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    let value = String(repeating: "x", count: 50_000)
    #expect(try client.answer("GET", "user:1") == #"$-1\r\n"#)
    #expect(try client.answer("SET", "user:1", value) == #"+OK\r\n"#)
    let slow = try RawClient(sidecar.path)
    // 10 MB of replies are asked for; nobody reads them.
    let count = 200
    try slow.send(
      (0..<count).flatMap { RESPClient.encode(["GET", "user:1"]) + RESPClient.encode(["ECHO", "\($0)"]) })
    /// How many commands the slow client has been answered: all but those of the other one.
    func answered() throws -> Int {
      // This STATUS and its ECHO included.
      let asked = 2 * (client.answers + 1)
      return try #require(Int(status(client, "commands"))) - asked
    }
    try eventually("the slow client is no longer answered") {
      let before = try answered()
      for _ in 0..<50 { _ = try client.answer("PING") }
      return try before > 0 && answered() == before
    }
    // A batch, and perhaps another one for what the socket took.
    #expect(try answered() <= 3 * Batch.most)
    #expect(try client.answer("STRLEN", "user:1") == #":50000\r\n"#)

    let one = Array("$50000\r\n\(value)\r\n".utf8)
    var expected = 0
    var pending: [UInt8] = []
    while expected < count {
      pending += try slow.read()
      var at = 0
      while expected < count {
        let whole = one + Array("$\("\(expected)".utf8.count)\r\n\(expected)\r\n".utf8)
        guard pending.count - at >= whole.count else { break }
        guard pending[at..<at + whole.count].elementsEqual(whole) else {
          Issue.record("reply \(expected) is not the one that was asked for")
          return
        }
        at += whole.count
        expected += 1
      }
      pending.removeFirst(at)
    }
    #expect(pending.isEmpty)
  }

  @Test("large values go in and out whole")
  func largeValues() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    for (id, size) in [65_536, 1 << 20, (1 << 20) + 1, 5_000_000].enumerated() {
      var value = [UInt8](repeating: UInt8(ascii: "a"), count: size)
      for at in stride(from: 0, to: size, by: 997) { value[at] = UInt8(truncatingIfNeeded: at) }
      let key = "user:\(id)"
      #expect(try client.answer("GET", key) == #"$-1\r\n"#)
      #expect(text(try client.answer(encode([Array("SET".utf8), Array(key.utf8), value]))) == #"+OK\r\n"#)
      let isWhole = try client.answer(RESPClient.encode(["GET", key])) == Array(encode([value]).dropFirst(4))
      #expect(isWhole, "\(size) bytes")
    }
  }

  @Test("two hundred connections each get their own replies")
  func manyConnections() throws {
    let (sidecar, first) = try start()
    defer { sidecar.stop() }
    let clients = try (0..<200).map { _ in try RawClient(sidecar.path) }
    for (index, client) in clients.enumerated() {
      try client.send(
        [["GET", "user:\(index)"], ["SET", "user:\(index)", "value-\(index)"], ["CLIENT", "ID"]]
          .flatMap { RESPClient.encode($0) })
    }
    for round in 0..<20 {
      for (index, client) in clients.enumerated() {
        try client.send(
          [["GET", "user:\(index)"], ["ECHO", "\(index)-\(round)"], ["GET", "user:\((index + 1) % 200)"]]
            .flatMap { RESPClient.encode($0) })
      }
    }
    var ids: Set<String> = []
    for (index, client) in clients.enumerated() {
      let replies = cutReplies(try client.answer([]))
      #expect(replies.count == 3 + 60)
      #expect(Array(replies[..<2]) == [#"$-1\r\n"#, #"+OK\r\n"#])
      ids.insert(replies[2])
      let own = "value-\(index)"
      for round in 0..<20 {
        #expect(replies[3 + round * 3] == #"$\#(own.count)\r\n\#(own)\r\n"#)
        let echo = "\(index)-\(round)"
        #expect(replies[4 + round * 3] == #"$\#(echo.count)\r\n\#(echo)\r\n"#)
      }
    }
    #expect(ids.count == 200)
    #expect(try status(first, "clients") == "201")
  }

  @Test("connections come and go by the hundred")
  func churn() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    for index in 0..<600 {
      let other = try RawClient(sidecar.path)
      if index % 3 == 0 { #expect(try other.answer("PING") == #"+PONG\r\n"#) }
      if index % 3 == 1 { try other.send(RESPClient.encode(["GET", "user:1"])) }
    }
    try eventually("only this client is left") { try status(client, "clients") == "1" }
    #expect(try status(client, "connections") == "601")
  }

  // MARK: The socket

  @Test("a living sidecar's socket is not taken, a dead one's is replaced")
  func sockets() throws {
    let folder = try TemporaryFolder()
    let first = try EmbeddedSidecar(folder: folder)
    #expect {
      try EmbeddedSidecar(folder: folder)
    } throws: {
      "\($0)"
        == "Another nearside listens on \(first.path). Stop it, or give this one another \"listen\"."
    }
    #expect(try RawClient(first.path).answer("PING") == #"+PONG\r\n"#)
    first.stop()
    #expect(access(first.path, F_OK) != 0)

    // What a process that was killed leaves behind.
    let stale = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    #expect(withUnixAddress(first.path) { bind(stale, $0, $1) } == 0)
    close(stale)
    let second = try EmbeddedSidecar(folder: folder)
    #expect(try RawClient(second.path).answer("PING") == #"+PONG\r\n"#)
    second.stop()
  }

  @Test("a file that is no socket, and a socket of another program, are left alone")
  func otherFiles() throws {
    let folder = try TemporaryFolder()
    try folder.write("text", to: "s")
    #expect {
      try EmbeddedSidecar(folder: folder)
    } throws: { "\($0)" == "\(folder.file("s")) exists and is no socket. Remove it, or listen elsewhere." }
    #expect(readFile(folder.file("s")) == "text")
    unlink(folder.file("s"))

    let other = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(other) }
    #expect(withUnixAddress(folder.file("s")) { bind(other, $0, $1) } == 0)
    #expect(listen(other, 1) == 0)
    #expect {
      try EmbeddedSidecar(folder: folder)
    } throws: {
      "\($0)".hasPrefix("Another program listens on ")
    }
  }

  @Test("two sidecars run side by side")
  func sideBySide() throws {
    let (first, one) = try start()
    let (second, two) = try start()
    defer {
      first.stop()
      second.stop()
    }
    for client in [one, two] { #expect(try client.answer("GET", "user:1") == #"$-1\r\n"#) }
    #expect(try one.answer("SET", "user:1", "v") == #"+OK\r\n"#)
    #expect(try one.answer("GET", "user:1") == #"$1\r\nv\r\n"#)
    #expect(try two.answer("GET", "user:1") == #"$-1\r\n"#)
  }

  @Test("a loop that is stopped answers what it owes and ends its connections")
  func stops() throws {
    let (sidecar, client) = try start()
    #expect(try client.answer("PING") == #"+PONG\r\n"#)
    sidecar.stop()
    #expect(try client.readToEnd() == [])
    #expect(access(sidecar.path, F_OK) != 0)
  }
}
