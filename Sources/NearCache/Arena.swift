/// The bytes in which entries lie, handed out in blocks of 16-byte units in constant time.
///
/// How it works. Free blocks hang in lists by size: for each power of two sixteen lists that divide it
/// evenly. Two levels of bit maps tell in two instructions which list is not empty, so a search never walks
/// (Masmano, Ripoll, Crespo, Real: "TLSF: a New Dynamic Memory Allocator for Real-Time Systems", 2004).
/// Each block knows its own size and the size of the one before it, so a block that becomes free joins its
/// free neighbours at once, and no two free blocks ever lie side by side.
///
///     | list heads, bit maps | block | block | … | block | end mark |
///
/// Places are offsets from the beginning, in units. 0 means none: the list heads lie there.
struct Arena: ~Copyable {
  let mapping: Mapping
  /// The mapping's size in units, the end mark included.
  private let units: UInt32
  /// Which powers of two have a free block.
  private var powers: UInt32 = 0
  /// Units that entries hold.
  private(set) var used: UInt32 = 0

  static let unit = 16
  /// The first block's offset: 28 powers with 16 lists of four bytes, and 28 bit maps of four bytes.
  static let firstBlock: UInt32 = 120
  /// A rest smaller than an entry's header stays with the block it was cut from.
  private static let smallestRest: UInt32 = 3
  private static let powerCount = 28
  /// The end mark is a header that says used, so that no block joins it; whole, for a header may be read
  /// whole.
  private static let endMark: UInt32 = 3
  /// Sizes have 31 bits, so 32 GiB is the most that can be used.
  static let largest = Int(EntryHeader.freeFlag) * unit - Mapping.pageSize

  /// `bytes` is a multiple of the page size and at most `largest`.
  init(bytes: Int) throws(NearCacheError) {
    mapping = try Mapping(count: bytes)
    units = UInt32(bytes / Self.unit)
    reset()
  }

  /// The most units that one block can have.
  var capacity: UInt32 { units - Self.firstBlock - Self.endMark }

  func at(_ offset: UInt32) -> UnsafeMutablePointer<EntryHeader> {
    (mapping.base + Int(truncatingIfNeeded: offset) &* 16).assumingMemoryBound(to: EntryHeader.self)
  }

  /// Forgets every block; the memory itself is left alone, and so costs no page faults again.
  mutating func reset() {
    mapping.base.initializeMemory(as: UInt8.self, repeating: 0, count: Int(Self.firstBlock) * Self.unit)
    powers = 0
    used = 0
    let end = Self.firstBlock + capacity
    at(end).pointee.sizeAndFlag = Self.endMark
    at(Self.firstBlock).pointee.previousSize = 0
    at(Self.firstBlock).pointee.sizeAndFlag = capacity
    setFree(Self.firstBlock)
  }

  // MARK: Handing out and taking back

  /// A block of at least `size` units; 0 if no free block is large enough.
  mutating func allocate(_ size: UInt32) -> UInt32 {
    var block = search(size)
    if block == 0 {
      // The lists of larger blocks are empty. The list that `size` itself belongs to holds blocks up to a
      // sixteenth larger and up to a sixteenth smaller than needed; its first is worth a look.
      let list = Self.list(for: size)
      let head = heads[list.index]
      guard head != 0, at(head).pointee.size >= size else { return 0 }
      block = head
    }
    take(block, size)
    return block
  }

  /// Takes `size` units of a block that is free and large enough.
  mutating func take(_ block: UInt32, _ size: UInt32) {
    unlink(block)
    let rest = at(block).pointee.size - size
    if rest >= Self.smallestRest {
      at(block).pointee.sizeAndFlag = size
      at(block + size).pointee.sizeAndFlag = rest
      at(block + size).pointee.previousSize = size
      setFree(block + size)
    } else {
      at(block).pointee.sizeAndFlag = size + rest
    }
    used += at(block).pointee.size
  }

  /// Takes a block back; the offset of the free block that it is a part of now.
  mutating func free(_ block: UInt32) -> UInt32 {
    var start = block
    var size = at(block).pointee.size
    used -= size
    let next = block + size
    if at(next).pointee.isFree {
      size += at(next).pointee.size
      unlink(next)
    }
    let previousSize = at(block).pointee.previousSize
    if previousSize != 0, at(block - previousSize).pointee.isFree {
      start = block - previousSize
      size += previousSize
      unlink(start)
    }
    at(start).pointee.sizeAndFlag = size
    setFree(start)
    return start
  }

  /// The entry that lies behind the free block `block` in memory, or before it if it is the last; nil if the
  /// arena holds no entry.
  func neighbour(of block: UInt32) -> UInt32? {
    let next = block + at(block).pointee.size
    if next != Self.firstBlock + capacity { return next }
    let previousSize = at(block).pointee.previousSize
    return previousSize == 0 ? nil : block - previousSize
  }

  // MARK: Free lists

  /// A power of two and one of its sixteen parts.
  struct List: Equatable {
    var power: Int
    var part: Int
    var index: Int { power * 16 + part }
  }

  /// The list that free blocks of this size hang in. Sizes below 16 have one each.
  static func list(for size: UInt32) -> List {
    guard size >= 16 else { return List(power: 0, part: Int(size)) }
    let log = 31 - size.leadingZeroBitCount
    return List(power: log - 3, part: Int(size >> UInt32(log - 4)) & 15)
  }

  private var heads: UnsafeMutablePointer<UInt32> { mapping.base.assumingMemoryBound(to: UInt32.self) }

  /// For each power, which of its parts have a free block.
  private var parts: UnsafeMutablePointer<UInt32> { heads + Self.powerCount * 16 }

  /// The first block of the first list in which every block has at least `size` units; 0 if there is none.
  private func search(_ size: UInt32) -> UInt32 {
    var least = size
    if size >= 16 { least += (1 << UInt32(31 - size.leadingZeroBitCount - 4)) - 1 }
    let list = Self.list(for: least)
    guard list.power < Self.powerCount else { return 0 }
    var power = list.power
    var candidates = parts[power] & (~0 << UInt32(list.part))
    if candidates == 0 {
      let larger = powers & (~0 << UInt32(power + 1))
      guard larger != 0 else { return 0 }
      power = larger.trailingZeroBitCount
      candidates = parts[power]
    }
    return heads[power * 16 + candidates.trailingZeroBitCount]
  }

  /// Marks a block whose size stands in its header as free, tells the block behind it, and hangs it in its
  /// list.
  private mutating func setFree(_ block: UInt32) {
    let size = at(block).pointee.size
    at(block + size).pointee.previousSize = size
    let list = Self.list(for: size)
    let head = heads[list.index]
    at(block).pointee.sizeAndFlag = size | EntryHeader.freeFlag
    at(block).pointee.newer = head
    at(block).pointee.older = 0
    if head != 0 { at(head).pointee.older = block }
    heads[list.index] = block
    parts[list.power] |= 1 << UInt32(list.part)
    powers |= 1 << UInt32(list.power)
  }

  /// Takes a free block out of its list. What it becomes is up to the caller.
  private mutating func unlink(_ block: UInt32) {
    let list = Self.list(for: at(block).pointee.size)
    let (next, previous) = (at(block).pointee.newer, at(block).pointee.older)
    if next != 0 { at(next).pointee.older = previous }
    if previous != 0 {
      at(previous).pointee.newer = next
    } else {
      heads[list.index] = next
      if next == 0 {
        parts[list.power] &= ~(1 << UInt32(list.part))
        if parts[list.power] == 0 { powers &= ~(1 << UInt32(list.power)) }
      }
    }
  }

  // MARK: Walking, for tests

  /// Calls `body` with every block in the order of addresses; nil, or what is wrong.
  func walk(_ body: (UInt32, borrowing EntryHeader) -> Void) -> String? {
    let end = Self.firstBlock + capacity
    var block = Self.firstBlock
    var previousSize: UInt32 = 0
    var wasFree = false
    var freeBlocks = 0
    var usedUnits: UInt32 = 0
    while block < end {
      let header = at(block).pointee
      if header.size == 0 { return "block \(block) has no size" }
      if header.previousSize != previousSize { return "block \(block) misjudges the one before it" }
      if header.isFree {
        if wasFree { return "two free blocks lie side by side at \(block)" }
        freeBlocks += 1
      } else {
        usedUnits += header.size
        body(block, header)
      }
      wasFree = header.isFree
      previousSize = header.size
      block += header.size
    }
    if block != end || at(end).pointee.previousSize != previousSize { return "the blocks miss the end" }
    if usedUnits != used { return "\(usedUnits) units are used, \(used) are counted" }
    return lists(freeBlocks)
  }

  private func lists(_ expected: Int) -> String? {
    var found = 0
    for index in 0..<Self.powerCount * 16 {
      var block = heads[index]
      let (power, part) = (index / 16, index % 16)
      if (block != 0) != (parts[power] >> UInt32(part) & 1 == 1) {
        return "the bit of list \(index) is wrong"
      }
      if (parts[power] != 0) != (powers >> UInt32(power) & 1 == 1) {
        return "the bit of power \(power) is wrong"
      }
      var previous: UInt32 = 0
      while block != 0 {
        let header = at(block).pointee
        if !header.isFree { return "block \(block) is in a free list and used" }
        if Self.list(for: header.size).index != index { return "block \(block) is in a wrong list" }
        if header.older != previous { return "block \(block) misjudges its list" }
        found += 1
        previous = block
        block = header.newer
      }
    }
    return found == expected ? nil : "\(found) free blocks are listed, \(expected) exist"
  }
}
