import Configuration
import Invalidation
import Postgres

/// Asks PostgreSQL everything that a sidecar depends on, and judges it. Whatever fails is a finding, and the rest is
/// asked all the same.
struct DatabaseDoctor {
  let settings: Settings
  /// The name of the configuration, for messages that name a line of it.
  let file: String
  /// The connection of an administrator; nil: everything is asked as the sidecar's own role.
  let administrator: Secret?
  private(set) var findings: [Finding] = []
  /// Where the server is, in words.
  private(set) var place = ""

  init(_ settings: Settings, file: String, administrator: Secret?) {
    self.settings = settings
    self.file = file
    self.administrator = administrator
  }

  mutating func look() {
    do throws(PostgresError) {
      let session = try SQLSession(settings.postgres)
      place = session.place
      findings.append(.good("reachable", "PostgreSQL answers."))
      let before = findings.count
      try survey(session)
      guard !findings[before...].contains(where: { $0.check == "version" && !$0.isGood }) else { return }
      lookAround(session)
      lookAtSetup(session)
      lookAtRules(session)
      if !findings.contains(where: { $0.check == "replication_right" && !$0.isGood }) { lookAtStream() }
    } catch {
      findings.insert(Finding("reachable", error), at: 0)
      guard administrator != nil else { return }
    }
    if administrator != nil { askAdministrator() }
  }

  private mutating func survey(_ session: borrowing SQLSession) throws(PostgresError) {
    let names = settings.tables.map { TableName(schema: $0.schema, name: $0.name) }
    findings += try PostgresPreflight.survey(settings.postgres, tables: names, session)
  }

  private mutating func lookAround(_ session: borrowing SQLSession) {
    do throws(PostgresError) {
      findings += PostgresPreflight.judge(try PostgresSurroundings.read(settings.postgres, session))
    } catch {
      findings.append(Finding("surroundings", error))
    }
  }

  /// Whether `setup` has been run, all of it.
  private mutating func lookAtSetup(_ session: borrowing SQLSession) {
    do throws(PostgresError) {
      if settings.redis != nil {
        let questions = try TailSQL(
          namespace: settings.namespace, publication: settings.postgres.publication,
          tables: settings.tables.map { TableName(schema: $0.schema, name: $0.name) }, session)
        findings.append(Self.canary(isUsable: questions.usesCanary))
      }
      findings.append(Self.setup(try SetupPlan.setup(setupRequest(role: nil), session)))
    } catch {
      findings.append(Finding("setup", error))
    }
  }

  private func setupRequest(role: String?) -> SetupRequest {
    SetupRequest(
      postgres: settings.postgres, namespace: settings.namespace,
      tables: settings.tables.map { TableName(schema: $0.schema, name: $0.name) }, role: role)
  }

  private mutating func lookAtRules(_ session: borrowing SQLSession) {
    do throws(PostgresError) {
      findings += Self.rules(try DatabaseCheck.rules(settings, session), settings, file: file)
      let statements =
        settings.caches.count { $0.load != nil } + settings.caches.count { $0.write.sql != nil }
        + settings.tables.reduce(0) { $0 + $1.lookups.count }
      guard statements > 0 else { return }
      findings += Self.statements(
        try DatabaseCheck.statements(settings, session), count: statements, file: file)
      guard settings.caches.contains(where: { $0.load != nil }) else { return }
      findings.append(Self.loader(isDirect: try PostgresPreflight.loaderIsDirect(settings.postgres)))
    } catch {
      findings.append(Finding("loader", error))
    }
  }

  /// Only a walsender shows whether pg_hba.conf, the role and what stands between let one be had.
  private mutating func lookAtStream() {
    do throws(PostgresError) {
      let stream = try ReplicationStream(settings.postgres)
      let server = try stream.identifySystem()
      findings.append(
        .good(
          "replication",
          "A replication connection can be had (system \(server.systemID), timeline \(server.timeline))."))
      if let timeout = try stream.senderTimeout() {
        findings.append(PostgresPreflight.judge(senderTimeout: timeout))
      }
    } catch {
      findings.append(Finding("replication", error))
    }
  }

  private mutating func askAdministrator() {
    do throws(PostgresError) {
      var connection = settings.postgres
      connection.url = administrator ?? connection.url
      connection.password = nil
      let session = try SQLSession(connection)
      if place.isEmpty { place = session.place }
      let plan = try SetupPlan.setup(setupRequest(role: try settings.postgres.role()), session)
      findings.removeAll { $0.check == "setup" }
      findings.append(Self.setup(plan))
      if let broken = try PostgresPreflight.brokenHostLines(session) {
        findings.append(Self.hostLines(broken: broken))
      }
    } catch {
      findings.append(Finding("administrator", error))
    }
  }

  // MARK: Judging

  static func canary(isUsable: Bool) -> Finding {
    guard !isUsable else { return .good("canary", "A crash of PostgreSQL that loses commits is noticed.") }
    return Finding(
      "canary", .warning,
      "This role cannot use nearside.canary and nearside.gen, so a crash or a restored backup of PostgreSQL that loses "
        + "commits is not always noticed.",
      fix: "Run nearside setup --as URL --apply with an administrator's connection.")
  }

  static func setup(_ plan: SetupPlan) -> Finding {
    if let refusal = plan.refusals.first {
      return Finding("setup", .error, "nearside setup would refuse: \(refusal)", fix: "Mend that first.")
    }
    guard !plan.statements.isEmpty else { return .good("setup", "nearside setup has nothing left to do.") }
    let reasons = plan.statements.map(\.reason)
    let more = reasons.count > 3 ? " … and \(reasons.count - 3) more" : ""
    return Finding(
      "setup", .warning,
      "nearside setup would still run \(reasons.count) statement\(reasons.count == 1 ? "" : "s"): "
        + reasons.prefix(3).joined(separator: " ") + more,
      fix: "Run nearside setup, look at them, and run it again with --apply.")
  }

  static func rules(_ problems: [PlanProblem], _ settings: Settings, file: String) -> [Finding] {
    guard problems.isEmpty else { return problems.map { finding("mapping", $0, file: file) } }
    return settings.tables.map {
      .good("mapping", "The log holds every column that the keys of \($0.qualifiedName) are made of.")
    }
  }

  static func statements(_ problems: [PlanProblem], count: Int, file: String) -> [Finding] {
    guard problems.isEmpty else { return problems.map { finding("statements", $0, file: file) } }
    return [
      .good(
        "statements",
        "\(count) statement\(count == 1 ? "" : "s") can be prepared by the role that will run them.")
    ]
  }

  /// Messages name what to do behind a semicolon.
  private static func finding(_ check: String, _ problem: PlanProblem, file: String) -> Finding {
    let place = "\(file):\(problem.place.line): "
    let severity: Finding.Severity = problem.isFatal ? .error : .warning
    guard let end = problem.message.firstRange(of: "; ")?.lowerBound else {
      return Finding(check, severity, place + problem.message, fix: "Correct that line.")
    }
    let fix = problem.message[problem.message.index(end, offsetBy: 2)...]
    return Finding(
      check, severity, place + problem.message[..<end],
      fix: fix.prefix(1).uppercased() + fix.dropFirst() + ".")
  }

  static func loader(isDirect: Bool) -> Finding {
    guard !isDirect else { return .good("loader", "Statements of load reach PostgreSQL directly.") }
    return Finding(
      "loader", .warning,
      "A connection pooler stands before the server of postgres.loader, where statements are prepared once and run "
        + "many times.",
      fix: "Let it pool by session, or use PgBouncer 1.21 or later with max_prepared_statements above zero.")
  }

  static func hostLines(broken: Int) -> Finding {
    guard broken > 0 else { return .good("pg_hba", "Every line of pg_hba.conf can be read.") }
    return Finding(
      "pg_hba", .warning,
      "\(broken) line\(broken == 1 ? "" : "s") of pg_hba.conf cannot be read, so the server keeps the rules that it had.",
      fix:
        "See SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL, mend them, and reload."
    )
  }
}

extension Finding {
  /// What kept something from being asked.
  init(_ check: String, _ error: PostgresError) {
    self.init(
      check, .error, error.place.isEmpty ? error.what + "." : "\(error.what) (\(error.place)).",
      fix: error.fix ?? Self.advice(error),
      isTemporary: error.isTemporary)
  }

  private static func advice(_ error: PostgresError) -> String {
    // insufficient_privilege (PostgreSQL documentation, appendix A)
    error.sqlState == "42501"
      ? "The role lacks a right: run nearside setup --as URL with an administrator's connection."
      : "Look at the server's log."
  }
}

extension String {
  fileprivate func firstRange(of text: String) -> Range<Index>? { ranges(of: text).first }
}
