import Invalidation
import Testing

@Suite("Messages of the replication stream")
struct PgOutputMessageTests {
  static let users = table(10, "users", [column("id", PgType.int8, key: true), column("name")])

  static func stream() throws -> Stream {
    var stream = Stream([rule("users", ["user:{id}"])])
    try stream.describe(users)
    return stream
  }

  @Test("begin and commit name the transaction, its end and its time")
  func transactionEnds() throws {
    var stream = Stream([])
    #expect(
      try stream.feed(PgOutput.begin(commit: 0x500, xid: 4_000_000_000)) == .began(transaction: 4_000_000_000)
    )
    let commit = try stream.feed(PgOutput.commit(0x500, end: 0x530, at: -5))
    #expect(
      commit
        == .committed(
          Commit(transaction: 4_000_000_000, record: LSN(0x500), end: LSN(0x530), committedAt: -5)))
  }

  @Test("origin, type and rows of tables without a rule are nothing to us")
  func nothing() throws {
    var stream = Stream([])
    try stream.describe(Self.users)
    let events = try stream.transaction([
      PgOutput.origin("elsewhere"), PgOutput.type(16_385, schema: "public", name: "citext"),
      PgOutput.insert(10, ["1", "Ann"]), PgOutput.update(10, ["1", "Bob"]), PgOutput.delete(10, ["1", nil]),
      PgOutput.truncate([10], options: 3),
    ])
    #expect(events.allSatisfy { $0 == .nothing })
    #expect(stream.keys() == [])
  }

  @Test("a logical message is handed on, inside a transaction or outside any")
  func logicalMessages() throws {
    var stream = Stream([])
    let loose = PgOutput.message("other", [1, 0, 255], transactional: false, at: 0x99)
    let event = LogEvent.message(
      prefix: "other", content: [1, 0, 255], transactional: false, at: LSN(0x99))
    #expect(try stream.feed(loose) == event)
    let inside = PgOutput.message("", [], transactional: true, at: 0x1000)
    let events = try stream.transaction([inside])
    #expect(events == [.message(prefix: "", content: [], transactional: true, at: LSN(0x1000))])
    #expect(throws: PgOutputError.self) { try stream.feed(inside) }
  }

  /// One of each message, all of which a reader in an open transaction takes.
  static let all: [(name: String, bytes: [UInt8])] = [
    ("Commit", PgOutput.commit(0x1000, end: 0x1030, at: 9)),
    ("Origin", PgOutput.origin("elsewhere")),
    ("Type", PgOutput.type(16_385, schema: "public", name: "citext")),
    (
      "Relation",
      PgOutput.relation(
        10, name: "users",
        columns: [.init(name: "id", type: 20, isKey: true), .init(name: "name", type: 25)])
    ),
    ("Insert", PgOutput.insert(10, ["1", nil])),
    ("Update", PgOutput.update(10, ["1", .unchanged])),
    ("Update with key", PgOutput.update(10, old: ["1", nil], tag: "K", ["2", "Ann"])),
    ("Update with row", PgOutput.update(10, old: ["1", "Ann"], tag: "O", ["2", "Ann"])),
    ("Delete by key", PgOutput.delete(10, tag: "K", ["1", nil])),
    ("Delete by row", PgOutput.delete(10, tag: "O", ["1", "Ann"])),
    ("Truncate", PgOutput.truncate([10, 10], options: 1)),
    ("Message", PgOutput.message("nearside", [1, 2, 3], transactional: true, at: 0x1000)),
  ]

  @Test("every message is refused when it ends too early, at whatever byte", arguments: all.indices)
  func truncatedAnywhere(index: Int) throws {
    let message = Self.all[index].bytes
    var whole = try Self.stream()
    _ = try whole.feed(PgOutput.begin(commit: 0x1000, xid: 1))
    _ = try whole.feed(message)
    for length in 0..<message.count {
      var stream = try Self.stream()
      _ = try stream.feed(PgOutput.begin(commit: 0x1000, xid: 1))
      do throws(PgOutputError) {
        let event = try stream.feed(Array(message[..<length]))
        Issue.record("\(Self.all[index].name) of \(length) bytes gave \(event)")
      } catch {
        guard case .truncated(let at) = error else {
          Issue.record("\(Self.all[index].name) of \(length) bytes: \(error)")
          continue
        }
        #expect(at <= length)
      }
    }
  }

  @Test("begin is refused when it ends too early, at whatever byte")
  func truncatedBegin() {
    let message = PgOutput.begin(commit: 0x1000, xid: 1)
    for length in 0..<message.count {
      var stream = Stream([])
      #expect(throws: PgOutputError.self) { try stream.feed(Array(message[..<length])) }
    }
  }

  @Test("every message is refused when it goes on after its end", arguments: all.indices)
  func trailing(index: Int) throws {
    let message = Self.all[index].bytes
    var stream = try Self.stream()
    _ = try stream.feed(PgOutput.begin(commit: 0x1000, xid: 1))
    #expect(throws: PgOutputError.trailingBytes(at: message.count)) { try stream.feed(message + [0]) }
  }

  @Test("an unknown kind of message is refused")
  func unknownMessages() {
    let known = Set("BCORYIUDTM".utf8)
    for tag in UInt8.min...UInt8.max where !known.contains(tag) {
      var stream = Stream([])
      #expect(throws: PgOutputError.unknownTag(tag, at: 0)) {
        try stream.feed([tag] + [UInt8](repeating: 0, count: 64))
      }
    }
  }

  @Test("unknown kinds of tuples, values and identities are refused where they stand")
  func unknownTags() throws {
    func refused(_ message: [UInt8], _ error: PgOutputError, _ comment: Comment) throws {
      var stream = try Self.stream()
      _ = try stream.feed(PgOutput.begin(commit: 0x1000, xid: 1))
      #expect(throws: error, comment) { try stream.feed(message) }
    }
    func changed(_ message: [UInt8], _ at: Int, _ byte: Character) -> [UInt8] {
      var message = message
      message[at] = byte.asciiValue ?? 0
      return message
    }
    let x = UInt8(ascii: "x")
    try refused(changed(PgOutput.insert(10, ["1", nil]), 5, "x"), .unknownTag(x, at: 5), "insert")
    try refused(changed(PgOutput.update(10, ["1", nil]), 5, "x"), .unknownTag(x, at: 5), "update")
    let withOld = PgOutput.update(10, old: ["1", nil], ["1", nil])
    try refused(changed(withOld, 15, "x"), .unknownTag(x, at: 15), "second tuple of an update")
    let n = UInt8(ascii: "N")
    try refused(changed(PgOutput.delete(10, ["1", nil]), 5, "N"), .unknownTag(n, at: 5), "delete")
    try refused(changed(PgOutput.insert(10, ["1", nil]), 8, "x"), .unknownTag(x, at: 8), "value")
    try refused(PgOutput.insert(10, [.binary([1]), nil]), .binaryValue(at: 8), "binary value")
    let identity = PgOutput.relation(10, name: "users", identity: "x", columns: [])
    try refused(identity, .unknownTag(x, at: 18), "replica identity")
  }

  @Test("absurd lengths and counts are refused")
  func absurdLengths() throws {
    func refused(_ message: [UInt8], _ error: PgOutputError, _ comment: Comment) throws {
      var stream = try Self.stream()
      _ = try stream.feed(PgOutput.begin(commit: 0x1000, xid: 1))
      #expect(throws: error, comment) { try stream.feed(message) }
    }
    func insert(_ tuple: [UInt8]) -> [UInt8] {
      [UInt8(ascii: "I")] + PgOutput.big(UInt32(10)) + [UInt8(ascii: "N")] + tuple
    }
    let t = UInt8(ascii: "t")
    let two = PgOutput.big(UInt16(2))
    try refused(insert(two + [t, 0x7f, 255, 255, 255, 49]), .truncated(at: 13), "2 GiB value")
    try refused(insert(two + [t, 255, 255, 255, 255, 49]), .badLength(at: 9), "negative value")
    try refused(insert(two + [t, 128, 0, 0, 0, 49]), .badLength(at: 9), "most negative value")
    try refused(insert([0xff, 0xff]), .badLength(at: 6), "negative number of columns")
    try refused(insert([0x7f, 0xff]), .badLength(at: 6), "more columns than the relation has")
    try refused(PgOutput.insert(10, ["1"]), .badLength(at: 6), "fewer columns than the relation has")
    let relation = PgOutput.relation(10, name: "users", columns: [])
    try refused(relation.dropLast(2) + [0x80, 0], .badLength(at: 19), "negative number of columns")
    try refused(relation.dropLast(2) + [0x7f, 0xff], .truncated(at: 21), "columns that are not there")
    let truncate = PgOutput.truncate([])
    try refused([truncate[0], 0xff, 0, 0, 0, 0], .badLength(at: 1), "negative number of relations")
    try refused([truncate[0], 0x7f, 0, 0, 0, 0], .truncated(at: 6), "relations that are not there")
    let message = PgOutput.message("", [], transactional: false, at: 1)
    try refused(message.dropLast(4) + [0xff, 0, 0, 0], .badLength(at: 11), "negative content")
    try refused(message.dropLast(4) + [0x7f, 0, 0, 0], .truncated(at: 15), "content that is not there")
  }

  @Test("what does not fit what came before is refused")
  func outOfOrder() throws {
    func refused(_ messages: [[UInt8]], _ comment: Comment) throws {
      var stream = try Self.stream()
      for message in messages.dropLast() { _ = try stream.feed(message) }
      do throws(PgOutputError) {
        _ = try stream.feed(messages[messages.count - 1])
        Issue.record(comment)
      } catch {
        guard case .outOfOrder = error else {
          Issue.record("\(comment): \(error)")
          return
        }
      }
    }
    let begin = PgOutput.begin(commit: 0x1000, xid: 1)
    let commit = PgOutput.commit(0x1000, end: 0x1030)
    try refused([PgOutput.insert(10, ["1", nil])], "insert outside a transaction")
    try refused([PgOutput.update(10, ["1", nil])], "update outside a transaction")
    try refused([PgOutput.delete(10, ["1", nil])], "delete outside a transaction")
    try refused([PgOutput.truncate([10])], "truncate outside a transaction")
    try refused([commit], "commit without begin")
    try refused([begin, begin], "begin inside a transaction")
    try refused([begin, PgOutput.commit(0x1001, end: 0x1030)], "commit of another transaction")
    try refused([begin, PgOutput.commit(0x1000, end: 0xfff)], "commit that ends before it begins")
    try refused([begin, commit, commit], "commit twice")
    try refused([begin, commit, PgOutput.begin(commit: 0x102f, xid: 2)], "position going backwards")
  }

  @Test("a transaction may begin exactly where the last one ended")
  func adjacent() throws {
    var stream = Stream([])
    _ = try stream.feed(PgOutput.begin(commit: 0x1000, xid: 1))
    _ = try stream.feed(PgOutput.commit(0x1000, end: 0x1030))
    #expect(try stream.feed(PgOutput.begin(commit: 0x1030, xid: 2)) == .began(transaction: 2))
  }

  @Test("rows of a relation that the stream has not described are refused")
  func undescribed() throws {
    for message in [PgOutput.insert(11, ["1"]), PgOutput.truncate([11])] {
      var stream = try Self.stream()
      _ = try stream.feed(PgOutput.begin(commit: 0x1000, xid: 1))
      #expect(throws: PgOutputError.unknownRelation(11)) { try stream.feed(message) }
    }
  }

  @Test("errors and doubts say what happened in plain words and without values")
  func sentences() {
    #expect(PgOutputError.truncated(at: 7).description == "the replication message ends too early, at byte 7")
    #expect(Doubt.truncated(table: "public.users").description == "table public.users was truncated")
    #expect(Doubt.tooManyKeys(limit: 5).description == "a transaction changed more than 5 keys")
    let broken = Doubt.brokenRule(table: "public.users", reason: "its rows are gone")
    #expect(broken.description == "the keys of table public.users cannot be told: its rows are gone")
  }
}
