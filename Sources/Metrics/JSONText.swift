/// A JSON value that is written, member by member in the given order.
public indirect enum JSONText: Sendable, Equatable, CustomStringConvertible {
  case null
  case flag(Bool)
  case whole(Int)
  case real(Double)
  case text(String)
  case list([JSONText])
  case object([Member])

  public struct Member: Sendable, Equatable {
    public var name: String
    public var value: JSONText

    public init(name: String, value: JSONText) {
      self.name = name
      self.value = value
    }
  }

  public static func text(ifAny text: String?) -> JSONText { text.map { .text($0) } ?? .null }
  public static func whole(ifAny number: Int?) -> JSONText { number.map { .whole($0) } ?? .null }
  public static func real(ifAny number: Double?) -> JSONText { number.map { .real($0) } ?? .null }
  /// Nanoseconds as seconds.
  public static func seconds(_ nanoseconds: UInt64?) -> JSONText {
    real(ifAny: nanoseconds.map { Double($0) / 1e9 })
  }

  /// The value on one line, without spaces.
  public var description: String {
    var text = ""
    append(to: &text)
    return text
  }

  private func append(to text: inout String) {
    switch self {
    case .null: text += "null"
    case .flag(let value): text += value ? "true" : "false"
    case .whole(let value): text += String(value)
    case .real(let value): text += value.isFinite ? Self.plain(value) : "null"
    case .text(let value): Self.append(value, to: &text)
    case .list(let values):
      text += "["
      for (index, value) in values.enumerated() {
        if index > 0 { text += "," }
        value.append(to: &text)
      }
      text += "]"
    case .object(let members):
      text += "{"
      for (index, member) in members.enumerated() {
        if index > 0 { text += "," }
        Self.append(member.name, to: &text)
        text += ":"
        member.value.append(to: &text)
      }
      text += "}"
    }
  }

  /// Swift writes `1e-05`, which JSON has too.
  private static func plain(_ value: Double) -> String { "\(value)" }

  private static func append(_ value: String, to text: inout String) {
    text += "\""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      // A terminal obeys control characters, those from U+0080 on too. Line and paragraph separators end a line of
      // JavaScript, and the page's data may stand in one.
      case _
      where scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value)
        || (0x2028...0x2029).contains(scalar.value):
        let digits = String(scalar.value, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: text.unicodeScalars.append(scalar)
      }
    }
    text += "\""
  }
}

extension JSONText: ExpressibleByDictionaryLiteral {
  public init(dictionaryLiteral members: (String, JSONText)...) {
    self = .object(members.map { Member(name: $0, value: $1) })
  }
}

extension JSONText: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral {
  public init(stringLiteral value: String) { self = .text(value) }
  public init(integerLiteral value: Int) { self = .whole(value) }
  public init(booleanLiteral value: Bool) { self = .flag(value) }
}
