/// What PostgreSQL's catalogue says of one table of the publication: enough to tell whether its changes can
/// be turned into keys. The Postgres module reads it; `KeyPlan` judges it.
public struct CatalogueTable: Hashable, Sendable {
  /// pg_class.oid; the id that Relation messages carry.
  public var id: UInt32
  public var schema: String
  public var name: String
  /// The topmost partitioned table above a leaf; the table itself if it is no partition.
  public var rootSchema: String
  public var rootName: String
  /// pg_class.relkind: `r` table, `p` partitioned table, …
  public var kind: Character
  /// pg_class.relpersistence: `p` permanent, `u` unlogged, `t` temporary.
  public var persistence: Character
  public var identity: ReplicaIdentity
  public var columns: [CatalogueColumn]
  /// Whether the publication has a row filter for this table (its rows outside are silent).
  public var hasRowFilter: Bool
  /// The columns that the publication sends; nil: all.
  public var publishedColumns: [String]?

  public init(
    id: UInt32, schema: String, name: String, rootSchema: String, rootName: String, kind: Character,
    persistence: Character, identity: ReplicaIdentity, columns: [CatalogueColumn], hasRowFilter: Bool,
    publishedColumns: [String]?
  ) {
    self.id = id
    self.schema = schema
    self.name = name
    self.rootSchema = rootSchema
    self.rootName = rootName
    self.kind = kind
    self.persistence = persistence
    self.identity = identity
    self.columns = columns
    self.hasRowFilter = hasRowFilter
    self.publishedColumns = publishedColumns
  }

  public var qualifiedName: String { schema + "." + name }
}

/// Which columns of the old row an UPDATE or DELETE carries.
/// Source: PostgreSQL documentation, ALTER TABLE, "REPLICA IDENTITY".
public enum ReplicaIdentity: String, Sendable {
  /// The primary key, or nothing where there is none.
  case primaryKey = "d"
  case index = "i"
  case full = "f"
  case nothing = "n"
}

public struct CatalogueColumn: Hashable, Sendable {
  public var name: String
  /// pg_type.oid; of a domain, its base type's.
  public var type: UInt32
  /// pg_type.typname; of a domain, its base type's.
  public var typeName: String
  /// pg_type.typtype of the (base) type: `b` base, `e` enum, …
  public var typeKind: Character
  /// Whether the replica identity holds the column (always true for `full`).
  public var inIdentity: Bool
  public var isGenerated: Bool
  public var isNotNull: Bool

  public init(
    name: String, type: UInt32, typeName: String, typeKind: Character, inIdentity: Bool, isGenerated: Bool,
    isNotNull: Bool
  ) {
    self.name = name
    self.type = type
    self.typeName = typeName
    self.typeKind = typeKind
    self.inIdentity = inIdentity
    self.isGenerated = isGenerated
    self.isNotNull = isNotNull
  }
}
