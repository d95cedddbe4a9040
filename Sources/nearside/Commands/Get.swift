import ArgumentParser
import Configuration
import Glibc

struct Get: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what a running sidecar has for a key.",
    discussion: """
      Whether the key is near, its size and how long it has left, which template it is of, whether a read would be \
      answered with it now, and what this host knows of its last fill, its last invalidation and fills that were \
      refused, as NEARSIDE WHY. The key is given whole, with its namespace. Exit codes: 0 it is near, 1 it is not, \
      69 nobody answers.

      EXAMPLES
        nearside get shop:user:42
        nearside get shop:user:42 --value
        nearside get shop:user:42 --json
      """)

  @OptionGroup var adminOption: AdminOption

  @Flag(help: "Print the value that is near, and nothing else.")
  var value = false

  @Flag(help: "Print one JSON object; with --value the value is in it.")
  var json = false

  @Argument(help: ArgumentHelp("The key, with its namespace.", valueName: "KEY"))
  var key: String

  func run() throws {
    let client = try adminOption.client()
    let target = "/get?key=" + AdminClient.escaped(key)
    let answer = try AdminOption.asking { try client.request(value ? "POST" : "GET", target) }
    guard answer.status == 200, let node = JSONReader.read(Array(answer.body.utf8)).node else {
      Output.error(answer.body)
      throw ExitCode(answer.status == 400 ? ExitStatus.data : ExitStatus.unavailable)
    }
    let isNear = node["near"]?.string != nil
    if json {
      print(answer.body, terminator: "")
    } else if value {
      guard let bytes = GetText.value(node) else {
        Output.error("No value of \(Figures.safe(key)) is near.")
        throw ExitCode(ExitStatus.findings)
      }
      Files.write(bytes + (isatty(1) == 1 ? [10] : []), descriptor: 1)
    } else {
      print(GetText.lines(node).joined(separator: "\n"))
    }
    if !isNear { throw ExitCode(ExitStatus.findings) }
  }
}

/// What there is of a key, for people.
enum GetText {
  static func lines(_ node: JSONNode) -> [String] {
    let why = node["why"]
    var lines = [Figures.safe(Figures.text(node["key"]))]
    func add(_ name: String, _ text: String) {
      lines.append("  " + name + String(repeating: " ", count: 12 - name.count) + Figures.safe(text))
    }
    add("near", near(node))
    if node["near"]?.string != nil { add("served", served(node)) }
    add(
      "template",
      (node["template"]?.string ?? "none")
        + (node["governed"]?.bool == true ? "" : "; nobody clears this key, so it is never near"))
    let fill = why?["fill"]?.string ?? "none"
    add(
      "filled",
      fill == "none"
        ? "not by this host, as far as it remembers"
        : "by \(fill)\(ago(why, "fill"))\(position(why, "fill"))")
    add("cleared", cleared(why))
    if let count = why?["refused_fills"]?.string, count != "0" {
      add(
        "refused",
        "\(count) fill\(count == "1" ? "" : "s"), the last by \(Figures.text(why?["refused"]))\(ago(why, "refused")): "
          + Figures.text(why?["refused_because"]))
    }
    if let generation = why?["generation"]?.string, !generation.isEmpty {
      let because = why?["generation_because"]?.string.map { ": " + $0 } ?? ""
      add("generation", "\(generation), begun\(ago(why, "generation"))\(because)")
    }
    return lines
  }

  /// The bytes of the value; nil: it is not near.
  static func value(_ node: JSONNode) -> [UInt8]? {
    if let text = node["value"]?.string { return Array(text.utf8) }
    guard let digits = node["value_hex"]?.string.map({ Array($0.utf8) }), digits.count % 2 == 0 else {
      return nil
    }
    return stride(from: 0, to: digits.count, by: 2).compactMap {
      UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)
    }
  }

  private static func near(_ node: JSONNode) -> String {
    let left =
      Figures.real(node["ttl_seconds"]).map { ", \(Figures.duration($0.rounded(.up))) left" }
      ?? ", without an end"
    switch node["near"]?.string {
    case "value":
      return
        "a value of \(Figures.size(node["bytes"])) (\(Figures.size(node["memory_bytes"])) in memory)\(left)"
    case "absent": return "the knowledge that there is no such row\(left)"
    case "parts": return "replies about it, which is a hash or of another type\(left)"
    default: return "no"
    }
  }

  private static func served(_ node: JSONNode) -> String {
    let age = Figures.real(node["staleness"]?["seconds"]).map { Figures.seconds($0) + " old" } ?? "missing"
    let bound = Figures.seconds(Figures.real(node["staleness"]?["bound_seconds"]) ?? 0)
    return (node["served"]?.bool == true ? "yes" : "no") + "; the evidence is \(age), at most \(bound)"
  }

  private static func cleared(_ why: JSONNode?) -> String {
    switch why?["invalidation"]?.string {
    case "transaction":
      var cause = "by a transaction"
      if let number = why?["invalidation_transaction"]?.string { cause = "by transaction \(number)" }
      if let table = why?["invalidation_table"]?.string {
        cause += " on \(table)" + (why?["invalidation_template"]?.string.map { " (\($0))" } ?? "")
      } else if why?["invalidation_function"] != nil {
        cause += ", nearside.invalidate"
      }
      return cause + ago(why, "invalidation") + position(why, "invalidation")
    case "application": return "by an application" + ago(why, "invalidation")
    default: return "not, as far as this host remembers"
    }
  }

  private static func ago(_ why: JSONNode?, _ name: String) -> String {
    guard let milliseconds = why?[name + "_age_ms"]?.string.flatMap({ Double($0) }) else { return "" }
    let seconds = milliseconds / 1000
    return " \(seconds < 60 ? Figures.seconds(seconds) : Figures.duration(seconds)) ago"
  }

  private static func position(_ why: JSONNode?, _ name: String) -> String {
    why?[name + "_position"]?.string.map { ", position \($0)" } ?? ""
  }
}
