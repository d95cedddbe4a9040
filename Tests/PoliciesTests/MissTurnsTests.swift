import Invalidation
import Testing

@testable import Policies

@Suite("Whose turn it is to fill a key")
struct MissTurnsTests {
  let key = Array("user:1".utf8)

  func at(_ nanoseconds: UInt64) -> Instant { Instant(nanoseconds: nanoseconds) }

  func miss(
    _ turns: inout MissTurns, _ client: UInt64, waiter: UInt64 = 0, mayWait: Bool = true, now: UInt64 = 0,
    key: String = "user:1"
  ) -> MissTurns.Answer {
    turns.missed(
      Array(key.utf8), by: client, waiter: waiter, mayWait: mayWait, wait: 100, now: at(now))
  }

  @Test("One client is told of the miss, others wait, and nobody waits on itself")
  func turn() {
    var turns = MissTurns()
    #expect(miss(&turns, 1) == .miss)
    #expect(miss(&turns, 2, waiter: 20) == .waits)
    #expect(miss(&turns, 3, waiter: 30) == .waits)
    #expect(miss(&turns, 1) == .miss)
    #expect(miss(&turns, 4, key: "user:2") == .miss)
    #expect(turns.waiting == 2)
    #expect(turns.ended(key) == [20, 30])
    #expect(turns.ended(key) == [])
    #expect(miss(&turns, 3) == .miss)
    #expect(miss(&turns, 2, waiter: 21) == .waits)
  }

  @Test("Who has no time left to wait is told of the miss, and may have the next turn")
  func late() {
    var turns = MissTurns()
    #expect(miss(&turns, 1) == .miss)
    #expect(miss(&turns, 2, mayWait: false) == .miss)
    #expect(turns.ended(key) == [])
    #expect(miss(&turns, 2, mayWait: false) == .miss)
    #expect(miss(&turns, 3, waiter: 30) == .waits)
  }

  @Test("A holder that leaves, and a turn that takes too long, wake those who wait")
  func over() {
    var turns = MissTurns()
    _ = miss(&turns, 1)
    _ = miss(&turns, 2, waiter: 20)
    let left = turns.left(2)
    #expect(left == [])
    #expect(turns.left(1) == [20])
    _ = miss(&turns, 1, now: 50)
    _ = miss(&turns, 2, waiter: 21, now: 60)
    _ = miss(&turns, 3, now: 60, key: "user:3")
    #expect(turns.expired(now: at(149)) == [])
    #expect(turns.expired(now: at(150)) == [21])
    #expect(!turns.isEmpty)
    #expect(turns.expired(now: at(160)) == [])
    #expect(turns.isEmpty)
    // Before anybody has looked, a turn whose time is over keeps nobody.
    _ = miss(&turns, 1, now: 200)
    #expect(miss(&turns, 2, now: 300) == .miss)
  }

  @Test("When a group of keys is cleared the turns of its keys end, and no others")
  func groups() {
    var turns = MissTurns()
    _ = miss(&turns, 1)
    _ = miss(&turns, 2, waiter: 20)
    _ = miss(&turns, 1, key: "page:1")
    _ = miss(&turns, 3, waiter: 30, key: "page:1")
    let ended = turns.ended { $0.first == UInt8(ascii: "p") }
    #expect(ended == [30])
    #expect(turns.ended(key) == [20])
  }

  @Test("When nothing counts any more all go on; a full table keeps nobody")
  func all() {
    var turns = MissTurns(capacity: 1)
    _ = miss(&turns, 1)
    _ = miss(&turns, 2, waiter: 20)
    #expect(miss(&turns, 3, key: "user:3") == .miss)
    #expect(miss(&turns, 4, key: "user:3") == .miss)
    #expect(turns.endedAll() == [20])
    #expect(turns.isEmpty)
  }
}
