import Invalidation

/// Follows the fleet's invalidations, and says what the near cache may be trusted with. Every sidecar has
/// one, the tailer's included. It does no I/O and reads no clock.
///
/// The feed repeats: a poll (one `state` event), then the journal's entries since the last one heard
/// (`entries`, some of which may be younger than the poll). Events come in the order of their answers: a
/// poll that was answered before entries already heard would look like a Redis that has gone back in time.
/// The owner evicts each key as it is named, and drops everything when told to, before it serves again.
///
/// A near hit is allowed while `certificate` is younger than the bound; a value read from Redis while
/// `certificate(beats:)` of the reply's own number of beats is. A value may enter the near cache, and a
/// lease may be given, if `accepts` is true of the state that came with the reply.
public struct Follower {
  /// What the owner has to do before it serves again.
  public enum Action: Hashable, Sendable {
    case none
    /// Drop the whole near cache.
    case dropAll
    /// Nothing more: keys were handed to `evict`, or groups to `group`.
    case evict
  }

  /// What is being followed, for a person who asks.
  public enum Standing: Hashable, Sendable {
    /// Nothing has been heard yet.
    case starting
    case following
    /// Redis has no state of this namespace: nobody has tailed yet, or Redis lost it.
    case noState
    /// Redis has gone back in time within one generation; nothing counts until a new generation begins.
    case poisoned
    /// The fleet works with another mapping, the one whose hash is given.
    case otherMapping(String)
    /// Redis could not be asked; the sentence says why. What is near is served until its certificate is
    /// older than the bound.
    case unreachable(String)
  }

  private enum Phase: Equatable { case starting, following, noState, poisoned, otherMapping(String) }

  /// A poll whose entries have not all arrived.
  private struct Poll {
    var journal: JournalID
    var applied: LSN
    var beats: UInt64
  }

  package var weakness: Weakness = []

  private let mapping: String
  private var phase = Phase.starting
  private var trouble: String?
  /// The latest state of a generation that was followed. It outlives a loss of state, so that the same
  /// generation cannot come back younger unnoticed.
  private var known: FleetState?
  /// The generation within which Redis has gone back in time; it never counts again.
  private var poisoned: Generation?
  private var evidence = Evidence()
  /// In the order in which they were asked, the oldest first.
  private var pending: [Poll] = []
  /// How many polls in a row found the journal ahead of `position` while no entry came.
  private var polledInVain = 0

  /// The last entry of the journal that was heard, or that need not be heard because the near cache was
  /// dropped after it.
  public private(set) var position = JournalID.zero
  /// A: every invalidation up to this log position has left the near cache.
  public private(set) var consumed = LSN.zero
  /// The near cache lacks nothing that was committed before this instant; nil: that is not known of any.
  public private(set) var certificate: Instant?

  /// Polls waiting for their entries. A follower so far behind learns little from one more.
  private static let pendingCapacity = 16
  /// Polls in vain before the journal counts as cut. Two would do with a feed that reads the journal after
  /// each poll; one more forgives a poll that was sent out of turn.
  private static let patience = 3

  /// - Parameter mapping: the hash of the mapping that this sidecar works with.
  public init(mapping: String) { self.mapping = mapping }

  /// The latest state of the generation that is followed; nil: no near hit, no hit in Redis, no lease and no
  /// fill, whatever else is known.
  public var state: FleetState? { phase == .following ? known : nil }

  public var generation: Generation? { state?.generation }

  public var standing: Standing {
    if let trouble { return .unreachable(trouble) }
    switch phase {
    case .starting: return .starting
    case .following: return .following
    case .noState: return .noState
    case .poisoned: return .poisoned
    case .otherMapping(let other): return .otherMapping(other)
    }
  }

  /// What is known when a read of Redis is sent; its reply is judged by that. A reply may have been delayed over a
  /// failover: what was heard meanwhile came from another Redis, and proves nothing of it.
  public struct Basis: Sendable {
    fileprivate var generation: Generation?
    fileprivate var consumed: LSN
    fileprivate var evidence: Evidence
  }

  /// To be taken when a read is sent.
  public var basis: Basis {
    Basis(generation: generation, consumed: consumed, evidence: evidence)
  }

  /// Up to which instant of this host a value in Redis reflects every commit, when `reply` is the state that was
  /// read before it (in the same pipeline) and `basis` was taken when that was sent. nil: of none. Only for a reply
  /// that `follows` is true of.
  public func certificate(_ reply: FleetState, _ basis: Basis) -> Instant? {
    guard phase == .following,
      reply.generation == basis.generation || weakness.contains(.followsAnything)
    else { return nil }
    return (weakness.contains(.lateEvidence) ? evidence : basis.evidence)
      .certificate(beats: reply.beats, weakness)
  }

  /// Whether a value read under this state may be shown, given evidence for its beats: it belongs to the
  /// generation that is followed. It may have been read a moment before the latest poll, or before an entry
  /// that has been heard, since replies and news come on different connections: its beats date it all the same.
  /// More than one beat behind, it is taken for a Redis that went back, as a poll would be; so it is if it knows less
  /// than had been consumed here when it was asked for, which a client may have waited for.
  public func follows(_ reply: FleetState, _ basis: Basis) -> Bool {
    guard phase == .following, let known else { return false }
    if weakness.contains(.followsAnything) { return true }
    return reply.mapping == mapping && reply.generation == known.generation
      && reply.beats + 1 >= known.beats
      && (reply.applied >= basis.consumed || reply.generation != basis.generation)
  }

  /// Whether a value read under this state may also be kept: it comes from the generation that is followed, from no
  /// earlier moment than the latest poll, and knows of every entry that was heard. A value read before its
  /// invalidation, and arriving after it, knows of fewer.
  public func accepts(_ reply: FleetState) -> Bool {
    reply.mapping == mapping
      && accepts(generation: reply.generation, beats: reply.beats, journal: reply.journal)
  }

  /// The same for the reply of a fill, which names no mapping. Other mappings have other generations.
  public func accepts(generation: Generation, beats: UInt64, journal: JournalID) -> Bool {
    guard phase == .following, let known else { return false }
    if weakness.contains(.acceptsAnything) { return true }
    return generation == known.generation && beats >= known.beats && journal >= position
  }

  // MARK: Hearing

  /// Takes one event. Calls `evict` with each key that was invalidated and `group` with each group (its kind
  /// included, see `KeyGroup`), in order, before any certificate is renewed; returns what else there is to do.
  /// Until `group` returns the owner must have dropped every key of the group, or see to it that none is found.
  public mutating func hear(
    _ event: FeedEvent, evict: (UnsafeRawBufferPointer) -> Void, group: (UnsafeRawBufferPointer) -> Void
  ) -> Action {
    hear(event, evict: { key, _ in evict(key) }, group: { name, _ in group(name) })
  }

  /// The same for an owner that asks why.
  public mutating func hear(
    _ event: FeedEvent, evict: (UnsafeRawBufferPointer, KeyInvalidation) -> Void,
    group: (UnsafeRawBufferPointer, KeyInvalidation) -> Void
  ) -> Action {
    switch event {
    case .unreachable(let sentence):
      trouble = sentence
      polledInVain = 0
      return .none
    case .state(nil, asked: _):
      trouble = nil
      return leave(for: .noState)
    case .state(.some(let state), let asked):
      trouble = nil
      return hear(state, asked: asked)
    case .entries(let entries, let generation):
      trouble = nil
      guard phase == .following, generation == known?.generation else { return .none }
      return hear(entries, evict: evict, group: group)
    }
  }

  private mutating func hear(_ state: FleetState, asked: Instant) -> Action {
    guard state.mapping == mapping else { return leave(for: .otherMapping(state.mapping)) }
    guard let known, known.generation == state.generation else { return begin(state, asked: asked) }
    if poisoned == state.generation { return leave(for: .poisoned) }
    let goesBack =
      state.beats < known.beats || state.journal < max(position, known.journal)
      || state.applied < max(consumed, known.applied)
    if goesBack, !weakness.contains(.noRegressionCheck) {
      poisoned = state.generation
      return leave(for: .poisoned)
    }
    guard phase == .following else { return begin(state, asked: asked) }

    self.known = state
    evidence.record(asked: asked, beats: state.beats)
    if pending.count == Self.pendingCapacity { pending.removeLast() }
    pending.append(Poll(journal: state.journal, applied: state.applied, beats: state.beats))
    if position < known.journal {
      polledInVain += 1
      // The entries that earlier polls promised have been trimmed away, all of them: otherwise the first
      // that is left would have come, and shown the gap.
      if polledInVain >= Self.patience, !weakness.contains(.endlessPatience) {
        return skip(to: state.journal)
      }
    }
    settle()
    return .none
  }

  private mutating func hear(
    _ entries: [JournalEntry], evict: (UnsafeRawBufferPointer, KeyInvalidation) -> Void,
    group: (UnsafeRawBufferPointer, KeyInvalidation) -> Void
  ) -> Action {
    var action = Action.none
    for entry in entries where entry.id > position {
      guard entry.previous == position || weakness.contains(.noChain) else {
        return skip(to: max(entries[entries.count - 1].id, known?.journal ?? position))
      }
      if !entry.isEmpty {
        var index = 0
        entry.keys.forEach { key in
          evict(key, KeyInvalidation(position: entry.position, origin: entry.origins?[index]))
          index += 1
        }
        entry.groups.forEach { name in
          group(name, KeyInvalidation(position: entry.position, origin: entry.origins?[index]))
          index += 1
        }
        action = .evict
      }
      position = entry.id
      polledInVain = 0
    }
    settle()
    return action
  }

  // MARK: Changing

  /// Starts with what `state` says, and with an empty near cache.
  private mutating func begin(_ state: FleetState, asked: Instant) -> Action {
    forget()
    phase = .following
    poisoned = nil
    known = state
    position = state.journal
    consumed = state.applied
    evidence.record(asked: asked, beats: state.beats)
    return weakness.contains(.keepsOverGenerations) ? .none : .dropAll
  }

  /// Stops following. The near cache is dropped once: nothing enters it until `begin`.
  private mutating func leave(for next: Phase) -> Action {
    let mayHoldSomething = phase == .starting || phase == .following
    forget()
    phase = next
    return mayHoldSomething ? .dropAll : .none
  }

  private mutating func forget() {
    if !weakness.contains(.keepsEvidence) { evidence.removeAll() }
    pending.removeAll(keepingCapacity: true)
    polledInVain = 0
    certificate = nil
  }

  /// Entries are missing: goes on behind them with an empty near cache, to which nothing is added that was
  /// read before `id`. Evidence stays: it is about what was applied, not about what was heard.
  private mutating func skip(to id: JournalID) -> Action {
    position = max(position, id)
    polledInVain = 0
    settle()
    return .dropAll
  }

  /// Counts the polls whose entries have all been heard.
  private mutating func settle() {
    let heard = pending.prefix { $0.journal <= position || weakness.contains(.pollsCountAtOnce) }.count
    guard heard > 0 else { return }
    let newest = pending[heard - 1]
    pending.removeFirst(heard)
    consumed = max(consumed, newest.applied)
    if let proven = evidence.certificate(beats: newest.beats, weakness) {
      certificate = max(certificate ?? proven, proven)
    }
  }
}
