import Configuration
import Invalidation

/// What an application published on a channel of `subscribe`: a key, a JSON list of keys, or a JSON object with
/// `keys`, `prefixes` and `tags`, each a list and each optional; other members are ignored. Keys and prefixes are
/// whole, with the namespace. A final `*` of a prefix is left out.
public struct Announcement: Hashable, Sendable {
  var keys: [[UInt8]] = []
  var prefixes: [[UInt8]] = []
  var tags: [[UInt8]] = []

  /// A JSON text may have at most this many bytes, which is more than a thousand keys of usual length.
  static let longest = 1024 * 1024

  /// Nil: nothing that can be understood. A long text takes its time, so this is not for the event loop's thread.
  public init?(_ message: [UInt8]) {
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

  var names: Int {
    switch self {
    case .remove(let keys): keys.count
    case .clear: 1
    }
  }
}

/// What is to be told to Redis on nobody's behalf, in order.
struct Errands {
  private(set) var waiting: [Errand] = []
  /// The keys and groups in `waiting`.
  private(set) var names = 0
  /// Too many waited, so a new generation is asked for until there is one. It is another than this one; nil: the one
  /// that there is has not been heard of yet.
  private(set) var forgets: Generation??
  /// Whether it has been asked for since.
  private var isAsked = false
  /// After a failure nothing is tried for a moment.
  var restUntil = Instant(nanoseconds: 0)
  var lastComplaint = Instant(nanoseconds: 0)

  /// More keys and groups than this are not kept, as when Redis is away for long: everything is forgotten instead.
  static let most = 50_000

  var forgetsAll: Bool { forgets != nil }

  /// False: too many wait, and all of them were dropped.
  mutating func append(_ errand: Errand, generation: Generation?) -> Bool {
    waiting.append(errand)
    names += errand.names
    guard names > Self.most else { return true }
    waiting = []
    names = 0
    forgets = .some(generation)
    isAsked = false
    return false
  }

  /// A new generation has just been asked for.
  mutating func asked() { isAsked = true }

  mutating func take() -> [Errand] {
    let taken = waiting
    waiting = []
    names = 0
    return taken
  }

  /// The generation that is followed now. One that is seen before any was asked for may be older than what was dropped.
  mutating func follows(_ generation: Generation) {
    switch forgets {
    case .none: return
    case .some(.some(let old)) where isAsked: if old != generation { forgets = nil }
    case .some: forgets = .some(generation)
    }
  }
}
