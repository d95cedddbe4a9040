/// A template that cannot be read.
public struct TemplateError: Error, Hashable, Sendable {
  /// The characters at fault, in the file.
  public var place: SourcePlace
  public var message: String
  public var suggestion: String?
}

extension KeyTemplate {
  /// Reads a template as in `user:by-email:{email|lower}`. `place` is where `text` stands, without quotes,
  /// one column a character.
  public static func parse(_ text: String, place: SourcePlace) throws(TemplateError) -> KeyTemplate {
    try parse(PlacedText(plain: text, place: place))
  }

  static func parse(_ source: PlacedText) throws(TemplateError) -> KeyTemplate {
    let scalars = Array(source.text.unicodeScalars)
    var parts: [Part] = []
    var literal = ""
    var isPrefix = false
    var at = 0
    func error(_ range: Range<Int>, _ message: String, _ suggestion: String? = nil) -> TemplateError {
      TemplateError(place: source.place(range), message: message, suggestion: suggestion)
    }
    guard !scalars.isEmpty else {
      throw TemplateError(
        place: source.place, message: "a key template is empty; write it like \"user:{id}\"")
    }
    while at < scalars.count {
      switch scalars[at] {
      case "{":
        let from = at
        guard let end = scalars[at...].firstIndex(of: "}"), !scalars[(at + 1)..<end].contains("{") else {
          throw error(from..<from + 1, "the closing brace of this column is missing")
        }
        if !literal.isEmpty { parts.append(.literal(literal)) }
        literal = ""
        parts.append(try column(scalars, from + 1..<end, in: source))
        at = end + 1
      case "}":
        throw error(at..<at + 1, "this brace closes no column; braces stand around column names only")
      case "*":
        guard at == scalars.count - 1 else {
          throw error(at..<at + 1, "a * may stand at the end of a template only")
        }
        isPrefix = true
        at += 1
      case let scalar where isControl(scalar):
        throw error(at..<at + 1, "a key template has no control characters")
      case let scalar:
        literal.unicodeScalars.append(scalar)
        at += 1
      }
    }
    if !literal.isEmpty { parts.append(.literal(literal)) }
    return KeyTemplate(parts: parts, isPrefix: isPrefix, text: source.text, place: source.place)
  }

  /// What stands between two braces: a column's name and its filters.
  private static func column(
    _ scalars: [Unicode.Scalar], _ range: Range<Int>, in source: PlacedText
  ) throws(TemplateError) -> Part {
    var words: [(text: String, range: Range<Int>)] = [("", range.lowerBound..<range.lowerBound)]
    for index in range {
      if scalars[index] == "|" {
        words.append(("", index + 1..<index + 1))
      } else {
        let last = words.count - 1
        words[last].text.unicodeScalars.append(scalars[index])
        words[last].range = words[last].range.lowerBound..<index + 1
      }
    }
    let name = words[0]
    guard !name.text.isEmpty else {
      throw TemplateError(
        place: source.place(range.lowerBound - 1..<range.upperBound + 1),
        message: "a column's name is missing between these braces; write it like {id}")
    }
    for (offset, scalar) in name.text.unicodeScalars.enumerated() {
      guard !canStand(scalar, first: offset == 0) else { continue }
      let message =
        switch scalar {
        case " ": "there are no spaces around or in a column's name"
        case ":": "a filter follows the column after a |, as in {email|lower}"
        default:
          offset == 0 && (0x30...0x39).contains(scalar.value)
            ? "a column's name does not begin with a digit"
            : "a column's name has letters, digits, _ and $ only"
        }
      let position = name.range.lowerBound + offset
      throw TemplateError(place: source.place(position..<position + 1), message: message)
    }
    var filters: [Filter] = []
    for word in words.dropFirst() {
      guard let filter = Filter(rawValue: word.text) else {
        let known = Filter.allCases.map(\.rawValue)
        throw TemplateError(
          place: source.place(word.text.isEmpty ? range.upperBound..<range.upperBound : word.range),
          message: word.text.isEmpty
            ? "a filter is missing after |; there are lower, urlencode and raw"
            : "there is no filter \(source.isExpanded ? "of this name" : quoted(word.text)); "
              + "there are lower, urlencode and raw",
          suggestion: nearest(to: word.text, among: known))
      }
      guard !filters.contains(filter) else {
        throw TemplateError(
          place: source.place(word.range), message: "the filter \(filter.rawValue) stands here twice")
      }
      filters.append(filter)
    }
    return .column(name: name.text, filters: filters, place: source.place(name.range))
  }

  /// PostgreSQL's own rule for a name without quotes, capital letters aside.
  /// Source: PostgreSQL documentation, 4.1.1 "Identifiers and Key Words".
  private static func canStand(_ scalar: Unicode.Scalar, first: Bool) -> Bool {
    guard scalar.value < 0x80 else { return !isControl(scalar) }
    let byte = UInt8(truncatingIfNeeded: scalar.value)
    return isWord(byte) && !(first && (0x30...0x39).contains(byte)) || (!first && scalar == "$")
  }

  /// An anchored Lua pattern that matches at least every key of this template: `prefix` and the literal text
  /// as they are, a column as `[^:]*`. The columns of `captured` are captures, in the template's order, each
  /// where it stands first.
  /// Source: Lua 5.1 reference manual, 5.4.1 "Patterns".
  public func luaPattern(prefix: String, capturing captured: [String] = []) -> String {
    var out = "^"
    var left = captured
    func literal(_ text: String) {
      for scalar in text.unicodeScalars {
        // Bytes beyond ASCII mean themselves in a pattern, and a % between them would tear a character.
        if scalar.value < 0x80, !isWord(UInt8(truncatingIfNeeded: scalar.value)) || scalar == "_" {
          out += "%"
        }
        out.unicodeScalars.append(scalar)
      }
    }
    literal(prefix)
    for part in parts {
      switch part {
      case .literal(let text): literal(text)
      case .column(let name, _, _):
        if let index = left.firstIndex(of: name) {
          left.remove(at: index)
          out += "([^:]*)"
        } else {
          out += "[^:]*"
        }
      }
    }
    return isPrefix ? out : out + "$"
  }

  /// Two templates of one shape cover the same keys, whatever their columns are called.
  var shape: [Part] {
    parts.map { part in
      switch part {
      case .literal: part
      case .column: .column(name: "", filters: [], place: SourcePlace(line: 0, column: 0, length: 0))
      }
    }
  }
}
