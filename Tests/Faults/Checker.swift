/// Decides whether a history is one that a correct fleet may have had. Pure: the same history, the same answer.
struct Checker {
  /// What a history must hold at least to count.
  struct Demands {
    var reads = 100_000
    /// Of all reads.
    var nearShare = 0.5
    /// A window is good if this share of its reads was answered by the cache…
    var hitShare = 0.8
    /// … and so must this share of the calm windows be.
    var goodShare = 0.9
    var calmWindows = 20
  }

  /// Added to the bound: clocks are one and the same, so only for what a clock cannot tell apart.
  static let slack: Moment = .milliseconds(20)
  /// Violations reported of one rule; the rest is counted.
  private static let reported = 5

  private let history: History
  private var found: [Violation] = []
  private var counts: [Rule: Int] = [:]

  private init(_ history: History) { self.history = history }

  /// Everything wrong with the reads and copies: empty for a correct fleet.
  static func violations(in history: History) -> [Violation] {
    var checker = Checker(history)
    checker.checkReads()
    checker.checkCopies()
    return checker.report()
  }

  /// Why the history shows nothing: too few reads, or a cache that did not work.
  static func shortcomings(of history: History, demands: Demands = Demands()) -> [Violation] {
    var all: [Violation] = []
    if history.allReads < demands.reads {
      all.append(Violation(.size, "\(history.allReads) reads, \(demands.reads) are needed"))
    }
    if Double(history.nearHits) < Double(history.allReads) * demands.nearShare {
      all.append(Violation(.size, "\(history.nearHits) near hits of \(history.allReads) reads"))
    }
    let calm = history.windows.filter { window in
      window.reads > 0 && history.calms.contains { $0.from <= window.from && window.to <= $0.to }
    }
    let good = calm.count { Double($0.hits) >= Double($0.reads) * demands.hitShare }
    if calm.count < demands.calmWindows {
      all.append(Violation(.size, "only \(calm.count) windows outside faults"))
    } else if Double(good) < Double(calm.count) * demands.goodShare {
      let hosts = Set(calm.map(\.host)).sorted().map { host in
        let own = calm.filter { $0.host == host }
        return
          "host \(host): \(own.reduce(0) { $0 + $1.hits }) hits of \(own.reduce(0) { $0 + $1.reads }) reads"
      }
      all.append(
        Violation(
          .liveness,
          "\(good) of \(calm.count) windows outside faults had enough hits; "
            + hosts.joined(separator: ", ")))
    }
    return all
  }

  // MARK: Reads

  private mutating func checkReads() {
    var writes: [Int: [History.Write]] = [:]
    for write in history.writes { writes[write.key, default: []].append(write) }
    var reads: [Int: [History.Read]] = [:]
    for read in history.reads { reads[read.key, default: []].append(read) }
    for (key, own) in reads.sorted(by: { $0.key < $1.key }) {
      checkReads(own, key: key, writes: writes[key] ?? [])
    }
  }

  private mutating func checkReads(_ reads: [History.Read], key: Int, writes: [History.Write]) {
    let chain = history.chains[key] ?? []
    var byOperation: [Int: History.Write] = [:]
    for write in writes { byOperation[write.operation] = write }
    /// `known[v]`: the earliest moment at which somebody had been told of version v or a later one.
    var known = [Moment](repeating: .max, count: chain.count)
    for (version, operation) in chain.enumerated() {
      if let told = byOperation[operation]?.acknowledged { known[version] = told }
    }
    for version in stride(from: chain.count - 2, through: 0, by: -1) {
      known[version] = min(known[version], known[version + 1])
    }
    let survived = Set(chain)
    let lost = writes.filter { !survived.contains($0.operation) && $0.acknowledged != nil }

    for read in reads {
      let horizon = read.began.less(history.bound + Self.slack)
      // Version 0 is known since ever.
      var floor = max(0, Self.count(of: known, before: horizon) - 1)
      // What was lost later was the truth while it lasted.
      for write in lost {
        guard let version = write.version, let told = write.acknowledged, told < horizon,
          let loss = history.losses.first(where: { $0.at > write.began }), read.ended < loss.at
        else { continue }
        floor = max(floor, version)
      }
      if chain.indices.contains(read.version), chain[read.version] == read.operation {
        if read.version < floor {
          let late = Double(read.began.less(known[read.version + 1])) / 1e6
          add(
            .bound, "\(tell(read)), but version \(read.version + 1) had been acknowledged \(late) ms before")
        }
        if let waited = read.waitedFor.flatMap({ chain.firstIndex(of: $0) }), read.version < waited,
          !followsLoss(byOperation[chain[waited]], read)
        {
          add(.ownWrite, "\(tell(read)) to somebody who had waited for version \(waited)")
        }
        if let write = byOperation[read.operation], write.began > read.ended {
          add(.phantom, "\(tell(read)) before it was written")
        }
      } else if let write = byOperation[read.operation] {
        // Once its server is gone, nobody can have evidence for it: what is left is the bound.
        let isLost = history.losses.contains {
          write.began <= $0.at && read.began <= $0.at + history.bound + Self.slack
        }
        if !isLost {
          add(.phantom, "\(tell(read)), which is on no surviving timeline")
        } else if read.version < floor {
          add(.bound, "\(tell(read)), but \(floor) had been acknowledged")
        }
      } else {
        add(.phantom, "\(tell(read)), which nobody wrote")
      }
    }
  }

  /// Whether the write came after a loss that the host could not know of yet: its position, one of the new
  /// timeline, may lie below what the host had applied of the abandoned one. The bound holds all the same.
  private func followsLoss(_ write: History.Write?, _ read: History.Read) -> Bool {
    guard let told = write?.acknowledged else { return false }
    return history.losses.contains {
      $0.newTimeline && $0.at <= told && read.began <= $0.at + history.bound + Self.slack
    }
  }

  /// How many elements of the ascending `moments` lie before `limit`.
  private static func count(of moments: [Moment], before limit: Moment) -> Int {
    var low = 0
    var high = moments.count
    while low < high {
      let middle = (low + high) / 2
      if moments[middle] < limit { low = middle + 1 } else { high = middle }
    }
    return low
  }

  private func tell(_ read: History.Read) -> String {
    "key \(read.key) on host \(read.host) at \(read.began / 1_000_000) ms: version \(read.version) of operation "
      + "\(read.operation) was served"
  }

  // MARK: Copies

  private mutating func checkCopies() {
    for copy in history.copies {
      guard let chain = history.chains[copy.key], let operation = chain.last else {
        add(.quiet, "\(copy.place) has key \(copy.key), which has no row")
        continue
      }
      if copy.version != chain.count - 1 || copy.operation != operation {
        add(
          .quiet,
          "\(copy.place) has version \(copy.version) of operation \(copy.operation) of key \(copy.key); "
            + "the row has version \(chain.count - 1) of operation \(operation)")
      }
    }
  }

  // MARK: Report

  private mutating func add(_ rule: Rule, _ text: String) {
    counts[rule, default: 0] += 1
    if counts[rule, default: 0] <= Self.reported { found.append(Violation(rule, text)) }
  }

  private func report() -> [Violation] {
    found
      + counts.filter { $0.value > Self.reported }.sorted { $0.key.rawValue < $1.key.rawValue }.map {
        Violation($0.key, "and \($0.value - Self.reported) more")
      }
  }
}

/// Watches values that must never go back within a generation, and what PostgreSQL is told to forget.
struct StateMonitor {
  struct Sample: Hashable {
    var at: Moment
    var generation: String
    /// W, V, h, n, jl: each of them only grows.
    var applied: UInt64
    var visible: UInt64
    var beats: UInt64
    var count: UInt64
    var journal: [UInt64]
    var watching: Bool
    /// The slot's confirmed position, read before the state; nil if there was no slot.
    var confirmed: UInt64?
  }

  private(set) var violations: [Violation] = []
  private(set) var samples = 0
  private var last: Sample?
  private var seen: Set<String> = []
  /// Whether a fault has put state or slot in doubt: an old copy of Redis's data may bring any generation back, and
  /// the slot may be ahead of what is known. Nothing is asked of what is seen meanwhile.
  private var isDoubted = false

  /// How many generations were seen.
  var generations: Int { seen.count }

  /// Redis is made to go back, or the slot is moved.
  mutating func doubt() { isDoubted = true }

  /// The fleet has recovered: from the next sample on everything counts again.
  mutating func trust() {
    isDoubted = false
    last = nil
  }

  mutating func see(_ sample: Sample) {
    samples += 1
    seen.insert(sample.generation)
    guard !isDoubted else { return }
    defer { last = sample }
    if let confirmed = sample.confirmed, confirmed > sample.visible {
      add(.confirmed, "the slot is confirmed up to \(hex(confirmed)), V is \(hex(sample.visible))", sample)
    }
    if sample.visible > sample.applied {
      add(.monotonic, "V \(hex(sample.visible)) is beyond W \(hex(sample.applied))", sample)
    }
    guard let last, last.generation == sample.generation else { return }
    for (name, before, now) in [
      ("W", last.applied, sample.applied), ("V", last.visible, sample.visible),
      ("h", last.beats, sample.beats), ("n", last.count, sample.count),
    ] where now < before {
      add(.monotonic, "\(name) went from \(hex(before)) back to \(hex(now))", sample)
    }
    if sample.journal.lexicographicallyPrecedes(last.journal) {
      add(.monotonic, "jl went from \(last.journal) back to \(sample.journal)", sample)
    }
    if sample.watching, !last.watching {
      add(.monotonic, "wt was set within a generation", sample)
    }
  }

  private mutating func add(_ rule: Rule, _ text: String, _ sample: Sample) {
    guard violations.count < 10 else { return }
    violations.append(
      Violation(rule, "generation \(sample.generation) at \(sample.at / 1_000_000) ms: \(text)"))
  }

  private func hex(_ value: UInt64) -> String { String(value, radix: 16) }
}
