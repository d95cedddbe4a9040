import TestSupport
import Testing

/// What the tests of single faults have in common.
extension Cluster {
  /// The generation that the state in Redis names; nil if there is none.
  func stateGeneration() throws -> String? {
    let text = try? redis.client().call("HGET", stateKey, "g").text
    return text ?? nil
  }

  /// The generation that every host follows.
  func generation() throws -> String {
    let first = try hosts[0].generation() ?? "none"
    for host in hosts where try host.generation() != first {
      throw HarnessError("hosts follow different generations\n\(report)")
    }
    return first
  }

  /// Waits until every host follows one generation that is not `old`, and is well. Some host's log must have said
  /// why, in a sentence that contains `reason`.
  func waitForNewGeneration(
    after old: String, because reason: String, within limit: Duration = .seconds(20),
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    try eventually("a new generation", within: limit) {
      try hosts.map { try $0.generation() ?? "none" }
    } until: {
      Set($0).count == 1 && $0[0] != old && $0[0] != "none"
    }
    try waitUntilWell()
    let log = hosts.map { $0.sidecar.log }.joined()
    #expect(log.contains(reason), "\(log)", sourceLocation: sourceLocation)
  }

  /// That nobody answers a value for the key.
  func expectMiss(_ id: Int, _ what: String = "", sourceLocation: SourceLocation = #_sourceLocation) throws {
    for host in hosts {
      let value = try host.get(key(id))
      #expect(value == nil, "host \(host.number) \(what)", sourceLocation: sourceLocation)
    }
  }

  /// That a value is still answered by all, from their memories or from Redis.
  func expectKept(
    _ id: Int, _ value: String = "before", sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    for host in hosts {
      #expect(
        try host.get(key(id)) == .bulk(value), "host \(host.number)", sourceLocation: sourceLocation)
    }
  }

  /// That the fleet works as if nothing had happened: values are kept near, and a change clears them everywhere.
  func expectSound(sourceLocation: SourceLocation = #_sourceLocation) throws {
    try waitUntilWell()
    for id in [90, 91] { try warm(id, "sound") }
    try change(90)
    try settle()
    try expectMiss(90, "after a change", sourceLocation: sourceLocation)
    #expect(try redis.cli("EXISTS", key(90)) == "0", sourceLocation: sourceLocation)
    try expectKept(91, "sound", sourceLocation: sourceLocation)
    try warm(90, "again")
  }

  /// Reads the key on `host` until `limit` has passed since `from` or it is answered no longer with `old`; the time
  /// after which that was, in milliseconds, or nil if it never was.
  func goneAfter(_ id: Int, _ old: String, on host: Host, from: Moment, limit: Moment) throws -> Double? {
    let client = try host.client()
    while true {
      let asked = bootMoment()
      if try client.call("GET", key(id)) != .bulk(old) { return Double(asked - from) / 1e6 }
      guard asked - from < limit else { return nil }
      sleep(.milliseconds(5))
    }
  }

  /// That `old` is served on `host` no longer than the bound after a change of its row that nobody could tell it of.
  func expectBounded(
    _ id: Int, _ old: String = "before", on host: Host, from: Moment,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let bound = Moment.milliseconds(UInt64(options.bound))
    let time = try goneAfter(id, old, on: host, from: from, limit: bound + .seconds(1))
    // A read that began after the bound must not see it; the one before it may have.
    let milliseconds = try #require(time, "never gone", sourceLocation: sourceLocation)
    #expect(
      milliseconds <= Double(options.bound) + 100, "served for \(milliseconds) ms",
      sourceLocation: sourceLocation)
  }
}
