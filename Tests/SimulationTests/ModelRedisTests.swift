import Invalidation
import TestSupport
import Testing

@testable import simulate

@Suite("The scripts' twin and a real Redis")
struct ModelRedisTests {
  @Test("10,000 random calls of the scripts have the same replies and leave the same state")
  func sameEverywhere() throws {
    let server = try RedisServer()
    var comparison = try Comparison(server, seed: 20_240_601)
    var outcomes: [String: Int] = [:]
    for call in 0..<10_000 {
      let (what, twin, real) = try comparison.step()
      let outcome = twin.prefix { $0 != " " && $0 != "]" && $0 != "\n" }
      outcomes["\(what.prefix { $0 != " " }) \(outcome)", default: 0] += 1
      guard twin == real else {
        let (ours, theirs) = (twin.split(separator: "\n"), real.split(separator: "\n"))
        let differing = zip(ours, theirs).first { $0 != $1 }.map { "\n  twin:  \($0)\n  Redis: \($1)" }
        Issue.record("call \(call), \(what)\(differing ?? " in \(ours.count) and \(theirs.count) lines")")
        return
      }
    }
    for outcome in Self.mustHappen {
      #expect(outcomes[outcome, default: 0] >= 5, "\(outcome) of \(outcomes.sorted { $0.key < $1.key })")
    }
  }

  /// A comparison in which something never happens says nothing about it.
  static let mustHappen = [
    "apply [OK", "apply [NOSTATE", "apply [FENCED", "apply [REGRESSED", "apply -WRONGTYPE",
    "takeover [OK", "takeover [NOSTATE", "takeover [SYSID", "takeover [OLDTL", "takeover [NEEDGEN",
    "newGeneration [OK", "newGeneration [RACE", "newGeneration [FENCED", "newGeneration [OLDTL",
    "purge [OK", "purge [NOSTATE", "purge [FENCED", "purge [REGRESSED",
    "purged [OK", "purged [NOSTATE", "purged [FENCED", "purged [REGRESSED",
    "sweep [OK", "sweep [NOSTATE", "sweep [FENCED", "sweep [REGRESSED",
    "swept [OK", "swept [NOSTATE", "swept [FENCED", "swept [REGRESSED",
    "invalidateGroup [OK", "invalidateGroup [NOSTATE", "invalidateGroup -WRONGTYPE",
    "fill [OK", "fill [NOSTATE", "fill [GEN", "fill [FLOOR", "fill [FENCE", "fill [UNTRUSTED",
    "written [OK", "written [NOSTATE", "written [GEN", "written [FENCE",
    "fillMany [OK", "del [OK", "del [NOSTATE", "del -WRONGTYPE",
    "expire [OK", "expire [UNTRUSTED", "ask :1", "ask :0",
  ]
}
