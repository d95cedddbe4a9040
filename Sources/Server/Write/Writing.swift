import DequeModule
import Invalidation
import NearCache

/// Write-through and write-behind on this host: SETs that are not answered yet.
///
/// How it works: 1. A SET's reply is held back and its statement goes to the runner; the SETs of one key run one
/// after the other (`writeThrough`). 2. Once it has committed, the key is removed as by an application's DEL, so
/// that nobody who asks after the reply is shown the old value (`remove`). 3. The log tells of that very
/// transaction, which clears the key once more; this host hears so from the journal (`noteSightings`), and stores
/// the value if nothing about the key has come since (`storeWritten`, `StateScripts.written`). 4. The client is
/// answered (`finish`): when the value is stored, or `patience` after the removal without it.
///
/// A SET that is written behind goes the same way without 2 and 3: a script takes the place of its statement
/// (`EventLoop+WriteBehind.swift`).
struct Writing {
  /// How many SETs may be under way at most.
  static let most = 4096
  /// How long a SET that has committed waits for its value to be stored, in nanoseconds.
  static let patience: UInt64 = 100_000_000
  /// How many sightings of one key are remembered.
  static let mostSightings = 16
  /// The same of removals.
  static let mostRemovals = 256

  var writes: [UInt64: ThroughWrite] = [:]
  var lastWrite: UInt64 = 0
  var keys: [[UInt8]: WrittenKey] = [:]
  /// The statements of those that wait for another SET of their key.
  var queued: [UInt64: SQLJob] = [:]
  /// SETs that found too many entries pending, the oldest first.
  var full = Deque<UInt64>()
  var fullAskedAt = Instant(nanoseconds: 0)
  var backlog = Backlog()
  var flusher = FlusherReport()
  /// The position of the newest journal entry that named groups.
  var groupsAt = LSN.zero
  /// `ep` of the state as it was last heard: it rises with each session of a tailer.
  var session: String?
  var sessionAsked = Instant(nanoseconds: 0)
  var sessionGeneration: Generation?
  /// How often entries of the journal may have been missed.
  var gaps = 0
  /// Those that wait for the journal, the oldest first; some of them have been answered meanwhile.
  var awaiting = Deque<(id: UInt64, until: Instant)>()

  /// Entries may have been missed: what was seen is no longer known to be the newest.
  mutating func missedEntries() {
    guard !keys.isEmpty else { return }
    gaps += 1
    for key in keys.keys { keys[key]?.sightings = [] }
  }
}

/// What the journal has told of a key.
struct Sighting {
  /// The last transaction of the entry's batch that named it.
  var transaction: UInt32
  var generation: Generation
  var entry: JournalID
  var position: LSN
  /// Whether an earlier entry of the same batch named groups: whether before or after the transaction, the journal
  /// does not tell.
  var isMixed: Bool
}

/// A key with SETs under way.
struct WrittenKey {
  /// Nothing of this is stored by a sighting, so removals do not matter.
  var isBehind = false
  /// The SET whose statement runs.
  var running: UInt64?
  /// Those behind it, the oldest first.
  var queue = Deque<UInt64>()
  /// The SET that came last: only its value may be stored.
  var newest: UInt64 = 0
  /// The SET that has committed, was removed and waits for the journal; only the newest does.
  var awaiting: UInt64?
  /// Entries since then by which somebody removed the key, for all that is known not this host's own SETs; and those
  /// of its SETs that the journal has not told of.
  var removals: [JournalID] = []
  var own: Set<JournalID> = []
  /// There were too many of either, so that nothing is known any more.
  var hasForgotten = false
  var isRemovedByOthers: Bool { hasForgotten || !removals.isEmpty }
  /// How many SETs of this key are not answered.
  var count = 0
  /// Since the first of them came, the newest last.
  var sightings: [Sighting] = []
}

/// One SET on its way.
struct ThroughWrite {
  enum Phase {
    /// Waits for another SET of the key, or its statement runs.
    case writing
    /// It has committed, and the key is being removed.
    case removing
    /// Waits for the journal to tell of its transaction.
    case awaiting
    case storing
    /// Written behind: Redis is being asked to take it, or was full and is asked again.
    case taking
  }

  var key: GovernedKey
  /// As the client gave it.
  var command: String
  var value: [UInt8]
  var milliseconds: Int?
  var client: ClientToken
  /// Of the reply among those that the client is owed.
  var number: Int
  /// `Writing.gaps` when it came.
  var gaps: Int
  /// `Writing.session` when it came.
  var session: String?
  var came: Instant
  var phase = Phase.writing
  var transaction: UInt32?
  /// The journal entry of its own removal.
  var removal: JournalID?
  /// Set if it is not known whether the statement has committed.
  var failure: String?
  /// Whether Redis had forgotten the script of the removal, or of write-behind, once already.
  var isRepeated = false
  /// Written behind: whether too many entries were pending when its turn came. It waits from `came` on.
  var isWaiting = false
}
