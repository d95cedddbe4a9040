import Invalidation
import TestSupport
import Testing

@testable import Server

@Suite("Tracking: what a client is told, and when")
struct TrackingLoopTests {
  private func tracker(_ sidecar: RelaySidecar, _ options: String...) throws -> RESPClient {
    let client = try sidecar.client()
    try client.call("HELLO", "3")
    #expect(try client.call(["CLIENT", "TRACKING", "ON"] + options) == .ok)
    return client
  }

  private func told(_ keys: String...) -> Reply {
    .push(["invalidate", .array(keys.map { .bulk($0) })])
  }
  private let everything = Reply.push(["invalidate", nil])

  /// The journal tells of a change of `keys`.
  private func hear(_ sidecar: RelaySidecar, _ number: UInt64, _ keys: String...) throws {
    var packed = PackedKeys()
    for key in keys { Array(key.utf8).withUnsafeBytes { packed.append($0) } }
    func id(_ number: UInt64) -> JournalID { JournalID(milliseconds: 0, sequence: number) }
    sidecar.mailbox.hear(
      .entries(
        [JournalEntry(id: id(number), previous: id(number - 1), position: LSN(0x1000), keys: packed)],
        generation: Generation(0xa1)))
  }

  @Test("A change while the reply is owed is told at once, and again behind the reply")
  func owed() throws {
    let sidecar = try RelaySidecar()
    let client = try tracker(sidecar)
    sidecar.redis.pause()
    try client.send(raw: RESPClient.encode(["GET", "user:1"]) + RESPClient.encode(["GET", "user:2"]))
    try eventually("both are entered") { try sidecar.count("tracked_keys") == 2 }
    try hear(sidecar, 1, "user:1")
    #expect(try client.receive() == told("user:1"))
    sidecar.redis.resume()
    #expect(try client.receive() == nil)
    #expect(try client.receive() == nil)
    #expect(try client.receive() == told("user:1"))
    // The other is still entered, and its reply has been given.
    try hear(sidecar, 2, "user:2", "user:1")
    #expect(try client.receive() == told("user:2"))
    #expect(try client.call("PING") == .simple("PONG"))
  }

  @Test("What a client's write of a governed key makes void is told before a PING behind it is answered")
  func barrier() throws {
    let sidecar = try RelaySidecar()
    let (client, other) = (try tracker(sidecar), try tracker(sidecar))
    for number in 0..<100 {
      for client in [client, other] { try client.call("GET", "user:1") }
      let write = [["DEL", "user:1"], ["UNLINK", "user:1", "user:2"], ["EXPIRE", "user:1", "9"]][number % 3]
      let commands = [write, ["PING"]].flatMap(RESPClient.encode)
      if number % 2 == 0 { try client.send(raw: commands) } else { try client.send(write) }
      if number % 2 == 1 { try client.send("PING") }
      var replies: [Reply] = []
      while replies.last != .simple("PONG") { replies.append(try client.receive()) }
      #expect(replies.contains(told("user:1")) && replies.count == 3, "\(write): \(replies)")
      #expect(try other.receive() == told("user:1"))
    }
  }

  @Test("A message never comes into the middle of a transaction's reply")
  func transaction() throws {
    let sidecar = try RelaySidecar()
    let client = try tracker(sidecar)
    let direct = try sidecar.redis.client()
    for number in 0..<50 {
      try direct.call("SET", "x", "\(number)")
      try client.send(
        raw: [
          ["MULTI"], ["GET", "x"], ["DEL", "user:1"], ["SET", "x", "n"], ["GET", "user:1"], ["EXEC"],
          ["PING"],
        ]
        .flatMap(RESPClient.encode))
      var replies: [Reply] = []
      while replies.last != .simple("PONG") {
        let next = try client.receive()
        if case .push = next { continue }
        replies.append(next)
      }
      #expect(replies[5] == .array([.bulk("\(number)"), 0, .ok, nil]))
    }
  }

  @Test("A message comes behind a long reply that is half given, not into it")
  func long() throws {
    let sidecar = try RelaySidecar()
    let length = 40 << 20
    try sidecar.redis.client().call("SETRANGE", "long", "\(length - 1)", "v")
    let client = try tracker(sidecar)
    try client.call("GET", "user:1")
    try client.send("GET", "long")
    let head = "$\(length)\r\n"
    #expect(try client.receive(bytes: head.utf8.count) == Array(head.utf8))
    try hear(sidecar, 1, "user:1")
    try eventually("it is told") { try sidecar.count("tracked_keys") == 1 }
    let value = try client.receive(bytes: length)
    #expect(value.last == UInt8(ascii: "v") && value.dropLast().allSatisfy { $0 == 0 })
    #expect(try client.receive(bytes: 2) == [13, 10])
    #expect(try client.receive() == told("user:1"))
  }

  @Test("With evidence that is too old clients are told to forget everything, and keep nothing")
  func stale() throws {
    let sidecar = try RelaySidecar(bound: 500_000_000)
    let client = try tracker(sidecar)
    try sidecar.beat()
    try client.call("GET", "user:1")
    try sidecar.waitUntilOld(500)
    #expect(try client.receive() == everything)
    try client.send("GET", "user:1")
    #expect(try client.receive() == nil)
    #expect(try client.receive() == told("user:1"))
    try sidecar.beat()
    try sidecar.beat()
    #expect(try client.call("GET", "user:1") == (nil as Reply))
    #expect(try client.call("PING") == .simple("PONG"))
    #expect(try sidecar.count("tracked_keys") == 1)
  }

  @Test("The table is bounded, and whoever loses its place is told")
  func bounded() throws {
    let sidecar = try RelaySidecar(trackedKeys: 5)
    let client = try tracker(sidecar)
    var kept: Set<String> = []
    for number in 0..<50 {
      try client.send("GET", "user:\(number)")
      kept.insert("user:\(number)")
    }
    try client.send("PING")
    while true {
      let next = try client.receive()
      if next == .simple("PONG") { break }
      for key in next.elements?.last?.elements ?? [] { kept.remove(key.text ?? "") }
    }
    #expect(kept.count == 5)
    #expect(try sidecar.status("tracked_keys") == "5")
    #expect(try sidecar.status("tracking_evicted") == "45")
  }

  @Test("The end of a value that is near is told of, though Redis is asked nothing")
  func ends() throws {
    let sidecar = try RelaySidecar()
    let client = try tracker(sidecar)
    let direct = try sidecar.redis.client()
    try direct.call("SET", "user:1", "v", "PX", "1500")
    try sidecar.beat()
    #expect(try client.call("GET", "user:1") == "v")
    #expect(try client.call("GET", "user:1") == "v")
    #expect(try client.receive() == told("user:1"))
    #expect(try sidecar.status("tracking_watch") == "off")
  }

  @Test(
    "Who broadcasts and reads a key again when told of a write finds no copy of before it, or is told again")
  func broadcastWindow() throws {
    let sidecar = try RelaySidecar()
    try sidecar.beat()
    let direct = try sidecar.redis.client()
    for number in 0..<8 { try direct.call("SETRANGE", "big\(number)", "900000", "v") }
    let watcher = try tracker(sidecar, "BCAST", "PREFIX", "user:")
    let (writer, reader) = (try sidecar.client(), try sidecar.client())
    try writer.call("HELLO", "3")
    // The removal is behind what Redis reads in several pieces, so that the read of the other protocol's connection is
    // answered before it; and its own answer is behind long ones, so that Redis's message comes long before that.
    let filler = String(repeating: "f", count: 200_000)
    let before = (0..<8).map { ["GET", "big\($0)"] } + [["SET", "filler", filler]]
    for round in 0..<20 {
      let key = "user:\(round)"
      try direct.call("SET", key, "before")
      #expect(try watcher.receive() == told(key))
      try writer.send(raw: (before + [["DEL", key]]).flatMap(RESPClient.encode))
      try reader.send("GET", key)
      #expect(try watcher.receive() == told(key))
      try watcher.send("GET", key)
      var known = try watcher.receive()
      while case .push = known { known = try watcher.receive() }
      for _ in 0..<10 { _ = try writer.receive() }
      _ = try reader.receive()
      try watcher.send("PING")
      while true {
        let next = try watcher.receive()
        if next == .simple("PONG") { break }
        if next == told(key) { known = nil }
      }
      #expect(known == (nil as Reply), "round \(round)")
    }
  }

  @Test("A new generation, and a prefix that no rule gives, cost every client everything")
  func generation() throws {
    let sidecar = try RelaySidecar()
    let client = try tracker(sidecar)
    try client.call("GET", "user:1")
    try sidecar.begin(Generation(0xa2))
    #expect(try client.receive() == everything)
    try client.call("GET", "user:1")
    let other = try sidecar.client()
    #expect(try other.call("NEARSIDE", "INVALIDATE", "PREFIX", "user:") == .ok)
    #expect(try client.receive() == everything)
  }

  @Test("A client that goes away in the middle leaves nothing behind")
  func gone() throws {
    let sidecar = try RelaySidecar()
    for _ in 0..<50 {
      let client = try tracker(sidecar)
      for number in 0..<20 { try client.call("GET", "user:\(number)") }
    }
    try eventually("nobody is left") { try sidecar.status("tracking_clients") == "0" }
    #expect(try sidecar.status("tracked_keys") == "0")
  }
}
