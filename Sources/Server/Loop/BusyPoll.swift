import CLinux

/// Waits for descriptors; with a bound above zero it looks again and again for so long behind the last work, before it
/// sleeps.
///
/// A thread that sleeps must be woken when a command comes, which takes the kernel longer than the answer takes us. While
/// it looks it answers at once, and takes a whole processor for that; so the bound is that of a client's next command. What
/// the sidecar hears of Redis counts like a command: three to ten times a second where nobody asks for anything.
struct BusyPoll {
  /// In nanoseconds; 0: it sleeps at once.
  let bound: UInt64
  /// Whether descriptors were ready since it last began to look.
  private var hasWorked = false
  private var looksUntil: UInt64 = 0

  init(_ bound: UInt64) { self.bound = bound }

  /// As `clinux_epoll_wait`, whose `timeout` is how long it may sleep in the end. What is looked at before is older than
  /// that sleep: a caller that remembers when it began to wait is right about both.
  mutating func wait(
    _ epoll: Int32, _ events: UnsafeMutablePointer<clinux_event>, _ capacity: Int32, _ timeout: Int32
  ) -> Int32 {
    var count = Int32(0)
    if bound > 0, timeout > 0 {
      if hasWorked {
        // What was ready has been dealt with by now.
        looksUntil = clinux_boot_nanoseconds() + bound
        hasWorked = false
      }
      repeat {
        count = clinux_epoll_wait(epoll, events, capacity, 0)
      } while count == 0 && clinux_boot_nanoseconds() < looksUntil
    }
    if count == 0 { count = clinux_epoll_wait(epoll, events, capacity, timeout) }
    if count > 0 { hasWorked = true }
    return count
  }
}
