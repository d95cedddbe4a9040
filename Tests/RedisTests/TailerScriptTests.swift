import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Redis

@Suite("Scripts of the tailer")
struct TailerScriptTests {
  let lab: Lab
  init() throws { lab = try Lab() }

  // MARK: newGeneration

  @Test(
    "A new generation writes every field afresh, trusts nothing, and tells subscribers to drop everything")
  func newGeneration() throws {
    var redis = try lab.connect()
    let subscriber = try Subscriber(lab)
    #expect(try redis.begin(lab, at: 0x16_b374_8000) == ["OK"])
    let state = try redis.state(lab)
    #expect(
      state
        == FleetState(
          generation: g1, cleared: nil, beats: 0, applied: LSN(0x16_b374_8000), visible: LSN(0x16_b374_8000),
          floor: Stamp(visible: LSN(0x16_b374_8000), deletions: 0), deletions: 0, journal: .zero,
          watching: false, mapping: "cfg"))
    #expect(state?.trusted == false)
    let ttl = try redis.call("TTL", lab.keys.meta)
    #expect(ttl == -1)
    let message = try subscriber.next()
    #expect(message["version"] as? Int == 1)
    #expect(message["generation"] as? String == g1.hex)
    #expect(message["sequence"] as? Int == 0)
    #expect(message["lsn"] as? String == "16/B3748000")
    #expect(message["all"] as? Bool == true)
    #expect(message.count == 5)
  }

  @Test("A new generation drops fences, trust and the request, and counts the epoch on")
  func newGenerationDropsTheOld() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try redis.apply(lab, Apply(W: 0x200, keys: ["shop:user:1"]))
    _ = try redis.eval(StateScripts.ask, [lab.keys.meta])
    #expect(try redis.begin(lab, g2, old: g1) == ["OK"])
    for field in ["c", "req", "b" + bucket("shop:user:1")] {
      #expect(try redis.field(lab, field) == nil, "\(field)")
    }
    #expect(try redis.field(lab, "n") == "0")
    #expect(try redis.field(lab, "ep") == "2")
  }

  @Test("The old journal ends with an entry without keys, chained to the last, and dies within a minute")
  func oldJournal() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try redis.apply(lab, Apply(W: 0x200, keys: ["shop:user:1"]))
    _ = try redis.begin(lab, g2, old: g1)
    let journal = try redis.journal(lab)
    #expect(journal.count == 2)
    #expect(journal.last?.p == journal.first?.id)
    #expect(journal.last?.keys == [])
    let ttl = try redis.call("PTTL", lab.keys.journal(g1)).number ?? 0
    #expect(ttl > 50_000 && ttl <= 60_000)
  }

  @Test("A new generation in place of another than the stored one is a race, and changes nothing")
  func race() throws {
    var redis = try lab.connect()
    #expect(try redis.begin(lab, g2, old: g1) == ["RACE", ""])
    _ = try redis.begin(lab)
    let before = try redis.everything()
    #expect(try redis.begin(lab, g3) == ["RACE", .init(stringLiteral: g1.hex)])
    #expect(try redis.begin(lab, g3, old: g2) == ["RACE", .init(stringLiteral: g1.hex)])
    #expect(try redis.everything() == before)
  }

  @Test("Only the writer, on a timeline not older than the state's, begins a generation")
  func newGenerationRefusals() throws {
    var redis = try lab.connect()
    _ = try redis.begin(lab, timeline: "0000000a")
    let before = try redis.everything()
    #expect(try redis.begin(lab, g2, old: g1, token: "t2")[0] == "FENCED")
    #expect(try redis.begin(lab, g2, old: g1, timeline: "00000009") == ["OLDTL", "0000000a"])
    #expect(try redis.everything() == before)
    #expect(try redis.begin(lab, g2, old: g1, timeline: "0000000b") == ["OK"])
  }

  @Test("A hash of another type, or one that lacks a field, is no state, and can be replaced")
  func malformed() throws {
    var redis = try lab.connect()
    for damage in [
      ["SET", lab.keys.meta, "x"], ["HDEL", lab.keys.meta, "wt"], ["HDEL", lab.keys.meta, "W"],
      ["HSET", lab.keys.meta, "pd", "x"], ["HSET", lab.keys.meta, "pd", "pshop:"],
      ["HSET", lab.keys.meta, "pd", "\0\u{1}x\0\u{1}1"],
    ] {
      try redis.call("UNLINK", lab.keys.meta)
      _ = try redis.begin(lab)
      _ = try redis.command(damage)
      let taken = try redis.eval(StateScripts.takeover, [lab.keys.meta], ["t1", "7", "00000001", "cfg"])
      #expect(taken == ["NOSTATE"], "\(damage)")
      #expect(try redis.begin(lab, g2) == ["OK"], "\(damage)")
      #expect(try redis.state(lab)?.generation == g2, "\(damage)")
    }
  }

  // MARK: takeover

  @Test("Taking over answers what the tailer needs, and makes it the only writer")
  func takeover() throws {
    var redis = try lab.connect()
    let first = try redis.eval(StateScripts.takeover, [lab.keys.meta], ["t2", "7", "00000001", "cfg"])
    #expect(first == ["NOSTATE"])
    _ = try redis.begin(lab)
    _ = try redis.apply(lab, Apply(W: 0x200, V: 0x180, beat: true))
    let reply = try redis.eval(StateScripts.takeover, [lab.keys.meta], ["t2", "7", "00000001", "cfg"])
    #expect(
      reply.elements?.map(\.text) == ["OK", g1.hex, lsn(0x200), lsn(0x180), "1", "1", "0-0", "0", ""])
    #expect(try redis.apply(lab, Apply(n: 1))[0] == "FENCED")
    #expect(try redis.apply(lab, Apply(token: "t2", n: 1, W: 0x300))[0] == "OK")
    try redis.call("HSET", lab.keys.meta, "c", g1.hex)
    let again = try redis.eval(StateScripts.takeover, [lab.keys.meta], ["t3", "7", "00000001", "cfg"])
    #expect(again[8].text == g1.hex)
    #expect(try redis.field(lab, "ep") == "3")
  }

  @Test(
    "Another system or older timeline takes nothing over; a newer one or another mapping needs a generation"
  )
  func takeoverRefusals() throws {
    var redis = try lab.connect()
    _ = try redis.begin(lab, timeline: "0000000a")
    let before = try redis.everything()
    let other = try redis.eval(StateScripts.takeover, [lab.keys.meta], ["t2", "8", "0000000a", "cfg"])
    #expect(other == ["SYSID", "7"])
    let older = try redis.eval(StateScripts.takeover, [lab.keys.meta], ["t2", "7", "00000009", "cfg"])
    #expect(older == ["OLDTL", "0000000a"])
    #expect(try redis.everything() == before)
    for (timeline, mapping) in [("0000000b", "cfg"), ("0000000a", "other")] {
      let reply = try redis.eval(StateScripts.takeover, [lab.keys.meta], ["t2", "7", timeline, mapping])
      #expect(reply.elements?.map(\.text) == ["NEEDGEN", g1.hex, "0000000a", "cfg"])
      #expect(try redis.field(lab, "tok") == "t2")
    }
  }

  // MARK: apply

  @Test("A step deletes its keys, raises their fences, writes the journal and moves the watermark")
  func apply() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    try redis.call("MSET", "shop:user:1", "a", "shop:user:2", "b", "shop:user:3", "c")
    let reply = try redis.apply(
      lab, Apply(W: 0x200, V: 0x180, beat: true, keys: ["shop:user:1", "shop:user:2", "shop:user:9"]))
    #expect(reply.elements?.map(\.text) == ["OK", lsn(0x200), lsn(0x180), "", ""])
    #expect(try redis.call("EXISTS", "shop:user:1", "shop:user:2") == 0)
    #expect(try redis.call("EXISTS", "shop:user:3") == 1)
    for key in ["shop:user:1", "shop:user:2", "shop:user:9"] {
      #expect(try redis.field(lab, "b" + bucket(key)) == stamp(0x200))
    }
    #expect(try redis.field(lab, "b" + bucket("shop:user:3")) == nil)
    let state = try redis.state(lab)
    #expect(state?.applied == LSN(0x200) && state?.visible == LSN(0x180) && state?.beats == 1)
    let journal = try redis.journal(lab)
    #expect(journal.count == 1)
    #expect(journal.first?.p == "0-0" && journal.first?.l == lsn(0x200))
    #expect(journal.first?.keys == ["shop:user:1", "shop:user:2", "shop:user:9"])
    #expect(state?.journal.description == journal.first?.id)
    #expect(try redis.field(lab, "n") == "1")
  }

  @Test("Whoever is not the writer, knows another generation or has missed a write changes nothing")
  func applyRefusals() throws {
    var redis = try lab.connect()
    try redis.call("SET", "shop:user:1", "a")
    var before = try redis.everything()
    #expect(try redis.apply(lab, Apply(keys: ["shop:user:1"])) == ["NOSTATE"])
    #expect(try redis.everything() == before)
    _ = try redis.begin(lab)
    _ = try redis.apply(lab, Apply(W: 0x200))
    before = try redis.everything()
    let keys = ["shop:user:1"]
    #expect(
      try redis.apply(lab, Apply(token: "t2", n: 1, W: 0x300, keys: keys))
        == ["FENCED", .init(stringLiteral: g1.hex)])
    #expect(
      try redis.apply(lab, Apply(g: g2, n: 1, W: 0x300, keys: keys)) == [
        "FENCED", .init(stringLiteral: g1.hex),
      ])
    for n: UInt64 in [0, 2] {
      #expect(
        try redis.apply(lab, Apply(n: n, W: 0x300, keys: keys))
          == ["REGRESSED", "1", .init(stringLiteral: lsn(0x200))])
    }
    #expect(try redis.everything() == before)
  }

  @Test("A re-delivered step clears its keys again, but lowers neither watermark nor fence")
  func redelivery() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try redis.apply(lab, Apply(W: 0x300, V: 0x300, keys: ["shop:user:1"]))
    try redis.call("SET", "shop:user:1", "filled")
    let reply = try redis.apply(lab, Apply(n: 1, W: 0x200, V: 0x200, keys: ["shop:user:1", "shop:user:2"]))
    #expect(reply.elements?.map(\.text) == ["OK", lsn(0x300), lsn(0x300), "", ""])
    #expect(try redis.call("EXISTS", "shop:user:1") == 0)
    #expect(try redis.field(lab, "b" + bucket("shop:user:1")) == stamp(0x300))
    #expect(try redis.journal(lab).count == 2)
  }

  @Test("Of a batch in several steps, each raises fences to the batch's end and only the last moves W")
  func steps() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let first = try redis.apply(lab, Apply(W: 0x100, X: 0x300, keys: ["shop:user:1"]))
    #expect(first[1].text == lsn(0x100))
    #expect(try redis.field(lab, "b" + bucket("shop:user:1")) == stamp(0x300))
    // A fill of a lease given before the batch is already refused, though W has not moved.
    #expect(
      try redis.fill(lab, "replace", stamp: stamp(0x100), "shop:user:1", ["SET", "shop:user:1", "x"])[0]
        == "FENCE")
    let second = try redis.apply(lab, Apply(n: 1, W: 0x300, V: 0x300, X: 0x300, keys: ["shop:user:2"]))
    #expect(second[1].text == lsn(0x300))
    #expect(try redis.field(lab, "b" + bucket("shop:user:2")) == stamp(0x300))
  }

  @Test("Positions beyond 2^53 are compared digit by digit")
  func bigPositions() throws {
    var redis = try lab.connect()
    _ = try redis.begin(lab, at: 0x8000_0000_0000_0001)
    let reply = try redis.apply(
      lab, Apply(W: 0x8000_0000_0000_0002, V: 0x8000_0000_0000_0002, keys: ["shop:user:1"]))
    #expect(reply[1].text == lsn(0x8000_0000_0000_0002))
    let older = try redis.apply(lab, Apply(n: 1, W: 0x8000_0000_0000_0001, V: 0x8000_0000_0000_0001))
    #expect(older[1].text == lsn(0x8000_0000_0000_0002))
  }

  @Test("Of two writers with one count, one is told that it has missed a write")
  func twoWriters() throws {
    var one = try lab.connect()
    var two = try lab.connect()
    _ = try one.begin(lab)
    try one.append(["PING"])
    let first = try two.apply(lab, Apply(W: 0x200))
    _ = try one.receive()
    let second = try one.apply(lab, Apply(W: 0x300))
    #expect(first[0] == "OK")
    #expect(second == ["REGRESSED", "1", .init(stringLiteral: lsn(0x200))])
  }

  @Test("wt is set when given and left alone otherwise")
  func watching() throws {
    var redis = try lab.connect()
    _ = try redis.begin(lab)
    try redis.call("HSET", lab.keys.meta, "wt", "1")
    _ = try redis.apply(lab, Apply())
    #expect(try redis.field(lab, "wt") == "1")
    _ = try redis.apply(lab, Apply(n: 1, wt: "0"))
    #expect(try redis.field(lab, "wt") == "0")
  }

  @Test("The tailer hears with its next step that somebody asked for a new generation")
  func asking() throws {
    var redis = try lab.connect()
    #expect(try redis.eval(StateScripts.ask, [lab.keys.meta]) == 0)
    #expect(try redis.call("EXISTS", lab.keys.meta) == 0)
    _ = try redis.begin(lab)
    #expect(try redis.apply(lab, Apply())[3] == "")
    #expect(try redis.eval(StateScripts.ask, [lab.keys.meta]) == 1)
    #expect(try redis.apply(lab, Apply(n: 1))[3] == "1")
    try redis.call("SET", lab.keys.meta, "x")
    #expect(try redis.eval(StateScripts.ask, [lab.keys.meta]) == 0)
  }

  // MARK: the journal

  @Test("Old entries leave the journal by age")
  func trimmedByAge() throws {
    var redis = try lab.connect()
    _ = try redis.begin(lab)
    // Streams lose whole nodes of 100 entries at once, so it takes more than that to see one go.
    for n in 0..<250 as Range<UInt64> {
      _ = try redis.apply(lab, Apply(n: n, keep: 0, keys: ["shop:user:\(n)"]))
    }
    let length = try redis.call("XLEN", lab.keys.journal(g1)).number ?? 0
    #expect(length > 0 && length <= 200)
    let last = try redis.journal(lab).last
    #expect(try redis.field(lab, "jl") == last?.id)
  }

  @Test("A journal larger than it may be loses about half its entries, when the step asks to look")
  func trimmedBySize() throws {
    var redis = try lab.connect()
    _ = try redis.begin(lab)
    let long = String(repeating: "x", count: 2000)
    for n in 0..<400 as Range<UInt64> { _ = try redis.apply(lab, Apply(n: n, keys: ["shop:\(n):\(long)"])) }
    let length = try redis.call("XLEN", lab.keys.journal(g1)).number ?? 0
    #expect(length == 400)
    _ = try redis.apply(lab, Apply(n: 400, size: "10000000"))
    #expect(try redis.call("XLEN", lab.keys.journal(g1)) == 400)
    _ = try redis.apply(lab, Apply(n: 401, size: "100000"))
    let left = try redis.call("XLEN", lab.keys.journal(g1)).number ?? 0
    #expect(left >= 200 && left < 210)
  }

  @Test("An evicted journal goes on above its last id, even if the server's clock has gone back")
  func evictedJournal() throws {
    var redis = try lab.connect()
    _ = try redis.begin(lab)
    let future = "99999999999999-5"
    try redis.call("HSET", lab.keys.meta, "jl", future)
    _ = try redis.apply(lab, Apply(keys: ["shop:user:1"]))
    _ = try redis.apply(lab, Apply(n: 1, keys: ["shop:user:2"]))
    let journal = try redis.journal(lab)
    #expect(journal.map(\.p) == [future, "100000000000000-0"])
    #expect(journal.map(\.id) == ["100000000000000-0", "100000000000000-1"])
  }

  // MARK: purge

  @Test("The purge removes the governed keys of the namespace in counted steps and leaves all others")
  func purge() throws {
    var redis = try lab.connect()
    _ = try redis.begin(lab)
    for index in 0..<10_000 {
      try redis.append(["SET", "shop:user:\(index)", "x"])
      if index < 1000 {
        try redis.append(["SET", "shop:lock:\(index)", "x"])
        try redis.append(["SET", "other:user:\(index)", "x"])
      }
    }
    for _ in 0..<12_000 { _ = try redis.receive() }
    var (cursor, n, removed) = ("0", 0, 0 as Int64)
    repeat {
      let reply = try redis.eval(
        StateScripts.purge, [lab.keys.meta],
        ["t1", g1.hex, String(n), cursor, "shop:*", "200", "^shop:user:[^:]*$", "^shop:cart:"])
      #expect(reply[0] == "OK")
      cursor = reply[1].text ?? "0"
      removed += reply[2].number ?? 0
      n += 1
    } while cursor != "0"
    #expect(removed == 10_000)
    #expect(n > 20)
    #expect(try redis.field(lab, "n") == String(n))
    #expect(try redis.call("DBSIZE") == 2001)
    #expect(try redis.state(lab)?.trusted == false)

    for (token, g, count, word) in [
      ("t2", g1, n, "FENCED"), ("t1", g2, n, "FENCED"), ("t1", g1, n - 1, "REGRESSED"),
      ("t1", g1, n + 1, "REGRESSED"),
    ] {
      let reply = try redis.eval(StateScripts.purged, [lab.keys.meta], [token, g.hex, String(count)])
      #expect(reply[0].text == word)
      let step = try redis.eval(
        StateScripts.purge, [lab.keys.meta], [token, g.hex, String(count), "0", "*", "1000"])
      #expect(step[0].text == word)
    }
    #expect(try redis.call("DBSIZE") == 2001)
    #expect(try redis.state(lab)?.trusted == false)
    let cleared = try redis.eval(StateScripts.purged, [lab.keys.meta], ["t1", g1.hex, String(n)])
    #expect(cleared == ["OK"])
    #expect(try redis.state(lab)?.trusted == true)
    #expect(try redis.field(lab, "n") == String(n + 1))
  }

  @Test("Without patterns the purge removes all that MATCH covers; without state it removes nothing")
  func purgeAll() throws {
    var redis = try lab.connect()
    try redis.call("MSET", "shop:a", "1", "shop:b", "2", "other:a", "3")
    let none = try redis.eval(
      StateScripts.purge, [lab.keys.meta], ["t1", g1.hex, "0", "0", "shop:*", "1000"])
    #expect(none == ["NOSTATE"])
    #expect(try redis.eval(StateScripts.purged, [lab.keys.meta], ["t1", g1.hex, "0"]) == ["NOSTATE"])
    #expect(try redis.call("DBSIZE") == 3)
    _ = try redis.begin(lab)
    let all = try redis.eval(
      StateScripts.purge, [lab.keys.meta], ["t1", g1.hex, "0", "0", "shop:*", "1000"])
    #expect(all == ["OK", "0", 2])
    #expect(try redis.call("KEYS", "*:a") == ["other:a"])
  }

  // MARK: a full Redis

  @Test("A full Redis still takes over, begins, clears, deletes and purges; a fill gets its own OOM error")
  func outOfMemory() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    try redis.call("MSET", "shop:user:1", "a", "shop:user:2", "b")
    try redis.call("CONFIG", "SET", "maxmemory", "1")
    #expect(try redis.call("SET", "shop:x", "y").errorText?.hasPrefix("OOM") == true)
    let fill = try redis.fill(
      lab, "replace", stamp: stamp(0x100), "shop:user:3", ["SET", "shop:user:3", "x"])
    #expect(fill[0] == "OK")
    #expect(fill[1].errorText?.hasPrefix("OOM") == true)
    let many = try redis.eval(
      StateScripts.fillMany, [lab.keys.meta, "shop:user:3"],
      [g1.hex + stamp(0x100), bucket("shop:user:3"), "", "x"])
    #expect(many.errorText?.hasPrefix("OOM") == true)
    let step = try redis.apply(lab, Apply(W: 0x200, keys: ["shop:user:1"]))
    #expect(step[0] == "OK")
    #expect(try redis.del(lab, "DEL", ["shop:user:2"])[1] == 1)
    #expect(try redis.call("EXISTS", "shop:user:1", "shop:user:2") == 0)
    #expect(try redis.journal(lab).count == 2)
    let taken = try redis.eval(StateScripts.takeover, [lab.keys.meta], ["t1", "7", "00000001", "cfg"])
    #expect(taken[0] == "OK")
    #expect(try redis.begin(lab, g2, old: g1) == ["OK"])
    let purge = try redis.eval(
      StateScripts.purge, [lab.keys.meta], ["t1", g2.hex, "0", "0", "shop:*", "100"])
    #expect(purge[0] == "OK")
    #expect(try redis.eval(StateScripts.purged, [lab.keys.meta], ["t1", g2.hex, "1"]) == ["OK"])
  }
}
