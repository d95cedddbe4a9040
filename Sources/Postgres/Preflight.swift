import Configuration
import Invalidation

/// One thing that stands in the way, or will one day.
public struct Finding: Hashable, Sendable, CustomStringConvertible {
  public enum Severity: String, Sendable {
    /// Nearside cannot work, or could serve stale values.
    case error
    case warning
  }

  public var severity: Severity
  /// A sentence.
  public var what: String
  /// What to do about it, a sentence.
  public var fix: String?
  /// Whether the role lacks a right.
  public var isMissingRight: Bool

  public init(_ severity: Severity, _ what: String, fix: String? = nil, isMissingRight: Bool = false) {
    self.severity = severity
    self.what = what
    self.fix = fix
    self.isMissingRight = isMissingRight
  }

  /// What it is and what to do about it.
  public var sentence: String { what + (fix.map { " " + $0 } ?? "") }
  public var description: String { "\(severity.rawValue): \(sentence)" }
}

/// Looks whether a server is ready for a sidecar. Nothing is changed, and any role may ask.
public enum PostgresPreflight {
  /// All findings, errors and warnings mixed, in the order in which one would repair them. Empty: all is
  /// well.
  ///
  /// - Parameter tables: those of the configuration.
  public static func examine(
    _ settings: PostgresSettings, tables: [TableName], _ session: borrowing SQLSession
  ) throws(PostgresError) -> [Finding] {
    // The queries below speak of catalogues that older servers do not have.
    guard session.serverVersion >= 140_000 else {
      return [
        Finding(
          .error, "PostgreSQL is version \(session.serverVersion / 10_000), which is too old.",
          fix: "Nearside needs version 14 or later.")
      ]
    }
    let server = try ServerFacts.read(session)
    let slot = try SlotStatus.read(settings.slot.name, session)
    return judge(server) + (try examine(publication: settings.publication, tables: tables, session))
      + judge(slot, settings.slot, server)
  }

  /// The part of it that DDL may change while a sidecar runs: whether the publication sends every change of the
  /// tables.
  public static func examine(
    publication name: String, tables: [TableName], _ session: borrowing SQLSession
  ) throws(PostgresError) -> [Finding] {
    let publication = try PublicationFacts.read(name, session)
    var facts: [TableFacts] = []
    for table in tables { facts.append(try TableFacts.read(table, publication: name, session)) }
    return judge(publication, named: name)
      + facts.flatMap { judge($0, publication: publication == nil ? nil : name) }
  }

  static func judge(_ server: ServerFacts) -> [Finding] {
    var findings: [Finding] = []
    if server.isStandby {
      findings.append(
        Finding(
          .error, "The server is a standby; changes can be read from the primary only.",
          fix: "Point postgres.url at the primary."))
    }
    if server.walLevel != "logical" {
      findings.append(
        Finding(
          .error, "wal_level is \(server.walLevel), so the log lacks what logical replication needs.",
          fix: "Run ALTER SYSTEM SET wal_level = 'logical' and restart PostgreSQL."))
    }
    if !server.roleMayReplicate {
      findings.append(
        Finding(
          .error, "Role \(server.role) has no right to replicate.",
          fix: "As a superuser, run ALTER ROLE \(quotedIdentifier(server.role)) REPLICATION.",
          isMissingRight: true))
    }
    if matches(server.applicationName, standbyNames: server.synchronousStandbyNames) {
      findings.append(
        Finding(
          .error,
          "synchronous_standby_names matches the sidecar's application_name \(server.applicationName), so "
            + "every commit would wait for the sidecar.",
          fix: "Name the real standbys there, or give the sidecar another application_name in postgres.url."))
    }
    return findings
  }

  static func judge(_ publication: PublicationFacts?, named name: String) -> [Finding] {
    guard let publication else {
      return [Finding(.error, "Publication \(name) does not exist.", fix: "Run nearside setup.")]
    }
    var findings: [Finding] = []
    if !publication.missingActions.isEmpty {
      findings.append(
        Finding(
          .error,
          "Publication \(name) leaves out \(publication.missingActions.joined(separator: ", ")), so such "
            + "changes would clear no key.",
          fix: "Run ALTER PUBLICATION \(quotedIdentifier(name)) SET (publish = '\(SetupPlan.allActions)')."))
    }
    if publication.viaPartitionRoot {
      findings.append(
        Finding(
          .error,
          "Publication \(name) has publish_via_partition_root on, which hides TRUNCATE of a partition.",
          fix: "Run ALTER PUBLICATION \(quotedIdentifier(name)) SET (publish_via_partition_root = false)."))
    }
    return findings
  }

  /// - Parameter publication: nil if there is none, which is a finding of its own.
  static func judge(_ facts: TableFacts, publication: String?) -> [Finding] {
    var findings = facts.obstacles.map { Finding(.error, $0) }
    if facts.hasHeirs {
      findings.append(
        Finding(
          .warning, "Other tables inherit from \(facts.table); their rows change under their own names.",
          fix: "Name each of them under tables as well."))
    }
    guard let publication, !facts.relations.isEmpty else { return findings }
    guard facts.isPublished else {
      findings.append(
        Finding(
          .error, "Publication \(publication) does not hold table \(facts.table).", fix: "Run nearside setup."
        ))
      return findings
    }
    for relation in facts.relations {
      let quoted = quotedName(schema: relation.schema, relation.name)
      if relation.hasRowFilter {
        findings.append(
          Finding(
            .error,
            "Publication \(publication) has a row filter for \(relation.qualifiedName): changes of "
              + "other rows would clear no key.",
            fix: "Take the table out of the publication and add it again without WHERE."))
      }
      guard let columns = relation.publishedColumns else { continue }
      let missing = relation.identityColumnsNotPublished
      if missing.isEmpty {
        findings.append(
          Finding(
            .warning,
            "Publication \(publication) sends only \(columns.joined(separator: ", ")) of "
              + "\(relation.qualifiedName); templates can use no other columns."))
      } else {
        findings.append(
          Finding(
            .error,
            "The column list of publication \(publication) for \(relation.qualifiedName) lacks "
              + "\(missing.joined(separator: ", ")) of the replica identity, so PostgreSQL refuses the "
              + "application's own UPDATE and DELETE.",
            fix: "Take \(quoted) out of the publication and add it again without a column list."))
      }
    }
    return findings
  }

  static func judge(_ slot: SlotStatus?, _ settings: SlotSettings, _ server: ServerFacts) -> [Finding] {
    var findings: [Finding] = []
    func add(_ severity: Finding.Severity, _ what: String, _ fix: String?) {
      findings.append(Finding(severity, what, fix: fix))
    }
    let isDurable = settings.mode == .durable
    if !isDurable || slot == nil, let reason = server.needsFreeSlot {
      add(
        .error, reason + ".",
        "Raise max_replication_slots and restart PostgreSQL, or drop a slot that nobody needs.")
    }
    if server.usedWalSenders >= server.maxWalSenders, slot?.isActive != true {
      add(
        .error, "All \(server.maxWalSenders) walsenders of the server are used.",
        "Raise max_wal_senders and restart PostgreSQL.")
    }
    guard isDurable else { return findings }
    if server.maxSlotWALKeepSize == "-1" {
      add(
        .warning,
        "max_slot_wal_keep_size is -1: while no sidecar runs, the slot keeps log without limit and could "
          + "fill the server's disk.",
        "Run ALTER SYSTEM SET max_slot_wal_keep_size = '10GB' and SELECT pg_reload_conf(). A slot that "
          + "is lost costs Nearside no more than a cold cache.")
    }
    guard let slot else {
      add(
        .warning, "Replication slot \(settings.name) does not exist yet.",
        "Run nearside setup; otherwise the first sidecar creates it.")
      return findings
    }
    if let refusal = slot.refusal(settings.name, database: server.database) {
      add(.error, refusal, "Choose another postgres.slot.name.")
      return findings
    }
    let kept = slot.retainedBytes.map { " It keeps \($0 / 1_048_576) MiB of log." } ?? ""
    switch slot.walStatus {
    case "lost":
      add(
        .warning,
        "Replication slot \(settings.name) is lost: the server has removed log that it still needed.",
        "The next sidecar creates it anew and starts with a cold cache.")
    case "extended", "unreserved":
      add(
        .warning, "Replication slot \(settings.name) is far behind and may be lost.\(kept)",
        slot.isActive ? "See why the tailer is slow." : "Start a sidecar, or run nearside uninstall.")
    default:
      if !slot.isActive, let bytes = slot.retainedBytes, bytes > 1 << 30 {
        add(
          .warning, "No sidecar reads replication slot \(settings.name).\(kept)",
          "Start a sidecar, or run nearside uninstall.")
      }
    }
    return findings
  }

  /// Whether a standby of this name would be a synchronous one. `FIRST 2 (a, "B c")`, `ANY 1 (*)`, `2 (a)`,
  /// `a, b`. Source: PostgreSQL documentation, 20.6.2, "synchronous_standby_names"; case does not matter,
  /// `*` matches all.
  static func matches(_ application: String, standbyNames: String) -> Bool {
    var list = Substring(standbyNames)
    if let open = list.firstIndex(of: "("), let close = list.lastIndex(of: ")"), open < close,
      !list[..<open].contains("\"")
    {
      list = list[list.index(after: open)..<close]
    }
    return list.split(separator: ",").contains { entry in
      var name = entry.drop { $0.isWhitespace }
      while name.last?.isWhitespace == true { name.removeLast() }
      if name == "*" { return true }
      if name.count >= 2, name.first == "\"", name.last == "\"" {
        name = name.dropFirst().dropLast()
      }
      return name.lowercased() == application.lowercased()
    }
  }
}

extension SlotStatus {
  /// Why a durable slot of this name cannot be ours; nil if it can.
  func refusal(_ name: String, database own: String) -> String? {
    guard plugin == "pgoutput" else {
      return "Replication slot \(name) belongs to something else: its plugin is "
        + "\(plugin ?? "none, it is physical")."
    }
    guard database == own else {
      return "Replication slot \(name) belongs to database \(database ?? "?"), not to \(own)."
    }
    return isTemporary ? "Replication slot \(name) is another session's temporary one." : nil
  }
}
