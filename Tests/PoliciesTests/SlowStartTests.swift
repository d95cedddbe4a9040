import Testing

@testable import Policies

@Suite("How many loads may run at once")
struct SlowStartTests {
  @Test("After a flush it begins with two, and grows by one with each answer, up to its limit")
  func grows() {
    var pace = SlowStart(most: 8)
    #expect(pace.limit == 8)
    pace.begin()
    #expect(pace.limit == 2 && pace.starts == 1)
    for limit in [3, 4, 5, 6, 7, 8, 8] {
      pace.succeeded()
      #expect(pace.limit == limit)
    }
    // What begins anew while it has hardly begun is one start.
    pace.begin()
    pace.begin()
    #expect(pace.limit == 2 && pace.starts == 2)
  }

  @Test("A statement that takes too long halves it, down to where it begins")
  func slowed() {
    var pace = SlowStart(most: 20)
    pace.slowed()
    #expect(pace.limit == 10)
    for _ in 0..<5 { pace.slowed() }
    #expect(pace.limit == 2)
    #expect(SlowStart(most: 1).limit == 2)
  }

  /// A database whose statements take one round each: how many came in each round until 1000 keys were loaded.
  func rounds(paced: Bool) -> [Int] {
    var pace = SlowStart(most: 128)
    if paced { pace.begin() }
    var table = LoadTable<String, String>(mostRunning: pace.limit)
    for n in 0..<1000 {
      _ = table.join(Array("\(n)".utf8), waiter: UInt64(n), arrival: 1, lease: nil, takesValue: true)
    }
    var rounds: [Int] = []
    while table.count > 0 {
      var running: [UInt64] = []
      while let start = table.next(isThere: { _ in true }) {
        _ = table.begins(start.load)
        running.append(start.load)
      }
      rounds.append(running.count)
      for load in running {
        _ = table.finished(load, .value("v"))
        pace.succeeded()
      }
      table.mostRunning = pace.limit
    }
    return rounds
  }

  @Test("A thousand misses are a herd without it, and come in rounds that double with it")
  func herd() {
    #expect(rounds(paced: false).prefix(2) == [128, 128])
    #expect(rounds(paced: true).prefix(8) == [2, 4, 8, 16, 32, 64, 128, 128])
  }
}
