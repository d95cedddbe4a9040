/// A strict reader of JSON (RFC 8259) that knows the place of everything it read.
///
/// Duplicate keys are errors (each is reported, and reading goes on); so are lone surrogates, malformed
/// UTF-8, a byte order mark, more than `deepest` levels and more than `largest` bytes. Lines end with a line
/// feed; columns count Unicode scalars from 1.
public enum JSONReader {
  /// The largest text that is read, in bytes. A configuration is far smaller; the bound keeps a wrong file
  /// name from filling the memory.
  public static let largest = 1 << 20
  /// How deep arrays and objects may nest, so that a hostile text cannot exhaust the stack.
  public static let deepest = 64

  /// Reads one JSON value. With `comments`, as in files named `*.jsonc`, `//` and `/* */` comments and a
  /// comma after the last member or element are allowed.
  public static func read(_ text: [UInt8], comments: Bool = false) -> JSONReading {
    guard text.count <= largest else {
      let message = "the text has \(text.count) bytes; at most \(largest) (1 MiB) are read"
      return JSONReading(
        node: nil, diagnostics: [Diagnostic(at: nil, code: .tooLarge, message: message)])
    }
    var parser = JSONParser(bytes: text, comments: comments)
    return parser.run()
  }
}

struct JSONParser {
  let bytes: [UInt8]
  let comments: Bool
  var at = 0
  var line = 1
  var column = 1
  var diagnostics: [Diagnostic] = []
  var path: [PathStep] = []
  /// Set by the first syntax error. Everything then returns at once with what it has.
  var failed = false
  /// The beginning of the token that is being read.
  var token = SourcePlace(line: 1, column: 1, length: 1)

  init(bytes: [UInt8], comments: Bool) {
    self.bytes = bytes
    self.comments = comments
  }

  mutating func run() -> JSONReading {
    if bytes.starts(with: [0xef, 0xbb, 0xbf]) {
      fail("the text begins with a byte order mark; save it as UTF-8 without one")
    }
    space()
    let node = failed ? JSONNode(value: .null, place: token) : value(depth: 0)
    space()
    if !failed, at < bytes.count {
      token = here
      fail("something follows the end of the JSON value")
    }
    guard failed else { return JSONReading(node: node, diagnostics: diagnostics) }
    return JSONReading(
      node: nil, diagnostics: diagnostics, partial: node,
      openKeys: path.compactMap { if case .key(let key) = $0 { key } else { nil } }, stop: token)
  }

  // MARK: Values

  private mutating func value(depth: Int) -> JSONNode {
    token = here
    let start = here
    switch peek {
    case nil:
      fail("the text ends where a value is expected")
    case UInt8(ascii: "{"), UInt8(ascii: "["):
      guard depth < JSONReader.deepest else {
        fail("more than \(JSONReader.deepest) levels of brackets", code: .tooDeep)
        break
      }
      return peek == UInt8(ascii: "{") ? object(depth: depth) : array(depth: depth)
    case UInt8(ascii: "\""):
      let (text, escapes) = string()
      return JSONNode(value: .string(text), place: span(from: start), escapes: escapes)
    case .some(UInt8(ascii: "0")...UInt8(ascii: "9")), UInt8(ascii: "-"), UInt8(ascii: "+"),
      UInt8(ascii: "."):
      let text = number()
      return JSONNode(value: .number(text), place: span(from: start))
    case UInt8(ascii: "'"):
      fail("text is written in double quotes")
    case UInt8(ascii: "}"), UInt8(ascii: "]"), UInt8(ascii: ","):
      fail("a value is missing here")
    case .some(let byte) where isWord(byte):
      return word()
    default:
      fail("this character cannot begin a JSON value")
    }
    return JSONNode(value: .null, place: start)
  }

  private mutating func word() -> JSONNode {
    let start = here
    let from = at
    while let byte = peek, isWord(byte) { step() }
    let place = span(from: start)
    switch String(decoding: bytes[from..<at], as: UTF8.self) {
    case "true": return JSONNode(value: .bool(true), place: place)
    case "false": return JSONNode(value: .bool(false), place: place)
    case "null": return JSONNode(value: .null, place: place)
    case let other:
      let plain = other.lowercased()
      if ["true", "false", "null"].contains(plain) {
        fail("JSON writes \(plain) in lower-case letters", at: place)
      } else if ["nan", "infinity", "undefined", "none"].contains(plain) {
        fail("JSON has no \(quoted(other))", at: place)
      } else {
        // The word is not repeated: it may be a password that lost its quotes.
        fail("text is written in double quotes, and this word has none", at: place)
      }
      return JSONNode(value: .null, place: place)
    }
  }

  private mutating func array(depth: Int) -> JSONNode {
    let start = here
    var elements: [JSONNode] = []
    step()
    space()
    while !failed {
      if peek == UInt8(ascii: "]"), elements.isEmpty || comments {
        step()
        break
      }
      path.append(.index(elements.count))
      elements.append(value(depth: depth + 1))
      if failed { break }
      path.removeLast()
      space()
      guard more(closing: UInt8(ascii: "]"), of: "the list", opened: start) else { break }
    }
    return JSONNode(value: .array(elements), place: start)
  }

  private mutating func object(depth: Int) -> JSONNode {
    let start = here
    var members: [JSONNode.Member] = []
    // By its bytes: String's own equality takes different spellings of one accented letter for the same.
    var seen: [[UInt8]: SourcePlace] = [:]
    step()
    space()
    while !failed {
      token = here
      if peek == UInt8(ascii: "}"), members.isEmpty || comments {
        step()
        break
      }
      let keyStart = here
      guard peek == UInt8(ascii: "\"") else {
        switch peek {
        case nil: ended("the object", opened: start)
        case UInt8(ascii: "'"): fail("a key is written in double quotes")
        default: fail("a key in double quotes is expected here")
        }
        break
      }
      let (key, escapes) = string()
      let keyPlace = span(from: keyStart)
      if failed { break }
      space()
      guard !failed, peek == UInt8(ascii: ":") else {
        // Without its colon it may be no key at all, so it does not enter the path.
        if !failed { fail("a colon is missing between the key and its value") }
        break
      }
      path.append(.key(key))
      step()
      space()
      if let first = seen[Array(key.utf8)] {
        diagnostics.append(
          Diagnostic(
            at: keyPlace, code: .duplicateKey, path: renderedPath(path),
            message: "the key \(quoted(key)) stands here twice; the first is at \(first.line):\(first.column)"
          ))
      } else {
        seen[Array(key.utf8)] = keyPlace
      }
      if failed { break }
      let node = value(depth: depth + 1)
      members.append(JSONNode.Member(key: key, keyPlace: keyPlace, node: node, keyEscapes: escapes))
      if failed { break }
      path.removeLast()
      space()
      guard more(closing: UInt8(ascii: "}"), of: "the object", opened: start) else { break }
    }
    return JSONNode(value: .object(members), place: start)
  }

  /// After a member or element: takes a comma and says that more may follow, or takes the closing bracket.
  private mutating func more(closing: UInt8, of what: String, opened: SourcePlace) -> Bool {
    if failed { return false }
    token = here
    switch peek {
    case closing:
      step()
      return false
    case UInt8(ascii: ","):
      let comma = here
      step()
      space()
      if !comments, !failed, peek == closing {
        token = comma
        fail("a comma before the closing bracket; only files named .jsonc may have it")
      }
      return !failed
    case nil:
      ended(what, opened: opened)
      return false
    default:
      let end = closing == UInt8(ascii: "}") ? "}" : "]"
      fail("a comma or \(end) is missing before this")
      return false
    }
  }

  private mutating func ended(_ what: String, opened: SourcePlace) {
    fail("the text ends inside \(what) that begins at \(opened.line):\(opened.column)")
  }

  private mutating func number() -> String {
    let start = here
    let from = at
    func isDigit(_ byte: UInt8?) -> Bool { byte.map { $0 >= 0x30 && $0 <= 0x39 } ?? false }
    var wrong: String?
    if peek == UInt8(ascii: "-") { step() }
    if peek == UInt8(ascii: "+") {
      wrong = "a number has no plus sign in JSON"
    } else if !isDigit(peek) {
      wrong = "a digit is missing in this number"
    } else {
      let leadsWithZero = peek == UInt8(ascii: "0")
      step()
      if leadsWithZero, isDigit(peek) { wrong = "a number has no leading zero in JSON" }
      while isDigit(peek) { step() }
      if wrong == nil, peek == UInt8(ascii: ".") {
        step()
        if !isDigit(peek) { wrong = "a digit is missing after the point" }
        while isDigit(peek) { step() }
      }
      if wrong == nil, peek == UInt8(ascii: "e") || peek == UInt8(ascii: "E") {
        step()
        if peek == UInt8(ascii: "+") || peek == UInt8(ascii: "-") { step() }
        if !isDigit(peek) { wrong = "a digit is missing in the exponent" }
        while isDigit(peek) { step() }
      }
      if wrong == nil, let byte = peek, isWord(byte) || byte == UInt8(ascii: ".") {
        wrong = "this is not a number; text is written in double quotes"
      }
    }
    if let wrong {
      while let byte = peek, isWord(byte) || [0x2b, 0x2d, 0x2e].contains(byte) { step() }
      fail(wrong, at: span(from: start))
    }
    return String(decoding: bytes[from..<at], as: UTF8.self)
  }
}
