import Testing

@testable import Configuration

@Suite("Secrets stay secret")
struct SecrecyTests {
  /// Everything that can reach a log: both reports, the settings as text and as a dump, every line.
  private func everythingSaid(_ reading: Reading) -> String {
    var out = reading.report.text() + reading.report.json
    print(reading, to: &out)
    dump(reading.settings, to: &out)
    dump(reading.diagnostics, to: &out)
    for number in 1...30 { out += reading.source.line(number) ?? "" }
    return out
  }

  private func expectSilence(
    _ text: String, file: String = "config.json", environment: [String: String] = [:],
    location: SourceLocation = #_sourceLocation
  ) {
    let reading = read(
      text, file: file, environment: environment, files: ["/pw": "hunter2", "/creds/pw": "hunter2"])
    let said = everythingSaid(reading)
    #expect(!said.contains("hunter2") && !said.contains("unter"), "\(said)", sourceLocation: location)
  }

  @Test(
    "in files that can be used",
    arguments: [
      #"{"namespace": "s", "postgres": "postgresql://u:hunter2@h/d", "redis": "redis://:hunter2@h", "tables": {"t": "k"}}"#,
      #"{"namespace": "s", "postgres": {"password": "hunter2"}, "redis": {"url": "redis://h", "password": "hunter2"}, "tables": {"t": "k"}}"#,
      #"{"postgres": {"loader": {"url": "dbname=d", "password": "hunter2"}}, "tables": {"t": "k"}}"#,
      #"{"postgres": {"loader": "postgresql://u:hunter2@h/d"}, "tables": {"t": "k"}}"#,
      #"{"namespace": "s", "postgres": {"password": "${PW}"}, "redis": {"url": "redis://h", "password": "${file:/pw}"}, "tables": {"t": "k"}}"#,
    ])
  func usable(text: String) {
    #expect(read(text, environment: ["PW": "hunter2"], files: ["/pw": "hunter2"]).settings != nil)
    expectSilence(text, environment: ["PW": "hunter2"])
  }

  @Test(
    "in files with errors beside them, on the same line",
    arguments: [
      // Wrong values of the right keys.
      #"{"postgres": "http://hunter2"}"#, #"{"postgres": ["hunter2"]}"#,
      #"{"postgres": {"url": {"a": "hunter2"}}}"#,
      #"{"redis": "redis//:hunter2@h"}"#, #"{"redis": "redis://:hunter2/x@h"}"#,
      #"{"redis": "redis://hunter2:x"}"#,
      #"{"redis": "redis://h:1/hunter2"}"#, #"{"redis": "redis://:%zzhunter2@h"}"#,
      #"{"redis": "redis://h?password=hunter2"}"#, #"{"redis": "unix:///r?password=hunter2"}"#,
      #"{"redis": "hunter2://h"}"#, #"{"redis": "rediss://:hunter2@h"}"#,
      #"{"redis": {"password": ["hunter2"]}}"#,
      #"{"redis": {"url": "hunter2", "password": "hunter2", "x": 1}}"#,
      #"{"postgres": {"loader": "http://hunter2"}}"#, #"{"postgres": {"loader": ["hunter2"]}}"#,
      #"{"postgres": {"loader": {"password": ["hunter2"], "x": 1}}}"#,
      #"{"postgres": {"loader": {"url": "http://hunter2", "password": "hunter2"}}}"#,
      // References.
      #"{"redis": {"password": "hunter2$"}}"#, #"{"redis": {"password": "${hunter2"}}"#,
      #"{"redis": {"password": "a$hunter2"}}"#, #"{"redis": {"password": "${X-hunter2}", "x": 1}}"#,
      #"{"redis": {"password": "${X:-hunter2}", "x": 1}}"#,
      #"{"redis": {"password": "$${hunter2:-}", "x": 1}}"#,
      // Wrong keys, and keys in a wrong place.
      #"{"redis": {"pasword": "hunter2"}}"#, #"{"redis": {"pass": 1, "password": "hunter2"}}"#,
      #"{"password": "hunter2"}"#, #"{"reddis": "redis://:hunter2@h"}"#, #"{"reddis": {"url": ["hunter2"]}}"#,
      #"{"near": {"password": "hunter2"}}"#, #"{"namespace": {"password": "hunter2"}}"#,
      #"{"publish": "http://u:hunter2@h"}"#, #"{"postgres": {"loader": {"url": "hunter2"}}}"#,
      #"{"password": "hunter2", "password": "hunter2"}"#, #"{"postgres.slot.name": "hunter2"}"#,
      #"{"tables": {"t": {"keys": "k", "password": "hunter2"}}}"#, #"{"caches": {"k": {"url": "hunter2"}}}"#,
      // Broken JSON, before, in and after the secret.
      #"{"redis": {"password": "hunter2}"#, #"{"redis": {"password": "hunter2\x"}}"#,
      #"{"redis": {"password": hunter2}}"#, #"{"redis": {"password": 'hunter2'}}"#,
      #"{"redis": {"password" "hunter2"}}"#,
      #"{"redis": {"password: "hunter2"}}"#, #"{"redis": {"url": "redis://h" "password": "hunter2"}}"#,
      #"{"x": tru, "redis": {"password": "hunter2"}}"#, #"{"redis": {"password": "hunter2", "timeout": 5s}}"#,
      #"{"redis": {}}, "password": "hunter2"}"#, #"{"redis": "redis://:hunter2@h""#, #"{"redis": hunter2}"#,
      #"{"redis" = "hunter2"}"#, #"redis: hunter2"#, #"password hunter2"#,
      "\"redis\": {\"password\":\n \"hunter2}",
      "{\"redis\": {\"password\":\n hunter2}}", "{\"redis\": {\"password\":\n \"hunter2\n\"}}",
      "{\"redis\": {\"password\": \"x\"\n, \"hunter2\"}}", "{\"redis\": {\"password\"\n \"hunter2\"}}",
      #"{"redis": {"password": "hunter2", // hunter2"#, #"{"redis": {"password": 1hunter2}}"#,
      "{\"redis\": {\"password\": \"hunter2\u{1}\"}}",
    ])
  func broken(text: String) {
    expectSilence(text)
    expectSilence(text, file: "config.jsonc")
  }

  @Test("in the value of a variable, wherever it is misused")
  func misusedVariables() {
    for option in ConfigurationOption.all {
      var value = "\"${PW}\""
      if case .choices = option.kind { value = "[\"${PW}\"]" }
      if option.kind == .texts { value = "[\"${PW}\"]" }
      // The name of a table or column is a name; it is repeated later, when the catalogue does not have it.
      if option.kind == .templates || option.kind == .texts || option.name == "*" { continue }
      if option.kind == .section || option.kind == .map || option.kind == .sectionOrFalse { continue }
      if option.kind == .sections || option.parent == "tables.*.lookup" { continue }
      let steps = option.path.split(separator: ".").map { $0 == "*" ? "k" : String($0) }
      let open = steps.map { "{\"\($0)\": " }.joined()
      let text = open + value + String(repeating: "}", count: steps.count)
      expectSilence(text, environment: ["PW": "hunter2 $ ://"])
    }
    expectSilence(#"{"tables": {"${PW}": "${PW}"}}"#, environment: ["PW": "hunter2.{.}"])
    expectSilence(
      #"{"namespace": "s"}"#, environment: ["REDIS_URL": "redis//hunter2", "DATABASE_URL": "hunter2"])
  }

  @Test("a shown line keeps its columns, its keys, its brackets and the names in references")
  func whatIsShown() {
    let text = """
      {"redis": {"url": "redis://${HOST}:1", "password": "${PW:-abc}${file:/pw}", "timeout": "5s"}, "z": 12}
      { "near": {"size": "1MiB"}}
      """
    let source = read(text).source
    #expect(
      source.line(1)
        == #"{"redis": {"url": "********${HOST}**", "password": "${PW:-***}${file:/pw}", "timeout": "5s"}, "z": **}"#
    )
    #expect(source.line(3) == nil)
    #expect(source.line(0) == nil)
  }

  @Test("a syntax error beside nothing secret shows its line")
  func harmlessSyntaxError() {
    #expect(
      read("{\"near\": {\"size\": \"1MiB\" \"ttl\": \"5s\"}}").report.text() == """
        config.json:1:26: error: a comma or } is missing before this
            1 | {"near": {"size": "1MiB" "ttl": "5s"}}
              |                          ^
        1 error, 0 warnings.

        """)
    #expect(
      read("{\"redis\": {\"url\": \"x\" \"password\": \"5s\"}}").source.line(1)
        == "{\"redis\": {\"url\": \"*\" \"password\"********")
  }

  @Test("a secret prints as stars, in a dump too")
  func secret() {
    let secret = Secret("hunter2")
    var out = "\(secret) \(String(reflecting: secret)) \([secret])"
    dump(secret, to: &out)
    #expect(!out.contains("hunter2"))
    #expect(secret.exposed == "hunter2")
  }
}
