import Configuration

/// What is there before `setup` or `uninstall`.
struct SetupFacts: Equatable {
  struct Role: Equatable {
    var mayLogIn = false
    /// Superusers may, too.
    var mayReplicate = false
    var mayConnect = false
    var mayUseSchema = false
    var mayWriteTables = false
    /// Whether its comment says that `nearside setup` made it.
    var isOurs = false
    /// Whether it owns or may do anything besides what `setup` gave it.
    var isUsedElsewhere = false
  }

  var server = ServerFacts()
  var publication: PublicationFacts?
  var tables: [TableFacts] = []
  var slot: SlotStatus?
  var hasSchema = false
  /// pg_class.relpersistence of nearside.canary; nil if there is none.
  var canary: String?
  var hasGen = false
  /// Whether there is nearside.publication, which tells the event triggers whose tables to look at.
  var hasRegistry = false
  var isRegistered = false
  /// Publications of other fleets there.
  var otherPublications: [String] = []
  /// The bodies of `setup`'s own functions, by name.
  var functions: [String: String] = [:]
  /// Of `setup`'s own event triggers, by name: whether they fire in every session.
  var eventTriggers: [String: Bool] = [:]
  var mayCreateEventTriggers = true
  /// Whether schema nearside holds more than `setup` makes.
  var schemaHoldsOthers = false
  /// Namespaces of other fleets in `canary` and `gen`.
  var otherNamespaces: [String] = []
  var role: Role?

  /// What other fleets are called that this database serves, by namespace or publication.
  var otherFleets: [String] { otherNamespaces.isEmpty ? otherPublications : otherNamespaces }

  static func read(_ request: SetupRequest, _ session: borrowing SQLSession) throws(PostgresError)
    -> SetupFacts
  {
    var facts = SetupFacts()
    facts.server = try ServerFacts.read(session)
    facts.publication = try PublicationFacts.read(request.postgres.publication, session)
    facts.slot = try SlotStatus.read(request.postgres.slot.name, session)
    for table in request.tables {
      facts.tables.append(
        try TableFacts.read(table, publication: request.postgres.publication, session))
    }
    try facts.readSchema(request.namespace, session)
    try facts.readFunctions(session)
    try facts.readRegistry(request.postgres.publication, session)
    if let role = request.role { facts.role = try readRole(role, session) }
    return facts
  }

  private mutating func readSchema(
    _ namespace: String?, _ session: borrowing SQLSession
  ) throws(PostgresError) {
    let rows = try session.query(
      """
      SELECT c.relname, c.relpersistence FROM pg_catalog.pg_namespace n
      LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind NOT IN ('i', 'I', 't')
      WHERE n.nspname = 'nearside'
      """)
    hasSchema = !rows.isEmpty
    for row in rows {
      switch row["relname"] {
      case nil: break
      case "canary": canary = row["relpersistence"]
      case "gen": hasGen = true
      case "publication": hasRegistry = true
      default: schemaHoldsOthers = true
      }
    }
    let tables = [canary == nil ? nil : "nearside.canary", hasGen ? "nearside.gen" : nil].compactMap { $0 }
    guard !tables.isEmpty else { return }
    // Only who may write there can set up or uninstall, so a role that may not even read sees none.
    let readable = try session.query(
      "SELECT " + tables.map { "has_table_privilege('\($0)', 'SELECT')" }.joined(separator: " AND "))
    guard readable.first?[0] == "t" else { return }
    let names = try session.query(
      "SELECT ns FROM (" + tables.map { "SELECT ns FROM \($0)" }.joined(separator: " UNION ")
        + ") AS every WHERE ns IS DISTINCT FROM $1 ORDER BY ns", [namespace])
    otherNamespaces = names.compactMap { $0[0] }
  }

  private mutating func readFunctions(_ session: borrowing SQLSession) throws(PostgresError) {
    let found = try session.query(
      """
      SELECT f.proname, f.prosrc FROM pg_catalog.pg_proc f
      JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace WHERE n.nspname = 'nearside'
      """)
    for row in found {
      guard let name = row["proname"], SetupFunctions.functionNames.contains(name), functions[name] == nil
      else {
        schemaHoldsOthers = true
        continue
      }
      functions[name] = row["prosrc"]
    }
    let triggers = try session.query(
      """
      SELECT t.evtname, t.evtenabled = 'A' AS always FROM pg_catalog.pg_event_trigger t
      JOIN pg_catalog.pg_proc f ON f.oid = t.evtfoid
      JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace WHERE n.nspname = 'nearside'
      """)
    for row in triggers {
      if let name = row["evtname"] { eventTriggers[name] = row.isTrue("always") }
    }
    // Amazon RDS lets the members of rds_superuser create event triggers, too.
    let rights = try session.query(
      """
      SELECT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = current_user AND r.rolsuper)
        OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'rds_superuser'
          AND pg_has_role(current_user, r.oid, 'MEMBER')) AS may
      """)
    mayCreateEventTriggers = rights.first?.isTrue("may") ?? false
  }

  private mutating func readRegistry(
    _ publication: String, _ session: borrowing SQLSession
  ) throws(PostgresError) {
    guard hasRegistry else { return }
    let readable = try session.query("SELECT has_table_privilege('nearside.publication', 'SELECT')")
    guard readable.first?[0] == "t" else {
      // Only who made the table can do anything about it.
      isRegistered = true
      return
    }
    for row in try session.query("SELECT name FROM nearside.publication ORDER BY name") {
      guard let name = row[0] else { continue }
      if name == publication { isRegistered = true } else { otherPublications.append(name) }
    }
  }

  private static func readRole(
    _ name: String, _ session: borrowing SQLSession
  ) throws(PostgresError) -> Role? {
    let rows = try session.query(
      """
      WITH own AS (
        SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'nearside' AND c.relname IN ('canary', 'gen') AND c.relkind IN ('r', 'p')),
      home AS (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      SELECT r.rolcanlogin AS login, r.rolsuper OR r.rolreplication AS replication,
        has_database_privilege(r.oid, home.oid, 'CONNECT') AS connect,
        (SELECT bool_and(has_schema_privilege(r.oid, n.oid, 'USAGE')) FROM pg_catalog.pg_namespace n
          WHERE n.nspname = 'nearside') AS usage,
        (SELECT count(*) = 2 AND bool_and(has_table_privilege(r.oid, own.oid, 'SELECT')
          AND has_table_privilege(r.oid, own.oid, 'INSERT') AND has_table_privilege(r.oid, own.oid, 'UPDATE'))
          FROM own) AS write,
        shobj_description(r.oid, 'pg_authid') AS comment,
        EXISTS (SELECT FROM pg_catalog.pg_shdepend d
          WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = r.oid
          AND NOT (d.deptype = 'a' AND (
            d.dbid = 0 AND d.classid = 'pg_catalog.pg_database'::regclass AND d.objid = home.oid
            OR d.dbid = home.oid AND d.classid = 'pg_catalog.pg_class'::regclass
              AND d.objid IN (SELECT oid FROM own)
            OR d.dbid = home.oid AND d.classid = 'pg_catalog.pg_namespace'::regclass
              AND d.objid = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'nearside'))))
          AS elsewhere
      FROM pg_catalog.pg_roles r, home WHERE r.rolname = $1
      """, [name])
    return rows.first.map { row in
      Role(
        mayLogIn: row.isTrue("login"), mayReplicate: row.isTrue("replication"),
        mayConnect: row.isTrue("connect"),
        mayUseSchema: row.isTrue("usage"), mayWriteTables: row.isTrue("write"),
        isOurs: row["comment"] == SetupPlan.signature, isUsedElsewhere: row.isTrue("elsewhere"))
    }
  }
}
