/// How two values of a column's type are compared, by the text that PostgreSQL prints for them.
enum Comparing: UInt8, Sendable {
  /// Integers and numerics, exactly; NaN is equal to itself and above everything, as in PostgreSQL.
  case number
  case boolean
  /// By bytes: text, varchar, name.
  case text
  /// By bytes without the spaces at the end: char(n).
  case padded
  /// citext. Letters beyond ASCII are lowered by rules that only the server has.
  case caseless
  /// By bytes, and by nothing else: every other type.
  case verbatim

  /// - Parameters:
  ///   - type: pg_type.oid of the column's type, or of a domain's base type.
  ///   - name: its pg_type.typname; only citext is told by it.
  init(type: UInt32, name: String) {
    switch type {
    // int8, int2, int4, oid, numeric. Source: PostgreSQL source, src/include/catalog/pg_type.dat.
    case 20, 21, 23, 26, 1700: self = .number
    case 16: self = .boolean
    // name, text, varchar.
    case 19, 25, 1043: self = .text
    case 1042: self = .padded
    default: self = name == "citext" ? .caseless : .verbatim
    }
  }

  /// Below, at or above zero as `a` comes before, at or behind `b`; where there is no order, zero or one. nil:
  /// it cannot be told.
  func compare(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int? {
    switch self {
    case .number: return compareDecimals(a, b)
    case .boolean:
      guard let left = Self.truth(a), let right = Self.truth(b) else { return nil }
      return left == right ? 0 : 1
    case .text, .verbatim: return sameBytes(a, b) ? 0 : 1
    case .padded: return sameBytes(Self.trimmed(a), Self.trimmed(b)) ? 0 : 1
    case .caseless:
      if sameBytes(a, b) { return 0 }
      guard Self.isASCII(a), Self.isASCII(b) else { return nil }
      guard a.count == b.count else { return 1 }
      for index in 0..<a.count where Self.lower(a[index]) != Self.lower(b[index]) { return 1 }
      return 0
    }
  }

  /// `t` and `f` as PostgreSQL prints them, or whole words.
  static func truth(_ text: UnsafeRawBufferPointer) -> Bool? {
    switch text.first {
    case UInt8(ascii: "t"): true
    case UInt8(ascii: "f"): false
    default: nil
    }
  }

  private static func trimmed(_ text: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    var end = text.count
    while end > 0, text[end - 1] == UInt8(ascii: " ") { end -= 1 }
    return UnsafeRawBufferPointer(rebasing: text[..<end])
  }

  private static func isASCII(_ text: UnsafeRawBufferPointer) -> Bool { text.allSatisfy { $0 < 0x80 } }

  private static func lower(_ byte: UInt8) -> UInt8 { byte &- UInt8(ascii: "A") < 26 ? byte | 0x20 : byte }
}

/// A number that PostgreSQL printed: digits with at most one point, or a name.
private struct DecimalText {
  enum Rank: Int { case negativeInfinity, finite, infinity, notANumber }

  var rank = Rank.finite
  var isNegative = false
  /// The digits before the point without leading zeros, and those behind it without trailing ones.
  var whole: Slice<UnsafeRawBufferPointer>
  var fraction: Slice<UnsafeRawBufferPointer>

  init?(_ text: UnsafeRawBufferPointer) {
    whole = text[0..<0]
    fraction = text[0..<0]
    var at = 0
    if text.first == UInt8(ascii: "-") {
      isNegative = true
      at = 1
    }
    guard at < text.count else { return nil }
    switch text[at] {
    case UInt8(ascii: "N") where !isNegative && text.elementsEqual("NaN".utf8):
      rank = .notANumber
      return
    case UInt8(ascii: "I") where text[at...].elementsEqual("Infinity".utf8):
      rank = isNegative ? .negativeInfinity : .infinity
      return
    default: break
    }
    let from = at
    while at < text.count, Self.isDigit(text[at]) { at += 1 }
    let point = at
    if at < text.count, text[at] == UInt8(ascii: ".") {
      at += 1
      while at < text.count, Self.isDigit(text[at]) { at += 1 }
    }
    guard at == text.count, point > from else { return nil }
    whole = text[from..<point].drop { $0 == UInt8(ascii: "0") }
    if point < text.count {
      var end = text.count
      while end > point + 1, text[end - 1] == UInt8(ascii: "0") { end -= 1 }
      fraction = text[point + 1..<end]
    }
  }

  var isZero: Bool { whole.isEmpty && fraction.isEmpty }

  private static func isDigit(_ byte: UInt8) -> Bool { byte &- UInt8(ascii: "0") < 10 }
}

/// nil: one of them is no number.
private func compareDecimals(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int? {
  guard let left = DecimalText(a), let right = DecimalText(b) else { return nil }
  guard left.rank == .finite, right.rank == .finite else { return left.rank.rawValue - right.rank.rawValue }
  let isNegative = left.isNegative && !left.isZero
  guard isNegative == (right.isNegative && !right.isZero) else { return isNegative ? -1 : 1 }
  let sizes = compareSizes(left, right)
  return isNegative ? -sizes : sizes
}

private func compareSizes(_ a: DecimalText, _ b: DecimalText) -> Int {
  if a.whole.count != b.whole.count { return a.whole.count < b.whole.count ? -1 : 1 }
  for (left, right) in zip(a.whole, b.whole) where left != right { return left < right ? -1 : 1 }
  for (left, right) in zip(a.fraction, b.fraction) where left != right { return left < right ? -1 : 1 }
  return a.fraction.count - b.fraction.count
}

/// Whether a text is like a pattern: `%` stands for any characters, `_` for one, and a `\` makes the next one
/// stand for itself.
/// Source: PostgreSQL documentation, 9.7.1 "LIKE".
func isLike(_ text: UnsafeRawBufferPointer, _ pattern: UnsafeRawBufferPointer) -> Bool {
  var at = 0
  var step = 0
  // Where the last % stands, and how far it reaches.
  var anyStep = -1
  var anyEnd = 0
  while at < text.count {
    if step < pattern.count, pattern[step] == UInt8(ascii: "%") {
      anyStep = step
      anyEnd = at
      step += 1
      continue
    }
    if step < pattern.count, pattern[step] == UInt8(ascii: "_") {
      at += characterLength(text, at)
      step += 1
      continue
    }
    let isEscape = step + 1 < pattern.count && pattern[step] == UInt8(ascii: "\\")
    let meant = isEscape ? step + 1 : step
    if meant < pattern.count, pattern[meant] == text[at] {
      at += 1
      step = meant + 1
      continue
    }
    guard anyStep >= 0 else { return false }
    anyEnd += characterLength(text, anyEnd)
    at = anyEnd
    step = anyStep + 1
  }
  while step < pattern.count, pattern[step] == UInt8(ascii: "%") { step += 1 }
  return step == pattern.count
}

/// How many bytes the UTF-8 character that begins here has; what is not UTF-8 goes byte by byte.
private func characterLength(_ text: UnsafeRawBufferPointer, _ at: Int) -> Int {
  var end = at + 1
  if text[at] >= 0xc2 { while end < min(text.count, at + 4), text[end] & 0xc0 == 0x80 { end += 1 } }
  return end - at
}
