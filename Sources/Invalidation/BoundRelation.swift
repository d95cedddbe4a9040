import Configuration

/// A relation of the stream with the rules that speak of it, flattened so that a row needs no look-up by
/// name and no allocation: columns are indices, templates are runs of plain steps.
///
/// It is made anew whenever a Relation message or the catalogue brings something new.
struct BoundRelation: Sendable {
  /// One step of a template.
  struct Step: Sendable {
    /// Which value slot is written; negative: literal bytes.
    var slot: Int32
    /// The literal's place in `literals`.
    var start: Int32
    var count: Int32
    var format: ValueFormat
  }

  struct Rule: Sendable {
    /// Index into the plan's tables.
    var table: Int
    var insert: Bool
    var update: Bool
    var delete: Bool
    var truncate: Bool
    /// Whether `brokenReasons` says why the rule yields no keys.
    var isBroken = false
    /// Whether an UPDATE counts only if it changes one of `filter`.
    var hasFilter = false
    /// The slots that are compared.
    var filter: Range<Int> = 0..<0
    /// Index into `conditions`; negative: every change counts.
    var condition = -1
    /// Indices into `templates`.
    var templates: Range<Int> = 0..<0
    /// Indices into `lookups`.
    var lookups: Range<Int> = 0..<0
  }

  struct BoundLookup: Sendable {
    /// Index into the plan's lookups.
    var index: Int
    /// Of each parameter.
    var slots: [Int] = []
  }

  /// What a template gives.
  enum Kind: Sendable { case key, prefix, tag }

  let relation: PgOutputRelation
  /// Whether old rows come whole.
  var isFull: Bool { relation.identity == .full }
  /// For each column the slot that its value is noted in; negative: nobody asks for it.
  private(set) var slots: [Int16]
  private(set) var slotCount = 0
  private(set) var rules: [Rule] = []
  /// For each rule; empty where the rule holds.
  private(set) var brokenReasons: [String] = []
  /// Ranges of `steps`; those of a group begin with its kind.
  private(set) var templates: [Range<Int>] = []
  private(set) var kinds: [Kind] = []
  /// For each template what its keys' origins say of it.
  private(set) var origins: [KeyOrigin] = []
  private(set) var steps: [Step] = []
  private(set) var literals: [UInt8] = []
  private(set) var filterSlots: [Int] = []
  private(set) var lookups: [BoundLookup] = []
  private(set) var conditions: [BoundCondition] = []

  init(_ relation: PgOutputRelation, catalogue: CatalogueTable, plan: KeyPlan) {
    self.relation = relation
    slots = [Int16](repeating: -1, count: relation.columns.count)
    let indices = plan.ruleIndices(
      schema: relation.schema, name: relation.name, rootSchema: catalogue.rootSchema,
      rootName: catalogue.rootName)
    for index in indices { bind(index, plan, catalogue) }
  }

  private mutating func bind(_ index: Int, _ plan: KeyPlan, _ catalogue: CatalogueTable) {
    let table = plan.tables[index]
    var rule = Rule(
      table: index, insert: table.operations.contains(.insert),
      update: table.operations.contains(.update), delete: table.operations.contains(.delete),
      truncate: table.operations.contains(.truncate))
    var broken = ""
    let firstTemplate = templates.count
    for (number, template) in table.templates.enumerated() {
      let first = steps.count
      let kind: Kind = number >= table.keys.count ? .tag : template.isPrefix ? .prefix : .key
      switch kind {
      case .key: appendLiteral(plan.keyPrefix)
      case .prefix: appendLiteral("p" + plan.keyPrefix)
      case .tag: appendLiteral("t")
      }
      for part in template.parts {
        switch part {
        case .literal(let text): appendLiteral(text)
        case .column(let name, let filters, _):
          do {
            let (column, style) = try usable(name, filters, catalogue, table.needsOldRows)
            steps.append(
              Step(
                slot: Int32(slot(of: column)), start: 0, count: 0,
                format: ValueFormat(style: style, filters: filters)))
          } catch {
            if broken.isEmpty { broken = error.reason }
          }
        }
      }
      templates.append(first..<steps.count)
      kinds.append(kind)
      origins.append(plan.originNames.origin(of: table, template))
    }
    rule.templates = firstTemplate..<templates.count
    let firstLookup = lookups.count
    for (number, lookup) in plan.lookups.enumerated() where lookup.table == index {
      var bound = BoundLookup(index: number)
      for name in lookup.rule.sql.names {
        do {
          bound.slots.append(slot(of: try usable(name, [.raw], catalogue, table.needsOldRows).0))
        } catch {
          if broken.isEmpty { broken = error.reason }
        }
      }
      lookups.append(bound)
    }
    rule.lookups = firstLookup..<lookups.count
    rule.isBroken = !broken.isEmpty
    bindFilter(table, &rule)
    bindCondition(table, catalogue, &rule)
    rules.append(rule)
    brokenReasons.append(broken)
  }

  /// The comparison needs the whole old row and every listed column. Where the log does not give them (any
  /// more), every UPDATE counts: that clears too much, never too little.
  ///
  /// Columns of the templates are compared whether listed or not: an UPDATE that moves a row to another key
  /// changes what the old key stands for.
  private mutating func bindFilter(_ table: TableRule, _ rule: inout Rule) {
    guard let listed = table.columns, relation.identity == .full else { return }
    let names = Set(listed).union(table.columnsRead)
    let indices = relation.columns.indices.filter { names.contains(relation.columns[$0].name) }
    guard indices.count == names.count else { return }
    let first = filterSlots.count
    for index in indices { filterSlots.append(slot(of: index)) }
    rule.hasFilter = true
    rule.filter = first..<filterSlots.count
  }

  /// Where the log no longer gives what the condition needs, every change counts, as with the filter.
  private mutating func bindCondition(_ table: TableRule, _ catalogue: CatalogueTable, _ rule: inout Rule) {
    guard let when = table.when else { return }
    let (bound, _) = ConditionBinder.bind(when) { column in
      guard let index = relation.columns.firstIndex(where: { $0.name == column.name }) else { return nil }
      let sent = relation.columns[index]
      guard sent.isKey || !table.needsInOldRow(column) else { return nil }
      if sent.type < Self.firstTypeOfDatabase {
        let comparing = Comparing(type: sent.type, name: "")
        return ConditionBinder.Column(
          slot: slot(of: index), comparing: comparing, type: sent.type, typeName: "")
      }
      return catalogue.columns.first { $0.name == column.name }.map {
        ConditionBinder.Column(slot: slot(of: index), $0)
      }
    }
    guard let bound else { return }
    rule.condition = conditions.count
    conditions.append(bound)
  }

  private struct Unusable: Error { var reason: String }

  /// The column's index and how its text is read, if keys can be made of it.
  private func usable(
    _ name: String, _ filters: [KeyTemplate.Filter], _ catalogue: CatalogueTable, _ needsOldRows: Bool
  ) throws(Unusable) -> (Int, ValueStyle) {
    guard let index = relation.columns.firstIndex(where: { $0.name == name }) else {
      throw Unusable(reason: "its rows no longer have the column \"\(name)\"")
    }
    let column = relation.columns[index]
    if needsOldRows && !column.isKey {
      throw Unusable(reason: "its replica identity does not hold the column \"\(name)\"")
    }
    if filters.contains(.raw) { return (index, .verbatim) }
    if let style = ValueStyle(builtIn: column.type) { return (index, style) }
    // What is not built in (a domain, an enum, citext) only the catalogue knows.
    if column.type >= Self.firstTypeOfDatabase,
      let known = catalogue.columns.first(where: { $0.name == name }),
      let style = ValueStyle(type: known.type, name: known.typeName, kind: known.typeKind)
    {
      return (index, style)
    }
    throw Unusable(reason: "the text of the column \"\(name)\" is not fit for a key without |raw")
  }

  /// Types with a lower oid belong to PostgreSQL itself.
  /// Source: PostgreSQL source, src/include/access/transam.h, FirstNormalObjectId.
  static let firstTypeOfDatabase: UInt32 = 16_384

  private mutating func slot(of column: Int) -> Int {
    if slots[column] < 0 {
      slots[column] = Int16(slotCount)
      slotCount += 1
    }
    return Int(slots[column])
  }

  private mutating func appendLiteral(_ text: String) {
    guard !text.isEmpty else { return }
    let start = literals.count
    literals.append(contentsOf: text.utf8)
    steps.append(
      Step(
        slot: -1, start: Int32(start), count: Int32(literals.count - start),
        format: ValueFormat(style: .verbatim, filters: [])))
  }

  /// Whether the catalogue speaks of another version of the table than the Relation message does, as far
  /// as the rules can tell.
  static func disagree(_ relation: PgOutputRelation, _ table: CatalogueTable, _ plan: KeyPlan) -> Bool {
    let indices = plan.ruleIndices(
      schema: relation.schema, name: relation.name, rootSchema: table.rootSchema, rootName: table.rootName)
    guard !indices.isEmpty else { return false }
    if table.schema != relation.schema || table.name != relation.name { return true }
    for index in indices {
      let rule = plan.tables[index]
      for name in rule.columnsRead + (rule.when?.columns.map(\.name) ?? []) {
        let sent = relation.columns.first { $0.name == name }
        let known = table.columns.first { $0.name == name }
        if (sent == nil) != (known == nil) { return true }
        if let sent, let known, sent.type < firstTypeOfDatabase, sent.type != known.type { return true }
      }
    }
    return false
  }
}
