import Invalidation
import TestSupport
import Testing

@testable import Server

/// NEARSIDE WHY in front of a real Redis, and without one.
@Suite("Why a key is cached, or is not")
struct WhyTests {
  private func why(_ key: String, _ client: RESPClient) throws -> [String: String] {
    let text = try client.call("NEARSIDE", "WHY", key).text ?? ""
    var lines: [String: String] = [:]
    for line in text.split(separator: "\n") {
      let halves = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      lines[String(halves[0])] = String(halves[1])
    }
    return lines
  }

  private func isTime(_ text: String?) -> Bool {
    text?.wholeMatch(of: /20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ/) != nil
  }

  @Test("nothing is known of a key that nobody stored", arguments: ["2", "3"])
  func nothing(_ version: String) throws {
    let sidecar = try RelaySidecar()
    let client = try sidecar.client()
    try client.call("HELLO", version)
    let lines = try why("user:1", client)
    #expect(lines["key"] == "user:1")
    #expect((lines["governed"], lines["near"]) == ("1", "0"))
    #expect((lines["fill"], lines["invalidation"], lines["refused_fills"]) == ("none", "none", "0"))
    #expect(lines["generation"] == Generation(0xa1).hex)
    #expect(isTime(lines["generation_at"]))
    #expect(try why("other", client)["governed"] == "0")
    #expect(try why("a\r\nfill:x", client)["key"] == "a  fill:x")
  }

  @Test("the last fill is told with its command, time and stamp, and never with its value")
  func stored() throws {
    let sidecar = try RelaySidecar()
    let client = try sidecar.client()
    for command in [
      ["SETEX", "user:1", "100", "secret"], ["SET", "user:1", "secret"], ["MSET", "user:1", "secret"],
    ] {
      _ = try client.call("GET", "user:1")
      #expect(try client.call(command) == .ok)
      let lines = try why("user:1", client)
      #expect(lines["fill"] == command[0])
      #expect(lines["fill_position"] == LSN(sidecar.position).description)
      #expect(lines["fill_generation"] == Generation(0xa1).hex)
      #expect(isTime(lines["fill_at"]))
      #expect(lines["fill_age_ms"].flatMap { Int($0) }.map { $0 < 60_000 } == true)
      #expect(lines["refused_fills"] == "0")
      #expect(!lines.values.contains { $0.contains("secret") })
    }
    #expect(try why("user:1", client)["near"] == "0")
    #expect(try client.call("DEL", "user:1") == 1)
    let token = try client.call("NEARSIDE", "LEASE", "user:1").elements?.last?.text ?? ""
    #expect(try client.call("NEARSIDE", "FILL", "user:1", token, "secret") == 1)
    let lines = try why("user:1", client)
    #expect((lines["fill"], lines["near"]) == ("NEARSIDE FILL", "1"))
    #expect(lines["fill_deletions"] == "1")
  }

  @Test("refused fills are counted, with the reason of the last one")
  func refused() throws {
    let sidecar = try RelaySidecar()
    let client = try sidecar.client()
    #expect(try client.call("GET", "user:1") == nil)
    try sidecar.change("user:1")
    #expect(try client.call("SET", "user:1", "old") == .ok)
    var lines = try why("user:1", client)
    #expect((lines["refused_fills"], lines["refused"], lines["fill"]) == ("1", "SET", "none"))
    #expect(lines["refused_because"]?.hasPrefix("fence: the key") == true)
    #expect(lines["refused_position"] == LSN(0x100).description)
    #expect(try client.call("HSET", "user:1", "f", "v").errorText?.hasPrefix("TRYAGAIN") == true)
    lines = try why("user:1", client)
    #expect((lines["refused_fills"], lines["refused"]) == ("2", "HSET"))
    #expect(lines["refused_because"]?.hasPrefix("barred: ") == true)
    #expect(try client.call("MSET", "user:1", "old", "user:2", "old") == .ok)
    #expect(try why("user:1", client)["refused_because"]?.hasPrefix("fence: ") == true)
    #expect(try why("user:2", client)["refused_because"]?.hasPrefix("young: ") == true)
    try sidecar.begin(Generation(0xa2))
    #expect(try client.call("SET", "user:1", "old") == .ok)
    #expect(try why("user:1", client)["refused_because"]?.hasPrefix("generation: ") == true)
  }

  @Test("SETs that go to Redis together are judged one by one, with state and without")
  func together() throws {
    let sidecar = try RelaySidecar()
    let client = try sidecar.client()
    let keys = (1...5).map { "user:\($0)" }
    for key in keys { #expect(try client.call("GET", key) == nil) }
    try sidecar.change("user:2")
    #expect(try client.pipeline(keys.map { ["SET", $0, "v"] }) == Array(repeating: .ok, count: 5))
    for key in keys {
      let lines = try why(key, client)
      #expect(lines["refused_fills"] == (key == "user:2" ? "1" : "0"), "\(key)")
      #expect(lines["fill"] == (key == "user:2" ? "none" : "SET"), "\(key)")
    }
    let others = (11...15).map { "user:\($0)" }
    for key in others { #expect(try client.call("GET", key) == nil) }
    try sidecar.redis.client().call("DEL", StateKeys(namespace: "").meta)
    #expect(try client.pipeline(others.map { ["SET", $0, "v"] }) == Array(repeating: .ok, count: 5))
    for key in others {
      let lines = try why(key, client)
      #expect((lines["refused_fills"], lines["fill"]) == ("1", "none"), "\(key)")
      #expect(lines["refused_because"]?.contains("there was no state") == true, "\(lines)")
    }
  }

  @Test(
    "the last invalidation is told with position, transaction, table and template, or as an application's")
  func removed() throws {
    let sidecar = try RelaySidecar()
    let client = try sidecar.client()
    func hear(_ number: UInt64, _ keys: [String], _ origins: PackedOrigins?) throws {
      var packed = PackedKeys()
      for key in keys { Array(key.utf8).withUnsafeBytes { packed.append($0) } }
      let id = JournalID(milliseconds: number, sequence: 0)
      let previous = JournalID(milliseconds: number - 1, sequence: 0)
      sidecar.mailbox.hear(
        .entries(
          [
            JournalEntry(id: id, previous: previous, position: LSN(number), keys: packed, origins: origins)
          ], generation: Generation(0xa1)))
      for _ in 0..<2 { try client.call("PING") }
    }
    var origins = PackedOrigins()
    // Templates stand in the order of their texts: page:{id} before user:{id}.
    origins.append(KeyOrigin(transaction: 740, table: 0, rule: 0))
    origins.append(KeyOrigin(transaction: 741, table: 0, rule: 1))
    try hear(1, ["page:1", "user:1"], origins)
    var lines = try why("user:1", client)
    #expect(lines["invalidation"] == "transaction")
    #expect(lines["invalidation_position"] == "0/1")
    #expect(lines["invalidation_transaction"] == "741")
    #expect(lines["invalidation_table"] == "public.users")
    #expect(lines["invalidation_template"] == "user:{id}")
    #expect(isTime(lines["invalidation_at"]))
    #expect(try why("page:1", client)["invalidation_transaction"] == "740")
    try hear(2, ["user:1"], nil)
    lines = try why("user:1", client)
    #expect((lines["invalidation"], lines["invalidation_position"]) == ("application", "0/2"))
    #expect(lines["invalidation_table"] == nil)
  }

  @Test("the reason of a generation is told by the sidecar that began it to all others")
  func generation() throws {
    let sidecar = try RelaySidecar()
    let client = try sidecar.client()
    sidecar.mailbox.began(Generation(0xa1), reason: "table public.users was truncated")
    try eventually("the reason is noted") {
      try sidecar.redis.client().call("HGET", "nearside:{}:m", "why")
        == .bulk("\(Generation(0xa1).hex) table public.users was truncated")
    }
    #expect(try why("user:1", client)["generation_because"] == "table public.users was truncated")
    // Another one began the next generation.
    try sidecar.begin(Generation(0xa2))
    #expect(try why("user:1", client)["generation_because"] == nil)
    try sidecar.redis.client().call("HSET", "nearside:{}:m", "why", "\(Generation(0xa2).hex) why\nnot")
    #expect(try why("user:1", client)["generation_because"] == "why not")
    sidecar.redis.pause()
    try client.send("NEARSIDE", "WHY", "user:1")
    sidecar.redis.kill()
    #expect(try client.receive().text?.contains("\ngeneration:\(Generation(0xa2).hex)\n") == true)
  }

  @Test("without Redis the same is told")
  func embedded() throws {
    let sidecar = try EmbeddedSidecar()
    var tail = Tail(sidecar)
    try tail.begin()
    let client = try sidecar.client()
    sidecar.mailbox.began(tail.generation, reason: "the replication slot is new")
    #expect(try client.call("GET", "user:1") == nil)
    #expect(try client.call("SET", "user:1", "v") == .ok)
    var lines = try why("user:1", client)
    #expect((lines["fill"], lines["near"], lines["invalidation"]) == ("SET", "1", "none"))
    #expect(lines["generation_because"] == "the replication slot is new")
    try tail.change("user:1")
    lines = try why("user:1", client)
    #expect((lines["near"], lines["invalidation"]) == ("0", "transaction"))
    #expect(lines["invalidation_position"] == tail.position.description)
    #expect(try client.call("SET", "user:1", "old") == .ok)
    lines = try why("user:1", client)
    #expect((lines["refused"], lines["refused_fills"]) == ("SET", "1"))
    #expect(lines["refused_because"]?.hasPrefix("fence: ") == true)
    #expect(try client.call("DEL", "user:1") == 0)
    #expect(try why("user:1", client)["invalidation"] == "application")
    #expect(try client.call("NEARSIDE", "INVALIDATE", "ALL") == .ok)
    #expect(try why("user:1", client)["generation_because"] == "NEARSIDE INVALIDATE ALL")
  }
}
