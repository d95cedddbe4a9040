import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Postgres

/// A random condition, written in the configuration's language and in SQL.
private indirect enum Wish {
  case all([Wish])
  case any([Wish])
  case not(Wish)
  /// `$1` and `$2` in the text stand for columns.
  case atom(String, [(image: String, name: String)])
  case changed([String])

  /// What SQL is to compute.
  enum Mode {
    /// For an UPDATE, with bare columns of this row.
    case change(either: String)
    /// One row, with all that compares the two unknown.
    case row(String)
    /// For INSERT or DELETE: only this row is there.
    case only(String)
  }

  var text: String {
    switch self {
    case .all(let parts): "(" + parts.map(\.text).joined(separator: " and ") + ")"
    case .any(let parts): "(" + parts.map(\.text).joined(separator: " or ") + ")"
    case .not(let part): "not " + part.text
    case .changed(let names): "changed(" + names.joined(separator: ", ") + ")"
    case .atom(let text, let columns):
      Self.filled(text, columns.map { $0.image.isEmpty ? $0.name : "\($0.image).\($0.name)" })
    }
  }

  func sql(_ mode: Mode) -> String {
    switch self {
    case .all(let parts): return "(" + parts.map { $0.sql(mode) }.joined(separator: " AND ") + ")"
    case .any(let parts): return "(" + parts.map { $0.sql(mode) }.joined(separator: " OR ") + ")"
    case .not(let part): return "(NOT \(part.sql(mode)))"
    case .changed(let names):
      guard case .change = mode else { return "NULL::boolean" }
      return "(" + names.map { "old.\($0)::text IS DISTINCT FROM new.\($0)::text" }.joined(separator: " OR ")
        + ")"
    case .atom(let text, let columns):
      let images = Set(columns.map(\.image))
      let read: [String]
      switch mode {
      case .change(let either): read = columns.map { ($0.image.isEmpty ? either : $0.image) + "." + $0.name }
      case .row(let row):
        guard images.count == 1 else { return "NULL::boolean" }
        read = columns.map { row + "." + $0.name }
      case .only(let row):
        guard images.isSubset(of: ["", row]) else { return "NULL::boolean" }
        read = columns.map { row + "." + $0.name }
      }
      return "(" + Self.filled(text, read) + ")"
    }
  }

  /// Whether one row alone tells nothing of some part of it, and the other row does.
  var becomesKnown: String {
    switch self {
    case .all(let parts), .any(let parts):
      return "(" + parts.map(\.becomesKnown).joined(separator: " OR ") + ")"
    case .not(let part): return part.becomesKnown
    case .changed: return "FALSE"
    case .atom: return "(\(sql(.row("old"))) IS NULL) <> (\(sql(.row("new"))) IS NULL)"
    }
  }

  private static func filled(_ text: String, _ columns: [String]) -> String {
    var text = text
    for (index, column) in columns.enumerated() { text = text.replacing("$\(index + 1)", with: column) }
    return text
  }

  static func random(_ depth: Int, _ random: inout SeededGenerator) -> Wish {
    switch depth == 0 ? 9 : Int.random(in: 0..<10, using: &random) {
    case 0, 1:
      return .all((0..<Int.random(in: 2...3, using: &random)).map { _ in Self.random(depth - 1, &random) })
    case 2, 3:
      return .any((0..<Int.random(in: 2...3, using: &random)).map { _ in Self.random(depth - 1, &random) })
    case 4: return .not(Self.random(depth - 1, &random))
    case 5:
      let names = ["a", "b", "c", "d", "e", "g", "big", "k"].shuffled(using: &random)
      return .changed(Array(names.prefix(Int.random(in: 1...3, using: &random))))
    default: return leaf(&random)
    }
  }

  private static func leaf(_ random: inout SeededGenerator) -> Wish {
    func pick(_ options: [String]) -> String { options.randomElement(using: &random) ?? "" }
    func quoted(_ options: [String]) -> String { "'" + pick(options).replacing("'", with: "''") + "'" }
    let images = ["new", "new", "old", "", ""]
    let image = pick(images)
    let other = Bool.random(using: &random) ? image : pick(images)
    let order = ["=", "<>", "!=", "<", "<=", ">", ">=", "is distinct from", "is not distinct from"]
    let equality = ["=", "<>", "is distinct from", "is not distinct from"]
    let not = pick(["", "not "])
    let number = pick(["0", "1", "-1.5", "1.50", "2e0", ".5", "100000000000000000000.5", "-3"])
    switch Int.random(in: 0..<14, using: &random) {
    case 0, 1: return .atom("$1 \(pick(order)) \(number)", [(image, pick(["a", "b", "f"]))])
    case 2: return .atom("\(number) \(pick(order)) $1", [(image, pick(["a", "b"]))])
    case 3:
      return .atom("$1 \(pick(order)) $2", [(image, pick(["a", "b"])), (other, pick(["a", "b", "f"]))])
    case 4:
      return .atom(
        "$1 \(not)between \(number) and \(pick(["0", "2", "10.25"]))", [(image, pick(["a", "b"]))])
    case 5: return .atom("$1 \(not)in (\(number), 0, 3)", [(image, pick(["a", "b"]))])
    case 6: return .atom("$1 \(pick(equality)) \(quoted(ConditionTests.texts))", [(image, "c")])
    case 7: return .atom("$1 \(not)in (\(quoted(ConditionTests.texts)), 'ab')", [(image, pick(["c", "e"]))])
    case 8:
      return .atom("$1 \(not)like \(quoted(ConditionTests.patterns))", [(image, pick(["c", "e", "big"]))])
    case 9:
      return .atom("$1 is \(not)null", [(image, pick(["a", "b", "c", "d", "e", "g", "i", "big"]))])
    case 10:
      let test = pick([
        "", " = true", " <> false", " is true", " is not true", " is false", " is not false", " = 't'",
      ])
      return .atom("$1" + test, [(image, "d")])
    case 11:
      let name = pick(["a", "c", "d", "e", "g", "i"])
      return .atom("$1 \(pick(equality)) $2", [(image, name), (other, name)])
    case 12: return .atom("$1 \(pick(equality)) \(quoted(["ok", "sad"]))", [(image, "g")])
    default: return .atom("$1 \(pick(equality)) \(quoted(["Ann", "ANN", "bob"]))", [(image, "i")])
    }
  }
}

@Suite("Conditions of rows mean what PostgreSQL means by them")
struct ConditionTests {
  static let texts = ["", "a", "ab", "Ab", "a%b", "a_b", "äb", "日本", "ab ", "it's", "a\\b"]
  static let patterns = [
    "a%", "%b", "_b", "a\\%b", "a\\_b", "%", "_", "__", "%_b%", "日_", "", "a\\\\b", "%a%b%", "xx%xx",
  ]
  private static let names = ["a", "b", "c", "d", "e", "f", "g", "i", "k", "big"]

  private static func value(_ name: String, _ random: inout SeededGenerator) -> String {
    let options: [String] =
      switch name {
      case "a", "f": ["-3", "0", "1", "2"]
      case "b":
        ["-1.50", "0", "0.0", "1.5", "1.50", "1", "10.25", "100000000000000000000.5", "'NaN'", "'Infinity'"]
      case "c": texts.map { "'" + $0.replacing("'", with: "''") + "'" }
      case "d": ["true", "false"]
      case "e": ["'a'", "'ab'", "'ab  '", "' a'"]
      case "g": ["'ok'", "'sad'", "'so so'"]
      case "i": ["'Ann'", "'ann'", "'Bob'"]
      case "k": ["1", "1", "1", "2"]
      default: ["repeat('x', 3000)", "repeat('xy', 2000)", "'short'"]
      }
    let canBeNull = name != "k" && Int.random(in: 0..<6, using: &random) == 0
    return canBeNull ? "NULL" : options.randomElement(using: &random) ?? "NULL"
  }

  @Test("500 random conditions on 120 rows inserted, updated and deleted: what clears is what SQL says")
  func random() throws {
    let seed = UInt64.random(in: 0 ... .max)
    print("the seed of this run: \(seed)")
    var random = SeededGenerator(seed: seed)
    let place = try Place()
    let columns = """
      n int PRIMARY KEY, a int, b numeric, c text, d boolean, e char(4), f bigint, g mood, i citext, k int, big text
      """
    func rows(_ count: Int, big: Bool) -> String {
      (1...count).map { number in
        let values = Self.names.filter { big || $0 != "big" }.map { Self.value($0, &random) }
        return "(" + ([String(number)] + values).joined(separator: ", ") + ")"
      }.joined(separator: ",\n")
    }
    let set = Self.names.filter { $0 != "big" }.map { "\($0) = news.\($0)" }.joined(separator: ", ")
    try place.psql(
      """
      CREATE EXTENSION citext;
      CREATE TYPE mood AS ENUM ('sad', 'ok', 'so so');
      CREATE TABLE t (\(columns)); CREATE TABLE olds (\(columns)); CREATE TABLE news (\(columns));
      ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
      CREATE PUBLICATION \(place.publication) FOR TABLE t;
      INSERT INTO olds VALUES \(rows(120, big: true));
      INSERT INTO news (n, \(Self.names.dropLast().joined(separator: ", "))) VALUES \(rows(120, big: false));
      UPDATE news SET big = olds.big FROM olds WHERE olds.n = news.n;
      """)
    try place.psql("SELECT pg_create_logical_replication_slot('\(place.slot)', 'pgoutput')")
    try place.psql("INSERT INTO t SELECT * FROM olds")
    // The large value is not touched, so the log does not send it.
    try place.psql("UPDATE t SET \(set) FROM news WHERE news.n = t.n")
    try place.psql("DELETE FROM t")
    let session = try place.sql()
    let catalogue = try #require(try Catalogue.read(publication: place.publication, session).first)
    let messages = try session.query(
      """
      SELECT encode(data, 'hex') FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1',
        'publication_names', $2)
      """, [place.slot, place.publication]
    ).map { Self.bytes($0[0] ?? "") }
    try place.psql("SELECT pg_drop_replication_slot('\(place.slot)')")
    #expect(messages.count > 360)

    // Where citext has its operators; without them its values would be compared as texts.
    _ = try session.query("SET search_path TO public")
    let here = SourcePlace(line: 1, column: 1, length: 1)
    var cleared = 0
    for _ in 0..<500 {
      let wish = Wish.random(3, &random)
      let rule = TableRule(
        schema: "public", name: "t", keys: [try KeyTemplate.parse("{n}:{k}", place: here)], columns: nil,
        operations: Set(RowOperation.allCases), when: try RowCondition.parse(wish.text, place: here),
        place: here)
      let plan = KeyPlan(tables: [rule], keyPrefix: "")
      #expect(plan.problems(with: catalogue).isEmpty, "\(wish.text): \(plan.problems(with: catalogue))")
      let found = try Self.cleared(by: messages, plan, catalogue)
      func counts(_ mode: Wish.Mode) -> String { "\(wish.sql(mode)) IS NOT FALSE" }
      let expected = try [
        "SELECT n FROM public.olds AS new WHERE \(counts(.only("new")))",
        """
        SELECT old.n FROM public.olds AS old JOIN public.news AS new ON old.n = new.n
        WHERE \(counts(.change(either: "new"))) OR \(counts(.change(either: "old")))
          OR (\(counts(.row("old")))) <> (\(counts(.row("new"))))
          OR (\(counts(.row("new"))) AND (old.k <> new.k OR \(wish.becomesKnown)))
        """,
        "SELECT n FROM public.news AS old WHERE \(counts(.only("old")))",
      ].map { sql in Set(try session.query(sql).compactMap { $0[0] }) }
      for (number, what) in ["INSERT", "UPDATE", "DELETE"].enumerated() {
        let wrong = found[number].symmetricDifference(expected[number]).sorted()
        #expect(wrong.isEmpty, "\(what) of rows \(wrong): \(wish.text), seed \(seed)")
        cleared += found[number].count
      }
    }
    // A test in which nothing or everything is cleared would show nothing.
    #expect((30_000..<160_000).contains(cleared), "\(cleared) of 180,000")
  }

  /// The numbers of the rows whose keys each transaction with rows clears.
  private static func cleared(
    by messages: [[UInt8]], _ plan: KeyPlan, _ catalogue: CatalogueTable
  ) throws -> [Set<String>] {
    var reader = LogReader(plan: plan, maximumKeys: .max)
    reader.learn(catalogue)
    var batch = KeyBatch()
    var found: [Set<String>] = []
    for message in messages {
      let event = try message.withUnsafeBytes { try reader.read($0, into: &batch) }
      if case .doubt(let doubt) = event { Issue.record("\(doubt)") }
      guard case .committed(let commit) = event else { continue }
      batch.complete(through: commit.end)
      found.append(
        Set(
          (0..<batch.count).map { index in
            batch.withKey(index) { key, _ in
              String(decoding: key.prefix { $0 != UInt8(ascii: ":") }, as: UTF8.self)
            }
          }))
      batch.removeAll()
    }
    return found
  }

  private static func bytes(_ hex: String) -> [UInt8] {
    var bytes: [UInt8] = []
    var digits = hex.utf8.makeIterator()
    while let high = digits.next(), let low = digits.next() {
      bytes.append(UInt8(digit(high) << 4 | digit(low)))
    }
    return bytes
  }

  private static func digit(_ byte: UInt8) -> Int {
    byte <= UInt8(ascii: "9") ? Int(byte) - 0x30 : Int(byte) - 0x61 + 10
  }
}
