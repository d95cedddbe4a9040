import Invalidation

/// Which misses of which keys were answered when, as far as a later plain SET may ask: the lease of the
/// *oldest* miss of a key after some instant.
///
/// Misses of one key that follow each other with the same lease are one run, of which the latest instant is
/// kept. That answers the question exactly. Instants only grow, so the misses after x are the last ones of
/// the key, from some miss on. The run of that first one is the first run whose latest miss lies after x
/// (every miss of an earlier run lies at or before x), and all misses of a run have the same lease. So the
/// answer is the lease of the first run whose latest instant lies after x, and no other instant is needed.
///
/// A miss with another stamp of the same generation joins the run too if the run began less than `grain`
/// ago; the run then has the smaller stamp of the two. Without this a hot key that cannot be filled for a
/// while would make a run for each commit of the fleet. It errs to the safe side only: the answer for x is
/// then a stamp at most as large as the exact one (it is the smallest of a run that holds the exact miss),
/// and a fill with a smaller stamp is accepted less often. Misses of different generations, and misses
/// without a lease, never join: there neither of two is the safer.
struct MissRuns {
  struct Run: Equatable {
    var key: UInt64
    /// nil: the miss gave no right to fill.
    var lease: Lease?
    var first: Instant
    var latest: Instant
    /// The run of any key whose latest instant comes before; -1: none. Also links the unused ones.
    var older: Int32 = -1
    /// The run of any key whose latest instant comes after; -1: none.
    var younger: Int32 = -1
    /// The next run of the same key; -1: none.
    var next: Int32 = -1
  }

  /// The runs of one key, the oldest and the newest; those between hang on `next`.
  private struct Chain {
    var oldest: Int32
    var newest: Int32
  }

  let capacity: Int
  let grain: UInt64
  private var runs: [Run] = []
  private var chains: [UInt64: Chain] = [:]
  private var unused: Int32 = -1
  private var oldest: Int32 = -1
  private var youngest: Int32 = -1
  private(set) var count = 0

  init(capacity: Int, grain: UInt64) {
    precondition(capacity > 0 && capacity < Int(Int32.max))
    self.capacity = capacity
    self.grain = grain
  }

  /// Takes a miss; `at` is no earlier than that of the one before. False if there is no room for it.
  mutating func append(_ key: UInt64, _ lease: Lease?, at: Instant) -> Bool {
    if let chain = chains[key], extend(chain.newest, lease, at: at) { return true }
    return append(Run(key: key, lease: lease, first: at, latest: at))
  }

  private mutating func append(_ run: Run) -> Bool {
    guard count < capacity else { return false }
    let index: Int32
    if unused >= 0 {
      index = unused
      unused = runs[Int(index)].older
      runs[Int(index)] = run
    } else {
      index = Int32(runs.count)
      runs.append(run)
    }
    count += 1
    link(index)
    if let chain = chains[run.key] {
      runs[Int(chain.newest)].next = index
      chains[run.key] = Chain(oldest: chain.oldest, newest: index)
    } else {
      chains[run.key] = Chain(oldest: index, newest: index)
    }
    return true
  }

  /// Lets a miss join the run `index`, its key's newest; false if it must not.
  private mutating func extend(_ index: Int32, _ lease: Lease?, at: Instant) -> Bool {
    let run = runs[Int(index)]
    if run.lease != lease {
      guard let old = run.lease, let new = lease, old.generation == new.generation,
        at.since(run.first) < grain
      else { return false }
      runs[Int(index)].lease = Lease(generation: old.generation, stamp: min(old.stamp, new.stamp))
    }
    runs[Int(index)].latest = at
    unlink(index)
    link(index)
    return true
  }

  enum Answer: Equatable {
    case none
    case oldest(Lease?)
  }

  /// The lease of the oldest miss of `key` that was answered after `start`.
  func oldest(of key: UInt64, after start: Instant, _ weakness: Weakness = []) -> Answer {
    guard let chain = chains[key] else { return .none }
    if weakness.contains(.newestMiss), runs[Int(chain.newest)].latest > start {
      return .oldest(runs[Int(chain.newest)].lease)
    }
    var index = chain.oldest
    while index >= 0 {
      let counts = runs[Int(index)].lease != nil || !weakness.contains(.forgetsBypassed)
      if runs[Int(index)].latest > start, counts { return .oldest(runs[Int(index)].lease) }
      index = runs[Int(index)].next
    }
    return .none
  }

  /// Drops runs whose latest miss was answered at `horizon` or before, at most `limit` of them, so that no
  /// single miss pays for many. The runs of all keys stand in the order of their latest instants, hence so
  /// do those of one key, and the first to go is always its key's oldest.
  mutating func drop(until horizon: Instant, limit: Int) {
    var left = limit
    while oldest >= 0, runs[Int(oldest)].latest <= horizon, left > 0 {
      let index = oldest
      let run = runs[Int(index)]
      unlink(index)
      if run.next >= 0 {
        chains[run.key]?.oldest = run.next
      } else {
        chains[run.key] = nil
      }
      runs[Int(index)].older = unused
      unused = index
      count -= 1
      left -= 1
    }
  }

  /// Calls `body` with each run, the one with the earliest latest instant first.
  func forEach(_ body: (Run) -> Void) {
    var index = oldest
    while index >= 0 {
      body(runs[Int(index)])
      index = runs[Int(index)].younger
    }
  }

  /// Takes a run as `forEach` gave it, in the same order.
  mutating func restore(key: UInt64, lease: Lease?, first: Instant, latest: Instant) -> Bool {
    append(Run(key: key, lease: lease, first: first, latest: latest))
  }

  private mutating func link(_ index: Int32) {
    runs[Int(index)].older = youngest
    runs[Int(index)].younger = -1
    if youngest >= 0 { runs[Int(youngest)].younger = index } else { oldest = index }
    youngest = index
  }

  private mutating func unlink(_ index: Int32) {
    let run = runs[Int(index)]
    if run.older >= 0 { runs[Int(run.older)].younger = run.younger } else { oldest = run.younger }
    if run.younger >= 0 { runs[Int(run.younger)].older = run.older } else { youngest = run.older }
  }
}
