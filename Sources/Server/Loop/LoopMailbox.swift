import CLinux
import Configuration
import Glibc
import Invalidation
import Metrics

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
    /// What the audit has found so far.
    case audit(AuditReport)
    /// A reload has brought this.
    case settings(SettingsChanges)
    /// Somebody asks for figures.
    case report(@Sendable (LoopReport) -> Void)
    /// Somebody asks what there is of a key, and whether with its value.
    case look([UInt8], showsValue: Bool, @Sendable (KeyReport) -> Void)
    /// Somebody asks whether the loop turns.
    case alive(@Sendable () -> Void)
    /// Who watches what clears keys; nil: nobody.
    case tap((@Sendable ([TapEvent]) -> Void)?)
    /// A reader is done with a client.
    case givenBack(GivenBack)
    case stop
  }

  var descriptor: Int32 { queue.descriptor }
  /// The loop's answers to the tail in the embedded mode.
  let localReplies: LocalReplies
  private let queue: WakingQueue<Message>

  /// Nil if the system has no descriptor to give.
  public init?() {
    guard let replies = LocalReplies(), let queue = WakingQueue<Message>() else { return nil }
    localReplies = replies
    self.queue = queue
  }

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

  /// What the audit has found so far.
  public func report(_ report: AuditReport) { post(.audit(report)) }

  /// A reload has brought this; called from any thread.
  public func take(_ changes: SettingsChanges) { post(.settings(changes)) }

  /// What the thread says that takes to PostgreSQL what was written behind.
  public func report(_ report: FlusherReport) { post(.flusher(report)) }

  /// Asks for the loop's figures; `answer` is called on its thread, and must not wait.
  public func askForReport(_ answer: @escaping @Sendable (LoopReport) -> Void) { post(.report(answer)) }

  /// Asks what this host has for a key; `answer` is called on the loop's thread, and must not wait.
  public func look(_ key: [UInt8], showsValue: Bool, _ answer: @escaping @Sendable (KeyReport) -> Void) {
    post(.look(key, showsValue: showsValue, answer))
  }

  /// Calls `answer` on the loop's thread, as soon as that turns again.
  public func askWhetherAlive(_ answer: @escaping @Sendable () -> Void) { post(.alive(answer)) }

  /// From now on `hear` is called with what clears keys, on the loop's thread; it must not wait. nil: nobody is told.
  public func tap(_ hear: (@Sendable ([TapEvent]) -> Void)?) { post(.tap(hear)) }

  /// Asks the loop to answer what it owes and to end.
  public func stop() { post(.stop) }

  func post(_ message: Message) { queue.post(message) }
  func take() -> [Message] { queue.take() }
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
  /// What it has counted; nil: it has not held the slot yet.
  public var figures: TailFigures?

  public init(
    role: Role, trouble: String? = nil, isPostgresAway: Bool = false, position: LSN = .zero,
    confirmed: LSN = .zero, figures: TailFigures? = nil
  ) {
    self.figures = figures
    self.isPostgresAway = isPostgresAway
    self.role = role
    self.trouble = trouble
    self.position = position
    self.confirmed = confirmed
  }
}
