/// Keys that are about to be cleared, each once, in the order in which they were first seen; flat memory,
/// no object for a key.
///
/// It holds whole transactions and, behind them, what has arrived so far of the one in progress:
/// `0 ..< completeCount` belongs to transactions that have ended, `completeCount ..< count` to the open one.
public struct KeyBatch: ~Copyable {
  private var bytes: [UInt8] = []
  private var entries: [Entry] = []
  /// Open addressing over `entries`: 0 is free, otherwise an index plus one. Its size is a power of two.
  private var slots: [UInt32] = [UInt32](repeating: 0, count: 256)

  /// How many keys belong to transactions that have ended.
  public private(set) var completeCount = 0
  /// The end of the last ended transaction in the batch; zero if there is none.
  public private(set) var through = LSN.zero
  /// How many transactions have ended in this batch, those without a key included.
  public private(set) var transactions = 0

  private struct Entry {
    var hash: UInt64
    var offset: Int
    var length: Int32
    /// Which rule's table the key came from: an index into the plan's tables.
    var table: Int32
  }

  public init() {}

  public var count: Int { entries.count }
  public var isEmpty: Bool { entries.isEmpty && through == .zero }

  /// Adds a key unless the batch has it already.
  public mutating func append(_ key: UnsafeRawBufferPointer, table: Int) {
    let hash = KeyHash.hash(key, seed: 0)
    if (entries.count + 1) * 2 > slots.count { grow() }
    let mask = slots.count - 1
    var at = Int(truncatingIfNeeded: hash) & mask
    while slots[at] != 0 {
      let entry = entries[Int(slots[at]) - 1]
      if entry.hash == hash, equals(entry, key) { return }
      at = (at + 1) & mask
    }
    slots[at] = UInt32(entries.count + 1)
    entries.append(
      Entry(hash: hash, offset: bytes.count, length: Int32(key.count), table: Int32(table)))
    bytes.append(contentsOf: key)
  }

  /// The open transaction has ended: its keys count as complete.
  public mutating func complete(through end: LSN) {
    precondition(end >= through, "commits are decoded in the order of their end positions")
    completeCount = entries.count
    through = end
    transactions += 1
  }

  /// Forgets the keys of the transaction in progress.
  public mutating func dropOpen() {
    guard entries.count > completeCount else { return }
    bytes.removeSubrange(entries[completeCount].offset...)
    entries.removeSubrange(completeCount...)
    rehash(into: slots.count)
  }

  public mutating func removeAll() {
    bytes.removeAll(keepingCapacity: true)
    entries.removeAll(keepingCapacity: true)
    rehash(into: slots.count)
    completeCount = 0
    through = .zero
    transactions = 0
  }

  /// Moves the keys of the transaction in progress into `other`, which must be empty.
  public mutating func moveOpen(to other: inout KeyBatch) {
    precondition(other.isEmpty)
    for index in completeCount..<entries.count {
      withKey(index) { key, table in other.append(key, table: table) }
    }
    dropOpen()
  }

  public func withKey<Result>(_ index: Int, _ body: (UnsafeRawBufferPointer, Int) -> Result) -> Result {
    let entry = entries[index]
    return bytes.withUnsafeBytes { all in
      body(
        UnsafeRawBufferPointer(rebasing: all[entry.offset..<entry.offset + Int(entry.length)]),
        Int(entry.table))
    }
  }

  public func table(_ index: Int) -> Int { Int(entries[index].table) }

  public func packed(_ range: Range<Int>) -> PackedKeys {
    var keys = PackedKeys()
    for index in range { withKey(index) { key, _ in keys.append(key) } }
    return keys
  }

  private func equals(_ entry: Entry, _ key: UnsafeRawBufferPointer) -> Bool {
    guard Int(entry.length) == key.count else { return false }
    return bytes.withUnsafeBytes { all in
      all[entry.offset..<entry.offset + key.count].elementsEqual(key)
    }
  }

  private mutating func grow() { rehash(into: slots.count * 2) }

  private mutating func rehash(into size: Int) {
    slots = [UInt32](repeating: 0, count: size)
    let mask = size - 1
    for index in entries.indices {
      var at = Int(truncatingIfNeeded: entries[index].hash) & mask
      while slots[at] != 0 { at = (at + 1) & mask }
      slots[at] = UInt32(index + 1)
    }
  }
}
