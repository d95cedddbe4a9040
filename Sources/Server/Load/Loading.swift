import Configuration
import Invalidation
import NearCache
import Policies

/// Read-through on this host: what is being loaded, and which replies are held back for it.
///
/// How it works: 1. a read misses keys whose cache has a `load`; its reply is held back and it joins the load of
/// each (`waitsForLoad`). 2. At the end of the poll the loads begin: their statements go to the runner
/// (`startLoads`). 3. Rows come back through the mailbox (`sqlFinished`). Whoever asked before the load began is
/// answered with them; the value goes to Redis under the lease of the miss (`store`). 4. Once that is done, those
/// who came later are answered too, or read again.
struct Loading {
  /// How often a read is done again for one client, at most.
  static let mostTries = 3

  var table: LoadTable<LoadedValue, LoadFailure>
  /// How many of them may run.
  var pace: SlowStart { didSet { table.mostRunning = pace.limit } }
  /// Whether the newest statement of a load found no server, within the last `awayPeriod`.
  var isAway = false
  var awayAt = Instant(nanoseconds: 0)
  /// After so many nanoseconds the next read of a value that is shown meanwhile asks again.
  static let awayPeriod: UInt64 = 1_000_000_000
  /// Reads whose replies are held back, by what `table` calls their waiter.
  var waits: [UInt64: LoadWait] = [:]
  var lastWait: UInt64 = 0
  /// Those whose keys are all decided; they go on at the end of the poll.
  var ready: [LoadWait] = []
  /// Set while a read that was held back is executed again.
  var resumed: (number: Int, read: LoadedRead)?
  /// What was handed to the runner.
  var jobs: [UInt64: SQLTask] = [:]
  var lastJob: UInt64 = 0
  var checkedAt = Instant(nanoseconds: 0)
  /// Loads whose keys have a fleet-wide lock, by the load's number.
  var locks: [UInt64: LoadLock] = [:]
  /// Since when loads have found that there is no generation to store them under.
  var unledSince: Instant?
  var locksAt = Instant(nanoseconds: 0)
  /// Whose turn it is to fill a key that applications load.
  var turns = MissTurns()
  var turnsAt = Instant(nanoseconds: 0)
  /// Loads whose statements are sent at the end of the poll.
  var begun: [LoadJob] = []
  /// How many keys one statement loads at most.
  static let mostAtOnce = 1000
  /// Loads whose replica was behind, and when it is asked again.
  var behind: [(job: LoadJob, due: Instant)] = []
  static let replicaPause: UInt64 = 5_000_000
  var early = EarlyRefresh()
  /// Keys that were read lately and have changed, to be loaded again once the change is visible.
  var changed: [(key: [UInt8], position: LSN)] = []
  /// More than these at a time are only forgotten.
  static let mostChanged = 256

  init(connections: Int) {
    // Two for each connection, so that none of them rests while the outcome of its last one is looked at.
    pace = SlowStart(most: max(1, connections) * 2)
    table = LoadTable(mostRunning: pace.limit)
  }

  /// Whether the next poll has something to go on with.
  var isDue: Bool { !ready.isEmpty || !begun.isEmpty || table.isDue }

  /// The number under which the next job is known.
  mutating func newJob(_ task: SQLTask) -> UInt64 {
    lastJob += 1
    jobs[lastJob] = task
    return lastJob
  }
}

/// A load of which one host of the fleet may take care.
struct LoadLock {
  var key: [UInt8]
  /// Random: what this host calls itself in the lock.
  var owner = String(UInt64.random(in: .min ... .max), radix: 16)
  /// Until when another host's load is waited for.
  var until: Instant
  var isErrand: Bool
  var standing = Standing.asked
  var askedAt: Instant
  /// How long it lasts, in nanoseconds; a lease is waited for no longer.
  var time: UInt64
  /// Whether Redis still owes an answer.
  var isAsked = false

  enum Standing {
    case asked, held, elsewhere
    /// There is no lease yet under which its value would be kept and shown.
    case unled
  }

  /// How long a lease is waited for at a time, in nanoseconds.
  static let leasePeriod: UInt64 = 20_000_000

  /// How often it is asked whether the other host is done, in nanoseconds.
  static let period: UInt64 = 4_000_000
  /// How many are asked about at a time.
  static let mostAsked = 256
}

/// What a job of the runner is for.
enum SQLTask {
  case load(LoadJob)
  /// Of one template.
  case loads([LoadJob])
  /// Of a SET that is written through, by its number in `Writing`.
  case write(UInt64)
}

struct LoadJob {
  /// As the table names it.
  var load: UInt64
  var key: [UInt8]
  /// What the statement is given for it.
  var values: [[UInt8]?]
  /// It takes the place of the value that is there.
  var isErrand: Bool
  var rule: LoadRule
  /// What a replica must have replayed for its rows to count.
  var needed: LSN
  /// Until when a replica that is behind is asked again.
  var deadline: Instant
  /// It cannot run in one statement with others.
  var isAlone: Bool
}

/// Why a key could not be loaded: the client is answered with it.
struct LoadFailure: Error, Equatable {
  /// Begins with its code.
  var reply: String
  var isUnreachable = false

  init(_ failure: SQLFailure) {
    reply = failure.reply("the load of this key")
    isUnreachable = failure.kind == .unreachable
  }

  private init(reply: String) { self.reply = reply }

  static let full = LoadFailure(
    reply: "TRYAGAIN Nearside: too many keys wait to be loaded from PostgreSQL; try again")
  static let slow = LoadFailure(
    reply: "TRYAGAIN Nearside: the load of this key takes too long, or waits for too many others; try again")
  static let restless = LoadFailure(
    reply: "TRYAGAIN Nearside: the row of this key changed each time it was loaded; try again")
}

/// A read of keys that may have to be loaded: what is needed to do it again.
final class LoadedRead {
  /// The client's command.
  let request: [UInt8]
  let name: String
  /// When it came, as the table of loads counts.
  let arrival: UInt64
  /// Under what its reply may be near.
  var part: PartName?
  /// What loads have found for it.
  var decided: [[UInt8]: LoadDecision] = [:]
  var tries = 0
  /// Whether its keys have been counted for the admin endpoint.
  var isCounted = false
  /// Until when it waits, however often it is done again; nil: it has not waited yet.
  var deadline: Instant?

  init(request: [UInt8], name: String, arrival: UInt64) {
    self.request = request
    self.name = name
    self.arrival = arrival
  }
}

/// What a client is told of a key, whatever Redis holds.
enum LoadDecision {
  case value(LoadedValue)
  /// No row gives this key. The lease is for a client that stores something there all the same.
  case absent(Lease?)

  /// The reply to GET. Only strings are decided for it.
  func bytes(resp3: Bool) -> [UInt8] {
    var output = IOBuffer(size: 256)
    if case .value(.string(let value)) = self { output.bulk(value) } else { output.null(resp3: resp3) }
    return [UInt8](output.bytes)
  }
}

/// A read whose reply is held back until its keys are loaded.
struct LoadWait {
  var client: ClientToken
  /// Of the reply among those that the client is owed.
  var number: Int
  var read: LoadedRead
  /// How many of its keys are undecided.
  var missing = 0
  var failure: LoadFailure?
  var deadline: Instant
  /// For another client's value: when its time is over it reads again, and misses.
  var isTurn = false
  /// It does not count among the read's tries.
  var isUncounted = false
}

/// The value of a load, or that there is none, on its way to Redis.
struct LoadedFill {
  var load: UInt64
  var key: GovernedKey
  var lease: Lease
  /// nil: there is no row.
  var value: LoadedValue?
  var expires: Instant?
}
