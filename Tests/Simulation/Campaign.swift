import Synchronization

/// Many seeds on all cores.
struct Campaign: Sendable {
  var steps: Int
  /// With a rule switched off only what a seed finds that finds nothing with all of them counts.
  var without: Weaknesses?

  struct Totals: Sendable {
    var runs = 0
    var steps = 0
    var nearHits = 0
    var redisHits = 0
    var misses = 0
    var counts: [String: Int] = [:]
    /// The seeds that have found something, the lowest first, and what.
    var failures: [(seed: UInt64, what: String)] = []
    /// Those that have found something with all rules as well.
    var baseless: [UInt64] = []

    mutating func add(_ other: Totals) {
      runs += other.runs
      steps += other.steps
      nearHits += other.nearHits
      redisHits += other.redisHits
      misses += other.misses
      counts.merge(other.counts, uniquingKeysWith: +)
      failures += other.failures
      baseless += other.baseless
    }
  }

  /// What the seed finds without the rule and not with it; `isBaseless`: it finds something with it, too.
  func tryOne(_ seed: UInt64) -> (what: String?, isBaseless: Bool) {
    let world = World(seed: seed, weakness: without ?? Weaknesses())
    world.run(steps: steps)
    guard let what = world.violation else { return (nil, false) }
    return isBaseless(seed) ? (nil, true) : (what, false)
  }

  private func isBaseless(_ seed: UInt64) -> Bool {
    let world = World(seed: seed, weakness: Weaknesses())
    world.run(steps: steps)
    return world.violation != nil
  }

  /// Runs what `seeds` gives, until it gives no more or, with `stopping`, one has failed.
  func run(workers: Int, stopping: Bool, seeds: @Sendable @escaping () -> UInt64?) async -> Totals {
    let isOver = Flag()
    var totals = Totals()
    await withTaskGroup(of: Totals.self) { group in
      for _ in 0..<workers {
        group.addTask { [self] in
          var totals = Totals()
          while !isOver.isSet, let seed = seeds() {
            let world = World(seed: seed, weakness: without ?? Weaknesses())
            world.run(steps: steps)
            totals.runs += 1
            totals.steps += world.steps
            totals.nearHits += world.nearHits
            totals.redisHits += world.redisHits
            totals.misses += world.misses
            totals.counts.merge(world.counts, uniquingKeysWith: +)
            guard let violation = world.violation else { continue }
            if without != nil, isBaseless(seed) {
              totals.baseless.append(seed)
            } else {
              totals.failures.append((seed, violation))
              if stopping { isOver.set() }
            }
          }
          return totals
        }
      }
      for await part in group { totals.add(part) }
    }
    totals.failures.sort { $0.seed < $1.seed }
    return totals
  }
}

/// Numbers one after the other, for several who ask.
final class Counter: Sendable {
  private let next: Atomic<UInt64>
  private let end: UInt64

  init(_ range: Range<UInt64>) {
    next = Atomic(range.lowerBound)
    end = range.upperBound
  }

  func take() -> UInt64? {
    let taken = next.wrappingAdd(1, ordering: .relaxed).oldValue
    return taken < end ? taken : nil
  }
}

final class Flag: Sendable {
  private let value = Atomic(false)
  var isSet: Bool { value.load(ordering: .relaxed) }
  func set() { value.store(true, ordering: .relaxed) }
}
