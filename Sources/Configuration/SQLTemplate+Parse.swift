/// A statement that cannot be read.
public struct SQLTemplateError: Error, Hashable, Sendable {
  /// The characters at fault, in the file.
  public var place: SourcePlace
  public var message: String
}

extension SQLTemplate {
  /// Reads a statement. `place` is where `text` stands, without quotes, one column a character.
  public static func parse(
    _ text: String, place: SourcePlace
  ) throws(SQLTemplateError) -> SQLTemplate {
    try parse(PlacedText(plain: text, place: place))
  }

  static func parse(_ source: PlacedText) throws(SQLTemplateError) -> SQLTemplate {
    var reader = SQLReader(source: source)
    return try reader.read()
  }
}

/// Finds the parameters of one statement by PostgreSQL's lexical rules, without understanding it further.
/// Source: PostgreSQL documentation, 4.1 "Lexical Structure", with `standard_conforming_strings` on.
private struct SQLReader {
  let source: PlacedText
  let scalars: [Unicode.Scalar]
  var at = 0
  var parts: [SQLTemplate.Part] = []
  var names: [String] = []
  var places: [SourcePlace] = []
  /// What has been read since the last parameter.
  var literal = ""
  /// Whether anything but space and comments has been read.
  var hasToken = false
  /// The first semicolon.
  var end: Int?

  init(source: PlacedText) {
    self.source = source
    scalars = Array(source.text.unicodeScalars)
  }

  mutating func read() throws(SQLTemplateError) -> SQLTemplate {
    while at < scalars.count {
      let scalar = scalars[at]
      if scalar == "\0" { throw error(at..<at + 1, "a statement has no zero bytes") }
      if scalar == "-", next == "-" {
        // Left out, so that something can be put behind the statement.
        at = scalars[at...].firstIndex { $0 == "\n" || $0 == "\r" } ?? scalars.count
      } else if scalar == "/", next == "*" {
        take(until: try commentEnd())
      } else if Self.isSpace(scalar) {
        take(until: at + 1)
      } else if scalar == ";" {
        end = end ?? at
        at += 1
      } else {
        if let end {
          throw error(end..<end + 1, "one statement stands here, and another follows this semicolon")
        }
        hasToken = true
        try readToken(scalar)
      }
    }
    guard hasToken else {
      throw SQLTemplateError(place: source.place, message: "an SQL statement is missing here")
    }
    if !literal.isEmpty { parts.append(.text(literal)) }
    return SQLTemplate(parts: parts, names: names, places: places, place: source.place)
  }

  private mutating func readToken(_ scalar: Unicode.Scalar) throws(SQLTemplateError) {
    switch scalar {
    case "'": take(until: try quoteEnd("'", escapes: false))
    case "\"": take(until: try quoteEnd("\"", escapes: false))
    case "$": try readDollar()
    case ":": readColon()
    case _ where Self.canBegin(scalar):
      let from = at
      take(until: scalars[at...].firstIndex { !Self.canGoOn($0) } ?? scalars.count)
      let isE = at == from + 1 && (scalar == "e" || scalar == "E")
      if isE, at < scalars.count, scalars[at] == "'" { take(until: try quoteEnd("'", escapes: true)) }
    default: take(until: at + 1)
    }
  }

  /// A cast, an assignment, a parameter, or a colon of a slice.
  private mutating func readColon() {
    guard let next else { return take(until: at + 1) }
    if next == ":" || next == "=" { return take(until: at + 2) }
    guard Self.canBegin(next) else { return take(until: at + 1) }
    let end = scalars[(at + 1)...].firstIndex { !Self.canGoOn($0) } ?? scalars.count
    var name = ""
    name.unicodeScalars.append(contentsOf: scalars[(at + 1)..<end])
    if !literal.isEmpty { parts.append(.text(literal)) }
    literal = ""
    if let index = names.firstIndex(of: name) {
      parts.append(.parameter(index))
    } else {
      parts.append(.parameter(names.count))
      names.append(name)
      places.append(source.place(at..<end))
    }
    at = end
  }

  private mutating func readDollar() throws(SQLTemplateError) {
    if let next, (0x30...0x39).contains(next.value) {
      let end = scalars[(at + 1)...].firstIndex { !(0x30...0x39).contains($0.value) } ?? scalars.count
      throw error(at..<end, "parameters have names here; write a column of the template like :id")
    }
    var tagEnd = at + 1
    if tagEnd < scalars.count, Self.canBegin(scalars[tagEnd]) {
      tagEnd = scalars[tagEnd...].firstIndex { !Self.canGoOn($0) || $0 == "$" } ?? scalars.count
    }
    guard tagEnd < scalars.count, scalars[tagEnd] == "$" else { return take(until: at + 1) }
    let tag = scalars[at...tagEnd]
    var close = tagEnd + 1
    while close + tag.count <= scalars.count {
      if scalars[close..<close + tag.count].elementsEqual(tag) { return take(until: close + tag.count) }
      close += 1
    }
    throw error(at..<tagEnd + 1, "this dollar quote is not closed")
  }

  private func quoteEnd(_ quote: Unicode.Scalar, escapes: Bool) throws(SQLTemplateError) -> Int {
    var index = at + 1
    while index < scalars.count {
      if scalars[index] == quote {
        guard index + 1 < scalars.count, scalars[index + 1] == quote else { return index + 1 }
        index += 2
      } else {
        index += escapes && scalars[index] == "\\" ? 2 : 1
      }
    }
    throw error(at..<at + 1, "this quote is not closed")
  }

  /// Comments of this kind nest.
  private func commentEnd() throws(SQLTemplateError) -> Int {
    var depth = 0
    var index = at
    while index + 1 < scalars.count {
      switch (scalars[index], scalars[index + 1]) {
      case ("/", "*"):
        depth += 1
        index += 2
      case ("*", "/"):
        depth -= 1
        index += 2
        if depth == 0 { return index }
      default: index += 1
      }
    }
    throw error(at..<at + 2, "this comment is not closed")
  }

  private var next: Unicode.Scalar? { at + 1 < scalars.count ? scalars[at + 1] : nil }

  private mutating func take(until end: Int) {
    literal.unicodeScalars.append(contentsOf: scalars[at..<end])
    at = end
  }

  private func error(_ range: Range<Int>, _ message: String) -> SQLTemplateError {
    SQLTemplateError(place: source.place(range), message: message)
  }

  private static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
    scalar == " " || (0x09...0x0d).contains(scalar.value)
  }

  private static func canBegin(_ scalar: Unicode.Scalar) -> Bool {
    canGoOn(scalar) && scalar != "$" && !(0x30...0x39).contains(scalar.value)
  }

  private static func canGoOn(_ scalar: Unicode.Scalar) -> Bool {
    scalar.value >= 0x80 || scalar == "$" || isWord(UInt8(truncatingIfNeeded: scalar.value))
  }
}
