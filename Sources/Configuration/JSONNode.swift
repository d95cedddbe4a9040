/// One value of a JSON text, with its place in it.
public struct JSONNode: Sendable {
  public enum Value: Sendable {
    case null
    case bool(Bool)
    /// The number as it is written, since its meaning (64 bits, decimal, double) is the reader's business.
    case number(String)
    case string(String)
    case array([JSONNode])
    /// In the order of the text; with duplicate keys, which are reported as errors, every one of them.
    case object([Member])
  }

  public struct Member: Sendable {
    public var key: String
    /// The key with its quotes.
    public var keyPlace: SourcePlace
    public var node: JSONNode
    var keyEscapes: [Escape] = []
  }

  /// Where one scalar of a decoded string took more than one character of the text, as `\u00e9` does.
  struct Escape: Sendable, Hashable {
    /// Index of the scalar in the decoded string.
    var scalar: Int
    /// Characters in the text: 2, 6 or 12.
    var width: Int
  }

  public var value: Value
  /// Strings with their quotes; of an array or object the opening bracket alone.
  public var place: SourcePlace
  var escapes: [Escape] = []

  public var string: String? { if case .string(let text) = value { text } else { nil } }
  public var number: String? { if case .number(let text) = value { text } else { nil } }
  public var bool: Bool? { if case .bool(let value) = value { value } else { nil } }
  public var isNull: Bool { if case .null = value { true } else { false } }
  public var elements: [JSONNode]? { if case .array(let nodes) = value { nodes } else { nil } }
  public var members: [Member]? { if case .object(let members) = value { members } else { nil } }

  /// The value of the first member of that name, if this is an object that has one.
  public subscript(key: String) -> JSONNode? { members?.first { $0.key == key }?.node }

  /// What it is, as a sentence says it: "a string", "an object", …
  public var kind: String {
    switch value {
    case .null: "null"
    case .bool: "a boolean"
    case .number: "a number"
    case .string: "a string"
    case .array: "a list"
    case .object: "an object"
    }
  }
}

/// What `JSONReader` makes of a text.
public struct JSONReading: Sendable {
  /// nil after a syntax error. With a duplicate key, which is an error too, the tree is there.
  public var node: JSONNode?
  public var diagnostics: [Diagnostic]

  /// What was read before a syntax error, and where reading stopped: enough to tell which parts of the
  /// offending line may be shown.
  var partial: JSONNode?
  /// The keys that were open when reading stopped, the outermost first.
  var openKeys: [String] = []
  /// The beginning of the token in which reading stopped.
  var stop: SourcePlace?
}
