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

  init(number: Int, name: String, rows: [Int], groups: KeyGroups) {
    self.number = number
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
  /// and a third, which every second key has, a tag.
  init(keys count: Int, hasGroups: Bool) {
    let pairs = (count + 1) / 2
    guard hasGroups else {
      groups = KeyGroups(tables: [], caches: [], keyPrefix: "s:")
      let groups = groups
      keys = (0..<count).map {
        Key(number: $0, name: "s:\($0)", rows: [$0, count + $0 / 2], groups: groups)
      }
      rowCount = count + pairs
      groupOfRow = Array(repeating: nil, count: rowCount)
      return
    }
    groups = Self.withGroups
    keys = (0..<count).map {
      Key(
        number: $0, name: "s:c:\($0 / 2):\($0 % 2):\($0)",
        rows: [$0, count + $0 / 2, count + pairs + $0 % 2], groups: Self.withGroups)
    }
    rowCount = count + pairs + 2
    groupOfRow =
      Array(repeating: nil, count: count) + (0..<pairs).map { Array("ps:c:\($0):".utf8) }
      + (0..<2).map { Array("tg:\($0)".utf8) }
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
