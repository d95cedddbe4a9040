import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Server

@Suite("Leases in the embedded mode")
struct EmbeddedLeaseTests {
  private let missing = #"$-1\r\n"#
  private let ok = #"+OK\r\n"#
  private func bulk(_ value: String) -> String { #"$\#(value.utf8.count)\r\n\#(value)\r\n"# }

  // MARK: SET without a token

  @Test("a SET after a miss is stored, one after a change that its miss did not know of is not")
  func setAfterChange() throws {
    let stage = try EmbeddedStage()
    let client = stage.client
    #expect(try client.answer("GET", "user:1") == missing)
    #expect(try client.answer("SET", "user:1", "old") == ok)
    #expect(try client.answer("GET", "user:1") == bulk("old"))
    #expect(try status(client, "fills_stored") == "1")

    try stage.tail.change("user:1", "user:2")
    #expect(try client.answer("GET", "user:1") == missing)
    // The oldest miss of the window is the one from before the change.
    #expect(try client.answer("SET", "user:1", "old again") == ok)
    #expect(try client.answer("GET", "user:1") == missing)
    #expect(try status(client, "fills_refused") == "1")

    // A key that was not missed before the change is filled at once.
    #expect(try client.answer("GET", "user:2") == missing)
    #expect(try client.answer("SET", "user:2", "new") == ok)
    #expect(try client.answer("GET", "user:2") == bulk("new"))
  }

  @Test("a hot key is filled again once its old misses have left the window")
  func hotKey() throws {
    let stage = try EmbeddedStage(plainSet: PlainSetSettings(mode: .window, window: 1_000_000_000))
    let client = stage.client
    #expect(try client.answer("GET", "user:1") == missing)
    try stage.tail.change("user:1")
    try eventually("a value is stored again") {
      _ = try client.answer("SET", "user:1", "new")
      return try client.answer("GET", "user:1") == bulk("new")
    }
    #expect(try #require(Int(status(client, "fills_refused"))) > 0)
  }

  @Test("a SET without a miss is refused while the process is younger than the window")
  func young() throws {
    let stage = try EmbeddedStage()
    let client = stage.client
    #expect(try client.answer("SET", "user:1", "v") == ok)
    #expect(try client.answer("SETNX", "user:1", "v") == #":1\r\n"#)
    #expect(try client.answer("GETSET", "user:1", "v") == missing)
    #expect(try client.answer("MSET", "user:1", "v", "user:2", "w") == ok)
    #expect(try status(client, "fills_refused") == "5")
    #expect(try client.answer("MGET", "user:1", "user:2") == #"*2\r\n$-1\r\n$-1\r\n"#)
  }

  @Test("before the tail has begun nothing is stored and nobody gets a lease")
  func nothingBegun() throws {
    let sidecar = try EmbeddedSidecar()
    defer { sidecar.stop() }
    let client = try RawClient(sidecar.path)
    #expect(try client.answer("GET", "user:1") == missing)
    #expect(try client.answer("SET", "user:1", "v") == ok)
    #expect(try client.answer("GET", "user:1") == missing)
    #expect(try client.answer("INCR", "user:1").hasPrefix("-TRYAGAIN Nearside: "))
    #expect(try client.answer("NEARSIDE", "LEASE", "user:1") == #"*2\r\n$-1\r\n$-1\r\n"#)
    #expect(try client.answer("DEL", "user:1") == #":0\r\n"#)
    #expect(try client.answer("NEARSIDE", "INVALIDATE", "ALL") == ok)
    #expect(try status(client, "generation") == "")
    #expect(try status(client, "bypassed") == "3")
    // What was told then gives nothing later: a SET of then may still be on its way.
    var tail = Tail(sidecar)
    try tail.begin()
    #expect(try client.answer("SET", "user:1", "v") == ok)
    #expect(try client.answer("GET", "user:1") == missing)
  }

  @Test("a cache whose plain SETs are off stores what comes with a token")
  func off() throws {
    let stage = try EmbeddedStage(plainSet: PlainSetSettings(mode: .off, window: 10_000_000_000))
    let client = stage.client
    let token = try lease(client, "user:1")
    #expect(try client.answer("SET", "user:1", "v") == ok)
    #expect(try client.answer("GET", "user:1") == missing)
    #expect(try client.answer("NEARSIDE", "FILL", "user:1", token, "v") == #":1\r\n"#)
    #expect(try client.answer("GET", "user:1") == bulk("v"))
  }

  @Test("a SET that is aged needs no miss, and a change keeps it out for a window")
  func aged() throws {
    let stage = try EmbeddedStage(plainSet: PlainSetSettings(mode: .aged, window: 1_500_000_000))
    let client = stage.client
    func stored() throws -> Bool {
      _ = try client.answer("SET", "user:1", "v")
      return try client.answer("GET", "user:1") == bulk("v")
    }
    #expect(try !stored())
    try eventually("the process is old enough") { try stored() }
    try stage.tail.change("user:1")
    #expect(try !stored())
    try eventually("the change lies a window back") { try stored() }
  }

  // MARK: Tokens

  @Test("a token from before a change fills nothing, one from after it does")
  func tokens() throws {
    let stage = try EmbeddedStage()
    let client = stage.client
    let old = try lease(client, "user:1")
    try stage.tail.change("user:1")
    #expect(try client.answer("NEARSIDE", "FILL", "user:1", old, "old") == #":0\r\n"#)
    let new = try lease(client, "user:1")
    #expect(try client.answer("NEARSIDE", "FILL", "user:1", new, "new", "PX", "60000") == #":1\r\n"#)
    #expect(try client.answer("TTL", "user:1") == #":60\r\n"#)
    #expect(try client.answer("NEARSIDE", "LEASE", "user:1") == #"*2\r\n$3\r\nnew\r\n$-1\r\n"#)
    _ = try client.answer("HELLO", "3")
    #expect(try client.answer("NEARSIDE", "LEASE", "user:1") == #"*2\r\n$3\r\nnew\r\n_\r\n"#)
    // A fill that is refused leaves the key empty.
    #expect(try client.answer("NEARSIDE", "FILL", "user:1", old, "old") == #":0\r\n"#)
    #expect(try client.answer("GET", "user:1") == #"_\r\n"#)
  }

  @Test("a change of another key leaves tokens alone")
  func otherKeys() throws {
    let stage = try EmbeddedStage()
    let client = stage.client
    let token = try lease(client, "user:1")
    try stage.tail.change("user:2", "page:1")
    #expect(try client.answer("NEARSIDE", "FILL", "user:1", token, "v") == #":1\r\n"#)
  }

  @Test(
    "every removal voids the leases of before, and those of after are good",
    arguments: [
      ["DEL", "user:1"], ["UNLINK", "user:1"], ["GETDEL", "user:1"], ["EXPIRE", "user:1", "0"],
      ["PEXPIRE", "user:1", "-1"], ["EXPIREAT", "user:1", "1"], ["PEXPIREAT", "user:1", "1"],
      ["GETEX", "user:1", "EXAT", "1"], ["SET", "user:1", "w", "PXAT", "1"],
      ["NEARSIDE", "INVALIDATE", "KEY", "user:1"],
    ])
  func removals(_ removal: [String]) throws {
    let stage = try EmbeddedStage()
    let client = stage.client
    let before = try lease(client, "user:1")
    #expect(try client.answer("NEARSIDE", "FILL", "user:1", before, "v") == #":1\r\n"#)
    #expect(try !client.answer(removal).hasPrefix("-"))
    #expect(try client.answer("GET", "user:1") == missing)
    #expect(try client.answer("NEARSIDE", "FILL", "user:1", before, "v") == #":0\r\n"#)
    let after = try lease(client, "user:1")
    #expect(try client.answer("NEARSIDE", "FILL", "user:1", after, "w") == #":1\r\n"#)
    #expect(try client.answer("GET", "user:1") == bulk("w"))
    #expect(try status(client, "removals") == "1")
  }

  @Test("removing what is not there voids leases all the same")
  func removalOfNothing() throws {
    let stage = try EmbeddedStage()
    let client = stage.client
    let token = try lease(client, "user:1")
    #expect(try client.answer("DEL", "user:1") == #":0\r\n"#)
    #expect(try client.answer("NEARSIDE", "FILL", "user:1", token, "v") == #":0\r\n"#)
  }

  @Test("NEARSIDE INVALIDATE KEY answers how many keys it was given")
  func invalidateKeys() throws {
    let stage = try EmbeddedStage()
    let client = stage.client
    #expect(
      try client.answer("NEARSIDE", "INVALIDATE", "KEY", "user:1", "user:2", "other:1") == #":3\r\n"#)
  }

  @Test("a token that is none, and options that are none, are errors")
  func badFills() throws {
    let sidecar = try EmbeddedSidecar()
    defer { sidecar.stop() }
    let client = try RawClient(sidecar.path)
    let token = String(repeating: "0", count: 48)
    for (words, error) in [
      (["user:1", "x", "v"], "ERR Nearside: the token is none that NEARSIDE LEASE gave"),
      (["user:1", token, "v", "EX", "5"], "ERR syntax error"),
      (["user:1", token, "v", "PX"], "ERR syntax error"),
      (["user:1", token, "v", "PX", "0"], "ERR invalid expire time in 'nearside' command"),
      (["user:1", token, "v", "PX", "x"], "ERR invalid expire time in 'nearside' command"),
      (
        ["other:1", token, "v"],
        "ERR Nearside: no mapping covers this key and no Redis is configured to hold it"
      ),
    ] {
      #expect(try client.answer(["NEARSIDE", "FILL"] + words) == #"-\#(error)\r\n"#)
    }
    #expect(try client.answer("NEARSIDE", "FILL", "user:1", token, "v") == #":0\r\n"#)
  }

  // MARK: Merging

  @Test("a merge that builds on a value of before is asked to try again, and the value stays")
  func merges() throws {
    let stage = try EmbeddedStage()
    let client = stage.client
    #expect(try client.answer("GET", "user:1") == missing)
    #expect(try client.answer("INCR", "user:1") == #":1\r\n"#)
    #expect(try client.answer("DEL", "user:1") == #":1\r\n"#)
    let token = try lease(client, "user:1")
    #expect(try client.answer("NEARSIDE", "FILL", "user:1", token, "5") == #":1\r\n"#)
    // Its lease is that of the oldest miss, from before the removal.
    let tryAgain =
      "-TRYAGAIN Nearside: the key was invalidated a moment ago, and this write may build on a value of before; "
      + #"try again\r\n"#
    #expect(try client.answer("INCR", "user:1") == tryAgain)
    #expect(try client.answer("APPEND", "user:1", "x") == tryAgain)
    #expect(try client.answer("GET", "user:1") == bulk("5"))
    #expect(try status(client, "fills_refused") == "2")
  }

  @Test("a refused SET bars merges of its key")
  func bars() throws {
    let stage = try EmbeddedStage()
    let client = stage.client
    let none = String(repeating: "0", count: 48)
    #expect(try client.answer("NEARSIDE", "FILL", "page:1", none, "v") == #":0\r\n"#)
    #expect(try client.answer("MGET", "page:1", "user:1") == #"*2\r\n$-1\r\n$-1\r\n"#)
    #expect(try client.answer("APPEND", "page:1", "x").hasPrefix("-TRYAGAIN"))
    #expect(try client.answer("INCR", "page:1").hasPrefix("-TRYAGAIN"))
    #expect(try client.answer("APPEND", "user:1", "x") == #":1\r\n"#)
    // A whole value is under no such bar.
    #expect(try client.answer("SET", "page:1", "5") == ok)
    #expect(try client.answer("GET", "page:1") == bulk("5"))
  }

  // MARK: Generations

  @Test("NEARSIDE INVALIDATE ALL empties everything, voids every lease, and the tail goes on")
  func invalidateAll() throws {
    let stage = try EmbeddedStage()
    let client = stage.client
    let first = try lease(client, "user:1")
    let second = try lease(client, "user:2")
    #expect(try client.answer("NEARSIDE", "FILL", "user:1", first, "v") == #":1\r\n"#)
    let generation = try status(client, "generation")
    #expect(generation == stage.tail.generation.hex)
    #expect(try client.answer("NEARSIDE", "INVALIDATE", "ALL") == ok)
    #expect(try status(client, "generation") != generation)
    #expect(try status(client, "near_drops") == "2")
    #expect(try client.answer("GET", "user:1") == missing)
    #expect(try client.answer("NEARSIDE", "FILL", "user:2", second, "v") == #":0\r\n"#)
    let third = try lease(client, "user:2")
    #expect(try client.answer("NEARSIDE", "FILL", "user:2", third, "v") == #":1\r\n"#)
    // The tail writes on as if nothing had been, and is heard.
    try stage.tail.change("user:2")
    #expect(try client.answer("GET", "user:2") == missing)
    #expect(try client.answer("NEARSIDE", "FILL", "user:2", third, "v") == #":0\r\n"#)
    #expect(try status(client, "applied") == stage.tail.position.description)
  }

  @Test("a new generation of the tail empties everything and voids every lease")
  func newGeneration() throws {
    let stage = try EmbeddedStage()
    let client = stage.client
    let first = try lease(client, "user:1")
    let second = try lease(client, "user:2")
    #expect(try client.answer("NEARSIDE", "FILL", "user:1", first, "v") == #":1\r\n"#)
    try stage.tail.begin()
    #expect(try client.answer("GET", "user:1") == missing)
    #expect(try client.answer("NEARSIDE", "FILL", "user:2", second, "v") == #":0\r\n"#)
  }

  @Test("after a restart everything is a miss, and the misses of before still count")
  func restart() throws {
    let folder = try TemporaryFolder()
    let first = try EmbeddedSidecar(folder: folder)
    var tail = Tail(first)
    try tail.begin()
    var client = try RawClient(first.path)
    #expect(try client.answer("MGET", "user:1", "user:2") == #"*2\r\n$-1\r\n$-1\r\n"#)
    #expect(try client.answer("SET", "user:1", "v") == ok)
    #expect(try client.answer("GET", "user:1") == bulk("v"))
    first.stop()

    let second = try EmbeddedSidecar(folder: folder)
    defer { second.stop() }
    tail = Tail(second)
    try tail.begin()
    client = try RawClient(second.path)
    #expect(try client.answer("GET", "user:1") == missing)
    // This SET may belong to the miss that the predecessor answered, in another generation.
    #expect(try client.answer("SET", "user:2", "v") == ok)
    #expect(try client.answer("GET", "user:2") == missing)
    #expect(try client.answer("GET", "user:3") == missing)
    #expect(try client.answer("SET", "user:3", "v") == ok)
    #expect(try client.answer("GET", "user:3") == bulk("v"))
  }
}
