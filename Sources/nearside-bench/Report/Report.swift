import TestSupport

/// What was measured, in the order in which it was.
struct Report {
  /// A table whose rows compare servers under one load.
  struct Comparison {
    var title: String
    var rows: [Row]

    /// The servers of all rows; the first is the one that the others are compared with.
    var servers: [String] {
      rows.reduce(into: []) { all, row in
        for figures in row.figures where !all.contains(figures.server) { all.append(figures.server) }
      }
    }
  }

  /// A figure that is no comparison of servers under one load: a time, a size, a ratio.
  struct Fact {
    var name: String
    var value: Double
    var unit: String
  }

  /// Facts about one thing.
  struct FactTable {
    var title: String
    var facts: [Fact]
  }

  private(set) var comparisons: [Comparison] = []
  private(set) var facts: [FactTable] = []
  /// What the reader of the tables has to know.
  private(set) var notes: [String] = []
  /// The groups that failed, and why.
  var failures: [String] = []
  var machine = ""
  /// Where it is kept after each addition, in a form that `init(part:)` reads; nil: nowhere.
  var file: String?

  init() {}

  mutating func add(_ row: Row, to title: String) {
    if let place = comparisons.firstIndex(where: { $0.title == title }) {
      comparisons[place].rows.append(row)
    } else {
      comparisons.append(Comparison(title: title, rows: [row]))
    }
    keep()
  }

  mutating func add(_ more: [Fact], to title: String) {
    if let place = facts.firstIndex(where: { $0.title == title }) {
      facts[place].facts += more
    } else {
      facts.append(FactTable(title: title, facts: more))
    }
    keep()
  }

  mutating func note(_ text: String) {
    if !notes.contains(text) { notes.append(text) }
    keep()
  }

  mutating func fail(_ text: String) {
    failures.append(text)
    keep()
  }

  mutating func merge(_ other: Report) {
    for comparison in other.comparisons { for row in comparison.rows { add(row, to: comparison.title) } }
    for table in other.facts { add(table.facts, to: table.title) }
    for text in other.notes { note(text) }
    failures += other.failures
  }

  private func keep() {
    if let file { try? writeFile(part, to: file) }
  }
}

// From the process of one group to that of all: one line for each row, figure and fact, with tabs between its parts.
extension Report {
  private static func line(_ parts: String...) -> String {
    parts.map { String($0.map { $0 == "\t" || $0.isNewline ? " " : $0 }) }.joined(separator: "\t") + "\n"
  }

  private var part: String {
    var text = ""
    for comparison in comparisons {
      for row in comparison.rows {
        text += Self.line("row", comparison.title, row.name)
        for f in row.figures {
          text += Self.line(
            "figures", f.server, "\(f.requestsPerSecond)", "\(f.p50)", "\(f.p99)", "\(f.p999)",
            "\(f.processorTime)", "\(f.misses)", "\(f.errors)")
        }
      }
    }
    for table in facts {
      for fact in table.facts {
        text += Self.line("fact", table.title, fact.name, "\(fact.value)", fact.unit)
      }
    }
    for note in notes { text += Self.line("note", note) }
    for failure in failures { text += Self.line("failure", failure) }
    return text
  }

  init(part: String) {
    var rows: [(title: String, row: Row)] = []
    for line in part.split(separator: "\n") {
      let words = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
      func number(_ place: Int) -> Double { Double(words[place]) ?? 0 }
      switch (words[0], words.count) {
      case ("row", 3): rows.append((words[1], Row(name: words[2], figures: [])))
      case ("figures", 9) where !rows.isEmpty:
        rows[rows.count - 1].row.figures.append(
          Figures(
            server: words[1], requestsPerSecond: number(2), p50: number(3), p99: number(4), p999: number(5),
            processorTime: number(6), misses: Int(words[7]) ?? 0, errors: Int(words[8]) ?? 0))
      case ("fact", 5): add([Fact(name: words[2], value: number(3), unit: words[4])], to: words[1])
      case ("note", 2): note(words[1])
      case ("failure", 2): failures.append(words[1])
      default: continue
      }
    }
    for (title, row) in rows { add(row, to: title) }
  }
}
