import Invalidation
import TestSupport
import Testing

@testable import Server

/// A transaction is applied before it is visible: what a miss in between is told.
@Suite("Misses behind a fence")
struct HoldTests {
  private func stamp(_ lease: Reply) -> LSN? {
    lease.elements?.last?.text.flatMap { LSN(hex: String($0.dropFirst(16).prefix(16))) }
  }

  @Test("a miss is held until its transaction is visible, and its lease then carries the later position")
  func heldLease() throws {
    let sidecar = try RelaySidecar(leaseWait: 10_000_000_000)
    let client = try sidecar.client()
    try sidecar.apply("user:1")
    try client.send("NEARSIDE", "LEASE", "user:1")
    try sidecar.waitUntilHeld(1)
    try sidecar.makeVisible()
    let lease = try client.receive()
    #expect(stamp(lease) == LSN(sidecar.position))
    let token = try #require(lease.elements?.last?.text)
    #expect(try client.call("NEARSIDE", "FILL", "user:1", token, "new") == 1)
  }

  @Test("a miss whose transaction stays invisible is answered after 20 ms, with the position of before")
  func heldInVain() throws {
    let sidecar = try RelaySidecar()
    let client = try sidecar.client()
    try sidecar.apply("user:1")
    let clock = ContinuousClock()
    let began = clock.now
    let lease = try client.call("NEARSIDE", "LEASE", "user:1")
    let took = began.duration(to: clock.now)
    #expect(took >= .milliseconds(20))
    #expect(took < .seconds(2))
    #expect(stamp(lease) == LSN(sidecar.position - 0x100))
    let token = try #require(lease.elements?.last?.text)
    #expect(try client.call("NEARSIDE", "FILL", "user:1", token, "old") == 0)
  }

  @Test("a plain SET after a held GET or MGET is stored", arguments: [["GET"], ["MGET", "plain", "user:2"]])
  func plainSet(_ words: [String]) throws {
    let sidecar = try RelaySidecar(leaseWait: 10_000_000_000)
    let client = try sidecar.client()
    try sidecar.apply("user:1")
    try client.send(words + ["user:1"])
    try sidecar.waitUntilHeld(1)
    try sidecar.makeVisible()
    _ = try client.receive()
    #expect(try client.call("SET", "user:1", "new") == .ok)
    #expect(try sidecar.redis.client().call("GET", "user:1") == "new")
  }

  @Test("what somebody has stored during the hold is the answer, and is kept near")
  func filledMeanwhile() throws {
    let sidecar = try RelaySidecar(leaseWait: 10_000_000_000)
    let client = try sidecar.client()
    let direct = try sidecar.redis.client()
    try sidecar.apply("user:1")
    try client.send("GET", "user:1")
    try client.send("PING")
    try sidecar.waitUntilHeld(1)
    try direct.call("SET", "user:1", "filled")
    try sidecar.makeVisible()
    #expect(try client.receive() == "filled")
    #expect(try client.receive() == .simple("PONG"))
    try sidecar.beat()
    let hits = try sidecar.status("near_hits").flatMap { Int($0) } ?? 0
    #expect(try client.call("GET", "user:1") == "filled")
    #expect(try sidecar.status("near_hits") == String(hits + 1))
  }

  @Test("replies of one client keep their order around held ones, and other clients are not held")
  func order() throws {
    let sidecar = try RelaySidecar()
    let direct = try sidecar.redis.client()
    try direct.call("SET", "plain", "p")
    let client = try sidecar.client()
    let other = try sidecar.client()
    try sidecar.apply("user:1")
    try sidecar.apply("user:2")
    let commands = [
      ["GET", "plain"], ["GET", "user:1"], ["ECHO", "a"], ["GET", "plain"], ["GET", "user:2"], ["ECHO", "b"],
      ["MGET", "plain", "user:1"], ["GET", "user:3"], ["EXISTS", "plain", "user:2"], ["HELLO", "3"],
      ["GET", "user:1"], ["ECHO", "c"],
    ]
    for _ in 0..<20 {
      for command in commands { try client.send(command) }
      #expect(try other.call("GET", "plain") == "p")
      var replies: [Reply] = []
      for _ in commands { replies.append(try client.receive()) }
      #expect(
        replies.map { $0.elements?.count == 14 ? .ok : $0 } == [
          "p", nil, "a", "p", nil, "b", .array(["p", nil]), nil, 1, .ok, nil, "c",
        ])
      try client.call("HELLO", "2")
    }
  }

  @Test("a client that leaves while it is held, and a Redis that fails meanwhile, harm nobody")
  func lost() throws {
    let sidecar = try RelaySidecar()
    let other = try sidecar.client()
    try sidecar.apply("user:1")
    for _ in 0..<20 {
      let client = try sidecar.client()
      try client.send("GET", "user:1")
      try client.send("GET", "plain")
    }
    #expect(try other.call("PING") == .simple("PONG"))
    let client = try sidecar.client()
    try client.send("GET", "user:1")
    try client.send("GET", "plain")
    try sidecar.redis.restart(hard: true)
    _ = try client.receive()
    _ = try client.receive()
    try eventually("Redis answers again") { try client.call("GET", "plain") == nil }
    try sidecar.begin(Generation(0xa9))
    try sidecar.apply("user:1")
    let lease = try client.call("NEARSIDE", "LEASE", "user:1")
    #expect(stamp(lease) == LSN(sidecar.position - 0x100))
  }

  @Test("a hit and a miss of another key are answered at once, whatever is not visible")
  func notHeld() throws {
    let sidecar = try RelaySidecar()
    let client = try sidecar.client()
    try sidecar.redis.client().call("SET", "user:2", "v")
    try sidecar.apply("user:1")
    let clock = ContinuousClock()
    var shortest = Duration.seconds(9)
    for _ in 0..<20 {
      let began = clock.now
      #expect(try client.call("MGET", "user:2", "user:3", "plain") == .array(["v", nil, nil]))
      shortest = min(shortest, began.duration(to: clock.now))
    }
    #expect(shortest < .milliseconds(15))
  }

  @Test("without Redis a miss is held in the same way")
  func embedded() throws {
    let sidecar = try EmbeddedSidecar(leaseWait: 2_000_000_000)
    var tail = Tail(sidecar)
    try tail.begin()
    let client = try sidecar.client()
    try tail.applyInvisibly("user:1")
    let early = try client.call("NEARSIDE", "LEASE", "user:1")
    #expect(stamp(early) == LSN(tail.position.rawValue - 0x100))
    try client.send("MGET", "user:2", "user:1")
    try client.send("NEARSIDE", "LEASE", "user:1")
    try client.send("ECHO", "x")
    let other = try sidecar.client()
    try eventually("the MGET is held") {
      try other.call("NEARSIDE", "STATUS").text?.contains("misses_held:2\n") == true
    }
    try tail.beat()
    #expect(try client.receive() == .array([nil, nil]))
    #expect(stamp(try client.receive()) == tail.position)
    #expect(try client.receive() == "x")
  }
}
