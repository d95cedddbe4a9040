import ArgumentParser
import CLinux
import Glibc
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
      (memcached, nutcracker) are left out. Each group runs in a process of its own: one that fails or hangs is named \
      at the end, and what the others have measured is kept.

      Examples:
        swift run -c release nearside-bench
        swift run -c release nearside-bench --all --markdown bench.md --json bench.json --plot bench.svg
        swift run -c release nearside-bench --only face --only relay --rounds 3 --seconds 1
      """)

  @Flag(help: "Every group but huge; without it, and without --only, the face alone.")
  var all = false

  @Option(
    help: "A group to measure: \(Group.allCases.map(\.rawValue).joined(separator: ", ")). May be given again."
  )
  var only: [Group] = []

  @Flag(help: "Prints the groups, and about how long each takes.")
  var list = false

  @Flag(
    help: "Few keys and one round of a tenth of a second: shows that everything runs, and measures nothing.")
  var short = false

  @Flag(help: "With --all: the group huge as well.")
  var huge = false

  @Option(help: "How often each server is measured in a row; the medians count. Default: 5.")
  var rounds: Int?

  @Option(help: "How many seconds a round takes. Default: 2.")
  var seconds: Double?

  @Option(
    help: """
      For the group eviction: a file with the requests of a real cache, a key on each line. May be given again.
      """)
  var trace: [String] = []

  @Option(help: "Writes the tables to this file, as Markdown.")
  var markdown: String?

  @Option(help: "Writes what was measured to this file, as JSON.")
  var json: String?

  @Option(help: "Draws the comparisons into this file, as SVG.")
  var plot: String?

  @Option(help: ArgumentHelp("Measures one group in this process, into this file.", visibility: .private))
  var part: String?

  func validate() throws {
    guard rounds ?? 1 > 0, seconds ?? 1 > 0 else {
      throw ValidationError("--rounds and --seconds must be more than 0.")
    }
  }

  private var length: Rounds {
    Rounds(count: rounds ?? (short ? 1 : 5), seconds: seconds ?? (short ? 0.1 : 2), isShort: short)
  }

  func run() throws {
    guard let own = linkTarget("/proc/self/exe"), let slash = own.lastIndex(of: "/") else {
      throw HarnessError("/proc is needed to find the programs that were built with this one.")
    }
    if list { return print(Group.list) }
    let groups =
      all ? Group.allCases.filter { $0 != .huge || huge } : only.isEmpty ? [.face] : only
    if let part {
      guard let group = groups.first else { return }
      return measure(group, into: part, tools: String(own[..<slash]))
    }
    var report = Report()
    report.machine = Machine.description
    for group in groups {
      print("… \(group.rawValue), about \(group.seconds(length)) s")
      // For who watches it through a pipe.
      fflush(nil)
      let start = clinux_boot_nanoseconds()
      report.merge(try apart(group, own))
      print("  took \((clinux_boot_nanoseconds() - start) / 1_000_000_000) s")
      // After each group, so that nothing is lost whatever becomes of the next.
      if let markdown { try writeFile(report.markdown, to: markdown) }
      if let json { try writeFile(report.json, to: json) }
      if let plot { try writeFile(Plot.svg(report), to: plot) }
    }
    print(report.markdown)
    if !report.failures.isEmpty { throw ExitCode.failure }
  }

  /// What a process of its own has measured, as far as it came.
  private func apart(_ group: Group, _ own: String) throws -> Report {
    let folder = try TemporaryFolder()
    let file = folder.file("part")
    var command = [own, "--only", group.rawValue, "--part", file]
    command += ["--rounds", String(length.count), "--seconds", String(length.seconds)]
    if short { command.append("--short") }
    // That process works in another folder.
    if group == .eviction { command += trace.flatMap { ["--trace", absolute($0)] } }
    var failure: String?
    do {
      let done = try TestSupport.run(command, within: .seconds(2 * group.seconds(length) + 120))
      if done.exit != .code(0) { failure = "\(done.exit) \(done.errors.suffix(500))" }
    } catch {
      failure = "\(error)"
    }
    var report = Report(part: readFile(file) ?? "")
    if let failure { report.failures.append("\(group.rawValue): \(failure)") }
    for failure in report.failures { print("✘ \(failure)") }
    return report
  }

  private func absolute(_ path: String) -> String {
    guard let whole = realpath(path, nil) else { return path }
    defer { free(whole) }
    return String(cString: whole)
  }

  private func measure(_ group: Group, into file: String, tools: String) {
    var report = Report()
    report.file = file
    do {
      try Pinning.pinGenerator()
      try group.measure(length, tools: tools, traces: trace, into: &report)
    } catch {
      report.fail("\(group.rawValue): \(error)")
    }
  }
}

extension Group: ExpressibleByArgument {}
