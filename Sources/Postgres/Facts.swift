import Invalidation

/// A table as the configuration names it.
public struct TableName: Hashable, Sendable, CustomStringConvertible {
  public var schema: String
  public var name: String

  public init(schema: String, name: String) {
    self.schema = schema
    self.name = name
  }

  public var description: String { schema + "." + name }
  var quoted: String { quotedName(schema: schema, name) }
}

/// What the server says of a publication.
struct PublicationFacts: Equatable {
  var isForAllTables = false
  /// Which of insert, update, delete and truncate it leaves out.
  var missingActions: [String] = []
  var viaPartitionRoot = false
  /// Whether its comment says that `nearside setup` made it.
  var isOurs = true

  static func read(_ name: String, _ session: borrowing SQLSession) throws(PostgresError) -> PublicationFacts?
  {
    let rows = try session.query(
      """
      SELECT puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot,
        obj_description(oid, 'pg_publication') AS comment
      FROM pg_catalog.pg_publication WHERE pubname = $1
      """, [name])
    return rows.first.map { row in
      PublicationFacts(
        isForAllTables: row.isTrue("puballtables"),
        missingActions: ["insert", "update", "delete", "truncate"].filter { !row.isTrue("pub" + $0) },
        viaPartitionRoot: row.isTrue("pubviaroot"), isOurs: row["comment"] == SetupPlan.signature)
    }
  }
}

/// What the server says of one table of the configuration, and of the partitions below it.
struct TableFacts: Equatable {
  var table: TableName
  /// The table itself, then its partitions; empty if there is no such table.
  var relations: [CatalogueTable]
  /// Whether the publication names it, a partitioned table above it, its schema, or all tables.
  var isPublished: Bool
  /// Whether other tables inherit from it without being partitions; their rows change under their own names.
  var hasHeirs: Bool

  static func read(
    _ table: TableName, publication: String, _ session: borrowing SQLSession
  ) throws(PostgresError) -> TableFacts {
    let relations = try Catalogue.read(
      schema: table.schema, name: table.name, publication: publication, session)
    guard let id = relations.first?.id else {
      return TableFacts(table: table, relations: [], isPublished: false, hasHeirs: false)
    }
    // Publications of whole schemas came with version 15.
    let ofSchema =
      session.serverVersion >= 150_000
      ? """
      OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace pn WHERE pn.pnpubid = p.oid
        AND pn.pnnspid IN (
          SELECT c.relnamespace FROM pg_catalog.pg_class c JOIN self_and_above s ON s.id = c.oid))
      """ : ""
    let rows = try session.query(
      """
      WITH self_and_above(id) AS (
        SELECT $2::oid UNION SELECT a.relid FROM pg_catalog.pg_partition_ancestors($2::oid) a)
      SELECT EXISTS (SELECT FROM pg_catalog.pg_publication p WHERE p.pubname = $1 AND (p.puballtables
          OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel pr JOIN self_and_above s ON s.id = pr.prrelid
            WHERE pr.prpubid = p.oid)
          \(ofSchema))) AS published,
        c.relkind <> 'p' AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid) AS heirs
      FROM pg_catalog.pg_class c WHERE c.oid = $2::oid
      """, [publication, String(id)])
    return TableFacts(
      table: table, relations: relations, isPublished: rows.first?.isTrue("published") ?? false,
      hasHeirs: rows.first?.isTrue("heirs") ?? false)
  }

  /// Why the application's own writes would fail, or stay unseen, once the table is published; empty if it
  /// can be.
  var obstacles: [String] {
    guard !relations.isEmpty else { return ["Table \(table) does not exist."] }
    return relations.compactMap { $0.obstacle(asked: table) }
  }
}

extension CatalogueTable {
  fileprivate func obstacle(asked: TableName) -> String? {
    let isAsked = schema == asked.schema && name == asked.name
    let subject = isAsked ? "Table \(qualifiedName)" : "Partition \(qualifiedName) of \(asked)"
    switch kind {
    case "r", "p": break
    case "f": return "\(subject) is a foreign table, whose changes do not pass through PostgreSQL's log."
    case "v", "m":
      return "\(qualifiedName) is a view; name the tables it is made of instead."
    default: return "\(qualifiedName) is not a table."
    }
    switch persistence {
    case "u":
      return "\(subject) is unlogged, so its changes are not in PostgreSQL's log; ALTER TABLE … SET LOGGED "
        + "makes it an ordinary one."
    case "t": return "\(subject) is temporary, so its changes are not in PostgreSQL's log."
    default: break
    }
    // Rows lie in leaves only, and only the leaves' identities count.
    guard kind == "r", !hasIdentity else { return nil }
    return "\(subject) has no replica identity, so PostgreSQL would refuse the application's own UPDATE and "
      + "DELETE as soon as it is published; give it a primary key (not a deferrable one), or run ALTER TABLE "
      + "\(quotedName(schema: schema, name)) REPLICA IDENTITY FULL."
  }

  private var hasIdentity: Bool { identity == .full || columns.contains { $0.inIdentity } }

  /// The columns of the replica identity that the publication's column list leaves out.
  var identityColumnsNotPublished: [String] {
    guard let publishedColumns else { return [] }
    return columns.filter { $0.inIdentity && !publishedColumns.contains($0.name) }.map { $0.name }
  }
}

/// What the server says of itself and of the session's role.
struct ServerFacts: Equatable {
  var version = 150_000
  var versionText = "15.0"
  var isStandby = false
  var database = ""
  var role = ""
  var roleMayReplicate = true
  var walLevel = "logical"
  var maxSlots = 10
  var usedSlots = 0
  var maxWalSenders = 10
  var usedWalSenders = 0
  /// As PostgreSQL prints it, with its unit; `-1` is no limit.
  var maxSlotWALKeepSize = "10GB"
  var synchronousStandbyNames = ""
  var applicationName = "nearside"

  var needsFreeSlot: String? {
    guard usedSlots >= maxSlots else { return nil }
    return "All \(maxSlots) replication slots of the server are used"
  }

  /// Every role may read all of this.
  static func read(_ session: borrowing SQLSession) throws(PostgresError) -> ServerFacts {
    let rows = try session.query(
      """
      SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
        current_database() AS database, current_user AS role,
        EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
          AND (r.rolsuper OR r.rolreplication))
        -- Amazon RDS gives the right through membership.
        OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'rds_replication'
          AND pg_has_role(current_user, r.oid, 'MEMBER')) AS replicates,
        current_setting('wal_level') AS wal_level,
        current_setting('max_replication_slots')::int AS max_slots,
        (SELECT count(*) FROM pg_catalog.pg_replication_slots) AS used_slots,
        current_setting('max_wal_senders')::int AS max_senders,
        (SELECT count(*) FROM pg_catalog.pg_stat_get_wal_senders()) AS used_senders,
        current_setting('max_slot_wal_keep_size') AS keep,
        current_setting('synchronous_standby_names') AS sync,
        current_setting('application_name') AS application
      """)
    guard let row = rows.first else { return ServerFacts() }
    return ServerFacts(
      version: session.serverVersion, versionText: row["version"] ?? "", isStandby: row.isTrue("standby"),
      database: row["database"] ?? "", role: row["role"] ?? "", roleMayReplicate: row.isTrue("replicates"),
      walLevel: row["wal_level"] ?? "", maxSlots: Int(row.integer("max_slots") ?? 0),
      usedSlots: Int(row.integer("used_slots") ?? 0), maxWalSenders: Int(row.integer("max_senders") ?? 0),
      usedWalSenders: Int(row.integer("used_senders") ?? 0), maxSlotWALKeepSize: row["keep"] ?? "",
      synchronousStandbyNames: row["sync"] ?? "", applicationName: row["application"] ?? "")
  }
}
