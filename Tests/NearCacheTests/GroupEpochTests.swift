import Invalidation
import Testing

@testable import NearCache

@Suite("Groups in the near cache")
struct GroupEpochTests {
  private func with<Result>(_ text: String, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    Array(text.utf8).withUnsafeBytes(body)
  }

  @Test("What was asked for before a group was cleared does not count, what came after does")
  func clearing() {
    let epochs = GroupEpochs()
    let before = epochs.serial
    #expect(with("pc:7:") { epochs.isCurrent(before, $0) })
    let dropped = with("pc:7:") { epochs.clear($0) }
    #expect(!dropped)
    #expect(!with("pc:7:") { epochs.isCurrent(before, $0) })
    #expect(with("pc:8:") { epochs.isCurrent(before, $0) })
    #expect(with("pc:7:") { epochs.isCurrent(epochs.serial, $0) })
  }

  @Test("When the serials are used up everything goes, and what was asked for before never counts")
  func wrapping() {
    let epochs = GroupEpochs(serial: .max - 1)
    let early = epochs.serial
    #expect(!with("ta") { epochs.clear($0) })
    let late = epochs.serial
    #expect(with("tb") { epochs.clear($0) })
    epochs.beginAnew()
    for serial in [early, late] {
      for group in ["ta", "tb", "tc"] { #expect(!with(group) { epochs.isCurrent(serial, $0) }) }
    }
    #expect(with("tb") { epochs.isCurrent(epochs.serial, $0) })
    // A value of no group is told by when everything was dropped, which was at 1.
    #expect(!epochs.isSince(1, late) && epochs.isSince(1, epochs.serial))
    #expect(!epochs.isSince(epochs.serial + 1, epochs.serial))
  }

  @Test("An entry keeps its serial behind its reply, whatever their lengths, or has none")
  func serials() throws {
    var cache = try NearCache(bytes: NearCache.leastBytes, maxEntry: 4096, seed: 1)
    for count in 0..<70 {
      let key = Array("k:\(count)".utf8)
      let value = [UInt8](repeating: 0x78, count: count)
      let serial: UInt32? = count % 3 == 0 ? nil : UInt32.max - UInt32(count)
      let kept = key.withUnsafeBytes { key in
        value.withUnsafeBytes { value in
          cache.insert(key, hash: cache.hash(key), value: value, expires: nil, tag: 7, serial: serial)
        }
      }
      #expect(kept)
    }
    for count in 0..<70 {
      let key = Array("k:\(count)".utf8)
      let found = key.withUnsafeBytes { key -> (UInt32?, Int, UInt32)? in
        cache.find(key, hash: cache.hash(key), now: at(0)).map { ($0.serial, $0.value.count, $0.tag) }
      }
      #expect(found?.0 == (count % 3 == 0 ? nil : UInt32.max - UInt32(count)))
      #expect(found?.1 == count && found?.2 == 7)
    }
    #expect(cache.checkInvariants() == nil)
  }

  @Test(
    "Dropping a group takes as long with a million entries as with none, and none of its keys counts after it"
  )
  func constantTime() throws {
    let count = 1_000_000
    var cache = try NearCache(bytes: 256 * 1024 * 1024, maxEntry: 4096, seed: 1)
    let epochs = GroupEpochs()
    func clearing() -> Duration {
      let start = ContinuousClock.now
      for turn in 0..<1000 { _ = with("pc:\(turn % 7):") { epochs.clear($0) } }
      return ContinuousClock.now - start
    }
    let empty = (0..<5).map { _ in clearing() }.min() ?? .zero
    let serial = epochs.serial
    var key = Array("c:7:00000000".utf8)
    let value = [0x78] as [UInt8]
    for number in 0..<count {
      var rest = number
      for place in 0..<8 {
        key[key.count - 1 - place] = UInt8(48 + rest % 10)
        rest /= 10
      }
      key.withUnsafeBytes { key in
        value.withUnsafeBytes { value in
          _ = cache.insert(key, hash: cache.hash(key), value: value, expires: nil, tag: 0, serial: serial)
        }
      }
    }
    #expect(cache.statistics.entries > count * 9 / 10)
    let full = (0..<5).map { _ in clearing() }.min() ?? .zero
    #expect(full < empty * 20 + .milliseconds(5), "\(empty) without entries, \(full) with a million")
    #expect(with("pc:7:") { epochs.isCurrent(serial, $0) })
    _ = with("pc:7:") { epochs.clear($0) }
    let found = key.withUnsafeBytes { cache.find($0, hash: cache.hash($0), now: at(0))?.serial }
    #expect(found == serial)
    #expect(!with("pc:7:") { epochs.isCurrent(serial, $0) })
  }
}
