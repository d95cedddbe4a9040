import CLinux
import Glibc
import Synchronization

/// Messages for one thread, in the order in which they were posted, and a descriptor that wakes its poll.
final class WakingQueue<Message: Sendable>: Sendable {
  let descriptor: Int32
  private let messages = Mutex<[Message]>([])

  /// Nil if the system has no descriptor to give.
  init?() {
    descriptor = clinux_eventfd()
    guard descriptor >= 0 else { return nil }
  }

  deinit { close(descriptor) }

  /// From any thread.
  func post(_ message: Message) {
    messages.withLock { $0.append(message) }
    clinux_eventfd_notify(descriptor)
  }

  /// Everything posted so far.
  func take() -> [Message] {
    clinux_eventfd_drain(descriptor)
    return messages.withLock { messages in
      let taken = messages
      messages = []
      return taken
    }
  }
}
