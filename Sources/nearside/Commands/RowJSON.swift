import Configuration

/// A row given on the command line.
enum RowJSON {
  struct Trouble: Error { var sentence: String }

  /// Column names with their values as PostgreSQL would print them; nil for NULL.
  static func columns(_ text: String) -> Result<[String: String?], Trouble> {
    let reading = JSONReader.read(Array(text.utf8))
    if let first = reading.diagnostics.first {
      let place = first.place.map { " at column \($0.column)" } ?? ""
      return .failure(Trouble(sentence: "The row is no JSON object\(place): \(first.sentence)."))
    }
    guard let members = reading.node?.members else {
      return .failure(Trouble(sentence: "The row must be a JSON object, such as '{\"id\":42}'."))
    }
    var columns: [String: String?] = [:]
    for member in members {
      switch member.node.value {
      case .null: columns[member.key] = .some(nil)
      case .bool(let value): columns[member.key] = value ? "true" : "false"
      case .number(let text), .string(let text): columns[member.key] = text
      case .array, .object:
        return .failure(
          Trouble(sentence: "Column \"\(member.key)\" must be a string, a number, true, false or null."))
      }
    }
    return .success(columns)
  }
}
