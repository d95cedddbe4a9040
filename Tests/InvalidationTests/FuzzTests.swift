import Configuration
import Invalidation
import Testing

@Suite("Whatever bytes come")
struct FuzzTests {
  static let rules = [
    rule("users", ["user:{id}", "name:{name|lower}:{code}"], columns: ["bio"]),
    rule("orders", ["order:{id}:*"]),
  ]
  static let users = table(
    10, "users", identity: .full,
    [
      column("id", PgType.int8, key: true), column("name", PgType.citext, key: true),
      column("code", PgType.bpchar, key: true), column("bio", key: true),
    ])
  static let orders = table(20, "orders", [column("id", PgType.int8, key: true), column("note")])

  static func value(_ generator: inout SeededGenerator) -> PgOutput.Value {
    switch Int.random(in: 0..<8, using: &generator) {
    case 0: return .null
    case 1: return .unchanged
    case 2: return .text("Ünï:\(Int.random(in: 0..<9, using: &generator))")
    default:
      let count = Int.random(in: 0..<12, using: &generator)
      return .bytes((0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) })
    }
  }

  /// A message that is well-formed more often than not.
  static func message(_ generator: inout SeededGenerator, _ position: UInt64) -> [UInt8] {
    func row(_ id: UInt32, _ generator: inout SeededGenerator) -> [PgOutput.Value] {
      (0..<(id == 10 ? 4 : 2)).map { _ in value(&generator) }
    }
    let id: UInt32 = Bool.random(using: &generator) ? 10 : 20
    let tag: Character = Bool.random(using: &generator) ? "K" : "O"
    switch Int.random(in: 0..<14, using: &generator) {
    case 0: return PgOutput.begin(commit: position, xid: 7)
    case 1: return PgOutput.commit(position, end: position + 8)
    case 2: return PgOutput.truncate([10, 20], options: 1)
    case 3:
      let prefix = ["p", "nearside", "nearside.ddl", "nearside.invalidate"].randomElement(using: &generator)
      let count = Int.random(in: 0..<12, using: &generator)
      let noise = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
      return PgOutput.message(
        prefix ?? "", Array("shop:a\0shop:\0".utf8) + noise, transactional: Bool.random(using: &generator),
        at: position)
    case 4: return PgOutput.origin("o")
    case 5: return PgOutput.type(5, schema: "a", name: "b")
    case 6:
      return PgOutput.relation(
        10, name: "users", identity: Bool.random(using: &generator) ? "f" : "d",
        columns: users.columns.map { .init(name: $0.name, type: $0.type, isKey: $0.name == "id") })
    case 7, 8: return PgOutput.insert(id, row(id, &generator))
    case 9, 10: return PgOutput.update(id, row(id, &generator))
    case 11, 12: return PgOutput.update(id, old: row(id, &generator), tag: tag, row(id, &generator))
    default: return PgOutput.delete(id, tag: tag, row(id, &generator))
    }
  }

  @Test("nothing crashes the reader, and every key of a row is well-formed UTF-8 and short enough")
  func anything() {
    let seed = UInt64.random(in: 0 ... .max)
    print("the seed of this run: \(seed)")
    var generator = SeededGenerator(seed: seed)
    var understood = 0
    var keys = 0
    for _ in 0..<2_000 {
      var stream = Stream(Self.rules, maximumKeys: 20)
      _ = try? stream.describe(Self.users)
      _ = try? stream.describe(Self.orders)
      for step in UInt64(0)..<40 {
        var message = Self.message(&generator, 0x1000 + step / 10 * 0x100)
        switch Int.random(in: 0..<6, using: &generator) {
        case 0 where !message.isEmpty:
          message[Int.random(in: 0..<message.count, using: &generator)] ^= UInt8.random(
            in: 1...255, using: &generator)
        case 1 where message.count > 4:
          // A length that is a little or a lot too large.
          let at = Int.random(in: 0..<message.count - 3, using: &generator)
          message.replaceSubrange(
            at..<at + 4, with: PgOutput.big(UInt32.random(in: 0 ... .max, using: &generator)))
        case 2: message.removeLast(Int.random(in: 0...message.count, using: &generator))
        default: break
        }
        // The reader is fed on after errors too: it must stay sound whatever it has met.
        guard let event = try? stream.feed(message) else { continue }
        understood += 1
        if case .unknownRelation = event, Bool.random(using: &generator) { stream.reader.learn(Self.users) }
        if case .committed(let commit) = event { stream.batch.complete(through: commit.end) }
      }
      let openKeys = stream.batch.count - stream.batch.completeCount
      #expect(openKeys <= 20 + 4, "seed \(seed)")
      for index in 0..<stream.batch.count {
        stream.batch.withKey(index) { key, table in
          // What SQL names is taken as it is, if it lies in the namespace.
          let isFine =
            table == LogMessage.noTable
            ? key.starts(with: "shop:".utf8) : String(validating: key, as: UTF8.self) != nil
          #expect(isFine, "seed \(seed)")
          #expect(key.count <= PackedKeys.longestKey, "seed \(seed)")
        }
      }
      keys += stream.batch.count
    }
    // Otherwise the test has become blind.
    #expect(understood > 10_000)
    #expect(keys > 1_000)
  }
}
