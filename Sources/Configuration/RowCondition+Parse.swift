extension RowCondition {
  /// Reads a condition. `place` is where `text` stands, without quotes, one column a character.
  public static func parse(_ text: String, place: SourcePlace) throws(RowConditionError) -> RowCondition {
    try parse(PlacedText(plain: text, place: place))
  }

  static func parse(_ source: PlacedText) throws(RowConditionError) -> RowCondition {
    var parser = ConditionParser(source: source, tokens: try ConditionTokens.of(source))
    return RowCondition(root: try parser.whole(), place: source.place)
  }
}

/// Recursive descent, one function for each level of precedence: `or`, `and`, `not`, and what binds tightest.
/// Source: PostgreSQL documentation, 4.1.6 "Operator Precedence".
private struct ConditionParser {
  typealias Expression = RowCondition.Expression
  typealias Column = RowCondition.Column
  typealias Operand = RowCondition.Operand
  typealias Kind = ConditionTokens.Kind

  let source: PlacedText
  let tokens: [ConditionTokens.Token]
  var at = 0
  var depth = 0

  /// So that no file makes the parser, or whoever walks over the condition, run out of stack.
  static let deepest = 50

  static let keywords: Set<String> = [
    "and", "between", "changed", "distinct", "false", "from", "in", "is", "like", "new", "not", "null", "old",
    "or", "true",
  ]

  mutating func whole() throws(RowConditionError) -> Expression {
    guard tokens[at].kind != .end else {
      throw RowConditionError(
        place: source.place,
        message: "a condition is missing here; write one like \"changed(price) and new.status <> 'draft'\"")
    }
    let expression = try either()
    guard tokens[at].kind == .end else {
      throw unexpected("\"and\", \"or\" or the end of the condition")
    }
    return expression
  }

  // MARK: Levels

  private mutating func either() throws(RowConditionError) -> Expression {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.deepest else { throw fault(at..<at + 1, "this condition is nested too deeply") }
    var parts = [try both()]
    while take("or") { parts.append(try both()) }
    return parts.count == 1 ? parts[0] : .any(parts)
  }

  private mutating func both() throws(RowConditionError) -> Expression {
    var parts = [try negated()]
    while take("and") { parts.append(try negated()) }
    return parts.count == 1 ? parts[0] : .all(parts)
  }

  private mutating func negated() throws(RowConditionError) -> Expression {
    var isNegated = false
    while take("not") { isNegated.toggle() }
    let expression = try predicate()
    return isNegated ? .not(expression) : expression
  }

  private mutating func predicate() throws(RowConditionError) -> Expression {
    if take("(") {
      let expression = try either()
      guard take(")") else { throw unexpected("a closing parenthesis") }
      return expression
    }
    if isWord("changed"), tokens[at + 1].kind == .sign("(") { return try changed() }
    let from = at
    let left = try operand()
    let middle = at
    if let comparison = comparison() { return try compare(left, comparison, from, middle) }
    if take("is") { return try test(left, from) }
    let isNegated = take("not")
    let tail: Expression
    if take("in") {
      tail = try among(left, from)
    } else if take("between") {
      tail = try between(left, from)
    } else if take("like") {
      tail = try like(left, from)
    } else if isNegated {
      throw unexpected("\"in\", \"between\" or \"like\"")
    } else {
      return .holds(try column(left, from))
    }
    return isNegated ? .not(tail) : tail
  }

  // MARK: What binds tightest

  private mutating func changed() throws(RowConditionError) -> Expression {
    at += 2
    var columns: [Column] = []
    repeat {
      let from = at
      guard let name = name(besides: Self.keywords) else {
        throw unexpected("a column's name")
      }
      guard tokens[at].kind != .sign(".") else {
        throw fault(
          from..<at + 1, "\"changed\" compares the old row with the new one, so write only the columns' names"
        )
      }
      columns.append(Column(image: .either, name: name, place: place(from..<at)))
    } while take(",")
    guard take(")") else { throw unexpected("a comma or a closing parenthesis") }
    return .changed(columns)
  }

  private mutating func compare(
    _ left: Operand, _ comparison: RowCondition.Comparison, _ from: Int, _ sign: Int
  ) throws(RowConditionError) -> Expression {
    let signs = place(sign..<at)
    let right = try operand()
    if case (.literal, .literal) = (left, right) {
      throw fault(from..<at, "a comparison needs a column on one side")
    }
    return .compare(left, comparison, right, place: signs)
  }

  /// Behind `is`.
  private mutating func test(_ left: Operand, _ from: Int) throws(RowConditionError) -> Expression {
    let sign = at - 1
    let isNegated = take("not")
    if take("null") {
      let column = try column(left, from)
      return isNegated ? .not(.isNull(column)) : .isNull(column)
    }
    if take("distinct") {
      guard take("from") else { throw unexpected("\"from\"") }
      return try compare(left, isNegated ? .notDistinct : .distinct, from, sign)
    }
    guard isWord("true") || isWord("false") else {
      throw unexpected("\"null\", \"not null\", \"true\", \"false\" or \"distinct from\"")
    }
    let value = Operand.literal(.boolean(isWord("true")), place: place(at..<at + 1))
    at += 1
    return .compare(
      .column(try column(left, from)), isNegated ? .distinct : .notDistinct, value, place: place(sign..<at))
  }

  private mutating func among(_ left: Operand, _ from: Int) throws(RowConditionError) -> Expression {
    let sign = place(at - 1..<at)
    let column = try column(left, from)
    guard take("(") else { throw unexpected("an opening parenthesis") }
    var parts: [Expression] = []
    repeat {
      let start = at
      let value = try operand()
      guard case .literal = value else {
        throw fault(start..<at, "a list holds numbers, texts in single quotes, true and false only")
      }
      parts.append(.compare(.column(column), .equal, value, place: sign))
    } while take(",")
    guard take(")") else { throw unexpected("a comma or a closing parenthesis") }
    return parts.count == 1 ? parts[0] : .any(parts)
  }

  private mutating func between(_ left: Operand, _ from: Int) throws(RowConditionError) -> Expression {
    let sign = place(at - 1..<at)
    let column = Operand.column(try column(left, from))
    let low = try operand()
    guard take("and") else { throw unexpected("\"and\" and the upper bound") }
    let high = try operand()
    return .all([
      .compare(column, .greaterOrEqual, low, place: sign), .compare(column, .lessOrEqual, high, place: sign),
    ])
  }

  private mutating func like(_ left: Operand, _ from: Int) throws(RowConditionError) -> Expression {
    let sign = place(at - 1..<at)
    let column = try column(left, from)
    guard case .text(let pattern) = tokens[at].kind else { throw unexpected("a pattern in single quotes") }
    let backslashes = pattern.unicodeScalars.reversed().prefix { $0 == "\\" }.count
    guard backslashes % 2 == 0 else {
      throw fault(at..<at + 1, "this pattern ends in a backslash that stands before nothing")
    }
    at += 1
    return .like(column, pattern: pattern, place: sign)
  }

  // MARK: Operands

  private mutating func operand() throws(RowConditionError) -> Operand {
    let from = at
    switch tokens[at].kind {
    case .number(let number): return literal(.number(number))
    case .text(let text): return literal(.text(text))
    default: break
    }
    if isWord("true") || isWord("false") { return literal(.boolean(isWord("true"))) }
    if isWord("null") {
      throw fault(
        at..<at + 1, "nothing is equal to null, or different from it; write \"is null\" or \"is not null\"")
    }
    for image in [RowCondition.Image.new, .old] where isWord(image.rawValue) {
      at += 1
      guard take(".") else {
        throw fault(from..<at, "a column's name is missing here; write it like \(image.rawValue).status")
      }
      guard let name = name(besides: []) else { throw unexpected("a column's name") }
      return .column(Column(image: image, name: name, place: place(from..<at)))
    }
    guard let name = name(besides: Self.keywords) else { throw unexpected("a column") }
    if tokens[at].kind == .sign(".") {
      throw RowConditionError(
        place: place(from..<at), message: "only \"new\" and \"old\" stand before a point",
        suggestion: nearest(to: name, among: ["new", "old"]))
    }
    if tokens[at].kind == .sign("(") {
      throw RowConditionError(
        place: place(from..<at), message: "\"changed\" is the only function here",
        suggestion: nearest(to: name, among: ["changed"]))
    }
    return .column(Column(image: .either, name: name, place: place(from..<at)))
  }

  private mutating func literal(_ literal: RowCondition.Literal) -> Operand {
    at += 1
    return .literal(literal, place: place(at - 1..<at))
  }

  private func column(_ operand: Operand, _ from: Int) throws(RowConditionError) -> Column {
    guard case .column(let column) = operand else {
      throw fault(from..<from + 1, "a column must stand here, like new.status")
    }
    return column
  }

  private mutating func comparison() -> RowCondition.Comparison? {
    guard case .sign(let sign) = tokens[at].kind, let comparison = RowCondition.Comparison(rawValue: sign)
    else {
      return nil
    }
    at += 1
    return comparison
  }

  /// A name in double quotes, or a word that is none of these keywords.
  private mutating func name(besides keywords: Set<String>) -> String? {
    switch tokens[at].kind {
    case .quoted(let name):
      at += 1
      return name
    case .word(let word) where !keywords.contains(word.lowercased()):
      at += 1
      return word
    default: return nil
    }
  }

  // MARK: Tokens

  private func isWord(_ keyword: String) -> Bool {
    if case .word(let word) = tokens[at].kind { word.lowercased() == keyword } else { false }
  }

  /// Goes past a keyword or a sign, if it stands here.
  private mutating func take(_ word: String) -> Bool {
    guard isWord(word) || tokens[at].kind == .sign(word) else { return false }
    at += 1
    return true
  }

  private func place(_ range: Range<Int>) -> SourcePlace {
    let last = min(range.upperBound, tokens.count) - 1
    let from = tokens[min(range.lowerBound, tokens.count - 1)].range
    return source.place(from.lowerBound..<max(from.upperBound, tokens[max(last, 0)].range.upperBound))
  }

  private func fault(_ range: Range<Int>, _ message: String) -> RowConditionError {
    RowConditionError(place: place(range), message: message)
  }

  /// What stands here is not what must.
  private func unexpected(_ expected: String) -> RowConditionError {
    guard tokens[at].kind != .end else {
      return fault(at..<at + 1, "the condition ends where \(expected) must stand")
    }
    return fault(at..<at + 1, "\(expected) must stand here")
  }
}
