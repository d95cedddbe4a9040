import Invalidation
import Testing

@testable import Server

@Suite("Since when bytes may have been waiting in a socket")
struct ArrivalsTests {
  private func second(_ seconds: Double) -> Instant { Instant(nanoseconds: UInt64(seconds * 1e9)) }
  private func whole(_ number: UInt64, _ began: Double) -> Arrivals.WholePoll {
    Arrivals.WholePoll(number: number, began: second(began))
  }

  @Test("what a Unix socket holds was sent after it was last empty")
  func unix() {
    var arrivals = Arrivals(empty: second(10), poll: 1)
    arrivals.took(1_000_000, at: second(11))
    arrivals.drained(second(11))
    #expect(arrivals.named(in: 2, last: whole(1, 10.5), watched: true) == second(11))
    #expect(arrivals.named(in: 5, last: whole(4, 12), watched: true) == second(12))
  }

  @Test("over TCP it may have been on its way for a second")
  func tcp() {
    var arrivals = Arrivals(empty: second(10), poll: 1, isTCP: true)
    #expect(arrivals.named(in: 1, last: whole(0, 10), watched: true) == second(9))
    arrivals.took(100, at: second(12))
    arrivals.drained(second(12))
    #expect(arrivals.named(in: 2, last: whole(1, 10.5), watched: true) == second(11))
    #expect(arrivals.named(in: 5, last: whole(4, 14), watched: true) == second(13))
  }

  @Test("over TCP what comes behind a full window may have been sent before the window was read")
  func closedWindow() {
    var arrivals = Arrivals(empty: second(10), poll: 1, isTCP: true)
    // The process was stopped for a while: the window had filled up, and the rest waited at the sender.
    arrivals.took(20_000, at: second(30))
    arrivals.took(20_000, at: second(30))
    arrivals.drained(second(30))
    #expect(arrivals.named(in: 2, last: whole(1, 10.5), watched: true) == second(9))
    // Seen empty again so soon, it proves nothing; a second later it does.
    #expect(arrivals.named(in: 5, last: whole(4, 30.9), watched: true) == second(9))
    #expect(arrivals.named(in: 8, last: whole(7, 31.5), watched: true) == second(30.5))
  }
}
