import Testing

@testable import Configuration

@Suite("Conditions of rows")
struct RowConditionTests {
  private static let place = SourcePlace(line: 3, column: 11, length: 60)

  private func canonical(_ text: String) throws -> String {
    try RowCondition.parse(text, place: Self.place).canonical
  }

  private static func place(of text: String) -> SourcePlace {
    SourcePlace(line: 3, column: 11, length: max(1, text.unicodeScalars.count))
  }

  /// `column+length message; did you mean "…"?`
  private func fault(_ text: String) -> String {
    do throws(RowConditionError) {
      return "none: \(try RowCondition.parse(text, place: Self.place(of: text)).canonical)"
    } catch {
      let hint = error.suggestion.map { "; did you mean \"\($0)\"?" } ?? ""
      return "\(error.place.column - 10)+\(error.place.length) \(error.message)\(hint)"
    }
  }

  @Test(
    "each form is read",
    arguments: [
      ("new.a = 1", "(new.1:a=1)"), ("old.a <> 'x'", "(old.1:a<>'1:x)"), ("a != 'x'", "(either.1:a<>'1:x)"),
      ("a < 1", "(either.1:a<1)"), ("a<=1", "(either.1:a<=1)"), ("a>1", "(either.1:a>1)"),
      ("1 >= new.a", "(1>=new.1:a)"), ("new.a = old.b", "(new.1:a=old.1:b)"),
      ("a is null", "null(either.1:a)"), ("a is not null", "not(null(either.1:a))"),
      ("a is true", "(either.1:ais not distinct fromtrue)"),
      ("a is not false", "(either.1:ais distinct fromfalse)"),
      ("new.a is distinct from old.a", "(new.1:ais distinct fromold.1:a)"),
      ("new.a is not distinct from 5", "(new.1:ais not distinct from5)"),
      ("a in ('x', 'it''s')", "any((either.1:a='1:x),(either.1:a='4:it's))"),
      ("a not in (1)", "not((either.1:a=1))"),
      ("a between 1 and 2 and b", "all(all((either.1:a>=1),(either.1:a<=2)),holds(either.1:b))"),
      ("a not between 1 and 2", "not(all((either.1:a>=1),(either.1:a<=2)))"),
      ("a like 'x%'", "like(either.1:a,2:x%)"), ("a not like 'x%'", "not(like(either.1:a,2:x%))"),
      ("changed(b, \"a c\")", "changed(either.1:b,either.3:a c)"), ("new.\"in\" is null", "null(new.2:in)"),
      ("new.in is null", "null(new.2:in)"), ("not new.deleted", "not(holds(new.7:deleted))"),
      ("NOT NEW.a Is Null", "not(null(new.1:a))"), ("größe = 1", "(either.7:größe=1)"),
      ("changed = 1", "none"),
    ])
  func forms(text: String, expected: String) throws {
    if expected == "none" {
      #expect(fault(text) == "1+7 a column must stand here")
    } else {
      #expect(try canonical(text) == expected)
    }
  }

  @Test(
    "not binds tighter than and, and and tighter than or",
    arguments: [
      ("a or b and c", "a or (b and c)"), ("a and b or c", "(a and b) or c"),
      ("not a and b", "(not a) and b"),
      ("not a = 1 or b", "(not (a = 1)) or b"), ("not not a", "a"), ("a or b or c", "((a) or (b) or c)"),
      ("not (a or b)", "not (a or (b))"),
    ])
  func precedence(text: String, same: String) throws {
    #expect(try canonical(text) == canonical(same))
  }

  @Test(
    "parentheses change the order",
    arguments: [("(a or b) and c", "a or b and c"), ("not (a and b)", "not a and b")])
  func parentheses(text: String, other: String) throws {
    #expect(try canonical(text) != canonical(other))
  }

  @Test(
    "numbers are plain decimals",
    arguments: [
      ("10", "10"), ("+5", "5"), ("-0.50", "-0.5"), ("007", "7"), (".5", "0.5"), ("5.", "5"), ("1e3", "1000"),
      ("-1.25e1", "-12.5"), ("25e-4", "0.0025"), ("-0", "0"), ("0.0e9", "0"),
    ])
  func numbers(text: String, expected: String) throws {
    #expect(try canonical("a = \(text)") == "(either.1:a=\(expected))")
  }

  @Test(
    "an error says where it is and what to do",
    arguments: [
      ("", "1+1 a condition is missing here; write one like \"changed(price) and new.status <> 'draft'\""),
      ("a = ", "4+1 the condition ends where a column must stand"),
      ("a = 1 2", "7+1 \"and\", \"or\" or the end of the condition must stand here"),
      ("a = 'x", "5+1 this quote is not closed"),
      ("(a = 1", "6+1 the condition ends where a closing parenthesis must stand"),
      (
        "a = null", "5+4 nothing is equal to null, or different from it; write \"is null\" or \"is not null\""
      ),
      ("1 = 1", "1+5 a comparison needs a column on one side"),
      ("now.a = 1", "1+3 only \"new\" and \"old\" stand before a point; did you mean \"new\"?"),
      ("chnaged(a)", "1+7 \"changed\" is the only function here; did you mean \"changed\"?"),
      ("changed(new.a)", "9+3 a column's name must stand here"),
      (
        "changed(t.a)",
        "9+2 \"changed\" compares the old row with the new one, so write only the columns' names"
      ),
      ("changed()", "9+1 a column's name must stand here"),
      ("new = 1", "1+3 a column's name is missing here; write it like new.status"),
      ("a in (b)", "7+1 a list holds numbers, texts in single quotes, true and false only"),
      ("a like b", "8+1 a pattern in single quotes must stand here"),
      ("a like 'x\\'", "8+4 this pattern ends in a backslash that stands before nothing"),
      ("a not = 1", "7+1 \"in\", \"between\" or \"like\" must stand here"),
      ("a + 1 = 2", "3+1 nothing is computed here; columns are compared as they stand"),
      ("a = 1x", "5+2 this is not a number; write it like 10, -2.5 or 1e6"),
      ("a = 1e999", "5+5 this number's exponent is missing or above 200"),
      ("a ; b", "3+1 \";\" has no meaning in a condition"),
      ("a is 5", "6+1 \"null\", \"not null\", \"true\", \"false\" or \"distinct from\" must stand here"),
      ("!a", "1+1 a ! stands only in !=; write \"not\" to turn a condition round"),
      ("a between 1 or 2", "13+2 \"and\" and the upper bound must stand here"),
    ])
  func faults(text: String, expected: String) {
    #expect(fault(text) == expected)
  }

  @Test("what is nested too deeply is refused, and a long chain is not")
  func depth() throws {
    let deep = String(repeating: "(", count: 5000) + "a" + String(repeating: ")", count: 5000)
    #expect(fault(deep).hasSuffix("this condition is nested too deeply"))
    let chain = Array(repeating: "not a = 1", count: 5000).joined(separator: " or ")
    #expect(try RowCondition.parse(chain, place: Self.place).columns.count == 5000)
    #expect(try canonical(String(repeating: "not ", count: 5001) + "a") == canonical("not a"))
  }

  @Test("in a file it is underlined behind escapes, and what came from outside is not repeated")
  func inFile() throws {
    func summaries(_ when: String, environment: [String: String] = [:]) -> [String] {
      summary(
        read(
          "{\"namespace\": \"shop\", \"tables\": {\"t\": {\"keys\": \"k:{id}\",\n\"when\": \"\(when)\"}}}",
          environment: environment
        ).diagnostics)
    }
    #expect(summaries("new.status <> 'draft'") == [])
    #expect(
      summaries(#"new.\"a b\" = 1 and nwe.x = 2"#) == [
        "2:30+3 bad-value only \"new\" and \"old\" stand before a point; did you mean \"new\"?"
      ])
    let outside = summaries("${V}", environment: ["V": "nwe.secret = 1"])
    #expect(outside == ["2:10+4 bad-value only \"new\" and \"old\" stand before a point"])
    #expect(
      summary(read("{\"tables\": {\"t\": {\"keys\": \"k:{id}\", \"when\": 5}}}").diagnostics)
        .contains { $0.contains("\"when\" must be text in double quotes, not a number") })
  }

  @Test("conditions with another meaning have another mapping hash, and those written otherwise have not")
  func hash() throws {
    func hash(_ when: String?) throws -> String {
      let place = Self.place
      let rule = TableRule(
        schema: "public", name: "t", keys: [try KeyTemplate.parse("k:{id}", place: place)], columns: nil,
        operations: [.insert], when: try when.map { try RowCondition.parse($0, place: place) }, place: place)
      return MappingHash.of(namespace: "shop", tables: [rule])
    }
    #expect(try hash("new.a = 1 and changed(b, c)") == hash("(NEW.a = 1.0)  AND changed(c,b)"))
    let different = try [nil, "new.a = 1", "old.a = 1", "a = 1", "new.a = '1'", "new.a <> 1", "changed(a)"]
      .map(hash)
    #expect(Set(different).count == different.count)
  }
}
