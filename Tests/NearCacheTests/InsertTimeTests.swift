import Glibc
import Invalidation
import Testing

@testable import NearCache

@Suite("The time that an insert takes")
struct InsertTimeTests {
  /// Of this thread alone, in nanoseconds.
  private func processorTime() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  @Test(
    "No insert into a full cache, all of whose entries were asked for, takes longer than 5 ms without optimisation"
  )
  func full() throws {
    var near = try NearCache(bytes: 24 << 20, maxEntry: 1 << 16, seed: 7)
    var count = 0
    while near.statistics.evictions.size == 0 {
      _ = near.put("key:\(count)", "value")
      count += 1
    }
    #expect(count > 200_000)
    for number in 0..<count { _ = near.get("key:\(number)") }
    var longest: UInt64 = 0
    let long = String(repeating: "x", count: 60_000)
    for number in 0..<20_000 {
      let (key, value) = (Array("other:\(number)".utf8), Array((number % 1000 == 999 ? long : "value").utf8))
      let start = processorTime()
      _ = near.put(key, value)
      longest = max(longest, processorTime() - start)
    }
    #expect(longest < 5_000_000)
    let wrong = near.checkInvariants()
    #expect(wrong == nil)
  }
}
