import Invalidation
import Testing

@Suite("The tail against a model of PostgreSQL's log and of Redis")
struct TailSimulationTests {
  @Test(
    "whatever order things happen in and whatever is lost, no stale value counts and nothing is forgotten")
  func everything() async {
    let seeds: UInt64 = 2000
    let parts: UInt64 = 4
    var seen: [String: Int] = [:]
    await withTaskGroup(of: (String?, [String: Int]).self) { group in
      for part in 0..<parts {
        group.addTask {
          var seen: [String: Int] = [:]
          for seed in stride(from: part + 1, through: seeds, by: Int(parts)) {
            var simulation = TailSimulation(seed: seed)
            simulation.run(steps: 300)
            seen.merge(simulation.seen, uniquingKeysWith: +)
            if let violation = simulation.violation { return (violation, seen) }
          }
          return (nil, seen)
        }
      }
      for await (violation, part) in group {
        if let violation { Issue.record("\(violation)") }
        seen.merge(part, uniquingKeysWith: +)
      }
    }
    for what in Self.mustHappen {
      #expect(seen[what, default: 0] >= 50, "\(what)")
    }
  }

  /// A simulation in which something never happens says nothing about it.
  static let mustHappen = [
    "takeover", "resumed", "new generation", "cleared", "batch in steps", "zombie", "crash", "failover",
    "fill", "fill refused", "fenced", "noState", "regressed", "request of a sidecar that is gone",
    "slot advanced by somebody else",
    "Redis has lost writes", "the replication slot is new", "there is no state of this namespace yet",
    "PostgreSQL's timeline or the mapping has changed", "the replication slot has moved on to ",
  ]
}
