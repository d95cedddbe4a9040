import Glibc
import TestSupport

/// Breaks things at random moments while a workload runs, and has the history of it judged.
struct Nemesis {
  /// What one run came to.
  struct Verdict {
    var violations: [Violation]
    var shortcomings: [Violation]
    /// What was done when, for a person who looks for the cause.
    var journal: [String]
    var faults: Int
    var reads: Int

    /// One line.
    var summary: String {
      "\(reads) reads, \(faults) faults, "
        + (isGood ? "no violation" : "\(violations.count + shortcomings.count) violations")
    }

    var isGood: Bool { violations.isEmpty && shortcomings.isEmpty }

    var report: String {
      (violations + shortcomings).map { "  \($0)" }.joined(separator: "\n") + "\n"
        + journal.joined(separator: "\n")
    }
  }

  /// How soon after the last fault is undone every host must follow again.
  static let recovery = Duration.seconds(15)

  let scene: Scene
  let faults: [Fault]
  private var random: Random
  private let began = bootMoment()
  private var journal: [String] = []
  /// Whether each step is printed as it happens (`NEARSIDE_FAULT_TELL=1`), for a run that does not come to its end.
  private let isTold = getenv("NEARSIDE_FAULT_TELL") != nil
  private var violations: [Violation] = []
  private var count = 0

  init(scene: Scene, faults: [Fault], seed: UInt64) {
    self.scene = scene
    self.faults = faults
    random = Random(seed: seed)
  }

  private mutating func tell(_ text: String) {
    let now = bootMoment()
    let line = "  \(now / 1_000_000) ms (+\((now - began) / 1_000_000)): \(text)"
    journal.append(line)
    if isTold {
      print(line)
      fflush(nil)
    }
  }

  /// Runs the workload for `time`, with one or two faults after another.
  mutating func run(for time: Duration, demands: Checker.Demands = Checker.Demands()) throws -> Verdict {
    let end = began + Moment(time.milliseconds * 1e6)
    scene.workload.start()
    // The cache warms up.
    sleep(.seconds(2))
    rest(.milliseconds(1500))
    do {
      while bootMoment() < end {
        try strike()
        guard recover() else { break }
        rest(random.time(1200...2500))
      }
    } catch {
      scene.workload.stop()
      tell("the harness failed: \(error)")
      throw HarnessError("\(error)\n\(journal.joined(separator: "\n"))\n\(scene.cluster.report)")
    }
    scene.workload.stop()
    return try judge(demands)
  }

  /// One fault, or two that overlap.
  private mutating func strike() throws {
    var chosen = [random.pick(faults)]
    if random.oneIn(3) {
      let others = faults.filter { $0.target != chosen[0].target }
      if !others.isEmpty { chosen.append(random.pick(others)) }
    }
    var undo: [(String, Fault.Undo)] = []
    var failure: (any Error)?
    do {
      for fault in chosen {
        tell(fault.name)
        if fault.doubts { scene.workload.doubt() }
        undo.append((fault.name, try fault.inject(scene, &random)))
        count += 1
        sleep(random.time(fault.lasts))
      }
    } catch {
      failure = error
    }
    // Whatever has failed: nothing stays as it is.
    for (name, undo) in undo.shuffled(using: &random) {
      do { try undo() } catch { failure = failure ?? error }
      tell("undone: \(name)")
    }
    if let failure { throw failure }
  }

  /// Waits until every host follows again; false, and a violation, if one does not.
  private mutating func recover() -> Bool {
    let from = bootMoment()
    for host in scene.cluster.hosts where !host.sidecar.isRunning {
      // A supervisor would do that.
      tell("host \(host.number) had ended")
      host.kill()
      try? host.start()
    }
    do {
      try scene.cluster.waitUntilWell(since: from, within: Self.recovery)
    } catch {
      violations.append(Violation(.liveness, "no recovery: \(error)\n\(scene.cluster.report)"))
      tell("no recovery")
      return false
    }
    scene.workload.trust()
    tell("well after \((bootMoment() - from) / 1_000_000) ms")
    // Readers fill what has been forgotten.
    sleep(.milliseconds(700))
    return true
  }

  private func rest(_ time: Duration) {
    let from = bootMoment()
    sleep(time)
    scene.workload.calm(from: from)
  }

  private func judge(_ demands: Checker.Demands) throws -> Verdict {
    let (cluster, workload) = (scene.cluster, scene.workload)
    var all = violations
    if all.isEmpty {
      try cluster.waitUntilWell()
      try cluster.settle()
      // Three beats.
      sleep(.milliseconds(400))
    }
    let history = try workload.history()
    all += Checker.violations(in: history) + workload.stateViolations
    if history.copies.count < cluster.options.keys {
      all.append(Violation(.size, "only \(history.copies.count) copies at the end"))
    }
    var journal = self.journal
    journal.append(
      "  \(history.allReads) reads, \(history.reads.count) hits, \(history.nearHits) of them near, \(workload.ownReads) of own "
        + "writes; "
        + "\(history.writes.count) writes, \(count) faults, \(workload.generations) generations, \(workload.stateSamples) samples of the "
        + "state, \(history.copies.count) copies")
    let troubles = workload.troubles.sorted { $0.value > $1.value }.prefix(12)
    journal += troubles.map { "  \($0.value) times \($0.key)" }
    return Verdict(
      violations: all, shortcomings: Checker.shortcomings(of: history, demands: demands), journal: journal,
      faults: count, reads: history.allReads)
  }
}
