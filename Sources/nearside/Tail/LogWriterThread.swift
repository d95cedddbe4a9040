import CLinux
import Configuration
import Glibc
import Invalidation
import Postgres
import Server
import Synchronization

/// The thread that writes into PostgreSQL's log what applications want to be cleared by it, on a connection of its
/// own that is made when it is first needed.
///
/// `submit` may be called on any thread; outcomes go to the mailbox.
final class LogWriterThread: LogWriter {
  /// How long an order may wait, and then how long PostgreSQL may take, in nanoseconds.
  private static let patience: UInt64 = 5_000_000_000
  /// Orders that may wait.
  private static let most = 1000

  private struct Inbox {
    var orders: [(order: LogOrder, due: UInt64)] = []
    var isStopping = false
  }

  private let inbox = Mutex(Inbox())
  private let bell: Int32
  private let settings: PostgresSettings
  private let finished: @Sendable (UInt64, Result<LSN, LogFailure>) -> Void
  private let thread = Mutex<Worker.Handle?>(nil)

  /// Nil if the system has no descriptor or no thread to give.
  /// - Parameter finished: hears each outcome.
  init?(
    _ settings: PostgresSettings, finished: @escaping @Sendable (UInt64, Result<LSN, LogFailure>) -> Void
  ) {
    bell = clinux_eventfd()
    self.settings = settings
    self.finished = finished
    guard bell >= 0 else { return nil }
    guard let started = Worker.start("log-writer", { [self] in run() }) else { return nil }
    thread.withLock { $0 = started }
  }

  deinit { close(bell) }

  func submit(_ order: LogOrder) {
    let isTaken = inbox.withLock { inbox in
      guard inbox.orders.count < Self.most else { return false }
      inbox.orders.append((order, clinux_boot_nanoseconds() &+ Self.patience))
      return true
    }
    guard isTaken else {
      return finished(
        order.id, .failure(LogFailure("\(Self.most) of these wait already.", isOverload: true)))
    }
    clinux_eventfd_notify(bell)
  }

  /// Ends the thread behind the order that it is at; returns when it has ended.
  func stop() {
    inbox.withLock { $0.isStopping = true }
    clinux_eventfd_notify(bell)
    thread.withLock { $0.take() }?.join()
  }

  // MARK: On the thread

  private func run() {
    var session: SQLSession?
    while true {
      clinux_eventfd_drain(bell)
      let (orders, isStopping) = inbox.withLock { inbox in
        defer { inbox.orders = [] }
        return (inbox.orders, inbox.isStopping)
      }
      if isStopping { return }
      for (order, due) in orders {
        if inbox.withLock({ $0.isStopping }) { return }
        guard clinux_boot_nanoseconds() < due else {
          let failure = LogFailure("PostgreSQL was busy with others of these for too long.", isOverload: true)
          finished(order.id, .failure(failure))
          continue
        }
        finished(order.id, write(order.names, &session))
      }
      guard orders.isEmpty else { continue }
      var waiting = pollfd(fd: bell, events: Int16(POLLIN), revents: 0)
      _ = poll(&waiting, 1, -1)
    }
  }

  /// - Parameter wasSent: whether an earlier connection may have carried it out.
  private func write(
    _ names: LogOrder.Names, _ session: inout SQLSession?, wasSent: Bool = false
  ) -> Result<LSN, LogFailure> {
    let isFresh = session == nil
    var isCommitted = false
    do throws(PostgresError) {
      if session == nil { session = try SQLSession(settings) }
      switch names {
      case .keys(let keys): try session?.invalidate(keys: keys, timeout: Self.patience)
      case .tags(let tags): try session?.invalidate(tags: tags, timeout: Self.patience)
      }
      isCommitted = true
      guard let position = try session?.logPosition(timeout: Self.patience) else {
        return .failure(LogFailure("PostgreSQL does not say how far its log reaches.", isUnknown: true))
      }
      return .success(position)
    } catch {
      // A server that is stopped ends its sessions with an error of its own, perhaps behind their commit.
      let isLost =
        error.kind == .connectionLost || error.sqlState.map(StatementPool.Failure.meansGone) == true
      let isGone = isLost || error.kind == .timedOut || error.kind == .protocolViolation
      let hadSession = session != nil
      if isGone { session = nil }
      // A connection that has stood for long may have been gone for long.
      if isLost, !isFresh { return write(names, &session, wasSent: true) }
      return .failure(
        LogFailure(Self.sentence(error), isUnknown: wasSent || isCommitted || isGone && hadSession))
    }
  }

  /// What is wrong in most cases, and what mends it.
  private static func sentence(_ error: PostgresError) -> String {
    switch error.sqlState {
    case "42501":
      "The sidecar's role may not call the functions of schema nearside; nearside setup grants it (GRANT USAGE ON "
        + "SCHEMA nearside)."
    case "3F000", "42883":
      "The database does not have the function that this needs; run nearside setup, which makes it."
    default: error.description
    }
  }
}
