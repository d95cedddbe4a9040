import CLinux
import Glibc
import Invalidation

/// A client that a reader is to answer. Nothing of it is half read, owed or unsent.
struct Loan: Sendable {
  var client: ClientToken
  var descriptor: Int32
  var arrivals: Arrivals
  /// How many commands were answered.
  var answered = 0
  /// When it was last heard.
  var heardAt: Instant
}

/// A client that a reader gives back, to go on as if the event loop had read these bytes itself.
struct GivenBack: Sendable {
  var loan: Loan
  /// Bytes from the first command on that was not answered.
  var unread: [UInt8]
  /// What they were sent after.
  var unreadSince: Instant
  /// The end of the answers, which the socket did not take.
  var unsent: [UInt8]
  /// It has said nothing for a while; nothing else is the matter.
  var isIdle: Bool
}

/// How the event loop speaks to a reader.
final class ReaderMailbox: Sendable {
  enum Message: Sendable {
    case lend(Loan)
    /// Give it back.
    case recall(ClientToken)
    /// The client is gone: its descriptor is to be closed, unless it has been given back already.
    case close(ClientToken)
    /// A reload has brought these.
    case settings(Governance, auditShare: Double)
    /// Give everything back, and end.
    case stop
  }

  /// What the reader waits at; it reports messages by `token`.
  let epoll: Int32
  private let queue: WakingQueue<Message>

  static let token = UInt64.max

  /// Nil if the system has no descriptor to give.
  init?() {
    guard let queue = WakingQueue<Message>() else { return nil }
    self.queue = queue
    epoll = clinux_epoll_create()
    guard epoll >= 0, clinux_epoll_add(epoll, queue.descriptor, UInt32(CLINUX_READABLE), Self.token) == 0
    else { return nil }
  }

  deinit { if epoll >= 0 { Glibc.close(epoll) } }

  func post(_ message: Message) { queue.post(message) }
  func take() -> [Message] { queue.take() }
}
