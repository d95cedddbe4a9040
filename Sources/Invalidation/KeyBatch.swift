/// Keys and groups that are about to be cleared, each once, in the order in which they were first seen.
///
/// It holds whole transactions and, behind them, what has arrived so far of the one in progress:
/// `0 ..< completeCount` belongs to transactions that have ended, `completeCount ..< count` to the open one.
/// Groups are counted by themselves, in the same way.
public struct KeyBatch: ~Copyable {
  private var keys = NameSet()
  private var groups = NameSet()
  private var scratch: [UInt8] = []
  /// What rows of the transaction in progress ask of lookups: the lookup's index and the values.
  private var asks = NameSet()

  /// The end of the last ended transaction in the batch; zero if there is none.
  public private(set) var through = LSN.zero
  /// How many transactions have ended in this batch, those without a key included.
  public private(set) var transactions = 0
  /// When the oldest of them that named a key was committed, in microseconds since 2000-01-01; nil: none did.
  public private(set) var oldestCommit: Int64?

  public init() {}

  public var count: Int { keys.count }
  /// How many keys belong to transactions that have ended.
  public var completeCount: Int { keys.completeCount }
  public var groupCount: Int { groups.count }
  /// How many groups belong to transactions that have ended.
  public var completeGroupCount: Int { groups.completeCount }
  public var isEmpty: Bool { keys.count == 0 && groups.count == 0 && through == .zero }

  /// Adds a key unless the batch has it already.
  ///
  /// - Parameters:
  ///   - table: an index into the plan's tables; negative: no row of a table named it.
  ///   - origin: which transaction names the key now, and by which rule.
  public mutating func append(
    _ key: UnsafeRawBufferPointer, table: Int, origin: KeyOrigin = .unknown
  ) {
    keys.append(key, table: table, origin: origin)
  }

  /// Adds a group (its kind and its name, as `KeyGroup` has them) unless the batch has it already.
  public mutating func append(
    group: UnsafeRawBufferPointer, table: Int, origin: KeyOrigin = .unknown
  ) {
    groups.append(group, table: table, origin: origin)
  }

  /// Adds every key that begins with these bytes, at most `KeyGroup.longestName` of them; the rest as above.
  public mutating func appendPrefix(
    _ prefix: UnsafeRawBufferPointer, table: Int = -1, origin: KeyOrigin = .unknown
  ) {
    scratch.removeAll(keepingCapacity: true)
    scratch.append(KeyGroup.prefix)
    scratch.append(contentsOf: prefix)
    scratch.withUnsafeBytes { groups.append($0, table: table, origin: origin) }
  }

  /// Notes what a row of the transaction in progress asks of a lookup.
  mutating func ask(_ values: UnsafeRawBufferPointer, lookup: Int) {
    scratch.removeAll(keepingCapacity: true)
    scratch.append(UInt8(truncatingIfNeeded: lookup >> 8))
    scratch.append(UInt8(truncatingIfNeeded: lookup))
    scratch.append(contentsOf: values)
    scratch.withUnsafeBytes { asks.append($0, table: lookup, origin: .unknown) }
  }

  var askCount: Int { asks.count }

  /// What the transaction that ends has asked of lookups; the batch forgets it.
  mutating func takeAsks() -> [LookupAsk] {
    guard asks.count > 0 else { return [] }
    var all: [LookupAsk] = []
    for index in 0..<asks.count {
      all.append(
        asks.with(index) { bytes, lookup in LookupAsk(lookup: lookup, packed: Array(bytes.dropFirst(2))) })
    }
    asks.removeAll()
    return all
  }

  /// The open transaction has ended: its keys and groups count as complete.
  ///
  /// - Parameter committedAt: nil: nobody asks for its time.
  public mutating func complete(through end: LSN, committedAt: Int64? = nil) {
    if let committedAt { oldestCommit = min(oldestCommit ?? committedAt, committedAt) }
    precondition(end >= through, "commits are decoded in the order of their end positions")
    keys.complete()
    groups.complete()
    through = end
    transactions += 1
  }

  /// Forgets what the transaction in progress has named.
  public mutating func dropOpen() {
    keys.dropOpen()
    groups.dropOpen()
    asks.dropOpen()
  }

  public mutating func removeAll() {
    keys.removeAll()
    groups.removeAll()
    asks.removeAll()
    through = .zero
    transactions = 0
    oldestCommit = nil
  }

  /// Moves what the transaction in progress has named into `other`, which must be empty.
  public mutating func moveOpen(to other: inout KeyBatch) {
    precondition(other.isEmpty)
    keys.moveOpen(to: &other.keys)
    groups.moveOpen(to: &other.groups)
    asks.moveOpen(to: &other.asks)
  }

  public func withKey<Result>(_ index: Int, _ body: (UnsafeRawBufferPointer, Int) -> Result) -> Result {
    keys.with(index, body)
  }

  public func withGroup<Result>(_ index: Int, _ body: (UnsafeRawBufferPointer, Int) -> Result) -> Result {
    groups.with(index, body)
  }

  public func table(_ index: Int) -> Int { keys.with(index) { _, table in table } }

  public func origin(_ index: Int) -> KeyOrigin { keys.origin(index) }

  /// The origins of these keys, and behind them those of these groups.
  public func packedOrigins(_ range: Range<Int>, groups others: Range<Int> = 0..<0) -> PackedOrigins {
    var origins = PackedOrigins()
    for index in range { origins.append(keys.origin(index)) }
    for index in others { origins.append(groups.origin(index)) }
    if origins.count > 0 { origins.committedAt = oldestCommit }
    return origins
  }

  public func packed(_ range: Range<Int>) -> PackedKeys { keys.packed(range) }

  public func packedGroups(_ range: Range<Int>) -> PackedKeys { groups.packed(range) }
}
