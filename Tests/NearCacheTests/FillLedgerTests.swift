import Configuration
import Invalidation
import Testing

@testable import NearCache

private let window = 10_000

private func lease(_ visible: UInt64, of generation: UInt64 = 1, deletions: UInt64 = 0) -> Lease {
  Lease(
    generation: Generation(generation), stamp: Stamp(visible: LSN(visible), deletions: deletions))
}

private func rule(_ mode: PlainSetSettings.Mode = .window, _ window: Int = window) -> PlainSetSettings {
  PlainSetSettings(mode: mode, window: ms(window))
}

/// A ledger without a predecessor, of a process that started at `started`.
private func ledger(capacity: Int = 1000, started: Int = 0) -> FillLedger {
  var ledger = FillLedger(capacity: capacity, seed: 3, started: at(started), keep: ms(window))
  ledger.predecessor(lastTouched: nil)
  return ledger
}

extension FillLedger {
  /// The verdict for a SET that is looked at as soon as it arrives.
  fileprivate func set(_ key: UInt64, at instant: Int, _ rule: PlainSetSettings = rule()) -> SetVerdict {
    verdict(forSetOf: key, dated: at(instant), now: at(instant), rule: rule)
  }
}

@Suite("The ledger of fills")
struct FillLedgerTests {
  // MARK: The oldest miss

  @Test("A SET has the lease of its own miss")
  func ownMiss() {
    var ledger = ledger()
    ledger.missed(1, lease: lease(100), at: at(20_000))
    #expect(ledger.set(1, at: 20_050) == .fill(lease(100)))
    #expect(ledger.set(2, at: 20_050) == .refuse(.young))
  }

  @Test("Of several misses within the window the oldest counts, not the newest")
  func oldest() {
    var ledger = ledger()
    ledger.missed(1, lease: lease(100), at: at(20_000))
    ledger.missed(1, lease: lease(200), at: at(21_000))
    ledger.missed(1, lease: lease(300), at: at(22_000))
    #expect(ledger.set(1, at: 22_001) == .fill(lease(100)))
  }

  @Test("A SET does not use its miss up: a second one finds the same")
  func notUsedUp() {
    var ledger = ledger()
    ledger.missed(1, lease: lease(100), at: at(20_000))
    ledger.missed(1, lease: lease(200), at: at(21_000))
    for _ in 0..<3 { #expect(ledger.set(1, at: 21_500) == .fill(lease(100))) }
  }

  @Test("A hot key is fillable again when the miss from before its update has left the window")
  func hotKey() {
    var ledger = ledger()
    ledger.missed(1, lease: lease(100), at: at(20_000))
    // Its row is updated at 150, and it is missed again. A fence at 150 refuses whatever is stamped 100.
    ledger.missed(1, lease: lease(200), at: at(25_000))
    #expect(ledger.set(1, at: 25_010) == .fill(lease(100)))
    #expect(ledger.set(1, at: 29_999) == .fill(lease(100)))
    #expect(ledger.set(1, at: 30_000) == .fill(lease(200)))
  }

  @Test("A miss belongs to the window up to exactly its length")
  func edge() {
    var ledger = ledger()
    ledger.observed(lease(50), at: at(1_000))
    ledger.missed(1, lease: lease(100), at: at(20_000))
    let after = Instant(nanoseconds: at(20_000).nanoseconds + ms(window))
    let before = Instant(nanoseconds: after.nanoseconds - 1)
    #expect(ledger.verdict(forSetOf: 1, dated: before, now: before, rule: rule()) == .fill(lease(100)))
    #expect(ledger.verdict(forSetOf: 1, dated: after, now: after, rule: rule()) == .fill(lease(50)))
  }

  @Test("A new generation does not take misses away: the old one's lease is given, for the script to refuse")
  func generations() {
    var ledger = ledger()
    ledger.missed(1, lease: lease(100, of: 1), at: at(20_000))
    ledger.missed(1, lease: lease(10, of: 2), at: at(20_001))
    #expect(ledger.set(1, at: 20_010) == .fill(lease(100, of: 1)))
    #expect(ledger.set(1, at: 30_000) == .fill(lease(10, of: 2)))
  }

  @Test("A miss without a lease refuses as long as it is the oldest")
  func bypassed() {
    var ledger = ledger()
    ledger.missed(1, lease: nil, at: at(20_000))
    ledger.missed(1, lease: lease(100), at: at(21_000))
    #expect(ledger.set(1, at: 21_500) == .refuse(.bypassed))
    #expect(ledger.set(1, at: 30_000) == .fill(lease(100)))
    ledger.missed(2, lease: lease(100), at: at(30_001))
    ledger.missed(2, lease: nil, at: at(30_002))
    #expect(ledger.set(2, at: 30_003) == .fill(lease(100)))
    let between = at(40_001)
    #expect(ledger.verdict(forSetOf: 2, dated: between, now: between, rule: rule()) == .refuse(.bypassed))
  }

  // MARK: Dates

  @Test("A SET that waited for a window is refused, and one that waited less is dated by its arrival")
  func late() {
    var ledger = ledger()
    ledger.missed(1, lease: lease(100), at: at(20_000))
    ledger.missed(1, lease: lease(200), at: at(29_000))
    func verdict(_ now: Int) -> SetVerdict {
      ledger.verdict(forSetOf: 1, dated: at(29_500), now: at(now), rule: rule())
    }
    #expect(verdict(29_500) == .fill(lease(100)))
    // Looked at when the first miss is older than a window, but the SET is not: the first still counts.
    #expect(verdict(39_499) == .fill(lease(100)))
    #expect(verdict(39_500) == .refuse(.late))
    #expect(verdict(90_000) == .refuse(.late))
  }

  @Test("Misses are kept for two windows, however many others come")
  func kept() {
    var ledger = ledger(capacity: 100_000)
    ledger.missed(1, lease: lease(100), at: at(20_000))
    for index in 0..<19_000 { ledger.missed(UInt64(2 + index), lease: lease(200), at: at(20_001 + index)) }
    let verdict = ledger.verdict(forSetOf: 1, dated: at(29_999), now: at(39_998), rule: rule())
    #expect(verdict == .fill(lease(100)))
  }

  @Test("The window is that of the key's rule, which may be shorter than the longest")
  func ruleWindow() {
    var ledger = ledger()
    ledger.missed(1, lease: lease(100), at: at(20_000))
    ledger.missed(1, lease: lease(200), at: at(21_000))
    #expect(ledger.set(1, at: 21_500, rule(.window, 1_600)) == .fill(lease(100)))
    #expect(ledger.set(1, at: 21_500, rule(.window, 1_500)) == .fill(lease(200)))
    let late = ledger.verdict(forSetOf: 1, dated: at(21_500), now: at(23_000), rule: rule(.window, 1_500))
    #expect(late == .refuse(.late))
  }

  // MARK: Without a miss

  @Test("A SET without a miss has the lease known a window before, the newest record at or before that")
  func history() {
    var ledger = ledger()
    for (instant, visible) in [(1_000, 10), (5_000, 20), (9_000, 30)] as [(Int, UInt64)] {
      ledger.observed(lease(visible), at: at(instant))
    }
    #expect(ledger.set(1, at: 10_999) == .refuse(.young))
    #expect(ledger.set(1, at: 11_000) == .fill(lease(10)))
    #expect(ledger.set(1, at: 14_999) == .fill(lease(10)))
    #expect(ledger.set(1, at: 15_000) == .fill(lease(20)))
    #expect(ledger.set(1, at: 90_000) == .fill(lease(30)))
    // A record stands until the next one, however long that takes.
    ledger.observed(lease(40), at: at(95_000))
    #expect(ledger.set(1, at: 96_000) == .fill(lease(30)))
    #expect(ledger.set(1, at: 105_000) == .fill(lease(40)))
  }

  @Test("Within a window of the host's boot no SET without a miss is stored")
  func bootedJustNow() {
    var ledger = ledger()
    ledger.observed(lease(10), at: at(0))
    #expect(ledger.set(1, at: 9_999) == .refuse(.young))
    #expect(ledger.set(1, at: 10_000) == .fill(lease(10)))
  }

  @Test("The history is bounded by age and grain, and never answers with a younger lease than the exact one")
  func historyIsBounded() {
    var history = LeaseHistory(grain: ms(40))
    var exact: [(at: Int, visible: UInt64)] = []
    var random = Seeded(5)
    var clock = 0
    for visible in 1...20_000 as ClosedRange<UInt64> {
      clock += Int.random(in: 0...3, using: &random)
      history.append(lease(visible), at: at(clock))
      exact.append((clock, visible))
      history.drop(until: at(clock).back(ms(2 * window)))
      #expect(history.count <= 2 * window / 40 + 2)
      guard visible % 997 == 0, clock > 2 * window else { continue }
      let asked = clock - Int.random(in: 0...2 * window, using: &random)
      let truth = exact.last { $0.at <= asked }
      let answer = history.lease(asOf: at(asked))
      #expect(answer != nil && answer!.stamp.visible.rawValue <= truth!.visible)
      let oldEnough = exact.last { $0.at <= asked - 50 }
      #expect(answer!.stamp.visible.rawValue >= oldEnough!.visible)
    }
  }

  @Test("In the mode aged misses do not matter, and neither does a full table")
  func aged() {
    var ledger = ledger(capacity: 1)
    ledger.observed(lease(10), at: at(1_000))
    ledger.observed(lease(20), at: at(12_000))
    ledger.missed(1, lease: lease(20), at: at(20_000))
    ledger.missed(2, lease: nil, at: at(20_000))
    #expect(ledger.set(1, at: 20_010, rule(.aged)) == .fill(lease(10)))
    #expect(ledger.set(2, at: 20_010, rule(.aged)) == .fill(lease(10)))
    #expect(ledger.set(2, at: 22_000, rule(.aged)) == .fill(lease(20)))
    #expect(ledger.set(1, at: 20_010, rule(.window)) == .refuse(.full))
    #expect(ledger.set(1, at: 5_000, rule(.aged)) == .refuse(.young))
    let late = ledger.verdict(forSetOf: 1, dated: at(22_000), now: at(32_000), rule: rule(.aged))
    #expect(late == .refuse(.late))
  }

  @Test("In the mode off nothing is stored")
  func off() {
    var ledger = ledger()
    ledger.missed(1, lease: lease(100), at: at(20_000))
    #expect(ledger.set(1, at: 20_010, rule(.off)) == .refuse(.off))
  }

  // MARK: Bounds

  @Test("A full table refuses every plain SET for a window, and loses no miss")
  func full() {
    var ledger = ledger(capacity: 2)
    ledger.observed(lease(5), at: at(1_000))
    ledger.missed(1, lease: lease(100), at: at(20_000))
    ledger.missed(2, lease: lease(100), at: at(20_001))
    #expect(ledger.set(1, at: 20_002) == .fill(lease(100)))
    ledger.missed(3, lease: lease(100), at: at(20_003))
    for key: UInt64 in 1...4 {
      #expect(ledger.set(key, at: 20_004) == .refuse(.full))
      #expect(ledger.set(key, at: 30_002) == .refuse(.full))
      #expect(ledger.set(key, at: 30_003) == .fill(lease(5)))
    }
    // One that waited is dated by its arrival here too.
    let waited = ledger.verdict(forSetOf: 3, dated: at(30_002), now: at(35_000), rule: rule())
    #expect(waited == .refuse(.full))
    // A miss that joins a run needs no room.
    ledger.missed(1, lease: lease(100), at: at(31_000))
    #expect(ledger.set(1, at: 31_001) == .fill(lease(100)))
  }

  @Test("Misses that have left the window make room")
  func makesRoom() {
    var ledger = ledger(capacity: 10)
    for step in 0..<100 {
      ledger.missed(UInt64(step), lease: lease(UInt64(step)), at: at(20_000 + step * 2_100))
      #expect(ledger.set(UInt64(step), at: 20_001 + step * 2_100) == .fill(lease(UInt64(step))))
    }
  }

  @Test("A key that is missed all the time does not keep other keys' old misses in the table")
  func hotKeyMakesRoom() {
    var ledger = ledger(capacity: 10)
    for step in 0..<100 {
      ledger.missed(1, lease: lease(100), at: at(20_000 + step * 2_500))
      ledger.missed(UInt64(100 + step), lease: lease(100), at: at(20_001 + step * 2_500))
      #expect(ledger.set(1, at: 20_002 + step * 2_500) == .fill(lease(100)))
    }
  }

  @Test("A key that is missed all the time under growing stamps is at most a grain behind")
  func grain() {
    var ledger = ledger()
    for instant in 1...25_000 { ledger.missed(1, lease: lease(UInt64(instant)), at: at(instant)) }
    guard case .fill(let given) = ledger.set(1, at: 25_000) else {
      Issue.record("refused")
      return
    }
    #expect(given.stamp <= lease(15_001).stamp && given.stamp > lease(15_001 - 40).stamp)
  }

  @Test("Runs answer like a list of every miss, exactly without a grain and to the safe side with one")
  func differential() {
    let seed = UInt64.random(in: .min ... .max)
    var random = Seeded(seed)
    for grain in [0, 1, 40, 500] {
      var runs = MissRuns(capacity: 100_000, grain: ms(grain))
      var all: [(key: UInt64, at: Int, lease: Lease?)] = []
      var (clock, visible, generation) = (1, 1 as UInt64, 1 as UInt64)
      for _ in 0..<4_000 {
        clock += Int.random(in: 0...8, using: &random)
        if Int.random(in: 0..<3, using: &random) == 0 { visible += 1 }
        if Int.random(in: 0..<300, using: &random) == 0 { (generation, visible) = (generation + 1, 1) }
        let key = UInt64.random(in: 0..<5, using: &random)
        // Replies of two connections may overtake each other, so a stamp may be younger than the next.
        let stamp = visible + UInt64.random(in: 0...2, using: &random)
        let given = Int.random(in: 0..<40, using: &random) == 0 ? nil : lease(stamp, of: generation)
        let recorded = runs.append(key, given, at: at(clock))
        #expect(recorded)
        all.append((key, clock, given))
        runs.drop(until: at(clock).back(ms(2 * window)), limit: 16)

        let asked = UInt64.random(in: 0..<5, using: &random)
        let start = clock - Int.random(in: 0...min(clock, window), using: &random)
        all.removeFirst(all.prefix { $0.at <= clock - window }.count)
        let truth = all.first { $0.key == asked && $0.at > start }
        switch (runs.oldest(of: asked, after: at(start)), truth) {
        case (.none, .none): break
        case (.oldest(nil), .some(let truth)):
          if truth.lease != nil { Issue.record("seed \(seed), grain \(grain): refused for nothing") }
        case (.oldest(.some(let answer)), .some(let truth)):
          let safe = truth.lease.map {
            answer.generation == $0.generation && answer.stamp <= $0.stamp
              && (grain > 0 || answer == $0)
          }
          if safe != true { Issue.record("seed \(seed), grain \(grain): \(answer), not \(truth)") }
        case (let answer, let truth):
          Issue.record("seed \(seed): \(answer), not \(String(describing: truth))")
        }
      }
      if grain == 500 { #expect(runs.count < 1_000) }
    }
  }

  // MARK: Merging commands

  @Test("A refused fill bars merging commands on its key for a window, on no other key")
  func bars() {
    var ledger = ledger()
    #expect(ledger.mayMerge(1, at: at(20_000)))
    ledger.refused(1, at: at(20_000))
    #expect(!ledger.mayMerge(1, at: at(20_000)) && ledger.mayMerge(2, at: at(20_000)))
    #expect(!ledger.mayMerge(1, at: at(29_999)) && ledger.mayMerge(1, at: at(30_000)))
    ledger.refused(1, at: at(31_000))
    ledger.refused(1, at: at(35_000))
    #expect(!ledger.mayMerge(1, at: at(44_999)) && ledger.mayMerge(1, at: at(45_000)))
  }

  @Test("When there is no room for a bar, every key is barred for a window; old bars make room")
  func barsAreBounded() {
    var ledger = ledger(capacity: 2)
    for key: UInt64 in 1...2 { ledger.refused(key, at: at(20_000)) }
    #expect(ledger.mayMerge(4, at: at(20_001)))
    ledger.refused(3, at: at(20_002))
    #expect(!ledger.mayMerge(4, at: at(20_003)) && !ledger.mayMerge(4, at: at(30_001)))
    #expect(ledger.mayMerge(4, at: at(30_002)))
    ledger.refused(5, at: at(30_003))
    #expect(!ledger.mayMerge(5, at: at(30_004)) && ledger.mayMerge(6, at: at(30_004)))
  }

  // MARK: Predecessors

  @Test("Until the ledger is told of a predecessor, it takes one to have answered until its own start")
  func unknownPredecessor() {
    var ledger = FillLedger(capacity: 10, seed: 3, started: at(50_000), keep: ms(window))
    ledger.missed(1, lease: lease(100), at: at(50_001))
    #expect(ledger.set(1, at: 50_002) == .refuse(.predecessor))
    #expect(ledger.set(1, at: 59_999) == .refuse(.predecessor))
    #expect(ledger.set(1, at: 60_000) == .fill(lease(100)))
    #expect(!ledger.mayMerge(7, at: at(59_999)) && ledger.mayMerge(7, at: at(60_000)))
  }

  @Test(
    "After a predecessor that crashed, plain SETs wait for a window after its last possible answer",
    arguments: [(47_500, 59_500), (48_500, 60_000), (49_900, 60_000), (38_002, 50_002), (1_000, 50_002)])
  func crashedPredecessor(touched: Int, open: Int) {
    var ledger = FillLedger(capacity: 10, seed: 3, started: at(50_000), keep: ms(window))
    ledger.predecessor(lastTouched: at(touched))
    ledger.missed(1, lease: lease(100), at: at(50_001))
    if open > 50_002 { #expect(ledger.set(1, at: open - 1) == .refuse(.predecessor)) }
    #expect(ledger.set(1, at: open) == .fill(lease(100)))
  }

  @Test("After a clean stop the successor goes on where the predecessor stopped")
  func restores() {
    var old = ledger(capacity: 50, started: 0)
    old.observed(lease(10), at: at(30_000))
    old.observed(lease(20), at: at(36_000))
    old.missed(1, lease: lease(100), at: at(38_000))
    old.missed(1, lease: lease(150, of: 2), at: at(38_500))
    old.missed(2, lease: nil, at: at(39_000))
    old.missed(3, lease: lease(7, deletions: 4), at: at(39_500))
    old.refused(9, at: at(39_900))
    var new = FillLedger(capacity: 50, seed: 99, started: at(41_000), keep: ms(window))
    let restored = new.restore(from: old.serialise())
    #expect(restored && new.seed == 3)
    // A flow whose miss the predecessor answered, and another that misses now.
    new.missed(1, lease: lease(300, of: 2), at: at(41_001))
    #expect(new.set(1, at: 41_002) == .fill(lease(100)))
    #expect(new.set(1, at: 48_000) == .fill(lease(150, of: 2)))
    #expect(new.set(1, at: 48_500) == .fill(lease(300, of: 2)))
    #expect(new.set(2, at: 41_002) == .refuse(.bypassed))
    #expect(new.set(3, at: 41_002) == .fill(lease(7, deletions: 4)))
    #expect(new.set(4, at: 41_002) == .fill(lease(10)))
    #expect(new.set(4, at: 46_000) == .fill(lease(20)))
    #expect(
      !new.mayMerge(9, at: at(49_899)) && new.mayMerge(9, at: at(49_900)) && new.mayMerge(8, at: at(41_000)))
    // Old misses make room in the successor as they would have in the predecessor.
    for key: UInt64 in 100..<145 { new.missed(key, lease: lease(400), at: at(59_000)) }
    #expect(new.set(144, at: 59_001) == .fill(lease(400)))
    #expect(old.serialise() == old.serialise())
  }

  @Test("What a predecessor had no room for, or could not know of its own predecessor, is handed on")
  func restoresDoubt() {
    var old = ledger(capacity: 1)
    old.missed(1, lease: lease(100), at: at(38_000))
    old.missed(2, lease: lease(100), at: at(39_000))
    old.refused(5, at: at(39_400))
    old.refused(6, at: at(39_500))
    var new = FillLedger(capacity: 1, seed: 0, started: at(40_000), keep: ms(window))
    let first = new.restore(from: old.serialise())
    #expect(!new.mayMerge(7, at: at(49_499)) && new.mayMerge(7, at: at(49_500)))
    #expect(first && new.set(1, at: 48_999) == .refuse(.full))
    #expect(new.set(1, at: 49_000) == .refuse(.young))

    var crashed = FillLedger(capacity: 1, seed: 0, started: at(30_000), keep: ms(window))
    crashed.predecessor(lastTouched: at(29_000))
    var third = FillLedger(capacity: 1, seed: 0, started: at(33_000), keep: ms(window))
    let second = third.restore(from: crashed.serialise())
    #expect(second && third.set(1, at: 39_999) == .refuse(.predecessor))
    #expect(third.set(1, at: 40_000) == .refuse(.young))
  }

  @Test("A table cut short at any byte, or with anything behind it, is not restored and changes nothing")
  func malformed() {
    var old = ledger()
    old.observed(lease(10), at: at(30_000))
    old.missed(1, lease: lease(100), at: at(38_000))
    old.missed(2, lease: nil, at: at(38_000))
    old.refused(9, at: at(39_900))
    let whole = old.serialise()
    var new = FillLedger(capacity: 100, seed: 99, started: at(41_000), keep: ms(window))
    for count in 0..<whole.count {
      let restored = new.restore(from: Array(whole.prefix(count)))
      #expect(!restored)
    }
    let longer = new.restore(from: whole + [0])
    #expect(!longer && new.seed == 99 && new.set(1, at: 41_001) == .refuse(.predecessor))
    for index in whole.indices {
      // Whatever one flipped byte makes of it, it does not crash.
      var flipped = whole
      flipped[index] ^= 0xff
      var other = new
      _ = other.restore(from: flipped)
    }
  }

  @Test("A table is not restored if it covers a shorter window, comes from the future, or does not fit")
  func unusable() {
    var old = FillLedger(capacity: 100, seed: 3, started: at(0), keep: ms(5_000))
    old.missed(1, lease: lease(100), at: at(38_000))
    old.missed(2, lease: lease(100), at: at(38_500))
    let table = old.serialise()
    var longer = FillLedger(capacity: 100, seed: 0, started: at(40_000), keep: ms(5_001))
    var earlier = FillLedger(capacity: 100, seed: 0, started: at(38_400), keep: ms(5_000))
    var smaller = FillLedger(capacity: 1, seed: 0, started: at(40_000), keep: ms(5_000))
    var right = FillLedger(capacity: 2, seed: 0, started: at(40_000), keep: ms(5_000))
    let outcomes = [
      longer.restore(from: table), earlier.restore(from: table), smaller.restore(from: table),
      right.restore(from: table),
    ]
    #expect(outcomes == [false, false, false, true])
  }

  // MARK: The file

  @Test(
    "The file says which boot, when it was touched, and after a clean stop the table",
    arguments: [
      nil, [10, 0, 255, 10, 10] as [UInt8]?,
    ])
  func file(table: [UInt8]?) {
    let file = LedgerFile(boot: "6c2d2e2a-0b8c", touched: at(5), table: table)
    #expect(LedgerFile(bytes: file.bytes) == file)
    #expect(
      String(decoding: file.bytes, as: UTF8.self).hasPrefix("nearside ledger 1\n6c2d2e2a-0b8c\n5000000\n"))
  }

  @Test(
    "What is not such a file is none",
    arguments: [
      "", "x", "nearside ledger 1\n", "nearside ledger 1\nboot\n", "nearside ledger 1\nboot\n12",
      "nearside ledger 2\nboot\n12\n", "nearside ledger 1\nboot\n-1\n", "nearside ledger 1\nboot\n\n",
    ])
  func noFile(text: String) { #expect(LedgerFile(bytes: Array(text.utf8)) == nil) }

  @Test("No file, and a file of another boot, mean that nobody answered before")
  func adoptsNothing() {
    for file in [nil, LedgerFile(boot: "other", touched: at(49_900))] {
      var ledger = FillLedger(capacity: 10, seed: 3, started: at(50_000), keep: ms(window))
      ledger.adopt(file, boot: "this")
      ledger.missed(1, lease: lease(100), at: at(50_001))
      #expect(ledger.set(1, at: 50_002) == .fill(lease(100)))
    }
  }

  @Test("A file with a table is restored; without one, or with a broken one, its touch counts")
  func adopts() {
    var old = ledger()
    old.missed(1, lease: lease(100), at: at(48_000))
    let table = old.serialise()
    var whole = FillLedger(capacity: 10, seed: 9, started: at(50_000), keep: ms(window))
    whole.adopt(LedgerFile(boot: "this", touched: at(48_500), table: table), boot: "this")
    #expect(whole.set(1, at: 50_002) == .fill(lease(100)))
    for broken in [nil, Array(table.dropLast())] {
      var ledger = FillLedger(capacity: 10, seed: 9, started: at(50_000), keep: ms(window))
      ledger.adopt(LedgerFile(boot: "this", touched: at(48_500), table: broken), boot: "this")
      ledger.missed(1, lease: lease(300), at: at(50_001))
      #expect(ledger.set(1, at: 59_999) == .refuse(.predecessor))
      #expect(ledger.set(1, at: 60_000) == .fill(lease(300)))
    }
  }
}
