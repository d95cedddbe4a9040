import Configuration
import Foundation
import Invalidation
import TestSupport
import Testing

@testable import Redis

@Suite("Scripts and groups of keys")
struct GroupScriptTests {
  let lab: Lab
  let pages = "pshop:category:7:"
  let page = "shop:category:7:page:1"
  let tenant = "ttenant:7"
  init() throws { lab = try Lab() }

  /// What `sweep` needs to find the tag `tenant:N` in `shop:t:N:…`.
  static let groups = KeyGroups(
    tables: [],
    caches: [
      CacheRule(
        template: template("t:{tenant_id}:user:{id}"), near: nil,
        plainSet: PlainSetSettings(mode: .window, window: 1), tags: [template("tenant:{tenant_id}")])
    ], keyPrefix: "shop:")

  private func sweep(
    _ redis: inout RedisConnection, _ n: UInt64, cursor: String = "0", _ groups: [String], count: Int = 1000
  ) throws -> RedisReply {
    let rules = Self.groups.sweepRules.flatMap { [Array($0.pattern.utf8), Array($0.replacement.utf8)] }
    return try redis.eval(
      StateScripts.sweep, [lab.keys.meta],
      ["t1", g1.hex, String(n), cursor, "shop:*", String(count)].map { Array($0.utf8) } + [packed(groups)]
        + rules)
  }

  private func swept(_ redis: inout RedisConnection, _ n: UInt64, _ pending: RedisReply) throws -> RedisReply
  {
    guard case .bulk(let bytes) = pending else { throw HarnessError("no pending groups: \(pending)") }
    return try redis.eval(
      StateScripts.swept, [lab.keys.meta], ["t1", g1.hex, String(n)].map { Array($0.utf8) } + [bytes])
  }

  // MARK: apply

  @Test("A batch raises a group's fence, enters it as pending, and names it in journal and message")
  func applyGroup() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let subscriber = try Subscriber(lab)
    let reply = try redis.apply(
      lab, Apply(W: 0x200, V: 0x180, keys: ["shop:user:1"], groups: [pages, tenant], tells: true))
    #expect(reply[0] == "OK")
    #expect(try redis.pending(lab) == [pages, tenant])
    #expect(reply[4] == (try redis.call("HGET", lab.keys.meta, "pd")))
    #expect(try redis.field(lab, "b" + bucket(pages)) == stamp(0x200))
    #expect(try redis.field(lab, "b" + bucket(tenant)) == stamp(0x200))
    #expect(try redis.field(lab, "F") == stamp(0x100))
    #expect(try redis.journal(lab).map(\.keys) == [["shop:user:1", pages, tenant]])
    let message = try subscriber.next()
    #expect(message["version"] as? Int == 2)
    #expect(message["keys"] as? [String] == ["shop:user:1"])
    #expect(message["prefixes"] as? [String] == ["shop:category:7:"])
    #expect(message["tags"] as? [String] == ["tenant:7"])
    #expect(message["table"] as? String == "public.users")
  }

  @Test("A message without groups stays of version 1")
  func plainMessage() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let subscriber = try Subscriber(lab)
    _ = try redis.apply(lab, Apply(W: 0x200, keys: [#"shop:user:"prefixes":["#]))
    let message = try subscriber.next()
    #expect(message["version"] as? Int == 1)
    #expect(message["prefixes"] == nil)
  }

  @Test("An entry with groups alone reaches the journal; pending groups are told only when asked for")
  func groupsAlone() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let reply = try redis.apply(lab, Apply(W: 0x200, groups: [pages]))
    #expect(reply[4] == "")
    let fields = try redis.call("XRANGE", lab.keys.journal(g1), "-", "+")[0][1].elements ?? []
    #expect(fields.map(\.text).contains("q"))
    #expect(try redis.apply(lab, Apply(n: 1, W: 0x201, tells: true))[4] != "")
  }

  @Test("A prefix that no rule gives raises the floor, so that every lease of before is void")
  func adHoc() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try redis.apply(lab, Apply(W: 0x200, V: 0x200, groups: ["pshop:cart:"], raisesFloor: true))
    #expect(try redis.field(lab, "F") == stamp(0x200))
    let before = try redis.fill(
      lab, "replace", stamp: stamp(0x1ff), "shop:user:9", ["SET", "shop:user:9", "x"])
    #expect(before[0] == "FLOOR")
    let after = try redis.fill(
      lab, "replace", stamp: stamp(0x200), "shop:user:9", ["SET", "shop:user:9", "x"])
    #expect(after[0] == "OK")
  }

  @Test("A re-delivered batch does not enter its groups again")
  func redelivered() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try redis.apply(lab, Apply(W: 0x200, groups: [pages]))
    let before = try redis.call("HGET", lab.keys.meta, "pd")
    _ = try redis.apply(lab, Apply(n: 1, W: 0x200, X: 0x200, groups: [pages, tenant], raisesFloor: true))
    #expect(try redis.call("HGET", lab.keys.meta, "pd") == before)
    #expect(try redis.field(lab, "F") == stamp(0x100))
  }

  @Test("More pending groups than a state should carry ask for a new generation, by number or by size")
  func tooMany() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let many = (0..<PendingGroups.most).map { "pshop:category:\($0):" }
    #expect(try redis.apply(lab, Apply(W: 0x200, groups: many))[3] == "")
    #expect(try redis.apply(lab, Apply(n: 1, W: 0x201, groups: many))[3] == "")
    #expect(try redis.apply(lab, Apply(n: 2, W: 0x202, groups: [tenant]))[3] == "2")
    try redis.begin(lab, g2, old: g1)
    #expect(try redis.pending(lab) == [])
    let long = "p" + String(repeating: "x", count: PendingGroups.mostBytes)
    let cut = String(long.prefix(65_000))
    #expect(try redis.apply(lab, Apply(g: g2, n: 0, W: 0x200, groups: [cut]))[3] == "")
    #expect(
      try redis.apply(lab, Apply(g: g2, n: 1, W: 0x201, groups: ["pshop:" + cut.prefix(600)]))[3] == "2")
  }

  // MARK: What is covered

  /// A key of the prefix, and one of the tag.
  private func coveredKeys() -> [(key: String, groups: [String])] {
    [(page, [pages]), ("shop:t:7:user:1", ["ttenant:8", tenant])]
  }

  @Test("A fill from before a group's change is refused; one from after it replaces what was there")
  func fills() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    for (key, _) in coveredKeys() { try redis.call("SET", key, "old") }
    _ = try redis.apply(lab, Apply(W: 0x200, V: 0x200, groups: [pages, tenant]))
    for (key, groups) in coveredKeys() {
      let late = try redis.fill(
        lab, "replace", stamp: stamp(0x1ff), key, ["SET", key, "late"], groups: groups)
      #expect(late[0] == "FENCE")
      let merged = try redis.fill(
        lab, "merge", stamp: stamp(0x200), key, ["APPEND", key, "x"], groups: groups)
      #expect(merged[0] == "UNTRUSTED")
      #expect(try redis.call("GET", key) == "old")
      let good = try redis.fill(
        lab, "replace", stamp: stamp(0x200), key, ["SET", key, "new", "NX", "GET"], groups: groups)
      #expect(good[0] == "OK")
      #expect(good[1] == nil)
      #expect(try redis.call("GET", key) == "new")
    }
    for other in ["shop:category:70:page:1", "shop:category:", "shop:t:8:user:1"] {
      try redis.call("SET", other, "a")
      let reply = try redis.fill(
        lab, "merge", stamp: stamp(0x200), other, ["APPEND", other, "b"], groups: ["ttenant:70", "ttenant:"])
      #expect(reply[1] == 2, "\(other)")
    }
  }

  @Test("MSET compares each key with the fences of its groups")
  func fillMany() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try redis.apply(lab, Apply(W: 0x200, V: 0x200, groups: [pages]))
    let buckets = [page, pages].map(bucket).joined(separator: ",")
    let reply = try redis.eval(
      StateScripts.fillMany, [lab.keys.meta, page, page + "2"],
      [g1.hex + stamp(0x1ff), buckets, "", "a", g1.hex + stamp(0x200), buckets, "", "b"])
    #expect(reply[1] == 1)
    #expect(try redis.command(["MGET", page, page + "2"]) == [nil, "b"])
  }

  @Test("No reply of a removal or of a change of expiry shows a covered value")
  func removals() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try redis.apply(lab, Apply(W: 0x200, V: 0x200, groups: [pages, tenant]))
    for (key, groups) in coveredKeys() {
      try redis.call("SET", key, "old")
      #expect(try redis.expire(lab, key, ["EXPIRE", key, "100"], groups: groups)[0] == "UNTRUSTED")
      #expect(try redis.call("TTL", key) == -1)
      #expect(try redis.del(lab, "GETDEL", [key], groups: groups)[1] == nil)
      #expect(try redis.call("EXISTS", key) == 0)
      _ = try redis.command(["MSET", key, "old", "shop:user:1", "x"])
      let reply = try redis.del(
        lab, "DEL", [key, "shop:user:1"], ungoverned: ["shop:user:1"], groups: groups)
      #expect(reply[1] == 1)
      #expect(try redis.call("DBSIZE") == 2)
    }
  }

  // MARK: Sweeping

  @Test("A pass removes the keys of its groups and of no other, and is counted")
  func sweeping() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let gone = [page, "shop:category:7:", "shop:t:7:user:1", "shop:t:7:user:"]
    let kept = [
      "shop:category:70:page:1", "shop:category:7", "shop:t:8:user:1", "shop:t:7:order:1",
      "shop:t:7:user:1:x",
      "other:category:7:page:1",
    ]
    for key in gone + kept { try redis.call("SET", key, "x") }
    let told = try redis.apply(lab, Apply(W: 0x200, groups: [pages, tenant], tells: true))
    var cursor = "0"
    var n: UInt64 = 1
    var removed: Int64 = 0
    repeat {
      let reply = try sweep(&redis, n, cursor: cursor, [pages, tenant], count: 2)
      #expect(reply[0] == "OK")
      cursor = reply[1].text ?? "0"
      removed += reply[2].number ?? 0
      n += 1
    } while cursor != "0"
    #expect(removed == Int64(gone.count))
    #expect(try redis.command(["EXISTS"] + kept) == .integer(Int64(kept.count)))
    #expect(try redis.field(lab, "n") == String(n))
    #expect(try swept(&redis, n, told[4]) == ["OK", ""])
    #expect(try redis.field(lab, "pd") == nil)
    #expect(try redis.field(lab, "n") == String(n + 1))
  }

  @Test("A group that was cleared again during a pass waits on, whoever cleared it")
  func raisedAgain() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let told = try redis.apply(
      lab, Apply(W: 0x200, V: 0x180, groups: [pages, tenant, "pshop:a:"], tells: true))
    // V and so the stamp of this one lie below what the entry was made with.
    #expect(try redis.invalidate(lab, pages)[0] == "OK")
    _ = try redis.apply(lab, Apply(n: 1, W: 0x201, groups: [tenant]))
    #expect(try swept(&redis, 2, told[4])[0] == "OK")
    #expect(try redis.pending(lab) == [pages, tenant])
  }

  @Test("Sweeping is for the writer of this generation alone, and notices lost writes")
  func sweepRefusals() throws {
    var redis = try lab.connect()
    #expect(try sweep(&redis, 0, [pages]) == ["NOSTATE"])
    try redis.beginCleared(lab)
    let told = try redis.apply(lab, Apply(W: 0x200, groups: [pages], tells: true))
    let before = try redis.everything()
    #expect(try sweep(&redis, 0, [pages])[0] == "REGRESSED")
    #expect(try swept(&redis, 0, told[4])[0] == "REGRESSED")
    #expect(try redis.everything() == before)
    try redis.call("HSET", lab.keys.meta, "tok", "t2")
    #expect(try sweep(&redis, 1, [pages])[0] == "FENCED")
    #expect(try swept(&redis, 1, told[4])[0] == "FENCED")
  }

  // MARK: An application's own

  @Test("Clearing a group by command voids leases of before, and leases of after are good at once")
  func invalidate() throws {
    var redis = try lab.connect()
    #expect(try redis.invalidate(lab, pages) == ["NOSTATE"])
    try redis.beginCleared(lab)
    let subscriber = try Subscriber(lab)
    let reply = try redis.invalidate(lab, pages)
    let jl = try redis.field(lab, "jl") ?? ""
    #expect(reply == ["OK", .init(stringLiteral: g1.hex), .init(stringLiteral: jl)])
    #expect(try redis.pending(lab) == [pages])
    #expect(try redis.journal(lab).map(\.keys) == [[pages]])
    #expect(try redis.field(lab, "n") == "0")
    let message = try subscriber.next()
    #expect(message["version"] as? Int == 2)
    #expect(message["prefixes"] as? [String] == ["shop:category:7:"])
    #expect(message["tags"] as? [String] == [])
    #expect(message["table"] is NSNull)
    let set = ["SET", page, "x"]
    #expect(try redis.fill(lab, "replace", stamp: stamp(0x100), page, set, groups: [pages])[0] == "FENCE")
    #expect(try redis.fill(lab, "replace", stamp: stamp(0x100, 1), page, set, groups: [pages])[0] == "OK")
    #expect(try redis.field(lab, "F") == stamp(0x100))
    _ = try redis.invalidate(lab, "pshop:", raisesFloor: true)
    #expect(try redis.field(lab, "F") == stamp(0x100, 2))
  }

  @Test("Without a tailer the pending groups stay bounded: the command is refused, and changes nothing")
  func full() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let many = (0..<(4 * PendingGroups.most)).map { "pshop:category:\($0):" }
    for at in stride(from: 0, to: many.count, by: 1000) {
      let n = UInt64(at / 1000)
      _ = try redis.apply(lab, Apply(n: n, W: 0x200 + n, groups: Array(many[at..<(at + 1000)])))
    }
    #expect(try redis.field(lab, "req") == nil)
    #expect(try redis.invalidate(lab, many[0])[0] == "OK")
    #expect(try redis.field(lab, "req") == "2")
    let before = try redis.everything()
    #expect(try redis.invalidate(lab, tenant) == ["FULL"])
    #expect(try redis.everything() == before)
  }
}

func template(_ text: String) -> KeyTemplate {
  (try? KeyTemplate.parse(text, place: SourcePlace(line: 1, column: 1, length: 1)))
    ?? KeyTemplate(parts: [], isPrefix: false, text: text, place: SourcePlace(line: 1, column: 1, length: 1))
}
