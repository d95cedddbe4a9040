import ArgumentParser
import Configuration
import Invalidation
import Postgres
import Redis

struct Check: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check a configuration, and the servers it names, without changing anything.",
    discussion: """
      Every error is shown at once, with its line. Exit codes: 0 all is well, 78 the file cannot be used, 1 the \
      database or Redis is not ready for it, 69 one of them cannot be reached.

      EXAMPLES
        nearside check --config config.json
        nearside check --config config.json --offline
      """)

  @OptionGroup var configurationOption: ConfigurationOption

  @Flag(help: "Look at the file only; connect to nothing.")
  var offline = false

  func run() throws {
    let loaded = try configurationOption.load()
    let settings = loaded.settings
    if offline {
      print("\(loaded.source.file): good (\(settings.tables.count) tables; PostgreSQL and Redis not asked)")
      return
    }
    var findings = 0
    var isDown = false
    switch DatabaseCheck.examine(settings) {
    case .failure(let error):
      Output.error(error.description)
      throw ExitCode(
        StartCheck.exitStatus(error) == ExitStatus.unavailable ? ExitStatus.unavailable : ExitStatus.findings)
    case .success(let check):
      let placed = check.problems.map {
        Diagnostic($0.isFatal ? .error : .warning, at: $0.place, code: "mapping", message: $0.message)
      }
      if !placed.isEmpty { Output.error(DiagnosticReport(placed, in: loaded.source).text()) }
      for error in check.errors { Output.error("error: " + error) }
      for warning in check.warnings { Output.error("warning: " + warning) }
      findings += check.errors.count + check.problems.count { $0.isFatal }
    }
    if let redis = settings.redis {
      for finding in RedisPreflight.findings(
        settings: redis, keys: StateKeys(namespace: settings.namespace ?? ""), keyPrefix: settings.keyPrefix,
        writesBehind: settings.writesBehind)
      {
        let isProblem = finding.severity == .error
        Output.error((isProblem ? "error: " : "warning: ") + finding.sentence)
        if finding.isTemporary { isDown = true } else if isProblem { findings += 1 }
      }
    }
    guard findings == 0 else { throw ExitCode(ExitStatus.findings) }
    guard !isDown else { throw ExitCode(ExitStatus.unavailable) }
    print(
      "\(loaded.source.file): good (\(settings.tables.count) tables, PostgreSQL\(settings.redis == nil ? "" : " and Redis") asked)"
    )
  }
}
