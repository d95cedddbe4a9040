import Invalidation
import Testing

@Suite("The batch of keys")
struct KeyBatchTests {
  @Test("a key is kept once, in the order of its first appearance, with its first table")
  func dedupe() {
    var batch = KeyBatch()
    for (key, table) in [("b", 1), ("a", 2), ("b", 3), ("", 4), ("", 5)] { batch.add(key, table) }
    #expect(batch.keys == ["b", "a", ""])
    #expect((0..<3).map { batch.table($0) } == [1, 2, 4])
  }

  @Test("many keys stay apart, and are still known after the table has grown")
  func many() {
    var batch = KeyBatch()
    for round in 0..<2 {
      for number in 0..<50_000 { batch.add("key:\(number)", round) }
      #expect(batch.count == 50_000)
    }
    #expect(
      batch.withKey(49_999) { key, table in String(decoding: key, as: UTF8.self) + "/\(table)" }
        == "key:49999/0")
  }

  @Test("complete moves the boundary and counts the transaction, with keys or without")
  func complete() {
    var batch = KeyBatch()
    #expect(batch.isEmpty == true)
    batch.complete(through: LSN(5))
    #expect(batch.isEmpty == false)
    batch.add("a")
    #expect((batch.completeCount, batch.count, batch.transactions) == (0, 1, 1))
    batch.complete(through: LSN(9))
    #expect((batch.completeCount, batch.count, batch.transactions) == (1, 1, 2))
    #expect(batch.through == LSN(9))
    batch.removeAll()
    #expect(batch.isEmpty == true)
    #expect((batch.completeCount, batch.count, batch.transactions) == (0, 0, 0))
  }

  @Test("dropOpen forgets the open transaction only, and its keys may come again")
  func dropOpen() {
    var batch = KeyBatch()
    batch.add("a")
    batch.complete(through: LSN(1))
    batch.add("b")
    batch.add("a")
    batch.dropOpen()
    #expect(batch.keys == ["a"])
    #expect(batch.completeCount == 1)
    batch.add("b")
    #expect(batch.keys == ["a", "b"])
    batch.dropOpen()
    batch.dropOpen()
    #expect(batch.keys == ["a"])
  }

  @Test("moveOpen takes along every key of the open transaction")
  func moveOpen() {
    var batch = KeyBatch()
    batch.add("a", 1)
    batch.complete(through: LSN(1))
    batch.add("b", 2)
    var other = KeyBatch()
    batch.moveOpen(to: &other)
    #expect(batch.keys == ["a"])
    #expect(other.keys == ["b"])
    #expect(other.table(0) == 2)
    #expect((other.completeCount, other.transactions) == (0, 0))
  }

  @Test("a key that an ended transaction of the batch had too still moves with the open one")
  func moveOpenRepeats() {
    var batch = KeyBatch()
    batch.add("a", 1)
    batch.add("b", 1)
    batch.complete(through: LSN(1))
    // Named again by a transaction that is dropped: that must not count for the next one.
    batch.add("b", 2)
    batch.dropOpen()
    batch.add("a", 2)
    batch.add("a", 2)
    batch.add("c", 2)
    var other = KeyBatch()
    batch.moveOpen(to: &other)
    #expect(batch.keys == ["a", "b"])
    #expect(other.keys == ["a", "c"])
  }

  @Test("what an ended transaction repeated does not move with the next one")
  func repeatsEnd() {
    var batch = KeyBatch()
    batch.add("a")
    batch.complete(through: LSN(1))
    batch.add("a")
    batch.complete(through: LSN(2))
    batch.add("b")
    var other = KeyBatch()
    batch.moveOpen(to: &other)
    #expect(other.keys == ["b"])
    batch.add("a")
    other.removeAll()
    batch.moveOpen(to: &other)
    #expect(other.keys == ["a"])
  }

  @Test("a batch is as good as new after removeAll, small or large", arguments: [10, 40_000])
  func reuse(count: Int) {
    var batch = KeyBatch()
    for round in 0..<3 {
      for number in 0..<count { batch.add("\(round):\(number)") }
      batch.add("\(round):0")
      #expect(batch.count == count)
      batch.complete(through: LSN(1))
      batch.add("\(round):1")
      batch.removeAll()
    }
    batch.add("x")
    #expect(batch.keys == ["x"])
    var other = KeyBatch()
    batch.moveOpen(to: &other)
    #expect(other.keys == ["x"])
  }

  @Test("any sequence of operations does what a plain model does")
  func model() {
    let seed = UInt64.random(in: 0 ... .max)
    var generator = SeededGenerator(seed: seed)
    var batch = KeyBatch()
    var complete: [String] = []
    var open: [String] = []
    var position: UInt64 = 0
    for step in 0..<20_000 {
      switch Int.random(in: 0..<20, using: &generator) {
      case 0:
        position += 1
        batch.complete(through: LSN(position))
        complete += open.filter { !complete.contains($0) }
        open = []
      case 1:
        batch.dropOpen()
        open = []
      case 2:
        var other = KeyBatch()
        batch.moveOpen(to: &other)
        #expect(Set(other.keys) == Set(open), "seed \(seed), step \(step)")
        #expect(Set(batch.keys) == Set(complete), "seed \(seed), step \(step)")
        batch = other
        complete = []
        position = 0
      case 3:
        batch.removeAll()
        complete = []
        open = []
        position = 0
      default:
        let key = "k\(Int.random(in: 0..<30, using: &generator))"
        batch.add(key)
        if !open.contains(key) { open.append(key) }
      }
      #expect(batch.completeCount == complete.count, "seed \(seed), step \(step)")
      let expected = Set(complete + open)
      #expect(batch.count == expected.count && Set(batch.keys) == expected, "seed \(seed), step \(step)")
    }
  }

  @Test("packed keys come out as they went in")
  func packed() {
    var batch = KeyBatch()
    let keys = ["a", "", "shop:user:42", String(repeating: "x", count: 300)]
    for key in keys { batch.add(key) }
    #expect(batch.packed(0..<4).strings == keys)
    #expect(batch.packed(1..<3).strings == ["", "shop:user:42"])
    #expect(batch.packed(0..<0).isEmpty)
  }
}

@Suite("Packed keys")
struct PackedKeysTests {
  @Test("a key has its length before it in two bytes, most significant first")
  func layout() {
    var keys = PackedKeys()
    Array("ab".utf8).withUnsafeBytes { keys.append($0) }
    [UInt8](repeating: 7, count: 258).withUnsafeBytes { keys.append($0) }
    #expect(Array(keys.bytes[..<6]) == [0, 2, 97, 98, 1, 2])
    #expect(keys.bytes.count == 2 + 2 + 2 + 258)
  }

  @Test("the longest key fits")
  func longest() {
    let key = [UInt8](repeating: 65, count: PackedKeys.longestKey)
    var keys = PackedKeys()
    key.withUnsafeBytes { keys.append($0) }
    #expect(PackedKeys(bytes: keys.bytes) == keys)
    var lengths: [Int] = []
    keys.forEach { lengths.append($0.count) }
    #expect(lengths == [65_535])
  }

  @Test("bytes whose lengths lead past the end are refused")
  func malformed() {
    let good: [UInt8] = [0, 2, 97, 98, 0, 0, 0, 1, 99]
    #expect(PackedKeys(bytes: good)?.strings == ["ab", "", "c"])
    let boundaries: Set = [0, 4, 6, 9]
    for length in 0...good.count {
      let cut = PackedKeys(bytes: Array(good[..<length]))
      #expect((cut != nil) == boundaries.contains(length), "\(length) bytes")
    }
    #expect(PackedKeys(bytes: [255, 255, 1]) == nil)
  }
}

extension KeyBatch {
  mutating func add(_ key: String, _ table: Int = 0) {
    Array(key.utf8).withUnsafeBytes { append($0, table: table) }
  }
}

extension PackedKeys {
  var strings: [String] {
    var strings: [String] = []
    forEach { strings.append(String(decoding: $0, as: UTF8.self)) }
    return strings
  }
}
