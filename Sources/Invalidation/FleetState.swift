/// The names under which a fleet keeps its state in Redis. The braces make one hash tag, so that the state
/// hash and the journals share a slot of a Redis Cluster.
public struct StateKeys: Sendable {
  /// The hash with the coordination fields and the fence buckets. It has no TTL.
  public let meta: String
  /// The journal of generation g is this and the sixteen digits of g.
  public let journalPrefix: String
  /// Written by a sidecar on behalf of a client that sends WAIT, so that there is something to wait for.
  public let wait: String
  private let lockPrefix: String
  /// What `StateScripts.behind` keeps: pending writes, the newest of each key, and those that were given up.
  public let writes: String
  public let pendingWrites: String
  public let deadWrites: String
  /// The Pub/Sub channel for applications that keep caches of their own.
  public let channel: String

  /// Whether a key of Redis belongs to some fleet's state, this one's or another's.
  @inlinable
  public static func isState(_ key: UnsafeRawBufferPointer) -> Bool {
    // Most keys are told by their first letter.
    key.first == UInt8(ascii: "n") && key.starts(with: "nearside:{".utf8)
  }

  public init(namespace: String) {
    meta = "nearside:{\(namespace)}:m"
    journalPrefix = "nearside:{\(namespace)}:j:"
    wait = "nearside:{\(namespace)}:wait"
    channel = "nearside:\(namespace)"
    lockPrefix = "nearside:{\(namespace)}:l:"
    writes = "nearside:{\(namespace)}:w"
    pendingWrites = "nearside:{\(namespace)}:wp"
    deadWrites = "nearside:{\(namespace)}:wd"
  }

  /// Held by the host that loads a key, while the others wait.
  public func lock(_ key: [UInt8]) -> [UInt8] { Array(lockPrefix.utf8) + key }

  public func journal(_ generation: Generation) -> String { journalPrefix + generation.hex }
}

/// What a sidecar reads of the state hash with each poll and each miss. Field names as in Redis.
public struct FleetState: Hashable, Sendable {
  /// g, the generation.
  public var generation: Generation
  /// c, the generation whose purge has finished; values in Redis count only while it equals `generation`.
  public var cleared: Generation?
  /// h, the number of beats the tailer has stored.
  public var beats: UInt64
  /// W, the log position up to which invalidations are applied.
  public var applied: LSN
  /// V, the log position up to which commits are visible on the primary.
  public var visible: LSN
  /// F, the stamp below which every lease is void, whatever its bucket says.
  public var floor: Stamp
  /// d, the number of deletions that applications asked for.
  public var deletions: UInt64
  /// jl, the journal's last entry.
  public var journal: JournalID
  /// wt, whether transactions that were in progress when the slot was acquired are still being watched.
  public var watching: Bool
  /// cfg, the hash of the mapping the fleet works with.
  public var mapping: String
  /// pd, the groups whose keys Redis may still hold from before. Empty where nobody asked for it.
  public var pending: PendingGroups

  public init(
    generation: Generation, cleared: Generation?, beats: UInt64, applied: LSN, visible: LSN, floor: Stamp,
    deletions: UInt64, journal: JournalID, watching: Bool, mapping: String,
    pending: PendingGroups = PendingGroups()
  ) {
    self.generation = generation
    self.cleared = cleared
    self.beats = beats
    self.applied = applied
    self.visible = visible
    self.floor = floor
    self.deletions = deletions
    self.journal = journal
    self.watching = watching
    self.mapping = mapping
    self.pending = pending
  }

  /// Whether what Redis holds under governed keys was filled in this generation.
  public var trusted: Bool { cleared == generation }

  /// Whether what Redis holds under a key counts; `tags` are those of the key.
  public func trusts(_ key: UnsafeRawBufferPointer, tags: PackedKeys) -> Bool {
    trusted && !pending.covers(key, tags: tags)
  }

  /// The stamp of a lease given now.
  public var stamp: Stamp { Stamp(visible: visible, deletions: deletions) }

  public var lease: Lease { Lease(generation: generation, stamp: stamp) }

  /// The fields in the order in which `HMGET` asks for them and `init(fields:)` reads them.
  /// Whoever judges values that Redis holds asks for `pendingField` too.
  public static let fieldNames = ["g", "c", "h", "W", "V", "F", "d", "jl", "wt", "cfg"]

  /// The field with `pending`, whose value is no text.
  public static let pendingField = "pd"

  /// Reads the ten values of `HMGET meta <fieldNames>`, and that of `pendingField` (nil: absent); nil if the hash is absent or a value is malformed,
  /// which every caller treats alike: no state, so no hit, no lease and no fill.
  public init?(fields: [String?], pending: [UInt8]? = nil) {
    guard fields.count >= 10, let g = fields[0].flatMap({ Generation(hex: $0) }),
      let h = fields[2].flatMap({ UInt64($0) }), let w = fields[3].flatMap({ LSN(hex: $0) }),
      let v = fields[4].flatMap({ LSN(hex: $0) }), let f = fields[5].flatMap({ Stamp(hex: $0) }),
      let d = fields[6].flatMap({ LSN(hex: $0) }), let jl = fields[7].flatMap({ JournalID($0) }),
      let pending = PendingGroups(bytes: pending ?? [])
    else { return nil }
    self.init(
      generation: g, cleared: fields[1].flatMap { Generation(hex: $0) }, beats: h, applied: w, visible: v,
      floor: f, deletions: d.rawValue, journal: jl, watching: fields[8] == "1", mapping: fields[9] ?? "",
      pending: pending)
  }
}

extension FleetState {
  /// The same, of the values as they lie in a reply of Redis.
  public init?(values fields: [UnsafeRawBufferPointer?], pending: [UInt8]? = nil) {
    guard fields.count >= 10, let g = fields[0].flatMap({ Generation(hex: $0) }),
      let h = fields[2].flatMap({ UInt64(String(decoding: $0, as: UTF8.self)) }),
      let w = fields[3].flatMap({ LSN(hex: $0) }), let v = fields[4].flatMap({ LSN(hex: $0) }),
      let f = fields[5].flatMap({ Stamp(hex: $0) }), let d = fields[6].flatMap({ LSN(hex: $0) }),
      let jl = fields[7].flatMap({ JournalID($0) }), let pending = PendingGroups(bytes: pending ?? [])
    else { return nil }
    self.init(
      generation: g, cleared: fields[1].flatMap { Generation(hex: $0) }, beats: h, applied: w, visible: v,
      floor: f, deletions: d.rawValue, journal: jl,
      watching: fields[8]?.elementsEqual(CollectionOfOne(UInt8(ascii: "1"))) ?? false,
      mapping: fields[9].map { String(decoding: $0, as: UTF8.self) } ?? "", pending: pending)
  }
}

/// One entry of the journal: the keys and groups that one batch of transactions invalidated.
public struct JournalEntry: Hashable, Sendable {
  public var id: JournalID
  /// The id of the entry before it. A follower that did not see that one has a gap.
  public var previous: JournalID
  /// The log position of the batch.
  public var position: LSN
  public var keys: PackedKeys
  /// Kind included, see `KeyGroup`.
  public var groups: PackedKeys
  /// Why, for each key and then for each group; nil: an application's own deletion, or change of expiry.
  public var origins: PackedOrigins?

  public init(
    id: JournalID, previous: JournalID, position: LSN, keys: PackedKeys, groups: PackedKeys = PackedKeys(),
    origins: PackedOrigins? = nil
  ) {
    self.id = id
    self.previous = previous
    self.position = position
    self.keys = keys
    self.groups = groups
    self.origins = origins
  }

  /// Such an entry only wakes its readers: it ends the journal of its generation.
  public var isEmpty: Bool { keys.isEmpty && groups.isEmpty }
}

/// What a sidecar hears of the fleet, in the order in which it happened.
public enum FeedEvent: Sendable {
  /// A poll was answered: the state, and the instant before the poll was sent. nil: there is no state hash.
  case state(FleetState?, asked: Instant)
  /// Entries of the journal of `generation`, oldest first.
  case entries([JournalEntry], generation: Generation)
  /// Redis could not be reached or answered an error; the sentence says what, for the log and for clients.
  case unreachable(String)
}

/// Keys one behind the other, each after its length in two bytes, most significant first: the `k` field of
/// a journal entry.
public struct PackedKeys: Hashable, Sendable {
  public private(set) var bytes: [UInt8]

  /// The longest key that can be packed, and so the longest key that can be governed.
  public static let longestKey = 65_535

  public init() { bytes = [] }

  /// Takes bytes as they came from the journal; nil if a length leads past the end.
  public init?(bytes: [UInt8]) {
    self.bytes = bytes
    var at = 0
    while at < bytes.count {
      guard at + 2 <= bytes.count else { return nil }
      at += 2 + (Int(bytes[at]) << 8 | Int(bytes[at + 1]))
    }
    guard at == bytes.count else { return nil }
  }

  public var isEmpty: Bool { bytes.isEmpty }

  /// Appends one key of at most `longestKey` bytes.
  public mutating func append(_ key: UnsafeRawBufferPointer) {
    precondition(key.count <= Self.longestKey)
    bytes.append(UInt8(truncatingIfNeeded: key.count >> 8))
    bytes.append(UInt8(truncatingIfNeeded: key.count))
    bytes.append(contentsOf: key)
  }

  public func forEach(_ body: (UnsafeRawBufferPointer) -> Void) {
    bytes.withUnsafeBytes { all in
      var at = 0
      while at < all.count {
        let length = Int(all[at]) << 8 | Int(all[at + 1])
        body(UnsafeRawBufferPointer(rebasing: all[at + 2..<at + 2 + length]))
        at += 2 + length
      }
    }
  }
}
