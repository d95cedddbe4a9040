import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Server

/// What is answered when the evidence is older than the bound, for all keys or for those of one template.
@Suite("Staleness")
struct StalenessTests {
  private static let bound: UInt64 = 500_000_000
  private static let hour: UInt64 = 3_600_000_000_000

  enum Scope: CaseIterable { case global, template }

  private func sidecar(_ scope: Scope, _ beyond: StalenessSettings.Beyond) throws -> RelaySidecar {
    switch scope {
    case .global: try RelaySidecar(bound: Self.bound, beyond: beyond)
    case .template: try RelaySidecar(page: StalenessSettings(bound: Self.bound, beyond: beyond))
    }
  }

  /// page:1 and user:1 near and in Redis, page:2 and user:2 in Redis only, and the evidence too old.
  private func age(_ sidecar: RelaySidecar, _ client: RESPClient) throws {
    let direct = try sidecar.redis.client()
    for key in ["page:1", "user:1", "page:2", "user:2"] { try direct.call("SET", key, "v" + key.suffix(1)) }
    try eventually("page:1 and user:1 are near") {
      try sidecar.beat()
      try sidecar.beat()
      try client.call("MGET", "page:1", "user:1")
      let hits = try sidecar.count("near_hits")
      try client.call("MGET", "page:1", "user:1")
      return try sidecar.count("near_hits") == hits + 2
    }
    try sidecar.waitUntilOld(Int(Self.bound / 1_000_000))
  }

  private func isStale(_ reply: Reply) -> Bool {
    reply.errorText?.hasPrefix("STALE the evidence that cached values are current is") == true
  }

  @Test(
    "bypass answers a miss, near and from Redis, and a SET after it is not stored", arguments: Scope.allCases)
  func bypass(_ scope: Scope) throws {
    let sidecar = try sidecar(scope, .bypass)
    let client = try sidecar.client()
    try age(sidecar, client)
    let bypassed = try sidecar.count("bypassed")
    #expect(try client.call("GET", "page:1") == nil)
    #expect(try client.call("GET", "page:2") == nil)
    #expect(try client.call("EXISTS", "page:1", "page:2") == 0)
    #expect(try client.call("STRLEN", "page:1") == 0)
    #expect(try client.call("HGET", "page:2", "f") == nil)
    #expect(try client.call("NEARSIDE", "LEASE", "page:1") == .array([nil, nil]))
    #expect(try sidecar.count("bypassed") > bypassed)
    #expect(try client.call("SET", "page:1", "new") == .ok)
    #expect(try client.call("SET", "page:3", "new") == .ok)
    let direct = try sidecar.redis.client()
    #expect(try direct.call("MGET", "page:1", "page:3") == .array(["v1", nil]))
    for _ in 0..<3 { try sidecar.beat() }
    #expect(try client.call("MGET", "page:1", "page:2") == .array(["v1", "v2"]))
  }

  @Test("serve answers the stale value, near and from Redis, and counts it", arguments: Scope.allCases)
  func serve(_ scope: Scope) throws {
    let sidecar = try sidecar(scope, .serve)
    let client = try sidecar.client()
    try age(sidecar, client)
    let (stale, hits) = (try sidecar.count("served_stale"), try sidecar.count("near_hits"))
    let calls = try sidecar.redis.calls("get")
    #expect(try client.call("GET", "page:1") == "v1")
    #expect(try sidecar.redis.calls("get") == calls)
    #expect(try client.call("GET", "page:2") == "v2")
    #expect(try client.call("MGET", "page:1", "page:2") == .array(["v1", "v2"]))
    #expect(try client.call("NEARSIDE", "LEASE", "page:1") == .array(["v1", nil]))
    #expect(try sidecar.count("served_stale") == stale + 5)
    #expect(try sidecar.count("near_hits") == hits)
    // What is stale does not become near.
    #expect(try sidecar.redis.calls("get") == calls + 1)
    #expect(try client.call("GET", "page:2") == "v2")
    #expect(try sidecar.redis.calls("get") == calls + 2)
  }

  @Test("fail answers an error with the age and the bound, near and from Redis", arguments: Scope.allCases)
  func fail(_ scope: Scope) throws {
    let sidecar = try sidecar(scope, .fail)
    let client = try sidecar.client()
    try age(sidecar, client)
    for command in [
      ["GET", "page:1"], ["GET", "page:2"], ["MGET", "plain", "page:1"], ["EXISTS", "page:1"],
      ["HGET", "page:2", "f"], ["NEARSIDE", "LEASE", "page:1"],
    ] {
      let reply = try client.call(command)
      #expect(isStale(reply), "\(command): \(reply)")
      #expect(reply.errorText?.hasSuffix(" old, the bound is 0.5s") == true)
    }
    #expect(try client.call("GET", "plain") == nil)
    for _ in 0..<3 { try sidecar.beat() }
    #expect(try client.call("MGET", "page:1", "page:2") == .array(["v1", "v2"]))
  }

  @Test("keys of other templates are not concerned, in one MGET and in one pipeline of GETs")
  func mixed() throws {
    let sidecar = try sidecar(.template, .bypass)
    let client = try sidecar.client()
    try age(sidecar, client)
    #expect(
      try client.call("MGET", "user:1", "page:1", "user:2", "page:2", "plain")
        == .array(["v1", nil, "v2", nil, nil]))
    #expect(try client.call("EXISTS", "user:1", "page:1", "user:2", "page:2") == 2)
    let hits = try sidecar.count("near_hits")
    let replies = try client.pipeline(
      [["GET", "user:1"], ["GET", "page:1"], ["GET", "user:1"], ["GET", "user:1"]])
    #expect(replies == ["v1", nil, "v1", "v1"])
    #expect(try sidecar.count("near_hits") == hits + 3)
  }

  @Test("a template may also be staler than the rest")
  func longer() throws {
    let sidecar = try RelaySidecar(
      bound: Self.bound, page: StalenessSettings(bound: Self.hour, beyond: .fail))
    let client = try sidecar.client()
    try age(sidecar, client)
    let hits = try sidecar.count("near_hits")
    let replies = try client.pipeline([["GET", "page:1"], ["GET", "user:1"], ["GET", "page:1"]])
    #expect(replies == ["v1", nil, "v1"])
    #expect(try client.call("MGET", "page:1", "user:1", "page:2") == .array(["v1", nil, "v2"]))
    #expect(try sidecar.count("near_hits") == hits + 3)
  }

  @Test("without Redis the same", arguments: StalenessSettings.Beyond.allCases)
  func embedded(_ beyond: StalenessSettings.Beyond) throws {
    let sidecar = try EmbeddedSidecar(page: StalenessSettings(bound: Self.bound, beyond: beyond))
    var tail = Tail(sidecar)
    try tail.begin()
    let client = try sidecar.client()
    for key in ["user:1", "page:1"] {
      _ = try client.call("GET", key)
      #expect(try client.call("SET", key, "v") == .ok)
    }
    #expect(try client.call("GET", "user:1") == "v")
    try eventually("the evidence is old") {
      let text = try client.call("NEARSIDE", "STATUS").text ?? ""
      let line = text.split(separator: "\n").first { $0.hasPrefix("staleness_ms:") } ?? ""
      return Int(line.dropFirst(13)).map { $0 > Self.bound / 1_000_000 } ?? false
    }
    let replies = try client.pipeline([
      ["GET", "user:1"], ["GET", "page:1"], ["MGET", "page:1", "user:1"], ["EXISTS", "user:1", "page:1"],
    ])
    switch beyond {
    case .bypass: #expect(replies == ["v", nil, .array([nil, "v"]), 1])
    case .serve: #expect(replies == ["v", "v", .array(["v", "v"]), 2])
    case .fail:
      #expect(replies[0] == "v")
      for reply in replies[1...] { #expect(isStale(reply), "\(reply)") }
    }
    if beyond == .bypass {
      #expect(try client.call("GET", "page:3") == nil)
      #expect(try client.call("SET", "page:3", "new") == .ok)
      try tail.beat()
      #expect(try client.call("GET", "page:3") == nil)
    }
    try tail.beat()
    #expect(try client.call("GET", "user:1") == "v")
  }
}
