import Configuration

/// Makes a `BoundCondition` of a condition and the columns that it names, or tells what is wrong with it.
struct ConditionBinder {
  struct Column {
    var slot: Int
    /// nil: nothing is known of its type, so that it is told by what the column is compared with.
    var comparing: Comparing?
    /// pg_type.oid of the type, or of a domain's base type.
    var type: UInt32
    /// For people.
    var typeName: String

    init(slot: Int, comparing: Comparing?, type: UInt32, typeName: String) {
      self.slot = slot
      self.comparing = comparing
      self.type = type
      self.typeName = typeName
    }

    init(slot: Int, _ column: CatalogueColumn) {
      let comparing = Comparing(type: column.type, name: column.typeName)
      self.init(slot: slot, comparing: comparing, type: column.type, typeName: column.typeName)
    }
  }

  struct Fault: Hashable {
    var place: SourcePlace
    /// Without the column's table; no literal is repeated, since it may come from outside the file.
    var message: String
  }

  private(set) var condition = BoundCondition()
  private(set) var faults: [Fault] = []
  private let find: (RowCondition.Column) -> Column?

  /// - Parameter find: what a column is; nil if there is none, which the caller reports.
  /// - Returns: nil in `bound` if a column was not found or there are faults.
  static func bind(
    _ condition: RowCondition, _ find: (RowCondition.Column) -> Column?
  ) -> (bound: BoundCondition?, faults: [Fault]) {
    withoutActuallyEscaping(find) { find in
      var binder = ConditionBinder(find: find)
      binder.condition.root = binder.bind(condition.root)
      return (binder.isMissing || !binder.faults.isEmpty ? nil : binder.condition, binder.faults)
    }
  }

  private var isMissing = false

  private init(find: @escaping (RowCondition.Column) -> Column?) { self.find = find }

  private mutating func bind(_ expression: RowCondition.Expression) -> Int32 {
    switch expression {
    case .all(let parts): return join(.all, parts)
    case .any(let parts): return join(.any, parts)
    case .not(let part): return join(.not, [part])
    case .isNull(let column):
      return add(.isNull, [operand(column)?.operand])
    case .holds(let column):
      let found = operand(column)
      if let found, found.column.comparing.map({ $0 != .boolean }) ?? false {
        fault(
          column.place,
          "\(quoted(column)) is of type \(found.column.typeName), and only a boolean stands by itself")
      }
      return add(.holds, [found?.operand])
    case .changed(let columns):
      let hasEither = condition.hasEither
      let operands = columns.map { operand($0)?.operand }
      // These are read from both rows.
      condition.hasEither = hasEither
      return add(.changed, operands, isOfChange: true)
    case .like(let column, let pattern, let place): return like(column, pattern, place)
    case .compare(let left, let comparison, let right, let place):
      return compare(left, comparison, right, place)
    }
  }

  private mutating func join(_ kind: BoundCondition.Kind, _ parts: [RowCondition.Expression]) -> Int32 {
    let bound = parts.map { bind($0) }
    condition.nodes.append(
      BoundCondition.Node(kind: kind, first: Int32(condition.children.count), count: Int32(bound.count)))
    condition.children += bound
    return Int32(condition.nodes.count - 1)
  }

  private mutating func add(
    _ kind: BoundCondition.Kind, _ operands: [BoundCondition.Operand?],
    comparison: RowCondition.Comparison = .equal, comparing: Comparing = .verbatim, isOfChange: Bool = false
  ) -> Int32 {
    let found = operands.compactMap { $0 }
    condition.nodes.append(
      BoundCondition.Node(
        kind: kind, first: Int32(condition.operands.count), count: Int32(found.count), comparison: comparison,
        comparing: comparing, isOfChange: isOfChange))
    condition.operands += found
    return Int32(condition.nodes.count - 1)
  }

  private mutating func operand(
    _ column: RowCondition.Column
  ) -> (operand: BoundCondition.Operand, column: Column)? {
    guard let found = find(column) else {
      isMissing = true
      return nil
    }
    if column.image == .either { condition.hasEither = true }
    return (BoundCondition.Operand(slot: Int32(found.slot), image: column.image), found)
  }

  // MARK: Predicates with a type

  private mutating func like(_ name: RowCondition.Column, _ pattern: String, _ place: SourcePlace) -> Int32 {
    let column = operand(name)
    switch column?.column.comparing {
    case nil, .text, .padded: break
    default:
      fault(
        place, "\(quoted(name)) is of type \(column?.column.typeName ?? ""), and \"like\" is for texts only")
    }
    return add(.like, [column?.operand, literal(Array(pattern.utf8))])
  }

  private mutating func compare(
    _ left: RowCondition.Operand, _ comparison: RowCondition.Comparison, _ right: RowCondition.Operand,
    _ place: SourcePlace
  ) -> Int32 {
    switch (left, right) {
    case (.column(let a), .column(let b)):
      let first = operand(a)
      let second = operand(b)
      guard let first, let second else { return add(.compare, []) }
      var comparing = first.column.comparing ?? second.column.comparing
      if comparing == nil, comparison.isOrder { comparing = .number }
      let known = comparing ?? .verbatim
      if let one = first.column.comparing, let other = second.column.comparing {
        let isSame = one == other && (one != .verbatim || first.column.type == second.column.type)
        if !isSame {
          fault(
            place,
            "\(quoted(a)) is of type \(first.column.typeName) and \(quoted(b)) of type "
              + "\(second.column.typeName), and only columns of one kind are compared")
        }
      }
      checkOrder(comparison, known, a, first.column, place)
      let isOfChange = a.image != b.image
      return add(
        .compare, [first.operand, second.operand], comparison: comparison, comparing: known,
        isOfChange: isOfChange)
    case (.column(let name), .literal(let value, let valuePlace)):
      guard let (column, known, bytes) = against(name, value, valuePlace) else { return add(.compare, []) }
      checkOrder(comparison, known, name, column.column, place)
      return add(
        .compare, [column.operand, literal(bytes)], comparison: comparison, comparing: known)
    case (.literal(let value, let valuePlace), .column(let name)):
      guard let (column, known, bytes) = against(name, value, valuePlace) else { return add(.compare, []) }
      checkOrder(comparison, known, name, column.column, place)
      return add(
        .compare, [literal(bytes), column.operand], comparison: comparison, comparing: known)
    case (.literal, .literal):
      fault(place, "a comparison needs a column on one side")
      return add(.compare, [])
    }
  }

  private mutating func against(
    _ name: RowCondition.Column, _ value: RowCondition.Literal, _ place: SourcePlace
  ) -> (column: (operand: BoundCondition.Operand, column: Column), Comparing, [UInt8])? {
    guard let column = operand(name) else { return nil }
    guard let comparing = column.column.comparing else {
      switch value {
      case .number(let number): return (column, .number, Array(number.utf8))
      case .boolean(let truth): return (column, .boolean, [UInt8(ascii: truth ? "t" : "f")])
      case .text(let text): return (column, .verbatim, Array(text.utf8))
      }
    }
    if let bytes = Self.bytes(value, comparing, column.column.type) { return (column, comparing, bytes) }
    let expected =
      switch comparing {
      case .number: "a number"
      case .boolean: "true or false"
      case .text, .padded, .caseless: "a text in single quotes"
      case .verbatim:
        switch column.column.type {
        case Self.uuid: "a uuid in single quotes, in lower case with hyphens"
        case Self.date: "a date in single quotes, like '2026-01-31'"
        default: "PostgreSQL's own text for its values, in single quotes"
        }
      }
    fault(place, "\(quoted(name)) is of type \(column.column.typeName) and is compared with \(expected)")
    return nil
  }

  private static let uuid: UInt32 = 2950
  private static let date: UInt32 = 1082

  /// The literal as the log would have it; nil: it does not fit the type.
  private static func bytes(_ value: RowCondition.Literal, _ comparing: Comparing, _ type: UInt32) -> [UInt8]?
  {
    switch (comparing, value) {
    case (.number, .number(let number)): return Array(number.utf8)
    case (.number, .text(let text)):
      let bytes = Array(text.utf8)
      return bytes.withUnsafeBytes { Comparing.number.compare($0, $0) } == nil ? nil : bytes
    case (.boolean, .boolean(let truth)): return [UInt8(ascii: truth ? "t" : "f")]
    case (.boolean, .text(let text)):
      return ["t", "f", "true", "false"].contains(text) ? Array(text.utf8.prefix(1)) : nil
    case (.text, .text(let text)), (.padded, .text(let text)), (.caseless, .text(let text)):
      return Array(text.utf8)
    case (.verbatim, .text(let text)):
      switch type {
      case uuid: return isMade(text, of: "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") ? Array(text.utf8) : nil
      case date: return isMade(text, of: "nnnn-nn-nn") ? Array(text.utf8) : nil
      default: return Array(text.utf8)
      }
    default: return nil
    }
  }

  /// Whether a text has lower-case hexadecimal digits where the form has `x`, and decimal ones where it has `n`.
  private static func isMade(_ text: String, of form: String) -> Bool {
    text.utf8.count == form.utf8.count
      && zip(text.utf8, form.utf8).allSatisfy { byte, kind in
        let isDigit = byte &- UInt8(ascii: "0") < 10
        return switch kind {
        case UInt8(ascii: "x"): isDigit || byte &- UInt8(ascii: "a") < 6
        case UInt8(ascii: "n"): isDigit
        default: byte == kind
        }
      }
  }

  private mutating func checkOrder(
    _ comparison: RowCondition.Comparison, _ comparing: Comparing, _ name: RowCondition.Column,
    _ column: Column,
    _ place: SourcePlace
  ) {
    guard comparison.isOrder, comparing != .number else { return }
    switch comparing {
    case .text, .padded, .caseless:
      fault(
        place,
        "\(quoted(name)) is of type \(column.typeName), whose order depends on the collation, which is not known "
          + "here; texts are compared with =, <>, in and like only")
    default:
      fault(
        place,
        "\(quoted(name)) is of type \(column.typeName), and only numbers are compared with <, <=, >, >= and between"
      )
    }
  }

  private mutating func literal(_ bytes: [UInt8]) -> BoundCondition.Operand {
    let start = condition.literals.count
    condition.literals += bytes
    return BoundCondition.Operand(slot: -1, start: Int32(start), count: Int32(bytes.count))
  }

  private mutating func fault(_ place: SourcePlace, _ message: String) {
    let fault = Fault(place: place, message: message)
    if !faults.contains(fault) { faults.append(fault) }
  }

  private func quoted(_ column: RowCondition.Column) -> String { "column \"\(column.name)\"" }
}
