/// What a Relation message says: the shape of a table's rows at this point of the log, which may be older
/// than what the catalogue says now.
/// Source: PostgreSQL documentation, 55.9 "Logical Replication Message Formats", Relation.
struct PgOutputRelation: Hashable, Sendable {
  struct Column: Hashable, Sendable {
    var name: String
    /// pg_type.oid of the column's own type: for a domain the domain's, not its base type's.
    var type: UInt32
    /// Bit 1 of the flags: the column is part of the key that old rows carry.
    var isKey: Bool
  }

  var id: UInt32
  var schema: String
  var name: String
  var identity: ReplicaIdentity
  var columns: [Column]

  /// Reads what follows the tag.
  init(_ cursor: inout PgOutputCursor) throws(PgOutputError) {
    id = try cursor.uint32()
    let namespace = try cursor.string()
    // The protocol writes pg_catalog as the empty string.
    schema = namespace.isEmpty ? "pg_catalog" : namespace
    name = try cursor.string()
    let identityAt = cursor.at
    let letter = try cursor.byte()
    guard let identity = ReplicaIdentity(rawValue: String(UnicodeScalar(letter))) else {
      throw .unknownTag(letter, at: identityAt)
    }
    self.identity = identity
    columns = []
    for _ in 0..<(try cursor.count16()) {
      let flags = try cursor.byte()
      let name = try cursor.string()
      let type = try cursor.uint32()
      try cursor.skip(4)  // The type modifier, such as the 20 of varchar(20), changes no text.
      columns.append(Column(name: name, type: type, isKey: flags & 1 != 0 || identity == .full))
    }
    try cursor.finish()
  }
}
