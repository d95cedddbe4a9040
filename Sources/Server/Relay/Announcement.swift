import Configuration
import Invalidation

/// What an application published on a channel of `subscribe`: a key, a JSON list of keys, or a JSON object with
/// `keys`, `prefixes` and `tags`, each a list and each optional; other members are ignored. Keys and prefixes are
/// whole, with the namespace. A final `*` of a prefix is left out.
struct Announcement: Hashable {
  var keys: [[UInt8]] = []
  var prefixes: [[UInt8]] = []
  var tags: [[UInt8]] = []

  /// A JSON text may have at most this many bytes, which is more than a thousand keys of usual length.
  static let longest = 1024 * 1024

  /// Nil: nothing that can be understood.
  init?(_ message: [UInt8]) {
    switch message.first {
    case nil: return nil
    case UInt8(ascii: "["), UInt8(ascii: "{"):
      guard message.count <= Self.longest, let node = JSONReader.read(message).node else { return nil }
      if node.elements != nil {
        guard let keys = Self.names(node) else { return nil }
        self.keys = keys
      } else {
        guard let keys = Self.names(node["keys"]), let prefixes = Self.names(node["prefixes"]),
          let tags = Self.names(node["tags"])
        else { return nil }
        self.keys = keys
        self.prefixes = prefixes.map { $0.last == UInt8(ascii: "*") ? $0.dropLast() : $0 }
        self.tags = tags
      }
      if keys.isEmpty, prefixes.isEmpty, tags.isEmpty { return nil }
    default:
      guard message.count <= KeyGroup.longestName else { return nil }
      keys = [message]
    }
  }

  /// Nil: not a list of names. An absent list is empty.
  private static func names(_ node: JSONNode?) -> [[UInt8]]? {
    guard let node else { return [] }
    guard let elements = node.elements else { return nil }
    var names: [[UInt8]] = []
    for element in elements {
      guard let name = element.string, !name.isEmpty, name.utf8.count <= KeyGroup.longestName else {
        return nil
      }
      names.append(Array(name.utf8))
    }
    return names
  }
}

/// One script's share of an announcement.
enum Errand: Hashable {
  /// At most a thousand.
  case remove([[UInt8]])
  /// The group's kind is its first byte.
  case clear([UInt8])
}

/// What is to be told to Redis on nobody's behalf, in order.
struct Errands {
  var waiting: [Errand] = []
  /// Too many waited: a new generation is asked for instead.
  var forgetsAll = false
  /// After a failure nothing is tried for a moment.
  var restUntil = Instant(nanoseconds: 0)
  var lastComplaint = Instant(nanoseconds: 0)

  /// More than this wait only if Redis has been away for long; then everything is forgotten instead.
  static let most = 10_000
}
