import Configuration

/// Something that stands between a rule and the table it speaks of.
public struct PlanProblem: Error, Hashable, Sendable {
  /// Where in the configuration file the cause is written.
  public var place: SourcePlace
  /// What is wrong and what to do, in one or two sentences.
  public var message: String
  /// Whether the rule cannot work; the others are warnings.
  public var isFatal: Bool
  /// Whether changes would go unseen. Otherwise each change that the rule cannot follow is at least noticed.
  public var isSilent: Bool

  public init(place: SourcePlace, message: String, isFatal: Bool, isSilent: Bool = false) {
    self.place = place
    self.message = message
    self.isFatal = isFatal
    self.isSilent = isSilent
  }
}

extension KeyPlan {
  /// Holds the rules that speak of a table, or of the root it is a partition of, against the catalogue.
  /// Each leaf of a partitioned table has to be asked for by itself: its replica identity is its own.
  public func problems(with table: CatalogueTable) -> [PlanProblem] {
    let indices = ruleIndices(
      schema: table.schema, name: table.name, rootSchema: table.rootSchema, rootName: table.rootName)
    return indices.flatMap { RuleCheck(rule: tables[$0], table: table).problems() }
  }
}

/// One rule against one table.
private struct RuleCheck {
  let rule: TableRule
  let table: CatalogueTable

  func problems() -> [PlanProblem] {
    var problems = tableProblems()
    // A view or an unlogged table sends nothing; what its columns are does not matter any more.
    guard problems.isEmpty else { return problems }
    problems += identityProblems()
    let saysIdentity = !problems.isEmpty
    if table.hasRowFilter {
      problems.append(
        silent(
          rule.place,
          "the publication sends only some rows of \(table.qualifiedName), so changes of the others would "
            + "go unseen; take the WHERE of this table out of the publication"))
    }
    for template in rule.templates {
      for (name, filters, place) in template.columns {
        let found = columnProblem(name, in: "template \"\(template.text)\"", place)
        if let problem = found.problem { problems.append(problem) }
        guard let column = found.column else { continue }
        if let problem = typeProblem(column, filters, template, place) { problems.append(problem) }
        if !saysIdentity, let problem = keyProblem(column, "template \"\(template.text)\"", place) {
          problems.append(problem)
        }
      }
    }
    for lookup in rule.lookups {
      for (name, place) in zip(lookup.sql.names, lookup.sql.places) {
        let found = columnProblem(name, in: "the lookup", place)
        if let problem = found.problem { problems.append(problem) }
        if let column = found.column, !saysIdentity, let problem = keyProblem(column, "the lookup", place) {
          problems.append(problem)
        }
      }
    }
    return problems + filterProblems() + conditionProblems(saysIdentity: saysIdentity)
  }

  private func fatal(_ place: SourcePlace, _ message: String) -> PlanProblem {
    PlanProblem(place: place, message: message, isFatal: true)
  }

  private func silent(_ place: SourcePlace, _ message: String) -> PlanProblem {
    PlanProblem(place: place, message: message, isFatal: true, isSilent: true)
  }

  /// What the table is at all.
  private func tableProblems() -> [PlanProblem] {
    let kinds: [Character: String] = [
      "v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index",
      "I": "an index", "c": "a composite type", "t": "a TOAST table",
    ]
    if let kind = kinds[table.kind] {
      return [
        silent(
          rule.place,
          "\(table.qualifiedName) is \(kind), whose changes are not in PostgreSQL's log; name the tables "
            + "beneath it")
      ]
    }
    switch table.persistence {
    case "u":
      return [
        silent(
          rule.place,
          "\(table.qualifiedName) is unlogged, so its changes are not in PostgreSQL's log; run "
            + "ALTER TABLE \(sqlTable) SET LOGGED, or leave it out")
      ]
    case "t":
      return [
        silent(
          rule.place,
          "\(table.qualifiedName) is a temporary table, so its changes are not in PostgreSQL's log")
      ]
    default: return []
    }
  }

  /// A partitioned table has no rows; the identity of its leaves counts.
  private var hasRows: Bool { table.kind != "p" }

  /// A table whose old rows have no name at all.
  private func identityProblems() -> [PlanProblem] {
    let isNothing = table.identity == .nothing || !table.columns.contains(where: \.inIdentity)
    guard hasRows, table.identity != .full, isNothing else { return [] }
    let why =
      table.identity == .nothing
      ? "\(table.qualifiedName) has REPLICA IDENTITY NOTHING"
      : "\(table.qualifiedName) has no primary key, and so no replica identity"
    return [
      PlanProblem(
        place: rule.place,
        message: "\(why): while it is published PostgreSQL refuses the application's UPDATE and DELETE; "
          + "give it a primary key and run ALTER TABLE \(sqlTable) REPLICA IDENTITY DEFAULT, or run "
          + "ALTER TABLE \(sqlTable) REPLICA IDENTITY FULL",
        isFatal: rule.needsOldRows)
    ]
  }

  /// The column, if the log sends it.
  private func columnProblem(
    _ name: String, in what: String, _ place: SourcePlace
  ) -> (column: CatalogueColumn?, problem: PlanProblem?) {
    guard let column = table.columns.first(where: { $0.name == name }) else {
      let names = table.columns.map(\.name)
      let hint = similarName(to: name, among: names).map { "; did you mean \"\($0)\"?" } ?? ""
      return (
        nil,
        fatal(
          place,
          "\(what) names column \"\(name)\", which table \(table.qualifiedName) does not have "
            + "(columns: \(names.joined(separator: ", ")))\(hint)")
      )
    }
    if column.isGenerated {
      return (
        nil,
        fatal(
          place,
          "\(what) names column \"\(name)\" of \(table.qualifiedName), which is generated, and PostgreSQL's "
            + "log does not hold generated columns; use the columns it is computed from")
      )
    }
    if let published = table.publishedColumns, !published.contains(name) {
      return (
        nil,
        fatal(
          place,
          "\(what) names column \"\(name)\", which the publication does not send (it sends "
            + "\(published.joined(separator: ", ")) of \(table.qualifiedName)); add it to the publication's "
            + "column list, or publish the table without a list")
      )
    }
    return (column, nil)
  }

  private func typeProblem(
    _ column: CatalogueColumn, _ filters: [KeyTemplate.Filter], _ template: KeyTemplate, _ place: SourcePlace
  ) -> PlanProblem? {
    guard !filters.contains(.raw),
      ValueStyle(type: column.type, name: column.typeName, kind: column.typeKind) == nil
    else { return nil }
    return fatal(
      place,
      "template \"\(template.text)\" names column \"\(column.name)\" of type \(column.typeName), which an "
        + "application may write differently from PostgreSQL (fit for keys: \(ValueStyle.allowedTypes)); "
        + "write {\(column.name)|raw} if the application uses PostgreSQL's own text")
  }

  private func keyProblem(
    _ column: CatalogueColumn, _ what: String, _ place: SourcePlace
  ) -> PlanProblem? {
    guard rule.needsOldRows, hasRows, table.identity != .full, !column.inIdentity else { return nil }
    return fatal(
      place,
      "\(what) names column \"\(column.name)\", which the replica identity of "
        + "\(table.qualifiedName) does not hold, so an UPDATE or DELETE could not name the old key; "
        + identityFix())
  }

  /// The two ways to have all columns of the rule's templates in old rows.
  private func identityFix(with more: [String] = []) -> String {
    var names = table.columns.filter(\.inIdentity).map(\.name)
    for name in rule.columnsRead + more where !names.contains(name) { names.append(name) }
    let nullable = names.filter { name in table.columns.contains { $0.name == name && !$0.isNotNull } }
    let index = sqlName(table.name + "_nearside")
    let notNull =
      nullable.isEmpty
      ? ""
      : " (PostgreSQL takes only NOT NULL columns there, so first "
        + nullable.map { "ALTER COLUMN \(sqlName($0)) SET NOT NULL" }.joined(separator: ", ") + ")"
    return "run ALTER TABLE \(sqlTable) REPLICA IDENTITY FULL, or, for less log, CREATE UNIQUE INDEX "
      + "\(index) ON \(sqlTable) (\(names.map(sqlName).joined(separator: ", "))) and ALTER TABLE \(sqlTable) "
      + "REPLICA IDENTITY USING INDEX \(index)\(notNull)"
  }

  /// "columns" compares an UPDATE's old row with its new one.
  private func filterProblems() -> [PlanProblem] {
    guard let listed = rule.columns, rule.operations.contains(.update) else { return [] }
    var problems: [PlanProblem] = []
    for name in listed {
      if let problem = columnProblem(name, in: "\"columns\"", rule.place).problem { problems.append(problem) }
    }
    if hasRows, table.identity != .full {
      problems.append(
        fatal(
          rule.place,
          "\"columns\" of \(table.qualifiedName) needs the whole old row to tell what an UPDATE has changed; "
            + "run ALTER TABLE \(sqlTable) REPLICA IDENTITY FULL, or leave \"columns\" out"))
    }
    return problems
  }

  /// "when" reads the new row and the old one.
  private func conditionProblems(saysIdentity: Bool) -> [PlanProblem] {
    guard let when = rule.when else { return [] }
    var problems: [PlanProblem] = []
    func add(_ problem: PlanProblem) { if !problems.contains(problem) { problems.append(problem) } }
    let (_, faults) = ConditionBinder.bind(when) { name in
      let found = columnProblem(name.name, in: "\"when\"", name.place)
      if let problem = found.problem { add(problem) }
      guard let column = found.column else { return nil }
      if !saysIdentity, let problem = conditionIdentityProblem(column, name) { add(problem) }
      return ConditionBinder.Column(slot: 0, column)
    }
    for fault in faults {
      add(fatal(fault.place, "in \"when\" of \(table.qualifiedName) " + fault.message))
    }
    return problems
  }

  private func conditionIdentityProblem(
    _ column: CatalogueColumn, _ name: RowCondition.Column
  ) -> PlanProblem? {
    guard rule.needsInOldRow(name), hasRows, table.identity != .full, !column.inIdentity else { return nil }
    let why =
      name.image == .new
      ? "so an UPDATE that takes a row out of the condition could not be told"
      : "so what it was before an UPDATE or DELETE could not be told"
    return fatal(
      name.place,
      "\"when\" names column \"\(column.name)\", which the replica identity of \(table.qualifiedName) does not "
        + "hold, \(why); " + identityFix(with: rule.when?.columns.map(\.name) ?? []))
  }

  private var sqlTable: String { sqlName(table.schema) + "." + sqlName(table.name) }
}

/// An identifier as SQL wants it: quoted unless it is plainly lower-case and no reserved word.
private func sqlName(_ name: String) -> String {
  let plain = name.utf8.allSatisfy {
    switch $0 {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"): true
    default: false
    }
  }
  let startsWithDigit = name.utf8.first.map { $0 <= UInt8(ascii: "9") } ?? true
  if plain, !startsWithDigit, !reservedWords.contains(name) { return name }
  return "\"" + name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
}

/// Source: PostgreSQL documentation, appendix C "SQL Key Words", reserved in PostgreSQL (those that may be
/// function or type names included).
private let reservedWords: Set<String> = [
  "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "binary",
  "both", "case", "cast", "check", "collate", "collation", "column", "concurrently", "constraint", "create",
  "cross", "current_catalog", "current_date", "current_role", "current_schema", "current_time",
  "current_timestamp", "current_user", "default", "deferrable", "desc", "distinct", "do", "else", "end",
  "except", "false", "fetch", "for", "foreign", "freeze", "from", "full", "grant", "group", "having", "ilike",
  "in", "initially", "inner", "intersect", "into", "is", "isnull", "join", "lateral", "leading", "left",
  "like", "limit", "localtime", "localtimestamp", "natural", "not", "notnull", "null", "offset", "on", "only",
  "or", "order", "outer", "overlaps", "placing", "primary", "references", "returning", "right", "select",
  "session_user", "similar", "some", "symmetric", "system_user", "table", "tablesample", "then", "to",
  "trailing", "true", "union", "unique", "user", "using", "variadic", "verbose", "when", "where", "window",
  "with",
]
