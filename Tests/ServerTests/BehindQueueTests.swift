import Configuration
import Testing

@testable import Server

@Suite("What is written behind, and when")
struct BehindQueueTests {
  static let millisecond: UInt64 = 1_000_000

  static func settings(batch: Int = 3, attempts: Int = 2) throws -> BehindSettings {
    let place = SourcePlace(line: 1, column: 1, length: 1)
    return BehindSettings(
      sql: try SQLTemplate.parse("UPDATE t SET v = :value", place: place), delay: 100 * millisecond,
      batch: batch,
      attempts: attempts)
  }

  var queue: BehindQueue
  init() throws { queue = BehindQueue([try Self.settings(), try Self.settings()]) }

  mutating func add(_ id: Int, _ key: String, cache: Int = 0, isOld: Bool = false, at now: UInt64 = 0) {
    queue.add(
      "\(id)-0", key: Array(key.utf8), cache: cache, parameters: [Array("v\(id)".utf8)], isOld: isOld,
      now: now * Self.millisecond)
  }

  mutating func next(at now: UInt64) -> [BehindQueue.Write] { queue.next(now: now * Self.millisecond) }

  func names(_ batch: [BehindQueue.Write]) -> [String] {
    batch.map { String(decoding: $0.key, as: UTF8.self) }
  }

  @Test("An entry waits for others, a full batch for none, and of one key only the newest counts")
  mutating func batches() {
    add(1, "b")
    add(2, "a", at: 50)
    #expect(queue.nextTime() == 100 * Self.millisecond)
    #expect(next(at: 99).isEmpty)
    add(3, "b", at: 60)
    let batch = next(at: 100)
    #expect(names(batch) == ["a", "b"] && batch[1].id == "3-0")
    #expect(batch[1].parameters == [Array("v3".utf8)])
    let ended = queue.written(batch)
    #expect(ended.map(\.ids) == [["2-0"], ["1-0", "3-0"]])
    #expect(queue.keys == 0 && queue.coalesced == 1 && queue.nextTime() == nil)
    for id in 4...7 { add(id, "k\(id)", at: 200) }
    #expect(queue.nextTime() == 0)
    #expect(next(at: 200).count == 3)
    add(8, "old", isOld: true, at: 200)
    #expect(names(next(at: 200)).contains("old"))
  }

  @Test("A batch is of one cache")
  mutating func caches() {
    add(1, "a")
    add(2, "b", cache: 1)
    #expect(names(next(at: 100)) == ["a"])
    #expect(
      queue.written([BehindQueue.Write(key: Array("a".utf8), cache: 0, parameters: [], id: "1-0")]).count == 1
    )
    #expect(names(next(at: 100)) == ["b"])
  }

  @Test("A key that is set again while its batch is tried key by key is written once, with the newer value")
  mutating func meanwhile() {
    add(1, "a", isOld: true)
    add(2, "b", isOld: true)
    #expect(queue.failed(next(at: 0), "23514", now: 0).isEmpty)
    add(3, "b", at: 1)
    #expect(queue.written(next(at: 1)).map(\.ids) == [["1-0"]])
    #expect(queue.written(next(at: 1)).map(\.ids) == [["2-0", "3-0"]])
    #expect(queue.keys == 0 && queue.nextTime() == nil)
    #expect(next(at: 1000).isEmpty)
  }

  @Test("What is to be tried again and what is new share a batch, and the one that is due first comes first")
  mutating func mixed() {
    add(1, "a", isOld: true)
    #expect(queue.failed(next(at: 0), "57014", now: 0).isEmpty)
    for (id, key) in ["b", "c", "d"].enumerated() { add(id + 2, key, at: 10) }
    #expect(names(next(at: 100)) == ["a", "b", "c"])
    #expect(queue.keys == 4 && queue.nextTime() == 110 * Self.millisecond)
  }

  @Test(
    "A value that is wrong, too large, or refused by a trigger is given up",
    arguments: ["54000", "22001", "P0001"])
  mutating func fault(state: String) {
    add(1, "a", isOld: true)
    #expect(queue.failed(next(at: 0), state, now: 0).isEmpty)
    #expect(queue.failed(next(at: 100), state, now: 100 * Self.millisecond).first?.reason == state)
  }

  @Test("A batch that fails is tried key by key; what is refused again and again is given up")
  mutating func refused() {
    for (id, key) in ["a", "b", "c"].enumerated() { add(id, key, isOld: true) }
    #expect(queue.failed(next(at: 0), "23514", now: 0).isEmpty)
    #expect(queue.nextTime() == 0)
    var one = next(at: 0)
    #expect(names(one) == ["a"])
    #expect(queue.written(one).count == 1)
    one = next(at: 0)
    #expect(names(one) == ["b"])
    #expect(queue.failed(one, "23514", now: 0).isEmpty)
    one = next(at: 0)
    #expect(names(one) == ["c"])
    #expect(queue.written(one).count == 1)
    #expect(next(at: 99).isEmpty && queue.nextTime() == 100 * Self.millisecond)
    one = next(at: 100)
    #expect(names(one) == ["b"])
    let ended = queue.failed(one, "23514", now: 100 * Self.millisecond)
    #expect(ended.count == 1 && ended.first?.reason == "23514" && ended.first?.attempts == 2)
    #expect(queue.keys == 0)
  }

  @Test(
    "What is not the value's fault is never given up, and pauses grow",
    arguments: ["40001", "40P01", "53100", "57014", "25006", "42P01", "42501", "0A000", "55P03", "XX000"])
  mutating func patient(state: String) {
    add(1, "a", isOld: true)
    var now: UInt64 = 0
    for _ in 0..<20 {
      let one = next(at: now)
      #expect(one.count == 1)
      #expect(queue.failed(one, state, now: now * Self.millisecond).isEmpty)
      now = (queue.nextTime() ?? 0) / Self.millisecond
    }
    #expect(now > 60_000)
  }

  @Test("A newer value of a key that was refused begins anew")
  mutating func replaced() {
    add(1, "a", isOld: true)
    #expect(queue.failed(next(at: 0), BehindQueue.noRow, now: 0).isEmpty)
    add(2, "a", at: 10)
    let one = next(at: 110)
    #expect(one.map(\.id) == ["2-0"])
    #expect(queue.failed(one, "22P02", now: 110 * Self.millisecond).isEmpty)
    let last = next(at: 210)
    let ended = queue.failed(last, "22P02", now: 210 * Self.millisecond)
    #expect(ended.map(\.ids) == [["1-0", "2-0"]])
  }
}
