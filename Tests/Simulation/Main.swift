import Glibc

@main
struct Simulate {
  static let usage = """
    Usage: simulate [--seeds N] [--from SEED] [--steps N] [--for 24h] [--seeds-file FILE] [--trace] [--counts]
           simulate --weaknesses [--seeds N] [--only RULE]

      --seeds N        how many seeds to run (10000)
      --from SEED      the first of them (1)
      --steps N        how many steps each goes on before it comes to rest (6000)
      --for TIME       seed after seed for so long: 90s, 10m, 24h
      --seeds-file F   first the seeds in this file, one a line, # for comments
      --trace          of the first seed what happened last, whether or not it fails
      --counts         how often what happened
      --weaknesses     switch each rule off, and say which seed noticed it
      --theme NAME     of the seeds only those that are about this danger (see Swarm+Themes.swift)
      --only RULE      only this one; with --theme or --from not first the seed that is known to notice

    Everything in a run follows from its seed. The exit code is 0 if no seed has found anything, and with
    --weaknesses if each rule's absence was noticed.
    """

  private var seeds: UInt64 = 10_000
  private var first: UInt64 = 1
  private var steps = 6000
  private var time: Double?
  private var file: String?
  private var showsTrace = false
  private var showsCounts = false
  private var triesRules = false
  private var theme: String?
  private var only: String?

  static func main() async {
    var command = Simulate()
    guard command.read(Array(CommandLine.arguments.dropFirst())) else {
      print(usage)
      exit(64)
    }
    let fine = command.triesRules ? await command.tryRules() : await command.run()
    exit(fine ? 0 : 1)
  }

  private mutating func read(_ arguments: [String]) -> Bool {
    var index = 0
    func value() -> String? {
      index += 1
      return index < arguments.count ? arguments[index] : nil
    }
    while index < arguments.count {
      switch arguments[index] {
      case "--seeds":
        guard let number = value().flatMap({ UInt64($0) }) else { return false }
        seeds = number
      case "--from":
        guard let number = value().flatMap({ UInt64($0) }) else { return false }
        first = number
      case "--steps":
        guard let number = value().flatMap({ Int($0) }) else { return false }
        steps = number
      case "--for":
        guard let seconds = value().flatMap({ Self.seconds($0) }) else { return false }
        time = seconds
      case "--seeds-file":
        guard let name = value() else { return false }
        file = name
      case "--only":
        guard let name = value() else { return false }
        only = name
      case "--trace": showsTrace = true
      case "--counts": showsCounts = true
      case "--weaknesses": triesRules = true
      case "--theme":
        guard let name = value(), Swarm.themeNames.contains(name) else { return false }
        theme = name
      default: return false
      }
      index += 1
    }
    return true
  }

  private static func seconds(_ text: String) -> Double? {
    let units: [Character: Double] = ["s": 1, "m": 60, "h": 3600]
    guard let last = text.last, let unit = units[last], let number = Double(text.dropLast()) else {
      return nil
    }
    return number * unit
  }

  private var workers: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  // MARK: Everything as it is

  private func run() async -> Bool {
    if showsTrace { return trace(first, count: 400) }
    var isFine = true
    if let file {
      guard let old = Self.readSeeds(file) else {
        print("Cannot read \(file).")
        return false
      }
      for seed in old {
        let world = World(seed: seed, weakness: Weaknesses())
        world.run(steps: steps)
        if let violation = world.violation {
          isFine = false
          print("seed \(seed) of \(file): \(violation)")
        }
      }
    }
    let began = Self.now()
    let totals = await Campaign(steps: steps).run(workers: workers, stopping: true, seeds: seedsToRun())
    if let (seed, _) = totals.failures.first {
      isFine = false
      _ = trace(seed, count: 150)
    }
    let seconds = (Self.now() - began) * 10
    print(
      "\(totals.runs) seeds, \(totals.steps) steps, \(totals.nearHits) near hits, \(totals.redisHits) hits in "
        + "Redis, \(totals.misses) misses, \(Double(Int(seconds)) / 10) s")
    if showsCounts {
      for (what, count) in totals.counts.sorted(by: { $0.key < $1.key }) { print("  \(what): \(count)") }
    }
    // A simulation in which every read is a miss would never find anything.
    let reads = totals.nearHits + totals.redisHits + totals.misses
    if isFine, totals.nearHits * 6 < reads {
      print("Less than a sixth of \(reads) reads were near hits.")
      isFine = false
    }
    return isFine
  }

  private func trace(_ seed: UInt64, count: Int) -> Bool {
    var without = Weaknesses()
    if let only, let rule = Rule.all.first(where: { $0.name == only }) { without = rule.without }
    let world = World(seed: seed, weakness: without, traces: true)
    world.run(steps: steps)
    for line in world.lastNotes(count) { print(line) }
    print("seed \(seed), step \(world.steps): \(world.violation ?? "nothing found")")
    print("  \(world.swarm)")
    return world.violation == nil
  }

  private static func readSeeds(_ name: String) -> [UInt64]? {
    guard let file = fopen(name, "r") else { return nil }
    defer { fclose(file) }
    var seeds: [UInt64] = []
    var line = [CChar](repeating: 0, count: 400)
    while fgets(&line, Int32(line.count), file) != nil {
      let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      if let seed = UInt64(text.prefix { $0 != "#" && !$0.isWhitespace }) { seeds.append(seed) }
    }
    return seeds
  }

  private static func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  // MARK: Rules switched off

  /// Each rule names a seed that notices its absence. Where it does no longer, since runs have changed, others are
  /// tried, and the one to be written down instead is told.
  private func tryRules() async -> Bool {
    let rules = Rule.all.filter { rule in only.map { $0 == rule.name } ?? true }
    let knows = theme == nil && first == 1
    let known = knows ? await tryKnown(rules) : [:]
    var (missed, moved) = (0, 0)
    var baseless: Set<UInt64> = []
    for (index, rule) in rules.enumerated() {
      let name = rule.name + String(repeating: " ", count: max(1, 30 - rule.name.count))
      if let (what, isBaseless) = known[index] {
        if isBaseless { baseless.insert(rule.seed) }
        if let what {
          show(name, rule.seed, rule.says, what)
          continue
        }
      }
      let next = seedsToRun()
      let totals = await Campaign(steps: steps, without: rule.without).run(
        workers: workers, stopping: true, seeds: next)
      baseless.formUnion(totals.baseless)
      if let (seed, what) = totals.failures.first {
        show(name, seed, rule.says + (knows ? "; to be written down instead of \(rule.seed)" : ""), what)
        moved += 1
      } else {
        missed += 1
        print("\(name)NOBODY  \(rule.says)")
      }
      fflush(nil)
    }
    print(
      "\(rules.count) rules, \(missed) of them missed by nobody in \(seeds) seeds"
        + (knows && moved > 0 ? ", \(moved) by another seed than is written down" : ""))
    for seed in baseless.sorted() { print("seed \(seed) finds something with all rules, too") }
    return missed == 0 && baseless.isEmpty
  }

  private func show(_ name: String, _ seed: UInt64, _ says: String, _ what: String) {
    let number = String(seed)
    print("\(name)\(String(repeating: " ", count: max(1, 8 - number.count)))\(number)  \(says)")
    if only != nil { print("  \(what)") }
  }

  /// What the seed that each rule names finds without it.
  private func tryKnown(_ rules: [Rule]) async -> [Int: (what: String?, isBaseless: Bool)] {
    let counter = Counter(0..<UInt64(rules.count))
    return await withTaskGroup(of: [Int: (what: String?, isBaseless: Bool)].self) { group in
      for _ in 0..<workers {
        group.addTask { [steps] in
          var found: [Int: (what: String?, isBaseless: Bool)] = [:]
          while let next = counter.take() {
            let rule = rules[Int(next)]
            found[Int(next)] = Campaign(steps: steps, without: rule.without).tryOne(rule.seed)
          }
          return found
        }
      }
      var all: [Int: (what: String?, isBaseless: Bool)] = [:]
      for await some in group { all.merge(some) { old, _ in old } }
      return all
    }
  }

  /// The seeds that were asked for, one after the other.
  private func seedsToRun() -> @Sendable () -> UInt64? {
    let range = first..<(time == nil ? first + seeds : .max)
    let counter = Counter(range)
    let theme = theme
    let end = time.map { Self.now() + $0 }
    return {
      if let end, Self.now() > end { return nil }
      while let seed = counter.take() {
        guard let theme else { return seed }
        var random = SplitMix(state: seed)
        if Swarm(&random).theme == theme { return seed }
      }
      return nil
    }
  }
}
