import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Redis

@Suite("Scripts behind what applications ask")
struct ApplicationScriptTests {
  let lab: Lab
  let key = "shop:user:1"
  init() throws { lab = try Lab() }

  // MARK: fill

  @Test("A fill is refused without state, in another generation, below the floor and below the fence")
  func fillRefusals() throws {
    var redis = try lab.connect()
    let set = ["SET", key, "x"]
    #expect(
      try redis.fill(lab, "replace", stamp: stamp(0x100), key, set) == ["NOSTATE", nil, nil, nil, nil, nil])
    try redis.beginCleared(lab)
    let g: RedisReply = .init(stringLiteral: g1.hex)
    let w: RedisReply = .init(stringLiteral: lsn(0x100))
    #expect(
      try redis.fill(lab, "replace", g: g2, stamp: stamp(0x900), key, set) == ["GEN", nil, g, "0", w, "0-0"])
    #expect(try redis.fill(lab, "replace", stamp: stamp(0xff, 9), key, set)[0] == "FLOOR")
    _ = try redis.apply(lab, Apply(W: 0x200, V: 0x200, keys: [key]))
    #expect(try redis.fill(lab, "replace", stamp: stamp(0x1ff, 9), key, set)[0] == "FENCE")
    #expect(try redis.fill(lab, "merge", stamp: stamp(0x1ff, 9), key, ["APPEND", key, "x"])[0] == "FENCE")
    #expect(try redis.call("EXISTS", key) == 0)
    try redis.call("SET", lab.keys.meta, "x")
    #expect(try redis.fill(lab, "replace", stamp: stamp(0x900), key, set)[0] == "NOSTATE")
    #expect(try redis.call("EXISTS", key) == 0)
  }

  @Test("A fill at the fence's own stamp is stored, and answers Redis's reply and the state it was judged by")
  func fill() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try redis.apply(lab, Apply(W: 0x200, V: 0x200, beat: true, keys: [key]))
    let jl = try redis.field(lab, "jl") ?? ""
    let reply = try redis.fill(lab, "replace", stamp: stamp(0x200), key, ["SET", key, "x", "PX", "5000"])
    #expect(
      reply
        == [
          "OK", .status("OK"), .init(stringLiteral: g1.hex), "1", .init(stringLiteral: lsn(0x200)),
          .init(stringLiteral: jl),
        ])
    #expect(try redis.call("GET", key) == "x")
    let ttl = try redis.call("PTTL", key).number ?? 0
    #expect(ttl > 4000 && ttl <= 5000)
    #expect(try redis.fill(lab, "replace", stamp: stamp(0x200), key, ["SET", key, "y", "NX"])[1] == nil)
    #expect(try redis.fill(lab, "replace", stamp: stamp(0x200), key, ["GETSET", key, "z"])[1] == "x")
    #expect(try redis.fill(lab, "merge", stamp: stamp(0x200), key, ["APPEND", key, "!"])[1] == 2)
    // Nothing of it is a counted write of the tailer.
    #expect(try redis.field(lab, "n") == "1")
  }

  @Test(
    "While values do not count, a whole-value write finds nothing: NX stores, GET is nil, KEEPTTL keeps none")
  func untrustedReplace() throws {
    var redis = try lab.connect()
    _ = try redis.begin(lab)
    try redis.call("SET", key, "old", "PX", "100000")
    let at = stamp(0x100)
    #expect(try redis.fill(lab, "replace", stamp: at, key, ["SET", key, "1", "NX"])[1] == .status("OK"))
    try redis.call("SET", key, "old", "PX", "100000")
    #expect(try redis.fill(lab, "replace", stamp: at, key, ["SET", key, "2", "GET"])[1] == nil)
    try redis.call("SET", key, "old", "PX", "100000")
    #expect(try redis.fill(lab, "replace", stamp: at, key, ["SET", key, "3", "KEEPTTL"])[1] == .status("OK"))
    #expect(try redis.call("TTL", key) == -1)
    try redis.call("UNLINK", key)
    try redis.call("RPUSH", key, "old")
    #expect(try redis.fill(lab, "replace", stamp: at, key, ["GETSET", key, "4"])[1] == nil)
    #expect(try redis.call("GET", key) == "4")
  }

  @Test("While values do not count, a write that depends on what is there is refused and leaves it alone")
  func untrustedMerge() throws {
    var redis = try lab.connect()
    _ = try redis.begin(lab)
    try redis.call("RPUSH", key, "old")
    let before = try redis.everything()
    #expect(try redis.fill(lab, "merge", stamp: stamp(0x100), key, ["RPUSH", key, "new"])[0] == "UNTRUSTED")
    #expect(try redis.everything() == before)
    // c of an older generation is as good as none.
    try redis.call("HSET", lab.keys.meta, "c", g2.hex)
    #expect(try redis.fill(lab, "merge", stamp: stamp(0x100), key, ["RPUSH", key, "new"])[0] == "UNTRUSTED")
    try redis.call("HSET", lab.keys.meta, "c", g1.hex)
    #expect(try redis.fill(lab, "merge", stamp: stamp(0x100), key, ["RPUSH", key, "new"])[1] == 2)
  }

  @Test("What Redis says against the command comes back as it stands")
  func fillErrors() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    try redis.call("RPUSH", key, "a")
    for command in [["APPEND", key, "x"], ["SET", key], ["SET", key, "x", "BANANA"], ["NOSUCH", key]] {
      let plain = try redis.command(command).errorText
      let reply = try redis.fill(lab, "merge", stamp: stamp(0x100), key, command)
      #expect(reply[0] == "OK")
      if command[0] == "NOSUCH" || command.count == 2 {
        #expect(reply[1].errorText?.hasPrefix("ERR") == true, "\(reply)")
      } else {
        #expect(reply[1].errorText == plain)
      }
      #expect(reply[2].text == g1.hex)
    }
  }

  @Test("A command with as many arguments as Lua can pass is run; one with more gets an error")
  func wideCommands() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let most = ["RPUSH", key] + [String](repeating: "x", count: StateScripts.mostArguments - 2)
    #expect(
      try redis.fill(lab, "merge", stamp: stamp(0x100), key, most)[1] == .integer(Int64(most.count - 2)))
    let over = try redis.fill(lab, "merge", stamp: stamp(0x100), key, most + ["x"])
    #expect(over[1].errorText?.contains("7900") == true)
    #expect(try redis.call("LLEN", key) == .integer(Int64(most.count - 2)))
  }

  @Test("A limit shortens what a write or a change of expiry leaves, and never lengthens it")
  func limit() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let at = stamp(0x100)
    func fill(_ redis: inout RedisConnection, _ words: [String], mode: String = "replace") throws -> Int64 {
      #expect(try redis.fill(lab, mode, stamp: at, key, words, most: "5000")[0] == "OK")
      return try redis.call("PTTL", key).number ?? 0
    }
    func isLimit(_ left: Int64) -> Bool { left > 4000 && left <= 5000 }
    #expect(isLimit(try fill(&redis, ["SET", key, "x"])))
    #expect(isLimit(try fill(&redis, ["SET", key, "x", "EX", "60"])))
    #expect(try fill(&redis, ["SET", key, "x", "PX", "3000"]) <= 3000)
    #expect(try fill(&redis, ["APPEND", key, "y"], mode: "merge") <= 3000)
    try redis.call("PERSIST", key)
    #expect(isLimit(try fill(&redis, ["SETNX", key, "z"])))
    #expect(try redis.expire(lab, key, ["PERSIST", key], most: "5000")[1] == 1)
    #expect(isLimit(try redis.call("PTTL", key).number ?? 0))
    #expect(try redis.expire(lab, key, ["EXPIRE", key, "100"], most: "5000")[1] == 1)
    #expect(isLimit(try redis.call("PTTL", key).number ?? 0))
    #expect(try redis.expire(lab, key, ["EXPIRE", key, "-1"], most: "5000")[1] == 1)
    #expect(try redis.call("EXISTS", key) == 0)
  }

  @Test("MSET stores each key by its own lease, ungoverned keys always, and says which")
  func fillMany() throws {
    var redis = try lab.connect()
    let keys = ["shop:user:1", "shop:user:2", "shop:user:3", "shop:lock:1", "shop:user:4"]
    func arguments(_ g: String) -> [String] {
      [
        g + stamp(0x200), bucket(keys[0]), "5000", "a", g + stamp(0x1ff), bucket(keys[1]), "", "b",
        g2.hex + stamp(0x200), bucket(keys[2]), "", "c", "", "", "", "d",
        g + stamp(0xff), bucket(keys[4]), "", "e",
      ]
    }
    let none = try redis.eval(StateScripts.fillMany, [lab.keys.meta] + keys, arguments(g1.hex))
    #expect(
      none == ["OK", 4, nil, nil, nil, nil, "NOSTATE", "NOSTATE", "NOSTATE", 1, "NOSTATE"])
    #expect(try redis.call("DBSIZE") == 1)
    try redis.begin(lab)
    _ = try redis.apply(lab, Apply(W: 0x200, V: 0x200, beat: true, keys: [keys[1]]))
    try redis.call("RPUSH", keys[0], "untrusted")
    let some = try redis.eval(StateScripts.fillMany, [lab.keys.meta] + keys, arguments(g1.hex))
    let jl = try redis.field(lab, "jl") ?? ""
    #expect(
      some
        == [
          "OK", 3, .init(stringLiteral: g1.hex), "1", .init(stringLiteral: lsn(0x200)),
          .init(stringLiteral: jl), 1, "FENCE", "GEN", 1, "FLOOR",
        ])
    #expect(try redis.command(["MGET"] + keys) == ["a", nil, nil, "d", nil])
    #expect(try (4000...5000).contains(redis.call("PTTL", keys[0]).number ?? 0))
    #expect(try redis.call("PTTL", keys[3]) == -1)
  }

  // MARK: del

  @Test("Removing voids outstanding leases, tells near caches and subscribers, and lets later leases fill")
  func del() throws {
    var redis = try lab.connect()
    let subscriber = try Subscriber(lab)
    try redis.beginCleared(lab)
    try redis.call("MSET", key, "a", "shop:user:2", "b", "shop:lock:1", "c")
    let outstanding = try redis.state(lab)?.stamp.hex ?? ""
    let reply = try redis.del(
      lab, "DEL", [key, "shop:lock:1", "shop:user:2", "shop:user:9"], ungoverned: ["shop:lock:1"])
    let jl = try redis.field(lab, "jl") ?? ""
    #expect(reply == ["OK", 3, .init(stringLiteral: g1.hex), .init(stringLiteral: jl)])
    #expect(try redis.call("EXISTS", key, "shop:lock:1", "shop:user:2") == 0)
    let journal = try redis.journal(lab)
    #expect(journal.count == 1 && journal[0].id == jl && journal[0].p == "0-0")
    #expect(journal[0].keys == [key, "shop:user:2", "shop:user:9"])
    #expect(journal[0].l == lsn(0x100))
    #expect(try redis.state(lab)?.deletions == 1)
    #expect(try redis.field(lab, "n") == "0")
    for other in [key, "shop:user:2", "shop:user:9"] {
      #expect(try redis.fill(lab, "replace", stamp: outstanding, other, ["SET", other, "x"])[0] == "FENCE")
    }
    let later = try redis.state(lab)?.stamp.hex ?? ""
    #expect(try redis.fill(lab, "replace", stamp: later, key, ["SET", key, "x"])[1] == .status("OK"))

    _ = try subscriber.next()
    let message = try subscriber.next()
    #expect(message["table"].map { "\($0)" } == "<null>")
    #expect(message["keys"] as? [String] == [key, "shop:user:2", "shop:user:9"])
    #expect(message["sequence"] as? Int == 1)
    #expect(message["lsn"] as? String == "0/100")
  }

  @Test("Removing never lowers a fence")
  func delKeepsFence() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    // V lags behind W, so the fence of the change lies above V and any number of deletions.
    _ = try redis.apply(lab, Apply(W: 0x200, V: 0x100, keys: [key]))
    _ = try redis.del(lab, "UNLINK", [key])
    #expect(try redis.field(lab, "b" + bucket(key)) == stamp(0x200))
    _ = try redis.del(lab, "UNLINK", ["shop:user:2"])
    #expect(try redis.field(lab, "b" + bucket("shop:user:2")) == stamp(0x100, 2))
    #expect(try redis.field(lab, "d") == "0000000000000002")
  }

  @Test("While values do not count, removing removes them all the same but does not count or show them")
  func delUntrusted() throws {
    var redis = try lab.connect()
    _ = try redis.begin(lab)
    try redis.call("MSET", key, "a", "shop:lock:1", "c", "shop:lock:2", "d")
    #expect(try redis.del(lab, "DEL", [key, "shop:lock:1"], ungoverned: ["shop:lock:1"])[1] == 1)
    #expect(try redis.call("EXISTS", key) == 0)
    #expect(try redis.journal(lab).count == 1)
    try redis.call("SET", key, "a")
    #expect(try redis.del(lab, "GETDEL", [key])[1] == nil)
    #expect(try redis.call("EXISTS", key) == 0)
    #expect(try redis.journal(lab).count == 2)
    #expect(try redis.del(lab, "GETDEL", ["shop:lock:2"], ungoverned: ["shop:lock:2"])[1] == "d")
    #expect(try redis.journal(lab).count == 2)
  }

  @Test("Without state removing is the plain command, and governed keys do not count")
  func delNoState() throws {
    var redis = try lab.connect()
    for damaged in [false, true] {
      if damaged { try redis.call("SET", lab.keys.meta, "x") }
      try redis.call("MSET", key, "a", "shop:lock:1", "c")
      let reply = try redis.del(lab, "DEL", [key, "shop:lock:1"], ungoverned: ["shop:lock:1"])
      #expect(reply == ["NOSTATE", 1, nil, nil])
      #expect(try redis.call("EXISTS", key, "shop:lock:1") == 0)
      #expect(try redis.call("EXISTS", lab.keys.meta) == (damaged ? 1 : 0))
      #expect(try redis.call("KEYS", lab.keys.journalPrefix + "*") == .array([]))
    }
  }

  @Test("GETDEL answers the value and removes it like any other; of another type it is Redis's error")
  func getdel() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    try redis.call("SET", key, "a")
    #expect(try redis.del(lab, "GETDEL", [key])[1] == "a")
    #expect(try redis.field(lab, "b" + bucket(key)) == stamp(0x100, 1))
    #expect(try redis.del(lab, "GETDEL", [key])[1] == nil)
    try redis.call("RPUSH", key, "a")
    #expect(try redis.del(lab, "GETDEL", [key])[1].errorText?.hasPrefix("WRONGTYPE") == true)
    #expect(try redis.call("EXISTS", key) == 1)
    #expect(try redis.journal(lab).count == 2)
  }

  @Test("Thousands of keys in one DEL become entries of at most a thousand, in one chain")
  func manyKeys() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let keys = (0..<2500).map { "shop:user:\($0)" }
    _ = try redis.command(["MSET"] + keys.flatMap { [$0, "x"] })
    #expect(try redis.del(lab, "DEL", keys)[1] == 2500)
    let journal = try redis.journal(lab)
    #expect(journal.map(\.keys.count) == [1000, 1000, 500])
    #expect(journal.flatMap(\.keys) == keys)
    #expect(journal.map(\.p) == ["0-0", journal[0].id, journal[1].id])
    #expect(try redis.state(lab)?.deletions == 1)
  }

  @Test("Keys with any bytes go through the journal unharmed")
  func bytes() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let keys = ["shop:\u{0}\r\n\"\\", "shop:Zoë 😀", "shop:" + String(repeating: "k", count: 70_00)]
    _ = try redis.del(lab, "DEL", keys)
    #expect(try redis.journal(lab).first?.keys == keys)
  }

  // MARK: expire

  @Test("A new time to live is told to near caches and raises no fence")
  func expire() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    try redis.call("SET", key, "a")
    let reply = try redis.expire(lab, key, ["PEXPIRE", key, "5000"])
    let jl = try redis.field(lab, "jl") ?? ""
    #expect(reply == ["OK", 1, .init(stringLiteral: g1.hex), .init(stringLiteral: jl)])
    let ttl = try redis.call("PTTL", key).number ?? 0
    #expect(ttl > 0 && ttl <= 5000)
    #expect(try redis.journal(lab).map(\.keys) == [[key]])
    #expect(try redis.state(lab)?.deletions == 0)
    #expect(try redis.field(lab, "b" + bucket(key)) == nil)
    #expect(try redis.expire(lab, key, ["GETEX", key, "PERSIST"])[1] == "a")
    #expect(try redis.call("TTL", key) == -1)
  }

  @Test("A time to live that ends the key at once is a removal")
  func expireInThePast() throws {
    var redis = try lab.connect()
    let subscriber = try Subscriber(lab)
    try redis.beginCleared(lab)
    let keys = [key, "shop:Zoë/\"😀\"", "shop:\u{1}\\"]
    for (index, key) in keys.enumerated() {
      try redis.call("SET", key, "a")
      #expect(try redis.expire(lab, key, ["EXPIRE", key, "-1"])[1] == 1)
      #expect(try redis.call("EXISTS", key) == 0)
      #expect(try redis.field(lab, "b" + bucket(key)) == stamp(0x100, UInt64(index + 1)))
    }
    #expect(try redis.journal(lab).map(\.keys) == keys.map { [$0] })
    _ = try subscriber.next()
    for (index, key) in keys.enumerated() {
      let message = try subscriber.next()
      #expect(message["keys"] as? [String] == [key])
      #expect(message["sequence"] as? Int == index + 1)
    }
  }

  @Test("A key that is no UTF-8 is published byte for byte as \\u00XX, by every script")
  func notUTF8() throws {
    var redis = try lab.connect()
    let subscriber = try Subscriber(lab)
    try redis.beginCleared(lab)
    let key: [UInt8] = Array("shop:".utf8) + [0xff, 0xc3, 0x28]
    _ = try redis.command([Array("SET".utf8), key, [1]])
    let reply = try redis.command(
      [
        Array("EVAL".utf8), Array(StateScripts.expire.utf8), [UInt8(ascii: "2")], Array(lab.keys.meta.utf8),
        key,
      ]
        + [lab.keys.journalPrefix, lab.keys.channel, "1000", "5", "", "", "EXPIRE"].map { Array($0.utf8) } + [
          key, Array("0".utf8),
        ])
    #expect(reply[1] == 1)
    _ = try subscriber.next()
    #expect(try subscriber.next()["keys"] as? [String] == ["shop:\u{ff}\u{c3}("])
    var message = PublishedMessage(table: nil)
    key.withUnsafeBytes { message.append($0) }
    #expect(String(decoding: message.rest(), as: UTF8.self).contains(#""keys":["shop:\u00ff\u00c3("]"#))
  }

  @Test("While values do not count, a time to live changes nothing; of a missing key nobody is told")
  func expireRefusals() throws {
    var redis = try lab.connect()
    try redis.call("SET", key, "a")
    #expect(try redis.expire(lab, key, ["EXPIRE", key, "5"]) == ["UNTRUSTED", nil, nil, nil])
    _ = try redis.begin(lab)
    let before = try redis.everything()
    #expect(
      try redis.expire(lab, key, ["EXPIRE", key, "5"]) == [
        "UNTRUSTED", nil, .init(stringLiteral: g1.hex), "0-0",
      ])
    try redis.call("HSET", lab.keys.meta, "c", g1.hex)
    #expect(try redis.expire(lab, "shop:none", ["EXPIRE", "shop:none", "5"])[1] == 0)
    #expect(try redis.expire(lab, key, ["EXPIRE", key, "soon"])[1].errorText?.hasPrefix("ERR") == true)
    try redis.call("HDEL", lab.keys.meta, "c")
    #expect(try redis.everything() == before)
  }

  // MARK: together

  @Test("Steps, removals, expiries and fills from many connections leave one chain and a gapless sequence")
  func together() async throws {
    let lab = lab
    let subscriber = try Subscriber(lab)
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        var redis = try lab.connect()
        for n in 0..<200 as Range<UInt64> {
          let step = try redis.apply(
            lab, Apply(n: n, W: 0x101 + n, V: 0x101 + n, beat: n % 2 == 0, keys: ["shop:user:\(n % 7)"]))
          #expect(step[0] == "OK")
        }
      }
      for worker in 0..<3 {
        group.addTask {
          var redis = try lab.connect()
          for step in 0..<100 {
            let key = "shop:user:\((step + worker) % 7)"
            let lease = try redis.state(lab)?.stamp.hex ?? ""
            _ = try redis.fill(lab, "replace", stamp: lease, key, ["SET", key, "x"])
            if step % 2 == 0 { _ = try redis.del(lab, "DEL", [key]) }
            _ = try redis.expire(lab, key, ["EXPIRE", key, "100"])
          }
        }
      }
      try await group.waitForAll()
    }
    let state = try redis.state(lab)
    #expect(state?.deletions == 150 && state?.beats == 100 && state?.applied == LSN(0x1c8))
    let journal = try redis.journal(lab)
    var previous = "0-0"
    for entry in journal {
      #expect(entry.p == previous)
      previous = entry.id
    }
    #expect(state?.journal.description == previous)
    for expected in 0...350 { #expect(try subscriber.next()["sequence"] as? Int == expected) }
  }
}
