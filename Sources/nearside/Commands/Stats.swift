import ArgumentParser
import Configuration

struct Stats: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show the figures of a running sidecar.",
    discussion: """
      What is wrong, how fresh values are, what the near cache holds, and how each template fares. With --json all of \
      it, as GET /status of the admin endpoint.

      EXAMPLES
        nearside stats
        nearside stats --json
      """)

  @OptionGroup var adminOption: AdminOption

  @Flag(help: "Print one JSON object.")
  var json = false

  func run() throws {
    let client = try adminOption.client()
    let answer = try AdminOption.asking { try client.get("/status") }
    guard answer.status == 200, let node = JSONReader.read(Array(answer.body.utf8)).node else {
      Output.error(answer.body)
      throw ExitCode(ExitStatus.unavailable)
    }
    print(json ? answer.body : StatsText.lines(node).joined(separator: "\n"))
  }
}

/// The figures of /status for people.
enum StatsText {
  static func lines(_ status: JSONNode) -> [String] {
    var lines = [
      "nearside \(Figures.text(status["version"])), process \(Figures.text(status["pid"])), up "
        + Figures.duration(Figures.real(status["uptime_seconds"]) ?? 0)
    ]
    lines.append(row("socket", Figures.text(status["listen"]?["unix"])))
    let health = status["health"]
    lines.append(row("health", Figures.text(health?["state"])))
    for problem in health?["problems"]?.elements ?? [] {
      let mark = problem["severity"]?.string == "error" ? "✗" : "!"
      let sentences = [problem["what"], problem["fix"]].map { Figures.text($0) }.joined(separator: " ")
      lines.append("  \(mark) \(Figures.text(problem["part"])): \(sentences)")
    }
    let staleness = status["staleness"]
    lines.append(
      row(
        "freshness",
        (Figures.real(staleness?["seconds"]).map { Figures.seconds($0) } ?? "no evidence yet") + ", at most "
          + Figures.seconds(Figures.real(staleness?["bound_seconds"]) ?? 0)))
    lines.append(row("role", "\(Figures.text(status["role"])), \(Figures.text(status["standing"]))"))
    let near = status["near"]
    lines.append(
      row(
        "near",
        "\(Figures.text(near?["entries"])) entries, \(Figures.size(near?["bytes"])) of \(Figures.size(near?["limit_bytes"]))"
      ))
    let clients = status["clients"]
    lines.append(
      row("clients", "\(Figures.text(clients?["now"])) of at most \(Figures.text(clients?["limit"]))"))
    if let slot = status["slot"], !slot.isNull {
      let most = slot["bound_bytes"].map { $0.isNull ? "" : " of at most \(Figures.size($0))" } ?? ""
      lines.append(
        row(
          "slot",
          "\(Figures.text(slot["name"])), \(Figures.text(slot["wal_status"])), "
            + "keeps \(Figures.size(slot["retained_bytes"]))\(most)"))
    }
    if let audit = status["audit"], (audit["samples"]?.number ?? "0") != "0" {
      lines.append(
        row(
          "audit",
          "\(Figures.text(audit["samples"])) values compared with the database, "
            + "\(Figures.text(audit["stale"])) stale"))
    }
    lines.append("")
    lines.append(columns("template", "reads", "near", "Redis", "miss"))
    for cache in status["caches"]?.elements ?? [] {
      let near = Figures.sum(cache, "hit", "negative_hit", "stale")
      let redis = Figures.sum(cache, "redis_hit")
      let miss = Figures.sum(cache, "miss", "bypass")
      let all = near + redis + miss
      lines.append(
        columns(
          Figures.text(cache["cache"]), String(all), Figures.share(near, all), Figures.share(redis, all),
          Figures.share(miss, all)))
    }
    return lines
  }

  private static func row(_ name: String, _ value: String) -> String { padded(name, 11) + value }

  private static func columns(_ first: String, _ others: String...) -> String {
    padded(first, 32) + others.map { String(repeating: " ", count: max(1, 12 - $0.count)) + $0 }.joined()
  }

  private static func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(1, width - text.count))
  }
}
