import Configuration

/// A rule's condition for one relation: columns are slots of a row, literals are bytes to compare with, and the
/// expression is flat, so that a row needs no memory.
///
/// The logic is SQL's, with a third value for what is not known: NULL, a row that is not there, a value that the
/// log does not hold. A change that may count, counts.
struct BoundCondition: Sendable {
  enum Truth: UInt8, Sendable {
    case no, unknown, yes

    init(_ value: Bool) { self = value ? .yes : .no }
  }

  enum Kind: UInt8, Sendable { case all, any, not, compare, like, isNull, changed, holds }

  struct Node: Sendable {
    var kind: Kind
    /// Of `children` for all, any and not, otherwise of `operands`.
    var first: Int32
    var count: Int32
    var comparison = RowCondition.Comparison.equal
    var comparing = Comparing.verbatim
    /// Whether it compares the two rows, and so says something of the change instead of a row.
    var isOfChange = false
  }

  struct Operand: Sendable {
    /// Negative: a literal.
    var slot: Int32
    var image = RowCondition.Image.either
    /// The literal's place in `literals`.
    var start: Int32 = 0
    var count: Int32 = 0
  }

  var nodes: [Node] = []
  var children: [Int32] = []
  var operands: [Operand] = []
  var literals: [UInt8] = []
  /// The node of the whole expression.
  var root: Int32 = 0
  /// Whether a bare column stands in it.
  var hasEither = false

  // MARK: What a change is held against

  /// The rows of one change, and which of them a column is read from.
  struct View {
    /// nil: there is none.
    var new: [TupleValue]?
    var old: [TupleValue]?
    /// Which row bare columns are read from; with `isOfRow` all columns.
    var either: RowCondition.Image
    /// Whether one row is judged by itself, with everything that is of the change unknown.
    var isOfRow = false
    let message: UnsafeRawBufferPointer
  }

  /// Whether a change counts.
  ///
  /// - Parameters:
  ///   - new: the new row by slot; nil for DELETE.
  ///   - old: the old row; nil for INSERT, and for an UPDATE about whose old row nothing is known.
  ///   - isPassed: whether the change passes the rule's other filters. If not, it counts only if it takes the row
  ///     in or out.
  ///   - hasMoved: whether an UPDATE has moved the row to another key.
  func counts(
    new: [TupleValue]?, old: [TupleValue]?, isPassed: Bool = true, hasMoved: () -> Bool,
    _ message: UnsafeRawBufferPointer
  ) -> Bool {
    var view = View(new: new, old: old, either: new == nil ? .old : .new, message: message)
    if isPassed, truth(root, view) != .no { return true }
    guard new != nil, old != nil else { return false }
    if isPassed, hasEither {
      view.either = .old
      if truth(root, view) != .no { return true }
    }
    // A row that comes in or goes out counts whatever the change is: the cache may hold it as it was before.
    view.isOfRow = true
    view.either = .old
    let wasIn = truth(root, view) != .no
    view.either = .new
    let isIn = truth(root, view) != .no
    return wasIn != isIn || (isIn && (hasMoved() || hasBecomeKnown(view)))
  }

  /// Whether something that is asked of one row was unknown of the old one and is known of the new one, or the
  /// other way round. A reader's query takes rows in only where its condition is true, so NULL is out for it; but here
  /// what compares the two rows is unknown too, and hides that.
  private func hasBecomeKnown(_ view: consuming View) -> Bool {
    for node in nodes where !node.isOfChange {
      switch node.kind {
      case .all, .any, .not, .changed: continue
      case .compare, .like, .isNull, .holds:
        view.either = .old
        let before = predicate(node, view) == .unknown
        view.either = .new
        if before != (predicate(node, view) == .unknown) { return true }
      }
    }
    return false
  }

  // MARK: Evaluation

  func truth(_ index: Int32, _ view: borrowing View) -> Truth {
    let node = nodes[Int(index)]
    switch node.kind {
    case .all:
      var result = Truth.yes
      for place in node.first..<node.first + node.count {
        let part = truth(children[Int(place)], view)
        if part == .no { return .no }
        if part == .unknown { result = .unknown }
      }
      return result
    case .any:
      var result = Truth.no
      for place in node.first..<node.first + node.count {
        let part = truth(children[Int(place)], view)
        if part == .yes { return .yes }
        if part == .unknown { result = .unknown }
      }
      return result
    case .not:
      switch truth(children[Int(node.first)], view) {
      case .no: return .yes
      case .unknown: return .unknown
      case .yes: return .no
      }
    default:
      if view.isOfRow && node.isOfChange { return .unknown }
      return predicate(node, view)
    }
  }

  private enum Value {
    case unknown, null
    case text(UnsafeRawBufferPointer)
  }

  private func predicate(_ node: Node, _ view: borrowing View) -> Truth {
    let first = operands[Int(node.first)]
    switch node.kind {
    case .changed: return changed(node, view)
    case .isNull:
      switch column(first, view) {
      case .unknown: return .unknown
      case .null: return .yes
      case .text: return .no
      }
    case .holds:
      guard case .text(let text) = column(first, view), let truth = Comparing.truth(text) else {
        return .unknown
      }
      return Truth(truth)
    case .like:
      guard case .text(let text) = column(first, view) else { return .unknown }
      return literals.withUnsafeBytes { Truth(isLike(text, Self.literal(operands[Int(node.first) + 1], $0))) }
    default:
      return literals.withUnsafeBytes { literals in
        let left = first.slot < 0 ? .text(Self.literal(first, literals)) : column(first, view)
        let second = operands[Int(node.first) + 1]
        let right = second.slot < 0 ? .text(Self.literal(second, literals)) : column(second, view)
        return compare(left, right, node)
      }
    }
  }

  private func compare(_ left: Value, _ right: Value, _ node: Node) -> Truth {
    let isDistinct = node.comparison == .distinct
    let asksNull = isDistinct || node.comparison == .notDistinct
    switch (left, right) {
    case (.unknown, _), (_, .unknown): return .unknown
    case (.null, .null): return asksNull ? Truth(!isDistinct) : .unknown
    case (.null, _), (_, .null): return asksNull ? Truth(isDistinct) : .unknown
    case (.text(let a), .text(let b)):
      guard let order = node.comparing.compare(a, b) else { return .unknown }
      return switch node.comparison {
      case .equal, .notDistinct: Truth(order == 0)
      case .notEqual, .distinct: Truth(order != 0)
      case .less: Truth(order < 0)
      case .lessOrEqual: Truth(order <= 0)
      case .greater: Truth(order > 0)
      case .greaterOrEqual: Truth(order >= 0)
      }
    }
  }

  /// By bytes, like `columns`; a large value that was not sent has not changed.
  private func changed(_ node: Node, _ view: borrowing View) -> Truth {
    guard let new = view.new, let old = view.old else { return .unknown }
    for place in node.first..<node.first + node.count {
      let slot = Int(operands[Int(place)].slot)
      if !new[slot].isUnchanged(from: old[slot], in: view.message) { return .yes }
    }
    return .no
  }

  private func column(_ operand: Operand, _ view: borrowing View) -> Value {
    let image = view.isOfRow || operand.image == .either ? view.either : operand.image
    let slot = Int(operand.slot)
    guard var value = image == .old ? view.old?[slot] : view.new?[slot] else { return .unknown }
    // A large value that an UPDATE did not touch stands only in the old row, if anywhere.
    if value.kind == .unchanged, image == .new, let old = view.old?[slot] { value = old }
    switch value.kind {
    case .unchanged: return .unknown
    case .null: return .null
    case .text: return .text(value.bytes(in: view.message))
    }
  }

  private static func literal(
    _ operand: Operand, _ literals: UnsafeRawBufferPointer
  ) -> UnsafeRawBufferPointer {
    let start = Int(operand.start)
    return UnsafeRawBufferPointer(rebasing: literals[start..<start + Int(operand.count)])
  }
}
