// The same figures for programs.
extension Report {
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
    let lists = facts.flatMap { table in
      table.facts.map {
        "{\"about\": \(Self.quoted(table.title)), \"name\": \(Self.quoted($0.name)), \"value\": \($0.value), "
          + "\"unit\": \(Self.quoted($0.unit))}"
      }
    }
    let words = [("notes", notes), ("failures", failures)].map { name, texts in
      "\"\(name)\": [\(texts.map(Self.quoted).joined(separator: ", "))]"
    }
    return "{\"schema\": 2, \"machine\": \(Self.quoted(machine)), \"comparisons\": "
      + "[\(tables.joined(separator: ", "))], \"facts\": [\(lists.joined(separator: ", "))], "
      + "\(words.joined(separator: ", "))}\n"
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
