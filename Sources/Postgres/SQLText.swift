/// A name as SQL and the replication commands read it: in double quotes, so that every character stands for
/// itself. Source: PostgreSQL documentation, 4.1.1 "Identifiers and Key Words".
func quotedIdentifier(_ name: String) -> String {
  "\"" + name.replacing("\"", with: "\"\"") + "\""
}

/// A text constant. A backslash would be read differently with standard_conforming_strings off, so a text
/// that has one takes the E'' form. Source: the same, 4.1.2.1 and 4.1.2.2.
func quotedLiteral(_ text: String) -> String {
  let doubled = text.replacing("'", with: "''")
  guard doubled.contains("\\") else { return "'" + doubled + "'" }
  return "E'" + doubled.replacing("\\", with: "\\\\") + "'"
}

/// A text constant of a replication command, where a backslash is always just that.
func replicationLiteral(_ text: String) -> String {
  "'" + text.replacing("'", with: "''") + "'"
}

func quotedName(schema: String, _ name: String) -> String {
  quotedIdentifier(schema) + "." + quotedIdentifier(name)
}

/// An array of texts, nil being NULL, as its type reads it.
/// Source: PostgreSQL documentation, 8.15.6 "Array Input and Output Syntax".
func arrayLiteral(_ values: [String?]) -> String {
  let elements = values.map { value in
    guard let value else { return "NULL" }
    return "\"" + value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
  }
  return "{" + elements.joined(separator: ",") + "}"
}
