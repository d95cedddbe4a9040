/// What a client's connection carries from one command to the next, beside its protocol version and its name.
///
/// Most clients carry nothing, and share the two connections to Redis of their protocol version. Whoever watches
/// keys, blocks, subscribes or selects another database is given connections of its own (`Pins`) for as long.
struct Session {
  /// It has not said the password yet.
  var isLocked = false
  /// CLIENT REPLY OFF or SKIP is in force, or the replies of what was said under it are still to come.
  var isQuiet = false
  /// It has had a reply that was passed on piece by piece; its commands do not go where others would wait for it.
  var takesLongReplies = false
  /// The commands since MULTI; nil: no transaction is open.
  var transaction: QueuedTransaction?
  /// Whether WATCH is in force on `pinned`: reads come from Redis, since what was read before WATCH took hold
  /// must not pass for what is watched.
  var isWatching = false
  /// The database that SELECT has chosen, if it is another than the configured one: nothing there is governed,
  /// and everything goes to `pinned` as it comes.
  var database: Int?
  /// What watched keys in the configured database went with its connection: they count as changed.
  var hasLostWatch = false
  /// Whether a transaction is open in that database, and whether keys are watched there.
  var isQueueingElsewhere = false
  var isWatchingElsewhere = false
  /// What was open or watched there is void: a command was refused, or the connection was lost. Nothing of the
  /// transaction may be carried out.
  var isBrokenElsewhere = false
  /// The connection of its own for commands, by the token that epoll knows it by.
  var pinned: UInt64?
  /// The connection of its own for messages.
  var subscriber: UInt64?
  var subscriptions = Subscriptions()
  /// Why a connection of its own could not be had, until the command that wanted it has been answered.
  var trouble: String?

  /// Whether its commands are executed as if there were no session.
  var isPlain: Bool {
    transaction == nil && !isWatching && database == nil && subscriber == nil && !isLocked && !isQuiet
  }

  /// Whether `pinned` must stay this client's.
  var needsPinned: Bool { isWatching || database != nil }
}

/// What is subscribed to, and which confirmations are still to come.
struct Subscriptions {
  enum Kind: Int { case channel, pattern, shard }

  private var names: [Set<[UInt8]>] = [[], [], []]
  /// Confirmations that Redis owes; nothing else of the client is executed before they are there.
  var awaited = 0
  /// MONITOR: every command that Redis executes is told, until the connection ends.
  var monitors = false
  /// It has been asked for, and Redis has not said OK.
  var asksMonitor = false

  var isEmpty: Bool { hasNoNames && awaited == 0 && !monitors }
  /// Whether there is nothing by which messages could be taken for replies.
  var isWithoutNames: Bool { hasNoNames && (awaited == 0 || monitors || asksMonitor) }
  /// Asked with each command that is no near hit, so without a key path.
  private var hasNoNames: Bool { names[0].isEmpty && names[1].isEmpty && names[2].isEmpty }

  func count(_ kind: Kind) -> Int { names[kind.rawValue].count }

  /// A line that is no message has come: the first is the answer to MONITOR.
  mutating func monitorBegins() {
    guard asksMonitor else { return }
    asksMonitor = false
    monitors = true
    awaited = max(0, awaited - 1)
  }

  /// Takes note of a confirmation; `word`: its first element. False: it is none.
  mutating func confirm(_ word: String, _ name: [UInt8]?) -> Bool {
    let kind: Kind
    switch word {
    case "subscribe", "unsubscribe": kind = .channel
    case "psubscribe", "punsubscribe": kind = .pattern
    case "ssubscribe", "sunsubscribe": kind = .shard
    default: return false
    }
    if let name {
      if word.hasSuffix("unsubscribe") {
        names[kind.rawValue].remove(name)
      } else {
        names[kind.rawValue].insert(name)
      }
    }
    awaited = max(0, awaited - 1)
    return true
  }
}

/// The commands between MULTI and EXEC, as they came.
struct QueuedTransaction {
  /// How many bytes a transaction may have before it is sent.
  static let mostBytes = 64 * 1024 * 1024

  /// One behind the other, each in the form of an array.
  var bytes: [UInt8] = []
  var lengths: [Int] = []
  /// A command was refused when it was queued: EXEC will not be carried out.
  var isFailed = false
  /// It may write, so EXEC waits for the end of CLIENT PAUSE.
  var mayReplicate = false
}

/// A transaction that was sent to Redis, whose replies are still to come.
struct SentTransaction {
  /// How many commands the client has queued.
  var commands: Int
  /// What is awaited between MULTI and EXEC: a command of the client may have become several, or none.
  var awaited: [Upstream.Awaited]
  /// How many entries of the client's `owed` are the transaction's: its head, its replies, its end.
  var owed: Int
}
