import ArgumentParser
import Configuration
import Glibc

struct Tail: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what clears keys, as it happens.",
    discussion: """
      One line for each transaction's part of a table: the time, the table and what was done to it, the log position, \
      how long after the commit this host had applied it, and the keys. With --json one object a line.

      EXAMPLES
        nearside tail
        nearside tail --table public.users --json
      """)

  @OptionGroup var adminOption: AdminOption

  @Option(help: ArgumentHelp("Only changes of this table.", valueName: "SCHEMA.TABLE"))
  var table: String?

  @Flag(help: "Print one JSON object a line.")
  var json = false

  func run() throws {
    let client = try adminOption.client()
    let target = table.map { "/tail?table=\(AdminClient.escaped($0))" } ?? "/tail"
    var name = ""
    try AdminOption.asking {
      try client.follow(target) { line in
        if line.hasPrefix("event: ") { name = String(line.dropFirst(7)) }
        guard line.hasPrefix("data: ") else { return true }
        let data = String(line.dropFirst(6))
        if let text = json ? data : Self.text(name, data) { Files.write(text + "\n", descriptor: 1) }
        return true
      }
    }
  }

  /// An event as a line for people; nil if it is not understood.
  static func text(_ name: String, _ data: String) -> String? {
    guard let node = JSONReader.read(Array(data.utf8)).node else { return nil }
    let time = node["time"]?.string.map { String($0.dropFirst(11).prefix(12)) } ?? ""
    switch name {
    case "generation":
      return "\(time)  a new generation, \(node["generation"]?.string ?? ""): \(node["reason"]?.string ?? "")"
    case "dropped": return "…  \(node["count"]?.number ?? "some") left out: this terminal is too slow"
    default: break
    }
    let what =
      node["table"]?.string.map { "\($0) \(node["op"]?.string ?? "change")" } ?? node["source"]?.string ?? ""
    let keys = (node["keys"]?.elements ?? []).compactMap(\.string)
    let groups = (node["groups"]?.elements ?? []).compactMap(\.string)
    let rest = (node["key_count"]?.number.flatMap { Int($0) } ?? keys.count) - keys.count
    let delay = node["delay_ms"]?.number.map { "  \($0) ms" } ?? ""
    let list = (groups + keys).joined(separator: " ") + (rest > 0 ? " and \(rest) more" : "")
    return Figures.safe("\(time)  \(what)  \(node["position"]?.string ?? "")\(delay)  \(list)")
  }
}
