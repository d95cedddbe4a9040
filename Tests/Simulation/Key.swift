import Configuration
import Invalidation

/// A key that a mapping governs.
struct Key {
  let number: Int
  let name: String
  private let bytes: [UInt8]
  /// Its own fence bucket, and those of its groups.
  let buckets: [Int]
  let tags: PackedKeys
  let isGrouped: Bool
  /// The rows that its value is made of.
  let rows: [Int]
  /// Whether SETs of it are written through. Its value is then its one row and nothing else.
  let isWritten: Bool

  init(number: Int, name: String, rows: [Int], groups: KeyGroups, isWritten: Bool = false) {
    self.number = number
    self.isWritten = isWritten
    self.name = name
    let bytes = Array(name.utf8)
    self.bytes = bytes
    let membership = bytes.withUnsafeBytes { groups.membership(of: $0) }
    buckets =
      [bytes.withUnsafeBytes { KeyHash.bucket($0) }] + (membership?.buckets.map(Int.init) ?? [])
    tags = membership?.tags ?? PackedKeys()
    isGrouped = membership != nil
    self.rows = rows
  }

  var bucket: Int { buckets[0] }

  func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    bytes.withUnsafeBytes(body)
  }
}

/// What the fleet of a run is configured with.
struct Mapping {
  let groups: KeyGroups
  let keys: [Key]
  let rowCount: Int
  /// For each row the group that a change of it clears; nil: its keys are cleared.
  let groupOfRow: [[UInt8]?]

  static let withGroups: KeyGroups = {
    func template(_ text: String) -> KeyTemplate {
      let place = SourcePlace(line: 1, column: 1, length: 1)
      guard let template = try? KeyTemplate.parse(text, place: place) else {
        preconditionFailure("not a template: \(text)")
      }
      return template
    }
    return KeyGroups(
      tables: [
        TableRule(
          schema: "public", name: "pages", keys: [template("c:{a}:*")], columns: nil, operations: [],
          place: SourcePlace(line: 1, column: 1, length: 1))
      ],
      caches: [
        CacheRule(
          template: template("c:{a}:{b}:{n}"), near: nil,
          plainSet: PlainSetSettings(mode: .window, window: 1), tags: [template("g:{b}")])
      ], keyPrefix: "s:")
  }()

  /// Each key has a row of its own, and one that it shares with its neighbour. With groups that one clears a prefix,
  /// and a third, which every second key has, a tag. Behind these come keys that are written through, with a row
  /// each.
  init(keys count: Int, written: Int, hasGroups: Bool) {
    let pairs = (count + 1) / 2
    let shared = hasGroups ? pairs + 2 : pairs
    groups = hasGroups ? Self.withGroups : KeyGroups(tables: [], caches: [], keyPrefix: "s:")
    let groups = groups
    let plain = (0..<count).map { number in
      hasGroups
        ? Key(
          number: number, name: "s:c:\(number / 2):\(number % 2):\(number)",
          rows: [number, count + number / 2, count + pairs + number % 2], groups: groups)
        : Key(number: number, name: "s:\(number)", rows: [number, count + number / 2], groups: groups)
    }
    keys =
      plain
      + (0..<written).map {
        Key(
          number: count + $0, name: "s:w:\($0)", rows: [count + shared + $0], groups: groups,
          isWritten: true)
      }
    rowCount = count + shared + written
    let none = [[UInt8]?](repeating: nil, count: count)
    let sharing: [[UInt8]?] =
      hasGroups
      ? (0..<pairs).map { Array("ps:c:\($0):".utf8) } + (0..<2).map { Array("tg:\($0)".utf8) }
      : Array(repeating: nil, count: shared)
    groupOfRow = none + sharing + Array(repeating: nil, count: written)
  }

  /// The keys of a group, its kind included.
  func keys(of group: [UInt8]) -> [Key] {
    var packed = PackedKeys()
    group.withUnsafeBytes { packed.append($0) }
    return keys.filter { key in
      if group.first == KeyGroup.prefix { return key.name.utf8.starts(with: group.dropFirst()) }
      var has = false
      key.tags.forEach { if $0.elementsEqual(group) { has = true } }
      return has
    }
  }
}
