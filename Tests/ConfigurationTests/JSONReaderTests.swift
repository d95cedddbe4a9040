import Testing

@testable import Configuration

@Suite("JSON with places")
struct JSONReaderTests {
  /// A tree in one line: what JSON says, with numbers as they were written.
  private func flat(_ node: JSONNode) -> String {
    switch node.value {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .number(let text): text
    case .string(let text): quoted(text)
    case .array(let elements): "[" + elements.map(flat).joined(separator: ",") + "]"
    case .object(let members):
      "{" + members.map { quoted($0.key) + ":" + flat($0.node) }.joined(separator: ",") + "}"
    }
  }

  private func fault(_ text: String, comments: Bool = false) -> String {
    let reading = JSONReader.read(Array(text.utf8), comments: comments)
    #expect(reading.node == nil)
    return summary(reading.diagnostics).joined(separator: "\n")
  }

  @Test(
    "well-formed texts keep order, and numbers their text",
    arguments: [
      ("null", "null"), (" true\r\n", "true"), ("false", "false"), ("-0", "-0"), ("0.10e+02", "0.10e+02"),
      ("9007199254740993", "9007199254740993"), ("1E400", "1E400"), ("\"\"", "\"\""), ("[]", "[]"),
      ("{}", "{}"), ("[ 1 , [ ] , {\"b\":1,\"a\":[null]} ]", "[1,[],{\"b\":1,\"a\":[null]}]"),
      ("\"é😀\u{7f}\"", "\"é😀\\u007f\""),
      (#""\"\\\/\b\f\n\r\t\u00e9\ud83d\uDE00\u0000""#, #""\"\\/\u0008\u000c\n\r\té😀\u0000""#),
    ])
  func good(text: String, tree: String) throws {
    let reading = JSONReader.read(Array(text.utf8))
    #expect(reading.diagnostics.isEmpty)
    #expect(flat(try #require(reading.node)) == tree)
  }

  @Test("every value and every key has its place, counted in characters")
  func places() throws {
    let node = try #require(JSONReader.read(Array("{\n \"ä😀\": \"x\\u00e9\",\n\t\"b\": [10, {}]}".utf8)).node)
    let members = try #require(node.members)
    #expect(node.place == SourcePlace(line: 1, column: 1, length: 1))
    #expect(members[0].keyPlace == SourcePlace(line: 2, column: 2, length: 4))
    #expect(members[0].node.place == SourcePlace(line: 2, column: 8, length: 9))
    #expect(members[1].keyPlace == SourcePlace(line: 3, column: 2, length: 3))
    #expect(members[1].node.place == SourcePlace(line: 3, column: 7, length: 1))
    #expect(node["b"]?.elements?[0].place == SourcePlace(line: 3, column: 8, length: 2))
    #expect(node["b"]?.elements?[1].place == SourcePlace(line: 3, column: 12, length: 1))
    #expect(node["missing"] == nil)
  }

  @Test("a part of a string is found in the text, escapes before it or in it notwithstanding")
  func partsOfStrings() throws {
    let node = try #require(JSONReader.read(Array(#"  "a\n\ud83d\ude00b""#.utf8)).node)
    let text = try #require(PlacedText(node))
    #expect(text.place(0..<1) == SourcePlace(line: 1, column: 4, length: 1))
    #expect(text.place(1..<2) == SourcePlace(line: 1, column: 5, length: 2))
    #expect(text.place(2..<3) == SourcePlace(line: 1, column: 7, length: 12))
    #expect(text.place(3..<4) == SourcePlace(line: 1, column: 19, length: 1))
    #expect(text.place(4..<4) == SourcePlace(line: 1, column: 20, length: 1))
  }

  @Test(
    "a syntax error names its place and its remedy",
    arguments: [
      ("", "1:1+1 json-syntax the text ends where a value is expected"),
      ("\n  ", "2:3+1 json-syntax the text ends where a value is expected"),
      ("1 2", "1:3+1 json-syntax something follows the end of the JSON value"),
      ("{\"a\" 1}", "1:6+1 json-syntax a colon is missing between the key and its value"),
      ("{\"a\":1 \"b\":2}", "1:8+1 json-syntax a comma or } is missing before this"),
      ("[1 2]", "1:4+1 json-syntax a comma or ] is missing before this"),
      ("[1,]", "1:4+1 json-syntax a comma before the closing bracket; only files named .jsonc may have it"),
      (
        "{\"a\":1,}",
        "1:8+1 json-syntax a comma before the closing bracket; only files named .jsonc may have it"
      ),
      ("[,]", "1:2+1 json-syntax a value is missing here"),
      ("{\"a\":}", "1:6+1 json-syntax a value is missing here"),
      ("{,}", "1:2+1 json-syntax a key in double quotes is expected here"),
      ("{a:1}", "1:2+1 json-syntax a key in double quotes is expected here"),
      ("{'a':1}", "1:2+1 json-syntax a key is written in double quotes"),
      ("['a']", "1:2+1 json-syntax text is written in double quotes"),
      ("[1\n", "2:1+1 json-syntax the text ends inside the list that begins at 1:1"),
      ("{\"a\":\n {", "2:3+1 json-syntax the text ends inside the object that begins at 2:2"),
      ("[1}", "1:3+1 json-syntax a comma or ] is missing before this"),
      ("TRUE", "1:1+4 json-syntax JSON writes true in lower-case letters"),
      ("NaN", "1:1+3 json-syntax JSON has no \"NaN\""),
      ("[hello]", "1:2+5 json-syntax text is written in double quotes, and this word has none"),
      ("@", "1:1+1 json-syntax this character cannot begin a JSON value"),
      ("é", "1:1+1 json-syntax this character cannot begin a JSON value"),
      ("01", "1:1+2 json-syntax a number has no leading zero in JSON"),
      ("+1", "1:1+2 json-syntax a number has no plus sign in JSON"),
      (".5", "1:1+2 json-syntax a digit is missing in this number"),
      ("-", "1:1+1 json-syntax a digit is missing in this number"),
      ("1.", "1:1+2 json-syntax a digit is missing after the point"),
      ("1e+", "1:1+3 json-syntax a digit is missing in the exponent"),
      ("12ms", "1:1+4 json-syntax this is not a number; text is written in double quotes"),
      ("0x1f", "1:1+4 json-syntax this is not a number; text is written in double quotes"),
      ("1.2.3", "1:1+5 json-syntax this is not a number; text is written in double quotes"),
      ("\"ab", "1:1+3 json-syntax the text ends inside this string; its closing quote is missing"),
      ("\"ab\\", "1:1+1 json-syntax the text ends inside this string; its closing quote is missing"),
      ("\"ab\nc\"", "1:1+3 json-syntax the closing quote of this string is missing on its line"),
      ("\"a\tb\"", "1:3+1 json-syntax a control character in a string is written \\u0009"),
      ("\"a\\x\"", "1:3+2 json-syntax this escape does not exist; a backslash itself is written \\\\"),
      ("\"a\\u12g4\"", "1:3+4 json-syntax four hexadecimal digits are expected after \\u"),
      ("\"\\ud83d\"", "1:2+6 json-syntax this is half of a surrogate pair; both halves are needed"),
      ("\"\\ude00\\ud83d\"", "1:2+6 json-syntax this is half of a surrogate pair; both halves are needed"),
      ("\"\\ud83dx\"", "1:2+6 json-syntax this is half of a surrogate pair; both halves are needed"),
      ("\"\\ud83d\\u0041\"", "1:2+6 json-syntax this is half of a surrogate pair; both halves are needed"),
      ("// a\n1", "1:1+1 json-syntax only files named .jsonc may have comments"),
      ("/* a */ 1", "1:1+1 json-syntax only files named .jsonc may have comments"),
      ("# a\n1", "1:1+1 json-syntax JSON has no # comments"),
      ("[1 / 2]", "1:4+1 json-syntax this character cannot stand here"),
      ("\u{feff}1", "1:1+1 json-syntax the text begins with a byte order mark; save it as UTF-8 without one"),
    ])
  func syntax(text: String, expected: String) {
    #expect(fault(text) == expected)
  }

  @Test("a .jsonc file may have comments and commas before closing brackets")
  func comments() throws {
    let text = "// é\n{ /* x\n y */ \"a\": [1, 2,], // z\n \"b\": \"// no comment\", /**/ }\n//"
    let reading = JSONReader.read(Array(text.utf8), comments: true)
    #expect(flat(try #require(reading.node)) == "{\"a\":[1,2],\"b\":\"// no comment\"}")
    #expect(reading.node?.members?[0].keyPlace == SourcePlace(line: 3, column: 7, length: 3))
    #expect(fault("[,]", comments: true) == "1:2+1 json-syntax a value is missing here")
    #expect(fault("[1,,]", comments: true) == "1:4+1 json-syntax a value is missing here")
    #expect(fault("1 /* é", comments: true) == "1:3+1 json-syntax the text ends inside this comment")
  }

  @Test("every duplicate key is an error, and reading goes on")
  func duplicates() throws {
    let reading = JSONReader.read(Array("{\"a\":1,\n\"b\":{\"c\":1,\"c\":2},\n\"\\u0061\":3}".utf8))
    #expect(
      summary(reading.diagnostics) == [
        "2:12+3 duplicate-key the key \"c\" stands here twice; the first is at 2:6",
        "3:1+8 duplicate-key the key \"a\" stands here twice; the first is at 1:2",
      ])
    #expect(reading.diagnostics.map(\.path) == ["b.c", "a"])
    #expect(flat(try #require(reading.node)) == "{\"a\":1,\"b\":{\"c\":1,\"c\":2},\"a\":3}")
  }

  @Test("keys that differ in bytes only are different keys")
  func canonicalEquivalence() {
    #expect(JSONReader.read(Array("{\"\u{e9}\":1,\"e\u{301}\":2}".utf8)).diagnostics.isEmpty)
  }

  @Test("depth and size are bounded")
  func bounds() {
    let deep = String(repeating: "[", count: 64) + String(repeating: "]", count: 64)
    #expect(JSONReader.read(Array(deep.utf8)).node != nil)
    #expect(fault("[" + deep + "]") == "1:65+1 json-too-deep more than 64 levels of brackets")
    let blank = [UInt8](repeating: 0x20, count: JSONReader.largest - 1)
    #expect(JSONReader.read(blank + Array("1".utf8)).node != nil)
    #expect(
      summary(JSONReader.read(blank + Array("10".utf8)).diagnostics) == [
        "json-too-large the text has 1048577 bytes; at most 1048576 (1 MiB) are read"
      ])
  }

  @Test(
    "malformed UTF-8 is refused wherever it stands",
    arguments: [
      [0x80], [0xc0, 0x80], [0xc3], [0xe0, 0x80, 0x80], [0xed, 0xa0, 0x80], [0xf0, 0x80, 0x80, 0x80],
      [0xf4, 0x90, 0x80, 0x80], [0xf5, 0x80, 0x80, 0x80], [0xff],
    ] as [[UInt8]])
  func malformedUTF8(bytes: [UInt8]) {
    let string = JSONReader.read(Array("\"é".utf8) + bytes + Array("\"".utf8))
    #expect(summary(string.diagnostics) == ["1:3+1 json-syntax this byte is not UTF-8"])
    let comment = JSONReader.read(Array("//".utf8) + bytes, comments: true)
    #expect(summary(comment.diagnostics) == ["1:3+1 json-syntax this byte is not UTF-8"])
  }

  @Test("a text cut anywhere is an error and never a trap")
  func truncated() {
    let text = Array(#"{"a": ["\ud83d\ude00é", -1.5e+3, true, null, {"b": {}}]}"#.utf8)
    for end in 0..<text.count {
      let reading = JSONReader.read(Array(text[..<end]))
      #expect(reading.node == nil)
      #expect(reading.diagnostics.count == 1)
    }
  }

  @Test("random damage is an error or a tree, and never a trap")
  func damaged() {
    let text = Array("{\"a\": [\"\\u00e9\", -1.5e3, true, {\"b\": \"x\"}]} // c\n/* d */".utf8)
    var random = SeededGenerator(state: 1)
    for _ in 0..<20_000 {
      var copy = text
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        copy[Int.random(in: 0..<copy.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      let reading = JSONReader.read(copy, comments: true)
      #expect((reading.node == nil) == reading.diagnostics.contains { $0.code != "duplicate-key" })
    }
  }
}
