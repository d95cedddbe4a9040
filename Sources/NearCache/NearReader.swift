import CLinux
import Glibc
import Invalidation

/// Reads a near cache on any thread while one thread changes it, without a lock: looks up, copies the reply out, and
/// then looks whether the entry's stripe was changed meanwhile (`Versions` says why that is enough). It writes nothing
/// but SIEVE's marks.
///
/// `@unchecked Sendable`: all that it holds are addresses of mappings whose places and lengths never change; what lies
/// there is loaded whole, or copied and judged by the stripe's version. Whoever keeps one sees to it that the near
/// cache outlives it.
public struct NearReader: @unchecked Sendable {
  private let slots: UnsafeMutablePointer<UInt64>
  private let slotCount: Int
  private let arena: UnsafeMutableRawPointer
  private let arenaCount: Int
  private let versions: Versions
  private let marks: Marks
  private let seed: UInt64
  /// For a test that shows what the versions are for.
  var trustsBlindly = false

  /// What was found.
  public struct Copy {
    /// How many bytes of the reply were written.
    public var count: Int
    /// What the owner handed to `insert`.
    public var tag: UInt32
    /// The moment of `GroupEpochs` that was handed to `insert`; nil: none was.
    public var serial: UInt32?
    /// When the entry ends, in nanoseconds since boot; `.max`: never.
    public var expires: UInt64
    /// For `isUnchanged`.
    public var version: UInt64
  }

  public enum Outcome {
    /// There is no entry, it has ended, or it was being changed: whoever owns the cache knows better.
    case none
    /// The reply has so many bytes, and there is less room.
    case longer(Int)
    case copied(Copy)
  }

  /// Slots that are looked at: far more than lie between a key and its home in a table that is three quarters full.
  private static let longestProbe = 256
  private static let attempts = 3

  init(_ cache: borrowing NearCache) {
    slots = cache.table.slots
    slotCount = cache.table.count
    arena = cache.arena.mapping.base
    arenaCount = cache.arena.mapping.count
    versions = cache.versions
    marks = cache.marks
    seed = cache.seed
  }

  /// The hash that the other calls want.
  public func hash(_ key: UnsafeRawBufferPointer) -> UInt64 { KeyHash.hash(key, seed: seed) }

  /// First pass: asks the memory for the slot and its version.
  public func prefetchSlot(_ hash: UInt64) {
    let tag = SlotTable.tag(hash)
    clinux_prefetch(slots + SlotTable.home(tag, slotCount))
    clinux_prefetch(versions.counter(tag))
  }

  /// Second pass: reads the slot and asks the memory for the entry, its first two cache lines, and its mark.
  public func prefetchEntry(_ hash: UInt64) {
    let tag = SlotTable.tag(hash)
    var index = SlotTable.home(tag, slotCount)
    for _ in 0..<8 {
      let slot = clinux_load64(slots + index)
      if slot == 0 { return }
      if SlotTable.tagOf(slot) == tag {
        // An address is not looked at by a prefetch, so it may be any.
        let entry = UnsafeRawPointer(arena + Int(SlotTable.offset(slot)) &* Arena.unit)
        clinux_prefetch(entry)
        clinux_prefetch(entry + 64)
        return marks.prefetch(SlotTable.offset(slot))
      }
      index = index &+ 1 == slotCount ? 0 : index &+ 1
    }
  }

  /// Third pass: copies the reply under `key` to `out`, which has room for `room` bytes. What stands there is of no
  /// worth unless the result is `copied`.
  public func copy(
    _ key: UnsafeRawBufferPointer, hash: UInt64, now: Instant, to out: UnsafeMutableRawPointer, room: Int
  ) -> Outcome {
    for _ in 0..<Self.attempts {
      if let outcome = attempt(key, SlotTable.tag(hash), now, out, room) { return outcome }
    }
    return .none
  }

  /// Whether the entry, and every other of its stripe, is still what it was when it was copied with this version: asked
  /// of several, it says that all of them were there at one moment.
  public func isUnchanged(_ hash: UInt64, since version: UInt64) -> Bool {
    // What was copied before is not read later than the counter.
    clinux_fence_acquire()
    return clinux_load64(versions.counter(SlotTable.tag(hash))) == version
  }

  /// nil: the stripe was changed meanwhile.
  private func attempt(
    _ key: UnsafeRawBufferPointer, _ tag: UInt32, _ now: Instant, _ out: UnsafeMutableRawPointer, _ room: Int
  ) -> Outcome? {
    let counter = versions.counter(tag)
    let version = clinux_load64_acquire(counter)
    if version & 1 != 0, !trustsBlindly { return nil }
    var index = SlotTable.home(tag, slotCount)
    for _ in 0..<Self.longestProbe {
      let slot = clinux_load64(slots + index)
      if slot == 0 { return Outcome.none }
      if SlotTable.tagOf(slot) == tag {
        let start = Int(SlotTable.offset(slot)) &* Arena.unit
        guard start + EntryHeader.count <= arenaCount else { return nil }
        let header = UnsafeRawPointer(arena + start)
        if Int(clinux_load16(header.half(EntryHeader.keyCountOffset))) == key.count,
          start + EntryHeader.count + key.count <= arenaCount,
          isSame(header + EntryHeader.count, key)
        {
          guard let outcome = take(header, start, key.count, version, now, out, room),
            isStill(counter, version)
          else { return nil }
          if case .copied = outcome { marks.set(SlotTable.offset(slot)) }
          return outcome
        }
      }
      index = index &+ 1 == slotCount ? 0 : index &+ 1
    }
    return Outcome.none
  }

  private func isSame(_ bytes: UnsafeRawPointer, _ key: UnsafeRawBufferPointer) -> Bool {
    guard let start = key.baseAddress, key.count > 0 else { return true }
    return memcmp(bytes, start, key.count) == 0
  }

  /// Copies the reply of the block that begins at `start`. nil: what stands there cannot be an entry.
  private func take(
    _ header: UnsafeRawPointer, _ start: Int, _ keyCount: Int, _ version: UInt64, _ now: Instant,
    _ out: UnsafeMutableRawPointer, _ room: Int
  ) -> Outcome? {
    let expires = clinux_load64(header.double(EntryHeader.expiresOffset))
    if expires <= now.nanoseconds { return Outcome.none }
    let count = Int(clinux_load32(header.word(EntryHeader.replyCountOffset)))
    let flags = clinux_load8(header.byte(EntryHeader.flagOffset))
    let hasSerial = flags & EntryHeader.serialFlag != 0
    let reply = start + EntryHeader.count + keyCount
    guard reply + count + (hasSerial ? 4 : 0) <= arenaCount else { return nil }
    guard count <= room else { return .longer(count) }
    memcpy(out, arena + reply, count)
    return .copied(
      Copy(
        count: count, tag: clinux_load32(header.word(EntryHeader.ownerOffset)),
        serial: hasSerial
          ? UnsafeRawPointer(arena).loadUnaligned(fromByteOffset: reply + count, as: UInt32.self) : nil,
        expires: expires, version: version))
  }

  private func isStill(_ counter: UnsafeMutablePointer<UInt64>, _ version: UInt64) -> Bool {
    clinux_fence_acquire()
    return clinux_load64(counter) == version || trustsBlindly
  }
}

extension EntryHeader {
  fileprivate static let expiresOffset = offset(\.expires)
  fileprivate static let ownerOffset = offset(\.owner)
  fileprivate static let replyCountOffset = offset(\.replyCount)
  fileprivate static let keyCountOffset = offset(\.keyCount)
  fileprivate static let flagOffset = offset(\.valueStartAndFlag)

  private static func offset(_ field: PartialKeyPath<EntryHeader>) -> Int {
    guard let offset = MemoryLayout<EntryHeader>.offset(of: field) else { preconditionFailure("no field") }
    return offset
  }
}

extension UnsafeRawPointer {
  fileprivate func byte(_ offset: Int) -> UnsafePointer<UInt8> {
    (self + offset).assumingMemoryBound(to: UInt8.self)
  }
  fileprivate func half(_ offset: Int) -> UnsafePointer<UInt16> {
    (self + offset).assumingMemoryBound(to: UInt16.self)
  }
  fileprivate func word(_ offset: Int) -> UnsafePointer<UInt32> {
    (self + offset).assumingMemoryBound(to: UInt32.self)
  }
  fileprivate func double(_ offset: Int) -> UnsafePointer<UInt64> {
    (self + offset).assumingMemoryBound(to: UInt64.self)
  }
}
