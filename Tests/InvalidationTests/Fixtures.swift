import Configuration
import Invalidation

/// Reads a template as the configuration file writes it; enough of its syntax for these tests.
func template(_ text: String, line: Int = 1) -> KeyTemplate {
  var parts: [KeyTemplate.Part] = []
  var rest = Substring(text)
  let isPrefix = rest.hasSuffix("*")
  if isPrefix { rest.removeLast() }
  while !rest.isEmpty {
    if rest.first == "{", let end = rest.firstIndex(of: "}") {
      let words = rest[rest.index(after: rest.startIndex)..<end].split(separator: "|").map(String.init)
      let place = SourcePlace(line: line, column: 1, length: words[0].count)
      parts.append(
        .column(name: words[0], filters: words.dropFirst().compactMap(KeyTemplate.Filter.init), place: place))
      rest = rest[rest.index(after: end)...]
    } else {
      let end = rest.firstIndex(of: "{") ?? rest.endIndex
      parts.append(.literal(String(rest[..<end])))
      rest = rest[end...]
    }
  }
  let place = SourcePlace(line: line, column: 1, length: text.count)
  return KeyTemplate(parts: parts, isPrefix: isPrefix, text: text, place: place)
}

func rule(
  _ name: String, _ keys: [String], tags: [String] = [], schema: String = "public", columns: [String]? = nil,
  on operations: Set<RowOperation> = Set(RowOperation.allCases)
) -> TableRule {
  TableRule(
    schema: schema, name: name, keys: keys.enumerated().map { template($1, line: $0 + 1) },
    tags: tags.enumerated().map { template($1, line: $0 + 50) }, columns: columns,
    operations: operations, place: SourcePlace(line: 99, column: 1, length: 1))
}

enum PgType {
  static let bool: UInt32 = 16
  static let int8: UInt32 = 20
  static let text: UInt32 = 25
  static let bpchar: UInt32 = 1042
  static let timestamptz: UInt32 = 1184
  static let citext: UInt32 = 16_385
  static let mood: UInt32 = 16_492
  static let domain: UInt32 = 16_490
}

func column(
  _ name: String, _ type: UInt32 = PgType.text, key: Bool = false, generated: Bool = false,
  notNull: Bool = true
) -> CatalogueColumn {
  let names: [UInt32: String] = [
    PgType.bool: "bool", PgType.int8: "int8", PgType.text: "text", PgType.bpchar: "bpchar",
    PgType.timestamptz: "timestamptz", PgType.citext: "citext", PgType.mood: "mood",
  ]
  return CatalogueColumn(
    name: name, type: type, typeName: names[type] ?? "?", typeKind: type == PgType.mood ? "e" : "b",
    inIdentity: key, isGenerated: generated, isNotNull: notNull)
}

func table(
  _ id: UInt32, _ name: String, root: String? = nil, kind: Character = "r", persistence: Character = "p",
  identity: ReplicaIdentity = .primaryKey, _ columns: [CatalogueColumn], rowFilter: Bool = false,
  published: [String]? = nil
) -> CatalogueTable {
  CatalogueTable(
    id: id, schema: "public", name: name, rootSchema: "public", rootName: root ?? name, kind: kind,
    persistence: persistence, identity: identity, columns: columns, hasRowFilter: rowFilter,
    publishedColumns: published)
}

/// A reader with its batch and an ever growing log position.
struct Stream: ~Copyable {
  var reader: LogReader
  var batch = KeyBatch()
  private var position: UInt64 = 0x1000

  init(
    _ rules: [TableRule], caches: [CacheRule] = [], maximumKeys: Int = 1_000_000, prefix: String = "shop:"
  ) {
    reader = LogReader(
      plan: KeyPlan(tables: rules, caches: caches, keyPrefix: prefix), maximumKeys: maximumKeys)
  }

  mutating func feed(_ message: [UInt8]) throws(PgOutputError) -> LogEvent {
    let result = message.withUnsafeBytes { bytes -> Result<LogEvent, PgOutputError> in
      do throws(PgOutputError) { return .success(try reader.read(bytes, into: &batch)) } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  /// Feeds the messages as one transaction; the events between its begin and its commit.
  @discardableResult
  mutating func transaction(_ messages: [[UInt8]]) throws(PgOutputError) -> [LogEvent] {
    _ = try feed(PgOutput.begin(commit: position, xid: 7))
    var events: [LogEvent] = []
    for message in messages { events.append(try feed(message)) }
    if case .committed(let commit) = try feed(PgOutput.commit(position, end: position + 0x30)) {
      batch.complete(through: commit.end)
    }
    position += 0x100
    return events
  }

  /// Says what both the catalogue and the stream know of a table.
  mutating func describe(_ table: CatalogueTable) throws(PgOutputError) {
    reader.learn(table)
    _ = try feed(
      PgOutput.relation(
        table.id, schema: table.schema, name: table.name, identity: Character(table.identity.rawValue),
        columns: table.columns.map { PgOutput.Column(name: $0.name, type: $0.type, isKey: $0.inIdentity) }))
  }

  /// The keys in the batch, in order; then the batch is empty.
  mutating func keys() -> [String] {
    let keys = batch.keys
    batch.removeAll()
    return keys
  }
}

extension KeyBatch {
  var keys: [String] { (0..<count).map { withKey($0) { key, _ in String(decoding: key, as: UTF8.self) } } }
  var groups: [String] {
    (0..<groupCount).map { withGroup($0) { group, _ in String(decoding: group, as: UTF8.self) } }
  }
}

func bytes(hex: String) -> [UInt8] {
  var bytes: [UInt8] = []
  var high: UInt8?
  for digit in hex {
    guard let value = digit.hexDigitValue else { continue }
    if let first = high {
      bytes.append(first << 4 | UInt8(value))
      high = nil
    } else {
      high = UInt8(value)
    }
  }
  return bytes
}
