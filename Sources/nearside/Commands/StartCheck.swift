import ArgumentParser
import Configuration
import Invalidation
import Logging
import Postgres
import Redis

/// What `run` looks at before it serves. Whatever no waiting can mend ends it at once, with a plain sentence
/// for each thing; a server that is only down is waited for.
enum StartCheck {
  static func run(_ settings: Settings, _ log: Logger) throws {
    switch DatabaseCheck.examine(settings) {
    case .failure(let error) where error.isTemporary: log.error("\(error.description)")
    case .failure(let error):
      Output.error(error.description)
      throw ExitCode(exitStatus(error))
    case .success(let check):
      for warning in check.warnings { log.warning("\(warning)") }
      for problem in check.problems where !problem.isFatal {
        log.warning("line \(problem.place.line): \(problem.message)")
      }
      guard check.isReady else {
        for error in check.errors { Output.error(error) }
        for problem in check.problems where problem.isFatal {
          Output.error("Line \(problem.place.line) of the configuration: \(problem.message)")
        }
        throw ExitCode(check.lacksRight ? ExitStatus.permission : ExitStatus.configuration)
      }
    }
    guard let redis = settings.redis else { return }
    let keys = StateKeys(namespace: settings.namespace ?? "")
    let findings = RedisPreflight.findings(
      settings: redis, keys: keys, keyPrefix: settings.keyPrefix, writesBehind: settings.writesBehind)
    for finding in findings where finding.severity == .warning { log.warning("\(finding.sentence)") }
    let problems = findings.filter { $0.severity == .error }
    guard !problems.isEmpty else { return }
    guard problems.contains(where: { !$0.isTemporary }) else {
      for problem in problems { log.error("\(problem.sentence)") }
      return
    }
    for problem in problems { Output.error(problem.sentence) }
    throw ExitCode(ExitStatus.configuration)
  }

  static func exitStatus(_ error: PostgresError) -> Int32 {
    switch error.kind {
    case .authentication, .noHostLine, .noReplicationRight: ExitStatus.permission
    // insufficient_privilege (PostgreSQL documentation, appendix A)
    case .server where error.sqlState == "42501": ExitStatus.permission
    case .badConnectionString, .wrongWalLevel, .publicationMissing, .pooler: ExitStatus.configuration
    default: ExitStatus.unavailable
    }
  }
}

/// What a database says of a configuration, without changing anything.
struct DatabaseCheck {
  /// Sentences about the server. What concerns a place in the file is in `problems`.
  var errors: [String] = []
  var warnings: [String] = []
  /// About rules, with their places in the file.
  var problems: [PlanProblem] = []
  var lacksRight = false

  var isReady: Bool { errors.isEmpty && !problems.contains(where: \.isFatal) }

  /// Asks PostgreSQL. The replication connection is tried too: only it shows whether pg_hba.conf and the
  /// role's rights let a sidecar in.
  static func examine(_ settings: Settings) -> Result<DatabaseCheck, PostgresError> {
    do throws(PostgresError) {
      let session = try SQLSession(settings.postgres)
      let names = settings.tables.map { TableName(schema: $0.schema, name: $0.name) }
      var check = DatabaseCheck()
      for finding in try PostgresPreflight.examine(settings.postgres, tables: names, session) {
        let sentence = finding.sentence
        if finding.isMissingRight { check.lacksRight = true }
        if finding.severity == .error {
          check.errors.append(sentence)
        } else {
          check.warnings.append(sentence)
        }
      }
      check.problems = try rules(settings, session)
      check.problems += try statements(settings, session)
      if check.isReady { _ = try ReplicationStream(settings.postgres).identifySystem() }
      return .success(check)
    } catch {
      if error.kind == .noReplicationRight {
        return .success(DatabaseCheck(errors: [error.description], lacksRight: true))
      }
      return .failure(error)
    }
  }

  /// Holds the rules for tables against the catalogue.
  static func rules(_ settings: Settings, _ session: borrowing SQLSession) throws(PostgresError)
    -> [PlanProblem]
  {
    let plan = KeyPlan(settings)
    var seen = Set<PlanProblem>()
    var problems: [PlanProblem] = []
    for table in settings.tables {
      let found = try Catalogue.read(
        schema: table.schema, name: table.name, publication: settings.postgres.publication, session)
      problems += found.flatMap { plan.problems(with: $0) }.filter { seen.insert($0).inserted }
    }
    return problems
  }

  /// Has the statements of `lookup`, `load` and `write` prepared as the roles that will run them.
  static func statements(
    _ settings: Settings, _ session: borrowing SQLSession
  ) throws(PostgresError) -> [PlanProblem] {
    var problems: [PlanProblem] = []
    for (lookup, error) in try LookupSession.problems(settings.postgres, plan: KeyPlan(settings)) {
      let message = "the lookup cannot be prepared: \(error)"
      problems.append(PlanProblem(place: lookup.rule.place, message: message, isFatal: true))
    }
    var tables: [(rule: TableRule, catalogue: CatalogueTable)] = []
    for table in settings.tables {
      let found = try Catalogue.read(
        schema: table.schema, name: table.name, publication: settings.postgres.publication, session)
      if let first = found.first { tables.append((table, first)) }
    }
    return problems + (try StatementCheck.problems(settings, tables: tables))
  }
}
