import Testing

@testable import Configuration

@Suite("How diagnostics are shown")
struct DiagnosticReportTests {
  @Test("as text: the sentence, the line, a caret line, and the count")
  func text() {
    let text = """
      {
        "namespace": "shop",
        "near": {"ttl": "2 sec"},
      \t"tables": {
      \t\t"users": "user:{id}:{|lower}"
        },
        "caches": {
          "user:{id}": {
            "plainSt": "off"
          }
        }
      }
      """
    #expect(
      read(text).report.text(outcome: "Nothing was started.") == """
        config.json:3:19: error: "2 sec" is not a duration; write it like "2s" or "250ms"
            3 |   "near": {"ttl": "2 sec"},
              |                   ^~~~~~~
        config.json:5:23: error: a column's name is missing between these braces; write it like {id}
            5 | \t\t"users": "user:{id}:{|lower}"
              | \t\t                    ^~~~~~~~
        config.json:9:7: error: unknown key "plainSt" in caches."user:{id}"; did you mean "plainSet"?
            9 |       "plainSt": "***"
              |       ^~~~~~~~~
        3 errors, 0 warnings. Nothing was started.

        """)
  }

  @Test("one error is one error, and a warning is none")
  func counts() {
    let source = SourceText(file: "a")
    func count(_ severities: [Diagnostic.Severity]) -> String {
      let diagnostics = severities.map { Diagnostic($0, at: nil, code: "c", message: "m") }
      return String(DiagnosticReport(diagnostics, in: source).text().split(separator: "\n").last ?? "")
    }
    #expect(count([]) == "0 errors, 0 warnings.")
    #expect(count([.error, .warning]) == "1 error, 1 warning.")
    #expect(count([.error, .error, .warning, .warning]) == "2 errors, 2 warnings.")
  }

  @Test("without a place or a line only the sentence is shown")
  func noPlace() {
    let diagnostics = [
      Diagnostic(at: nil, code: "c", message: "environment variable X: wrong"),
      Diagnostic(.warning, at: SourcePlace(line: 9, column: 2, length: 3), code: "c", message: "far"),
    ]
    #expect(
      DiagnosticReport(diagnostics, in: SourceText(file: "a\u{1b}[2J.json")).text() == """
        a\\u001b[2J.json: error: environment variable X: wrong
        a\\u001b[2J.json:9:2: warning: far
        1 error, 1 warning.

        """)
  }

  @Test("a line number of any width keeps the two bars under each other")
  func wideNumbers() {
    let text = String(repeating: "\n", count: 123_455) + "{\"tables\": {\"t\": \"k\"}, \"x\": 1}"
    let lines = read(text).report.text().split(separator: "\n")
    #expect(lines[1] == "123456 | {\"tables\": {\"t\": \"k\"}, \"x\": *}")
    #expect(lines[2] == "       | " + String(repeating: " ", count: 23) + "^~~")
  }

  @Test("a long line is cut around the fault")
  func longLines() {
    let padding = String(repeating: "é", count: 500)
    let text = "{\"tables\": {\"t\": [\"\(padding)\", \"{\", \"\(padding)\"]}}"
    let lines = read(text).report.text().split(separator: "\n")
    let before = String(repeating: "é", count: 76)
    let after = String(repeating: "é", count: 115)
    #expect(lines[1] == "    1 | …\(before)\", \"{\", \"\(after)…")
    #expect(lines[2] == "      | " + String(repeating: " ", count: 81) + "^")
  }

  @Test("nothing in a file can speak to the terminal")
  func controlCharacters() {
    let report = read("{\"\u{202e}a\u{9b}2J\": 1, \"tables\": {\"t\": \"k\"}} \u{7f}").report.text()
    let allowed: (Unicode.Scalar) -> Bool = { $0 == "\n" || !isControl($0) }
    #expect(report.unicodeScalars.allSatisfy(allowed))
    let unknown = read("{\"\u{202e}a\u{9b}2J\": 1, \"tables\": {\"t\": \"k\"}}").report.text()
    #expect(unknown.hasPrefix("config.json:1:2: error: unknown key \"\\u202ea\\u009b2J\""))
    #expect(unknown.unicodeScalars.allSatisfy(allowed))
  }

  @Test("as JSON: an array with one object for each, which our own reader reads")
  func json() throws {
    let json = read(#"{"tabels": 1, "log": {"level": "\"x"}}"#).report.json
    let node = try #require(JSONReader.read(Array(json.utf8)).node)
    let objects = try #require(node.elements)
    #expect(objects.count == 3)
    let names = ["file", "line", "column", "severity", "code", "path", "message", "suggestion"]
    #expect(objects.allSatisfy { $0.members?.map(\.key) == names })
    let unknown = try #require(objects.first { $0["code"]?.string == "unknown-key" })
    #expect(unknown["file"]?.string == "config.json")
    #expect(unknown["line"]?.number == "1")
    #expect(unknown["column"]?.number == "2")
    #expect(unknown["severity"]?.string == "error")
    #expect(unknown["path"]?.string == "tabels")
    #expect(unknown["message"]?.string == "unknown key \"tabels\"")
    #expect(unknown["suggestion"]?.string == "tables")
    let word = try #require(objects.first { $0["path"]?.string == "log.level" })
    #expect(word["message"]?.string?.hasPrefix("\"\\\"x\" is none of") == true)
    #expect(word["suggestion"]?.isNull == true)
    #expect(DiagnosticReport([], in: SourceText(file: "a")).json == "[]\n")
    let placeless = DiagnosticReport(
      [Diagnostic(at: nil, code: "c", message: "m")], in: SourceText(file: "a")
    ).json
    #expect(
      placeless
        == "[\n  {\"file\":\"a\",\"line\":null,\"column\":null,\"severity\":\"error\",\"code\":\"c\",\"path\":\"\","
        + "\"message\":\"m\",\"suggestion\":null}\n]\n")
  }

  @Test("paths quote what is no plain word")
  func paths() {
    #expect(renderedPath([.key("caches"), .key("user:{id}"), .key("near")]) == "caches.\"user:{id}\".near")
    #expect(renderedPath([.key("tables"), .key("t"), .index(1)]) == "tables.t[1]")
    #expect(renderedPath([.key(""), .key("$schema"), .key("[0]")]) == "\"\".$schema.\"[0]\"")
    #expect(renderedPath([]) == "")
  }
}
