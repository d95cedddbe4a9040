import CLinux
import Glibc
import Invalidation
import Synchronization

/// How other threads speak to the event loop: a queue, and a descriptor that wakes its poll. Messages arrive
/// in the order in which they were posted.
public final class LoopMailbox: Sendable {
  enum Message: Sendable {
    case feed(FeedEvent)
    /// A connection to Redis that a helper thread has made, or why it could not.
    case upstream(token: UInt64, Result<UpstreamSocket, ConnectFailure>)
    /// A write of the tailer in the embedded mode.
    case local(LocalWrite)
    /// What the tail thread is doing now.
    case tail(TailReport)
    /// The tail on this host has begun a generation.
    case began(Generation, reason: String)
    /// A job of the SQL runner has ended.
    case sql(SQLOutcome)
    /// The log writer has carried out an order, up to this position, or could not.
    case written(UInt64, Result<LSN, LogFailure>)
    /// What an application published on a channel of `subscribe`; nil: nobody understands it.
    case announced(Announcement?)
    /// What this host has taken to PostgreSQL of what was written behind.
    case flusher(FlusherReport)
    case stop
  }

  let descriptor: Int32
  /// The loop's answers to the tail in the embedded mode.
  let localReplies: LocalReplies
  private let queue = Mutex<[Message]>([])

  /// Nil if the system has no descriptor to give.
  public init?() {
    guard let replies = LocalReplies() else { return nil }
    localReplies = replies
    descriptor = clinux_eventfd()
    guard descriptor >= 0 else { return nil }
  }

  deinit { close(descriptor) }

  /// What the fleet's feed says; called from the feed's thread.
  public func hear(_ event: FeedEvent) { post(.feed(event)) }

  /// What the tail thread says of itself.
  public func report(_ report: TailReport) { post(.tail(report)) }

  /// The tail thread has begun a generation; why, in a sentence without its full stop and without any row's
  /// value.
  public func began(_ generation: Generation, reason: String) {
    post(.began(generation, reason: reason))
  }

  /// A job that the loop submitted has ended; called from the runner's thread, once a job.
  public func finished(_ outcome: SQLOutcome) { post(.sql(outcome)) }

  /// The log writer is done with an order; called from its thread.
  public func written(_ order: UInt64, _ outcome: Result<LSN, LogFailure>) { post(.written(order, outcome)) }

  /// An application published this on a channel of `subscribe`; called from the thread that listens, which also
  /// reads it: a long message would hold up the loop.
  public func announce(_ message: [UInt8]) { post(.announced(Announcement(message))) }

  /// What the thread says that takes to PostgreSQL what was written behind.
  public func report(_ report: FlusherReport) { post(.flusher(report)) }

  /// Asks the loop to answer what it owes and to end.
  public func stop() { post(.stop) }

  func post(_ message: Message) {
    queue.withLock { $0.append(message) }
    clinux_eventfd_notify(descriptor)
  }

  func take() -> [Message] {
    clinux_eventfd_drain(descriptor)
    return queue.withLock { queue in
      let messages = queue
      queue = []
      return messages
    }
  }
}

/// Why a connection to Redis could not be made, as a sentence.
struct ConnectFailure: Error {
  var sentence: String
}

/// What the tail thread is doing, for `NEARSIDE STATUS`.
public struct TailReport: Sendable, Equatable {
  public enum Role: String, Sendable {
    /// Looks for the slot to become free.
    case follower
    /// Holds the slot and writes the fleet's state.
    case tailer
    /// Tails for this process alone.
    case standalone
    /// Cannot reach PostgreSQL, or cannot use what it finds there; `trouble` says why.
    case waiting
  }

  public var role: Role
  public var trouble: String?
  /// Whether the trouble is that PostgreSQL cannot be reached.
  public var isPostgresAway: Bool
  /// Where the stream stands.
  public var position: LSN
  /// What PostgreSQL was told it may forget.
  public var confirmed: LSN

  public init(
    role: Role, trouble: String? = nil, isPostgresAway: Bool = false, position: LSN = .zero,
    confirmed: LSN = .zero
  ) {
    self.isPostgresAway = isPostgresAway
    self.role = role
    self.trouble = trouble
    self.position = position
    self.confirmed = confirmed
  }
}
