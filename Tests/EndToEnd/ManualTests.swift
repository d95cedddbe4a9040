import Foundation
import TestSupport
import Testing

/// deploy/nearside.1 beside what the program says of itself.
@Suite("The man page")
struct ManualTests {
  private struct Help: Decodable {
    struct Command: Decodable {
      var commandName: String
      var subcommands: [Command]?
      var arguments: [Argument]?
    }
    struct Argument: Decodable {
      struct Name: Decodable { var name: String }
      var names: [Name]?
    }
    var command: Command
  }

  /// The options of each subcommand, as the program has them.
  private func program() throws -> [String: Set<String>] {
    let text = try Sidecar.command(["--experimental-dump-help"], environment: [:]).output
    let help = try JSONDecoder().decode(Help.self, from: Data(text.utf8))
    var options: [String: Set<String>] = [:]
    for command in help.command.subcommands ?? [] where command.commandName != "help" {
      let names = (command.arguments ?? []).flatMap { $0.names ?? [] }.map(\.name)
      options[command.commandName] = Set(names).subtracting(["help", "h", "version"])
    }
    return options
  }

  /// The same, as the page has them: a subsection of SUBCOMMANDS for each, with an item for each option.
  private func page() throws -> [String: Set<String>] {
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../deploy/nearside.1").standardizedFileURL
    var options: [String: Set<String>] = [:]
    var command: String?
    var isInside = false
    for line in try String(contentsOf: path, encoding: .utf8).split(separator: "\n") {
      let words = line.split(separator: " ").map(String.init)
      switch words.first {
      case ".Sh":
        isInside = words.dropFirst() == ["SUBCOMMANDS"]
        command = nil
      case ".Ss" where isInside:
        command = words.last
        if let command { options[command] = [] }
      case ".It" where words.count > 2 && words[1] == "Fl":
        if let command { options[command]?.insert(String(words[2].dropFirst())) }
      default: break
      }
    }
    return options
  }

  @Test("it has every subcommand and every option of the program, and no other")
  func complete() throws {
    let (program, page) = try (program(), page())
    #expect(page.keys.sorted() == program.keys.sorted())
    #expect(program["top"] == ["config", "admin", "once", "interval"])
    for (command, options) in program { #expect(page[command] == options, "\(command)") }
  }
}
