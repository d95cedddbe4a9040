import Invalidation
import NearCache

/// A request under way to Redis whose replies need more than copying. One is made for each miss and each
/// governed write; a near hit and a plain relay make none.
final class UpstreamTask {
  /// Who asked; nil for the sidecar's own errands.
  let client: ClientToken?
  /// How many replies belong to it.
  let replies: Int
  let work: Work

  enum Work {
    case read(GovernedRead)
    /// The state, asked for because reads are held back.
    case probe
    case fill(GovernedFill)
    /// SETs of several clients, sent together.
    case fills([FillBatch.Entry])
    /// What a load has found.
    case loadedFill(LoadedFill)
    /// The removal of a key that was written through, and then its value; the number is that in `Writing`.
    case writtenRemoval(UInt64)
    case writtenFill(WrittenFill)
    /// A SET that is written behind; the number is that in `Writing`.
    case behind(UInt64)
    /// What waits for PostgreSQL.
    case backlog
    /// Which session of a tailer writes.
    case tailSession
    /// Whether this host may load a key for the fleet; by the load's number.
    case loadLock(UInt64)
    /// The right was given back.
    case loadUnlock
    /// The keys of an MSET, nil for one that is not governed.
    case fillMany([(key: GovernedKey, lease: Lease)?])
    case remove(GovernedRemoval)
    case expire(GovernedRemoval, absent: AbsentReply)
    /// NEARSIDE INVALIDATE PREFIX or TAG; the group's kind is its first byte.
    case invalidate(group: [UInt8])
    /// A part of what an application announced on a channel.
    case errand(Errand)
    /// Whoever asked waits for the generation itself, not for this reply.
    case askForGeneration
    /// Why the generation began, asked for NEARSIDE WHY of this key.
    case why(key: [UInt8])
    /// That reason, told to Redis; the answer matters to nobody.
    case note
    /// FLUSHDB or FLUSHALL.
    case flush(watch: Int?)
    /// KEYS, or SCAN: names among which ours are not shown.
    case names
    /// A command between two scripts that see to the governed keys it names.
    case guarded(GuardedCommand)
    /// INFO of the server, to which ours is appended.
    case info
    /// A reply that is replaced when Redis cannot be asked; used for COMMAND and CONFIG GET.
    case relayOr(fallback: [UInt8])
    /// SELECT of a database that is not the configured one.
    case select(Int)
    /// What was sent between MULTI and EXEC.
    case transaction(SentTransaction)
    /// A write, as it came, of a client that tracks and does not want to hear of its own.
    case ownWrite(OwnWrite)
    case greeting
    case loadedScript(GuardScript)
  }

  init(client: ClientToken?, replies: Int = 1, work: Work) {
    self.client = client
    self.replies = replies
    self.work = work
  }
}

/// A governed key of a request under way.
struct GovernedKey {
  var bytes: [UInt8]
  /// Its hash in the near cache.
  var hash: UInt64
  var rule: Governance.Rule
  /// The count of local writes to keys like this one when the request was sent.
  var version: UInt32
  /// The groups it belongs to; nil: none.
  var groups: GroupMembership?
  /// When the request was made, as `GroupEpochs` counts.
  var serial: UInt32

  /// What a near entry of this key bears.
  var nearSerial: UInt32? { groups == nil ? nil : serial }

  /// How many fences a lease of this key is compared with.
  var bucketCount: Int { 1 + (groups?.buckets.count ?? 0) }

  /// The same fences as the scripts want them: bucket numbers with commas between.
  var buckets: String {
    var list = String(bytes.withUnsafeBytes { KeyHash.bucket($0) })
    for bucket in groups?.buckets ?? [] { list += ",\(bucket)" }
    return list
  }

  var tags: [UInt8] { groups?.tags.bytes ?? [] }
}

/// A read whose value counts only under the state that was read before it.
struct GovernedRead {
  enum Shape {
    /// GET: one value.
    case get
    /// MGET: for each argument what the near cache had, or a place among the values asked for.
    case mget([Element])
    /// EXISTS of some keys: near hits found, and the others one by one, those that are governed by their PTTL.
    case exists(found: Int, governed: [Bool])
    /// NEARSIDE LEASE.
    case lease
    /// Any other read of one key, with what it answers for a key that does not exist.
    case other(AbsentReply, arguments: Int, name: String)
  }

  enum Element {
    /// The ready reply.
    case near([UInt8])
    /// The n-th value that Redis was asked for, and which of `keys` it is; nil: not governed.
    case asked(governed: Int?)
  }

  var shape: Shape
  var keys: [GovernedKey]
  var asked: Instant
  /// What this host knew by then.
  var basis: Follower.Basis
  /// Until when the evidence holds under which near values among the elements were found: Redis must have
  /// answered for the others by then.
  var nearUntil = Instant(nanoseconds: .max)
  /// What was sent, to be sent again if the answer is held back, and how many replies it has.
  var request: [UInt8] = []
  var replies = 1
  /// Whether pending writes are put back before the commands (`StateScripts.restore`): some keys are written behind. A
  /// transaction with the commands would make sure that nobody deletes a value in between, but a Redis that is full
  /// takes none; so the read is done again if that has happened.
  var restores = false
  /// How often it was done again for that.
  var attempts = 0
  /// Whether PTTL of its one key stands behind the command and tells if the key is missed: a part that does not
  /// exist looks like a key that does not.
  var asksExistence = false
  /// Under what its reply may be kept near; nil: it may not. If it may, PTTL of its key stands before `restore` and
  /// the command, and behind it.
  var part: PartName?
  /// Set once the answer has been held back.
  var hold: Hold?
  /// Part of a transaction: its answer is what Redis said at that moment, whatever may be had later.
  var isFinal = false
  /// What is needed to do it again after a load; nil: none of its keys is loaded.
  var load: LoadedRead?

  struct Hold {
    /// Of the reply among those that the client is owed.
    var number: Int
    /// When it is given whatever has become of the fence.
    var deadline: Instant
  }
}

/// A write that Redis carries out only if its lease still counts.
struct GovernedFill {
  enum Answer {
    /// What Redis answers to the command; a refusal is answered like a success.
    case command(refused: RefusedAnswer)
    /// :1 stored, :0 refused.
    case stored
  }

  enum RefusedAnswer { case ok, null, one, tryAgain }

  var key: GovernedKey
  /// The command's name, and the lease that it counts under.
  var command: String
  var lease: Lease
  var answer: Answer
  var shape = ReplyShape.same
  /// The value to keep near if it is stored, and until when; nil: not kept.
  var near: (value: [UInt8], expires: Instant?)?
}

/// A removal or a change of expiry.
struct GovernedRemoval {
  var keys: [GovernedKey]
  /// NEARSIDE INVALIDATE answers how many keys it was given, whatever Redis held.
  var answerCount: Int?
  /// Of a client that tracks and does not want to hear of its own writes.
  var own: OwnWrite?
}

/// The scripts that this module sends; the tailer has its own.
enum GuardScript: CaseIterable {
  case fill, fillMany, load, lock, unlock, written, behind, restore, backlog, remove, expire, invalidateGroup
  case ask, flush, unseen

  var source: String {
    switch self {
    case .fill: StateScripts.fill
    case .fillMany: StateScripts.fillMany
    case .load: StateScripts.load
    case .written: StateScripts.written
    case .behind: StateScripts.behind
    case .restore: StateScripts.restore
    case .backlog: StateScripts.backlog
    case .lock: StateScripts.lock
    case .unlock: StateScripts.unlock
    case .remove: StateScripts.del
    case .expire: StateScripts.expire
    case .invalidateGroup: StateScripts.invalidateGroup
    case .ask: StateScripts.ask
    case .flush: StateScripts.flush
    case .unseen: StateScripts.unseen
    }
  }
}
