import Configuration
import Invalidation
import Testing

/// What PostgreSQL 15 really sent, as `pg_logical_slot_get_binary_changes` gave it with proto_version 1 and
/// messages on, for this script:
///
/// ```sql
/// CREATE TABLE users (id bigint PRIMARY KEY, email citext, name text, active bool, code char(6), mood mood,
///   nick short, bio text);          -- mood: an enum; short: a domain over text; bio: STORAGE EXTERNAL
/// ALTER TABLE users REPLICA IDENTITY FULL;
/// CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL, total numeric);
/// CREATE TABLE events (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
/// INSERT INTO users VALUES (1, 'Ann@Example.org', 'Ann', true, 'ab', 'calm', 'a:b', repeat('x', 4000));
/// UPDATE users SET name = 'Anna' WHERE id = 1;
/// DELETE FROM users WHERE id = 1;
/// BEGIN; INSERT INTO orders VALUES (7, 1, 12.50); UPDATE orders SET total = 13.00 WHERE id = 7;
/// UPDATE orders SET id = 8 WHERE id = 7; DELETE FROM orders WHERE id = 8; COMMIT;
/// INSERT INTO events VALUES (1, '2024-05-01');
/// SELECT pg_logical_emit_message(true, 'nearside', '{"x":1}');
/// SELECT pg_logical_emit_message(false, 'nearside', 'loose');
/// BEGIN; TRUNCATE orders, other; INSERT INTO other VALUES (1); COMMIT;
/// TRUNCATE orders RESTART IDENTITY CASCADE;
/// -- and twice, under a replication origin:
/// INSERT INTO other VALUES (2);
/// ```
enum RecordedLog {
  /// One message a line, in hexadecimal; `{4000 x}` stands for as many bytes 0x78.
  private static let text = """
    4200000000015dedd8000303e602753f2f000002df
    59000040017075626c69630063697465787400
    590000406c7075626c6963006d6f6f6400
    590000406a007465787400
    52000040717075626c6963007573657273006600080169640000000014ffffffff01656d61696c0000004001ffffffff \
    016e616d650000000019ffffffff016163746976650000000010ffffffff01636f646500000004120000000a016d6f6f \
    64000000406cffffffff016e69636b000000406affffffff0162696f0000000019ffffffff
    49000040714e0008740000000131740000000f416e6e404578616d706c652e6f72677400000003416e6e740000000174 \
    7400000006616220202020740000000463616c6d7400000003613a627400000fa0{4000 x}
    430000000000015dedd800000000015dee08000303e602753f2f
    4200000000015dfea0000303e6027541a1000002e0
    55000040714f0008740000000131740000000f416e6e404578616d706c652e6f72677400000003416e6e740000000174 \
    7400000006616220202020740000000463616c6d7400000003613a627400000fa0{4000 x}4e00087400000001317400 \
    00000f416e6e404578616d706c652e6f72677400000004416e6e61740000000174740000000661622020202074000000 \
    0463616c6d7400000003613a6275
    430000000000015dfea000000000015dfed0000303e6027541a1
    4200000000015e0fa8000303e602754293000002e1
    44000040714f0008740000000131740000000f416e6e404578616d706c652e6f72677400000004416e6e617400000001 \
    747400000006616220202020740000000463616c6d7400000003613a627400000fa0{4000 x}
    430000000000015e0fa800000000015e0fd8000303e602754293
    4200000000015e11f0000303e6027544ba000002e2
    52000040787075626c6963006f7264657273006400030169640000000017ffffffff00757365725f69640000000017ff \
    ffffff00746f74616c00000006a4ffffffff
    49000040784e0003740000000137740000000131740000000531322e3530
    55000040784e0003740000000137740000000131740000000531332e3030
    55000040784b00037400000001376e6e4e0003740000000138740000000131740000000531332e3030
    44000040784b00037400000001386e6e
    430000000000015e11f000000000015e1220000303e6027544ba
    4200000000015e1300000303e602754602000002e3
    52000040847075626c6963006576656e74735f32303234006400020169640000000017ffffffff01646179000000043a \
    ffffffff
    49000040844e0002740000000131740000000a323032342d30352d3031
    430000000000015e130000000000015e1330000303e602754602
    4200000000015e1378000303e6027546d2000002e4
    4d0100000000015e13786e6561727369646500000000077b2278223a317d
    430000000000015e137800000000015e13a8000303e6027546d2
    4d0000000000015e13e86e6561727369646500000000056c6f6f7365
    4200000000015e2608000303e602754e00000002e5
    52000040787075626c6963006f7264657273006400030169640000000017ffffffff00757365725f69640000000017ff \
    ffffff00746f74616c00000006a4ffffffff
    52000040897075626c6963006f74686572006400010169640000000017ffffffff
    5400000002000000407800004089
    49000040894e0001740000000131
    430000000000015e260800000000015e2810000303e602754e00
    4200000000015e3378000303e6027553fe000002e6
    52000040787075626c6963006f7264657273006400030169640000000017ffffffff00757365725f69640000000017ff \
    ffffff00746f74616c00000006a4ffffffff
    54000000010300004078
    430000000000015e337800000000015e34e8000303e6027553fe
    4200000000015e37c00002b0d5d4e94000000002e8
    4f00000000000012346f00
    52000040897075626c6963006f74686572006400010169640000000017ffffffff
    49000040894e0001740000000132
    430000000000015e37c000000000015e38080002b0d5d4e94000
    4200000000015e38880002b0d5d4e94000000002e9
    4f00000000000012346f00
    49000040894e0001740000000133
    430000000000015e388800000000015e38d00002b0d5d4e94000
    """

  static let messages: [[UInt8]] = text.split(separator: "\n").map { line in
    var message: [UInt8] = []
    var rest = line
    while let brace = rest.firstIndex(of: "{"), let end = rest.firstIndex(of: "}") {
      message += bytes(hex: String(rest[..<brace])) + [UInt8](repeating: 0x78, count: 4000)
      rest = rest[rest.index(after: end)...]
    }
    return message + bytes(hex: String(rest))
  }

  /// The catalogue that belongs to it.
  static var catalogue: [CatalogueTable] {
    [
      table(
        16_497, "users", identity: .full,
        [
          column("id", PgType.int8, key: true), column("email", PgType.citext, key: true),
          column("name", key: true), column("active", PgType.bool, key: true),
          column("code", PgType.bpchar, key: true), column("mood", PgType.mood, key: true),
          column("nick", key: true),
          column("bio", key: true),
        ]),
      table(16_504, "orders", [column("id", 23, key: true), column("user_id", 23), column("total", 1700)]),
      table(
        16_516, "events_2024", root: "events", [column("id", 23, key: true), column("day", 1082, key: true)]),
      table(16_521, "other", [column("id", 23, key: true)]),
    ]
  }
}

@Suite("What a real PostgreSQL sent")
struct RecordedLogTests {
  static let rules = [
    rule(
      "users",
      ["user:{id}", "email:{email}", "a:{active}:{code}:{mood}:{nick}", "name:{name|lower}", "bio:{bio}"]),
    rule("orders", ["order:{id}"]),
    rule("events", ["event:{day}:{id}"]),
  ]

  @Test("every message is understood, and every key is found")
  func replay() throws {
    var stream = Stream(Self.rules)
    for table in RecordedLog.catalogue { stream.reader.learn(table) }
    var transactions: [(commit: Commit, keys: [String], events: [LogEvent])] = []
    var loose: [LogEvent] = []
    var inside: [LogEvent]?
    for message in RecordedLog.messages {
      let event = try stream.feed(message)
      switch event {
      case .began: inside = []
      case .committed(let commit):
        transactions.append((commit, stream.keys(), inside ?? []))
        inside = nil
      case .nothing: break
      default: if inside == nil { loose.append(event) } else { inside?.append(event) }
      }
    }
    let bio = "shop:bio:" + String(repeating: "x", count: 4000)
    let shared = ["shop:user:1", "shop:email:ann@example.org", "shop:a:true:ab:calm:a%3Ab"]
    let truncated = LogEvent.doubt(.truncated(table: "public.orders"))
    #expect(
      transactions.map(\.keys) == [
        shared + ["shop:name:ann", bio],
        shared + ["shop:name:anna", "shop:name:ann", bio],
        shared + ["shop:name:anna", bio],
        ["shop:order:7", "shop:order:8"],
        ["shop:event:2024-05-01:1"],
        [], [], [], [], [],
      ])
    #expect(
      transactions.map(\.events) == [
        [.rows], [.rows], [.rows], [.rows, .rows, .rows, .rows], [.rows], [], [truncated], [truncated], [],
        [],
      ])
    // Two messages with the prefix "nearside", one of them outside a transaction: nudges.
    #expect(loose == [])
    #expect(transactions.map(\.commit.transaction) == [735, 736, 737, 738, 739, 740, 741, 742, 744, 745])
    #expect(transactions.first?.commit.end == LSN("0/15DEE08"))
    #expect(transactions.last?.commit.end == LSN("0/15E38D0"))
    // 2024-01-01 00:00 UTC, as the replication origin's session said.
    #expect(transactions.last?.commit.committedAt == 757_382_400_000_000)
  }

  @Test("tables that were never learnt are asked for when their Relation comes")
  func unknown() throws {
    var stream = Stream(Self.rules)
    var asked: [String] = []
    for message in RecordedLog.messages {
      guard case .unknownRelation(let id, _, let name) = try stream.feed(message) else { continue }
      asked.append(name)
      if let table = RecordedLog.catalogue.first(where: { $0.id == id }) { stream.reader.learn(table) }
      #expect(try stream.feed(message) == .nothing)
    }
    #expect(asked == ["users", "orders", "events_2024", "other"])
  }

  @Test("cut at any byte, each message is refused", arguments: RecordedLog.messages.indices)
  func cut(index: Int) throws {
    let message = RecordedLog.messages[index]
    // Long values are alike at every byte; the ends of a message are where it differs.
    let lengths = message.count < 600 ? Array(0..<message.count) : Array(0..<300) + [message.count - 1]
    for length in lengths {
      var stream = Stream(Self.rules)
      for table in RecordedLog.catalogue { stream.reader.learn(table) }
      for earlier in RecordedLog.messages[..<index] { _ = try stream.feed(earlier) }
      #expect(throws: PgOutputError.self) { try stream.feed(Array(message[..<length])) }
    }
  }
}
