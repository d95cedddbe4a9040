/// Diagnostics as a person or a program reads them.
public struct DiagnosticReport: Sendable {
  public var diagnostics: [Diagnostic]
  public var source: SourceText

  public init(_ diagnostics: [Diagnostic], in source: SourceText) {
    self.diagnostics = diagnostics
    self.source = source
  }

  /// Each diagnostic with its line and a caret line under it, then the count. `outcome` is the sentence that
  /// ends the report, for example "Nothing was started."; every line ends with a line feed.
  public func text(outcome: String = "") -> String {
    let errors = diagnostics.count { $0.severity == .error }
    let warnings = diagnostics.count - errors
    let count =
      "\(errors) error\(errors == 1 ? "" : "s"), \(warnings) warning\(warnings == 1 ? "" : "s")."
    let end = outcome.isEmpty ? count : count + " " + outcome
    return diagnostics.map { text(of: $0) }.joined() + end + "\n"
  }

  /// A JSON array with an object for each diagnostic: file, line, column, severity, code, path, message and
  /// suggestion. line, column and suggestion are null where there is none.
  public var json: String {
    guard !diagnostics.isEmpty else { return "[]\n" }
    let objects = diagnostics.map { diagnostic in
      let place = diagnostic.place
      let members = [
        ("file", quoted(source.file)),
        ("line", place.map { String($0.line) } ?? "null"),
        ("column", place.map { String($0.column) } ?? "null"),
        ("severity", quoted(diagnostic.severity.rawValue)),
        ("code", quoted(diagnostic.code)),
        ("path", quoted(diagnostic.path)),
        ("message", quoted(diagnostic.message)),
        ("suggestion", diagnostic.suggestion.map(quoted) ?? "null"),
      ]
      return "  {" + members.map { "\"\($0.0)\":\($0.1)" }.joined(separator: ",") + "}"
    }
    return "[\n" + objects.joined(separator: ",\n") + "\n]\n"
  }

  private func text(of diagnostic: Diagnostic) -> String {
    let file = printable(source.file)
    guard let place = diagnostic.place else {
      return "\(file): \(diagnostic.severity.rawValue): \(diagnostic.sentence)\n"
    }
    let head =
      "\(file):\(place.line):\(place.column): \(diagnostic.severity.rawValue): \(diagnostic.sentence)\n"
    guard let line = source.scalars(ofLine: place.line) else { return head }
    return head + excerpt(line, place)
  }

  /// How much of a line is shown before and after the first character at fault.
  private static let before = 80
  private static let after = 120

  private func excerpt(_ line: [Unicode.Scalar], _ place: SourcePlace) -> String {
    let fault = min(place.column - 1, line.count)
    let from = fault > Self.before ? fault - Self.before : 0
    let to = line.count - fault > Self.after ? fault + Self.after : line.count
    var shown = from > 0 ? "…" : ""
    var carets = from > 0 ? " " : ""
    for index in from..<to {
      let scalar = line[index]
      // Tabs stay tabs in both lines, so that the caret stands where it should at any tab width.
      shown.unicodeScalars.append(scalar == "\t" || !isControl(scalar) ? scalar : "\u{fffd}")
      if index < fault { carets += scalar == "\t" ? "\t" : " " }
    }
    if to < line.count { shown += "…" }
    carets += "^" + String(repeating: "~", count: max(0, min(place.length, to - fault) - 1))
    let number = String(place.line)
    let gutter = String(repeating: " ", count: max(0, 5 - number.utf8.count)) + number
    let blank = String(repeating: " ", count: gutter.utf8.count)
    return "\(gutter) | \(shown)\n\(blank) | \(carets)\n"
  }
}
