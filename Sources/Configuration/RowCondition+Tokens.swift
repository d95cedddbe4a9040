/// A condition that cannot be read.
public struct RowConditionError: Error, Hashable, Sendable {
  /// The characters at fault, in the file.
  public var place: SourcePlace
  public var message: String
  public var suggestion: String?
}

/// A condition cut into words, by PostgreSQL's lexical rules as far as the language goes.
/// Source: PostgreSQL documentation, 4.1 "Lexical Structure", with `standard_conforming_strings` on.
struct ConditionTokens {
  enum Kind: Hashable {
    /// As written; keywords are told by their lower-case form.
    case word(String)
    /// In double quotes, so never a keyword.
    case quoted(String)
    case text(String)
    /// In the form of `RowCondition.Literal.number`.
    case number(String)
    /// An operator, a parenthesis, a comma or a point.
    case sign(String)
    case end
  }

  struct Token: Hashable {
    var kind: Kind
    /// Which scalars of the source.
    var range: Range<Int>
  }

  private let source: PlacedText
  private let scalars: [Unicode.Scalar]
  private var at = 0

  private init(_ source: PlacedText) {
    self.source = source
    scalars = Array(source.text.unicodeScalars)
  }

  /// The tokens, the last of which is `end`.
  static func of(_ source: PlacedText) throws(RowConditionError) -> [Token] {
    var reader = ConditionTokens(source)
    var tokens: [Token] = []
    while let token = try reader.next() { tokens.append(token) }
    tokens.append(Token(kind: .end, range: reader.scalars.count..<reader.scalars.count))
    return tokens
  }

  private mutating func next() throws(RowConditionError) -> Token? {
    while at < scalars.count, scalars[at] == " " || (0x09...0x0d).contains(scalars[at].value) { at += 1 }
    guard at < scalars.count else { return nil }
    let from = at
    let kind = try read(scalars[at])
    return Token(kind: kind, range: from..<at)
  }

  private mutating func read(_ scalar: Unicode.Scalar) throws(RowConditionError) -> Kind {
    let from = at
    switch scalar {
    case "'": return .text(try takeQuoted("'"))
    case "\"":
      let name = try takeQuoted("\"")
      guard !name.isEmpty else { throw error(from..<at, "a column's name is missing between these quotes") }
      return .quoted(name)
    case "(", ")", ",":
      at += 1
      return .sign(String(scalar))
    case "=", "<", ">", "!":
      at += 1
      if at < scalars.count, ["<=", ">=", "<>", "!="].contains("\(scalar)\(scalars[at])") { at += 1 }
      let sign = text(from..<at)
      guard sign != "!" else {
        throw error(from..<at, "a ! stands only in !=; write \"not\" to turn a condition round")
      }
      return .sign(sign == "!=" ? "<>" : sign)
    case ".":
      if at + 1 < scalars.count, isDigit(scalars[at + 1]) { return try number() }
      at += 1
      return .sign(".")
    case "-", "+":
      guard at + 1 < scalars.count, isDigit(scalars[at + 1]) || scalars[at + 1] == "." else {
        throw error(from..<from + 1, "nothing is computed here; columns are compared as they stand")
      }
      return try number()
    case _ where isDigit(scalar): return try number()
    case _ where canBegin(scalar):
      while at < scalars.count, canBegin(scalars[at]) || isDigit(scalars[at]) || scalars[at] == "$" {
        at += 1
      }
      return .word(text(from..<at))
    default:
      throw error(
        from..<from + 1,
        isControl(scalar)
          ? "a condition has no control characters"
          : "\(quoted(String(scalar))) has no meaning in a condition")
    }
  }

  /// What stands between two quotes, with doubled ones made single.
  private mutating func takeQuoted(_ quote: Unicode.Scalar) throws(RowConditionError) -> String {
    let from = at
    var value = ""
    at += 1
    while at < scalars.count {
      if scalars[at] == "\0" { throw error(at..<at + 1, "PostgreSQL's texts have no zero bytes") }
      if scalars[at] == quote {
        guard at + 1 < scalars.count, scalars[at + 1] == quote else {
          at += 1
          return value
        }
        at += 1
      }
      value.unicodeScalars.append(scalars[at])
      at += 1
    }
    throw error(from..<from + 1, "this quote is not closed")
  }

  private mutating func number() throws(RowConditionError) -> Kind {
    let from = at
    let isNegative = scalars[at] == "-"
    if isNegative || scalars[at] == "+" { at += 1 }
    let whole = digits()
    var fraction = ""
    if at < scalars.count, scalars[at] == "." {
      at += 1
      fraction = digits()
    }
    var exponent = 0
    if at < scalars.count, scalars[at] == "e" || scalars[at] == "E" {
      at += 1
      let sign = at < scalars.count && (scalars[at] == "-" || scalars[at] == "+") ? scalars[at] : "+"
      if at < scalars.count, scalars[at] == sign { at += 1 }
      let power = digits()
      guard let value = Int(power), value <= 200 else {
        throw error(from..<at, "this number's exponent is missing or above 200")
      }
      exponent = sign == "-" ? -value : value
    }
    let isCut = at < scalars.count && (canBegin(scalars[at]) || scalars[at] == ".")
    guard !isCut, !(whole + fraction).isEmpty else {
      throw error(from..<min(at + 1, scalars.count), "this is not a number; write it like 10, -2.5 or 1e6")
    }
    return .number(Self.plain(isNegative, whole, fraction, exponent))
  }

  /// Moves the point, and leaves out zeros that change nothing.
  static func plain(_ isNegative: Bool, _ whole: String, _ fraction: String, _ exponent: Int) -> String {
    var digits = Array((whole + fraction).utf8)
    var point = whole.utf8.count + exponent
    let zero = UInt8(ascii: "0")
    if point < 0 {
      digits.insert(contentsOf: repeatElement(zero, count: -point), at: 0)
      point = 0
    }
    if point > digits.count { digits += repeatElement(zero, count: point - digits.count) }
    var before = digits[..<point].drop { $0 == zero }
    var behind = digits[point...]
    while behind.last == zero { behind.removeLast() }
    if before.isEmpty && behind.isEmpty { return "0" }
    if before.isEmpty { before = [zero] }
    let text = String(decoding: before, as: UTF8.self)
    return (isNegative ? "-" : "")
      + (behind.isEmpty ? text : text + "." + String(decoding: behind, as: UTF8.self))
  }

  private mutating func digits() -> String {
    let from = at
    while at < scalars.count, isDigit(scalars[at]) { at += 1 }
    return text(from..<at)
  }

  private func text(_ range: Range<Int>) -> String { String(String.UnicodeScalarView(scalars[range])) }

  private func error(_ range: Range<Int>, _ message: String) -> RowConditionError {
    RowConditionError(place: source.place(range), message: message)
  }

  private func isDigit(_ scalar: Unicode.Scalar) -> Bool { (0x30...0x39).contains(scalar.value) }

  private func canBegin(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.value >= 0x80 { return !isControl(scalar) }
    return isWord(UInt8(truncatingIfNeeded: scalar.value)) && !isDigit(scalar)
  }
}
