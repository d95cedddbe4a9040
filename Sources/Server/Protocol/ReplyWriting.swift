/// RESP replies, written as Redis writes them.
/// Source: Redis documentation, "Redis serialization protocol specification".
extension IOBuffer {
  mutating func status(_ text: StaticString) {
    append(byte: UInt8(ascii: "+"))
    append(text)
    append("\r\n")
  }

  /// An error; `text` begins with its code (`ERR`, `NOPERM`, …) and holds no line break.
  mutating func error(_ text: String) {
    append(byte: UInt8(ascii: "-"))
    append(text)
    append("\r\n")
  }

  /// The same, of bytes that need not be UTF-8.
  mutating func error(_ text: [UInt8]) {
    append(byte: UInt8(ascii: "-"))
    append(text)
    append("\r\n")
  }

  mutating func integer(_ value: Int) {
    append(byte: UInt8(ascii: ":"))
    append(number: value)
    append("\r\n")
  }

  mutating func bulk(_ value: UnsafeRawBufferPointer) {
    append(byte: UInt8(ascii: "$"))
    append(number: value.count)
    append("\r\n")
    append(value)
    append("\r\n")
  }

  mutating func bulk(_ text: String) {
    var text = text
    text.withUTF8 { bulk(UnsafeRawBufferPointer($0)) }
  }

  /// A number of zero or more as a bulk string.
  mutating func bulk(number: Int) {
    append(byte: UInt8(ascii: "$"))
    append(number: Self.digits(number))
    append("\r\n")
    append(number: number)
    append("\r\n")
  }

  /// How many decimal digits a number of zero or more has.
  static func digits(_ number: Int) -> Int {
    var (digits, rest) = (1, number / 10)
    while rest > 0 {
      digits += 1
      rest /= 10
    }
    return digits
  }

  mutating func array(_ count: Int) {
    append(byte: UInt8(ascii: "*"))
    append(number: count)
    append("\r\n")
  }

  /// A map of `count` pairs; in RESP2 a flat array.
  mutating func map(_ count: Int, resp3: Bool) {
    append(byte: resp3 ? UInt8(ascii: "%") : UInt8(ascii: "*"))
    append(number: resp3 ? count : count * 2)
    append("\r\n")
  }

  mutating func null(resp3: Bool) { append(resp3 ? "_\r\n" : "$-1\r\n") }

  /// A text for people; in RESP3 a verbatim string.
  mutating func verbatim(_ text: String, resp3: Bool) {
    guard resp3 else { return bulk(text) }
    append(byte: UInt8(ascii: "="))
    append(number: text.utf8.count + 4)
    append("\r\ntxt:")
    append(text)
    append("\r\n")
  }

  /// One argument of a request.
  mutating func argument(_ text: StaticString) {
    bulk(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }
}
