import Configuration
import Foundation
import Testing

@Suite("The README's table of options")
struct ReadmeTests {
  @Test("has a row for each option, with its default and its summary, and no others")
  func table() throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let readme = try String(contentsOf: root.appending(path: "README.md"), encoding: .utf8)
    let start = try #require(readme.range(of: "\n## Configure\n"))
    let section = readme[start.upperBound...].prefix { $0 != "#" }
    let rows = section.split(separator: "\n").filter { $0.hasPrefix("| `") }
    let expected = ConfigurationOption.all.map { option in
      let value = option.defaultValue.map { "`\($0)`" } ?? ""
      let summary = option.summary.replacing("|", with: "\\|").replacing("<", with: "&lt;")
      return "| `\(option.path)` | \(value) | \(summary) |"
    }
    #expect(rows.map(String.init) == expected)
  }
}
