import Glibc
import Invalidation
import Testing

@testable import NearCache

@Suite("The near cache")
struct NearCacheTests {
  static let small = 1 << 18

  func cache(_ bytes: Int = small, maxEntry: Int = 1 << 16) throws -> NearCache {
    try NearCache(bytes: bytes, maxEntry: maxEntry, seed: 7)
  }

  @Test("An entry is found under its own key, as a reply that can be sent")
  func reply() throws {
    var near = try cache()
    let stored = near.put("shop:user:42", "hello", expires: at(50), tag: 9)
    #expect(stored)
    let found = near.get(Array("shop:user:42".utf8))
    #expect(found == Copy(value: Array("hello".utf8), expires: at(50), tag: 9))
    let key = Array("shop:user:42".utf8)
    let bytes = key.withUnsafeBytes { key in
      near.find(key, hash: near.hash(key), now: at(0)).map { Array($0.reply) }
    }
    #expect(bytes == Array("$5\r\nhello\r\n".utf8))
    let other = near.get("shop:user:43")
    #expect(other == nil)
    let wrong = near.checkInvariants()
    #expect(wrong == nil)
  }

  @Test(
    "Values of every length around a power of ten, and the empty key, come back whole",
    arguments: [
      0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 1001, 9_999, 10_000, 60_000,
    ])
  func lengths(count: Int) throws {
    var near = try cache()
    let value = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
    for key in [[], [0], Array("k".utf8)] as [[UInt8]] {
      let stored = near.put(key, value)
      let found = near.get(key)
      #expect(stored && found?.value == value && found?.expires == nil)
    }
  }

  @Test("A second insert replaces the first")
  func replaces() throws {
    var near = try cache()
    _ = near.put("k", "old", tag: 1)
    _ = near.put("k", "a longer new one", tag: 2)
    let found = near.get(Array("k".utf8))
    #expect(found?.text == "a longer new one" && found?.tag == 2)
    let statistics = near.statistics
    #expect(statistics.entries == 1 && statistics.evictions == .init())
  }

  @Test("What entries of each kind take is counted as they come, are replaced, expire and leave")
  func holdings() throws {
    var near = try NearCache(bytes: Self.small, maxEntry: 1 << 16, seed: 7, kinds: 3)
    for number in 0..<10 { _ = near.put("one\(number)", "v", tag: 1 << 8) }
    for number in 0..<5 { _ = near.put("two\(number)", String(repeating: "v", count: 100), tag: 2 << 8 | 3) }
    _ = near.put("unknown", "v", tag: 9 << 8)
    // An entry of the first kind becomes one of the second.
    _ = near.put("one0", "v", tag: 2 << 8)
    _ = near.put("one1", "v", expires: at(1), tag: 1 << 8)
    _ = near.get(Array("one1".utf8), now: at(2))
    let gone = Array("two0".utf8)
    _ = gone.withUnsafeBytes { near.remove($0, hash: near.hash($0)) }
    let statistics = near.statistics
    #expect(statistics.holdings.map(\.entries) == [1, 8, 5])
    #expect(statistics.holdings.reduce(0) { $0 + $1.bytes } == statistics.bytes)
    #expect(statistics.holdings[1].bytes == 8 * 64, "40 of the header, 4 of the key, 7 of the reply, in 16s")
    let wrong = near.checkInvariants()
    #expect(wrong == nil)
    near.removeAll()
    #expect(near.statistics.holdings.allSatisfy { $0 == .init() })
  }

  @Test("A reply one byte longer than allowed is not kept, and what it would have replaced is gone")
  func tooLong() throws {
    var near = try cache(maxEntry: 11)
    let fits = near.put("k", "hello")
    #expect(fits)
    let tooLong = near.put("k", "hello!")
    let after = near.get("k")
    #expect(!tooLong && after == nil)
    let longKey = near.put([UInt8](repeating: 1, count: 65_536), [])
    let longestKey = near.put([UInt8](repeating: 1, count: 65_535), [])
    #expect(!longKey && longestKey)
  }

  @Test("An entry that the whole arena has no room for is not kept")
  func largerThanEverything() throws {
    var near = try cache(maxEntry: 1 << 30)
    for index in 0..<500 { _ = near.put("k\(index)", "v") }
    let most = near.statistics.capacity
    // The header, the key and "$237984\r\n…\r\n" take the rest.
    let largest = most - 40 - 3 - 11
    let tooLarge = near.put("big", String(repeating: "x", count: largest + 1))
    let kept = near.statistics.entries
    #expect(!tooLarge && kept == 500)
    let fits = near.put("big", String(repeating: "x", count: largest))
    let alone = near.statistics
    #expect(fits && alone.entries == 1 && alone.evictions.size == 500 && alone.bytes == most)
    let wrong = near.checkInvariants()
    #expect(wrong == nil)
  }

  @Test("An entry is absent from the instant of its end on")
  func expires() throws {
    var near = try cache()
    _ = near.put("k", "v", expires: at(100))
    let before = near.get("k", now: Instant(nanoseconds: at(100).nanoseconds - 1))
    #expect(before == "v")
    let after = near.get("k", now: at(100))
    #expect(after == nil)
    let statistics = near.statistics
    #expect(statistics.entries == 0 && statistics.evictions.expired == 1)
    #expect(statistics.hits == 1 && statistics.misses == 1)
  }

  @Test("An end can be moved and taken away")
  func setExpiry() throws {
    var near = try cache()
    let key = Array("k".utf8)
    let absent = near.end(key, at(5))
    #expect(!absent)
    _ = near.put(key, [1], expires: at(100))
    _ = near.end(key, at(200))
    let moved = near.get(key, now: at(150))
    #expect(moved?.expires == at(200))
    _ = near.end(key, nil)
    let endless = near.get(key, now: at(1_000_000))
    #expect(endless != nil && endless?.expires == nil)
  }

  @Test("A removed key is gone, and its neighbours are not")
  func removes() throws {
    var near = try cache()
    for index in 0..<1000 { _ = near.put("k\(index)", "v\(index)") }
    for index in stride(from: 0, to: 1000, by: 2) {
      let removed = near.forget(Array("k\(index)".utf8))
      #expect(removed)
    }
    let again = near.forget(Array("k0".utf8))
    #expect(!again)
    for index in 0..<1000 {
      let found = near.get("k\(index)")
      #expect(found == (index % 2 == 0 ? nil : "v\(index)"))
    }
    let statistics = near.statistics
    #expect(statistics.entries == 500 && statistics.evictions.invalidated == 500)
    let wrong = near.checkInvariants()
    #expect(wrong == nil)
  }

  @Test("Nothing is left after removeAll, and everything works again")
  func removeAll() throws {
    var near = try cache()
    for index in 0..<1000 { _ = near.put("k\(index)", "v\(index)") }
    near.removeAll()
    let empty = near.statistics
    #expect(empty.entries == 0 && empty.bytes == 0 && empty.evictions.flush == 1000)
    let first = near.checkInvariants()
    #expect(first == nil)
    for index in 0..<1000 {
      let gone = near.get("k\(index)")
      #expect(gone == nil)
    }
    for index in 0..<1000 { _ = near.put("k\(index)", "w") }
    let second = near.checkInvariants()
    let found = near.get("k999")
    #expect(second == nil && found == "w")
  }

  @Test("removeAll takes next to nothing of the time that inserting took")
  func removeAllIsCheap() throws {
    // This thread's processor time: a busy machine makes neither of the two longer.
    func time(_ body: () -> Void) -> Int {
      func now() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
      }
      let start = now()
      body()
      return now() - start
    }
    var near = try cache(64 << 20)
    let inserting = time { for index in 0..<100_000 { _ = near.put("key:\(index)", "value") } }
    let removing = time { near.removeAll() }
    #expect(removing * 50 < inserting)
  }

  @Test(
    "The memory taken never exceeds the bound, whatever the bound",
    arguments: [
      1 << 16, 100_000, 1 << 20, (1 << 20) + 1, 12_345_678, 64 << 20,
    ])
  func bound(bytes: Int) throws {
    let near = try cache(bytes)
    let mapped = near.mapped
    #expect(mapped <= bytes && mapped > bytes - 3 * Mapping.pageSize)
    let statistics = near.statistics
    #expect(statistics.limit == bytes && statistics.capacity < bytes)
  }

  @Test("Too small a bound and memory that the system refuses are errors that say so")
  func errors() {
    #expect(throws: NearCacheError.tooSmall(bytes: 5, least: NearCache.leastBytes)) {
      _ = try NearCache(bytes: 5, maxEntry: 1, seed: 0)
    }
    // The slots for it alone are larger than any address space.
    let error = #expect(throws: NearCacheError.self) {
      _ = try NearCache(bytes: .max, maxEntry: 1, seed: 0)
    }
    #expect(error?.description.contains("Cannot allocate memory") == true)
  }

  @Test("When the table is full before the arena, entries make room for entries")
  func fullTable() throws {
    var near = try cache()
    // The smallest entries take 48 bytes, and there is one slot for 80.
    for index in 0..<20_000 {
      let stored = near.put(withUnsafeBytes(of: Int32(index)) { Array($0) }, [])
      #expect(stored)
    }
    let statistics = near.statistics
    #expect(statistics.entries == near.table.limit)
    #expect(statistics.evictions.size == UInt64(20_000 - statistics.entries))
    let wrong = near.checkInvariants()
    #expect(wrong == nil)
  }

  @Test("SIEVE keeps what is asked for while a scan passes through")
  func sieve() throws {
    var near = try cache()
    for index in 0..<100 { _ = near.put("hot:\(index)", String(repeating: "h", count: 100)) }
    for round in 0..<20 {
      for index in 0..<100 { _ = near.get("hot:\(index)") }
      for index in 0..<500 { _ = near.put("scan:\(round):\(index)", String(repeating: "s", count: 100)) }
    }
    for index in 0..<100 {
      let kept = near.get("hot:\(index)")
      #expect(kept != nil)
    }
    let statistics = near.statistics
    #expect(statistics.evictions.size > 5000)
  }

  @Test("Without hits entries leave in the order in which they came")
  func firstInFirstOut() throws {
    var near = try cache()
    var count = 0
    while near.statistics.evictions.size == 0 {
      _ = near.put("k\(count)", String(repeating: "x", count: 100))
      count += 1
    }
    _ = near.put("k\(count)", String(repeating: "x", count: 100))
    let (first, second, third) = (near.get("k0"), near.get("k1"), near.get("k2"))
    #expect(first == nil && second == nil && third != nil)
  }

  @Test("One eviction takes away a bounded number of marks, even if everything was asked for")
  func patience() throws {
    var near = try cache(1 << 20)
    var count = 0
    while near.statistics.evictions.size == 0 {
      _ = near.put("k\(count)", String(repeating: "x", count: 100))
      count += 1
    }
    for index in 0..<count { _ = near.get("k\(index)") }
    _ = near.put("another", String(repeating: "x", count: 100))
    var marked = 0
    let wrong = near.arena.walk { entry, _ in marked += near.marks.isSet(entry) ? 1 : 0 }
    #expect(wrong == nil && marked == near.statistics.entries - Sieve.patience - 1)
  }

  @Test("A large entry among small ones costs no more than its own size and a little")
  func fragmentation() throws {
    var near = try cache(4 << 20, maxEntry: 1 << 20)
    var random = Seeded(11)
    for index in 0..<60_000 {
      let count = Int.random(in: 0...400, using: &random)
      _ = near.put("k\(index)", String(repeating: "x", count: count))
      if index % 3 == 0 { _ = near.get("k\(Int.random(in: max(0, index - 9000)...index, using: &random))") }
    }
    let before = near.statistics
    let stored = near.put("large", String(repeating: "y", count: 200_000))
    let after = near.statistics
    #expect(stored)
    let lost = before.bytes - (after.bytes - 200_064)
    #expect(lost < 200_064 + 32 * 512)
    let wrong = near.checkInvariants()
    #expect(wrong == nil)
  }

  @Test("Keys with the same tag live side by side")
  func collisions() throws {
    var near = try cache()
    // The hash is handed in, so the test can make every key collide with every other.
    let keys = (0..<64).map { Array("key:\($0)".utf8) }
    for (index, key) in keys.enumerated() {
      let stored = key.withUnsafeBytes { key in
        [UInt8(index)].withUnsafeBytes { value in
          near.insert(key, hash: .max, value: value, expires: nil, tag: 0)
        }
      }
      #expect(stored)
    }
    for (index, key) in keys.enumerated() where index % 3 == 0 {
      let removed = key.withUnsafeBytes { near.remove($0, hash: .max) }
      #expect(removed)
    }
    for (index, key) in keys.enumerated() {
      let found = key.withUnsafeBytes { near.find($0, hash: .max, now: at(0))?.value.first }
      #expect(found == (index % 3 == 0 ? nil : UInt8(index)))
    }
  }

  @Test("It agrees with a dictionary over a hundred thousand random steps", arguments: 0..<4)
  func differential(run: Int) throws {
    let seed = UInt64.random(in: .min ... .max)
    var random = Seeded(seed)
    let bytes = [1 << 16, 1 << 18, 1 << 20, 3 << 20][run]
    var near = try NearCache(bytes: bytes, maxEntry: 9000, seed: random.next(), kinds: 4)
    var model: [[UInt8]: Copy] = [:]
    var clock = 0
    var missing = 0
    let longest = [40, 300, 8000, 3000][run]
    let keys = bytes / [50, 150, 200, 200][run]

    func check(_ condition: Bool, _ what: String, _ step: Int) {
      if !condition { Issue.record("\(what) at step \(step) of seed \(seed), \(bytes) bytes") }
    }
    for step in 0..<25_000 {
      let key = Array("k:\(Int.random(in: 0..<keys, using: &random))".utf8)
      let expected = model[key].flatMap { $0.expires.map { $0 > at(clock) } ?? true ? $0 : nil }
      switch UInt32.random(in: 0..<10_000, using: &random) {
      case 0:
        near.removeAll()
        model = [:]
      case 1..<5000:
        var count = Int.random(in: 0...longest, using: &random)
        if Int.random(in: 0..<50, using: &random) == 0 { count += 2000 }
        let value = (0..<count).map { UInt8(truncatingIfNeeded: $0 &+ step) }
        let expires =
          Int.random(in: 0..<4, using: &random) == 0
          ? at(clock + Int.random(in: 0...2000, using: &random)) : nil
        let stored = near.put(key, value, expires: expires, tag: UInt32(step))
        model[key] = stored ? Copy(value: value, expires: expires, tag: UInt32(step)) : nil
        check(stored == ("$\(count)".utf8.count + count + 4 <= 9000), "insert", step)
      case 5000..<5500:
        let removed = near.forget(key)
        if model[key] == nil { check(!removed, "a removal of nothing", step) }
        model[key] = nil
      case 5500..<6000:
        let expires = at(clock + Int.random(in: 0...2000, using: &random))
        if near.end(key, expires) {
          check(model[key] != nil, "an end for nothing", step)
          model[key]?.expires = expires
        } else {
          // It was evicted; a later insert brings it back into both.
          model[key] = nil
        }
      default:
        let found = near.get(key, now: at(clock))
        // Eviction may have taken an entry, but what is there must be what was put last.
        if found == nil, expected != nil { missing += 1 }
        check(found == nil || found == expected, "a wrong value", step)
        if found == nil { model[key] = nil }
      }
      clock += Int.random(in: 0...1, using: &random)
      if step % 500 == 0 {
        let wrong = near.checkInvariants()
        check(wrong == nil, wrong ?? "", step)
      }
    }
    let wrong = near.checkInvariants()
    check(wrong == nil, wrong ?? "", 25_000)
    let evictions = near.statistics.evictions
    check(UInt64(missing) <= evictions.size, "\(missing) entries vanished", 25_000)
    check(evictions.size > 0 && evictions.expired > 0 && evictions.invalidated > 0, "too tame", 25_000)
  }
}
