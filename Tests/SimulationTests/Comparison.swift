import Invalidation
import TestSupport

@testable import simulate

/// Calls a script here and there, with arguments made up from what the twin holds: mostly such as a sidecar
/// would send, often not.
struct Comparison {
  private let client: RESPClient
  private let keys = StateKeys(namespace: "s")
  private var digests: [String: String] = [:]
  private var dump = ""
  private var twin = ModelRedis()
  private var random: SplitMix
  private var generations: UInt64 = 0
  /// The last belongs to no group.
  private let names = ["s:c:0:0:1", "s:c:0:1:2", "s:c:1:1:3", "s:lock"]
  /// Two that the mapping gives, and two prefixes that it does not.
  private let groups = ["ps:c:0:", "tg:1", "ps:c:1:1", "ps:"]
  private let mapping = Mapping.withGroups
  private let tokens = ["t1", "t2"]

  init(_ server: RedisServer, seed: UInt64) throws {
    client = try server.client()
    random = SplitMix(state: seed)
    for (name, script) in [
      ("apply", StateScripts.apply), ("takeover", StateScripts.takeover),
      ("newGeneration", StateScripts.newGeneration), ("purge", StateScripts.purge),
      ("purged", StateScripts.purged), ("fill", StateScripts.fill), ("fillMany", StateScripts.fillMany),
      ("written", StateScripts.written),
      ("del", StateScripts.del), ("expire", StateScripts.expire), ("ask", StateScripts.ask),
      ("sweep", StateScripts.sweep),
      ("swept", StateScripts.swept), ("invalidateGroup", StateScripts.invalidateGroup),
    ] {
      digests[name] = try client.call("SCRIPT", "LOAD", script).text
    }
    dump = try client.call("SCRIPT", "LOAD", RealState.script).text ?? ""
  }

  /// One call, or one blow from outside. What was called, and what came of it in both places.
  mutating func step() throws -> (what: String, twin: String, real: String) {
    twin.clock += 1 + random.below(3 as UInt64)
    let (what, reply, command) = try make()
    let real = try client.pipeline([command, ["EVALSHA", dump, "0"]])
    let before = Self.line(real[0])
    return (what, reply + "\n" + twin.description, before + "\n" + RealState.describe(real[1]))
  }

  private mutating func make() throws -> (what: String, reply: String, command: [String]) {
    switch random.below(100) {
    case 0..<30: return apply()
    case 30..<34: return takeover()
    case 34..<40: return try newGeneration()
    case 40..<43: return purge()
    case 43..<47: return purged()
    case 47..<50: return sweep()
    case 50..<53: return try swept()
    case 53..<57: return invalidateGroup()
    case 57..<66: return fill()
    case 66..<71: return try written()
    case 71..<74: return fillMany()
    case 74..<81: return del()
    case 81..<87: return expire()
    case 87..<89: return ask()
    default: return blow()
    }
  }

  // MARK: Arguments

  private mutating func pick<T>(_ all: [T]) -> T { all[random.below(all.count)] }
  private var g: Generation { twin.hash?.g ?? Generation(0xa0) }

  private mutating func some(_ right: Generation) -> Generation {
    random.once(in: 8) ? Generation(0xa0 + UInt64(random.below(4))) : right
  }

  private mutating func position(_ near: LSN?) -> LSN {
    let base = near?.rawValue ?? 0x100
    return LSN(base + random.below(12 as UInt64) - min(base, 3))
  }

  private mutating func token() -> String {
    random.once(in: 8) ? pick(tokens) : twin.hash?.tok ?? pick(tokens)
  }

  private mutating func count() -> UInt64 {
    let n = twin.hash?.n ?? 0
    return random.once(in: 8) ? n + random.below(2 as UInt64) : n
  }

  private func bucket(_ key: String) -> Int {
    var key = key
    return key.withUTF8 { KeyHash.bucket(UnsafeRawBufferPointer($0)) }
  }

  private func membership(_ key: String) -> GroupMembership? {
    var key = key
    return key.withUTF8 { mapping.membership(of: UnsafeRawBufferPointer($0)) }
  }

  private func tags(_ key: String) -> PackedKeys { membership(key)?.tags ?? PackedKeys() }

  /// Those of the key and of its groups.
  private func buckets(_ key: String) -> [Int] {
    [bucket(key)] + (membership(key)?.buckets ?? []).map(Int.init)
  }

  private func isAdHoc(_ group: String) -> Bool {
    var group = group
    return group.withUTF8 { mapping.isAdHoc(UnsafeRawBufferPointer($0)) }
  }

  private func text(_ packed: PackedKeys) -> String { String(decoding: packed.bytes, as: UTF8.self) }

  private mutating func someGroups() -> [String] {
    random.once(in: 2) ? [] : groups.filter { _ in random.once(in: 4) }
  }

  private mutating func someKeys() -> [String] {
    names.filter { _ in random.once(in: 3) }
  }

  private mutating func lease() -> Lease {
    let m = twin.hash
    let visible = random.once(in: 3) ? position(m?.V) : m?.V ?? LSN(0x100)
    return Lease(
      generation: some(g),
      stamp: Stamp(visible: visible, deletions: random.once(in: 4) ? 0 : m?.d ?? 0))
  }

  private func commas(_ numbers: [Int]) -> String { numbers.map(String.init).joined(separator: ",") }

  private func call(_ name: String, _ names: [String], _ arguments: [String]) -> [String] {
    ["EVALSHA", digests[name] ?? "", String(names.count)] + names + arguments
  }

  // MARK: The tailer's scripts

  private mutating func apply() -> (String, String, [String]) {
    let chosen = someKeys()
    var packed = PackedKeys()
    for key in chosen { packed.append(key) }
    if random.once(in: 6) { packed = PackedKeys() }
    let cleared = someGroups()
    var packedGroups = PackedKeys()
    for group in cleared { packedGroups.append(group) }
    let order = ModelRedis.Apply(
      token: token(), g: some(g), n: count(), W: position(twin.hash?.W), V: position(twin.hash?.V),
      X: position(twin.hash?.W), beat: random.once(in: 2),
      wt: random.once(in: 5) ? random.once(in: 2) : nil, keep: 60_000, keys: chosen,
      buckets: chosen.map(bucket), packed: packed, messages: random.below(3), groups: cleared,
      groupBuckets: cleared.map(bucket), raisesFloor: cleared.contains(where: isAdHoc),
      tellsPending: random.once(in: 2))
    let wt = order.wt.map { $0 ? "1" : "0" } ?? ""
    let command = call(
      "apply", [keys.meta, keys.journal(order.g)] + chosen,
      [
        order.token, order.g.hex, String(order.n), order.W.hex, order.V.hex, order.X.hex,
        order.beat ? "1" : "0",
        wt, "60000", "", keys.channel, text(packed), "", text(packedGroups),
        order.raisesFloor ? "1" : "", order.tellsPending ? "1" : "", String(order.messages),
      ] + (0..<order.messages).map { _ in "}" }
        + (order.buckets + order.groupBuckets).map(String.init))
    return ("apply \(order)", Self.line(twin.apply(order)), command)
  }

  private mutating func takeover() -> (String, String, [String]) {
    let token = pick(tokens)
    let system = random.once(in: 6) ? "8" : "7"
    let timeline = timeline()
    let mapping = random.once(in: 6) ? "other" : "cfg"
    let command = call("takeover", [keys.meta], [token, system, Self.hex(timeline), mapping])
    let reply = twin.takeover(token: token, system: system, timeline: timeline, mapping: mapping)
    return ("takeover \(system) \(timeline) \(mapping)", Self.line(reply), command)
  }

  private mutating func timeline() -> UInt32 {
    random.once(in: 4) ? UInt32(1 + random.below(12)) : twin.hash?.tl ?? 1
  }

  private mutating func newGeneration() throws -> (String, String, [String]) {
    generations += 1
    let isWhole: Bool
    if case .noState =
      ({
        var copy = twin; return copy.takeover(token: "", system: "7", timeline: 99, mapping: "")
      }())
    {
      isWhole = false
    } else {
      isWhole = true
    }
    let old = random.once(in: 6) ? nil : isWhole ? twin.hash?.g : nil
    let order = ModelRedis.NewGeneration(
      token: token(), old: old, new: Generation(0xa0 + generations), system: random.once(in: 10) ? "8" : "7",
      timeline: timeline(), mapping: "cfg", W: position(twin.hash?.W), V: position(twin.hash?.V),
      wt: random.once(in: 2))
    let journal = old ?? order.new
    // Journals of before would only make each comparison longer.
    for generation in twin.journals.keys where generation != twin.hash?.g && generation != journal {
      try client.call("DEL", keys.journal(generation))
      twin.journals[generation] = nil
    }
    let command = call(
      "newGeneration", [keys.meta, keys.journal(journal)],
      [
        order.token, order.old?.hex ?? "", order.new.hex, order.system, Self.hex(order.timeline),
        order.mapping,
        order.W.hex, order.V.hex, order.wt ? "1" : "0", keys.channel,
      ])
    return ("newGeneration \(order)", Self.line(twin.newGeneration(order, journal: journal)), command)
  }

  private mutating func purge() -> (String, String, [String]) {
    let (token, g, n) = (token(), some(g), count())
    let patterns = random.once(in: 2) ? ["^s:c:0:%d:%d$", "^s:c:"] : []
    let command = call(
      "purge", [keys.meta], [token, g.hex, String(n), "0", "s:*", "10000"] + patterns)
    let places = twin.values.keys.filter { $0.hasPrefix("s:") }.sorted()
    let reply = twin.purge(token: token, g: g, n: n, places: places, next: 0) {
      patterns.isEmpty || $0 != "s:lock"
    }
    return ("purge", Self.line(reply), command)
  }

  private mutating func purged() -> (String, String, [String]) {
    let (token, g, n) = (token(), some(g), count())
    let command = call("purged", [keys.meta], [token, g.hex, String(n)])
    return ("purged", Self.line(twin.purged(token: token, g: g, n: n)), command)
  }

  private mutating func sweep() -> (String, String, [String]) {
    let (token, g, n) = (token(), some(g), count())
    var packed = PackedKeys()
    for group in groups where random.once(in: 3) { packed.append(group) }
    let command = call(
      "sweep", [keys.meta],
      [token, g.hex, String(n), "0", "s:*", "10000", text(packed)]
        + mapping.sweepRules.flatMap { [$0.pattern, $0.replacement] })
    let places = twin.values.keys.filter { $0.hasPrefix("s:") }.sorted()
    let tagged = Dictionary(uniqueKeysWithValues: names.map { ($0, tags($0)) })
    let reply = twin.sweep(token: token, g: g, n: n, groups: packed, places: places, next: 0) {
      tagged[$0] ?? PackedKeys()
    }
    return ("sweep", Self.line(reply), command)
  }

  /// Ids are the server's, so what is handed over is taken from there: a part of it, or with an id that is over.
  private mutating func swept() throws -> (String, String, [String]) {
    let (token, g, n) = (token(), some(g), count())
    let ours = twin.hash?.pd ?? []
    var theirs: [String] = []
    if !ours.isEmpty {
      let bytes = Array((try client.call("HGET", keys.meta, "pd").text ?? "").utf8)
      PackedKeys(bytes: bytes)?.forEach { theirs.append(String(decoding: $0, as: UTF8.self)) }
    }
    var (meta, packed) = (ModelRedis.Meta(), PackedKeys())
    meta.pd = []
    let isOver = random.once(in: 4)
    for (index, entry) in ours.enumerated() where random.below(4) != 0 && 2 * index + 1 < theirs.count {
      meta.pd?.append(isOver ? ModelRedis.Pending(group: entry.group, id: .zero) : entry)
      packed.append(theirs[2 * index])
      packed.append(isOver ? "0-0" : theirs[2 * index + 1])
    }
    let line = call("swept", [keys.meta], [token, g.hex, String(n), text(packed)])
    let reply = twin.swept(token: token, g: g, n: n, pending: meta.pending)
    return ("swept", Self.line(reply), line)
  }

  private mutating func invalidateGroup() -> (String, String, [String]) {
    let group = pick(groups)
    var packed = PackedKeys()
    packed.append(group)
    let raisesFloor = isAdHoc(group)
    let line = call(
      "invalidateGroup", [keys.meta],
      [
        keys.journalPrefix, keys.channel, "60000", "\"prefixes\":[]}", text(packed), String(bucket(group)),
        raisesFloor ? "1" : "",
      ])
    let reply = twin.invalidateGroup(
      group, bucket: bucket(group), raisesFloor: raisesFloor, keep: 60_000)
    let answer =
      reply.error.map { "-" + $0 } ?? (reply.word == .noState ? "[NOSTATE]" : "[OK \(reply.g?.hex ?? "") id]")
    return ("invalidateGroup \(group)", answer, line)
  }

  // MARK: The applications' scripts

  private mutating func command(_ key: String) -> (ModelRedis.Command, [String]) {
    let text = String(random.below(100))
    switch random.below(12) {
    case 0: return (.set(text, condition: .ifAbsent), ["SET", key, text, "NX"])
    case 1: return (.set(text, condition: .ifPresent, get: true), ["SET", key, text, "XX", "GET"])
    case 2: return (.set(text, life: .keep), ["SET", key, text, "KEEPTTL"])
    case 3: return (.set(text, life: .milliseconds(900_000)), ["SET", key, text, "PX", "900000"])
    case 4: return (.getSet(text), ["GETSET", key, text])
    case 5: return (.append(text), ["APPEND", key, text])
    case 6: return (.increment, ["INCR", key])
    default: return (.set(text), ["SET", key, text])
    }
  }

  private mutating func fill() -> (String, String, [String]) {
    let (key, lease, replaces) = (pick(names), lease(), !random.once(in: 4))
    let (command, words) = command(key)
    let most = limit()
    let line = call(
      "fill", [keys.meta, key],
      [
        replaces ? "replace" : "merge", lease.generation.hex, commas(buckets(key)), lease.stamp.hex,
        text(tags(key)), most.map { "\($0)" } ?? "",
      ] + words)
    let reply = twin.fill(
      replaces: replaces, lease, buckets: buckets(key), tags: tags(key), key: key, command, most: most)
    let found = Self.line(reply.found)
    return (
      "fill \(words)", "[\(reply.word.rawValue) \(Self.line(reply.reply)) \(found)]", line
    )
  }

  /// Ids are the server's, so entries are chosen by their place in the journal.
  private mutating func written() throws -> (String, String, [String]) {
    let (key, g) = (pick(names), some(g))
    var ours: [ModelRedis.Journal.Entry] = []
    if case .present(let journal)? = twin.journals[g] { ours = journal.entries }
    let theirs = (try client.call("XRANGE", keys.journal(g), "-", "+").elements ?? []).map {
      $0.elements?.first?.text ?? ""
    }
    guard ours.count == theirs.count else {
      return ("written", "\(ours.count) entries", ["ECHO", "\(theirs.count) entries"])
    }
    let naming = ours.indices.filter { ours[$0].names(key) }
    let place = random.once(in: 6) ? random.below(ours.count + 1) : naming.last ?? ours.count
    // Mostly none, or the last one that names the key.
    let removal = random.once(in: 3) ? naming.last : nil
    let first = removal != nil && random.once(in: 2) ? naming.dropLast().last ?? place : place
    let entry = first < ours.count ? ours[first] : nil
    let at = random.once(in: 8) ? position(twin.hash?.W) : entry?.position ?? LSN(0x100)
    let session = random.once(in: 8) ? "99" : twin.hash?.ep.map { String($0) } ?? ""
    let life = random.once(in: 2) ? 800_000 : nil
    let order = ModelRedis.Written(
      g: g, entry: entry?.id ?? .zero, position: at, removal: removal.map { ours[$0].id }, key: key,
      tags: tags(key), life: life, value: String(random.below(100)), session: session)
    let line = call(
      "written", [keys.meta, keys.journal(g), key],
      [
        g.hex, entry == nil ? "0-0" : theirs[first], at.hex, removal.map { theirs[$0] } ?? "",
        text(tags(key)),
        life.map { "\($0)" } ?? "", order.value, session,
      ])
    let (reply, ep) = twin.written(order)
    let answer =
      "[\(reply.word.rawValue) \(Self.line(reply.reply)) \(Self.line(reply.found)) \(ep ?? "nil")]"
    return ("written", answer, line)
  }

  /// How long a key may live at most, shorter and longer than what commands say.
  private mutating func limit() -> Int? { [nil, nil, 500_000, 900_000][random.below(4)] }

  private mutating func fillMany() -> (String, String, [String]) {
    var settings: [ModelRedis.Setting] = []
    for key in someKeys() {
      settings.append(
        ModelRedis.Setting(
          key: key, lease: random.once(in: 4) ? nil : lease(), buckets: buckets(key),
          value: String(random.below(100)), most: limit()))
    }
    let arguments = settings.flatMap { setting -> [String] in
      let most = setting.most.map { "\($0)" } ?? ""
      guard let lease = setting.lease else { return ["", "", most, setting.value] }
      return [lease.generation.hex + lease.stamp.hex, commas(setting.buckets), most, setting.value]
    }
    let line = call("fillMany", [keys.meta] + settings.map(\.key), arguments)
    let (found, refusals) = twin.fillMany(settings)
    let all = refusals.map { " " + ($0?.rawValue ?? ":1") }.joined()
    let refused = refusals.count { $0 != nil }
    return ("fillMany", "[OK :\(refused) \(Self.line(found))\(all)]", line)
  }

  private mutating func del() -> (String, String, [String]) {
    let getting = random.once(in: 3)
    let chosen = getting ? [pick(names)] : someKeys()
    let pairs = chosen.map {
      (key: $0, bucket: random.once(in: 4) ? nil : bucket($0), tags: tags($0))
    }
    let message = random.once(in: 2)
    let word = getting ? "GETDEL" : pick(["DEL", "UNLINK"])
    let line = call(
      "del", [keys.meta] + chosen,
      [keys.journalPrefix, keys.channel, "60000", message ? "}" : "", word]
        + pairs.flatMap { [$0.bucket.map(String.init) ?? "", text($0.tags)] })
    let reply = twin.del(pairs, getting: getting, keep: 60_000, message: message)
    return ("del \(word) \(chosen)", Self.line(reply), line)
  }

  private mutating func expire() -> (String, String, [String]) {
    let key = pick(names)
    let (command, words): (ModelRedis.Command, [String])
    switch random.below(5) {
    case 0: (command, words) = (.expire(0), ["PEXPIRE", key, "0"])
    case 1: (command, words) = (.persist, ["PERSIST", key])
    case 2: (command, words) = (.getEx(700_000), ["GETEX", key, "PX", "700000"])
    case 3: (command, words) = (.expire(-5), ["PEXPIRE", key, "-5"])
    default: (command, words) = (.expire(600_000), ["PEXPIRE", key, "600000"])
    }
    let message = random.once(in: 2)
    let most = limit()
    let line = call(
      "expire", [keys.meta, key],
      [
        keys.journalPrefix, message ? keys.channel : "", "60000", String(bucket(key)),
        text(tags(key)), most.map { "\($0)" } ?? "",
      ] + words)
    let reply = twin.expire(
      key, bucket: bucket(key), tags: tags(key), keep: 60_000, message: message, command, most: most)
    return ("expire \(words)", Self.line(reply), line)
  }

  private mutating func ask() -> (String, String, [String]) {
    ("ask", twin.ask() ? ":1" : ":0", call("ask", [keys.meta], []))
  }

  // MARK: Blows

  /// What the scripts may find that none of them has left.
  private mutating func blow() -> (String, String, [String]) {
    switch random.below(10) {
    case 0:
      let was = if case .missing = twin.meta { ":0" } else { ":1" }
      twin.meta = .missing
      return ("DEL M", was, ["DEL", keys.meta])
    case 1 where random.once(in: 2):
      twin.meta = .otherType
      return ("SET M", "+OK", ["SET", keys.meta, "x"])
    case 2:
      return loseField()
    case 3:
      let was = if case .missing = twin.liveJournal(g) { ":0" } else { ":1" }
      twin.journals[g] = nil
      return ("DEL J", was, ["DEL", keys.journal(g)])
    case 4 where random.once(in: 2):
      twin.journals[g] = .otherType
      return ("SET J", "+OK", ["SET", keys.journal(g), "x"])
    case 5, 6:
      let key = pick(names)
      twin.values[key] = ModelRedis.Value(text: nil)
      return (
        "list", ":1", ["EVAL", "redis.call('DEL',KEYS[1]) return redis.call('LPUSH',KEYS[1],1)", "1", key]
      )
    default:
      let key = pick(names)
      twin.values[key] = ModelRedis.Value(text: "7", expires: twin.clock + 800_000)
      return ("SET", "+OK", ["SET", key, "7", "PX", "800000"])
    }
  }

  private mutating func loseField() -> (String, String, [String]) {
    guard case .present(var m) = twin.meta else { return ("PING", "+PONG", ["PING"]) }
    let field = pick([
      "g", "tok", "n", "h", "W", "V", "F", "d", "dc", "jl", "wt", "sys", "tl", "cfg", "c", "ep", "s",
      "pd",
    ])
    var existed = true
    switch field {
    case "g": existed = m.g != nil; m.g = nil
    case "tok": existed = m.tok != nil; m.tok = nil
    case "n": existed = m.n != nil; m.n = nil
    case "h": existed = m.h != nil; m.h = nil
    case "W": existed = m.W != nil; m.W = nil
    case "V": existed = m.V != nil; m.V = nil
    case "F": existed = m.F != nil; m.F = nil
    case "d": existed = m.d != nil; m.d = nil
    case "dc": existed = m.dc != nil; m.dc = nil
    case "jl": existed = m.jl != nil; m.jl = nil
    case "wt": existed = m.wt != nil; m.wt = nil
    case "sys": existed = m.sys != nil; m.sys = nil
    case "tl": existed = m.tl != nil; m.tl = nil
    case "cfg": existed = m.cfg != nil; m.cfg = nil
    case "c": existed = m.c != nil; m.c = nil
    case "pd": existed = m.pd != nil; m.pd = nil
    case "ep": existed = m.ep != nil; m.ep = nil
    default: existed = m.s != nil; m.s = nil
    }
    twin.meta = .present(m)
    if twin.description == ModelRedis.emptyHash { twin.meta = .missing }
    return ("HDEL \(field)", existed ? ":1" : ":0", ["HDEL", keys.meta, field])
  }
}
