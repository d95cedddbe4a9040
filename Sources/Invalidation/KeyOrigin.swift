import Configuration

/// Why a key was cleared: which transaction named it, and by which template of which table's rule.
public struct KeyOrigin: Hashable, Sendable {
  /// The top-level transaction id, without its epoch. Of several transactions in one batch the last that
  /// named the key; 0 if a lookup found it, for whichever.
  public var transaction: UInt32
  /// The table's place among the mapped tables in the order of their names, and the template's place among
  /// its table's in the order of their texts: the same on every sidecar of a fleet, however its file is
  /// ordered. `OriginNames` knows them.
  public var table: UInt16
  public var rule: UInt8

  public init(transaction: UInt32, table: UInt16, rule: UInt8) {
    self.transaction = transaction
    self.table = table
    self.rule = rule
  }

  /// For tests and for batches that nobody asks why.
  public static let unknown = KeyOrigin(transaction: 0, table: .max, rule: .max)

  /// A key that a transaction named itself, by `nearside.invalidate`, and no row.
  public static func named(by transaction: UInt32) -> KeyOrigin {
    KeyOrigin(transaction: transaction, table: .max, rule: .max)
  }

  public var isNamed: Bool { table == .max && rule == .max }
}

/// The tables and templates of a mapping in the order that all sidecars of a fleet agree on.
public struct OriginNames: Sendable {
  private var tables: [(name: String, templates: [String])]

  public init(tables rules: [TableRule]) {
    tables = rules.map { rule in
      (rule.qualifiedName, (rule.templates + rule.lookups.flatMap(\.keys)).map(\.text).sorted())
    }.sorted { $0.name < $1.name }
  }

  /// What an origin speaks of: `schema.table`, and the template as the file has it. nil: of another mapping,
  /// or of one with more tables or templates than an origin can tell apart.
  public subscript(origin: KeyOrigin) -> (table: String, template: String)? {
    guard origin.table != .max, origin.rule != .max, Int(origin.table) < tables.count else { return nil }
    let (name, templates) = tables[Int(origin.table)]
    return Int(origin.rule) < templates.count ? (name, templates[Int(origin.rule)]) : nil
  }

  /// The other way round, but for the transaction.
  func origin(of rule: TableRule, _ template: KeyTemplate) -> KeyOrigin {
    guard let table = tables.firstIndex(where: { $0.name == rule.qualifiedName }),
      let place = tables[table].templates.firstIndex(of: template.text)
    else { return .unknown }
    return KeyOrigin(transaction: 0, table: UInt16(clamping: table), rule: UInt8(clamping: place))
  }
}

/// One origin for each key of a journal entry and then for each of its groups, in their order: its `y` field. Seven bytes each, most
/// significant first: transaction (4), table (2), rule (1).
///
/// An entry without it tells of an application's own deletion or change of expiry.
public struct PackedOrigins: Hashable, Sendable {
  public private(set) var bytes: [UInt8] = []

  static let size = 7

  public init() {}

  /// Takes bytes as they came from the journal; nil if they are no whole number of origins.
  public init?(bytes: [UInt8]) {
    guard bytes.count % Self.size == 0 else { return nil }
    self.bytes = bytes
  }

  public var count: Int { bytes.count / Self.size }

  public mutating func append(_ origin: KeyOrigin) {
    for shift in stride(from: 24, through: 0, by: -8) {
      bytes.append(UInt8(truncatingIfNeeded: origin.transaction >> UInt32(shift)))
    }
    bytes.append(UInt8(truncatingIfNeeded: origin.table >> 8))
    bytes.append(UInt8(truncatingIfNeeded: origin.table))
    bytes.append(origin.rule)
  }

  /// The origin of the key at `index`; nil if there are fewer.
  public subscript(index: Int) -> KeyOrigin? {
    guard index >= 0, index < count else { return nil }
    let at = index * Self.size
    var transaction: UInt32 = 0
    for byte in bytes[at..<at + 4] { transaction = transaction << 8 | UInt32(byte) }
    return KeyOrigin(
      transaction: transaction, table: UInt16(bytes[at + 4]) << 8 | UInt16(bytes[at + 5]),
      rule: bytes[at + 6])
  }
}

/// What happened to a key that is to be forgotten.
public struct KeyInvalidation: Hashable, Sendable {
  /// The log position up to which the write that named the key applied changes.
  public var position: LSN
  /// nil: an application's own deletion, or change of expiry.
  public var origin: KeyOrigin?

  public init(position: LSN, origin: KeyOrigin?) {
    self.position = position
    self.origin = origin
  }
}
