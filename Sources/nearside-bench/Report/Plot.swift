/// The comparisons as bars, in one SVG that needs nothing else.
enum Plot {
  private static let colours = ["#0b6e4f", "#c0392b", "#2e5fa3", "#b7791f", "#8a8a8a", "#7b4fa3", "#3d8b8b"]
  private static let (width, label, bar, gap) = (960, 330, 16, 30)

  /// - Parameter report: what was measured; its facts are not drawn.
  static func svg(_ report: Report) -> String {
    var body = ""
    var y = 40
    var servers: [String] = []
    for row in report.comparisons.flatMap(\.rows) {
      for figures in row.figures where !servers.contains(figures.server) { servers.append(figures.server) }
    }
    for (place, server) in servers.enumerated() {
      let x = 20 + place % 5 * 185
      let line = y + place / 5 * 22
      body += rectangle(x, line - 11, 12, 12, colours[place % colours.count])
      body += text(x + 18, line, server)
    }
    y += (servers.count + 4) / 5 * 22 + 14
    for comparison in report.comparisons {
      body += text(20, y, comparison.title, "font-weight=\"bold\"")
      y += 24
      for row in comparison.rows {
        body += text(20, y, row.name)
        y += 8
        let most = row.figures.map(\.requestsPerSecond).max() ?? 1
        for figures in row.figures {
          let length = Int(figures.requestsPerSecond / max(most, 1) * Double(width - label - 250))
          let colour = colours[(servers.firstIndex(of: figures.server) ?? 0) % colours.count]
          body += text(40, y + 12, figures.server, "fill=\"#555\"")
          body += rectangle(label, y, max(1, length), bar - 3, colour)
          body += text(
            label + length + 8, y + 12,
            "\(Report.grouped(figures.requestsPerSecond))/s, \(Report.grouped(figures.processorTime)) ns",
            "fill=\"#555\"")
          y += bar
        }
        y += gap
      }
      y += 8
    }
    return """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(width) \(y + 20)" font-family="sans-serif" font-size="12">
      <rect width="100%" height="100%" fill="#fff"/>
      \(text(20, 20, "requests per second, and processor time of the server for each; \(report.machine)"))\(body)</svg>

      """
  }

  private static func rectangle(_ x: Int, _ y: Int, _ width: Int, _ height: Int, _ colour: String) -> String {
    "<rect x=\"\(x)\" y=\"\(y)\" width=\"\(width)\" height=\"\(height)\" fill=\"\(colour)\"/>\n"
  }

  private static func text(_ x: Int, _ y: Int, _ words: String, _ attributes: String = "fill=\"#111\"")
    -> String
  {
    var safe = ""
    for character in words {
      switch character {
      case "<": safe += "&lt;"
      case "&": safe += "&amp;"
      default: safe.append(character)
      }
    }
    return "<text x=\"\(x)\" y=\"\(y)\" \(attributes)>\(safe)</text>\n"
  }
}
