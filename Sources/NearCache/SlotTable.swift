import CLinux

/// From hashes to places in the arena: open addressing with linear probing over 8-byte slots, each the upper
/// half of a hash (the tag) and an offset. It never grows.
///
/// A slot's home follows from its tag alone, `tag * count / 2^32`, so deleting an entry moves its successors
/// back without reading one of them in the arena. Any number of slots will do, not only powers of two.
struct SlotTable: ~Copyable {
  let mapping: Mapping
  /// How many slots there are.
  let count: Int
  /// How many may be taken: three quarters, so that a probe for an absent key looks at eight slots or so.
  let limit: Int
  private(set) var taken = 0

  /// `bytes` is a multiple of the page size.
  init(bytes: Int) throws(NearCacheError) {
    mapping = try Mapping(count: bytes)
    // A tag has 32 bits, so more slots than that would never be a home.
    count = min(bytes / 8, 1 << 32)
    limit = count / 4 * 3
  }

  var slots: UnsafeMutablePointer<UInt64> { mapping.base.assumingMemoryBound(to: UInt64.self) }

  static func tag(_ hash: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: hash >> 32) }

  func home(_ tag: UInt32) -> Int { Self.home(tag, count) }

  static func home(_ tag: UInt32, _ count: Int) -> Int {
    Int(truncatingIfNeeded: (UInt64(tag) &* UInt64(truncatingIfNeeded: count)) >> 32)
  }

  func next(_ index: Int) -> Int { index &+ 1 == count ? 0 : index &+ 1 }

  /// The offset in a slot; 0 in an empty one, for the arena's first bytes hold no block.
  static func offset(_ slot: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: slot) }

  static func tagOf(_ slot: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: slot >> 32) }

  func prefetch(_ hash: UInt64) { clinux_prefetch(slots + home(Self.tag(hash))) }

  var isFull: Bool { taken >= limit }

  mutating func insert(_ tag: UInt32, offset: UInt32) {
    precondition(!isFull)
    var index = home(tag)
    while slots[index] != 0 { index = next(index) }
    clinux_store64(slots + index, UInt64(tag) << 32 | UInt64(offset))
    taken += 1
  }

  mutating func remove(_ tag: UInt32, offset: UInt32) {
    let wanted = UInt64(tag) << 32 | UInt64(offset)
    var hole = home(tag)
    while slots[hole] != wanted {
      precondition(slots[hole] != 0, "an entry without a slot")
      hole = next(hole)
    }
    // Every later slot of the run moves into the hole, unless its home lies behind the hole.
    var index = next(hole)
    while slots[index] != 0 {
      let home = home(Self.tagOf(slots[index]))
      if distance(from: home, to: index) >= distance(from: hole, to: index) {
        clinux_store64(slots + hole, slots[index])
        hole = index
      }
      index = next(index)
    }
    clinux_store64(slots + hole, 0)
    taken -= 1
  }

  /// How many steps `next` takes from one slot to another.
  func distance(from: Int, to: Int) -> Int { to >= from ? to - from : to - from + count }

  mutating func removeAll() {
    mapping.clear()
    taken = 0
  }
}
