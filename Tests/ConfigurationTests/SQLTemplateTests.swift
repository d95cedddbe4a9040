import Testing

@testable import Configuration

@Suite("Statements with named parameters")
struct SQLTemplateTests {
  private func parse(_ text: String) throws(SQLTemplateError) -> SQLTemplate {
    try SQLTemplate.parse(text, place: SourcePlace(line: 1, column: 1, length: text.count))
  }

  @Test(
    "a name outside quotes and comments is a parameter, and a name that repeats is one",
    arguments: [
      ("SELECT 1", "SELECT 1", []),
      ("SELECT a FROM t WHERE id = :id", "SELECT a FROM t WHERE id = $1", ["id"]),
      (":a,:b,:a,(:b)", "$1,$2,$1,($2)", ["a", "b"]),
      (":id0::int4 + :é$x", "$1::int4 + $2", ["id0", "é$x"]),
      ("x::text || y :: text || f(n := :n)", "x::text || y :: text || f(n := $1)", ["n"]),
      ("a[1:2] || a[1: n] || :a", "a[1:2] || a[1: n] || $1", ["a"]),
      ("':a''b:c' || :d", "':a''b:c' || $1", ["d"]),
      (#"E'\':a' || e'\\' || :d"#, #"E'\':a' || e'\\' || $1"#, ["d"]),
      (#"'\' || :d"#, #"'\' || $1"#, ["d"]), (#"type'\' || :d"#, #"type'\' || $1"#, ["d"]),
      (#"":a"":b" || :c"#, #"":a"":b" || $1"#, ["c"]),
      ("$$ :a ' $$ || :b", "$$ :a ' $$ || $1", ["b"]),
      ("$x$ :a $$ $y$ $x$ || :b", "$x$ :a $$ $y$ $x$ || $1", ["b"]),
      ("a$x$ || :b || c$x$", "a$x$ || $1 || c$x$", ["b"]),
      ("/* :a /* ' */ :b */ :c", "/* :a /* ' */ :b */ $1", ["c"]),
      ("1 -- :a '\n + :b -- :c", "1 \n + $1 ", ["b"]), ("1 - -:b", "1 - -$1", ["b"]),
      ("SELECT :a ; -- end", "SELECT $1  ", ["a"]), (":", ":", []), ("a ? ':' : 1", "a ? ':' : 1", []),
    ] as [(String, String, [String])])
  func parameters(sql: String, text: String, names: [String]) throws {
    let template = try parse(sql)
    #expect(template.text == text)
    #expect(template.names == names)
    #expect(template.places.count == names.count)
  }

  @Test("another placeholder may stand for each parameter")
  func rendered() throws {
    let template = try parse("SELECT :b FROM t WHERE a = :a AND b = :b")
    #expect(template.rendered { "k.c\($0)" } == "SELECT k.c0 FROM t WHERE a = k.c1 AND b = k.c0")
    #expect(template.places.map(\.column) == [8, 28])
    #expect(template.places.map(\.length) == [2, 2])
  }

  @Test(
    "a statement that cannot be read says where",
    arguments: [
      ("", 0, "an SQL statement is missing here"),
      (" -- x\n/* y */ ;", 0, "an SQL statement is missing here"),
      ("SELECT 'a", 8, "this quote is not closed"), (#"SELECT E'a\'"#, 9, "this quote is not closed"),
      ("SELECT \"a", 8, "this quote is not closed"), ("SELECT $x$ $$", 8, "this dollar quote is not closed"),
      ("SELECT /* /* */", 8, "this comment is not closed"),
      ("SELECT $12", 8, "parameters have names here; write a column of the template like :id"),
      ("SELECT 1; SELECT 2", 9, "one statement stands here, and another follows this semicolon"),
      ("SELECT \0", 8, "a statement has no zero bytes"),
    ])
  func errors(sql: String, column: Int, message: String) {
    let error = #expect(throws: SQLTemplateError.self) { try parse(sql) }
    #expect(error?.message == message)
    if column > 0 { #expect(error?.place.column == column) }
  }

  @Test("what was read once is read the same again, whatever it is")
  func again() throws {
    let alphabet = [
      "'", "\"", "$", "$$", "x", "E", ":", "::", ":a", ":b", " ", "-", "--", "\n", "/*", "*/", "\\", ";", "1",
    ]
    var random = SeededGenerator(state: 7)
    var good = 0
    for _ in 0..<20_000 {
      let text = (0..<Int.random(in: 1...9, using: &random)).map { _ in
        alphabet.randomElement(using: &random) ?? ""
      }.joined()
      guard let first = try? parse(text) else { continue }
      let second = try parse(first.rendered { ":" + first.names[$0] })
      #expect(second.parts == first.parts && second.names == first.names, "\(text)")
      good += 1
    }
    #expect(good > 1_000)
  }
}
