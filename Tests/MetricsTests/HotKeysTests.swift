import Testing

@testable import Metrics

@Suite("Keys that are read most")
struct HotKeysTests {
  private func observe(_ keys: inout HotKeys, _ name: String, now: UInt64 = 1) {
    Array(name.utf8).withUnsafeBytes {
      keys.observe($0, hash: UInt64(bitPattern: Int64(name.hashValue)), now: now)
    }
  }

  @Test("a few keys are counted exactly, the most read first")
  func few() {
    var keys = HotKeys()
    for (name, count) in [("a", 5), ("b", 3), ("c", 2)] {
      for _ in 0..<count { observe(&keys, name) }
    }
    let top = keys.top(2, now: 1)
    #expect(top == [HotKeys.Entry(key: [97], share: 0.5), HotKeys.Entry(key: [98], share: 0.3)])
    #expect(keys.top(9, now: 1).count == 3)
  }

  @Test("among many more keys than are kept, those with a real share are found, and none is given too much")
  func many() {
    var keys = HotKeys()
    for round in 0..<2000 {
      observe(&keys, "hot")
      if round % 2 == 0 { observe(&keys, "warm") }
      observe(&keys, "cold \(round)")
    }
    let top = keys.top(2, now: 1)
    #expect(top.map { String(decoding: $0.key, as: UTF8.self) } == ["hot", "warm"])
    #expect(top[0].share > 0.35 && top[0].share <= 0.4, "\(top)")
    #expect(top[1].share > 0.15 && top[1].share <= 0.2, "\(top)")
    #expect(keys.top(1000, now: 1).count <= HotKeys.most)
  }

  @Test(
    "a key that becomes hot when all places are taken finds one, for a newcomer inherits what it replaces")
  func late() {
    var keys = HotKeys()
    for number in 0..<HotKeys.most { for _ in 0..<5 { observe(&keys, "old \(number)") } }
    for round in 0..<300 {
      observe(&keys, "hot")
      observe(&keys, "cold \(round)")
    }
    let top = keys.top(1, now: 1)
    #expect(top.first.map { String(decoding: $0.key, as: UTF8.self) } == "hot")
    #expect(top.first.map { $0.share > 0.2 } == true, "\(top)")
  }

  @Test("what was read long ago counts half after a minute, and nothing after many")
  func fading() {
    var keys = HotKeys()
    for _ in 0..<80 { observe(&keys, "old") }
    for _ in 0..<60 { observe(&keys, "new", now: 1 + HotKeys.halfLife) }
    #expect(
      keys.top(1, now: 1 + HotKeys.halfLife).first.map { String(decoding: $0.key, as: UTF8.self) } == "new")
    #expect(keys.top(1, now: 1 + 60 * HotKeys.halfLife) == [])
  }

  @Test("one of so many events is drawn on average, at distances that differ")
  func draw() {
    var draw = Draw(period: 100, seed: 42)
    var (at, drawn): (Int, [Int]) = (0, [])
    for _ in 0..<100_000 {
      if let index = draw.draw(of: 7) {
        #expect((0..<7).contains(index))
        drawn.append(at + index)
      }
      at += 7
    }
    // A run that is longer than what is left draws one of it at most, and begins anew behind it.
    #expect((6500...7500).contains(drawn.count), "\(drawn.count)")
    #expect(Set(zip(drawn, drawn.dropFirst()).map { $1 - $0 }).count > 100)
    #expect(zip(drawn, drawn.dropFirst()).allSatisfy { $0 < $1 })
    #expect(draw.draw(of: 0) == nil)
  }
}
