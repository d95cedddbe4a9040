import Configuration
import Invalidation
import Testing

@Suite("Values inside keys")
struct KeyTextTests {
  func encoded(_ value: [UInt8], urlencode: Bool = false) -> String {
    var key: [UInt8] = []
    value.withUnsafeBytes { KeyText.append($0, urlencode: urlencode, to: &key) }
    return String(validating: key, as: UTF8.self) ?? "not UTF-8: \(key)"
  }

  @Test("every ASCII character is either copied or written as two upper-case digits")
  func ascii() {
    let escaped = Set("%:{}\\ *".utf8).union(0...0x1f).union([0x7f])
    let unreserved = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~".utf8)
    for byte in UInt8(0)..<0x80 {
      let digits = "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
      let itself = String(UnicodeScalar(byte))
      #expect(encoded([byte]) == (escaped.contains(byte) ? digits : itself))
      #expect(encoded([byte], urlencode: true) == (unreserved.contains(byte) ? itself : digits))
    }
  }

  @Test("UTF-8 is copied, what is not UTF-8 is written byte for byte; urlencode writes both")
  func utf8() {
    #expect(encoded(Array("grün:日本:🙂".utf8)) == "grün%3A日本%3A🙂")
    #expect(encoded(Array("ü a".utf8), urlencode: true) == "%C3%BC%20a")
    #expect(encoded([0x61, 0xff, 0x62]) == "a%FFb")
    #expect(encoded([0xc3]) == "%C3")
    #expect(encoded([0xc3, 0x28]) == "%C3(")
    #expect(encoded([0xe2, 0x82]) == "%E2%82")
    #expect(encoded([0xc0, 0xaf]) == "%C0%AF")  // overlong
    #expect(encoded([0xed, 0xa0, 0x80]) == "%ED%A0%80")  // surrogate
    #expect(encoded([0xf4, 0x90, 0x80, 0x80]) == "%F4%90%80%80")  // beyond U+10FFFF
    #expect(encoded([0xf0, 0x9f, 0x99, 0x82]) == "🙂")
  }

  @Test("what is copied is well-formed for whatever bytes, and no two values give the same text")
  func injective() {
    var generator = SeededGenerator(seed: 42)
    var seen: [String: [UInt8]] = [:]
    for _ in 0..<20_000 {
      let value = (0..<Int.random(in: 0...4, using: &generator)).map { _ in
        [0x25, 0x33, 0x41, 0x3a, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0][
          Int.random(in: 0..<10, using: &generator)]
          as UInt8
      }
      let text = encoded(value)
      #expect(!text.hasPrefix("not UTF-8"))
      if let other = seen.updateValue(value, forKey: text) { #expect(other == value) }
    }
  }

  /// The key that `{v}` with the filters gives for a value of a column of the type.
  func key(_ type: UInt32, _ value: PgOutput.Value, _ filters: String = "") throws -> String? {
    var stream = Stream([rule("t", ["{v\(filters)}"])], prefix: "")
    try stream.describe(table(1, "t", identity: .full, [column("v", type, key: true)]))
    try stream.transaction([PgOutput.insert(1, [value])])
    return stream.keys().first
  }

  @Test("each type is written as applications write it")
  func types() throws {
    #expect(try key(PgType.bool, "t") == "true")
    #expect(try key(PgType.bool, "f") == "false")
    #expect(try key(PgType.text, "t") == "t")
    #expect(try key(PgType.bpchar, "ab  ") == "ab")
    #expect(try key(PgType.bpchar, "a b ") == "a%20b")
    #expect(try key(PgType.bpchar, "   ") == "")
    #expect(try key(PgType.text, "ab  ") == "ab%20%20")
    #expect(try key(PgType.citext, "Ann@Example.ORG") == "ann@example.org")
    #expect(try key(PgType.mood, "Calm") == "Calm")
    #expect(try key(PgType.int8, "-7") == "-7")
    #expect(try key(1700, "12.50") == "12.50")
    #expect(try key(1082, "2024-05-01") == "2024-05-01")
    #expect(try key(2950, "0b9f0c5e-8e5b-4b7e-9d55-5a2d8c1c9b11") == "0b9f0c5e-8e5b-4b7e-9d55-5a2d8c1c9b11")
    #expect(try key(PgType.timestamptz, "2024-05-01 10:00:00+00") == nil)
    #expect(try key(PgType.text, "") == "")
    #expect(try key(PgType.text, nil) == nil)
  }

  @Test("filters: lower, urlencode, raw, and together")
  func filters() throws {
    #expect(try key(PgType.text, "ÄÖ Ab", "|lower") == "äö%20ab")
    #expect(try key(PgType.text, "AB-z", "|lower") == "ab-z")
    #expect(try key(PgType.text, .bytes([0x41, 0xff]), "|lower") == "a%FF")
    #expect(try key(PgType.text, "a/b ü", "|urlencode") == "a%2Fb%20%C3%BC")
    #expect(try key(PgType.text, "A/Ü", "|lower|urlencode") == "a%2F%C3%BC")
    #expect(try key(PgType.timestamptz, "2024-05-01 10:00:00+00", "|raw") == "2024-05-01%2010%3A00%3A00+00")
    #expect(try key(PgType.bool, "t", "|raw") == "t")
    #expect(try key(PgType.bpchar, "ab ", "|raw") == "ab%20")
    #expect(try key(PgType.citext, "Ann", "|raw") == "Ann")
    #expect(try key(PgType.citext, "Ann", "|raw|lower") == "ann")
  }

  @Test("a domain is written like the type beneath it, which the catalogue knows")
  func domains() throws {
    var stream = Stream([rule("t", ["{v}"])], prefix: "")
    var known = column("v", PgType.citext, key: true)
    known.typeName = "citext"
    stream.reader.learn(table(1, "t", identity: .full, [known]))
    _ = try stream.feed(
      PgOutput.relation(1, name: "t", identity: "f", columns: [.init(name: "v", type: PgType.domain)]))
    try stream.transaction([PgOutput.insert(1, ["AbC"])])
    #expect(stream.keys() == ["abc"])
  }

  @Test("data cannot forge a delimiter")
  func injection() throws {
    var stream = Stream([rule("t", ["{a}:{b}"])], prefix: "")
    try stream.describe(table(1, "t", identity: .full, [column("a", key: true), column("b", key: true)]))
    try stream.transaction([PgOutput.insert(1, ["a:1", "2"]), PgOutput.insert(1, ["a", "1:2"])])
    #expect(stream.keys() == ["a%3A1:2", "a:1%3A2"])
  }
}

/// Small, quick and the same everywhere: SplitMix64 by Sebastiano Vigna.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
