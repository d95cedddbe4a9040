import Invalidation

/// The part of Redis that Nearside's scripts touch, as a value: copying it makes an image to which a failover
/// can go back. Each script of `StateScripts` has its twin here, with the same order of steps and the same
/// words, and `SimulationTests` compares them call by call with a real server.
///
/// What is left out: the channel (only its counter `s` is kept), values other than strings (one stands for
/// all of them, so that WRONGTYPE can be met), and memory.
struct ModelRedis {
  /// What stands under a name that the scripts expect something of a certain type under.
  enum Slot<Content> {
    case missing
    case present(Content)
    /// A value of another type.
    case otherType
  }

  /// M. A field that is nil is not in the hash.
  struct Meta {
    var g: Generation?
    var c: Generation?
    var tok: String?
    var ep: Int?
    var n: UInt64?
    var h: UInt64?
    var W: LSN?
    var V: LSN?
    var F: Stamp?
    var d: UInt64?
    var dc: UInt64?
    var jl: JournalID?
    var wt: Bool?
    var sys: String?
    var tl: UInt32?
    var cfg: String?
    var fp: String?
    /// What is asked for: `1` a new generation.
    var req: Int?
    /// The groups that wait to be swept, each with its entry in the journal; nil: there is no such field. Never as
    /// many as are too many.
    var pd: [Pending]?
    var s: UInt64?
    /// b<bucket>
    var fences: [Int: Stamp] = [:]
  }

  struct Pending: Hashable {
    /// Its kind included.
    var group: String
    var id: JournalID
  }

  struct Journal {
    struct Entry {
      var id: JournalID
      var previous: JournalID
      var position: LSN
      /// nil: the entry that tells of a new generation.
      var keys: PackedKeys?
      var groups: PackedKeys
      /// nil: an application's own deletion, or change of expiry.
      var origins: PackedOrigins?
    }

    var entries: [Entry] = []
    /// The stream's own last id, which trimming does not change.
    var last = JournalID.zero
    /// Milliseconds of the server's clock.
    var expires: UInt64?
  }

  struct Value: Hashable {
    /// nil: not a string.
    var text: String?
    /// Milliseconds of the server's clock.
    var expires: UInt64?
  }

  var meta = Slot<Meta>.missing
  var journals: [Generation: Slot<Journal>] = [:]
  var values: [String: Value] = [:]
  /// The server's clock in milliseconds; whoever calls a script sets it before.
  var clock: UInt64 = 0
  /// How many writes were to be counted in n, in all generations and whether or not they were.
  var counted: UInt64 = 0
  /// Rules that are switched off, to see that their absence is noticed.
  var weakness: ScriptWeakness = []

  /// The reply of a command, in RESP2's types.
  enum Answer: Hashable {
    case null
    case integer(Int)
    case bulk(String)
    case status(String)
    /// The error's code, its first word.
    case error(String)
  }

  // MARK: Reading

  /// What HMGET reads of M for a follower.
  var state: FleetState? {
    guard case .present(let m) = meta, let g = m.g, let h = m.h, let w = m.W, let v = m.V, let f = m.F,
      let d = m.d, let jl = m.jl
    else { return nil }
    return FleetState(
      generation: g, cleared: m.c, beats: h, applied: w, visible: v, floor: f, deletions: d, journal: jl,
      watching: m.wt ?? false, mapping: m.cfg ?? "", pending: m.pending)
  }

  /// M, if the scripts can use it at all.
  var hash: Meta? { if case .present(let meta) = meta { meta } else { nil } }

  mutating func value(_ key: String) -> Value? {
    guard let value = values[key] else { return nil }
    if let expires = value.expires, expires <= clock {
      values[key] = nil
      return nil
    }
    return value
  }

  func isGone(_ key: String) -> Bool {
    guard let value = values[key] else { return true }
    return value.expires.map { $0 <= clock } ?? false
  }

  /// The journal's entries behind `id`, as XREAD gives them.
  func entries(of generation: Generation, after id: JournalID, limit: Int) -> [JournalEntry] {
    guard case .present(let journal)? = journals[generation] else { return [] }
    if let expires = journal.expires, expires <= clock { return [] }
    guard let last = journal.entries.last, last.id > id else { return [] }
    var first = journal.entries.count - 1
    while first > 0, journal.entries[first - 1].id > id { first -= 1 }
    return journal.entries[first...].prefix(limit).map {
      JournalEntry(
        id: $0.id, previous: $0.previous, position: $0.position, keys: $0.keys ?? PackedKeys(),
        groups: $0.groups, origins: $0.origins)
    }
  }

  // MARK: Changing

  mutating func unlink(_ key: String) -> Int {
    let existed = value(key) != nil
    values[key] = nil
    return existed ? 1 : 0
  }

  /// XADD under the id `*`; false if something else stands under the journal's name.
  mutating func add(
    to generation: Generation, previous: JournalID, position: LSN, keys: PackedKeys?,
    groups: PackedKeys = PackedKeys(), origins: PackedOrigins? = nil, id forced: JournalID? = nil
  ) -> JournalID? {
    var journal: Journal
    switch liveJournal(generation) {
    case .otherType: return nil
    case .missing: journal = Journal()
    case .present(let present): journal = present
    }
    journals[generation] = nil  // So that the entries are not copied.
    let id =
      forced
      ?? (clock > journal.last.milliseconds
        ? JournalID(milliseconds: clock, sequence: 0)
        : JournalID(milliseconds: journal.last.milliseconds, sequence: journal.last.sequence + 1))
    journal.entries.append(
      Journal.Entry(
        id: id, previous: previous, position: position, keys: keys, groups: groups, origins: origins))
    journal.last = id
    journals[generation] = .present(journal)
    return id
  }

  func liveJournal(_ generation: Generation) -> Slot<Journal> {
    guard let journal = journals[generation] else { return .missing }
    if case .present(let present) = journal, let expires = present.expires, expires <= clock {
      return .missing
    }
    return journal
  }

  /// The scripts' function `journal`. Redis trims whole nodes of a stream only; here every entry goes that
  /// may.
  mutating func journal(
    _ generation: Generation, after jl: JournalID, keep: UInt64, position: LSN, keys: PackedKeys,
    groups: PackedKeys = PackedKeys(), origins: PackedOrigins? = nil
  ) -> JournalID? {
    var forced: JournalID?
    if clock <= jl.milliseconds, case .missing = liveJournal(generation) {
      forced = JournalID(milliseconds: jl.milliseconds + 1, sequence: 0)
    }
    if case .missing = liveJournal(generation) { journals[generation] = nil }
    guard
      let id = add(
        to: generation, previous: jl, position: position, keys: keys, groups: groups, origins: origins,
        id: forced)
    else { return nil }
    let oldest = clock > keep ? clock - keep : 0
    if case .present(let present)? = journals[generation], let first = present.entries.first,
      first.id.milliseconds < oldest
    {
      trim(generation) { $0.id.milliseconds < oldest }
    }
    return id
  }

  mutating func trim(_ generation: Generation, _ goes: (Journal.Entry) -> Bool) {
    guard case .present(var journal)? = journals[generation] else { return }
    journal.entries.removeFirst(journal.entries.prefix(while: goes).count)
    journals[generation] = .present(journal)
  }

  /// The scripts' function `enter`.
  static func enter(_ pd: [Pending]?, _ groups: [String], _ id: JournalID) -> [Pending] {
    (pd ?? []).filter { !groups.contains($0.group) } + groups.map { Pending(group: $0, id: id) }
  }

  /// The scripts' function `fence`.
  static func fence(_ meta: inout Meta, visible: LSN, buckets: [Int]) {
    let count = (meta.dc ?? 0) + 1
    meta.dc = count
    meta.d = count
    let stamp = Stamp(visible: visible, deletions: count)
    for bucket in buckets where meta.fences[bucket].map({ $0 < stamp }) ?? true {
      meta.fences[bucket] = stamp
    }
  }
}

extension ModelRedis.Meta {
  var pending: PendingGroups {
    guard let pd, !pd.isEmpty else { return PendingGroups() }
    var packed = PackedKeys()
    for entry in pd {
      packed.append(entry.group)
      packed.append(entry.id.description)
    }
    return PendingGroups(bytes: packed.bytes) ?? PendingGroups()
  }

  /// The scripts' function `covered`.
  func covers(_ key: String, _ tags: PackedKeys) -> Bool {
    guard pd != nil else { return false }
    var key = key
    return key.withUTF8 { pending.covers(UnsafeRawBufferPointer($0), tags: tags) }
  }
}

extension PendingGroups {
  /// As the twin has them.
  var entries: [ModelRedis.Pending] {
    var texts: [String] = []
    packed.forEach { texts.append(String(decoding: $0, as: UTF8.self)) }
    return stride(from: 0, to: texts.count, by: 2).compactMap { index in
      JournalID(texts[index + 1]).map { ModelRedis.Pending(group: texts[index], id: $0) }
    }
  }
}

/// Rules of the scripts, each of which can be switched off in the twin.
struct ScriptWeakness: OptionSet, Sendable, Hashable {
  let rawValue: UInt32
}
