import Invalidation
import Testing

@testable import Server

@Suite("The slow log")
struct SlowLogTests {
  private func at(_ milliseconds: UInt64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }
  private func note(_ command: String, _ milliseconds: UInt64, keys: Int = 1) -> SlowLog.Note {
    SlowLog.Note(command: command, keys: keys, since: at(milliseconds))
  }

  @Test("Beyond the bound there is a line, at the bound there is none, and without one nothing is timed")
  func bound() {
    var slow = SlowLog(bound: 100_000_000)
    let exact = slow.took(note("get", 0), now: at(100))
    #expect(exact == nil)
    let line = slow.took(note("get", 0, keys: 2), now: at(101))
    #expect(line == SlowLog.Line(command: "get", keys: 2, took: 101_000_000))
    slow.change(to: nil)
    #expect(!slow.isOn)
    let off = slow.took(note("set", 0), now: at(9000))
    #expect(off == nil)
  }

  @Test(
    "Of each command one line in ten seconds; how many more there were, and the longest, is told behind them")
  func rate() {
    var slow = SlowLog(bound: 1_000_000)
    for index in 0..<50 as Range<UInt64> {
      let line = slow.took(note("get", index), now: at(index + 10 + index % 7))
      #expect((line != nil) == (index == 0))
    }
    let other = slow.took(note("set", 0), now: at(60))
    #expect(other?.command == "set")
    let early = slow.due(now: at(9_000))
    #expect(early.isEmpty)
    let due = slow.due(now: at(11_000))
    #expect(due == [SlowLog.Line(command: "get", took: 16_000_000, count: 49)])
    // It goes on from there, and ends when nothing more comes.
    let again = slow.took(note("get", 11_500), now: at(11_900))
    #expect(again == nil)
    let last = slow.due(now: at(21_000))
    #expect(last == [SlowLog.Line(command: "get", took: 400_000_000, count: 1)])
    let none = slow.due(now: at(40_000))
    #expect(none.isEmpty)
  }

  @Test(
    "Commands are told in the order of their client, when what it is owed is settled, and of a client that is gone none"
  )
  func order() {
    var slow = SlowLog(bound: 1)
    slow.await(3, entry: 7, note("a", 1))
    slow.await(3, entry: 8, note("b", 2))
    slow.await(4, entry: 0, note("c", 3))
    let early = slow.answered(3, settled: 7)
    #expect(early == nil)
    let first = slow.answered(3, settled: 9)
    let second = slow.answered(3, settled: 9)
    let third = slow.answered(3, settled: 9)
    #expect(first?.command == "a" && second?.command == "b" && third == nil)
    slow.forget(4)
    let gone = slow.answered(4, settled: 5)
    #expect(gone == nil)
  }

  @Test("A command that is executed again was read when it was read")
  func again() {
    var slow = SlowLog(bound: 1)
    slow.pause(2, since: at(5))
    #expect(slow.since(2, now: at(90)) == at(5))
    slow.resume(2)
    #expect(slow.since(2, now: at(90)) == at(90))
  }
}
