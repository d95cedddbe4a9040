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
  /// What was done with the row; nil: not known, or no row named the key.
  public var operation: RowOperation?

  public init(transaction: UInt32, table: UInt16, rule: UInt8, operation: RowOperation? = nil) {
    self.operation = operation
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
    guard table < PackedOrigins.mostTables else { return .unknown }
    return KeyOrigin(transaction: 0, table: UInt16(table), rule: UInt8(clamping: place))
  }
}

/// One origin for each key of a journal entry and then for each of its groups, in their order: its `y` field. Seven
/// bytes each, most significant first: transaction (4), operation (3 bits) and table (13 bits), rule (1). The
/// operation is 1 for an insert, 2 for an update, 3 for a delete, 0 for none; all 16 bits set are no table. Behind
/// the last one may stand eight bytes, the time at which the oldest transaction of the batch was committed.
///
/// An entry without it tells of an application's own deletion or change of expiry.
public struct PackedOrigins: Hashable, Sendable {
  public private(set) var bytes: [UInt8] = []

  static let size = 7
  static let mostTables = 0x1fff
  private static let timeSize = 8
  private static let operations: [RowOperation?] = [nil, .insert, .update, .delete]

  public init() {}

  /// Takes bytes as they came from the journal; nil if they are no whole number of origins, with or without a time.
  public init?(bytes: [UInt8]) {
    guard bytes.count % Self.size == 0 || bytes.count % Self.size == 1 && bytes.count >= Self.timeSize else {
      return nil
    }
    self.bytes = bytes
  }

  private var hasTime: Bool { bytes.count % Self.size == 1 }

  public var count: Int { (bytes.count - (hasTime ? Self.timeSize : 0)) / Self.size }

  /// When the oldest transaction of the batch that named a key was committed, in microseconds since 2000-01-01 by the
  /// clock of the primary; nil: not known. Set behind the last origin.
  public var committedAt: Int64? {
    get {
      guard hasTime else { return nil }
      return Int64(bitPattern: bytes.suffix(Self.timeSize).reduce(0) { $0 << 8 | UInt64($1) })
    }
    set {
      if hasTime { bytes.removeLast(Self.timeSize) }
      guard let newValue else { return }
      let bits = UInt64(bitPattern: newValue)
      for shift in stride(from: 56, through: 0, by: -8) {
        bytes.append(UInt8(truncatingIfNeeded: bits >> shift))
      }
    }
  }

  public mutating func append(_ origin: KeyOrigin) {
    precondition(!hasTime, "the time stands behind all origins")
    let operation = UInt16(Self.operations.firstIndex(of: origin.operation) ?? 0)
    let place = origin.table < Self.mostTables ? operation << 13 | origin.table : .max
    for shift in stride(from: 24, through: 0, by: -8) {
      bytes.append(UInt8(truncatingIfNeeded: origin.transaction >> UInt32(shift)))
    }
    bytes.append(UInt8(truncatingIfNeeded: place >> 8))
    bytes.append(UInt8(truncatingIfNeeded: place))
    bytes.append(origin.rule)
  }

  /// The origin of the key at `index`; nil if there are fewer.
  public subscript(index: Int) -> KeyOrigin? {
    guard let number = number(at: index) else { return nil }
    let place = UInt16(truncatingIfNeeded: number >> 8)
    let operation = Int(place >> 13)
    return KeyOrigin(
      transaction: UInt32(truncatingIfNeeded: number >> 24), table: place == .max ? .max : place & 0x1fff,
      rule: UInt8(truncatingIfNeeded: number),
      operation: operation < Self.operations.count ? Self.operations[operation] : nil)
  }

  /// The seven bytes as a number, which is another for every other origin; nil if there are fewer origins.
  private func number(at index: Int) -> UInt64? {
    guard index >= 0, index < count else { return nil }
    return bytes.withUnsafeBytes { bytes in
      bytes[(index * Self.size)..<((index + 1) * Self.size)].reduce(0) { $0 << 8 | UInt64($1) }
    }
  }

  /// How many keys and groups each origin has; in any order.
  public func counted() -> [(origin: KeyOrigin, keys: Int)] {
    var first: [UInt64: Int] = [:]
    var counts: [(origin: KeyOrigin, keys: Int)] = []
    // Most follow one of their own kind.
    var last: (number: UInt64, at: Int)?
    for index in 0..<count {
      guard let number = number(at: index) else { continue }
      if let last, last.number == number {
        counts[last.at].keys += 1
        continue
      }
      if let known = first[number] {
        last = (number, known)
        counts[known].keys += 1
      } else if let origin = self[index] {
        last = (number, counts.count)
        first[number] = counts.count
        counts.append((origin, 1))
      }
    }
    return counts
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
