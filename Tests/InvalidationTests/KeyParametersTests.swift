import Configuration
import Testing

@testable import Invalidation

@Suite("A key back to the values of its columns")
struct KeyParametersTests {
  private func parameters(_ template: String) throws -> KeyParameters {
    let place = SourcePlace(line: 1, column: 1, length: template.count)
    return try #require(
      KeyParameters(template: try KeyTemplate.parse(template, place: place), prefix: "shop:"))
  }

  private func values(_ template: String, _ key: String) throws -> [String]? {
    try Array(key.utf8).withUnsafeBytes {
      try parameters(template).values(of: $0)?.map { String(decoding: $0, as: UTF8.self) }
    }
  }

  @Test(
    "gives each column once, decoded",
    arguments: [
      ("user:{id}", "shop:user:42", ["42"]), ("rates", "shop:rates", []),
      ("order:{order_id}:item:{line_no}", "shop:order:7:item:2", ["7", "2"]),
      ("user:{id}", "shop:user:", [""]), ("user:{id}", "shop:user:a%3Ab", ["a:b"]),
      ("user:{name}", "shop:user:Zoë", ["Zoë"]), ("user:{name|urlencode}", "shop:user:Zo%C3%AB", ["Zoë"]),
      ("user:by-email:{email|lower}", "shop:user:by-email:ann@x", ["ann@x"]),
      ("{id}:of:{id}", "shop:3:of:3", ["3"]), ("{a}-{b}", "shop:1-2", ["1", "2"]),
    ])
  func decoded(template: String, key: String, expected: [String]) throws {
    #expect(try values(template, key) == expected)
  }

  @Test(
    "gives nothing for a key that no row has, or that can be read in two ways",
    arguments: [
      ("user:{id}", "shop:users:42"), ("user:{id}", "user:42"), ("user:{id}", "shop:user:4:2"),
      ("rates", "shop:rates2"), ("{id}:of:{id}", "shop:3:of:4"),
      // Two readings.
      ("{a}-{b}", "shop:1-2-3"), ("{a}{b}", "shop:12"), ("{a}aa{b}", "shop:aaa"),
      // Other spellings than Nearside's own.
      ("user:{id}", "shop:user:%61"), ("user:{id}", "shop:user:a%3ab"), ("user:{id}", "shop:user:a%3"),
      ("user:{id}", "shop:user:a%"), ("user:{id}", "shop:user:a*"),
      ("user:{name|urlencode}", "shop:user:Zoë"),
      ("user:by-email:{email|lower}", "shop:user:by-email:Ann@x"),
      // What PostgreSQL's text does not hold.
      ("user:{id}", "shop:user:%00"), ("user:{id}", "shop:user:%FF"),
    ])
  func refused(template: String, key: String) throws {
    #expect(try values(template, key) == nil)
  }

  @Test("one reading is told from several as counting all of them tells it")
  func readings() throws {
    let templates = ["{x}a{y}", "{x}ab{y}", "a{x}ba{y}b", "{x}a{y}b{z}", "{x}:a{y}", "{x}{y}b"]
    var keys = [""]
    for _ in 0..<6 { keys += keys.flatMap { [$0 + "a", $0 + "b", $0 + ":"] } }
    for template in templates {
      let parts = try parameters(template)
      for key in Set(keys) {
        let found = Array(("shop:" + key).utf8).withUnsafeBytes { parts.values(of: $0) }
        let count = readings(of: template[...], in: key[...])
        #expect((found != nil) == (count == 1), "\(template) \(key)")
      }
    }
  }

  private func readings(of template: Substring, in key: Substring) -> Int {
    guard let first = template.first else { return key.isEmpty ? 1 : 0 }
    guard first == "{" else {
      return key.first == first ? readings(of: template.dropFirst(), in: key.dropFirst()) : 0
    }
    let rest = template.drop { $0 != "}" }.dropFirst()
    var count = readings(of: rest, in: key)
    var key = key
    while let byte = key.popFirst(), byte != ":" { count += readings(of: rest, in: key) }
    return count
  }

  @Test("every text that a key can hold comes back", arguments: ["v:{a}", "v:{a|urlencode}"])
  func roundTrip(template: String) throws {
    let parts = try parameters(template)
    for scalar in (1...0x17f).compactMap(UnicodeScalar.init(_:)) {
      let value = Array("<\(Character(scalar))>".utf8)
      var key = Array("shop:v:".utf8)
      value.withUnsafeBytes { KeyText.append($0, urlencode: template.contains("|"), to: &key) }
      #expect(key.withUnsafeBytes { parts.values(of: $0) } == [value], "\(scalar)")
    }
  }

  @Test(
    "a spelling that only the type tells apart is not the row's key",
    arguments: [
      ("user:{id}", "shop:user:7", "7", 23, true), ("user:{id}", "shop:user:007", "7", 23, false),
      ("flag:{on}", "shop:flag:true", "t", 16, true), ("flag:{on}", "shop:flag:t", "t", 16, false),
      ("code:{c}", "shop:code:ab", "ab  ", 1042, true),
      // A type without a fixed oid, as citext and enums are.
      ("c:{c}", "shop:c:ann", "ann", 90_000, true), ("c:{c}", "shop:c:Ann", "Ann", 90_000, false),
      ("c:{c|raw}", "shop:c:Ann", "Ann", 90_000, true),
      ("mail:{e|lower}", "shop:mail:ann@x", "Ann@x", 25, true),
    ] as [(String, String, String, UInt32, Bool)])
  func canonical(template: String, key: String, printed: String, type: UInt32, expected: Bool) throws {
    let parts = try parameters(template)
    let isKey = Array(key.utf8).withUnsafeBytes {
      parts.isKey($0, of: [Array(printed.utf8)], types: [type])
    }
    #expect(isKey == expected)
  }

  @Test(
    "A value is known to be printed only in the one spelling of its type",
    arguments: [
      (
        20, ["0", "7", "-7", "9223372036854775807"],
        ["", "-", "007", "-0", "+7", " 7", "7 ", "0x7", "1_0", "1e1"]
      ),
      (25, ["", "007", "A b"], []), (1043, ["007"], []), (16, ["t", "f"], ["true", "T", "1", ""]),
      (1082, ["2026-02-03"], ["2026-2-3", "20260203", "0000-01-01", "2026-02-03 BC", "infinity"]),
      (
        2950, ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"],
        [
          "6BA7B810-9dad-11d1-80b4-00c04fd430c8", "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}",
          "6ba7b8109dad11d180b400c04fd430c8",
        ]
      ),
      (1700, [], ["1", "1.50"]), (1184, [], ["2026-02-03 00:00:00+00"]), (99_999, [], ["a"]),
    ] as [(UInt32, [String], [String])])
  func printed(_ type: UInt32, _ printed: [String], _ others: [String]) {
    for text in printed { #expect(KeyParameters.isPrinted(Array(text.utf8), type: type), "\(text)") }
    for text in others { #expect(!KeyParameters.isPrinted(Array(text.utf8), type: type), "\(text)") }
  }
}
