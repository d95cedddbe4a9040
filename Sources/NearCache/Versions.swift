import CLinux

/// What readers on other threads compare to know that nothing moved while they looked: a counter for each stripe of
/// hash tags, odd while an entry of the stripe is being changed.
///
/// Why that is enough, for a reader that finds the same even number before and behind what it reads (`NearReader`):
///
/// 1. Every change of the slot or the block of an entry lies between `begin` and `end` of the entry's own stripe: it is
///    inserted, its end is moved, or it leaves. Whatever else becomes of its bytes (the block is handed out again, or
///    joins its neighbour) comes behind its leaving. Fields that change while it stays (`previousSize`, the order of
///    eviction) are not read by readers.
/// 2. A reader that saw an even number with an acquiring load sees all that was written up to that `end`. So a slot
///    that it reads then names an entry that had not left by then, or came later.
/// 3. If it came later, or left later, then between the odd number and whatever the reader has read of the change stands
///    a release fence, and between that and the second look at the counter an acquire fence: having read one byte of
///    the change, the reader sees the odd number or a later one (C11, 7.17.4: the fences synchronise).
/// 4. Removing an entry moves slots of other stripes back. A slot that is moved is copied before its old place is
///    overwritten, and says the same in both. A reader that passes by in that moment may miss it, never find another.
///
/// Bytes of keys and replies are compared and copied by memcmp and memcpy, which are no atomic operations: the result
/// may be any mixture, and is thrown away then. Lengths and places are loaded whole and stay inside the mapping.
struct Versions {
  private let counters: UnsafeMutablePointer<UInt64>
  private let mask: UInt32

  /// - Parameters:
  ///   - memory: zeros, for as long as this lives.
  ///   - count: a power of two.
  init(_ memory: UnsafeMutableRawPointer, count: Int) {
    counters = memory.assumingMemoryBound(to: UInt64.self)
    mask = UInt32(count - 1)
  }

  /// As many as are of use beside a cache of so many bytes: few in a small one, which is changed seldom.
  static func count(beside bytes: Int) -> Int {
    var count = 64
    while count < 4096, count * 1024 < bytes { count *= 2 }
    return count
  }

  /// The lower bits: the upper ones say where the slot is.
  func counter(_ tag: UInt32) -> UnsafeMutablePointer<UInt64> {
    counters + Int(truncatingIfNeeded: tag & mask)
  }

  /// An entry with this tag is about to be changed. Not to be nested.
  func begin(_ tag: UInt32) {
    let counter = counter(tag)
    clinux_store64(counter, clinux_load64(counter) &+ 1)
    clinux_fence_release()
  }

  func end(_ tag: UInt32) {
    let counter = counter(tag)
    clinux_store64_release(counter, clinux_load64(counter) &+ 1)
  }

  /// The same for every entry.
  func beginAll() {
    clinux_count_all(counters, Int(mask) + 1)
    clinux_fence_release()
  }

  func endAll() { clinux_count_all(counters, Int(mask) + 1) }
}
