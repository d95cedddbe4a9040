import Configuration
import Invalidation

/// What `setup` and `uninstall` are asked for.
public struct SetupRequest: Sendable {
  public var postgres: PostgresSettings
  /// Which rows of the `nearside` schema are this fleet's.
  public var namespace: String?
  /// Those of the configuration.
  public var tables: [TableName]
  /// The role that sidecars log in as; nil: the same that runs these statements, which then needs no grants.
  public var role: String?

  public init(postgres: PostgresSettings, namespace: String?, tables: [TableName], role: String?) {
    self.postgres = postgres
    self.namespace = namespace
    self.tables = tables
    self.role = role
  }
}

/// The statements that make a database ready for sidecars, or take that back: only what is missing, or what
/// is there. They are to be run one by one, each in a transaction of its own.
public struct SetupPlan: Hashable, Sendable, CustomStringConvertible {
  public struct Statement: Hashable, Sendable, CustomStringConvertible {
    /// Why, on one line.
    public var reason: String
    /// Without a semicolon.
    public var sql: String
    public var description: String { "-- \(reason)\n\(sql);" }
  }

  public var statements: [Statement] = []
  /// Why nothing can be done as things are: sentences. Then there are no statements.
  public var refusals: [String] = []
  /// What is left as it is on purpose, and why: sentences.
  public var notes: [String] = []

  /// The plan as a script for psql.
  public var description: String {
    var parts = (refusals.map { "-- refused: " + $0 } + notes.map { "-- note: " + $0 })
    parts += statements.map { $0.description }
    if statements.isEmpty, refusals.isEmpty { parts.append("-- nothing to do") }
    return parts.joined(separator: "\n") + "\n"
  }

  /// Looks what there is and plans what is missing. Nothing is changed.
  public static func setup(
    _ request: SetupRequest, _ session: borrowing SQLSession
  ) throws(PostgresError) -> SetupPlan {
    if let refusal = tooOld(session) { return refusal }
    return setup(request, try SetupFacts.read(request, session))
  }

  /// Looks what there is and plans how to remove it. Nothing is changed.
  public static func uninstall(
    _ request: SetupRequest, _ session: borrowing SQLSession
  ) throws(PostgresError) -> SetupPlan {
    if let refusal = tooOld(session) { return refusal }
    return uninstall(request, try SetupFacts.read(request, session))
  }

  /// Runs the statements, each in a transaction of its own; stops at the first that fails. What was done
  /// stays, and a new plan holds what is left.
  ///
  /// - Parameters:
  ///   - timeout: nanoseconds for each. Creating the slot waits for the transactions that are writing.
  ///   - done: called after each.
  ///   - again: plans anew what is left where somebody has made or removed meanwhile what a statement was to
  ///     make or remove, as sidecars that run do with the slot; nil: that is an error like any other.
  /// - Returns: what a new plan refuses, if there was one: what was made meanwhile is not what is needed.
  @discardableResult
  public func apply(
    _ session: borrowing SQLSession, timeout: UInt64 = 120_000_000_000,
    done: (Statement) -> Void = { _ in },
    again: ((borrowing SQLSession) throws(PostgresError) -> SetupPlan)? = nil
  ) throws(PostgresError) -> [String] {
    var plan = self
    var timesLeft = Self.mostPlans
    var index = 0
    while index < plan.statements.count {
      let statement = plan.statements[index]
      do throws(PostgresError) {
        _ = try session.query(statement.sql, timeout: timeout)
        done(statement)
        index += 1
      } catch {
        guard let again, timesLeft > 0, Self.madeOrRemovedMeanwhile.contains(error.sqlState ?? "") else {
          var error = error
          error.what += ", while running: " + statement.sql
          throw error
        }
        timesLeft -= 1
        plan = try again(session)
        index = 0
      }
    }
    return plan.refusals
  }

  /// New plans that `apply` makes at most: each time somebody else was quicker once more.
  private static let mostPlans = 10
  /// An object, a schema or a table that exists, a row or a name that another transaction is just making, an
  /// object that does not exist. Source: PostgreSQL documentation, Appendix A.
  private static let madeOrRemovedMeanwhile: Set = ["42710", "42P06", "42P07", "23505", "42704"]

  private static func tooOld(_ session: borrowing SQLSession) -> SetupPlan? {
    guard session.serverVersion < 140_000 else { return nil }
    return SetupPlan(refusals: [
      "PostgreSQL is version \(session.serverVersion / 10_000); Nearside needs version 14 or later."
    ])
  }

  /// The comment by which `uninstall` knows what `setup` made.
  static let signature = "made by nearside setup"
  static let allActions = "insert, update, delete, truncate"

  mutating func add(_ reason: String, _ sql: String) {
    statements.append(Statement(reason: reason, sql: sql))
  }
}

// MARK: - Setup

extension SetupPlan {
  static func setup(_ request: SetupRequest, _ facts: SetupFacts) -> SetupPlan {
    let refusals = facts.refusals(request)
    guard refusals.isEmpty else { return SetupPlan(refusals: refusals) }
    var plan = SetupPlan()
    let slot = request.postgres.slot
    // pgoutput looks publications up as they were when the log was written, so a slot that is older than its
    // publication fails for good at the first change.
    let slotIsUseless = facts.slot?.isLost == true || facts.slot != nil && facts.publication == nil
    if slot.mode == .durable, slotIsUseless {
      plan.add(
        facts.slot?.isLost == true
          ? "The server has removed log that this slot still needed."
          : "A slot must be younger than its publication.",
        "SELECT pg_catalog.pg_drop_replication_slot(\(quotedLiteral(slot.name)))")
    }
    if let role = request.role { plan.addRole(role, facts) }
    plan.addSchema(facts)
    plan.addFunctions(request.postgres.publication, facts)
    if let role = request.role { plan.addGrants(role, facts) }
    plan.addPublication(request.postgres.publication, facts)
    plan.addEventTriggers(facts)
    if slot.mode == .durable, facts.slot == nil || slotIsUseless {
      plan.add(
        "Remembers how far sidecars have read. Last, since it must be younger than the publication.",
        "SELECT pg_catalog.pg_create_logical_replication_slot(\(quotedLiteral(slot.name)), 'pgoutput')")
    }
    return plan
  }

  private mutating func addRole(_ role: String, _ facts: SetupFacts) {
    let name = quotedIdentifier(role)
    guard let found = facts.role else {
      add(
        "The sidecars' role. It can read every published change, so give it a password: \\password in psql.",
        "CREATE ROLE \(name) LOGIN REPLICATION")
      add(
        "Lets uninstall know the role again.", "COMMENT ON ROLE \(name) IS \(quotedLiteral(Self.signature))")
      return
    }
    if !found.mayLogIn { add("Sidecars log in as this role.", "ALTER ROLE \(name) LOGIN") }
    if !found.mayReplicate {
      add("Sidecars read the server's log as this role.", "ALTER ROLE \(name) REPLICATION")
    }
  }

  private mutating func addSchema(_ facts: SetupFacts) {
    if !facts.hasSchema { add("Nearside's own tables, apart from yours.", "CREATE SCHEMA nearside") }
    if facts.canary == nil {
      add(
        "Unlogged, so that a crash of the server empties it: commits that were lost then may be in caches.",
        "CREATE UNLOGGED TABLE nearside.canary (ns text PRIMARY KEY, g text NOT NULL)")
    } else if facts.canary != "u" {
      add("It only tells of a crash while it is unlogged.", "ALTER TABLE nearside.canary SET UNLOGGED")
    }
    if !facts.hasGen {
      add(
        "The fleet's generation, to be read on replicas too.",
        "CREATE TABLE nearside.gen (ns text PRIMARY KEY, g text NOT NULL)")
    }
  }

  private mutating func addGrants(_ role: String, _ facts: SetupFacts) {
    let name = quotedIdentifier(role)
    let rights = facts.role ?? SetupFacts.Role()
    if facts.role != nil, !rights.mayConnect {
      add(
        "Sidecars connect to this database.",
        "GRANT CONNECT ON DATABASE \(quotedIdentifier(facts.server.database)) TO \(name)")
    }
    if !rights.mayUseSchema { add("The sidecars' own tables.", "GRANT USAGE ON SCHEMA nearside TO \(name)") }
    if !rights.mayWriteTables {
      add(
        "Sidecars write the generation there, and nothing else anywhere.",
        "GRANT SELECT, INSERT, UPDATE ON nearside.canary, nearside.gen TO \(name)")
    }
  }

  private mutating func addPublication(_ publication: String, _ facts: SetupFacts) {
    let name = quotedIdentifier(publication)
    let missing = facts.tables.filter { !$0.isPublished }.map {
      ($0.hasHeirs ? "ONLY " : "") + $0.table.quoted
    }
    .joined(separator: ", ")
    guard let found = facts.publication else {
      add(
        "Which tables' changes sidecars are told of.",
        "CREATE PUBLICATION \(name)\(missing.isEmpty ? "" : " FOR TABLE " + missing)"
          + " WITH (publish = '\(Self.allActions)', publish_via_partition_root = false)")
      add(
        "Lets uninstall know the publication again.",
        "COMMENT ON PUBLICATION \(name) IS \(quotedLiteral(Self.signature))")
      return
    }
    if !missing.isEmpty {
      add(
        "Tables of the configuration that are not published yet.",
        "ALTER PUBLICATION \(name) ADD TABLE \(missing)")
    }
    if !found.missingActions.isEmpty {
      add(
        "Changes of these kinds would clear no key: \(found.missingActions.joined(separator: ", ")).",
        "ALTER PUBLICATION \(name) SET (publish = '\(Self.allActions)')")
    }
    if found.viaPartitionRoot {
      add(
        "Otherwise TRUNCATE of a partition stays unseen.",
        "ALTER PUBLICATION \(name) SET (publish_via_partition_root = false)")
    }
  }
}

extension SetupFacts {
  /// Why `setup` must not or cannot go on.
  fileprivate func refusals(_ request: SetupRequest) -> [String] {
    let slotSettings = request.postgres.slot
    let publication = request.postgres.publication
    var reasons: [String] = []
    if server.isStandby { reasons.append("The server is a standby; run this on the primary.") }
    if server.walLevel != "logical" {
      reasons.append(
        "wal_level is \(server.walLevel): run ALTER SYSTEM SET wal_level = 'logical', restart PostgreSQL, "
          + "and come back.")
    }
    if slotSettings.mode == .durable {
      if let slot {
        if let refusal = slot.refusal(slotSettings.name, database: server.database) {
          reasons.append(refusal + " Choose another postgres.slot.name.")
        } else if self.publication == nil, slot.isActive {
          reasons.append(
            "The publication is gone, so the slot must be created anew. "
              + SetupPlan.inUse(slotSettings.name, slot))
        }
      } else if let reason = server.needsFreeSlot {
        reasons.append(reason + ": raise max_replication_slots and restart PostgreSQL, or drop one.")
      }
    }
    for table in tables {
      reasons += table.obstacles
      for relation in table.relations {
        if relation.hasRowFilter {
          reasons.append(
            "Publication \(publication) has a row filter for \(relation.qualifiedName), which hides "
              + "changes; take the table out with ALTER PUBLICATION … DROP TABLE and come back.")
        }
        if !relation.identityColumnsNotPublished.isEmpty {
          reasons.append(
            "Publication \(publication) has a column list for \(relation.qualifiedName) that lacks "
              + "part of the replica identity; take the table out with ALTER PUBLICATION … DROP TABLE and come "
              + "back."
          )
        }
      }
    }
    return reasons
  }
}
