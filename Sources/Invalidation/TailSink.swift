/// Where the tailer writes what it has learnt: the fleet's state in Redis, or this process's own memory when
/// there is no Redis. One request is under way at a time; its reply comes from `receive`.
///
/// Every request is a compare-and-set on the tailer's token, the generation and the counter n of the writes
/// before it, so that a failover of Redis, a restore, a second tailer or one that slept is always noticed.
public protocol TailSink: ~Copyable {
  /// The descriptor to poll.
  var descriptor: Int32 { get }
  /// Whether bytes wait for the descriptor to become writable.
  var wantsToWrite: Bool { get }
  /// Sends a request other than `apply`.
  mutating func send(_ request: StateRequest) throws(SinkError)
  /// Sends one step of clearing: the keys `chunk` of `keys` (at most 1000), which may be empty (a beat), and
  /// the groups that the request names, of the same batch.
  mutating func apply(_ apply: ApplyRequest, keys: borrowing KeyBatch, chunk: Range<Int>) throws(SinkError)
  /// Moves bytes in both directions without blocking; the reply of the request under way, once it is there.
  mutating func receive() throws(SinkError) -> StateReply?
}

/// The connection is of no further use; the sentence says why.
public struct SinkError: Error, Sendable, CustomStringConvertible {
  public enum Cause: Hashable, Sendable {
    /// The connection was closed: another one may be had at once.
    case closed
    /// No answer came in time.
    case silent
    /// The answer was an error, or none that can be understood.
    case refused
  }

  public var description: String
  public var cause: Cause

  public init(_ description: String, cause: Cause = .closed) {
    self.description = description
    self.cause = cause
  }
}

/// What every write of a tailer is compared with.
public struct WriteCheck: Hashable, Sendable {
  public var token: String
  public var generation: Generation
  /// n: how many counted writes this generation has seen.
  public var count: UInt64

  public init(token: String, generation: Generation, count: UInt64) {
    self.token = token
    self.generation = generation
    self.count = count
  }
}

/// One step of clearing. A batch of more than 1000 keys takes several; only the last one moves W.
public struct ApplyRequest: Hashable, Sendable {
  public var check: WriteCheck
  /// W and V after this step.
  public var applied: LSN
  public var visible: LSN
  /// X, the position that the fences of this step's keys are raised to: the end of the batch.
  public var fence: LSN
  /// Set if this step counts as a beat: an instant of this host. Every commit that was acknowledged before it
  /// is applied with this step.
  public var sampled: Instant?
  /// Nothing from before the slot is left to be watched.
  public var stopsWatching: Bool
  /// This step's place in its batch, from 1, and how many there are.
  public var part: Int
  public var parts: Int
  /// The groups of the batch that this step clears.
  public var groups: Range<Int>
  /// Whether the reply should tell which groups wait to be swept.
  public var tellsPending: Bool

  public init(
    check: WriteCheck, applied: LSN, visible: LSN, fence: LSN, sampled: Instant? = nil,
    stopsWatching: Bool = false, part: Int = 1, parts: Int = 1, groups: Range<Int> = 0..<0,
    tellsPending: Bool = false
  ) {
    self.check = check
    self.applied = applied
    self.visible = visible
    self.fence = fence
    self.sampled = sampled
    self.stopsWatching = stopsWatching
    self.part = part
    self.parts = parts
    self.groups = groups
    self.tellsPending = tellsPending
  }
}

/// Which PostgreSQL the state belongs to, as IDENTIFY_SYSTEM answers it.
public struct ServerIdentity: Hashable, Sendable {
  public var systemID: String
  public var timeline: UInt32

  public init(systemID: String, timeline: UInt32) {
    self.systemID = systemID
    self.timeline = timeline
  }
}

public enum StateRequest: Hashable, Sendable {
  /// Become the writer of the state.
  case takeover(token: String, server: ServerIdentity, mapping: String, fingerprint: String = "")
  /// Begin a new generation in place of `old` (nil: there was no state), knowing everything up to `applied`,
  /// of which everything up to `visible` can be read by everybody. `watching`: some transactions from before
  /// the slot may not be visible yet. `fingerprint`: of the definitions of tables and publication that it
  /// begins with.
  case newGeneration(
    token: String, old: Generation?, new: Generation, server: ServerIdentity, mapping: String, applied: LSN,
    visible: LSN, watching: Bool, fingerprint: String = "")
  /// One step of clearing the namespace of values of older generations; `cursor` is SCAN's.
  case purge(check: WriteCheck, cursor: String)
  /// The step that returned cursor 0 has been answered: values found in Redis count from now on.
  case purged(check: WriteCheck)
  /// One step of a pass that removes the keys of these groups, packed; `cursor` is SCAN's.
  case sweep(check: WriteCheck, cursor: String, groups: PackedKeys)
  /// The step that returned cursor 0 has been answered: what was pending when the pass began is so no more,
  /// unless it was invalidated again.
  case swept(check: WriteCheck, pending: PendingGroups)
}

/// The answers of the scripts, by the words they answer with.
public enum StateReply: Hashable, Sendable {
  /// OK of `apply`: W and V now stored, whether somebody asked for a new generation, and which groups wait to
  /// be swept, if the request wanted to know or they are too many.
  case applied(W: LSN, V: LSN, generationAsked: Bool, pending: PendingGroups = PendingGroups())
  /// OK of `takeover`.
  case takenOver(Takeover)
  /// OK of `newGeneration`.
  case began
  /// OK of `purge` and of `sweep`, with the cursor of the next step ("0": that was the last) and how many
  /// keys went.
  case purgeStep(cursor: String, removed: Int)
  /// OK of `purged`.
  case cleared
  /// OK of `swept`, with the groups that still wait.
  case swept(left: PendingGroups)
  /// There is no state: first start, or Redis lost it.
  case noState
  /// Another tailer writes now.
  case fenced
  /// The state has gone back in time: Redis lost writes.
  case regressed
  /// The state belongs to another PostgreSQL system.
  case otherSystem(String)
  /// The state belongs to a later timeline: this connection is to an abandoned primary.
  case olderTimeline(String)
  /// The timeline or the mapping has changed: a new generation is due.
  case needsGeneration(Generation)
  /// Another sidecar began a generation at the same moment.
  case raced

  public struct Takeover: Hashable, Sendable {
    public var generation: Generation
    public var applied: LSN
    public var visible: LSN
    public var count: UInt64
    public var watching: Bool
    public var cleared: Bool

    public init(
      generation: Generation, applied: LSN, visible: LSN, count: UInt64, watching: Bool, cleared: Bool
    ) {
      self.generation = generation
      self.applied = applied
      self.visible = visible
      self.count = count
      self.watching = watching
      self.cleared = cleared
    }
  }
}
