import ArgumentParser
import Configuration

struct Reload: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Have a running sidecar read its configuration again.",
    discussion: """
      The same as SIGHUP, with an answer: prints which options hold from now on, and which need a restart. All of the \
      file is good, or nothing changes. Exit codes: 0 it was taken over, 69 nobody answers, 78 it cannot be used, and \
      the sidecar goes on as before.

      EXAMPLES
        nearside reload
        nearside reload --admin /run/nearside/redis.sock.admin
      """)

  @OptionGroup var adminOption: AdminOption

  @Flag(help: "Print one JSON object.")
  var json = false

  func run() throws {
    let client = try adminOption.client()
    let answer = try AdminOption.asking { try client.request("POST", "/reload") }
    guard let node = JSONReader.read(Array(answer.body.utf8)).node, node["reloaded"] != nil else {
      Output.error(answer.body)
      throw ExitCode(ExitStatus.unavailable)
    }
    if json {
      print(answer.body, terminator: "")
    } else if let error = node["error"]?.string {
      Output.error("\(error)\nNothing was taken over; the sidecar goes on with what it had.")
    } else {
      for line in Self.lines(node) { print(line) }
    }
    if answer.status != 200 { throw ExitCode(ExitStatus.configuration) }
  }

  static func lines(_ answer: JSONNode) -> [String] {
    let changed = answer["changed"]?.elements?.compactMap(\.string) ?? []
    let waiting = answer["needs_restart"]?.elements?.compactMap(\.string) ?? []
    if changed.isEmpty, waiting.isEmpty { return ["Nothing has changed."] }
    return changed.map { "taken over: \($0)" } + waiting.map { "needs a restart: \($0)" }
  }
}
