import CLinux
import Configuration
import Glibc
import Logging
import Postgres
import Server
import Synchronization

/// The thread that runs SQL for the event loop: one pool of connections for loads, and another for writes. Of
/// each the first connection is made at once if a statement is of its kind.
///
/// `submit` may be called on any thread; outcomes go to the mailbox. It outlives the event loop: call `stop` when
/// nobody awaits an outcome any more.
final class LoaderThread: SQLRunner {
  private struct Inbox {
    var jobs: [SQLJob] = []
    /// Nanoseconds since boot; nil: not asked to stop.
    var stopBy: UInt64?
  }

  /// Wakes the poll. Its own object, since an attempt to connect may end after the thread has.
  private final class Bell: Sendable {
    let descriptor: Int32

    init?() {
      descriptor = clinux_eventfd()
      guard descriptor >= 0 else { return nil }
    }

    deinit { close(descriptor) }

    func ring() { clinux_eventfd_notify(descriptor) }
  }

  private let inbox = Mutex(Inbox())
  private let bell: Bell
  private let statements: [SQLStatement]
  private let settings: PostgresSettings
  private let finished: @Sendable (SQLOutcome) -> Void
  private let log: Logger
  private let thread = Mutex<Worker.Handle?>(nil)

  /// Nil if the system has no descriptor or no thread to give.
  /// - Parameter finished: hears each outcome, on the loader's thread.
  init?(
    _ settings: PostgresSettings, statements: [SQLStatement], log: Logger = Logger(label: "loader"),
    finished: @escaping @Sendable (SQLOutcome) -> Void
  ) {
    guard let bell = Bell() else { return nil }
    self.bell = bell
    self.settings = settings
    self.statements = statements
    self.finished = finished
    self.log = log
    guard let started = Worker.start("loader", { [self] in run() }) else { return nil }
    thread.withLock { $0 = started }
  }

  func submit(_ job: SQLJob) {
    inbox.withLock { $0.jobs.append(job) }
    bell.ring()
  }

  /// Ends the thread once all that it was given is answered, or `drain` nanoseconds from now; returns when it has
  /// ended.
  func stop(drain: UInt64 = 2_000_000_000) {
    inbox.withLock { $0.stopBy = Self.now() &+ drain }
    bell.ring()
    thread.withLock { $0.take() }?.join()
  }

  private static func now() -> UInt64 { clinux_boot_nanoseconds() }

  // MARK: On the thread

  private func run() {
    var loads = pool(.reads(replica: settings.loader.isReplica))
    var writes = pool(.writes)
    var loadTrouble = Trouble(of: "loads")
    var writeTrouble = Trouble(of: "writes")
    let isWrite = statements.map { $0.mode == .write }
    let hasLoads = isWrite.contains(false)
    let hasWrites = isWrite.contains(true)
    var descriptors: [pollfd] = []
    while true {
      let (jobs, stopBy) = takeInbox()
      let now = Self.now()
      for job in jobs {
        let taken = StatementPool.Job(id: job.id, statement: job.statement, parameters: job.parameters)
        if isWrite[job.statement] {
          writes.submit(taken, now: now)
        } else {
          loads.submit(taken, now: now)
        }
      }
      if hasLoads {
        for completion in loads.turn(now: now) { finished(SQLOutcome(completion)) }
        loadTrouble.report(loads.trouble, log)
      }
      if hasWrites {
        for completion in writes.turn(now: now) { finished(SQLOutcome(completion)) }
        writeTrouble.report(writes.trouble, log)
      }
      if let stopBy, loads.isIdle && writes.isIdle || now >= stopBy { return }

      descriptors.removeAll(keepingCapacity: true)
      descriptors.append(pollfd(fd: bell.descriptor, events: Int16(POLLIN), revents: 0))
      var due = stopBy ?? .max
      if hasLoads {
        loads.watch(&descriptors)
        due = min(due, loads.nextTurn ?? .max)
      }
      if hasWrites {
        writes.watch(&descriptors)
        due = min(due, writes.nextTurn ?? .max)
      }
      Self.wait(&descriptors, until: due)
    }
  }

  private func takeInbox() -> (jobs: [SQLJob], stopBy: UInt64?) {
    clinux_eventfd_drain(bell.descriptor)
    return inbox.withLock { inbox in
      let jobs = inbox.jobs
      inbox.jobs = []
      return (jobs, inbox.stopBy)
    }
  }

  private static func wait(_ descriptors: inout [pollfd], until due: UInt64) {
    let now = now()
    let milliseconds = due == .max ? -1 : due <= now ? 0 : Int32(clamping: (due - now + 999_999) / 1_000_000)
    _ = poll(&descriptors, nfds_t(descriptors.count), milliseconds)
  }

  /// A write needs a primary, and the loader's server need not be one.
  private func pool(_ access: StatementPool.Access) -> StatementPool {
    let loader = settings.loader
    let isElsewhere = access == .writes && loader.isReplica
    let bell = bell
    return StatementPool(
      url: isElsewhere ? settings.url : loader.url,
      password: isElsewhere ? settings.password : loader.password,
      access: access, statements: statements.map { StatementPool.Statement($0) },
      connections: loader.connections,
      spawn: { body in Worker.detached("loader-connect", body) }, wake: { bell.ring() })
  }

  /// Says once that connections cannot be made, and once that they can again.
  private struct Trouble {
    let of: String
    var last: String?

    init(of: String) { self.of = of }

    mutating func report(_ trouble: String?, _ log: Logger) {
      guard trouble != last else { return }
      if let trouble {
        log.warning("\(of): \(trouble)")
      } else {
        log.notice("\(of): connected to PostgreSQL")
      }
      last = trouble
    }
  }
}

extension StatementPool.Statement {
  fileprivate init(_ statement: SQLStatement) {
    let shape: StatementPool.Shape =
      switch statement.mode {
      case .write: .any
      case .loadMany: .table
      case .load(as: .string): .value
      case .load(as: .list), .load(as: .set): .values
      case .load(as: .hash): .fields
      }
    self.init(
      sql: statement.sql, parameterCount: statement.parameterCount, shape: shape, timeout: statement.timeout)
  }
}

extension SQLOutcome {
  fileprivate init(_ completion: StatementPool.Completion) {
    let result: Result<SQLRows, SQLFailure> =
      switch completion.result {
      case .success(let rows):
        .success(
          SQLRows(
            columns: rows.columns, height: rows.height, values: rows.values, affected: rows.affected,
            transaction: rows.transaction))
      case .failure(let failure):
        .failure(
          SQLFailure(
            kind: SQLFailure.Kind(failure.kind), sqlState: failure.sqlState, sentence: failure.sentence))
      }
    self.init(
      id: completion.id, result: result, took: completion.took, replayed: completion.replayed,
      types: completion.types)
  }
}

extension SQLFailure.Kind {
  fileprivate init(_ kind: StatementPool.Failure.Kind) {
    self =
      switch kind {
      case .statement: .statement
      case .unreachable: .unreachable
      case .timedOut: .timedOut
      case .overloaded: .overloaded
      }
  }
}
