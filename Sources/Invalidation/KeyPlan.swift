import Configuration

/// The rules of the configuration file, ready to be held against the catalogue and the log.
public struct KeyPlan: Sendable {
  /// In the order of the file.
  public let tables: [TableRule]
  /// Put before every key: `shop:`, or nothing.
  public let keyPrefix: String
  /// `public.users`, …; a table's index here is the index that `KeyBatch` keeps with each key.
  public let tableNames: [String]
  /// The lookups of all tables, in the order of the file.
  public let lookups: [Lookup]
  let originNames: OriginNames
  /// Which tags there are.
  let groups: KeyGroups

  public init(_ settings: Settings) {
    self.init(tables: settings.tables, caches: settings.caches, keyPrefix: settings.keyPrefix)
  }

  public init(tables: [TableRule], caches: [CacheRule] = [], keyPrefix: String) {
    groups = KeyGroups(tables: tables, caches: caches, keyPrefix: keyPrefix)
    self.tables = tables
    self.keyPrefix = keyPrefix
    tableNames = tables.map(\.qualifiedName)
    let originNames = OriginNames(tables: tables)
    self.originNames = originNames
    lookups = tables.enumerated().flatMap { index, table in
      table.lookups.map { Lookup($0, table: index, table, keyPrefix: keyPrefix, originNames) }
    }
  }

  /// The index of the rule that the file gives for a table; nil: no rule names it. For a partition ask with
  /// the name of its root.
  public func ruleIndex(schema: String, name: String) -> Int? {
    tables.firstIndex { $0.schema == schema && $0.name == name }
  }

  /// Every rule that speaks of a relation: under its own name, and for a partition under its root's.
  func ruleIndices(schema: String, name: String, rootSchema: String, rootName: String) -> [Int] {
    tables.indices.filter {
      (tables[$0].schema == schema && tables[$0].name == name)
        || (tables[$0].schema == rootSchema && tables[$0].name == rootName)
    }
  }
}

extension TableRule {
  /// Whether old rows are needed: only for them must the replica identity hold the templates' columns.
  var needsOldRows: Bool { operations.contains(.update) || operations.contains(.delete) }

  /// Whether the condition can be judged only if old rows hold this column of it.
  func needsInOldRow(_ column: RowCondition.Column) -> Bool {
    // Where the row was before an UPDATE decides whether the UPDATE takes it in or out.
    operations.contains(.update) || (operations.contains(.delete) && column.image != .new)
  }

  /// The templates that a row is written into: keys, prefixes and tags.
  var templates: [KeyTemplate] { keys + tags }

  /// Every column that a template or a lookup reads.
  var columnsRead: [String] { templates.flatMap { $0.columns.map(\.name) } + lookups.flatMap(\.sql.names) }
}
