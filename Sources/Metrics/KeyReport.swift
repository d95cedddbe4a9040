/// What a sidecar has for one key, for whoever may see keys.
public struct KeyReport: Sendable {
  public enum Kind: String, Sendable {
    /// A value, ready to be sent.
    case value
    /// The knowledge that the database has no such row.
    case absent
    /// Replies about a hash or another type, each under its own name.
    case parts
  }

  public var key: [UInt8]
  /// Whether a mapping or a tag covers it: only then it may be near.
  public var isGoverned = false
  /// nil: no rule matches it.
  public var template: String?
  /// nil: it is not near.
  public var kind: Kind?
  /// Bytes of the value, and of all that is kept for it; nil: there is no value near.
  public var size: Int?
  public var memory: Int?
  /// In nanoseconds; nil: it has no end, or is not near.
  public var timeLeft: UInt64?
  /// Whether a read now would be answered by what is near.
  public var isServed = false
  /// How old the evidence is that it is current, and how old it may be, in nanoseconds.
  public var staleness: UInt64?
  public var stalenessBound: UInt64 = 0
  /// nil: it was not asked for, or there is none.
  public var value: [UInt8]?
  /// What became of the key, as NEARSIDE WHY tells it.
  public var account: [(name: String, value: String)] = []

  public init(key: [UInt8]) { self.key = key }

  public var json: JSONText {
    var members: [JSONText.Member] = [
      .init(name: "schema", value: 1), .init(name: "key", value: .text(String(decoding: key, as: UTF8.self))),
      .init(name: "governed", value: .flag(isGoverned)),
      .init(name: "template", value: .text(ifAny: template)),
      .init(name: "near", value: .text(ifAny: kind?.rawValue)), .init(name: "served", value: .flag(isServed)),
      .init(name: "bytes", value: .whole(ifAny: size)),
      .init(name: "memory_bytes", value: .whole(ifAny: memory)),
      .init(name: "ttl_seconds", value: .seconds(timeLeft)),
      .init(
        name: "staleness",
        value: ["seconds": .seconds(staleness), "bound_seconds": .seconds(stalenessBound)]),
      .init(
        name: "why",
        value: .object(account.map { JSONText.Member(name: $0.name, value: .text($0.value)) })),
    ]
    if let value {
      if let text = String(validating: value, as: UTF8.self) {
        members.append(.init(name: "value", value: .text(text)))
      } else {
        members.append(.init(name: "value_hex", value: .text(Self.hexadecimal(value))))
      }
    }
    return .object(members)
  }

  private static func hexadecimal(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }
}
