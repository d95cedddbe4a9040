import Foundation
import Invalidation
import Synchronization
import Testing

@testable import NearCache

@Suite("Reading the near cache from other threads")
struct NearReaderTests {
  /// What a value says: its key, its number, and bytes that follow from both, so that any mixture of two is noticed.
  private static func value(_ key: Int, _ version: Int, _ count: Int) -> [UInt8] {
    var state = UInt64(key) << 32 | UInt64(version)
    var bytes = Array("\(key):\(version):\(count):".utf8)
    for _ in 0..<count {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      bytes.append(UInt8(truncatingIfNeeded: state >> 56))
    }
    return bytes
  }

  /// The number of the value, if the reply is whole and of this key; nil: it is not.
  private static func version(_ reply: UnsafeRawBufferPointer, of key: Int) -> Int? {
    guard let line = reply.firstIndex(of: 10),
      let length = Int(String(decoding: reply[1..<line - 1], as: UTF8.self)),
      reply.count == line + 1 + length + 2
    else { return nil }
    let bytes = reply[(line + 1)..<(line + 1 + length)]
    let words = bytes.split(separator: UInt8(ascii: ":"), maxSplits: 3, omittingEmptySubsequences: false)
    guard words.count == 4, Int(String(decoding: words[0], as: UTF8.self)) == key,
      let version = Int(String(decoding: words[1], as: UTF8.self)),
      let count = Int(String(decoding: words[2], as: UTF8.self)), words[3].count == count,
      bytes.elementsEqual(value(key, version, count))
    else { return nil }
    return version
  }

  private static func name(_ key: Int) -> [UInt8] { Array("stress:key:\(key)".utf8) }

  private final class Shared: Sendable {
    let isOver = Atomic(false)
    let copies = Atomic(0)
    let torn = Atomic(0)
    let late = Atomic(0)
    let wrongEnd = Atomic(0)
    /// Of each key the number below which no value may be found any more.
    let floors: Mutex<[Int]>
    init(keys: Int) { floors = Mutex([Int](repeating: 0, count: keys)) }
  }

  /// One thread writes, two read; what the readers saw.
  private static func run(blindly: Bool, seconds: Double) throws -> Shared {
    let keys = 400
    var cache = try NearCache(bytes: 1 << 17, maxEntry: 1 << 16, seed: 5)
    let shared = Shared(keys: keys)
    var reader = cache.reader
    reader.trustsBlindly = blindly
    let group = DispatchGroup()
    for number in 0..<2 {
      group.enter()
      let reader = reader
      Thread.detachNewThread {
        var random = Seeded(UInt64(number))
        let room = UnsafeMutableRawPointer.allocate(byteCount: 1 << 17, alignment: 16)
        defer {
          room.deallocate()
          group.leave()
        }
        while !shared.isOver.load(ordering: .relaxed) {
          let key = Int.random(in: 0..<keys, using: &random)
          let floor = shared.floors.withLock { $0[key] }
          name(key).withUnsafeBytes { bytes in
            let hash = reader.hash(bytes)
            reader.prefetchSlot(hash)
            reader.prefetchEntry(hash)
            guard case .copied(let copy) = reader.copy(bytes, hash: hash, now: at(0), to: room, room: 1 << 17)
            else { return }
            shared.copies.add(1, ordering: .relaxed)
            let reply = UnsafeRawBufferPointer(start: room, count: copy.count)
            guard let version = Self.version(reply, of: key) else {
              shared.torn.add(1, ordering: .relaxed)
              return
            }
            if version < floor { shared.late.add(1, ordering: .relaxed) }
            // The tag and the serial say the same as the value; an end has one of two.
            let isSame =
              copy.tag == UInt32(version) && copy.serial == (version % 3 == 0 ? UInt32(version) : nil)
            if !isSame || copy.expires != .max && copy.expires != UInt64(version + 1) << 20 {
              shared.wrongEnd.add(1, ordering: .relaxed)
            }
          }
        }
      }
    }
    var random = Seeded(99)
    var version = 0
    let until = ContinuousClock.now + .seconds(seconds)
    while ContinuousClock.now < until, shared.torn.load(ordering: .relaxed) == 0 {
      for _ in 0..<200 {
        let key = Int.random(in: 0..<keys, using: &random)
        let bytes = name(key)
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<70:
          version += 1
          let count = Int.random(
            in: 0..<(Int.random(in: 0..<8, using: &random) == 0 ? 4000 : 200), using: &random)
          let value = Self.value(key, version, count)
          let (tag, serial) = (UInt32(version), version % 3 == 0 ? UInt32(version) : nil)
          let end = version % 2 == 0 ? nil : Instant(nanoseconds: UInt64(version + 1) << 20)
          bytes.withUnsafeBytes { key in
            value.withUnsafeBytes { value in
              _ = cache.insert(
                key, hash: cache.hash(key), value: value, expires: end, tag: tag, serial: serial)
            }
          }
          let newest = version
          shared.floors.withLock { $0[key] = newest }
        case 70..<90:
          _ = cache.forget(bytes)
          // Whoever asks from here on finds nothing of before.
          let next = version + 1
          shared.floors.withLock { $0[key] = next }
        case 90..<99: _ = cache.end(bytes, nil)
        default:
          if Int.random(in: 0..<20, using: &random) == 0 {
            cache.removeAll()
            let next = version + 1
            shared.floors.withLock { for key in $0.indices { $0[key] = next } }
          }
        }
      }
    }
    shared.isOver.store(true, ordering: .relaxed)
    group.wait()
    let wrong = cache.checkInvariants()
    #expect(wrong == nil)
    return shared
  }

  @Test("What a reader copies is whole, of its key, and never older than what it could have known")
  func stress() throws {
    let seen = try Self.run(blindly: false, seconds: 1)
    #expect(seen.copies.load(ordering: .relaxed) > 500)
    #expect(seen.torn.load(ordering: .relaxed) == 0)
    #expect(seen.late.load(ordering: .relaxed) == 0)
    #expect(seen.wrongEnd.load(ordering: .relaxed) == 0)
  }

  @Test("Without the versions the same readers see values that never were")
  func blind() throws {
    // On a machine that runs one thread at a time it may take a while until one is stopped in the middle.
    var wrong = 0
    for _ in 0..<20 where wrong == 0 {
      let seen = try Self.run(blindly: true, seconds: 3)
      wrong = seen.torn.load(ordering: .relaxed) + seen.wrongEnd.load(ordering: .relaxed)
    }
    #expect(wrong > 0)
  }

  private func copy(_ cache: borrowing NearCache, _ key: String, now: Instant = at(0), room: Int = 4096) -> (
    NearReader.Outcome, [UInt8]
  ) {
    var bytes = [UInt8](repeating: 0, count: room)
    let reader = cache.reader
    let outcome = Array(key.utf8).withUnsafeBytes { key in
      bytes.withUnsafeMutableBytes { out -> NearReader.Outcome in
        guard let start = out.baseAddress else { return .none }
        return reader.copy(key, hash: reader.hash(key), now: now, to: start, room: room)
      }
    }
    guard case .copied(let copy) = outcome else { return (outcome, []) }
    return (outcome, Array(bytes[..<copy.count]))
  }

  @Test("A reader finds what was inserted with all that was said of it, and nothing that has left or ended")
  func finds() throws {
    var cache = try NearCache(bytes: 1 << 18, maxEntry: 1 << 16, seed: 7)
    _ = cache.put("a", "hello", expires: at(50), tag: 9)
    let (outcome, reply) = copy(cache, "a")
    #expect(reply == Array("$5\r\nhello\r\n".utf8))
    guard case .copied(let found) = outcome else { throw CancellationError() }
    #expect(found.tag == 9 && found.serial == nil && found.expires == at(50).nanoseconds)
    #expect(copy(cache, "b").1.isEmpty)
    #expect(copy(cache, "a", now: at(50)).1.isEmpty)
    guard case .longer(11) = copy(cache, "a", room: 10).0 else { throw CancellationError() }
    let reader = cache.reader
    let hash = Array("a".utf8).withUnsafeBytes { reader.hash($0) }
    #expect(reader.isUnchanged(hash, since: found.version))
    _ = cache.end(Array("a".utf8), nil)
    #expect(!reader.isUnchanged(hash, since: found.version))
    #expect(!copy(cache, "a", now: at(50)).1.isEmpty)
    _ = cache.forget(Array("a".utf8))
    #expect(copy(cache, "a").1.isEmpty)
    _ = cache.put("a", "again")
    cache.removeAll()
    #expect(copy(cache, "a").1.isEmpty)
  }

  @Test("A reader's hit counts for who is evicted next")
  func marks() throws {
    var cache = try NearCache(bytes: 1 << 18, maxEntry: 1 << 16, seed: 7)
    var count = 0
    while cache.statistics.evictions.size == 0 {
      if count > 0 { _ = copy(cache, "k0") }
      _ = cache.put("k\(count)", String(repeating: "x", count: 100))
      count += 1
    }
    let (first, second) = (cache.get("k0"), cache.get("k1"))
    #expect(first != nil && second == nil)
  }
}
