import CLinux
import Glibc
import Invalidation

/// What this host remembers: replies, ready to be sent, under whole keys, in a fixed amount of memory.
///
/// It knows nothing of freshness; whoever serves from it asks the `Follower` first. One thread uses it; others may read
/// it meanwhile through a `NearReader`. Places are 32-bit offsets into one mapping, not pointers, so that later
/// readers may map the same bytes elsewhere.
///
/// A read batch goes over its keys in passes, so that the memory of one key arrives while the next is looked
/// at: `hash` and `prefetchSlot` for all, then `prefetchEntry` for all, then `find` for all. None of these
/// allocates or counts references. They are plain calls, not `@inlinable`: Swift 6.3.1's optimiser stops with an
/// assertion on the setters of non-copyable fields that inlinable code may reach.
public struct NearCache: ~Copyable {
  let seed: UInt64
  var arena: Arena
  var table: SlotTable
  /// The versions, and behind them the marks.
  private let side: Mapping
  let versions: Versions
  let marks: Marks
  private var sieve = Sieve()
  private let maxEntry: Int
  private let limit: Int
  var hits: UInt64 = 0
  var misses: UInt64 = 0
  private var evictions = NearStatistics.Evictions()
  /// By the kind of entries, counted as they come and go.
  private var holdings: [NearStatistics.Holding]

  /// The least memory that a near cache works in, in bytes.
  public static var leastBytes: Int { 16 * Mapping.pageSize }
  /// One slot for so many bytes of the whole: with entries of 176 bytes (a value of 100) two of five slots
  /// are taken, with entries of 100 bytes all that may be.
  private static let bytesPerSlot = 80
  /// How many entries go by SIEVE's choice before room is made by clearing one place of the arena.
  private static let victimsBeforeClearing = 16

  /// Takes the memory from the system; a page of it is resident only once it was used.
  ///
  /// - Parameters:
  ///   - bytes: the bound of everything: slots, headers, keys and replies. At least `leastBytes`; of more
  ///     than 32 GiB and the slots for it, the rest stays unused.
  ///   - maxEntry: the longest reply kept, in bytes, its `$…` line and ends of lines included.
  ///   - seed: random for each process, so that nobody can choose keys that collide.
  ///   - kinds: how many kinds of entries `statistics` tells apart. The kind of an entry is its tag without the lowest
  ///     8 bits; kinds beyond these are counted with the first.
  public init(bytes: Int, maxEntry: Int, seed: UInt64, kinds: Int = 1) throws(NearCacheError) {
    guard bytes >= Self.leastBytes else { throw .tooSmall(bytes: bytes, least: Self.leastBytes) }
    let page = Mapping.pageSize
    let slotBytes = (bytes / Self.bytesPerSlot * 8 + page - 1) / page * page
    let table = try SlotTable(bytes: slotBytes)
    let stripes = Versions.count(beside: bytes)
    let arenaMost = min(bytes - slotBytes, Arena.largest)
    let sideBytes = (stripes * 8 + Marks.count(forArena: arenaMost) + page - 1) / page * page
    let side = try Mapping(count: sideBytes)
    let arena = try Arena(
      bytes: min((bytes - slotBytes - sideBytes) / page * page, Arena.largest / page * page))
    self.table = table
    self.arena = arena
    holdings = Array(repeating: NearStatistics.Holding(), count: max(1, kinds))
    versions = Versions(side.base, count: stripes)
    marks = Marks(side.base + stripes * 8)
    self.side = side
    self.maxEntry = maxEntry
    self.limit = bytes
    self.seed = seed
  }

  // MARK: Finding

  /// The hash that the other calls want.
  public func hash(_ key: UnsafeRawBufferPointer) -> UInt64 { KeyHash.hash(key, seed: seed) }

  /// First pass: asks the memory for the slot.
  public func prefetchSlot(_ hash: UInt64) { table.prefetch(hash) }

  /// Second pass: reads the slot and asks the memory for the entry, its first two cache lines.
  public func prefetchEntry(_ hash: UInt64) {
    let tag = SlotTable.tag(hash)
    var index = table.home(tag)
    while true {
      let slot = table.slots[index]
      if slot == 0 { return }
      if SlotTable.tagOf(slot) == tag {
        let entry = UnsafeRawPointer(arena.at(SlotTable.offset(slot)))
        clinux_prefetch(entry)
        clinux_prefetch(entry + 64)
        marks.prefetch(SlotTable.offset(slot))
        return
      }
      index = table.next(index)
    }
  }

  /// Third pass: the entry under `key`, if there is one and it has not expired. An expired one is removed.
  public mutating func find(
    _ key: UnsafeRawBufferPointer, hash: UInt64, now: Instant
  ) -> NearEntry? {
    let offset = locate(key, SlotTable.tag(hash))
    if offset == 0 {
      misses &+= 1
      return nil
    }
    let header = arena.at(offset)
    if header.pointee.expires <= now.nanoseconds {
      expire(offset)
      misses &+= 1
      return nil
    }
    marks.set(offset)
    hits &+= 1
    return NearEntry(base: UnsafeRawPointer(header))
  }

  /// Whether there is an entry under `key`, be it expired; nobody counts this as a look-up.
  public func contains(_ key: UnsafeRawBufferPointer) -> Bool {
    locate(key, SlotTable.tag(hash(key))) != 0
  }

  /// The offset of the entry under `key`; 0 if there is none.
  func locate(_ key: UnsafeRawBufferPointer, _ tag: UInt32) -> UInt32 {
    var index = table.home(tag)
    while true {
      let slot = table.slots[index]
      if slot == 0 { return 0 }
      if SlotTable.tagOf(slot) == tag {
        let offset = SlotTable.offset(slot)
        let header = arena.at(offset)
        if Int(header.pointee.keyCount) == key.count {
          guard let bytes = key.baseAddress, key.count > 0 else { return offset }
          if memcmp(UnsafeRawPointer(header) + EntryHeader.count, bytes, key.count) == 0 { return offset }
        }
      }
      index = table.next(index)
    }
  }

  // MARK: Changing

  /// Keeps `value` under `key`, in place of what was there, and makes room by evicting others.
  ///
  /// False if it is not kept: its reply is longer than `maxEntry`, the key longer than a governed key can be,
  /// or both do not fit into the whole arena. What was under `key` is gone in that case too, because it is
  /// older than what could not be kept. Neither argument may point into this cache.
  ///
  /// - Parameters:
  ///   - tag: the owner's own number.
  ///   - serial: for a key that belongs to groups, when its value was asked for, as `GroupEpochs` counts.
  public mutating func insert(
    _ key: UnsafeRawBufferPointer, hash: UInt64, value: UnsafeRawBufferPointer, expires: Instant?,
    tag: UInt32,
    serial: UInt32? = nil
  ) -> Bool {
    let hashTag = SlotTable.tag(hash)
    let present = locate(key, hashTag)
    if present != 0 { _ = drop(present) }

    let valueStart = 1 + Self.digits(value.count) + 2
    let replyCount = valueStart + value.count + 2
    let count = EntryHeader.count + key.count + replyCount + (serial == nil ? 0 : 4)
    guard replyCount <= maxEntry, key.count <= PackedKeys.longestKey,
      let size = UInt32(exactly: (count + Arena.unit - 1) / Arena.unit),
      size <= arena.capacity
    else { return false }

    if table.isFull { _ = evictOne() }
    let entry = allocate(size)
    versions.begin(hashTag)
    defer { versions.end(hashTag) }
    let header = arena.at(entry)
    header.pointee.expires = expires?.nanoseconds ?? EntryHeader.never
    header.pointee.owner = tag
    header.pointee.replyCount = UInt32(replyCount)
    header.pointee.hashTag = hashTag
    header.pointee.keyCount = UInt16(key.count)
    header.pointee.valueStartAndFlag = UInt8(valueStart) | (serial == nil ? 0 : EntryHeader.serialFlag)
    let keyStart = UnsafeMutableRawPointer(header) + EntryHeader.count
    if let bytes = key.baseAddress { keyStart.copyMemory(from: bytes, byteCount: key.count) }
    Self.write(value, reply: keyStart + key.count, valueStart: valueStart)
    if let serial { (keyStart + key.count + replyCount).storeBytes(of: serial, as: UInt32.self) }
    sieve.insert(entry, arena, marks)
    table.insert(hashTag, offset: entry)
    weigh(entry, 1)
    return true
  }

  /// Counts an entry that has come (1) or goes (-1).
  private mutating func weigh(_ entry: UInt32, _ change: Int) {
    let kind = Int(arena.at(entry).pointee.owner >> 8)
    let index = kind < holdings.count ? kind : 0
    holdings[index].entries += change
    holdings[index].bytes += change * Int(arena.at(entry).pointee.size) * Arena.unit
  }

  /// Gives the entry under `key` another end, or none; false if there is no entry.
  public mutating func setExpiry(_ key: UnsafeRawBufferPointer, hash: UInt64, expires: Instant?) -> Bool {
    let entry = locate(key, SlotTable.tag(hash))
    guard entry != 0 else { return false }
    versions.begin(SlotTable.tag(hash))
    arena.at(entry).pointee.expires = expires?.nanoseconds ?? EntryHeader.never
    versions.end(SlotTable.tag(hash))
    return true
  }

  /// Forgets `key` because it was invalidated or written; false if there was no entry.
  @discardableResult
  public mutating func remove(_ key: UnsafeRawBufferPointer, hash: UInt64) -> Bool {
    let entry = locate(key, SlotTable.tag(hash))
    guard entry != 0 else { return false }
    _ = drop(entry)
    evictions.invalidated += 1
    return true
  }

  /// Forgets everything, without touching an entry: the slots' pages go back to the system, the arena becomes
  /// one free block and keeps its pages, since they are within the bound and about to be used again.
  public mutating func removeAll() {
    evictions.flush += UInt64(table.taken)
    versions.beginAll()
    table.removeAll()
    arena.reset()
    sieve.removeAll()
    versions.endAll()
    for index in holdings.indices { holdings[index] = NearStatistics.Holding() }
  }

  mutating func expire(_ entry: UInt32) {
    _ = drop(entry)
    evictions.expired += 1
  }

  /// Takes an entry out of everything; the free block that it became a part of.
  private mutating func drop(_ entry: UInt32) -> UInt32 {
    let hashTag = arena.at(entry).pointee.hashTag
    weigh(entry, -1)
    versions.begin(hashTag)
    defer { versions.end(hashTag) }
    table.remove(hashTag, offset: entry)
    sieve.remove(entry, arena)
    return arena.free(entry)
  }

  private mutating func evictOne() -> UInt32 {
    evictions.size += 1
    return drop(sieve.victim(arena, marks))
  }

  /// A block of `size` units, which the arena as a whole has. Evicts what it takes.
  ///
  /// Mostly the first victim's place is large enough. Where entries differ in size, free places may lie
  /// scattered, and evicting in SIEVE's order until two meet could cost most of the cache for one large
  /// entry. So after a few victims the last one's neighbours in memory go, until the place is large enough:
  /// at most `size` units and one entry more.
  private mutating func allocate(_ size: UInt32) -> UInt32 {
    var block = arena.allocate(size)
    guard block == 0 else { return block }
    var place: UInt32 = 0
    for _ in 0..<Self.victimsBeforeClearing where table.taken > 0 {
      place = evictOne()
      block = arena.allocate(size)
      if block != 0 { return block }
    }
    precondition(place != 0, "an empty arena has room for every entry that is let in")
    while arena.at(place).pointee.size < size {
      guard let neighbour = arena.neighbour(of: place) else { preconditionFailure("no entry, and no room") }
      evictions.size += 1
      place = drop(neighbour)
    }
    arena.take(place, size)
    return place
  }

  // MARK: Replies

  private static func digits(_ number: Int) -> Int {
    var (rest, count) = (number / 10, 1)
    while rest > 0 {
      rest /= 10
      count += 1
    }
    return count
  }

  private static func write(
    _ value: UnsafeRawBufferPointer, reply: UnsafeMutableRawPointer, valueStart: Int
  ) {
    let (carriageReturn, lineFeed) = (UInt8(ascii: "\r"), UInt8(ascii: "\n"))
    reply.storeBytes(of: UInt8(ascii: "$"), as: UInt8.self)
    var rest = value.count
    for index in stride(from: valueStart - 3, through: 1, by: -1) {
      reply.storeBytes(of: UInt8(ascii: "0") + UInt8(rest % 10), toByteOffset: index, as: UInt8.self)
      rest /= 10
    }
    reply.storeBytes(of: carriageReturn, toByteOffset: valueStart - 2, as: UInt8.self)
    reply.storeBytes(of: lineFeed, toByteOffset: valueStart - 1, as: UInt8.self)
    if let bytes = value.baseAddress {
      (reply + valueStart).copyMemory(from: bytes, byteCount: value.count)
    }
    reply.storeBytes(of: carriageReturn, toByteOffset: valueStart + value.count, as: UInt8.self)
    reply.storeBytes(of: lineFeed, toByteOffset: valueStart + value.count + 1, as: UInt8.self)
  }

  // MARK: Looking at it

  public var statistics: NearStatistics {
    NearStatistics(
      entries: table.taken, bytes: Int(arena.used) * Arena.unit, capacity: Int(arena.capacity) * Arena.unit,
      limit: limit, hits: hits, misses: misses, evictions: evictions, holdings: holdings)
  }

  /// Reads it from other threads; not to be used any more when this is gone.
  public var reader: NearReader { NearReader(self) }

  /// The memory taken from the system, in bytes: never more than what `init` was given.
  var mapped: Int { arena.mapping.count + table.mapping.count + side.count }

  /// Walks everything and says what is wrong; nil if nothing is.
  func checkInvariants() -> String? {
    if mapped > limit { return "\(mapped) bytes are mapped, \(limit) are allowed" }
    var entries = 0
    var found = Array(repeating: NearStatistics.Holding(), count: holdings.count)
    var wrong: String?
    let blocks = arena.walk { offset, header in
      entries += 1
      let kind = Int(header.owner >> 8) < found.count ? Int(header.owner >> 8) : 0
      found[kind].entries += 1
      found[kind].bytes += Int(header.size) * Arena.unit
      let block = UnsafeRawPointer(arena.at(offset))
      let key = UnsafeRawBufferPointer(start: block + EntryHeader.count, count: Int(header.keyCount))
      if locate(key, header.hashTag) != offset { wrong = "the entry at \(offset) is not found" }
      if SlotTable.tag(hash(key)) != header.hashTag { wrong = "the entry at \(offset) has a wrong tag" }
      let behind = Int(header.replyCount) + (header.hasSerial ? 4 : 0)
      if EntryHeader.count + Int(header.keyCount) + behind > Int(header.size) * Arena.unit {
        wrong = "the entry at \(offset) is longer than its block"
      }
    }
    if let wrong = blocks ?? wrong { return wrong }
    if entries != table.taken { return "\(entries) entries, \(table.taken) slots taken" }
    if found != holdings { return "what entries of each kind take is \(found), counted were \(holdings)" }
    let order = sieve.walk(arena)
    if let wrong = order.wrong { return wrong }
    if order.count != entries { return "\(entries) entries, \(order.count) in the order of eviction" }
    let slots = (0..<table.count).count { table.slots[$0] != 0 }
    return slots == entries ? nil : "\(entries) entries, \(slots) slots in use"
  }
}
