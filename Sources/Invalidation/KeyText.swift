import Configuration

/// How the value of a column is written inside a key. Whoever builds a key from values must come here, so
/// that a value can never look like a delimiter: `a:1` and `2` give another key than `a` and `1:2`.
public enum KeyText {
  /// Appends one value. `%`, `:`, `{`, `}`, `\`, `*`, space, control characters (0x00-0x1f, 0x7f) and bytes
  /// that are not UTF-8 become `%XX` in upper-case digits; with `urlencode` everything does but the
  /// unreserved characters of RFC 3986, section 2.3.
  public static func append(
    _ value: UnsafeRawBufferPointer, urlencode: Bool = false, to key: inout [UInt8]
  ) {
    let low = urlencode ? unreservedLow : plainLow
    let high = urlencode ? unreservedHigh : plainHigh
    // `run ..< at` is what can be copied as it is.
    var run = 0
    var at = 0
    while at < value.count {
      let byte = value[at]
      if byte < 0x80 {
        let bits = byte < 64 ? low : high
        if bits >> UInt64(byte & 63) & 1 == 1 {
          at += 1
          continue
        }
      } else if !urlencode {
        let length = wellFormedLength(value, at)
        if length > 0 {
          at += length
          continue
        }
      }
      if run < at { key.append(contentsOf: UnsafeRawBufferPointer(rebasing: value[run..<at])) }
      key.append(UInt8(ascii: "%"))
      key.append(digit(byte >> 4))
      key.append(digit(byte & 15))
      at += 1
      run = at
    }
    if run < at { key.append(contentsOf: UnsafeRawBufferPointer(rebasing: value[run..<at])) }
  }

  // One bit for each ASCII character that is copied: 0x00-0x3f and 0x40-0x7f.
  private static let plainLow: UInt64 = 0xffff_fffe_0000_0000 & ~(1 << 0x25 | 1 << 0x2a | 1 << 0x3a)
  private static let plainHigh: UInt64 = ~(1 << 28 | 1 << 59 | 1 << 61 | 1 << 63)
  private static let unreservedLow: UInt64 = 1 << 0x2d | 1 << 0x2e | 0x3ff << 0x30
  private static let unreservedHigh: UInt64 = 0x3ff_ffff << 1 | 0x3ff_ffff << 33 | 1 << 31 | 1 << 62

  private static func digit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "A") - 10 + value
  }

  /// The length of the well-formed sequence of more than one byte that begins at `at`; 0 if there is none.
  /// Source: The Unicode Standard, table 3-7 "Well-Formed UTF-8 Byte Sequences".
  private static func wellFormedLength(_ bytes: UnsafeRawBufferPointer, _ at: Int) -> Int {
    let length: Int
    var second: ClosedRange<UInt8> = 0x80...0xbf
    switch bytes[at] {
    case 0xc2...0xdf: length = 2
    case 0xe0: (length, second) = (3, 0xa0...0xbf)
    case 0xed: (length, second) = (3, 0x80...0x9f)
    case 0xe1...0xef: length = 3
    case 0xf0: (length, second) = (4, 0x90...0xbf)
    case 0xf4: (length, second) = (4, 0x80...0x8f)
    case 0xf1...0xf3: length = 4
    default: return 0
    }
    guard bytes.count - at >= length, second.contains(bytes[at + 1]) else { return 0 }
    for index in at + 2..<at + length where bytes[index] & 0xc0 != 0x80 { return 0 }
    return length
  }
}

/// What turns the text that PostgreSQL prints for a value into the text that applications write.
enum ValueStyle: UInt8, Sendable {
  case verbatim
  /// `t` and `f` become `true` and `false`.
  case boolean
  /// char(n): the padding goes.
  case padded
  /// citext compares without case, so every spelling of a value must give the same key.
  case caseless

  /// The styles of the types whose text is the same for everybody; nil: other types need `|raw`.
  init?(type: UInt32, name: String, kind: Character) {
    if let builtIn = ValueStyle(builtIn: type) {
      self = builtIn
    } else if kind == "e" {
      self = .verbatim
    } else if name == "citext" {
      self = .caseless
    } else {
      return nil
    }
  }

  /// Types with fixed oids. Source: PostgreSQL source, src/include/catalog/pg_type.dat.
  init?(builtIn type: UInt32) {
    switch type {
    case 16: self = .boolean
    case 1042: self = .padded
    // int8, int2, int4, text, name, oid, varchar, date, numeric, uuid.
    case 20, 21, 23, 25, 19, 26, 1043, 1082, 1700, 2950: self = .verbatim
    default: return nil
    }
  }

  /// For people; the order of protocol and documentation.
  static let allowedTypes =
    "smallint, integer, bigint, text, varchar, citext, uuid, boolean, date, enums, char(n), numeric, name, "
    + "oid"
}

/// How one column of a template is written: the type's style and the template's filters.
struct ValueFormat: Sendable, Hashable {
  var style: ValueStyle
  var lower: Bool
  var urlencode: Bool

  init(style: ValueStyle, filters: [KeyTemplate.Filter]) {
    self.style = filters.contains(.raw) ? .verbatim : style
    lower = filters.contains(.lower) || self.style == .caseless
    urlencode = filters.contains(.urlencode)
  }

  /// Appends a value that PostgreSQL printed. `scratch` is memory for the lower-case form.
  /// False, and nothing appended, if the value alone is longer than any key may be.
  func append(
    _ value: UnsafeRawBufferPointer, to key: inout [UInt8], scratch: inout [UInt8]
  ) -> Bool {
    var value = value
    switch style {
    case .boolean where value.count == 1 && value[0] == UInt8(ascii: "t"):
      key.append(contentsOf: "true".utf8)
      return true
    case .boolean where value.count == 1 && value[0] == UInt8(ascii: "f"):
      key.append(contentsOf: "false".utf8)
      return true
    case .padded:
      var end = value.count
      while end > 0, value[end - 1] == UInt8(ascii: " ") { end -= 1 }
      value = UnsafeRawBufferPointer(rebasing: value[..<end])
    default: break
    }
    guard value.count <= PackedKeys.longestKey else { return false }
    guard lower else {
      KeyText.append(value, urlencode: urlencode, to: &key)
      return true
    }
    lowerCase(value, into: &scratch)
    scratch.withUnsafeBytes { KeyText.append($0, urlencode: urlencode, to: &key) }
    return true
  }
}

/// Bytes that are not UTF-8 (a SQL_ASCII database may send them) are lowered as far as they are ASCII.
private func lowerCase(_ value: UnsafeRawBufferPointer, into lowered: inout [UInt8]) {
  lowered.removeAll(keepingCapacity: true)
  lowered.append(contentsOf: value)
  let union = lowered.withUnsafeMutableBufferPointer { bytes in
    var union: UInt8 = 0
    for index in bytes.indices {
      let byte = bytes[index]
      union |= byte
      bytes[index] = byte &- UInt8(ascii: "A") < 26 ? byte | 0x20 : byte
    }
    return union
  }
  guard union >= 0x80, let text = String(validating: value, as: UTF8.self) else { return }
  lowered.removeAll(keepingCapacity: true)
  lowered.append(contentsOf: text.lowercased().utf8)
}
