import Configuration
import DequeModule
import Glibc

/// Runs a fixed list of statements on a few connections to PostgreSQL, without ever waiting for one.
///
/// How it works:
/// 1. `submit` jobs at any time.
/// 2. Poll what `watch` adds, for at most until `nextTurn`; call `turn`, which moves everything on and returns
///    what has ended. Every job ends exactly once.
/// 3. Whoever lets go of it closes its connections; jobs under way have no completion then.
///
/// Connections are made when jobs want them, at most `connections` of them, and stay. While none can be made, jobs
/// fail at once, and one attempt after the other is made, less and less often. A statement is prepared once a
/// connection, its parameters typed by the server; it is prepared anew, and run once more, when what it reads has
/// been altered so that the server refuses the old plan. A row that was of several columns when its statement was
/// first prepared on some connection stays a JSON object for that one if all columns but one are dropped.
///
/// What sessions print is pinned as everywhere, but search_path is the role's own, so that statements name tables
/// as applications do.
///
/// It belongs to one thread, whose clock gives every `now`: nanoseconds that only grow.
public struct StatementPool: ~Copyable {
  private struct Waiting {
    var job: Job
    var deadline: UInt64
  }

  /// How long jobs wait for a first connection that is still being made, in nanoseconds; afterwards they fail.
  static let patience: UInt64 = 250_000_000
  static let shortestPause: UInt64 = 100_000_000
  static let longestPause: UInt64 = 5_000_000_000

  private let statements: [Statement]
  private let access: Access
  private let connections: Int
  private let mostWaiting: Int
  private let connector: Connector

  private var sessions: [Session] = []
  private var attempts: [Attempt] = []
  private var waiting = Deque<Waiting>()
  private var completions: [Completion] = []
  private var forms: [Form?]
  /// No waiting job's deadline lies before this.
  private var firstDeadline = UInt64.max
  /// When the last connection was lost, or the first one was wanted; nil while one stands.
  private var unconnectedSince: UInt64?
  private var failures = 0
  private var nextAttempt: UInt64 = 0
  private var lastTrouble: PostgresError?

  /// - Parameters:
  ///   - url: a libpq connection string or URL; empty: libpq's own variables decide.
  ///   - connections: how many at most, at least 1.
  ///   - waiting: how many jobs may wait for a connection; more are refused at once.
  ///   - spawn: runs something on a thread of its own; false if the system refuses one. Connections are made there.
  ///   - wake: ends the poll of the pool's thread; called on other threads.
  public init(
    url: Secret, password: Secret?, access: Access, statements: [Statement], connections: Int,
    waiting: Int = 1024, spawn: @escaping @Sendable (@escaping @Sendable () -> Void) -> Bool,
    wake: @escaping @Sendable () -> Void
  ) {
    precondition(connections > 0)
    self.statements = statements
    self.access = access
    self.connections = connections
    mostWaiting = waiting
    forms = Array(repeating: nil, count: statements.count)
    connector = Connector(
      url: url, password: password, access: access,
      timeout: Script.milliseconds(statements.first?.timeout ?? 0), spawn: spawn, wake: wake)
  }

  /// Why the newest attempt to connect has failed; nil once one has succeeded.
  public var trouble: String? { lastTrouble?.description }
  /// How many connections stand.
  public var standing: Int { sessions.count }
  /// Whether every job has been handed out as a completion.
  public var isIdle: Bool {
    waiting.isEmpty && completions.isEmpty && sessions.allSatisfy { $0.job == nil }
  }

  /// Takes a job. What cannot be begun ends with the next turn, without having been sent.
  public mutating func submit(_ job: Job, now: UInt64) {
    let statement = statements[job.statement]
    if unconnectedSince == nil, sessions.isEmpty { unconnectedSince = now }
    if job.parameters.count != statement.parameterCount {
      refuse(job, .wrongCount(given: job.parameters.count, wanted: statement.parameterCount))
    } else if job.parameters.contains(where: { $0?.contains(0) == true }) {
      refuse(job, .zeroByte)
    } else if isUnreachable(now) {
      refuse(job, .unreachable(lastTrouble?.what))
    } else if waiting.count >= mostWaiting {
      refuse(job, .overloaded(mostWaiting))
    } else {
      let deadline = now &+ statement.timeout
      waiting.append(Waiting(job: job, deadline: deadline))
      firstDeadline = min(firstDeadline, deadline)
    }
  }

  /// Adds the descriptors to poll.
  public func watch(_ list: inout [pollfd]) {
    for session in sessions {
      let events = Int16(POLLIN) | (session.wantsToWrite ? Int16(POLLOUT) : 0)
      list.append(pollfd(fd: session.connection.descriptor, events: events, revents: 0))
    }
  }

  /// When the next turn is due though nothing has happened on any descriptor; nil: never.
  public var nextTurn: UInt64? {
    var due = min(firstDeadline, sessions.reduce(UInt64.max) { min($0, $1.deadline) })
    if wantsConnection { due = min(due, nextAttempt) }
    if let unconnectedSince, !waiting.isEmpty { due = min(due, unconnectedSince &+ Self.patience) }
    if !completions.isEmpty { due = 0 }
    return due == .max ? nil : due
  }

  /// Moves everything on as far as that goes without waiting; returns the jobs that have ended.
  public mutating func turn(now: UInt64) -> [Completion] {
    adopt(now)
    for session in sessions { settle(session, session.advance(), now) }
    expire(now)
    dispatch(now)
    connect(now)
    defer { completions = [] }
    return completions
  }

  // MARK: Jobs

  private mutating func dispatch(_ now: UInt64) {
    var index = 0
    while index < sessions.count, !waiting.isEmpty {
      let session = sessions[index]
      if session.job == nil {
        let next = waiting.removeFirst()
        let statement = next.job.statement
        let progress = session.begin(next.job, statements[statement], form: forms[statement], now: now)
        // A lost one leaves its place to another. Its first command alone has done nothing.
        if case .lost = progress {
          close(session, .lost(writes: false), now)
          continue
        }
        settle(session, progress, now)
      }
      index += 1
    }
    if waiting.isEmpty { firstDeadline = .max }
  }

  private mutating func settle(_ session: Session, _ progress: Session.Progress, _ now: UInt64) {
    switch progress {
    case .nothing:
      if now >= session.deadline { close(session, .silent(writes: access == .writes), now) }
    case .done(let result): complete(session, result, now)
    case .lost(let refusal):
      // Whatever the server said last, it may have been about a write that it had committed.
      close(
        session,
        access == .writes ? .lost(writes: true) : refusal.map { Failure($0) } ?? .lost(writes: false), now)
    }
  }

  private mutating func complete(_ session: Session, _ result: Result<Rows, Failure>, _ now: UInt64) {
    guard let job = session.job else { return }
    forms[job.statement] = session.script.form
    completions.append(
      Completion(
        id: job.id, result: result, took: now &- session.sent, replayed: session.script.replayed,
        types: session.script.form?.types ?? []))
    session.clear()
  }

  private mutating func close(_ session: Session, _ failure: Failure, _ now: UInt64) {
    complete(session, .failure(failure), now)
    sessions.removeAll { $0 === session }
    if sessions.isEmpty { unconnectedSince = now }
    // A server that takes connections only to end them is not asked again at once.
    if now &- session.since < 1_000_000_000 { postpone(now) }
  }

  private mutating func refuse(_ job: Job, _ failure: Failure) {
    completions.append(Completion(id: job.id, result: .failure(failure), took: 0, replayed: nil))
  }

  private mutating func expire(_ now: UInt64) {
    let all = isUnreachable(now)
    guard all || now >= firstDeadline else { return }
    let failure = all ? Failure.unreachable(lastTrouble?.what) : .waitedTooLong
    for next in waiting where all || now >= next.deadline { refuse(next.job, failure) }
    if all { waiting.removeAll() } else { waiting.removeAll { now >= $0.deadline } }
    firstDeadline = waiting.reduce(UInt64.max) { min($0, $1.deadline) }
  }

  // MARK: Connections

  private func isUnreachable(_ now: UInt64) -> Bool {
    guard sessions.isEmpty else { return false }
    return lastTrouble != nil || unconnectedSince.map { now >= $0 &+ Self.patience } ?? false
  }

  /// One connection always, more while jobs wait for them. After a failure one attempt at a time has to do.
  private var wantsConnection: Bool {
    let busy = sessions.reduce(0) { $0 + ($1.job == nil ? 0 : 1) }
    let wanted = min(connections, max(1, busy + waiting.count))
    return sessions.count + attempts.count < wanted && (failures == 0 || attempts.isEmpty)
  }

  private mutating func connect(_ now: UInt64) {
    while wantsConnection, now >= nextAttempt {
      if sessions.isEmpty, unconnectedSince == nil { unconnectedSince = now }
      attempts.append(connector.begin())
    }
  }

  private mutating func adopt(_ now: UInt64) {
    var pending: [Attempt] = []
    for attempt in attempts {
      switch attempt.take() {
      case .pending: pending.append(attempt)
      case .ready(let connection):
        let asks = access == .reads(replica: true)
        let script = Script(timeout: connector.timeout, asksReplayed: asks)
        sessions.append(Session(connection, script, since: now))
        unconnectedSince = nil
        lastTrouble = nil
        failures = 0
        nextAttempt = 0
      case .failed(let error):
        lastTrouble = error
        postpone(now)
      }
    }
    attempts = pending
  }

  private mutating func postpone(_ now: UInt64) {
    let pause = min(Self.shortestPause << UInt64(min(failures, 16)), Self.longestPause)
    failures += 1
    nextAttempt = now &+ UInt64.random(in: pause / 2...pause)
  }
}
