// Where the JSON parser stands: places, steps, white space, comments and UTF-8.
extension JSONParser {
  var peek: UInt8? { at < bytes.count ? bytes[at] : nil }
  var here: SourcePlace { SourcePlace(line: line, column: column, length: 1) }

  /// From `start`, on this line, to where the parser stands.
  func span(from start: SourcePlace) -> SourcePlace {
    SourcePlace(line: start.line, column: start.column, length: max(1, column - start.column))
  }

  mutating func fail(_ message: String, at place: SourcePlace? = nil, code: ConfigurationCode = .syntax) {
    guard !failed else { return }
    failed = true
    diagnostics.append(
      Diagnostic(at: place ?? here, code: code, path: renderedPath(path), message: message))
  }

  /// Moves past one byte of ASCII.
  mutating func step() {
    if bytes[at] == UInt8(ascii: "\n") {
      line += 1
      column = 1
    } else {
      column += 1
    }
    at += 1
  }

  /// Moves past one scalar of any kind; fails on malformed UTF-8.
  mutating func stepScalar() {
    guard bytes[at] >= 0x80 else { return step() }
    guard let length = scalarLength(bytes, at: at) else { return fail("this byte is not UTF-8") }
    at += length
    column += 1
  }

  /// Moves past white space and, where they are allowed, comments.
  mutating func space() {
    while !failed, let byte = peek {
      switch byte {
      case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\n"), UInt8(ascii: "\r"):
        step()
      case UInt8(ascii: "/"):
        comment()
      case UInt8(ascii: "#"):
        token = here
        fail("JSON has no # comments")
      default:
        return
      }
    }
  }

  private mutating func comment() {
    token = here
    let start = here
    let next = at + 1 < bytes.count ? bytes[at + 1] : 0
    guard next == UInt8(ascii: "/") || next == UInt8(ascii: "*") else {
      return fail("this character cannot stand here")
    }
    guard comments else { return fail("only files named .jsonc may have comments") }
    step()
    step()
    if next == UInt8(ascii: "/") {
      while !failed, let byte = peek, byte != UInt8(ascii: "\n") { stepScalar() }
      return
    }
    while !failed {
      guard let byte = peek else { return fail("the text ends inside this comment", at: start) }
      if byte == UInt8(ascii: "*"), at + 1 < bytes.count, bytes[at + 1] == UInt8(ascii: "/") {
        step()
        step()
        return
      }
      stepScalar()
    }
  }
}

/// How many bytes the scalar at `index` takes; nil if the bytes are not well-formed UTF-8: a stray
/// continuation, an overlong form, a surrogate or a value above U+10FFFF.
/// Source: The Unicode Standard, table 3-7, "Well-Formed UTF-8 Byte Sequences".
func scalarLength(_ bytes: [UInt8], at index: Int) -> Int? {
  func continues(_ offset: Int, _ range: ClosedRange<UInt8> = 0x80...0xbf) -> Bool {
    index + offset < bytes.count && range.contains(bytes[index + offset])
  }
  switch bytes[index] {
  case 0x00...0x7f: return 1
  case 0xc2...0xdf: return continues(1) ? 2 : nil
  case 0xe0: return continues(1, 0xa0...0xbf) && continues(2) ? 3 : nil
  case 0xed: return continues(1, 0x80...0x9f) && continues(2) ? 3 : nil
  case 0xe1...0xef: return continues(1) && continues(2) ? 3 : nil
  case 0xf0: return continues(1, 0x90...0xbf) && continues(2) && continues(3) ? 4 : nil
  case 0xf1...0xf3: return continues(1) && continues(2) && continues(3) ? 4 : nil
  case 0xf4: return continues(1, 0x80...0x8f) && continues(2) && continues(3) ? 4 : nil
  default: return nil
  }
}
