import Invalidation

/// Reads what `CatalogueTable` holds from the system catalogues.
///
/// Only catalogues that every role may read are used, so that the sidecar's role needs no right on the
/// tables.
public enum Catalogue {
  /// Every table of the publication as its changes arrive: plain tables, and of partitioned ones the leaves.
  ///
  /// With publish_via_partition_root, which Nearside does not work with, the partitioned tables themselves.
  /// - Throws: `publicationMissing`.
  public static func read(
    publication: String, _ session: borrowing SQLSession
  ) throws(PostgresError) -> [CatalogueTable] {
    try requirePublication(publication, session)
    let members = """
      SELECT c.oid FROM pg_catalog.pg_publication_tables pt
      JOIN pg_catalog.pg_namespace n ON n.nspname = pt.schemaname
      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = pt.tablename
      WHERE pt.pubname = $1
      """
    return try read(members, [publication], session)
  }

  /// The relation that a Relation message announced; nil if it is gone.
  public static func read(
    relation id: UInt32, publication: String, _ session: borrowing SQLSession
  ) throws(PostgresError) -> CatalogueTable? {
    try read("SELECT $2::pg_catalog.oid", [publication, String(id)], session).first
  }

  /// A table by its name, published or not; then, if it is partitioned, all partitions below it, so that each
  /// leaf's replica identity can be judged. Empty if there is no such relation.
  public static func read(
    schema: String, name: String, publication: String, _ session: borrowing SQLSession
  ) throws(PostgresError) -> [CatalogueTable] {
    // pg_partition_tree would wait for whoever has locked the table.
    let family = """
      WITH RECURSIVE family(id) AS (
        SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $2 AND c.relname = $3 AND c.relkind NOT IN ('i', 'I', 'S', 't', 'c')
        UNION
        SELECT i.inhrelid FROM family
        JOIN pg_catalog.pg_inherits i ON i.inhparent = family.id AND NOT i.inhdetachpending
        JOIN pg_catalog.pg_class p ON p.oid = i.inhrelid AND p.relispartition)
      SELECT id FROM family
      """
    return try read(family, [publication, schema, name], session)
      .sorted { first, second in
        func isAsked(_ table: CatalogueTable) -> Bool { table.schema == schema && table.name == name }
        return isAsked(first) && !isAsked(second)
      }
  }

  static func requirePublication(
    _ publication: String, _ session: borrowing SQLSession
  ) throws(PostgresError) {
    let found = try session.query("SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = $1", [publication])
    guard found.isEmpty else { return }
    throw PostgresError(
      kind: .publicationMissing, what: "Publication \(publication) does not exist", place: session.place,
      fix: "Run nearside setup, or correct postgres.publication.")
  }

  /// - Parameter relations: a query for oids; its `$1` is the publication.
  private static func read(
    _ relations: String, _ parameters: [String?], _ session: borrowing SQLSession
  ) throws(PostgresError) -> [CatalogueTable] {
    // Row filters and column lists came with version 15. Without publish_via_partition_root only the leaf's
    // own entry counts, not that of a table above it (documentation of CREATE PUBLICATION,
    // "publish_via_…").
    let limits =
      session.serverVersion >= 150_000
      ? ("pr.prqual IS NOT NULL", "a.attnum = ANY (pr.prattrs::int2[])", "pr.prattrs IS NOT NULL")
      : ("false", "false", "false")
    let sql = """
      WITH relations(id) AS (\(relations)),
      -- Domains over domains, down to the type whose output function prints the value.
      base AS (
        WITH RECURSIVE down(id, type) AS (
          SELECT t.oid, t.oid FROM pg_catalog.pg_type t
          UNION ALL
          SELECT d.id, t.typbasetype FROM down d JOIN pg_catalog.pg_type t ON t.oid = d.type
          WHERE t.typtype = 'd')
        SELECT d.id, t.oid AS type, t.typname, t.typtype
        FROM down d JOIN pg_catalog.pg_type t ON t.oid = d.type WHERE t.typtype <> 'd')
      SELECT c.oid AS id, n.nspname AS schema, c.relname AS name, rn.nspname AS root_schema,
        root.relname AS root_name, c.relkind AS kind, c.relpersistence AS persistence,
        c.relreplident AS identity, coalesce(\(limits.0), false) AS has_filter,
        coalesce(\(limits.2), false) AS has_list, a.attname AS column, b.type, b.typname AS type_name,
        b.typtype AS type_kind, a.attgenerated <> '' AS is_generated, a.attnotnull AS is_not_null,
        c.relreplident = 'f' OR coalesce(a.attnum = ANY (i.keys), false) AS in_identity,
        coalesce(\(limits.1), false) AS in_list
      FROM relations
      JOIN pg_catalog.pg_class c ON c.oid = relations.id
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_class root ON root.oid = coalesce(pg_catalog.pg_partition_root(c.oid), c.oid)
      JOIN pg_catalog.pg_namespace rn ON rn.oid = root.relnamespace
      LEFT JOIN pg_catalog.pg_publication p ON p.pubname = $1
      LEFT JOIN pg_catalog.pg_publication_rel pr ON pr.prpubid = p.oid AND pr.prrelid = c.oid
      LEFT JOIN LATERAL (
        SELECT (x.indkey::int2[])[0:x.indnkeyatts - 1] AS keys
        FROM pg_catalog.pg_index x
        WHERE x.indrelid = c.oid AND \(Self.usableIdentityIndex)
        LIMIT 1) i ON true
      LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN base b ON b.id = a.atttypid
      ORDER BY n.nspname, c.relname, c.oid, a.attnum
      """
    var tables: [CatalogueTable] = []
    for row in try session.query(sql, parameters) {
      guard let id = row.integer("id").flatMap({ UInt32(exactly: $0) }) else {
        throw unreadable(session.place)
      }
      if tables.last?.id != id {
        guard let table = table(id, row) else { throw unreadable(session.place) }
        tables.append(table)
      }
      // A table may have no column at all.
      guard let name = row["column"] else { continue }
      guard let column = column(name, row) else { throw unreadable(session.place) }
      tables[tables.count - 1].columns.append(column)
      if row.isTrue("in_list") { tables[tables.count - 1].publishedColumns?.append(name) }
    }
    return tables
  }

  /// Of `pg_index x` and `pg_class c`: whether x is what the server takes for the replica identity. A
  /// deferrable or invalid index is none (relcache.c, RelationGetIndexList).
  static let usableIdentityIndex = """
    x.indisunique AND x.indisvalid AND x.indimmediate AND x.indpred IS NULL
    AND CASE c.relreplident WHEN 'd' THEN x.indisprimary WHEN 'i' THEN x.indisreplident ELSE false END
    """

  private static func table(_ id: UInt32, _ row: Rows.Row) -> CatalogueTable? {
    guard let schema = row["schema"], let name = row["name"], let rootSchema = row["root_schema"],
      let rootName = row["root_name"], let kind = row["kind"]?.first,
      let persistence = row["persistence"]?.first,
      let identity = row["identity"].flatMap({ ReplicaIdentity(rawValue: $0) })
    else { return nil }
    return CatalogueTable(
      id: id, schema: schema, name: name, rootSchema: rootSchema, rootName: rootName, kind: kind,
      persistence: persistence, identity: identity, columns: [], hasRowFilter: row.isTrue("has_filter"),
      publishedColumns: row.isTrue("has_list") ? [] : nil)
  }

  private static func column(_ name: String, _ row: Rows.Row) -> CatalogueColumn? {
    guard let type = row.integer("type").flatMap({ UInt32(exactly: $0) }), let typeName = row["type_name"],
      let typeKind = row["type_kind"]?.first
    else { return nil }
    return CatalogueColumn(
      name: name, type: type, typeName: typeName, typeKind: typeKind, inIdentity: row.isTrue("in_identity"),
      isGenerated: row.isTrue("is_generated"), isNotNull: row.isTrue("is_not_null"))
  }

  private static func unreadable(_ place: String) -> PostgresError {
    PostgresError(
      kind: .protocolViolation, what: "PostgreSQL's catalogue holds what cannot be read", place: place)
  }
}
