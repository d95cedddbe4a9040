import Configuration
import Foundation
import Glibc
import Invalidation
import TestSupport

@testable import Redis

/// A private Redis, and the names and settings of one fleet in it.
struct Lab {
  let server: RedisServer
  let keys = StateKeys(namespace: "shop")
  let settings: RedisSettings

  init(_ arguments: [String] = [], timeout: UInt64 = 5_000_000_000) throws {
    server = try RedisServer(arguments)
    settings = RedisSettings(
      endpoint: .unix(path: server.socket), user: nil, password: nil, database: 0, timeout: timeout)
  }

  func connect() throws -> RedisConnection { try RedisConnection(settings) }

  func sink(
    tables: [String] = ["public.users", "public.orders"], patterns: [String] = [],
    journal: JournalSettings = JournalSettings(keep: 60_000_000_000, size: 16 << 20),
    groups: KeyGroups = KeyGroups(tables: [], caches: [], keyPrefix: "shop:")
  ) throws -> RedisSink {
    try RedisSink(
      settings: settings, keys: keys, journal: journal, tableNames: tables, groups: groups,
      purgePatterns: patterns, purgeMatch: "shop:*")
  }
}

let g1 = Generation(0xa1)
let g2 = Generation(0xa2)
let g3 = Generation(0xa3)

func lsn(_ value: UInt64) -> String { LSN(value).hex }
func stamp(_ visible: UInt64, _ deletions: UInt64 = 0) -> String {
  Stamp(visible: LSN(visible), deletions: deletions).hex
}
func bucket(_ key: String) -> String {
  var key = key
  return String(key.withUTF8 { KeyHash.bucket(UnsafeRawBufferPointer($0)) })
}
func packed(_ keys: [String]) -> [UInt8] {
  var all = PackedKeys()
  for key in keys { Array(key.utf8).withUnsafeBytes { all.append($0) } }
  return all.bytes
}
func rest(table: String?, _ keys: [String], groups: [String] = [], part: Int = 1, of parts: Int = 1)
  -> [UInt8]
{
  var message = PublishedMessage(table: table)
  for key in keys { Array(key.utf8).withUnsafeBytes { message.append($0) } }
  for group in groups { Array(group.utf8).withUnsafeBytes { message.append(group: $0) } }
  return message.rest(part: part, of: parts)
}
func unpacked(_ keys: PackedKeys) -> [String] {
  var all: [String] = []
  keys.forEach { all.append(String(decoding: $0, as: UTF8.self)) }
  return all
}

/// The arguments of `StateScripts.apply`, with the defaults of a quiet fleet.
struct Apply {
  var token = "t1"
  var g = g1
  var n: UInt64 = 0
  var W: UInt64 = 0x100
  var V: UInt64 = 0x100
  var X: UInt64?
  var beat = false
  var wt = ""
  var keep = 60_000
  var size = ""
  var keys: [String] = []
  /// With their kinds, such as `pshop:category:7:`.
  var groups: [String] = []
  var raisesFloor = false
  var tells = false
  var table: String? = "public.users"
  /// `PackedOrigins`, one for each key or none.
  var origins: [UInt8] = []
}

extension RedisReply: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByNilLiteral,
  ExpressibleByArrayLiteral
{
  public init(arrayLiteral elements: RedisReply...) { self = .array(elements) }
  public init(stringLiteral text: String) { self = .bulk(Array(text.utf8)) }
  public init(integerLiteral value: Int64) { self = .integer(value) }
  public init(nilLiteral: ()) { self = .null }

  subscript(index: Int) -> RedisReply {
    guard let elements, elements.indices.contains(index) else { return .error("no element \(index)") }
    return elements[index]
  }

  var errorText: String? { if case .error(let text) = self { text } else { nil } }
  var number: Int64? { if case .integer(let value) = self { value } else { nil } }
}

extension RedisConnection {
  @discardableResult
  mutating func call(_ words: String...) throws -> RedisReply { try command(words) }

  mutating func eval(_ script: String, _ keys: [String], _ arguments: [[UInt8]]) throws -> RedisReply {
    try command(
      [Array("EVAL".utf8), Array(script.utf8), Array(String(keys.count).utf8)] + keys.map { Array($0.utf8) }
        + arguments)
  }

  mutating func eval(_ script: String, _ keys: [String], _ arguments: [String] = []) throws -> RedisReply {
    try eval(script, keys, arguments.map { Array($0.utf8) })
  }

  /// Begins a generation at `position`; `old` nil: in place of nothing.
  @discardableResult
  mutating func begin(
    _ lab: Lab, _ g: Generation = g1, old: Generation? = nil, token: String = "t1", system: String = "7",
    timeline: String = "00000001", mapping: String = "cfg", at position: UInt64 = 0x100
  ) throws -> RedisReply {
    try eval(
      StateScripts.newGeneration, [lab.keys.meta, lab.keys.journal(old ?? g)],
      [
        token, old?.hex ?? "", g.hex, system, timeline, mapping, lsn(position), lsn(position), "0",
        lab.keys.channel,
      ])
  }

  /// Begins a generation and says that its purge has finished.
  mutating func beginCleared(_ lab: Lab, _ g: Generation = g1, old: Generation? = nil) throws {
    _ = try begin(lab, g, old: old)
    try call("HSET", lab.keys.meta, "c", g.hex)
  }

  mutating func apply(_ lab: Lab, _ apply: Apply) throws -> RedisReply {
    var arguments = [
      apply.token, apply.g.hex, String(apply.n), lsn(apply.W), lsn(apply.V), lsn(apply.X ?? apply.W),
      apply.beat ? "1" : "0", apply.wt, String(apply.keep), apply.size, lab.keys.channel,
    ].map { Array($0.utf8) }
    let names = apply.keys + apply.groups
    arguments.append(packed(apply.keys))
    arguments.append(apply.origins)
    arguments.append(packed(apply.groups))
    arguments.append(Array((apply.raisesFloor ? "1" : "").utf8))
    arguments.append(Array((apply.tells ? "1" : "").utf8))
    arguments.append(Array((names.isEmpty ? "0" : "1").utf8))
    if !names.isEmpty { arguments.append(rest(table: apply.table, apply.keys, groups: apply.groups)) }
    for bucket in Set(names.map(bucket)) { arguments.append(Array(bucket.utf8)) }
    return try eval(
      StateScripts.apply, [lab.keys.meta, lab.keys.journal(apply.g)] + apply.keys, arguments)
  }

  mutating func fill(
    _ lab: Lab, _ mode: String, g: Generation = g1, stamp at: String, _ key: String, _ words: [String],
    groups: [String] = [], most: String = ""
  ) throws -> RedisReply {
    let buckets = ([key] + groups).map(bucket).joined(separator: ",")
    return try eval(
      StateScripts.fill, [lab.keys.meta, key],
      [mode, g.hex, buckets, at].map { Array($0.utf8) } + [tags(groups), Array(most.utf8)]
        + words.map { Array($0.utf8) })
  }

  private func tags(_ groups: [String]) -> [UInt8] { packed(groups.filter { $0.hasPrefix("t") }) }

  /// `ungoverned` keys get no bucket; all keys have the same groups.
  mutating func del(
    _ lab: Lab, _ word: String, _ keys: [String], ungoverned: Set<String> = [], groups: [String] = []
  ) throws -> RedisReply {
    let governed = keys.filter { !ungoverned.contains($0) }
    return try eval(
      StateScripts.del, [lab.keys.meta] + keys,
      [lab.keys.journalPrefix, lab.keys.channel, "60000"].map { Array($0.utf8) }
        + [governed.isEmpty ? [] : rest(table: nil, governed), Array(word.utf8)]
        + keys.flatMap { [Array((ungoverned.contains($0) ? "" : bucket($0)).utf8), tags(groups)] })
  }

  mutating func expire(
    _ lab: Lab, _ key: String, _ words: [String], groups: [String] = [], most: String = ""
  ) throws -> RedisReply {
    try eval(
      StateScripts.expire, [lab.keys.meta, key],
      [lab.keys.journalPrefix, lab.keys.channel, "60000", bucket(key)].map { Array($0.utf8) }
        + [tags(groups), Array(most.utf8)] + words.map { Array($0.utf8) })
  }

  /// NEARSIDE INVALIDATE PREFIX or TAG.
  mutating func invalidate(_ lab: Lab, _ group: String, raisesFloor: Bool = false) throws -> RedisReply {
    try eval(
      StateScripts.invalidateGroup, [lab.keys.meta],
      [
        Array(lab.keys.journalPrefix.utf8), Array(lab.keys.channel.utf8), Array("60000".utf8),
        rest(table: nil, [], groups: [group]), packed([group]), Array(bucket(group).utf8),
        Array((raisesFloor ? "1" : "").utf8),
      ])
  }

  /// The groups of `pd`, with their kinds.
  mutating func pending(_ lab: Lab) throws -> [String] {
    guard case .bulk(let bytes) = try call("HGET", lab.keys.meta, "pd") else { return [] }
    return PendingGroups(bytes: bytes).map { unpacked($0.groups) } ?? ["malformed"]
  }

  mutating func field(_ lab: Lab, _ name: String) throws -> String? {
    try call("HGET", lab.keys.meta, name).text
  }

  mutating func state(_ lab: Lab) throws -> FleetState? {
    FleetState(
      fields: try command(["HMGET", lab.keys.meta] + FleetState.fieldNames).elements?.map(\.text) ?? [])
  }

  /// The journal of `g`: id, p, l and keys of each entry (groups behind the keys).
  mutating func journal(_ lab: Lab, _ g: Generation = g1) throws -> [(
    id: String, p: String, l: String, keys: [String]
  )] {
    (try call("XRANGE", lab.keys.journal(g), "-", "+").elements ?? []).map { entry in
      var fields: [String: RedisReply] = [:]
      let pairs = entry[1].elements ?? []
      for index in stride(from: 0, to: pairs.count, by: 2) {
        fields[pairs[index].text ?? ""] = pairs[index + 1]
      }
      var keys: [String] = []
      if case .bulk(let bytes)? = fields["k"], let all = PackedKeys(bytes: bytes) { keys = unpacked(all) }
      if case .bulk(let bytes)? = fields["q"], let all = PackedKeys(bytes: bytes) { keys += unpacked(all) }
      return (entry[0].text ?? "", fields["p"]?.text ?? "", fields["l"]?.text ?? "", keys)
    }
  }

  /// Everything in the database, as text that changes when anything does.
  mutating func everything() throws -> String {
    var lines: [String] = []
    for key in try call("KEYS", "*").elements ?? [] {
      let name = key.text ?? ""
      lines.append("\(name) \(try call("DUMP", name)) \(try call("PEXPIRETIME", name))")
    }
    return lines.sorted().joined(separator: "\n")
  }
}

/// What a subscriber of the channel received, as parsed JSON.
struct Subscriber {
  let client: RESPClient

  init(_ lab: Lab) throws {
    client = try lab.server.client()
    _ = try client.call("SUBSCRIBE", lab.keys.channel)
  }

  func next() throws -> [String: Any] {
    let message = try client.receive().elements ?? []
    guard message.count == 3, case .bulk(let bytes) = message[2],
      let object = try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any]
    else { throw HarnessError("not a JSON object: \(message)") }
    return object
  }
}
