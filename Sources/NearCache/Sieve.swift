/// Which entry goes when there is no room: SIEVE (Zhang, Yang, Yue, Vigfusson, Rashmi, "SIEVE is Simpler
/// than LRU", NSDI 2024).
///
/// Entries stand in the order in which they came. A hit only marks its entry; nothing moves. A hand walks
/// from the oldest towards the newest, takes marks away, and evicts the first entry that has none. New
/// entries come in at the other end and are seldom reached by the hand before they have been asked for, so
/// a scan passes through without pushing out what is asked for again and again.
struct Sieve {
  /// 0 in an empty cache.
  private(set) var newest: UInt32 = 0
  private(set) var oldest: UInt32 = 0
  /// Where the hand goes on; 0: at the oldest.
  private(set) var hand: UInt32 = 0

  /// How many marks one search takes away before it evicts a marked entry: every step may be a cache miss,
  /// and an event loop must not stand still for a million of them.
  static let patience = 256

  mutating func insert(_ entry: UInt32, _ arena: borrowing Arena, _ marks: Marks) {
    arena.at(entry).pointee.older = newest
    arena.at(entry).pointee.newer = 0
    marks.clear(entry)
    if newest != 0 { arena.at(newest).pointee.newer = entry } else { oldest = entry }
    newest = entry
  }

  mutating func remove(_ entry: UInt32, _ arena: borrowing Arena) {
    let (newer, older) = (arena.at(entry).pointee.newer, arena.at(entry).pointee.older)
    if hand == entry { hand = newer }
    if newer != 0 { arena.at(newer).pointee.older = older } else { newest = older }
    if older != 0 { arena.at(older).pointee.newer = newer } else { oldest = newer }
  }

  /// The entry to evict next; 0 in an empty cache. The hand stands on it until `remove` moves it on.
  mutating func victim(_ arena: borrowing Arena, _ marks: Marks) -> UInt32 {
    if hand == 0 { hand = oldest }
    guard hand != 0 else { return 0 }
    var patience = Self.patience
    while marks.isSet(hand), patience > 0 {
      marks.clear(hand)
      let newer = arena.at(hand).pointee.newer
      hand = newer == 0 ? oldest : newer
      patience -= 1
    }
    return hand
  }

  mutating func removeAll() { self = Sieve() }

  /// How many entries the order holds, or what is wrong with it.
  func walk(_ arena: borrowing Arena) -> (count: Int, wrong: String?) {
    var count = 0
    var (entry, previous): (UInt32, UInt32) = (oldest, 0)
    var handSeen = hand == 0
    while entry != 0 {
      if arena.at(entry).pointee.isFree { return (count, "a free block stands in the order") }
      if arena.at(entry).pointee.older != previous { return (count, "the order is broken at \(entry)") }
      if entry == hand { handSeen = true }
      count += 1
      previous = entry
      entry = arena.at(entry).pointee.newer
    }
    if previous != newest { return (count, "the order does not end with the newest") }
    return (count, handSeen ? nil : "the hand is on no entry")
  }
}
