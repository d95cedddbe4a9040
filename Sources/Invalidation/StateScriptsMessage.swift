/// The messages on the channel `StateKeys.channel`, for applications that keep caches of their own. One JSON
/// object each:
///
///     {"version":1,"generation":"5f0c2d9e8a7b6c41","sequence":17,"lsn":"0/16B3748",
///      "table":"public.users","keys":["shop:user:42"],"part":1,"of":1}
///
/// - `version` is 1, or 2 for a message with prefixes or tags. A consumer ignores fields that it does not know,
///   and drops everything it holds when the version is one it does not know: so one that knows only 1 is right
///   about prefixes and tags too.
/// - `generation` and `sequence`: within a generation the numbers grow by one, beginning with 0 for the
///   message that opens it. A consumer that sees a number missing or another generation drops everything.
///   Pub/Sub loses messages when a connection breaks, so a consumer also drops everything when it
///   reconnects.
/// - `lsn` is the position in PostgreSQL's log up to which the changes of these keys are known.
/// - `table` is the table whose rows changed, or null when an application deleted the keys itself or named them
///   in SQL (`nearside.invalidate`).
/// - `keys` are at most 1000 whole keys. Bytes of a key that are no UTF-8 are written `\u00XX`, each for
///   itself; keys that come from a mapping are always UTF-8.
/// - `prefixes` and `tags`, only in version 2, there always both: every key that begins with one of the prefixes
///   is cleared, and every key whose cache has one of the tags. A consumer that does not know which keys have a
///   tag drops everything.
/// - `part` and `of`: a large batch of changes is cleared in steps, and this is the number of the step and
///   how many there are. A step sends one message for each table.
/// - A message with `"all":true` opens a generation. It has no `table`, `keys`, `part` and `of`, and says:
///   drop everything.
public struct PublishedMessage: Sendable {
  private var bytes: [UInt8]
  private var hasKeys = false
  /// The prefixes and tags so far, as JSON strings with commas between.
  private var prefixes: [UInt8] = []
  private var tags: [UInt8] = []

  /// `table`: `schema.name`; nil for keys that no row named.
  public init(table: String?) {
    bytes = Array(#""table":"#.utf8)
    if let table {
      var table = table
      table.withUTF8 { Self.quote(UnsafeRawBufferPointer($0), into: &bytes) }
    } else {
      bytes.append(contentsOf: "null".utf8)
    }
    bytes.append(contentsOf: #","keys":["#.utf8)
  }

  public mutating func append(_ key: UnsafeRawBufferPointer) {
    if hasKeys { bytes.append(UInt8(ascii: ",")) }
    hasKeys = true
    Self.quote(key, into: &bytes)
  }

  /// A prefix or a tag, with its kind before it.
  public mutating func append(group: UnsafeRawBufferPointer) {
    func add(_ list: inout [UInt8]) {
      if !list.isEmpty { list.append(UInt8(ascii: ",")) }
      Self.quote(UnsafeRawBufferPointer(rebasing: group.dropFirst()), into: &list)
    }
    if group.first == KeyGroup.tag { add(&tags) } else { add(&prefixes) }
  }

  /// All that follows the position in the message: what the scripts are handed, since they alone know the
  /// sequence number. They tell by its first letters which version it is.
  public consuming func rest(part: Int = 1, of parts: Int = 1) -> [UInt8] {
    bytes.append(contentsOf: "],\"part\":\(part),\"of\":\(parts)}".utf8)
    if prefixes.isEmpty, tags.isEmpty { return bytes }
    return Array(#""prefixes":["#.utf8) + prefixes + Array(#"],"tags":["#.utf8) + tags + Array("],".utf8)
      + bytes
  }

  /// Appends `text` as a JSON string. Source: RFC 8259, section 7.
  static func quote(_ text: UnsafeRawBufferPointer, into bytes: inout [UInt8]) {
    bytes.append(UInt8(ascii: "\""))
    var at = 0
    while at < text.count {
      var end = at
      while end < text.count, text[end] >= 0x20, text[end] < 0x80, text[end] != 0x22, text[end] != 0x5c {
        end += 1
      }
      if end > at {
        bytes.append(contentsOf: UnsafeRawBufferPointer(rebasing: text[at..<end]))
        at = end
        continue
      }
      let byte = text[at]
      let length = byte < 0x80 ? 0 : sequenceLength(UnsafeRawBufferPointer(rebasing: text[at...]))
      if length > 0 {
        bytes.append(contentsOf: text[at..<at + length])
        at += length
        continue
      }
      if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") {
        bytes.append(UInt8(ascii: "\\"))
        bytes.append(byte)
      } else {
        bytes.append(contentsOf: #"\u00"#.utf8)
        bytes.append(digits[Int(byte >> 4)])
        bytes.append(digits[Int(byte & 15)])
      }
      at += 1
    }
    bytes.append(UInt8(ascii: "\""))
  }

  private static let digits = Array("0123456789abcdef".utf8)

  /// The length of the well-formed UTF-8 sequence of two to four bytes that `text` begins with, else 0.
  /// Source: The Unicode Standard, table 3-7.
  private static func sequenceLength(_ text: UnsafeRawBufferPointer) -> Int {
    let length: Int
    var second: ClosedRange<UInt8> = 0x80...0xbf
    switch text[0] {
    case 0xc2...0xdf: length = 2
    case 0xe0: (length, second) = (3, 0xa0...0xbf)
    case 0xed: (length, second) = (3, 0x80...0x9f)
    case 0xe1...0xef: length = 3
    case 0xf0: (length, second) = (4, 0x90...0xbf)
    case 0xf1...0xf3: length = 4
    case 0xf4: (length, second) = (4, 0x80...0x8f)
    default: return 0
    }
    guard text.count >= length, second.contains(text[1]) else { return 0 }
    for byte in text[2..<length] where !(0x80...0xbf).contains(byte) { return 0 }
    return length
  }
}
