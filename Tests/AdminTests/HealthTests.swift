import Admin
import Metrics
import Testing

@Suite struct HealthTests {
  /// A sidecar of which everything is well.
  static func sound() -> SidecarReport {
    var loop = LoopReport()
    loop.isAccepting = true
    loop.role = "tailer"
    loop.standing = "following"
    loop.generation.isCleared = true
    loop.staleness = 100_000_000
    loop.stalenessBound = 2_000_000_000
    loop.redis = RedisLinkReport()
    loop.redis?.isUp = true
    loop.clients.limit = 100
    return SidecarReport(loop: loop, process: ProcessReport(), time: WallTime(microseconds: 0))
  }

  @Test("a sidecar of which everything is well has no problem")
  func healthy() {
    let health = Health(Self.sound())
    #expect(health.problems.isEmpty, "\(health.problems)")
    #expect(health.state == .ok)
    #expect(health.isReady && health.isStrictlyReady)
  }

  struct Ill: Sendable, CustomStringConvertible {
    var description: String
    var part: Health.Part
    var severity: Health.Severity
    var spoil: @Sendable (inout SidecarReport) -> Void
  }

  static let ills = [
    Ill(description: "PostgreSQL away", part: .postgres, severity: .error) {
      $0.loop.role = "waiting"
      $0.loop.trouble = "connection refused"
      $0.loop.isPostgresAway = true
    },
    Ill(description: "no right", part: .replication, severity: .error) {
      $0.loop.role = "waiting"
      $0.loop.trouble = "permission denied"
    },
    Ill(description: "a broken rule", part: .replication, severity: .warning) {
      $0.loop.trouble = "column email is gone"
    },
    Ill(description: "no state", part: .generation, severity: .error) { $0.loop.standing = "no state: …" },
    Ill(description: "clearing", part: .generation, severity: .warning) {
      $0.loop.generation.isCleared = false
    },
    Ill(description: "watching", part: .generation, severity: .warning) {
      $0.loop.generation.isWatching = true
    },
    Ill(description: "stale", part: .staleness, severity: .error) { $0.loop.staleness = 2_000_000_001 },
    Ill(description: "no evidence", part: .staleness, severity: .error) { $0.loop.staleness = nil },
    Ill(description: "Redis away", part: .redis, severity: .error) { $0.loop.redis?.isUp = false },
    Ill(description: "Redis full", part: .redis, severity: .warning) {
      $0.redis = RedisReport(info: "used_memory:95\nmaxmemory:100")
    },
    Ill(description: "slot lost", part: .slot, severity: .error) {
      $0.loop.tail = TailFigures()
      $0.loop.tail?.slot = SlotReport(name: "s", walStatus: "lost", retained: nil, safe: nil)
    },
    Ill(description: "slot behind", part: .slot, severity: .warning) {
      $0.loop.tail = TailFigures()
      $0.loop.tail?.slot = SlotReport(name: "s", walStatus: "reserved", retained: 2 << 30, safe: nil)
    },
    Ill(description: "slot near its bound", part: .slot, severity: .warning) {
      $0.loop.tail = TailFigures()
      $0.loop.tail?.slot = SlotReport(
        name: "s", walStatus: "reserved", retained: 51 << 20, safe: nil, bound: 100 << 20)
    },
    Ill(description: "stale values", part: .audit, severity: .warning) {
      $0.loop.audit = AuditReport()
      $0.loop.audit?.samples = 10
      $0.loop.audit?.stale = 1
    },
    Ill(description: "configuration refused", part: .configuration, severity: .warning) {
      $0.reloads.refused = 1
      $0.reloads.trouble = "c.json:1:1: error: unknown key"
    },
    Ill(description: "loader away", part: .loader, severity: .error) {
      $0.loop.loader = LoaderReport()
      $0.loop.loader?.isAway = true
    },
    Ill(description: "dead writes", part: .writes, severity: .warning) {
      $0.loop.writes.behind = WritesReport.Behind()
      $0.loop.writes.behind?.dead = 1
    },
    Ill(description: "many clients", part: .clients, severity: .warning) { $0.loop.clients.now = 95 },
  ]

  @Test("each thing that can be wrong is named, with what to do", arguments: ills)
  func problems(_ ill: Ill) {
    var report = Self.sound()
    ill.spoil(&report)
    let health = Health(report)
    let problem = health.problems.first { $0.part == ill.part }
    #expect(problem?.severity == ill.severity)
    #expect(problem?.what.hasSuffix(".") == true || problem?.what.contains(": ") == true)
    #expect(problem?.fix.isEmpty == false)
    #expect(health.state == (ill.severity == .error ? .failing : .warning))
  }

  @Test("reads are answered while near values are fresh or Redis answers, and not without both")
  func readiness() {
    var report = Self.sound()
    report.loop.redis?.isUp = false
    #expect(Health(report).isReady)
    report.loop.staleness = nil
    #expect(!Health(report).isReady)
    report.loop.redis?.isUp = true
    #expect(Health(report).isReady)
    #expect(!Health(report).isStrictlyReady)
    report.loop.isAccepting = false
    #expect(!Health(report).isReady)
  }

  @Test("a restart of the tail makes no sidecar unready, only strictly so")
  func coupling() {
    var report = Self.sound()
    report.loop.role = "waiting"
    #expect(Health(report).isReady)
    #expect(!Health(report).isStrictlyReady)
  }
}
