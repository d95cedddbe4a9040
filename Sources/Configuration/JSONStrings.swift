// Strings of JSON: escapes, surrogate pairs, and what may not stand in them.
extension JSONParser {
  /// Reads a string; the parser stands at its opening quote. Gives the decoded text and where escapes stood.
  mutating func string() -> (String, [JSONNode.Escape]) {
    let start = here
    token = start
    step()
    var text = String.UnicodeScalarView()
    var escapes: [JSONNode.Escape] = []
    var count = 0
    while !failed {
      guard let byte = peek else {
        fail("the text ends inside this string; its closing quote is missing", at: span(from: start))
        break
      }
      switch byte {
      case UInt8(ascii: "\""):
        step()
        return (String(text), escapes)
      case UInt8(ascii: "\\"):
        let from = column
        guard let scalar = escape() else { break }
        text.append(scalar)
        escapes.append(JSONNode.Escape(scalar: count, width: column - from))
        count += 1
      case UInt8(ascii: "\n"), UInt8(ascii: "\r"):
        fail("the closing quote of this string is missing on its line", at: span(from: start))
      case 0..<0x20:
        let digits = String(byte, radix: 16)
        fail("a control character in a string is written \\u00\(byte < 16 ? "0" : "")\(digits)")
      default:
        let from = at
        stepScalar()
        guard !failed else { break }
        text.append(contentsOf: String(decoding: bytes[from..<at], as: UTF8.self).unicodeScalars)
        count += 1
      }
    }
    return (String(text), escapes)
  }

  /// Reads one escape; the parser stands at its backslash.
  private mutating func escape() -> Unicode.Scalar? {
    let start = here
    step()
    guard let byte = peek else {
      fail("the text ends inside this string; its closing quote is missing", at: token)
      return nil
    }
    let simple: Unicode.Scalar? =
      switch byte {
      case UInt8(ascii: "\""): "\""
      case UInt8(ascii: "\\"): "\\"
      case UInt8(ascii: "/"): "/"
      case UInt8(ascii: "b"): "\u{8}"
      case UInt8(ascii: "f"): "\u{c}"
      case UInt8(ascii: "n"): "\n"
      case UInt8(ascii: "r"): "\r"
      case UInt8(ascii: "t"): "\t"
      default: nil
      }
    if let simple {
      step()
      return simple
    }
    guard byte == UInt8(ascii: "u") else {
      fail(
        "this escape does not exist; a backslash itself is written \\\\",
        at: SourcePlace(line: start.line, column: start.column, length: 2))
      return nil
    }
    guard let unit = unit(from: start) else { return nil }
    if !(0xd800...0xdfff).contains(unit) { return Unicode.Scalar(unit) }
    if unit < 0xdc00, peek == UInt8(ascii: "\\"), at + 1 < bytes.count, bytes[at + 1] == UInt8(ascii: "u") {
      let second = here
      step()
      guard let low = self.unit(from: second) else { return nil }
      if (0xdc00...0xdfff).contains(low) {
        return Unicode.Scalar(0x10000 + (UInt32(unit) - 0xd800) << 10 + (UInt32(low) - 0xdc00))
      }
    }
    fail(
      "this is half of a surrogate pair; both halves are needed",
      at: SourcePlace(line: start.line, column: start.column, length: 6))
    return nil
  }

  /// Reads `u` and four hexadecimal digits; `start` is the backslash before them.
  private mutating func unit(from start: SourcePlace) -> UInt16? {
    step()
    var unit: UInt16 = 0
    for _ in 0..<4 {
      guard let byte = peek, let digit = hexDigit(byte) else {
        fail("four hexadecimal digits are expected after \\u", at: span(from: start))
        return nil
      }
      unit = unit << 4 | UInt16(digit)
      step()
    }
    return unit
  }
}

func hexDigit(_ byte: UInt8) -> UInt8? {
  switch byte {
  case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
  case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
  case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
  default: nil
  }
}
