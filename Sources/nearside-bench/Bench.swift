import ArgumentParser
import TestSupport

/// nearside-bench: Nearside and its peers, side by side on this machine.
@main
struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nearside-bench",
    abstract: "Measures Nearside and its peers side by side on this machine.",
    discussion: """
      Servers are started in temporary folders, on Unix sockets, and ended behind the run. Rounds of the servers \
      alternate; servers run on the first processor, the load on the second. Programs that are not installed \
      (memcached, nutcracker) are left out.

      Examples:
        swift run -c release nearside-bench
        swift run -c release nearside-bench --all --json bench.json --plot bench.svg
        swift run -c release nearside-bench --only face --only relay --rounds 3 --seconds 1
      """)

  @Flag(help: "Every group; without it, and without --only, the face alone.")
  var all = false

  @Option(
    help: "A group to measure: \(Group.allCases.map(\.rawValue).joined(separator: ", ")). May be given again."
  )
  var only: [Group] = []

  @Option(help: "How often each server is measured in a row; the medians count.")
  var rounds = 5

  @Option(help: "How many seconds a round takes.")
  var seconds = 2.0

  @Option(help: "Writes what was measured to this file, as JSON.")
  var json: String?

  @Option(help: "Draws the comparisons into this file, as SVG.")
  var plot: String?

  func validate() throws {
    guard rounds > 0, seconds > 0 else {
      throw ValidationError("--rounds and --seconds must be more than 0.")
    }
  }

  func run() throws {
    guard let own = linkTarget("/proc/self/exe"), let slash = own.lastIndex(of: "/") else {
      throw HarnessError("/proc is needed to find the programs that were built with this one.")
    }
    let tools = String(own[..<slash])
    try Pinning.pinGenerator()
    let groups = all ? Group.allCases : only.isEmpty ? [.face] : only
    var report = Report()
    let rounds = Rounds(count: rounds, seconds: seconds)
    for group in groups {
      print("… \(group.rawValue)")
      try group.measure(rounds, tools: tools, into: &report)
    }
    print(report.table)
    if let json { try writeFile(report.json, to: json) }
    if let plot { try writeFile(Plot.svg(report), to: plot) }
  }
}

extension Group: ExpressibleByArgument {}
