import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Server

@Suite("Freshness in the embedded mode")
struct EmbeddedFreshnessTests {
  private let missing = #"$-1\r\n"#
  private let ok = #"+OK\r\n"#
  private func bulk(_ value: String) -> String { #"$\#(value.utf8.count)\r\n\#(value)\r\n"# }

  @Test("what was stored before the first beat is shown after it")
  func firstBeat() throws {
    let sidecar = try EmbeddedSidecar()
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    try tail.beginWithoutBeat()
    let client = try RawClient(sidecar.path)
    // A true miss gives a lease while evidence is still being gathered.
    #expect(try client.answer("GET", "user:1") == missing)
    #expect(try client.answer("SET", "user:1", "v") == ok)
    for (command, hidden) in Self.reads { #expect(try client.answer(command) == hidden, "\(command)") }
    #expect(try client.answer("NEARSIDE", "LEASE", "user:1") == #"*2\r\n$-1\r\n$-1\r\n"#)
    #expect(try client.answer("APPEND", "user:1", "x").hasPrefix("-TRYAGAIN"))
    #expect(try status(client, "near_hits") == "0")
    try tail.beat()
    #expect(try client.answer("GET", "user:1") == bulk("v"))
    #expect(try status(client, "near_hits") == "1")
  }

  /// Reads of a key that holds `v`, and what they answer while it may not be shown.
  private static let reads: [([String], String)] = [
    (["GET", "user:1"], #"$-1\r\n"#), (["MGET", "user:1", "user:1"], #"*2\r\n$-1\r\n$-1\r\n"#),
    (["EXISTS", "user:1"], #":0\r\n"#), (["STRLEN", "user:1"], #":0\r\n"#), (["TTL", "user:1"], #":-2\r\n"#),
    (["TYPE", "user:1"], #"+none\r\n"#), (["GETEX", "user:1"], #"$-1\r\n"#),
    (["EXPIRE", "user:1", "100"], #":0\r\n"#), (["PERSIST", "user:1"], #":0\r\n"#),
  ]

  @Test("evidence that is too old hides values until the next beat")
  func bypass() throws {
    let sidecar = try EmbeddedSidecar(bound: .milliseconds(300))
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    let client = try RawClient(sidecar.path)
    try tail.beginWithoutBeat()
    #expect(try client.answer("GET", "user:1") == missing)
    #expect(try client.answer("SET", "user:1", "v") == ok)
    try eventually("a fresh value is shown") {
      try tail.beat()
      return try client.answer("GET", "user:1") == bulk("v")
    }
    try eventually("a stale value is hidden") { try client.answer("GET", "user:1") == missing }
    for (command, hidden) in Self.reads { #expect(try client.answer(command) == hidden, "\(command)") }
    #expect(try #require(Int(status(client, "bypassed"))) > 0)
    // No right to fill now, neither with a token nor without.
    #expect(try client.answer("GET", "page:1") == missing)
    #expect(try client.answer("SET", "page:1", "w") == ok)
    #expect(try client.answer("NEARSIDE", "LEASE", "page:1") == #"*2\r\n$-1\r\n$-1\r\n"#)
    try eventually("the value is shown again") {
      try tail.beat()
      return try client.answer("GET", "user:1") == bulk("v")
    }
    #expect(try client.answer("GET", "page:1") == missing)
    // Removing needs no evidence.
    try eventually("the value is hidden again") { try client.answer("EXISTS", "user:1") == #":0\r\n"# }
    #expect(try client.answer("DEL", "user:1") == #":1\r\n"#)
  }

  @Test("beyond: serve shows what is stale and counts it")
  func serve() throws {
    let stage = try EmbeddedStage(bound: .nanoseconds(1), beyond: .serve)
    let client = stage.client
    #expect(try client.answer("GET", "user:1") == missing)
    #expect(try client.answer("SET", "user:1", "v") == ok)
    #expect(try client.answer("GET", "user:1") == bulk("v"))
    #expect(try client.answer("MGET", "user:1", "user:2") == #"*2\r\n$1\r\nv\r\n$-1\r\n"#)
    #expect(try client.answer("STRLEN", "user:1") == #":1\r\n"#)
    #expect(try status(client, "served_stale") == "3")
    #expect(try status(client, "near_hits") == "0")
    #expect(try status(client, "bypassed") == "0")
    // A change is heard all the same.
    try stage.tail.change("user:1")
    #expect(try client.answer("GET", "user:1") == missing)
  }

  @Test("beyond: fail says how old the evidence is, and removing still works")
  func fail() throws {
    let sidecar = try EmbeddedSidecar(bound: .nanoseconds(1), beyond: .fail)
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    let client = try RawClient(sidecar.path)
    let none = #"-STALE there is no evidence yet that cached values are current\r\n"#
    #expect(try client.answer("GET", "user:1") == none)
    try tail.begin()
    for command in [
      ["GET", "user:1"], ["MGET", "user:1"], ["EXISTS", "user:1"], ["TTL", "user:1"], ["GETEX", "user:1"],
      ["SET", "user:1", "v", "NX"], ["SET", "user:1", "v", "GET"], ["GETSET", "user:1", "v"],
      ["GETDEL", "user:1"], ["NEARSIDE", "LEASE", "user:1"],
    ] {
      let answer = try client.answer(command)
      #expect(answer.hasPrefix("-STALE the evidence that cached values are current is "), "\(command)")
    }
    #expect(try client.answer("DEL", "user:1") == #":0\r\n"#)
    #expect(try client.answer("SET", "user:1", "v") == ok)
  }

  // MARK: NEARSIDE WAIT

  @Test("NEARSIDE WAIT answers as soon as a position is applied, or at its time-out")
  func waits() throws {
    let stage = try EmbeddedStage()
    let client = stage.client
    #expect(try client.answer("NEARSIDE", "WAIT", stage.tail.position.description) == #":1\r\n"#)
    #expect(try client.answer("NEARSIDE", "WAIT", "FF/0", "0") == #":0\r\n"#)
    #expect(try client.answer("NEARSIDE", "WAIT", "FF/0", "20") == #":0\r\n"#)
    #expect(
      try client.answer("NEARSIDE", "WAIT", "x")
        == #"-ERR Nearside: a position is written like 0/16B3748\r\n"#)
    let waiter = try RESPClient(stage.sidecar.path)
    try waiter.send(["NEARSIDE", "WAIT", LSN(stage.tail.position.rawValue + 1).description, "60000"])
    try waiter.send(["ECHO", "behind it"])
    try stage.tail.change("user:1")
    #expect(try waiter.receive() == 1)
    #expect(try waiter.receive() == "behind it")
  }
}
