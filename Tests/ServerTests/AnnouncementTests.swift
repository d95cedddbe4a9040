import Testing

@testable import Server

@Suite("What applications announce")
struct AnnouncementTests {
  private func parse(_ text: String) -> Announcement? { Announcement(Array(text.utf8)) }
  private func names(_ list: [[UInt8]]?) -> [String]? { list?.map { String(decoding: $0, as: UTF8.self) } }

  @Test("A message is a key, a list of keys, or an object with keys, prefixes and tags")
  func forms() {
    #expect(names(parse("shop:user:1")?.keys) == ["shop:user:1"])
    #expect(names(parse(#"["shop:user:1", "shop:caf\u00e9"]"#)?.keys) == ["shop:user:1", "shop:café"])
    let all = parse(#"{"keys":["shop:a"],"prefixes":["shop:b:*","shop:c:"],"tags":["t:1"],"by":"me"}"#)
    #expect(names(all?.keys) == ["shop:a"])
    #expect(names(all?.prefixes) == ["shop:b:", "shop:c:"])
    #expect(names(all?.tags) == ["t:1"])
    #expect(names(parse(#"{"tags":["t:1"]}"#)?.tags) == ["t:1"])
  }

  @Test(
    "Anything else is malformed",
    arguments: [
      "", "[]", "{}", "[1]", #"["a",null]"#, #"[""]"#, "[", #"{"keys":"a"}"#, #"{"keys":[]}"#,
      #"{"other":["a"]}"#, #"{"prefixes":[{}]}"#, #"{"keys":["a"],"keys":["b"]"#,
    ])
  func malformed(_ text: String) { #expect(parse(text) == nil) }

  @Test("No length of a message or of a name is too much for it")
  func lengths() {
    #expect(Announcement([UInt8](repeating: 97, count: 100_000)) == nil)
    #expect(parse(#"[""# + String(repeating: "a", count: 100_000) + #""]"#) == nil)
    let many = "[" + [String](repeating: #""k""#, count: 400_000).joined(separator: ",") + "]"
    #expect(parse(many) == nil)
    #expect(parse(String(repeating: "[", count: 500_000)) == nil)
  }
}
