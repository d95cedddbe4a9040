import Testing

@testable import Configuration

@Suite("The option \"lookup\" of a table")
struct LookupOptionTests {
  private func parsed(_ table: String) -> Settings? {
    read("{\"namespace\": \"s\", \"redis\": \"redis://h\", \"tables\": {\"items\": \(table)}}").settings
  }

  private func found(_ lookup: String) -> [String] {
    let text =
      "{\"namespace\": \"s\", \"redis\": \"redis://h\", \"tables\": {\"items\": {\"lookup\": [\n\(lookup)\n]}}}"
    return summary(read(text).diagnostics)
  }

  @Test("its statement, its templates and how long answers are remembered")
  func members() throws {
    let lookup =
      #"{"sql": "SELECT user_id FROM orders WHERE id = :order_id", "keys": "user:{user_id}:orders", "remember": "1m"}"#
    let settings = try #require(parsed("{\"lookup\": [\(lookup)]}"))
    let rule = try #require(settings.tables.first)
    #expect(rule.keys.isEmpty)
    #expect(rule.lookups.count == 1)
    #expect(rule.lookups[0].sql.text == "SELECT user_id FROM orders WHERE id = $1")
    #expect(rule.lookups[0].sql.names == ["order_id"])
    #expect(rule.lookups[0].keys.map(\.text) == ["user:{user_id}:orders"])
    #expect(rule.lookups[0].remember == 60_000_000_000)
    // Its keys are cached, and it makes another mapping.
    #expect(settings.governed.map(\.text) == ["user:{user_id}:orders"])
    let other = parsed("{\"lookup\": [\(lookup.replacing("orders WHERE", with: "invoices WHERE"))]}")
    #expect(settings.mappingHash != other?.mappingHash)
  }

  @Test("what is missing or wrong")
  func wrong() {
    let missing = found(#"{"keys": "user:{user_id}"}"#)
    #expect(missing.count == 1 && missing[0].hasPrefix("2:1") && missing[0].contains("has no \"sql\""))
    #expect(found(#"{"sql": "SELECT 1"}"#).contains { $0.contains("has no \"keys\"") })
    #expect(found(#"{"sql": "SELECT 1; SELECT 2", "keys": "a"}"#).contains { $0.contains("one statement") })
    #expect(found(#"{"sql": "SELECT 1", "keys": "a", "remeber": "1s"}"#).contains { $0.contains("remember") })
    #expect(found(#""SELECT 1""#).contains { $0.contains("must be an object such as") })
    #expect(found("").contains { $0.contains("this list is empty") })
  }
}
