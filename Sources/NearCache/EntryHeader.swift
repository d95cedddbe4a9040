import Invalidation

/// What stands before every block of the arena. A block is an entry, or free; then only the first four
/// fields count.
///
/// An entry's key follows the header, and behind the key its reply, ready to be sent:
///
///     header (40) | key (keyCount) | "$5\r\nhello\r\n" (replyCount) | serial (0 or 4) | up to 15 bytes unused
struct EntryHeader {
  /// The block's size in units of 16 bytes; the highest bit says that it is free.
  var sizeAndFlag: UInt32
  /// The size of the block that lies before this one in memory, 0 for the first: with it, a block that
  /// becomes free finds its neighbour.
  var previousSize: UInt32
  /// Of an entry: the one inserted after it. Of a free block: the next of its free list. 0: none.
  var newer: UInt32
  /// Of an entry: the one inserted before it. Of a free block: the previous of its free list. 0: none.
  var older: UInt32

  /// Nanoseconds since boot from which on the entry is absent; `never` for an entry without an end.
  var expires: UInt64
  /// The owner's own number.
  var owner: UInt32
  var replyCount: UInt32
  /// The upper half of the key's hash: finds the slot of an entry that is to be evicted.
  var hashTag: UInt32
  var keyCount: UInt16
  /// Free.
  var unused: UInt8
  /// How many bytes of the reply stand before the value: "$5\r\n" is 4. The highest bit says that a serial of
  /// `GroupEpochs` stands behind the reply.
  var valueStartAndFlag: UInt8

  static var count: Int { 40 }
  static var never: UInt64 { .max }
  static var freeFlag: UInt32 { 0x8000_0000 }
  static var serialFlag: UInt8 { 0x80 }

  var size: UInt32 { sizeAndFlag & ~Self.freeFlag }
  var isFree: Bool { sizeAndFlag & Self.freeFlag != 0 }
  var valueStart: Int { Int(valueStartAndFlag & ~Self.serialFlag) }
  var hasSerial: Bool { valueStartAndFlag & Self.serialFlag != 0 }
}

/// An entry that was found. It points into the near cache: use it before the next call that changes the
/// cache, and do not keep it.
public struct NearEntry {
  let base: UnsafeRawPointer

  init(base: UnsafeRawPointer) { self.base = base }

  var header: UnsafePointer<EntryHeader> { base.assumingMemoryBound(to: EntryHeader.self) }

  /// The whole reply as RESP has it, `$5\r\nhello\r\n`: the same in RESP2 and RESP3.
  public var reply: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(
      start: base + EntryHeader.count + Int(header.pointee.keyCount), count: Int(header.pointee.replyCount))
  }

  /// The length of the value alone, in bytes.
  public var valueCount: Int {
    Int(header.pointee.replyCount) - header.pointee.valueStart - 2
  }

  /// Bytes that the entry takes: header, key, reply, and what its block leaves unused.
  public var memory: Int { Int(header.pointee.size) * Arena.unit }

  public var value: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(
      start: base + EntryHeader.count + Int(header.pointee.keyCount) + header.pointee.valueStart,
      count: valueCount)
  }

  /// From when on the entry is absent; nil: it has no end.
  public var expires: Instant? {
    let instant = header.pointee.expires
    return instant == EntryHeader.never ? nil : Instant(nanoseconds: instant)
  }

  /// What the owner handed to `insert`.
  public var tag: UInt32 { header.pointee.owner }

  /// The moment of `GroupEpochs` that was handed to `insert`; nil: none was.
  public var serial: UInt32? {
    guard header.pointee.hasSerial else { return nil }
    let end = EntryHeader.count + Int(header.pointee.keyCount) + Int(header.pointee.replyCount)
    return base.loadUnaligned(fromByteOffset: end, as: UInt32.self)
  }
}
