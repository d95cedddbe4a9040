import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Postgres

/// What an application writes into its keys for a value that it has read as JSON: an opinion of its own, for
/// comparison.
private func written(_ node: JSONNode, _ column: String) -> String? {
  var text: String
  switch node.value {
  case .null: return nil
  case .bool(let value): text = value ? "true" : "false"
  case .number(let number): text = number
  case .string(let string): text = string
  case .array, .object: return nil
  }
  if column == "ch" || column == "dom_ch" {
    while text.unicodeScalars.last == " " { text.unicodeScalars.removeLast() }
  }
  if column == "ci" || column == "dom_ci" || column == "low" { text = text.lowercased() }
  var key = ""
  for scalar in text.unicodeScalars {
    if scalar.value <= 0x20 || scalar.value == 0x7f || "%:{}\\*".unicodeScalars.contains(scalar) {
      let digits = String(scalar.value, radix: 16, uppercase: true)
      key += "%" + (digits.count < 2 ? "0" : "") + digits
    } else {
      key.unicodeScalars.append(scalar)
    }
  }
  return key
}

@Suite("Keys of every type")
struct KeyTypeTests {
  static let types: [(column: String, type: String)] = [
    ("i2", "smallint"), ("i4", "integer"), ("i8", "bigint"), ("txt", "text"), ("vc", "varchar(60)"),
    ("ci", "citext"), ("u", "uuid"), ("b", "boolean"), ("d", "date"), ("e", "mood"), ("ch", "char(12)"),
    ("num", "numeric"), ("nm", "name"), ("o", "oid"), ("dom", "amount"), ("dom_e", "feeling"),
    ("dom_ci", "mail"), ("dom_ch", "code"), ("dom_b", "flag"), ("low", "text"),
  ]
  static let moods = ["sad", "ok", "so so", "50%", "a:b", "Größe", "{x}*"]

  /// Text of up to `most` characters: plain, with delimiters, control characters, and from all planes.
  static func text(_ most: Int, _ random: inout SeededGenerator) -> String {
    let odd = Array("%:{}\\* \t\n\r\u{1}\u{1f}\u{7f}\"'/?&=+,".unicodeScalars)
    let far = Array("éÜßŁжΩ日本語한🙂👩‍🚀e\u{301}\u{2028}\u{a0}\u{feff}\u{10ffff}".unicodeScalars)
    var text = ""
    for _ in 0..<Int.random(in: 0...most, using: &random) {
      switch Int.random(in: 0..<10, using: &random) {
      case 0, 1: text.unicodeScalars.append(odd.randomElement(using: &random) ?? "x")
      case 2: text.unicodeScalars.append(far.randomElement(using: &random) ?? "x")
      default:
        let code = UInt8.random(in: 0x21...0x7e, using: &random)
        text.unicodeScalars.append(Unicode.Scalar(code))
      }
    }
    return text
  }

  static func value(_ column: String, _ random: inout SeededGenerator) -> String? {
    if Int.random(in: 0..<20, using: &random) == 0 { return nil }
    switch column {
    case "i2": return String(Int16.random(in: .min ... .max, using: &random))
    case "i4": return String(Int32.random(in: .min ... .max, using: &random))
    case "i8": return String(Int64.random(in: .min ... .max, using: &random))
    case "u":
      let digits = (0..<32).map { _ in "0123456789abcdefABCDEF".randomElement(using: &random) ?? "0" }
      return String(digits)
    case "b", "dom_b": return Bool.random(using: &random) ? "t" : "f"
    case "d":
      let day = Int.random(in: 1...28, using: &random)
      let month = Int.random(in: 1...12, using: &random)
      let year = Int.random(in: 1...99_999, using: &random)
      let some = ["infinity", "-infinity", "0044-03-15 BC", "2000-02-29", "5874897-12-31"]
      return Int.random(in: 0..<10, using: &random) == 0
        ? some.randomElement(using: &random)
        : "\(String(repeating: "0", count: max(0, 4 - String(year).count)))\(year)-\(month)-\(day)"
    case "e", "dom_e": return moods.randomElement(using: &random)
    case "ch", "dom_ch": return text(12, &random)
    case "num", "dom":
      let special = ["NaN", "Infinity", "-Infinity", "0", "-0", "1e-20", "1e30", "0.10", "00012.3400"]
      if Int.random(in: 0..<10, using: &random) == 0 { return special.randomElement(using: &random) }
      let digits = (0..<Int.random(in: 1...40, using: &random)).map { _ in
        "0123456789".randomElement(using: &random) ?? "0"
      }
      let fraction = Int.random(in: 0...12, using: &random)
      let sign = Bool.random(using: &random) ? "-" : ""
      return sign + String(digits) + "." + String(repeating: "7", count: fraction) + "0"
    case "nm": return text(15, &random)
    case "o": return String(UInt32.random(in: .min ... .max, using: &random))
    default: return text(30, &random)
    }
  }

  /// For COPY's text format. Source: PostgreSQL documentation, COPY, "Text Format".
  static func copied(_ value: String?) -> String {
    guard let value else { return "\\N" }
    var text = ""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\\": text += "\\\\"
      case "\t": text += "\\t"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      default: text.unicodeScalars.append(scalar)
      }
    }
    return text
  }

  @Test("Of 10,000 random rows the log, explain and an application make the same keys, inserted and deleted")
  func everyType() throws {
    let seed = UInt64.random(in: 0 ... .max)
    print("the seed of this run: \(seed)")
    var random = SeededGenerator(seed: seed)
    let count = 10_000
    let place = try Place()
    // What the server would print by itself is far from what keys hold.
    try place.server.psql(
      """
      ALTER DATABASE \(place.database) SET datestyle = 'SQL, DMY';
      ALTER DATABASE \(place.database) SET timezone = 'Asia/Kathmandu';
      """)
    try place.psql(
      """
      CREATE EXTENSION citext;
      CREATE TYPE mood AS ENUM (\(Self.moods.map { "'\($0)'" }.joined(separator: ", ")));
      CREATE DOMAIN amount AS numeric; CREATE DOMAIN feeling AS mood; CREATE DOMAIN mail AS citext;
      CREATE DOMAIN code AS char(12); CREATE DOMAIN flag AS boolean;
      CREATE TABLE t (n int PRIMARY KEY, \(Self.types.map { "\($0.column) \($0.type)" }.joined(separator: ", ")));
      ALTER TABLE t REPLICA IDENTITY FULL;
      CREATE PUBLICATION \(place.publication) FOR TABLE t;
      SELECT pg_create_logical_replication_slot('\(place.slot)', 'pgoutput');
      """)
    let templates = Self.types.map { "\($0.column):{n}:{\($0.column)\($0.column == "low" ? "|lower" : "")}" }
    let file = SourcePlace(line: 1, column: 1, length: 1)
    let rule = TableRule(
      schema: "public", name: "t", keys: try templates.map { try KeyTemplate.parse($0, place: file) },
      columns: nil, operations: Set(RowOperation.allCases), place: file)
    let plan = KeyPlan(tables: [rule], keyPrefix: "shop:")
    var copy = "SET datestyle = 'ISO, MDY'; COPY t FROM STDIN;\n"
    for number in 1...count {
      let values = Self.types.map { Self.copied(Self.value($0.column, &random)) }
      copy += ([String(number)] + values).joined(separator: "\t") + "\n"
    }
    try place.psql(copy + "\\.\n")

    let session = try place.sql()
    let catalogue = try #require(try Catalogue.read(publication: place.publication, session).first)
    #expect(plan.problems(with: catalogue).isEmpty)
    var applications: [String] = []
    var explained: [String] = []
    for row in try session.query("SELECT row_to_json(t)::text FROM public.t ORDER BY n") {
      let node = try #require(JSONReader.read(Array((row[0] ?? "").utf8)).node)
      let number = try #require(node["n"]?.number)
      var values: [String: String?] = ["n": number]
      for (column, _) in Self.types {
        let member = try #require(node[column])
        if let key = written(member, column) { applications.append("shop:\(column):\(number):\(key)") }
        values[column] = .some(member.string ?? member.number ?? member.bool.map { $0 ? "true" : "false" })
      }
      explained += plan.explain(table: 0, catalogue: catalogue, new: values, old: nil, operation: .insert)
        .compactMap(\.key)
    }
    #expect(applications.count > count * 18)
    compare(explained, applications, "explained, seed \(seed)")

    try place.psql("DELETE FROM t")
    var reader = LogReader(plan: plan, maximumKeys: .max)
    reader.learn(catalogue)
    var batch = KeyBatch()
    var stream = try place.stream()
    try stream.start(slot: place.slot, publication: place.publication)
    var found: [[String]] = []
    let deadline = monotonicNanoseconds() + 60_000_000_000
    while found.count < 2 {
      let left = try stream.drain(limit: 1000) { (message) throws(PgOutputError) in
        guard case .data(_, _, let payload) = message else { return true }
        guard case .committed(let commit) = try reader.read(payload, into: &batch) else { return true }
        batch.complete(through: commit.end)
        found.append(
          (0..<batch.count).map { batch.withKey($0) { key, _ in String(decoding: key, as: UTF8.self) } })
        batch.removeAll()
        return true
      }
      guard case .empty = left, found.count < 2 else { continue }
      guard waitForSocket(stream.descriptor, alsoWritable: stream.wantsToWrite, deadline: deadline) else {
        throw HarnessError("not in time")
      }
    }
    compare(found[0], applications, "inserted, seed \(seed)")
    compare(found[1].sorted(), applications.sorted(), "deleted, seed \(seed)")
  }

  /// Lists of this size are shown by their first difference.
  private func compare(_ some: [String], _ others: [String], _ what: String) {
    if let (one, other) = zip(some, others).first(where: { $0 != $1 }) {
      Issue.record("\(what): \(one) is not \(other)")
    }
    #expect(some.count == others.count, "\(what)")
  }
}
