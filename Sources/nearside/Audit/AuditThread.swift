import CLinux
import Configuration
import Glibc
import Invalidation
import Logging
import Metrics
import Postgres
import Redis
import Server
import Synchronization

/// Compares a share of what is served with the database: it is given keys, reads them through this sidecar's own socket
/// as any client would, and runs the template's `load` on a connection of its own.
final class AuditThread: KeySampler {
  /// Keys that wait; more are let go.
  private static let most = 64
  /// Behind each comparison, in nanoseconds.
  private static let pause: UInt64 = 50_000_000
  /// How long PostgreSQL and this host may take for one step, in nanoseconds.
  private static let patience: UInt64 = 5_000_000_000

  private struct Inbox {
    var keys: [[UInt8]] = []
    /// The one that is being compared: reading it is a hit like any other, and no reason to compare it again.
    var current: [UInt8]?
    var outcome: SQLOutcome?
  }

  private let settings: Settings
  /// The socket of the applications as it is served, which a socket unit may have put elsewhere than `listen` says.
  private let socket: String
  private let plan: AuditPlan
  private let stop: StopSignal
  private let mailbox: LoopMailbox
  private let log: Logger
  private let inbox = Mutex(Inbox())
  private let bell: Int32
  private let answers: Int32

  /// Nil if no cache loads anything, or the system has no descriptor to give.
  init?(_ settings: Settings, socket: String, _ mailbox: LoopMailbox, _ stop: StopSignal, _ log: Logger) {
    self.socket = socket
    plan = AuditPlan(settings)
    self.settings = settings
    self.stop = stop
    self.mailbox = mailbox
    self.log = log
    bell = clinux_eventfd()
    answers = clinux_eventfd()
    guard !plan.statements.isEmpty, bell >= 0, answers >= 0 else { return nil }
  }

  deinit {
    close(bell)
    close(answers)
  }

  func sample(_ key: [UInt8]) {
    let isTaken = inbox.withLock { inbox in
      guard inbox.keys.count < Self.most, inbox.current != key else { return false }
      inbox.keys.append(key)
      return true
    }
    if isTaken { clinux_eventfd_notify(bell) }
  }

  // MARK: On the thread

  /// Runs until the stop signal; connects when the first key has come.
  func run() {
    var report = AuditReport()
    while !stop.isSet {
      guard let key = next(), let job = plan.job(for: key) else { continue }
      switch compare(key, job) {
      case .agrees: report.samples += 1
      case .stale:
        report.samples += 1
        report.stale += 1
      case .undecided: report.undecided += 1
      }
      mailbox.report(report)
      stop.wait(Self.pause)
    }
    loader.withLock { $0.take() }?.stop()
  }

  private func next() -> [UInt8]? {
    let key = inbox.withLock { inbox in
      inbox.current = inbox.keys.isEmpty ? nil : inbox.keys.removeFirst()
      return inbox.current
    }
    if let key { return key }
    wait(bell, 1000)
    clinux_eventfd_drain(bell)
    return nil
  }

  /// Until the descriptor can be read, the stop signal is set, or so many milliseconds have passed.
  private func wait(_ descriptor: Int32, _ milliseconds: Int32) {
    var waiting = [
      pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: stop.descriptor, events: Int16(POLLIN), revents: 0),
    ]
    _ = poll(&waiting, nfds_t(waiting.count), milliseconds)
  }

  private func compare(_ key: [UInt8], _ job: AuditPlan.Job) -> AuditTrial.Verdict {
    do throws(AuditTrouble) {
      var connection = try connect()
      var trial = AuditTrial()
      var step = AuditTrial.Step.read
      while !stop.isSet {
        switch step {
        case .read: step = trial.read(try read(key, job.shape, &connection))
        case .load: step = trial.loaded(try load(job))
        case .settle: step = trial.settled(try settle(&connection))
        case .done(let verdict):
          if verdict == .stale { tell(key, job, try account(of: key, &connection)) }
          return verdict
        }
      }
    } catch {
      log.warning("a cached value could not be compared with the database: \(error.sentence)")
    }
    return .undecided
  }

  private func tell(_ key: [UInt8], _ job: AuditPlan.Job, _ account: String) {
    let facts = account.split(separator: "\n").filter { !$0.hasPrefix("key:") }.joined(separator: " ")
    log.error("a cached value of \(job.template) differs from the database; \(facts)")
    log.debug("it is the value of \(String(decoding: key, as: UTF8.self))")
  }

  // MARK: This sidecar

  private func connect() throws(AuditTrouble) -> RedisConnection {
    do throws(RedisError) {
      return try RedisConnection(
        RedisSettings(
          endpoint: .unix(path: socket), user: nil, password: settings.listen.password,
          database: settings.redis?.database ?? 0, timeout: 2 * Self.patience), name: "nearside-audit")
    } catch {
      throw AuditTrouble(sentence: error.description)
    }
  }

  /// Nil: the read was answered by an error.
  private func read(
    _ key: [UInt8], _ shape: SQLStatement.Shape, _ connection: inout RedisConnection
  ) throws(AuditTrouble) -> AuditTrial.Reading? {
    // Before the value: what is heard in between counts as something that came after it.
    let removal = Self.removal(in: try account(of: key, &connection))
    let reply = try ask(AuditPlan.command(key, shape), &connection)
    let elements: [[UInt8]]
    switch reply {
    case .bulk(let bytes): elements = [bytes]
    case .null: elements = []
    case .array(let all):
      elements = all.compactMap { if case .bulk(let bytes) = $0 { bytes } else { nil } }
    case .error, .status, .integer: return nil
    }
    return AuditTrial.Reading(value: AuditPlan.sorted(elements, shape), removal: removal)
  }

  private func account(of key: [UInt8], _ connection: inout RedisConnection) throws(AuditTrouble) -> String {
    let words = ["NEARSIDE", "WHY"].map { Array($0.utf8) }
    return try ask(words + [key], &connection).text ?? ""
  }

  /// The lines of NEARSIDE WHY that change with a removal; none that tells a time that passes.
  static func removal(in account: String) -> String {
    account.split(separator: "\n").filter {
      ($0.hasPrefix("invalidation") || $0.hasPrefix("generation:")) && !$0.contains("_age_ms:")
    }.joined(separator: "\n")
  }

  private func ask(
    _ words: [[UInt8]], _ connection: inout RedisConnection
  ) throws(AuditTrouble) -> RedisReply {
    do throws(RedisError) { return try connection.command(words) } catch {
      throw AuditTrouble(sentence: error.description)
    }
  }

  // MARK: PostgreSQL

  private let loader = Mutex<LoaderThread?>(nil)

  /// Nil: PostgreSQL does not answer it.
  private func load(_ job: AuditPlan.Job) throws(AuditTrouble) -> [[UInt8]]? {
    // What a standby answers counts only if it has replayed what the primary's log held before.
    let least = settings.postgres.loader.isReplica ? try position() : nil
    let deadline = clinux_boot_nanoseconds() + Self.patience
    while !stop.isSet, clinux_boot_nanoseconds() < deadline {
      guard let outcome = try run(job) else { return nil }
      guard case .success(let rows) = outcome.result else { return nil }
      if let least, (outcome.replayed ?? 0) < least {
        stop.wait(Self.pause)
        continue
      }
      return AuditPlan.elements(rows, job.shape)
    }
    return nil
  }

  private func run(_ job: AuditPlan.Job) throws(AuditTrouble) -> SQLOutcome? {
    if loader.withLock({ $0 == nil }) {
      var postgres = settings.postgres
      postgres.loader.connections = 1
      let made = LoaderThread(postgres, statements: plan.statements, log: Logger(label: "audit")) {
        [weak self] outcome in
        guard let self else { return }
        inbox.withLock { $0.outcome = outcome }
        clinux_eventfd_notify(answers)
      }
      guard let made else { throw AuditTrouble(sentence: "The system has no thread to give.") }
      loader.withLock { $0 = made }
    }
    inbox.withLock { $0.outcome = nil }
    clinux_eventfd_drain(answers)
    loader.withLock {
      $0?.submit(SQLJob(id: 1, statement: job.statement, parameters: job.parameters))
    }
    while !stop.isSet {
      if let outcome = inbox.withLock({ $0.outcome.take() }) { return outcome }
      wait(answers, 1000)
      clinux_eventfd_drain(answers)
    }
    return nil
  }

  /// How far the primary's log goes.
  private func position() throws(AuditTrouble) -> UInt64 {
    do throws(PostgresError) {
      return try SQLSession(settings.postgres).logPosition(timeout: Self.patience)?.rawValue ?? .max
    } catch {
      throw AuditTrouble(sentence: error.description)
    }
  }

  /// Whether this host has applied everything that the log holds now.
  private func settle(_ connection: inout RedisConnection) throws(AuditTrouble) -> Bool {
    let words = ["NEARSIDE", "WAIT", LSN(try position()).description, "5000"]
    return try ask(words.map { Array($0.utf8) }, &connection) == .integer(1)
  }
}

/// Why nothing could be compared, as sentences.
struct AuditTrouble: Error { var sentence: String }
