import Glibc

@main
struct Simulate {
  static func main() {
    var seeds: UInt64 = 1000
    var from: UInt64 = 1
    var steps = 2500
    var trace = false
    var arguments = CommandLine.arguments.dropFirst()
    while let argument = arguments.popFirst() {
      switch argument {
      case "--seeds": seeds = arguments.popFirst().flatMap { UInt64($0) } ?? seeds
      case "--from": from = arguments.popFirst().flatMap { UInt64($0) } ?? from
      case "--steps": steps = arguments.popFirst().flatMap { Int($0) } ?? steps
      case "--trace": trace = true
      default: break
      }
    }
    var near = 0
    var all = 0
    var counts: [String: Int] = [:]
    for seed in from..<from + seeds {
      let world = World(seed: seed, weakness: Weaknesses(counts: true), traces: trace)
      world.run(steps: steps)
      near += world.nearHits
      all += world.steps
      counts.merge(world.counts, uniquingKeysWith: +)
      if let violation = world.violation {
        print("seed \(seed), step \(world.steps): \(violation)")
        if trace { for line in world.lastNotes(200) { print("  ", line) } }
      }
    }
    print("steps \(all) near hits \(near)")
    for (what, count) in counts.sorted(by: { $0.key < $1.key }) { print("  \(what): \(count)") }
  }
}
