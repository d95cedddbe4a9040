import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Redis

@Suite("What a doctor makes of Redis")
struct RedisFactsTests {
  private let questions = RedisQuestions(
    keys: StateKeys(namespace: "shop"), keyPrefix: "shop:", writesBehind: true, tracking: true)

  /// The findings that are not good.
  private func found(_ change: (inout RedisFacts) -> Void) -> [Finding] {
    var facts = healthy
    change(&facts)
    return RedisPreflight.judge(facts, questions).filter { !$0.isGood }
  }

  private var healthy: RedisFacts {
    RedisFacts(
      memory: ["maxmemory_policy": "volatile-lru", "maxmemory": "1073741824", "used_memory": "1000"],
      persistence: ["aof_enabled": "1"], roundTrips: [UInt64](repeating: 100_000, count: 100))
  }

  @Test("A Redis with everything as it should be is good")
  func good() {
    let all = RedisPreflight.judge(healthy, questions)
    #expect(all.allSatisfy { $0.isGood })
    #expect(
      all.map(\.check) == [
        "version", "mode", "role", "maxmemory_policy", "appendonly", "tracking", "permissions", "round_trip",
      ])
    #expect(
      all.last?.what == "Round trips: half of 100 PINGs took less than 0.10 ms, 99 % less than 0.10 ms.")
  }

  @Test(
    "Each check can fail, and says what to do",
    arguments: [
      ("version", "error", "6.2.0"), ("mode", "error", "Redis Cluster"), ("role", "error", "replica"),
      ("maxmemory_policy", "error", "allkeys-lfu"), ("appendonly", "warning", "are lost if it dies"),
      ("tracking", "warning", "NOPERM x"), ("permissions", "error", "SET on shop:x"),
      ("round_trip", "warning", "took less than 6.00 ms"),
    ])
  func bad(_ check: String, _ severity: String, _ words: String) {
    let findings = found { facts in
      switch check {
      case "version": facts.version = "6.2.0"
      case "mode": facts.mode = "cluster"
      case "role": facts.role = "replica"
      case "maxmemory_policy": facts.memory["maxmemory_policy"] = "allkeys-lfu"
      case "appendonly": facts.persistence["aof_enabled"] = "0"
      case "tracking": facts.trackingRefusal = "NOPERM x"
      case "permissions": facts.refused = ["SET on shop:x"]
      default: facts.roundTrips = [UInt64](repeating: 6_000_000, count: 100)
      }
    }
    #expect(findings.map(\.check) == [check])
    #expect(findings.first?.severity.rawValue == severity)
    #expect(findings.first?.what.contains(words) == true, "\(findings)")
    #expect(findings.first?.fix?.hasSuffix(".") == true, "\(findings)")
  }

  @Test("A Redis that is full and evicts nothing, one without MULTI, one of another age")
  func others() {
    let full = found {
      $0.memory = ["maxmemory_policy": "noeviction", "maxmemory": "1000000000", "used_memory": "950000000"]
    }
    #expect(full.map(\.check) == ["maxmemory_policy"] && full.first?.severity == .warning)
    #expect(found { $0.multiRefusal = "NOPERM" }.map(\.severity) == [.warning])
    #expect(found { $0.isAncient = true }.first?.what.contains("older than 6.0") == true)
    // A user that may not ask INFO hears nothing of memory and files.
    #expect(
      found {
        $0.memory = [:]
        $0.persistence = [:]
      } == [])
  }

  @Test("A real one: a hundred PINGs are timed, and an unreachable one is one finding with its fix")
  func real() throws {
    let lab = try Lab()
    var ticks: UInt64 = 0
    let findings = RedisPreflight.survey(
      settings: lab.settings, keys: lab.keys, keyPrefix: "shop:", writesBehind: false,
      clock: {
        ticks += 1000
        return ticks
      })
    #expect(findings.allSatisfy { $0.isGood }, "\(findings)")
    #expect(findings.contains { $0.check == "round_trip" } && ticks == 200_000)
    #expect(findings.last?.check == "encryption")
    try lab.server.stop()
    let gone = RedisPreflight.survey(
      settings: lab.settings, keys: lab.keys, keyPrefix: "shop:", writesBehind: false, clock: { 0 })
    #expect(gone.map(\.check) == ["reachable"] && gone.first?.isTemporary == true)
    #expect(gone.first?.fix?.contains("Is Redis running there") == true)
  }

  @Test("A connection that leaves this host should be encrypted, and somebody should check the certificate")
  func encryption() {
    func severity(_ host: String, _ tls: TLSSettings?) -> Finding.Severity {
      RedisPreflight.encryption(
        RedisSettings(
          endpoint: .tcp(host: host, port: 6379), user: nil, password: nil, database: 0, timeout: 1, tls: tls)
      ).severity
    }
    #expect(severity("cache", nil) == .warning)
    #expect(severity("127.0.0.1", nil) == .good)
    #expect(severity("cache", TLSSettings()) == .good)
    #expect(severity("cache", TLSSettings(verifies: false)) == .warning)
  }
}
