import Invalidation

/// The twins of `StateScriptsTailer`.
extension ModelRedis {
  /// What a tailer's script answers. `error` stands for an error that stopped it half way.
  enum TailerReply: Hashable {
    case noState
    case fenced(Generation)
    case regressed(n: UInt64, W: LSN?)
    case applied(W: LSN, V: LSN, asked: Int?, pending: PendingGroups)
    case takenOver(
      g: Generation, W: LSN, V: LSN, n: UInt64, h: UInt64, jl: JournalID, wt: Bool, c: Generation?)
    case otherSystem(String)
    case olderTimeline(UInt32)
    case needsGeneration(Generation, timeline: UInt32, mapping: String)
    case raced(Generation?)
    case began
    case purgeStep(cursor: Int, removed: Int)
    case cleared
    case swept(left: PendingGroups)
    case error(String)
  }

  struct Apply {
    var token: String
    var g: Generation
    var n: UInt64
    var W: LSN
    var V: LSN
    var X: LSN
    var beat: Bool
    /// nil: leave it.
    var wt: Bool?
    var keep: UInt64
    var keys: [String]
    var buckets: [Int]
    var packed: PackedKeys
    /// Of the keys and of the groups.
    var origins: PackedOrigins?
    var messages: Int
    /// Their kind included.
    var groups: [String] = []
    var groupBuckets: [Int] = []
    /// One of them is a prefix that no rule gives.
    var raisesFloor = false
    var tellsPending = false
  }

  mutating func apply(_ order: Apply) -> TailerReply {
    guard case .present(var m) = meta, let g = m.g, let n = m.n, let w = m.W, let v = m.V, let jl = m.jl
    else { return .noState }
    if m.tok != order.token && !weakness.contains(.noToken) || g != order.g { return .fenced(g) }
    if n != order.n && !weakness.contains(.noCount) { return .regressed(n: n, W: w) }
    meta = .missing  // So that the fences are not copied.
    if order.X > w, !weakness.contains(.noFences) {
      let fence = Stamp(visible: order.X, deletions: 0)
      for bucket in order.buckets { m.fences[bucket] = fence }
      if !weakness.contains(.groupsUnfenced) {
        for bucket in order.groupBuckets { m.fences[bucket] = fence }
        if order.raisesFloor { m.F = fence }
      }
    }
    for key in order.keys { values[key] = nil }
    var last = jl
    var groups = PackedKeys()
    for group in order.groups where !weakness.contains(.noGroupsInJournal) { groups.append(group) }
    if !(order.packed.isEmpty && groups.isEmpty), !weakness.contains(.noJournal) {
      guard
        let id = journal(
          g, after: jl, keep: order.keep, position: order.X, keys: order.packed, groups: groups,
          origins: order.origins)
      else {
        meta = .present(m)
        return .error("WRONGTYPE")
      }
      last = id
    }
    if order.X > w, !order.groups.isEmpty, !weakness.contains(.nothingPending) {
      m.pd = Self.enter(m.pd, order.groups, last)
    }
    if order.messages > 0 { m.s = (m.s ?? 0) + UInt64(order.messages) }
    m.W = max(w, order.W)
    m.V = max(v, order.V)
    m.jl = last
    if order.beat { m.h = (m.h ?? 0) + 1 }
    if let wt = order.wt { m.wt = wt }
    m.n = n + 1
    counted += 1
    let reply = TailerReply.applied(
      W: m.W ?? w, V: m.V ?? v, asked: m.req,
      pending: order.tellsPending || m.req == 2 ? m.pending : PendingGroups())
    meta = .present(m)
    return reply
  }

  mutating func takeover(
    token: String, system: String, timeline: UInt32, mapping: String, fingerprint: String = ""
  ) -> TailerReply {
    guard case .present(var m) = meta, let g = m.g, let w = m.W, let v = m.V, let n = m.n, let h = m.h,
      let jl = m.jl, let sys = m.sys, let tl = m.tl, let cfg = m.cfg, let wt = m.wt
    else { return .noState }
    if sys != system { return .otherSystem(sys) }
    if tl > timeline, !weakness.contains(.anyTimeline) { return .olderTimeline(tl) }
    m.tok = token
    m.ep = (m.ep ?? 0) + 1
    meta = .present(m)
    if tl != timeline && !weakness.contains(.anyTimeline) || cfg != mapping
      || m.fp ?? "" != fingerprint
    {
      return .needsGeneration(g, timeline: tl, mapping: cfg)
    }
    return .takenOver(g: g, W: w, V: v, n: n, h: h, jl: jl, wt: wt, c: m.c)
  }

  struct NewGeneration {
    var token: String
    var old: Generation?
    var new: Generation
    var system: String
    var timeline: UInt32
    var mapping: String
    var W: LSN
    var V: LSN
    var wt: Bool
    var fingerprint = ""
  }

  /// `journal`: the generation whose journal is named in KEYS.
  mutating func newGeneration(_ order: NewGeneration, journal: Generation) -> TailerReply {
    var whole: Meta?
    if case .present(let m) = meta, m.g != nil, m.sys != nil, m.tl != nil, m.jl != nil, m.W != nil,
      m.V != nil,
      m.n != nil, m.h != nil, m.cfg != nil, m.wt != nil
    {
      whole = m
    }
    if whole?.g != order.old { return .raced(whole?.g) }
    if let m = whole, let g = m.g, let sys = m.sys, let tl = m.tl, let jl = m.jl {
      if m.tok != order.token { return .fenced(g) }
      if sys == order.system, tl > order.timeline, !weakness.contains(.anyTimeline) {
        return .olderTimeline(tl)
      }
      if case .missing = liveJournal(journal) { journals[journal] = nil }
      guard add(to: journal, previous: jl, position: order.W, keys: nil) != nil else {
        return .error("WRONGTYPE")
      }
      if case .present(var old)? = journals[journal] {
        old.expires = clock + 60_000
        journals[journal] = .present(old)
      }
    }
    var m = Meta()
    m.g = order.new
    m.tok = order.token
    m.ep = (hash?.ep ?? 0) + 1
    m.n = 0
    m.h = 0
    m.W = order.W
    m.V = order.V
    m.wt = order.wt
    m.F = Stamp(visible: weakness.contains(.floorAtV) ? order.V : order.W, deletions: 0)
    m.d = 0
    m.dc = 0
    m.jl = .zero
    m.s = 0
    m.sys = order.system
    m.tl = order.timeline
    m.cfg = order.mapping
    m.fp = order.fingerprint
    if weakness.contains(.carryCleared) { m.c = order.new }
    meta = .present(m)
    counted += 1
    return .began
  }

  /// `places`: the keys that SCAN would return in this step; `governed` tells which of them a pattern covers.
  mutating func purge(
    token: String, g: Generation, n: UInt64, places: some Sequence<String>, next: Int,
    governed: (String) -> Bool
  ) -> TailerReply {
    if let refusal = refusal(token, g, n) { return refusal }
    var removed = 0
    for key in places where governed(key) { removed += unlink(key) }
    if weakness.contains(.purgeNotCounted) { counted += 1 } else { count() }
    return .purgeStep(cursor: next, removed: removed)
  }

  mutating func purged(token: String, g: Generation, n: UInt64) -> TailerReply {
    if let refusal = refusal(token, g, n) { return refusal }
    count { $0.c = $0.g }
    return .cleared
  }

  /// `places` as for `purge`; `tags` tells those of a key.
  mutating func sweep(
    token: String, g: Generation, n: UInt64, groups: PackedKeys, places: some Sequence<String>, next: Int,
    tags: (String) -> PackedKeys
  ) -> TailerReply {
    if let refusal = refusal(token, g, n) { return refusal }
    var all = Meta()
    all.pd = []
    groups.forEach { all.pd?.append(Pending(group: String(decoding: $0, as: UTF8.self), id: .zero)) }
    var removed = 0
    for key in places where all.covers(key, tags(key)) { removed += unlink(key) }
    if weakness.contains(.sweepNotCounted) { counted += 1 } else { count() }
    return .purgeStep(cursor: next, removed: removed)
  }

  mutating func swept(token: String, g: Generation, n: UInt64, pending: PendingGroups) -> TailerReply {
    if let refusal = refusal(token, g, n) { return refusal }
    let done = pending.entries
    count { [weakness] in
      let left = ($0.pd ?? []).filter { entry in
        !done.contains {
          $0 == entry || weakness.contains(.sweptForgetsLater) && $0.group == entry.group
        }
      }
      $0.pd = left.isEmpty ? nil : left
    }
    return .swept(left: hash?.pending ?? PendingGroups())
  }

  private func refusal(_ token: String, _ g: Generation, _ n: UInt64) -> TailerReply? {
    guard case .present(let m) = meta, let own = m.g, let count = m.n else { return .noState }
    if m.tok != token && !weakness.contains(.noToken) || own != g { return .fenced(own) }
    return count == n || weakness.contains(.noCount) ? nil : .regressed(n: count, W: nil)
  }

  private mutating func count(_ change: (inout Meta) -> Void = { _ in }) {
    guard case .present(var m) = meta else { return }
    meta = .missing
    change(&m)
    m.n = (m.n ?? 0) + 1
    counted += 1
    meta = .present(m)
  }
}

extension ScriptWeakness {
  static let noToken = ScriptWeakness(rawValue: 1 << 0)
  static let noCount = ScriptWeakness(rawValue: 1 << 1)
  static let noFences = ScriptWeakness(rawValue: 1 << 2)
  static let noJournal = ScriptWeakness(rawValue: 1 << 3)
  static let anyTimeline = ScriptWeakness(rawValue: 1 << 4)
  static let floorAtV = ScriptWeakness(rawValue: 1 << 5)
  static let carryCleared = ScriptWeakness(rawValue: 1 << 6)
  static let purgeNotCounted = ScriptWeakness(rawValue: 1 << 7)
  static let groupsUnfenced = ScriptWeakness(rawValue: 1 << 13)
  static let noGroupsInJournal = ScriptWeakness(rawValue: 1 << 14)
  static let nothingPending = ScriptWeakness(rawValue: 1 << 15)
  static let sweepNotCounted = ScriptWeakness(rawValue: 1 << 16)
  static let sweptForgetsLater = ScriptWeakness(rawValue: 1 << 17)
}

extension ModelRedis.TailerReply {
  /// As `RedisSink.parse` reads it. nil: an error, with which the connection is given up.
  var stateReply: StateReply? {
    switch self {
    case .noState: .noState
    case .fenced: .fenced
    case .regressed: .regressed
    case .applied(let w, let v, let asked, let pending):
      .applied(W: w, V: v, generationAsked: asked != nil, pending: pending)
    case .takenOver(let g, let w, let v, let n, _, _, let wt, let c):
      .takenOver(
        StateReply.Takeover(
          generation: g, applied: w, visible: v, count: n, watching: wt, cleared: c == g))
    case .otherSystem(let system): .otherSystem(system)
    case .olderTimeline(let timeline): .olderTimeline(String(timeline, radix: 16))
    case .needsGeneration(let g, _, _): .needsGeneration(g)
    case .raced: .raced
    case .began: .began
    case .purgeStep(let cursor, let removed): .purgeStep(cursor: String(cursor), removed: removed)
    case .cleared: .cleared
    case .swept(let left): .swept(left: left)
    case .error: nil
    }
  }
}
