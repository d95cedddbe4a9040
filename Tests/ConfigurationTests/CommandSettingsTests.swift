import Testing

@testable import Configuration

@Suite("Which commands are allowed")
struct CommandSettingsTests {
  private func settings(_ allow: String) -> CommandSettings? {
    read(#"{"commands": {"allow": \#(allow)}, "tables": {"t": "k:{id}"}}"#).settings?.commands
  }

  @Test("nothing that reaches past the namespace, unless it is named; what only tells is never refused")
  func names() throws {
    let none = CommandSettings()
    #expect(!none.allows("flushdb", ""))
    #expect(!none.allows("config", "set"))
    #expect(none.allows("slowlog", "get"))
    let some = try #require(settings(#"["FLUSHDB", "config|set", "acl"]"#))
    #expect(some.allows("flushdb", "async"))
    #expect(!some.allows("flushall", ""))
    #expect(some.allows("config", "set"))
    #expect(!some.allows("config", "rewrite"))
    #expect(some.allows("acl", "setuser"))
  }

  @Test("a name that is none of theirs is an error with the one that was meant")
  func unknown() {
    let reading = read(#"{"commands": {"allow": ["flushbd", "get"]}, "tables": {"t": "k:{id}"}}"#)
    #expect(reading.diagnostics.map(\.code) == ["bad-value", "bad-value"])
    #expect(reading.diagnostics.first?.suggestion == "flushdb")
    #expect(reading.settings == nil)
  }
}
