import Configuration
import Foundation
import Invalidation
import TestSupport
import Testing

@testable import Redis

/// `StateScripts.written`: what was written through is stored only if nothing about the key has come since.
@Suite("Script behind write-through")
struct WrittenScriptTests {
  let lab: Lab
  let key = "shop:product:7"
  init() throws { lab = try Lab() }

  /// What the script is told; by default what is true after one batch that ends at 0x200.
  struct Order {
    var g = g1
    var entry: String
    var position: UInt64 = 0x200
    var removal = ""
    var tags: [String] = []
    var ttl = ""
    var value = "new"
    var session: String
  }

  private func store(_ order: Order, _ redis: inout RedisConnection, script: String = StateScripts.written)
    throws
    -> RedisReply
  {
    try redis.eval(
      script, [lab.keys.meta, lab.keys.journal(g1), key],
      [
        Array(order.g.hex.utf8), Array(order.entry.utf8), Array(lsn(order.position).utf8),
        Array(order.removal.utf8), packed(order.tags), Array(order.ttl.utf8), Array(order.value.utf8),
        Array(order.session.utf8),
      ])
  }

  /// The transaction has been applied.
  private func applied(_ redis: inout RedisConnection) throws -> Order {
    try redis.beginCleared(lab)
    _ = try redis.apply(lab, Apply(W: 0x200, V: 0x100, keys: [key, "shop:product:8"]))
    return Order(entry: try redis.field(lab, "jl") ?? "", session: try redis.field(lab, "ep") ?? "")
  }

  @Test("The value is stored, though V lies below; one that is there already stays")
  func stored() throws {
    var redis = try lab.connect()
    var order = try applied(&redis)
    order.ttl = "5000"
    let reply = try store(order, &redis)
    #expect(reply[0] == "OK" && reply[1] == .status("OK") && reply[6] == .init(stringLiteral: order.session))
    #expect(try redis.call("GET", key) == "new")
    #expect(try redis.call("PTTL", key) != -1)
    order.value = "newer"
    #expect(try store(order, &redis)[1] == nil)
    #expect(try redis.call("GET", key) == "new")
    // Its own removal, before or behind, and what concerns other keys, do not matter.
    _ = try redis.del(lab, "UNLINK", [key])
    order.removal = try redis.field(lab, "jl") ?? ""
    _ = try redis.apply(lab, Apply(n: 1, W: 0x300, keys: ["shop:product:8"], groups: ["pshop:category:"]))
    #expect(try store(order, &redis)[1] == .status("OK"))
  }

  enum Event: String, CaseIterable, Sendable {
    case change, removal, prefix, tag, prefixOfSameBatch, takeover, generation, incomplete, trimmed
  }

  /// The text of the script whose absence lets the old value in.
  static let rules: [Event: (String, String)] = [
    .change: ("or named and id~=ARGV[4]", ""), .removal: ("or named and id~=ARGV[4]", ""),
    .prefix: ("and clears(fields['q'])", "and false"), .tag: ("and clears(fields['q'])", "and false"),
    .prefixOfSameBatch: ("and clears(fields['q'])", "and false"),
    .takeover: ("m[8]~=ARGV[8] or ", ""), .generation: ("m[1]~=ARGV[1]", "false"),
    .incomplete: ("or m[5]<ARGV[3]", ""),
    .trimmed: ("if id~=ARGV[2] or fields['l']~=ARGV[3] or not named then", "if false then"),
  ]

  @Test("Whatever comes behind the transaction refuses it, each by its own rule", arguments: Event.allCases)
  func refused(event: Event) throws {
    var redis = try lab.connect()
    var order = try applied(&redis)
    switch event {
    case .change: _ = try redis.apply(lab, Apply(n: 1, W: 0x300, keys: [key]))
    case .removal: _ = try redis.del(lab, "DEL", [key])
    case .prefix: _ = try redis.invalidate(lab, "pshop:product:")
    case .tag:
      order.tags = ["tshop:all"]
      _ = try redis.invalidate(lab, "tshop:all")
    case .prefixOfSameBatch:
      _ = try redis.apply(lab, Apply(n: 1, W: 0x300, keys: [key], groups: ["pshop:product:"]))
      order.entry = try redis.field(lab, "jl") ?? ""
      order.position = 0x300
    case .takeover: try redis.call("HINCRBY", lab.keys.meta, "ep", "1")
    case .generation: order.g = g2
    case .incomplete:
      _ = try redis.apply(lab, Apply(n: 1, W: 0x200, V: 0x100, X: 0x300, keys: [key]))
      order.entry = try redis.field(lab, "jl") ?? ""
      order.position = 0x300
    case .trimmed:
      let first = order.entry
      _ = try redis.apply(lab, Apply(n: 1, W: 0x300, keys: ["shop:product:9"]))
      try redis.call("XDEL", lab.keys.journal(g1), first)
    }
    let word = try store(order, &redis)[0]
    #expect(word == (event == .generation ? "GEN" : "FENCE"))
    #expect(try redis.call("EXISTS", key) == 0)

    let (rule, weaker) = try #require(Self.rules[event])
    let parts = StateScripts.written.components(separatedBy: rule)
    #expect(parts.count == 2, "\(rule)")
    let weakened = parts.joined(separator: weaker)
    #expect(try store(order, &redis, script: weakened)[0] == "OK")
    #expect(try redis.call("EXISTS", key) == 1)
  }
}
