/// Names (keys, or groups) that are about to be cleared, each once, in the order in which they were first seen;
/// flat memory, no object for a name.
///
/// `0 ..< completeCount` belongs to transactions that have ended, `completeCount ..< count` to the open one.
struct NameSet: ~Copyable {
  private var bytes: [UInt8] = []
  private var entries: [Entry] = []
  /// Open addressing over `entries`: 0 is free, otherwise an index plus one. Its size is a power of two.
  private var slots: [UInt32] = [UInt32](repeating: 0, count: 256)
  /// Complete names that the transaction in progress has named again. They are not appended once more, but
  /// they go where it goes: its changes are not cleared by an earlier transaction's clearing.
  private var repeats: [(index: UInt32, origin: KeyOrigin)] = []
  /// Random, so that nobody who writes rows can choose names that collide.
  private let seed = UInt64.random(in: .min ... .max)

  private(set) var completeCount = 0

  private struct Entry {
    var hash: UInt64
    var offset: Int
    var length: Int32
    /// Which rule's table the name came from: an index into the plan's tables, or negative.
    var table: Int32
    /// Of the last change that named it.
    var origin: KeyOrigin
    /// Whether `repeats` names it.
    var isRepeated = false
  }

  var count: Int { entries.count }

  /// Adds a name unless it is there already.
  mutating func append(_ name: UnsafeRawBufferPointer, table: Int, origin: KeyOrigin) {
    let hash = KeyHash.hash(name, seed: seed)
    if (entries.count + 1) * 2 > slots.count { grow() }
    let mask = slots.count - 1
    var at = Int(truncatingIfNeeded: hash) & mask
    while slots[at] != 0 {
      let index = Int(slots[at]) - 1
      let entry = entries[index]
      if entry.hash == hash, equals(entry, name) {
        if index >= completeCount {
          entries[index].origin = origin
        } else if !entry.isRepeated {
          entries[index].isRepeated = true
          repeats.append((UInt32(index), origin))
        }
        return
      }
      at = (at + 1) & mask
    }
    slots[at] = UInt32(entries.count + 1)
    entries.append(
      Entry(
        hash: hash, offset: bytes.count, length: Int32(name.count), table: Int32(table), origin: origin))
    bytes.append(contentsOf: name)
  }

  mutating func complete() {
    for (index, origin) in repeats { entries[Int(index)].origin = origin }
    forgetRepeats()
    completeCount = entries.count
  }

  mutating func dropOpen() {
    forgetRepeats()
    guard entries.count > completeCount else { return }
    bytes.removeSubrange(entries[completeCount].offset...)
    entries.removeSubrange(completeCount...)
    rehash(into: slots.count)
  }

  /// Memory beyond this many slots (64 KiB) is given back, so that one large transaction does not make
  /// every later batch pay for its size.
  private static let mostSlotsKept = 16_384

  mutating func removeAll() {
    if slots.count > Self.mostSlotsKept {
      bytes = []
      entries = []
      slots = [UInt32](repeating: 0, count: 256)
    } else if !entries.isEmpty {
      bytes.removeAll(keepingCapacity: true)
      entries.removeAll(keepingCapacity: true)
      rehash(into: slots.count)
    }
    repeats.removeAll(keepingCapacity: true)
    completeCount = 0
  }

  /// Moves what the transaction in progress has named into `other`.
  mutating func moveOpen(to other: inout NameSet) {
    for (index, origin) in repeats {
      with(Int(index)) { name, table in other.append(name, table: table, origin: origin) }
    }
    for index in completeCount..<entries.count {
      with(index) { name, table in other.append(name, table: table, origin: entries[index].origin) }
    }
    dropOpen()
  }

  func with<Result>(_ index: Int, _ body: (UnsafeRawBufferPointer, Int) -> Result) -> Result {
    let entry = entries[index]
    return bytes.withUnsafeBytes { all in
      body(
        UnsafeRawBufferPointer(rebasing: all[entry.offset..<entry.offset + Int(entry.length)]),
        Int(entry.table))
    }
  }

  func origin(_ index: Int) -> KeyOrigin { entries[index].origin }

  func packed(_ range: Range<Int>) -> PackedKeys {
    var names = PackedKeys()
    for index in range { with(index) { name, _ in names.append(name) } }
    return names
  }

  private mutating func forgetRepeats() {
    for (index, _) in repeats { entries[Int(index)].isRepeated = false }
    repeats.removeAll(keepingCapacity: true)
  }

  private func equals(_ entry: Entry, _ key: UnsafeRawBufferPointer) -> Bool {
    guard Int(entry.length) == key.count else { return false }
    return bytes.withUnsafeBytes { all in
      sameBytes(UnsafeRawBufferPointer(rebasing: all[entry.offset..<entry.offset + key.count]), key)
    }
  }

  private mutating func grow() { rehash(into: slots.count * 2) }

  private mutating func rehash(into size: Int) {
    if size == slots.count {
      slots.withUnsafeMutableBytes { _ = $0.initializeMemory(as: UInt8.self, repeating: 0) }
    } else {
      slots = [UInt32](repeating: 0, count: size)
    }
    let mask = size - 1
    for index in entries.indices {
      var at = Int(truncatingIfNeeded: entries[index].hash) & mask
      while slots[at] != 0 { at = (at + 1) & mask }
      slots[at] = UInt32(index + 1)
    }
  }
}
