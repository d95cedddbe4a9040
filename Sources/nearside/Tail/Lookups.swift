import Configuration
import Glibc
import Invalidation
import Logging
import Postgres

/// The lookups of one hold of the slot: takes what the session wants to know to PostgreSQL and back.
struct Lookups: ~Copyable {
  /// nil: the plan has none.
  private var session: LookupSession?
  private let plan: KeyPlan
  private let log: Logger
  private let socket: Int32
  /// When the run under way was sent; nil: none is.
  private var since: Instant?
  /// How long an answer may take at most: PostgreSQL gives a statement up before that.
  private let limit: UInt64
  private var wantsToWrite = false
  /// What is wrong with lookups that were given up when they last ran, by their index.
  private var failing: [Int: String] = [:]

  /// - Parameter timeout: of a statement, in nanoseconds.
  init(session: consuming LookupSession?, plan: KeyPlan, timeout: UInt64, log: Logger) {
    limit = timeout + Self.grace
    if let session {
      socket = session.descriptor
      self.session = consume session
    } else {
      socket = -1
      self.session = nil
    }
    self.plan = plan
    self.log = log
  }

  private static let grace: UInt64 = 5_000_000_000

  private var isBusy: Bool { since != nil }

  /// What to poll while a lookup is under way; negative: nothing.
  var descriptor: Int32 { isBusy ? socket : -1 }
  var pollfd: Glibc.pollfd {
    Glibc.pollfd(
      fd: descriptor, events: Int16(POLLIN) | (wantsToWrite ? Int16(POLLOUT) : 0), revents: 0)
  }
  /// Sentences without their full stop.
  var troubles: [String] { failing.values.sorted() }

  /// Takes an answer that is there, and begins what is due. Waits for nothing but that a lookup is prepared again.
  mutating func turn(_ tail: inout TailSession) throws(TailTrouble) {
    guard socket >= 0 else { return }
    do throws(PostgresError) {
      if let since {
        wantsToWrite = try session?.consume() ?? false
        guard try takeAnswer(&tail) else {
          guard bootClock().since(since) > limit else { return }
          throw PostgresError(
            kind: .timedOut, what: "PostgreSQL has neither answered a lookup nor given it up in time",
            place: "")
        }
      }
      guard let run = tail.nextLookup(now: bootClock()) else { return }
      wantsToWrite = try session?.send(run, now: bootClock().nanoseconds) ?? false
      since = bootClock()
      // Of one that cannot be prepared. Only one a turn, so that these keep nothing else waiting.
      _ = try takeAnswer(&tail)
    } catch {
      // What was to be looked up is delivered again.
      throw TailTrouble(error)
    }
  }

  /// Whether there was an answer to the run under way.
  private mutating func takeAnswer(_ tail: inout TailSession) throws(PostgresError) -> Bool {
    guard let (run, answer) = try session?.answer() else { return false }
    since = nil
    take(run, answer, &tail)
    return true
  }

  private mutating func take(_ run: LookupRun, _ answer: LookupSession.Answer, _ tail: inout TailSession) {
    let reason: String
    switch answer {
    case .found(let keys, let snapshot):
      if tail.lookupAnswered(run, keys, snapshot: snapshot, now: bootClock()) {
        if failing.removeValue(forKey: run.lookup) != nil { log.notice("\(name(run)) works again") }
        return
      }
      reason = "It was answered by a server that does not see the changes that ask for it."
    case .failed(let sentence): reason = sentence
    }
    guard tail.lookupFailed(run, now: bootClock()) else { return }
    let trouble = "\(name(run)) fails, so every key that begins like its templates is cleared instead"
    if failing[run.lookup] == nil { log.error("\(trouble): \(reason)") }
    failing[run.lookup] = trouble
  }

  private func name(_ run: LookupRun) -> String {
    let lookup = plan.lookups[run.lookup]
    return "a lookup of table \(plan.tableNames[lookup.table]) (line \(lookup.rule.place.line))"
  }
}
