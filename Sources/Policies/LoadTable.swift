import Invalidation

/// Which keys are being loaded from the database, and who waits for them: one load for a key, however many ask.
///
/// A load begins after the lease under which its value is stored, so that a change that the statement may not
/// have seen refuses the fill. Whether a waiter may be shown what was loaded depends on when it asked:
///
/// - Before the load began: the statement saw everything that was committed when the waiter asked. It gets the
///   value at once, stored or not.
/// - Later: a change may lie between the statement's snapshot and the waiter's question, and the waiter may
///   know of it (it wrote the row, and has waited for its position). It gets the value only if the fill was
///   stored by a script that was sent after it asked; otherwise it asks again.
///
/// Time is `serial`, which grows with each load that begins: a request bears the serial of its arrival.
///
/// The owner calls `next` after everything that one poll brought, so that all who asked in it join the same
/// load, calls `begins` and, with all that run in one statement, `sent`. It tells the outcome to `finished` (or
/// `repeatAlone`, if there is none), and what became of the fill to `filled`. Between `next` and `begins` it may
/// find that another host loads the key: then `elsewhere`, and later `appeared` or `takeBack`.
public struct LoadTable<Value, Failure> {
  /// What a waiter is told of one key.
  public enum Verdict {
    case value(Value)
    /// There is no such row. The lease is one of before the load; nil: none was given.
    case absent(Lease?)
    /// Nothing is known that it may be shown: it asks again.
    case again
    case failed(Failure)
  }

  public enum Outcome {
    case value(Value)
    case absent
    case failed(Failure)
  }

  public enum Joined {
    /// The verdict comes later.
    case waits
    case verdict(Verdict)
    /// Too many loads wait already.
    case full
  }

  /// A load that may begin now.
  public struct Start {
    public var load: UInt64
    public var key: [UInt8]
    /// Under which its value may be stored, if no newer one comes before it begins.
    public var lease: Lease?
    /// Nobody needs to wait for it: what is there still counts.
    public var isErrand: Bool
  }

  public struct Release {
    public var waiter: UInt64
    public var key: [UInt8]
    public var verdict: Verdict
  }

  /// What follows from an outcome.
  public struct Ended {
    public var key: [UInt8]
    public var releases: [Release]
    /// The value, or its absence, is to be stored under this lease, and `filled` called; nil: the load is over.
    public var lease: Lease?
  }

  private struct Waiter {
    var id: UInt64
    var arrival: UInt64
    var takesValue: Bool
  }

  private enum Phase {
    case queued
    /// Counts as running, but its statement has not been sent.
    case starting
    /// Another host loads it.
    case elsewhere
    /// `began`: the serial at which the statement was sent.
    case running(began: UInt64)
    /// Only the first `sent` waiters had asked when the fill was sent. A nil value: there is no row.
    case filling(began: UInt64, Value?, sent: Int)
  }

  private struct Load {
    var id: UInt64
    var key: [UInt8]
    var lease: Lease?
    /// Nobody needs to wait for it.
    var isErrand: Bool
    /// Whether it counts among those that run; not if it runs in another's statement.
    var counts = true
    /// It runs in a statement of its own.
    var isAlone = false
    var phase: Phase
    var waiters: [Waiter] = []
  }

  /// To be kept with a request when it arrives.
  public private(set) var serial: UInt64 = 1
  /// How many statements run.
  public private(set) var running = 0
  /// How many statements may run at once; the others wait, in the order in which they were asked for.
  public var mostRunning: Int
  private let mostQueued: Int
  private var loads: [UInt64: Load] = [:]
  private var ids: [[UInt8]: UInt64] = [:]
  private var lastID: UInt64 = 0
  private var queue: [UInt64] = []
  /// The front of `queue`.
  private var head = 0
  private var dropped: [UInt64] = []

  /// - Parameters:
  ///   - mostRunning: how many statements may run at once; the others wait, in the order in which they were asked
  ///     for.
  ///   - mostQueued: how many may wait.
  public init(mostRunning: Int, mostQueued: Int = 100_000) {
    self.mostRunning = max(1, mostRunning)
    self.mostQueued = mostQueued
  }

  /// How many keys are being loaded, or are to be.
  public var count: Int { loads.count }
  public var queued: Int { queue.count - head }

  /// Whether `next` would begin a load, or drop one.
  public var isDue: Bool { queued > 0 && running < mostRunning }

  /// Whether anybody waits for a load, in the eyes of `isThere`; an errand needs nobody.
  public func isWanted(_ id: UInt64, isThere: (UInt64) -> Bool) -> Bool {
    guard let load = loads[id] else { return false }
    return load.isErrand || load.waiters.contains { isThere($0.id) }
  }

  /// The loads that were dropped since this was last asked, for nobody waited for them any more.
  public mutating func takeDropped() -> [UInt64] {
    defer { dropped = [] }
    return dropped
  }

  // MARK: Asking

  /// A request has missed a key, and waits for it unless the result says otherwise.
  ///
  /// - Parameters:
  ///   - waiter: names it in its release.
  ///   - arrival: `serial` when the request came.
  ///   - lease: what the miss gave the right to; nil: the value must not be stored.
  ///   - takesValue: whether it can be answered with the value alone. If not, it asks again once that is stored.
  ///   - isShared: whether others may wait for the same load; otherwise it has one of its own.
  public mutating func join(
    _ key: [UInt8], waiter: UInt64, arrival: UInt64, lease: Lease?, takesValue: Bool, isShared: Bool = true
  ) -> Joined {
    let entry = Waiter(id: waiter, arrival: arrival, takesValue: takesValue)
    guard isShared else {
      return enqueue(key, lease, isErrand: false, [entry], isShared: false) ? .waits : .full
    }
    guard let id = ids[key], var load = loads.removeValue(forKey: id) else {
      return enqueue(key, lease, isErrand: false, [entry]) ? .waits : .full
    }
    defer { loads[id] = load }
    switch load.phase {
    case .queued, .starting, .elsewhere: load.lease = Self.newer(load.lease, lease)
    case .running: break
    case .filling(let began, let value, _):
      if arrival < began, takesValue || value == nil {
        return .verdict(value.map { .value($0) } ?? .absent(load.lease))
      }
    }
    load.waiters.append(entry)
    return .waits
  }

  /// A key that is to be loaded again although nobody waits for it. False: it is being loaded, or too many wait.
  public mutating func refresh(_ key: [UInt8], lease: Lease) -> Bool {
    ids[key] == nil && enqueue(key, lease, isErrand: true, [])
  }

  private mutating func enqueue(
    _ key: [UInt8], _ lease: Lease?, isErrand: Bool, _ waiters: [Waiter], isShared: Bool = true
  ) -> Bool {
    guard queued < mostQueued else { return false }
    lastID += 1
    if isShared { ids[key] = lastID }
    loads[lastID] = Load(
      id: lastID, key: key, lease: lease, isErrand: isErrand, phase: .queued, waiters: waiters)
    queue.append(lastID)
    return true
  }

  /// Of two leases given before a load the newer one is refused less.
  private static func newer(_ old: Lease?, _ new: Lease?) -> Lease? {
    guard let old, let new else { return new ?? old }
    return old.generation == new.generation && old.stamp > new.stamp ? old : new
  }

  // MARK: Loading

  /// The next load that may begin; it counts as begun. nil: none waits, or enough are running.
  /// `isThere`: whether a waiter still waits. A load that nobody waits for any more is dropped.
  public mutating func next(isThere: (UInt64) -> Bool) -> Start? {
    while running < mostRunning, head < queue.count {
      if let start = take(counts: true, isThere) { return start }
    }
    return nil
  }

  /// The load behind the last one, if it may run in the same statement and so counts as one with it.
  public mutating func nextAlong(isThere: (UInt64) -> Bool, if mayJoin: ([UInt8]) -> Bool) -> Start? {
    while head < queue.count, let load = loads[queue[head]], !load.isAlone, mayJoin(load.key) {
      if let start = take(counts: false, isThere) { return start }
    }
    return nil
  }

  /// Takes the front off the queue; nil: it need not begin any more.
  private mutating func take(counts: Bool, _ isThere: (UInt64) -> Bool) -> Start? {
    let id = queue[head]
    head += 1
    if head == queue.count || head > 1024 {
      queue.removeFirst(head)
      head = 0
    }
    guard var load = loads[id], case .queued = load.phase else { return nil }
    guard isWanted(id, isThere: isThere) else {
      remove(load)
      dropped.append(id)
      return nil
    }
    if counts { running += 1 }
    load.counts = counts
    load.phase = .starting
    loads[id] = load
    return Start(load: id, key: load.key, lease: load.lease, isErrand: load.isErrand)
  }

  /// The statement is sent now. The result is the lease under which its value may be stored.
  public mutating func begins(_ id: UInt64) -> Lease? {
    guard let load = loads[id], case .starting = load.phase else { return nil }
    serial += 1
    loads[id]?.phase = .running(began: serial)
    return load.lease
  }

  /// These, which have begun, run in one statement, and so count as one: the load with which they were taken off
  /// the queue may have gone another way.
  public mutating func sent(_ ids: [UInt64]) {
    for (index, id) in ids.enumerated() {
      guard let load = loads[id], case .running = load.phase, load.counts != (index == 0) else { continue }
      running += index == 0 ? 1 : -1
      loads[id]?.counts = index == 0
    }
  }

  /// The statement of several has told nothing of these: each is loaded again, by itself, before those that wait.
  public mutating func repeatAlone(_ ids: [UInt64]) {
    var again: [UInt64] = []
    for id in ids {
      guard let load = loads[id], case .running = load.phase else { continue }
      if load.counts { running -= 1 }
      loads[id]?.isAlone = true
      loads[id]?.phase = .queued
      again.append(id)
    }
    queue.insert(contentsOf: again, at: head)
  }

  /// Whether a load has to run by itself.
  public func isAlone(_ id: UInt64) -> Bool { loads[id]?.isAlone ?? false }

  /// Another host loads the key: other loads may begin.
  public mutating func elsewhere(_ id: UInt64) {
    guard let load = loads[id], case .starting = load.phase else { return }
    if load.counts { running -= 1 }
    loads[id]?.phase = .elsewhere
  }

  /// The other host has not stored it: it is loaded here, before those that wait.
  public mutating func takeBack(_ id: UInt64) {
    guard let load = loads[id], case .elsewhere = load.phase else { return }
    loads[id]?.phase = .queued
    queue.insert(id, at: head)
  }

  /// The other host has stored it, or looks after it: whoever waits asks again.
  public mutating func appeared(_ id: UInt64) -> [Release] {
    guard let load = loads[id] else { return [] }
    switch load.phase {
    case .starting: if load.counts { running -= 1 }
    case .elsewhere: break
    case .queued, .running, .filling: return []
    }
    remove(load)
    return release(load, load.waiters[...], .again)
  }

  /// A statement has ended.
  public mutating func finished(_ id: UInt64, _ outcome: Outcome) -> Ended? {
    guard var load = loads[id], case .running(let began) = load.phase else { return nil }
    if load.counts { running -= 1 }
    let value: Value?
    switch outcome {
    case .failed(let failure):
      remove(load)
      return Ended(key: load.key, releases: release(load, load.waiters[...], .failed(failure)), lease: nil)
    case .value(let loaded): value = loaded
    case .absent: value = nil
    }
    let now = load.waiters.filter { $0.arrival < began && ($0.takesValue || value == nil) }
    let later = load.waiters.filter { !($0.arrival < began && ($0.takesValue || value == nil)) }
    var releases = release(load, now[...], value.map { .value($0) } ?? .absent(load.lease))
    guard let lease = load.lease else {
      remove(load)
      releases += release(load, later[...], .again)
      return Ended(key: load.key, releases: releases, lease: nil)
    }
    load.waiters = later
    load.phase = .filling(began: began, value, sent: later.count)
    loads[id] = load
    return Ended(key: load.key, releases: releases, lease: lease)
  }

  /// What became of the fill. `stored`: the value is there; or, where there was no row, nothing is.
  public mutating func filled(_ id: UInt64, stored: Bool) -> [Release] {
    guard let load = loads[id], case .filling(_, let value, let sent) = load.phase else { return [] }
    remove(load)
    guard stored else { return release(load, load.waiters[...], .again) }
    var releases: [Release] = []
    for waiter in load.waiters[..<sent] {
      let verdict: Verdict =
        if let value { waiter.takesValue ? .value(value) : .again } else { .absent(load.lease) }
      releases.append(Release(waiter: waiter.id, key: load.key, verdict: verdict))
    }
    return releases + release(load, load.waiters[sent...], .again)
  }

  /// Every lease of before is void: what is being loaded under one is not stored.
  public mutating func leasesEnded() {
    for id in loads.keys { loads[id]?.lease = nil }
  }

  private func release(_ load: Load, _ waiters: ArraySlice<Waiter>, _ verdict: Verdict) -> [Release] {
    waiters.map { Release(waiter: $0.id, key: load.key, verdict: verdict) }
  }

  private mutating func remove(_ load: Load) {
    loads[load.id] = nil
    if ids[load.key] == load.id { ids[load.key] = nil }
  }
}
