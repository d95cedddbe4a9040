import Glibc
import TestSupport

/// What was measured, in the order in which it was.
struct Report {
  /// A table whose rows compare servers under one load.
  struct Comparison {
    var title: String
    var rows: [Row]
  }

  /// A figure that is no comparison of servers under one load: a time, a size, a ratio.
  struct Fact {
    var name: String
    var value: Double
    var unit: String
  }

  var comparisons: [Comparison] = []
  var facts: [Fact] = []
  let machine = Machine.description

  /// For the README: Markdown.
  var table: String {
    var text = "\(machine)\n"
    for comparison in comparisons {
      text += "\n### \(comparison.title)\n"
      for row in comparison.rows {
        text += "\n\(row.name)\n\n"
        text += "| | requests/s | nearside is | p50 | p99 | p99.9 | CPU a request | nearside's |\n"
        text += "|---|---:|---:|---:|---:|---:|---:|---:|\n"
        let own = row.figures.first
        for figures in row.figures {
          let isOwn = figures.server == own?.server
          text +=
            "| \(figures.server) | \(Self.grouped(figures.requestsPerSecond)) | "
            + "\(isOwn ? "" : Self.ratio(own?.requestsPerSecond, figures.requestsPerSecond)) | "
            + "\(Self.microseconds(figures.p50)) | \(Self.microseconds(figures.p99)) | "
            + "\(Self.microseconds(figures.p999)) | \(Self.grouped(figures.processorTime)) ns | "
            + "\(isOwn ? "" : Self.ratio(own?.processorTime, figures.processorTime)) |\(Self.remark(figures))\n"
        }
      }
    }
    if !facts.isEmpty {
      text += "\n| | |\n|---|---:|\n"
      for fact in facts { text += "| \(fact.name) | \(Self.plain(fact.value)) \(fact.unit) |\n" }
    }
    return text
  }

  private static func remark(_ figures: Figures) -> String {
    var words: [String] = []
    if figures.misses > 0 { words.append("\(figures.misses) misses") }
    if figures.errors > 0 { words.append("\(figures.errors) errors") }
    return words.isEmpty ? "" : " " + words.joined(separator: ", ")
  }

  private static func ratio(_ own: Double?, _ other: Double) -> String {
    guard let own, other > 0 else { return "" }
    return hundredths(own / other) + "×"
  }

  private static func microseconds(_ value: Double) -> String {
    value < 1000 ? "\(plain(value)) µs" : "\(plain(value / 1000)) ms"
  }

  static func hundredths(_ value: Double) -> String {
    let number = Int((value * 100).rounded())
    let cents = number % 100
    return "\(number / 100).\(cents < 10 ? "0" : "")\(cents)"
  }

  static func plain(_ value: Double) -> String {
    value >= 100 ? grouped(value) : hundredths(value)
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

  var json: String {
    let tables = comparisons.map { comparison in
      let rows = comparison.rows.map { row in
        let servers = row.figures.map { f in
          "{\"server\": \(Self.quoted(f.server)), \"requests_per_second\": \(f.requestsPerSecond), "
            + "\"p50_us\": \(f.p50), \"p99_us\": \(f.p99), \"p99_9_us\": \(f.p999), "
            + "\"cpu_ns_per_request\": \(f.processorTime), \"misses\": \(f.misses), \"errors\": \(f.errors)}"
        }
        return "{\"name\": \(Self.quoted(row.name)), \"servers\": [\(servers.joined(separator: ", "))]}"
      }
      return "{\"title\": \(Self.quoted(comparison.title)), \"rows\": [\(rows.joined(separator: ", "))]}"
    }
    let facts = facts.map {
      "{\"name\": \(Self.quoted($0.name)), \"value\": \($0.value), \"unit\": \(Self.quoted($0.unit))}"
    }
    return "{\"schema\": 1, \"machine\": \(Self.quoted(machine)), \"comparisons\": "
      + "[\(tables.joined(separator: ", "))], \"facts\": [\(facts.joined(separator: ", "))]}\n"
  }

  private static func quoted(_ text: String) -> String {
    var result = "\""
    for character in text.unicodeScalars {
      switch character {
      case "\"", "\\": result += "\\\(character)"
      case _ where character.value < 32: result += " "
      default: result.unicodeScalars.append(character)
      }
    }
    return result + "\""
  }
}

/// On what it was measured.
enum Machine {
  static var description: String {
    let model =
      (readFile("/proc/cpuinfo") ?? "").split(separator: "\n").first { $0.hasPrefix("model name") }?
      .split(separator: ":").last.map { $0.drop { $0 == " " } } ?? "unknown processor"
    let kernel = (readFile("/proc/sys/kernel/osrelease") ?? "").split(separator: "\n").first ?? ""
    let redis = version(["redis-server", "--version"]) { $0.hasPrefix("v=") }.map {
      "Redis \($0.dropFirst(2))"
    }
    let postgres = version(["psql", "--version"]) { $0.first?.isNumber == true }.map { "PostgreSQL \($0)" }
    let memcached = version(["memcached", "--version"]) { $0.first?.isNumber == true }.map {
      "memcached \($0)"
    }
    let proxy =
      Peer.has("nutcracker") ? version(["nutcracker", "--version"]) { $0.hasPrefix("nutcracker-") } : nil
    let parts =
      ["\(Pinning.processors) × \(model)", "Linux \(kernel)"]
      + [redis, postgres, memcached, proxy].compactMap { $0 }
    return parts.joined(separator: ", ") + ", \(today)"
  }

  private static func version(_ command: [String], _ isVersion: (Substring) -> Bool) -> String? {
    guard let done = try? run(command) else { return nil }
    return (done.output + done.errors).split { $0.isWhitespace }.first(where: isVersion).map(String.init)
  }

  private static var today: String {
    var now = time(nil)
    var parts = tm()
    gmtime_r(&now, &parts)
    func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : String(value) }
    return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
  }
}
