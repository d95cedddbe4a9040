import Configuration

/// One lookup of the plan. It stands under an index of its own, whatever its table.
public struct Lookup: Sendable {
  /// An index of the plan's tables: the one whose changes ask for it.
  public let table: Int
  public let rule: LookupRule
  /// For each template of the rule what its keys' origins say; no transaction.
  let origins: [KeyOrigin]
  /// For each template what every key of it begins with, namespace included.
  let prefixes: [[UInt8]]

  init(_ rule: LookupRule, table: Int, _ tableRule: TableRule, keyPrefix: String, _ names: OriginNames) {
    self.table = table
    self.rule = rule
    origins = rule.keys.map { names.origin(of: tableRule, $0) }
    prefixes = rule.keys.map { template in
      var prefix = keyPrefix
      if case .literal(let text)? = template.parts.first { prefix += text }
      return Array(prefix.utf8)
    }
  }
}

/// What one row asks of a lookup: the values of its parameters. Flat bytes, so that equal asks are equal bytes: for
/// each value its length (four bytes, all ones: NULL), then its text.
public struct LookupAsk: Hashable, Sendable {
  public var lookup: Int
  var packed: [UInt8]

  static func append(_ value: UnsafeRawBufferPointer?, to packed: inout [UInt8]) {
    let length = value.map { UInt32($0.count) } ?? .max
    for shift in stride(from: 24, through: 0, by: -8) {
      packed.append(UInt8(truncatingIfNeeded: length >> UInt32(shift)))
    }
    if let value { packed.append(contentsOf: value) }
  }

  /// The values, in the order of the statement's names.
  var values: [String?] {
    var found: [String?] = []
    var at = 0
    while at < packed.count {
      var length: UInt32 = 0
      for byte in packed[at..<at + 4] { length = length << 8 | UInt32(byte) }
      at += 4
      guard length != .max else {
        found.append(nil)
        continue
      }
      found.append(String(decoding: packed[at..<at + Int(length)], as: UTF8.self))
      at += Int(length)
    }
    return found
  }
}

/// A key that a lookup has found.
public struct LookupKey: Hashable, Sendable {
  /// Which ask of the run found it.
  public var ask: Int
  /// An index of the rule's templates.
  public var template: Int
  /// The whole key; of a template that ends in `*` what stands before that.
  public var key: [UInt8]

  public init(ask: Int, template: Int, key: [UInt8]) {
    self.ask = ask
    self.template = template
    self.key = key
  }
}

/// How the rows of a lookup become keys, once it is known of which types its columns are.
public struct LookupShape: Sendable {
  /// The columns that the templates name, each once.
  public let columns: [String]
  private let rule: LookupRule
  private let keyPrefix: String
  private var formats: [[ValueFormat]] = []

  /// The columns that are to be asked for.
  public static func columns(of rule: LookupRule) -> [String] {
    var names: [String] = []
    for (name, _, _) in rule.keys.flatMap(\.columns) where !names.contains(name) { names.append(name) }
    return names
  }

  /// - Parameter types: of `columns(of: rule)`, in their order: pg_type's oid, typname and typtype, for a domain those
  ///   of its base type.
  /// - Throws: `PlanProblem` if a column's text is not fit for a key.
  public init(
    _ rule: LookupRule, keyPrefix: String, types: [(oid: UInt32, name: String, kind: Character)]
  ) throws(PlanProblem) {
    self.rule = rule
    self.keyPrefix = keyPrefix
    columns = Self.columns(of: rule)
    for template in rule.keys {
      var row: [ValueFormat] = []
      for (name, filters, place) in template.columns {
        guard let index = columns.firstIndex(of: name), index < types.count else { continue }
        let type = types[index]
        let style = ValueStyle(type: type.oid, name: type.name, kind: type.kind)
        guard let style = filters.contains(.raw) ? .verbatim : style else {
          throw PlanProblem(
            place: place,
            message: "template \"\(template.text)\" names column \"\(name)\" of type \(type.name), which an "
              + "application may write differently from PostgreSQL (fit for keys: \(ValueStyle.allowedTypes)); "
              + "write {\(name)|raw} if the application uses PostgreSQL's own text",
            isFatal: true)
        }
        row.append(ValueFormat(style: style, filters: filters))
      }
      formats.append(row)
    }
  }

  /// Adds the keys of one row; a NULL gives none. False: a key would be too long.
  public func append(_ value: (Int) -> String?, ask: Int, to keys: inout [LookupKey]) -> Bool {
    var scratch: [UInt8] = []
    next: for (number, template) in rule.keys.enumerated() {
      var key = Array(keyPrefix.utf8)
      var column = 0
      for part in template.parts {
        switch part {
        case .literal(let text): key.append(contentsOf: text.utf8)
        case .column(let name, _, _):
          guard let index = columns.firstIndex(of: name), let text = value(index) else { continue next }
          let format = formats[number][column]
          column += 1
          let fits = Array(text.utf8).withUnsafeBytes { format.append($0, to: &key, scratch: &scratch) }
          guard fits else { return false }
        }
      }
      guard key.count < PackedKeys.longestKey else { return false }
      keys.append(LookupKey(ask: ask, template: number, key: key))
    }
    return true
  }
}
