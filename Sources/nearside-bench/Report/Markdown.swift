// The tables as the README has them, and behind them every figure.
extension Report {
  var markdown: String {
    var text = "\(machine)\n"
    if !comparisons.isEmpty {
      text += """

        Behind each server that the first one is compared with: the first one's requests a second by that server's (more \
        is better), its processor time a request by that server's, and its median by that server's (less is better).

        """
    }
    for comparison in comparisons { text += summary(comparison) }
    for table in facts {
      text += "\n**\(table.title)**\n\n| | |\n|---|---:|\n"
      for fact in table.facts { text += "| \(fact.name) | \(Self.plain(fact.value)) \(fact.unit) |\n" }
    }
    for note in notes { text += "\n\(note)\n" }
    for failure in failures { text += "\nFailed: \(failure)\n" }
    guard !comparisons.isEmpty else { return text }
    text += "\n## Every figure\n"
    for comparison in comparisons {
      text += "\n### \(comparison.title)\n"
      for row in comparison.rows { text += whole(row) }
    }
    return text
  }

  /// One line for each load.
  private func summary(_ comparison: Comparison) -> String {
    let servers = comparison.servers
    guard let own = servers.first else { return "" }
    var text = "\n**\(comparison.title)**\n\n| | \(own): requests/s | CPU a request | p50 / p99 / p99.9 |"
    for server in servers.dropFirst() { text += " by \(server): rate, CPU, p50 |" }
    text += "\n|---|---:|---:|---:|" + String(repeating: "---:|", count: servers.count - 1) + "\n"
    for row in comparison.rows {
      guard let first = row.figures.first(where: { $0.server == own }) else { continue }
      let times = [first.p50, first.p99, first.p999].map(Self.microseconds).joined(separator: " / ")
      text += "| \(row.name)\(Self.remark(first)) | \(Self.grouped(first.requestsPerSecond)) | "
      text += "\(Self.grouped(first.processorTime)) ns | \(times) |"
      for server in servers.dropFirst() {
        guard let other = row.figures.first(where: { $0.server == server }) else {
          text += " |"
          continue
        }
        let ratios = [
          Self.ratio(first.requestsPerSecond, other.requestsPerSecond),
          Self.ratio(first.processorTime, other.processorTime), Self.ratio(first.p50, other.p50),
        ]
        text += " \(ratios.joined(separator: ", ")) |"
      }
      text += "\n"
    }
    return text
  }

  /// One line for each server.
  private func whole(_ row: Row) -> String {
    var text = "\n\(row.name)\n\n"
    text += "| | requests/s | p50 | p99 | p99.9 | CPU a request |\n|---|---:|---:|---:|---:|---:|\n"
    for figures in row.figures {
      text +=
        "| \(figures.server)\(Self.remark(figures)) | \(Self.grouped(figures.requestsPerSecond)) | "
        + "\(Self.microseconds(figures.p50)) | \(Self.microseconds(figures.p99)) | "
        + "\(Self.microseconds(figures.p999)) | \(Self.grouped(figures.processorTime)) ns |\n"
    }
    return text
  }

  private static func remark(_ figures: Figures) -> String {
    var words: [String] = []
    if figures.misses > 0 { words.append("\(grouped(Double(figures.misses))) misses") }
    if figures.errors > 0 { words.append("\(grouped(Double(figures.errors))) errors") }
    return words.isEmpty ? "" : " (\(words.joined(separator: ", ")))"
  }

  private static func ratio(_ own: Double, _ other: Double) -> String {
    other > 0 ? hundredths(own / other) + "×" : "–"
  }

  private static func microseconds(_ value: Double) -> String {
    value < 1000 ? "\(plain(value)) µs" : "\(plain(value / 1000)) ms"
  }

  static func hundredths(_ value: Double) -> String {
    let number = Int((value * 100).rounded())
    let cents = number % 100
    return "\(grouped(Double(number / 100))).\(cents < 10 ? "0" : "")\(cents)"
  }

  static func plain(_ value: Double) -> String {
    value >= 100 || value == value.rounded() && value >= 10 ? grouped(value) : hundredths(value)
  }

  static func grouped(_ value: Double) -> String {
    let digits = String(Int(value.rounded()))
    var text = ""
    for (place, digit) in digits.enumerated() {
      if place > 0, (digits.count - place) % 3 == 0 { text += "," }
      text.append(digit)
    }
    return text
  }
}
