import CLinux
import Glibc
import Testing

@testable import Server

@Suite("Looking for the next command before sleeping (listen.busyPoll)")
struct BusyPollTests {
  private static let bound: UInt64 = 1_000_000

  /// What this thread has used of a processor while it waited so often for what never comes, right behind some work.
  private func timeOfWaits(_ bound: UInt64) -> UInt64 {
    let (epoll, ready) = (clinux_epoll_create(), clinux_eventfd())
    defer { [epoll, ready].forEach { close($0) } }
    #expect(clinux_epoll_add(epoll, ready, UInt32(CLINUX_READABLE), 7) == 0)
    let events = UnsafeMutablePointer<clinux_event>.allocate(capacity: 4)
    defer { events.deallocate() }
    var poll = BusyPoll(bound)
    let before = processorTime()
    for _ in 0..<50 {
      clinux_eventfd_notify(ready)
      #expect(poll.wait(epoll, events, 4, 5000) == 1)
      #expect(events[0].token == 7)
      clinux_eventfd_drain(ready)
      #expect(poll.wait(epoll, events, 4, 2) == 0)
    }
    return processorTime() - before
  }

  private func processorTime() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  @Test("a thread that looks uses its processor for as long, and one that sleeps does not")
  func spins() {
    // Beside other work it gets only a share of the processor, while its bound is one of the clock.
    #expect(timeOfWaits(Self.bound) > 4 * timeOfWaits(0))
  }

  @Test("without work there is nothing to look for")
  func rests() {
    let epoll = clinux_epoll_create()
    defer { close(epoll) }
    let events = UnsafeMutablePointer<clinux_event>.allocate(capacity: 4)
    defer { events.deallocate() }
    var poll = BusyPoll(20_000_000)
    let before = processorTime()
    for _ in 0..<50 { #expect(poll.wait(epoll, events, 4, 1) == 0) }
    #expect(processorTime() - before < 25_000_000)
  }
}
