import Configuration

/// What one template gives for one image of a row.
public struct ExplainedKey: Hashable, Sendable {
  public enum Image: String, Sendable { case new, old }

  /// What the text of a key stands for.
  public enum Kind: String, Sendable { case key, prefix, tag }

  public enum Outcome: Hashable, Sendable {
    /// The whole key, namespace included; the same with a `*` behind it if it stands for every key that
    /// begins so; or a tag.
    case key(String)
    /// Why the template gives no key here, in one plain sentence without its full stop.
    case none(reason: String)
  }

  public var template: KeyTemplate
  public var kind: Kind
  public var image: Image
  public var outcome: Outcome

  public init(template: KeyTemplate, kind: Kind = .key, image: Image, outcome: Outcome) {
    self.template = template
    self.kind = kind
    self.image = image
    self.outcome = outcome
  }

  /// The key, if there is one.
  public var key: String? {
    if case .key(let key) = outcome { key } else { nil }
  }
}

/// What one row asks of a lookup.
public struct ExplainedLookup: Hashable, Sendable {
  public var rule: LookupRule
  /// `name = value` for each parameter, in the order of the statement.
  public var values: [String]
}

extension KeyPlan {
  /// Which keys, prefixes and tags a change of a row would clear, and for each template that gives none the
  /// reason.
  ///
  /// - Parameters:
  ///   - table: an index of `tableNames`, as `ruleIndex` finds it.
  ///   - catalogue: what the database says of the table; nil: not known, so that neither columns nor types
  ///     nor the replica identity are checked and values are taken as they stand.
  ///   - new: the row after INSERT or UPDATE: names of columns with their values as PostgreSQL prints them
  ///     (`true` and `false` also do), nil for NULL.
  ///   - old: the row before UPDATE or DELETE.
  public func explain(
    table: Int, catalogue: CatalogueTable?, new: [String: String?]?, old: [String: String?]?,
    operation: RowOperation
  ) -> [ExplainedKey] {
    let rule = tables[table]
    let image: ExplainedKey.Image = operation == .delete ? .old : .new
    let templates: [(KeyTemplate, ExplainedKey.Kind)] =
      rule.keys.map { ($0, $0.isPrefix ? .prefix : .key) } + rule.tags.map { ($0, .tag) }
    func none(_ reason: String) -> [ExplainedKey] {
      templates.map { ExplainedKey(template: $0, kind: $1, image: image, outcome: .none(reason: reason)) }
    }
    if let reason = whyNot(rule, catalogue, new: new, old: old, operation) { return none(reason) }
    var explained: [ExplainedKey] = []
    for (template, kind) in templates {
      var first: String?
      if operation != .delete {
        let outcome = outcome(
          template, kind, new ?? [:], fallback: operation == .update ? old : nil, rule, catalogue)
        explained.append(ExplainedKey(template: template, kind: kind, image: .new, outcome: outcome))
        first = explained.last?.key
      }
      if operation == .delete || (operation == .update && old != nil) {
        let outcome = outcome(
          template, kind, old ?? [:], fallback: operation == .update ? new : nil, rule, catalogue)
        let oldKey = ExplainedKey(template: template, kind: kind, image: .old, outcome: outcome)
        if first == nil || oldKey.key != first { explained.append(oldKey) }
      }
    }
    return explained
  }

  /// What a change of a row would ask of lookups, each ask once; `explain` has the meaning of the parameters.
  public func explainLookups(
    table: Int, catalogue: CatalogueTable?, new: [String: String?]?, old: [String: String?]?,
    operation: RowOperation
  ) -> [ExplainedLookup] {
    guard whyNot(tables[table], catalogue, new: new, old: old, operation) == nil else { return [] }
    var explained: [ExplainedLookup] = []
    for lookup in lookups where lookup.table == table {
      for (image, other) in [(operation == .delete ? nil : new, old), (old, new)] {
        guard let image else { continue }
        let values = lookup.rule.sql.names.map { name in
          (name, image[name] ?? (operation == .update ? other?[name] : nil) ?? nil)
        }
        let ask = ExplainedLookup(rule: lookup.rule, values: values.map { "\($0) = \($1 ?? "NULL")" })
        if !explained.contains(ask) { explained.append(ask) }
      }
    }
    return explained
  }

  /// Why a change does not count by its rule, in one plain sentence without its full stop; nil: it counts.
  private func whyNot(
    _ rule: TableRule, _ catalogue: CatalogueTable?, new: [String: String?]?, old: [String: String?]?,
    _ operation: RowOperation
  ) -> String? {
    guard rule.operations.contains(operation) else {
      return "the rule of \(rule.qualifiedName) leaves \(operation.rawValue.uppercased()) out"
    }
    if operation == .truncate {
      return "TRUNCATE names no rows, so it clears every key of the namespace at once"
    }
    var isPassed = true
    if operation == .update, let old, let new { isPassed = !isIgnored(rule, new, old) }
    if meets(rule, catalogue, new: new, old: old, operation, isPassed: isPassed) { return nil }
    return isPassed
      ? "the condition of \"when\" is not met"
      : "the UPDATE changes no column that \"columns\" lists or a template names"
  }

  /// Columns that are given in only one of the rows count as unchanged: people write down what matters.
  private func isIgnored(_ rule: TableRule, _ new: [String: String?], _ old: [String: String?]) -> Bool {
    guard let listed = rule.columns else { return false }
    return Set(listed).union(rule.columnsRead).allSatisfy { name in
      guard let before = old[name], let after = new[name] else { return true }
      return before == after
    }
  }

  /// Whether the change counts by the rule's condition. What is not given is not known, and what is given of only
  /// one row has not changed.
  private func meets(
    _ rule: TableRule, _ catalogue: CatalogueTable?, new: [String: String?]?, old: [String: String?]?,
    _ operation: RowOperation, isPassed: Bool
  ) -> Bool {
    guard let when = rule.when else { return isPassed }
    let keyed = Set(rule.columnsRead)
    let names = Array(keyed.union(when.columns.map(\.name)))
    let (bound, _) = ConditionBinder.bind(when) { column in
      guard let slot = names.firstIndex(of: column.name) else { return nil }
      guard let catalogue else {
        return ConditionBinder.Column(slot: slot, comparing: nil, type: 0, typeName: "")
      }
      return catalogue.columns.first { $0.name == column.name }.map { ConditionBinder.Column(slot: slot, $0) }
    }
    guard let bound else { return isPassed }
    var message: [UInt8] = []
    func values(_ row: [String: String?]?, or other: [String: String?]?) -> [TupleValue]? {
      row.map { row in
        names.map { name in
          guard let given = row[name] ?? other?[name] else { return TupleValue(kind: .unchanged) }
          guard let text = given else { return TupleValue(kind: .null) }
          let start = message.count
          message += Array(text.utf8)
          return TupleValue(kind: .text, start: start, count: message.count - start)
        }
      }
    }
    let isUpdate = operation == .update
    let after = values(operation == .delete ? nil : new ?? [:], or: isUpdate ? old : nil)
    let before = values(operation == .insert ? nil : old ?? [:], or: isUpdate && old != nil ? new : nil)
    return message.withUnsafeBytes { message in
      bound.counts(
        new: after, old: before, isPassed: isPassed,
        hasMoved: {
          guard let after, let before else { return false }
          return names.indices.contains {
            keyed.contains(names[$0]) && !after[$0].isUnchanged(from: before[$0], in: message)
          }
        }, message)
    }
  }

  private func outcome(
    _ template: KeyTemplate, _ kind: ExplainedKey.Kind, _ row: [String: String?],
    fallback: [String: String?]?, _ rule: TableRule, _ catalogue: CatalogueTable?
  ) -> ExplainedKey.Outcome {
    var key = kind == .tag ? [] : Array(keyPrefix.utf8)
    var scratch: [UInt8] = []
    for part in template.parts {
      switch part {
      case .literal(let text): key.append(contentsOf: text.utf8)
      case .column(let name, let filters, _):
        var style = ValueStyle.verbatim
        if let catalogue {
          guard let column = catalogue.columns.first(where: { $0.name == name }) else {
            return .none(reason: "table \(catalogue.qualifiedName) has no column \"\(name)\"")
          }
          if let reason = unfit(column, filters, rule, catalogue) { return .none(reason: reason) }
          style = ValueStyle(type: column.type, name: column.typeName, kind: column.typeKind) ?? .verbatim
        }
        guard let given = row[name] ?? fallback?[name] else {
          return .none(reason: "the row gives no value for column \"\(name)\"")
        }
        guard let value = given else {
          return .none(reason: "column \"\(name)\" is NULL, and a key needs a value for each column")
        }
        let format = ValueFormat(style: style, filters: filters)
        let fits = Array(value.utf8).withUnsafeBytes { format.append($0, to: &key, scratch: &scratch) }
        guard fits else { return .none(reason: tooLong) }
      }
    }
    if template.isPrefix { key.append(UInt8(ascii: "*")) }
    guard key.count <= PackedKeys.longestKey else { return .none(reason: tooLong) }
    return .key(String(decoding: key, as: UTF8.self))
  }

  private var tooLong: String {
    "the key would be longer than \(PackedKeys.longestKey) bytes; such a row begins a new generation"
  }

  /// The same judgement as `problems(with:)`, in a few words.
  private func unfit(
    _ column: CatalogueColumn, _ filters: [KeyTemplate.Filter], _ rule: TableRule, _ table: CatalogueTable
  ) -> String? {
    if column.isGenerated { return "column \"\(column.name)\" is generated, so the log does not hold it" }
    if let published = table.publishedColumns, !published.contains(column.name) {
      return "the publication does not send column \"\(column.name)\""
    }
    if !filters.contains(.raw),
      ValueStyle(type: column.type, name: column.typeName, kind: column.typeKind) == nil
    {
      return "column \"\(column.name)\" is of type \(column.typeName), which needs |raw"
    }
    if rule.needsOldRows, table.kind != "p", table.identity != .full, !column.inIdentity {
      return "the replica identity of \(table.qualifiedName) does not hold column \"\(column.name)\""
    }
    return nil
  }
}
