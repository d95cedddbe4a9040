import Testing

@testable import Configuration

@Suite("Key templates")
struct KeyTemplateTests {
  private let place = SourcePlace(line: 7, column: 11, length: 1)

  @Test("literals, columns and filters are read with their places")
  func parts() throws {
    let template = try KeyTemplate.parse("user:{email|lower|urlencode}:é{Id_2$}", place: place)
    #expect(
      template.parts == [
        .literal("user:"),
        .column(
          name: "email", filters: [.lower, .urlencode], place: SourcePlace(line: 7, column: 17, length: 5)),
        .literal(":é"),
        .column(name: "Id_2$", filters: [], place: SourcePlace(line: 7, column: 42, length: 5)),
      ])
    #expect(template.text == "user:{email|lower|urlencode}:é{Id_2$}")
    #expect(!template.isPrefix)
  }

  @Test(
    "a template may be one column, a constant, adjacent columns or a prefix",
    arguments: [("{id}", 1, false), ("exchange-rates", 1, false), ("{a}{b}", 2, false), ("c:{x}:*", 3, true)])
  func forms(text: String, parts: Int, isPrefix: Bool) throws {
    let template = try KeyTemplate.parse(text, place: place)
    #expect(template.parts.count == parts)
    #expect(template.isPrefix == isPrefix)
  }

  @Test(
    "an error underlines the characters at fault",
    arguments: [
      ("", "7:11+1 a key template is empty; write it like \"user:{id}\""),
      ("user:{id", "7:16+1 the closing brace of this column is missing"),
      ("user:{a{b}", "7:16+1 the closing brace of this column is missing"),
      ("user:id}", "7:18+1 this brace closes no column; braces stand around column names only"),
      ("user:{}", "7:16+2 a column's name is missing between these braces; write it like {id}"),
      ("user:{|lower}", "7:16+8 a column's name is missing between these braces; write it like {id}"),
      ("{ id}", "7:12+1 there are no spaces around or in a column's name"),
      ("{id }", "7:14+1 there are no spaces around or in a column's name"),
      ("{id:lower}", "7:14+1 a filter follows the column after a |, as in {email|lower}"),
      ("{1d}", "7:12+1 a column's name does not begin with a digit"),
      ("{a-b}", "7:13+1 a column's name has letters, digits, _ and $ only"),
      ("{id|}", "7:15+1 a filter is missing after |; there are lower, urlencode and raw"),
      ("{id|lowr}", "7:15+4 there is no filter \"lowr\"; there are lower, urlencode and raw (lower)"),
      ("{id|sha256}", "7:15+6 there is no filter \"sha256\"; there are lower, urlencode and raw"),
      ("{id|lower|lower}", "7:21+5 the filter lower stands here twice"),
      ("a*:{id}", "7:12+1 a * may stand at the end of a template only"),
      ("a**", "7:12+1 a * may stand at the end of a template only"),
      ("a\u{1}b", "7:12+1 a key template has no control characters"),
    ])
  func faults(text: String, expected: String) {
    do throws(TemplateError) {
      let template = try KeyTemplate.parse(text, place: place)
      Issue.record("\(template) was accepted")
    } catch {
      let suggestion = error.suggestion.map { " (\($0))" } ?? ""
      #expect(
        "\(error.place.line):\(error.place.column)+\(error.place.length) \(error.message)\(suggestion)"
          == expected
      )
    }
  }

  @Test(
    "a Lua pattern is anchored, and literals mean themselves",
    arguments: [
      ("user:{id}", "shop:", "^shop%:user%:[^:]*$"),
      ("a.b-c%d[1]^$_(+?):{x|lower}-{y}", "", "^a%.b%-c%%d%[1%]%^%$%_%(%+%?%)%:[^:]*%-[^:]*$"),
      ("prix-é:{id}", "s:", "^s%:prix%-é%:[^:]*$"),
      ("c:{x}:*", "s:", "^s%:c%:[^:]*%:"),
    ])
  func lua(text: String, prefix: String, expected: String) throws {
    #expect(try KeyTemplate.parse(text, place: place).luaPattern(prefix: prefix) == expected)
  }

  @Test("a Lua pattern captures the columns asked for, each once")
  func captures() throws {
    let template = try KeyTemplate.parse("t:{a}:{b}:{a}:{c}", place: place)
    #expect(
      template.luaPattern(prefix: "", capturing: ["a", "c"]) == "^t%:([^:]*)%:[^:]*%:[^:]*%:([^:]*)$")
  }
}

@Suite("Which template covers a key")
struct KeyMatcherTests {
  private func template(_ text: String) throws -> KeyTemplate {
    try KeyTemplate.parse(text, place: SourcePlace(line: 1, column: 1, length: 1))
  }

  private func match(_ templates: [String], _ key: String, prefix: String = "") throws -> Int? {
    let matcher = KeyMatcher(templates: try templates.map(template), prefix: prefix)
    return Array(key.utf8).withUnsafeBytes { matcher.match($0) }
  }

  @Test(
    "the whole key must match, and a column takes no delimiter",
    arguments: [
      ("user:{id}", "user:42", true), ("user:{id}", "user:", true), ("user:{id}", "user:4:2", false),
      ("user:{id}", "users:42", false), ("user:{id}", "user:42 ", false),
      ("user:{id}", "user:4\u{7f}", false),
      ("user:{id}", "user:{42}", false), ("user:{id}", "user:a%20b\u{e9}", true), ("user:{id}", "", false),
      ("{id}", "42", true), ("{id}", "", true), ("const", "const", true), ("const", "const2", false),
      ("{a}-{b}", "1-2", true), ("{a}-{b}", "1-2-3", true), ("{a}-{b}", "-1-", true),
      ("{a}-{b}", "--1", true),
      ("{a}-{b}", "1--", true), ("{a}-{b}", "---", true), ("{a}-{b}", "--", true), ("{a}{b}", "12", true),
      ("{a}{b}", "1", true), ("{a}-x", "1-x-x", true), ("{a}-x", "1-x-xy", false),
      ("{a}aab{b}", "xaaab1", true), ("{a}aab{b}b", "aaabaabb", true), ("{a}aab{b}b", "aaabb", true),
      ("{a}aab{b}b", "aaabaabbb", true),
      ("{a}:b:{c}", "1:b:2", true), ("{a}:b:{c}", "1:b:b:2", false),
      ("c:{x}:*", "c:1:", true), ("c:{x}:*", "c:1:a:b {", true), ("c:{x}:*", "c::a", true),
      ("c:*", "c:", true), ("c:{x}*", "c:", true), ("c:{x}*", "c:1:2", true), ("*", "", true),
    ])
  func matches(text: String, key: String, expected: Bool) throws {
    #expect((try match([text], key) == 0) == expected)
    #expect((try match([text], "shop:" + key, prefix: "shop:") == 0) == expected)
    #expect(try match([text], "shap:" + key, prefix: "shop:") == nil)
  }

  @Test("the template with the most literal characters wins, and of equals the first")
  func precedence() throws {
    let templates = ["{a}:{b}", "user:{id}", "user:me", "{x}:name", "éé:{x}", "user:{id2}"]
    #expect(try match(templates, "user:me") == 2)
    #expect(try match(templates, "user:1") == 1)
    #expect(try match(templates, "user:name") == 1)
    #expect(try match(templates, "x:name") == 3)
    #expect(try match(templates, "x:y") == 0)
    #expect(try match(["user:name", "user:name"], "user:name") == 0)
    // Characters, not bytes: four of them against three with five bytes.
    #expect(try match(["éé:{x}", "{y}:abc"], "éé:abc") == 1)
    #expect(try match([], "user:1") == nil)
  }

  @Test(
    "a prefix rule covers a key with one prefix, whatever stands behind it",
    arguments: [
      ("c:{x}:*", "c:7:page:1", "c:7:"), ("c:{x}:*", "c::", "c::"), ("c:{x}:p-*", "c:7:p-1:p-2", "c:7:p-"),
      ("c:*", "c:7:", "c:"), ("c:{x}-{y}:*", "c:1-2-3:4-5:6", "c:1-2-3:"), ("*", "c", ""),
      ("c:{x}:*", "c:7", nil), ("c:{x}", "c:7", nil),
    ])
  func instantiated(text: String, key: String, expected: String?) throws {
    for namespace in ["", "shop:"] {
      let matcher = KeyMatcher(templates: [try template("other"), try template(text)], prefix: namespace)
      var found: [String] = []
      Array((namespace + key).utf8).withUnsafeBytes { key in
        matcher.forEachPrefix(of: key) { index, count in
          found.append("\(index) " + String(decoding: key.prefix(count), as: UTF8.self))
        }
      }
      #expect(found == expected.map { ["1 " + namespace + $0] } ?? [])
    }
  }

  @Test("the values of columns are found where they stand")
  func columns() throws {
    let matcher = KeyMatcher(
      templates: [try template("t:{a}:u:{b}"), try template("p:{a}:x{b}y:*"), try template("const")],
      prefix: "shop:")
    func values(_ key: String) -> [String]? {
      var columns: [Range<Int>] = []
      let bytes = Array(("shop:" + key).utf8)
      guard bytes.withUnsafeBytes({ matcher.match($0, columns: &columns) }) != nil else { return nil }
      return columns.map { String(decoding: bytes[$0], as: UTF8.self) }
    }
    #expect(values("t:7:u:42") == ["7", "42"])
    #expect(values("t::u:") == ["", ""])
    #expect(values("p:7:xyxy:rest") == ["7", "yx"])
    #expect(values("const") == [])
    #expect(values("t:7:v:42") == nil)
  }

  @Test("a key shorter than the namespace, or of another one, is refused")
  func prefixes() throws {
    #expect(try match(["{id}"], "sho", prefix: "shop:") == nil)
    #expect(try match(["{id}"], "shop:", prefix: "shop:") == 0)
    #expect(try match(["{id}"], "shop:1", prefix: "shop:") == 0)
    #expect(KeyMatcher(templates: [], prefix: "").match(UnsafeRawBufferPointer(start: nil, count: 0)) == nil)
  }

  /// The definition, with all the backtracking it takes.
  private func slowly(_ parts: ArraySlice<KeyTemplate.Part>, _ key: ArraySlice<UInt8>, _ isPrefix: Bool)
    -> Bool
  {
    guard let part = parts.first else { return isPrefix || key.isEmpty }
    switch part {
    case .literal(let text):
      let bytes = Array(text.utf8)
      return key.starts(with: bytes) && slowly(parts.dropFirst(), key.dropFirst(bytes.count), isPrefix)
    case .column:
      for length in 0...key.count {
        if length > 0 {
          let byte = key[key.startIndex + length - 1]
          guard byte > 0x20, byte != 0x7f, !":{}".utf8.contains(byte) else { return false }
        }
        if slowly(parts.dropFirst(), key.dropFirst(length), isPrefix) { return true }
      }
      return false
    }
  }

  @Test("taking each literal at its first place finds every match that backtracking finds")
  func againstBacktracking() throws {
    var random = SeededGenerator(state: 2)
    let place = SourcePlace(line: 1, column: 1, length: 1)
    var matches = 0
    for _ in 0..<60_000 {
      var parts: [KeyTemplate.Part] = []
      for _ in 0..<Int.random(in: 1...5, using: &random) {
        if Bool.random(using: &random) {
          parts.append(.column(name: "c", filters: [], place: place))
        } else {
          let length = Int.random(in: 1...3, using: &random)
          parts.append(
            .literal(String((0..<length).map { _ in "aab:".randomElement(using: &random) ?? "a" })))
        }
      }
      let template = KeyTemplate(
        parts: parts, isPrefix: Int.random(in: 0..<4, using: &random) == 0, text: "", place: place)
      let matcher = KeyMatcher(templates: [template], prefix: "")
      let length = Int.random(in: 0...9, using: &random)
      let key = (0..<length).map { _ in "aaaabb: ".utf8.randomElement(using: &random) ?? 0 }
      let expected = slowly(template.parts[...], key[...], template.isPrefix)
      if expected { matches += 1 }
      #expect(
        key.withUnsafeBytes { matcher.match($0) != nil } == expected,
        "\(template.parts) against \(String(decoding: key, as: UTF8.self))")
    }
    #expect(matches > 1000)
  }
}
