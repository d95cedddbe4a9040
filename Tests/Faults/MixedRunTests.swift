import Glibc
import TestSupport
import Testing

/// Everything at once. By itself, after the other tests: its readers need the machine.
///
/// `NEARSIDE_FAULT_SEED` repeats the choices of a run, `NEARSIDE_FAULT_SECONDS` sets its length,
/// `NEARSIDE_FAULT_ONLY` is a text that the names of its faults contain, `NEARSIDE_FAULT_EXCEPT` one that they do not.
@Suite("Faults alone and mixed, at random moments", .serialized)
struct MixedRunTests {
  static func setting(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

  static var faults: [Fault] {
    let (only, except) = (setting("NEARSIDE_FAULT_ONLY"), setting("NEARSIDE_FAULT_EXCEPT"))
    return Fault.all.filter { fault in
      only.map { fault.name.contains($0) } ?? true && !(except.map { fault.name.contains($0) } ?? false)
    }
  }

  static func run(seed: UInt64, seconds: Int, faults: [Fault], demands: Checker.Demands) throws
    -> Nemesis.Verdict
  {
    var options = Cluster.Options()
    options.hosts = 3
    options.tables = #""kv": "kv:{id}", "big": "big:{id}""#
    options.schema = "CREATE TABLE big (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);"
    let cluster = try Cluster(options)
    let workload = Workload(cluster, seed: seed)
    var nemesis = Nemesis(scene: Scene(cluster: cluster, workload: workload), faults: faults, seed: seed)
    return try nemesis.run(for: .seconds(seconds), demands: demands)
  }

  @Test("No read is older than the bound, none is invented, and the cache works between the faults")
  func mixed() throws {
    if let soak = Self.setting("NEARSIDE_FAULT_SOAK").flatMap({ Int($0) }) { return try self.soak(soak) }
    let seed = Self.setting("NEARSIDE_FAULT_SEED").flatMap { UInt64($0) } ?? UInt64.random(in: 1...1 << 40)
    let seconds = Self.setting("NEARSIDE_FAULT_SECONDS").flatMap { Int($0) } ?? 100
    var demands = Checker.Demands()
    // A short run, for a person at work, cannot have as many reads.
    if seconds < 60 {
      demands.reads = 500 * seconds
      demands.calmWindows = 1
    }
    let verdict = try Self.run(seed: seed, seconds: seconds, faults: Self.faults, demands: demands)
    print("Faults with NEARSIDE_FAULT_SEED=\(seed):\n\(verdict.report)")
    // Not the whole verdict, which is long, where few lines are shown.
    let isGood = verdict.isGood
    let found = (verdict.violations + verdict.shortcomings).prefix(5)
    #expect(isGood, "NEARSIDE_FAULT_SEED=\(seed): \(found)")
  }

  /// `Tests/run --soak 2h`. A round has a cluster of its own, so that what it has seen can be forgotten.
  private func soak(_ seconds: Int) throws {
    let end = ContinuousClock().now.advanced(by: .seconds(seconds))
    var round = 0
    while ContinuousClock().now < end {
      round += 1
      let seed = UInt64.random(in: 1...1 << 40)
      let verdict = try Self.run(seed: seed, seconds: 120, faults: Self.faults, demands: Checker.Demands())
      print("Round \(round), NEARSIDE_FAULT_SECONDS=120 NEARSIDE_FAULT_SEED=\(seed): \(verdict.summary)")
      if !verdict.isGood { print(verdict.report) }
      #expect(verdict.isGood, "NEARSIDE_FAULT_SECONDS=120 NEARSIDE_FAULT_SEED=\(seed)")
    }
  }
}
