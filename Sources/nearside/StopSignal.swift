import CLinux
import Glibc
import Synchronization

/// Tells threads to end: a flag to look at, and a descriptor that a poll can wait for.
final class StopSignal: Sendable {
  let descriptor: Int32
  private let flag = Atomic<Bool>(false)

  init() { descriptor = clinux_eventfd() }

  deinit { close(descriptor) }

  var isSet: Bool { flag.load(ordering: .acquiring) }

  func set() {
    flag.store(true, ordering: .releasing)
    // Never drained: whoever polls it from now on returns at once.
    clinux_eventfd_notify(descriptor)
  }

  /// Rests for `nanoseconds`, or until the signal is set.
  func wait(_ nanoseconds: UInt64) {
    guard !isSet else { return }
    var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    _ = poll(&waiting, 1, Int32(clamping: nanoseconds / 1_000_000))
  }
}
