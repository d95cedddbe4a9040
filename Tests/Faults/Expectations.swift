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
  /// why, in a sentence that contains one of `reasons`.
  func waitForNewGeneration(
    after old: String, because reasons: String..., within limit: Duration = .seconds(20),
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    try eventually("a new generation", within: limit) {
      try hosts.map { try $0.generation() ?? "none" }
    } until: {
      Set($0).count == 1 && $0[0] != old && $0[0] != "none"
    }
    try waitUntilWell()
    let log = hosts.map { $0.sidecar.log }.joined()
    #expect(reasons.contains { log.contains($0) }, "\(log)", sourceLocation: sourceLocation)
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

  /// That `old` is served on no host longer than the bound after a change of its row that nobody could tell of, and
  /// that it is gone soon afterwards.
  func expectBounded(
    _ id: Int, _ old: String = "before", on some: [Host]? = nil, from: Moment,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let bound = Moment.milliseconds(UInt64(options.bound))
    for host in some ?? hosts {
      var last: Moment?
      var isGone = false
      // A path that hangs may hold a read up for as long as `redis.timeout`.
      let client = try host.client(timeout: .seconds(20))
      while true {
        let asked = bootMoment()
        isGone = try client.call("GET", key(id)) != .bulk(old)
        if isGone || asked - from > bound + .seconds(1) { break }
        last = asked
        sleep(.milliseconds(5))
      }
      #expect(isGone, "host \(host.number) still serves it", sourceLocation: sourceLocation)
      // What was asked for within the bound may be old.
      let milliseconds = last.map { Double($0.less(from)) / 1e6 } ?? 0
      #expect(
        milliseconds <= Double(options.bound) + 50, "host \(host.number) served it for \(milliseconds) ms",
        sourceLocation: sourceLocation)
    }
  }
}
