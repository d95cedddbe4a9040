import Configuration
import Invalidation
import Testing

@Suite("Rows become keys")
struct RowKeyTests {
  static let users = table(
    10, "users", identity: .full,
    [
      column("id", PgType.int8, key: true), column("email", key: true), column("name", key: true),
      column("bio", key: true),
    ])
  /// The same table as most are: old rows carry the primary key only.
  static let plainUsers = table(
    10, "users",
    [column("id", PgType.int8, key: true), column("email"), column("name"), column("bio")])

  static func full(_ keys: [String], columns: [String]? = nil) throws -> Stream {
    var stream = Stream([rule("users", keys, columns: columns)])
    try stream.describe(users)
    return stream
  }

  static func plain(_ keys: [String]) throws -> Stream {
    var stream = Stream([rule("users", keys)])
    try stream.describe(plainUsers)
    return stream
  }

  @Test("INSERT gives the new row's keys, each template one, with the prefix before them")
  func insert() throws {
    var stream = try Self.full(["user:{id}", "user:by-email:{email}", "users"])
    let events = try stream.transaction([PgOutput.insert(10, ["42", "ann@example.org", "Ann", nil])])
    #expect(events == [.rows])
    #expect(stream.keys() == ["shop:user:42", "shop:user:by-email:ann@example.org", "shop:users"])
  }

  @Test("without a prefix keys are the template alone")
  func noPrefix() throws {
    var stream = Stream([rule("users", ["{id}"])], prefix: "")
    try stream.describe(Self.users)
    try stream.transaction([PgOutput.insert(10, ["42", nil, nil, nil])])
    #expect(stream.keys() == ["42"])
  }

  @Test("UPDATE gives the keys of both the old and the new row")
  func updateFull() throws {
    var stream = try Self.full(["user:{id}", "user:by-email:{email}"])
    try stream.transaction([
      PgOutput.update(10, old: ["42", "a@x", "Ann", nil], ["42", "b@x", "Ann", nil])
    ])
    #expect(stream.keys() == ["shop:user:42", "shop:user:by-email:b@x", "shop:user:by-email:a@x"])
  }

  @Test("UPDATE of the primary key names the old key in a K tuple")
  func updateKey() throws {
    var stream = try Self.plain(["user:{id}"])
    try stream.transaction([
      PgOutput.update(10, old: ["42", nil, nil, nil], tag: "K", ["43", "b@x", "Ann", nil])
    ])
    #expect(stream.keys() == ["shop:user:43", "shop:user:42"])
  }

  @Test("UPDATE without an old row has not changed its key")
  func updateWithoutOld() throws {
    var stream = try Self.plain(["user:{id}"])
    let events = try stream.transaction([PgOutput.update(10, ["42", "b@x", "Ann", .unchanged])])
    #expect(events == [.rows])
    #expect(stream.keys() == ["shop:user:42"])
  }

  @Test("DELETE gives the old row's keys")
  func delete() throws {
    var stream = try Self.plain(["user:{id}"])
    try stream.transaction([PgOutput.delete(10, ["42", nil, nil, nil])])
    #expect(stream.keys() == ["shop:user:42"])
    var full = try Self.full(["user:{id}", "user:by-email:{email}"])
    try full.transaction([PgOutput.delete(10, tag: "O", ["42", "a@x", "Ann", nil])])
    #expect(full.keys() == ["shop:user:42", "shop:user:by-email:a@x"])
  }

  @Test("a composite key takes all its columns; NULL in any of them gives no key")
  func composite() throws {
    var stream = try Self.full(["u:{name}:{id}:{email}:x", "user:{id}"])
    try stream.transaction([
      PgOutput.insert(10, ["1", "e", "n", nil]), PgOutput.insert(10, ["2", nil, "n", nil]),
    ])
    #expect(stream.keys() == ["shop:u:n:1:e:x", "shop:user:1", "shop:user:2"])
  }

  @Test("a template that ends in * gives a prefix of both rows, and NULL gives none")
  func prefix() throws {
    var stream = try Self.full(["user:{id}:*", "all:*", "e:{email}:*"])
    try stream.transaction([
      PgOutput.insert(10, ["4*", nil, nil, nil]),
      PgOutput.update(10, old: ["5", "a:b", nil, nil], ["6", "a:b", nil, nil]),
    ])
    #expect(
      stream.batch.groups == [
        "pshop:user:4%2A:", "pshop:all:", "pshop:user:6:", "pshop:user:5:", "pshop:e:a%3Ab:",
      ])
    #expect(stream.keys() == [])
  }

  @Test("an unchanged large value comes from the old row")
  func toastFromOld() throws {
    var stream = try Self.full(["bio:{bio}"])
    let events = try stream.transaction([
      PgOutput.update(10, old: ["1", nil, nil, "long"], ["1", nil, nil, .unchanged])
    ])
    #expect(events == [.rows])
    #expect(stream.keys() == ["shop:bio:long"])
  }

  @Test("an unchanged large value that no old row tells is a doubt, once a transaction")
  func toastMissing() throws {
    var stream = Stream([rule("users", ["bio:{bio}"])])
    try stream.describe(
      table(10, "users", [column("id", PgType.int8, key: true), column("bio", key: true)]))
    let row = PgOutput.update(10, ["1", .unchanged])
    let first = try stream.transaction([row, row])
    guard case .doubt(.brokenRule(let table, let reason)) = first[0] else {
      Issue.record("\(first)")
      return
    }
    #expect(table == "public.users")
    #expect(reason == "a row came without the value of a large column that has not changed")
    #expect(first[1] == .rows)
    let second = try stream.transaction([row])
    #expect(second == [.doubt(.brokenRule(table: table, reason: reason))])
    #expect(stream.keys() == [])
  }

  @Test("an UPDATE of a table with full identity that comes without its old row is a doubt")
  func fullWithoutOld() throws {
    var stream = try Self.full(["user:{id}"])
    let events = try stream.transaction([PgOutput.update(10, ["1", nil, nil, nil])])
    let reason = "an UPDATE came without its old row"
    #expect(events == [.doubt(.brokenRule(table: "public.users", reason: reason))])
    #expect(stream.keys() == ["shop:user:1"])
  }

  @Test("a key longer than can be packed is a doubt and is not collected")
  func longKeys() throws {
    var stream = try Self.full(["{name}", "{email}:{id}:{name}"])
    let most = PackedKeys.longestKey - "shop:".utf8.count
    let fits = PgOutput.insert(10, ["1", nil, .text(String(repeating: "a", count: most)), nil])
    #expect(try stream.transaction([fits]) == [.rows])
    #expect(stream.keys().map(\.utf8.count) == [PackedKeys.longestKey])
    let reason = "a key is longer than 65535 bytes"
    let doubt = LogEvent.doubt(.brokenRule(table: "public.users", reason: reason))
    let tooLong: [[UInt8]] = [
      PgOutput.insert(10, ["1", nil, .text(String(repeating: "a", count: most + 1)), nil]),
      // Percent-encoding makes it three times as long.
      PgOutput.insert(10, ["1", nil, .text(String(repeating: ":", count: 30_000)), nil]),
      PgOutput.insert(
        10,
        [
          "1", .text(String(repeating: "e", count: 40_000)), .text(String(repeating: "n", count: 40_000)),
          nil,
        ]),
    ]
    for row in tooLong {
      #expect(try stream.transaction([row]) == [doubt])
      #expect(stream.keys().allSatisfy { $0.utf8.count <= PackedKeys.longestKey })
    }
  }

  @Test("operations that the rule leaves out give nothing", arguments: RowOperation.allCases)
  func operations(left: RowOperation) throws {
    var others = Set(RowOperation.allCases)
    others.remove(left)
    var stream = Stream([rule("users", ["user:{id}"], on: others)])
    try stream.describe(Self.users)
    let messages: [(RowOperation, [UInt8], LogEvent)] = [
      (.insert, PgOutput.insert(10, ["1", nil, nil, nil]), .rows),
      (.update, PgOutput.update(10, old: ["2", nil, nil, nil], ["2", nil, nil, nil]), .rows),
      (.delete, PgOutput.delete(10, tag: "O", ["3", nil, nil, nil]), .rows),
      (.truncate, PgOutput.truncate([10]), .doubt(.truncated(table: "public.users"))),
    ]
    for (operation, message, event) in messages {
      #expect(try stream.transaction([message]) == [operation == left ? .nothing : event])
      let isRow = operation != .truncate && operation != left
      #expect(stream.keys().count == (isRow ? 1 : 0), "\(operation)")
    }
  }

  @Test("TRUNCATE of several tables is a doubt about the first that a rule names")
  func truncateSeveral() throws {
    var stream = Stream([
      rule("a", ["a:{id}"], on: [.insert]), rule("b", ["b:{id}"]), rule("c", ["c:{id}"]),
    ])
    for (id, name) in [(1, "none"), (2, "a"), (3, "b"), (4, "c")] as [(UInt32, String)] {
      try stream.describe(table(id, name, [column("id", PgType.int8, key: true)]))
    }
    let events = try stream.transaction([PgOutput.truncate([1, 2, 3, 4], options: 2)])
    #expect(events == [.doubt(.truncated(table: "public.b"))])
  }

  @Test("an UPDATE that changes no listed column and no template's column is ignored")
  func columnFilter() throws {
    var stream = try Self.full(["user:{id}"], columns: ["name", "bio"])
    func update(_ old: [PgOutput.Value], _ new: [PgOutput.Value]) throws -> LogEvent {
      try stream.transaction([PgOutput.update(10, old: old, new)])[0]
    }
    #expect(try update(["1", "a", "n", "b"], ["1", "z", "n", "b"]) == .nothing)
    #expect(try update(["1", "a", "n", "b"], ["1", "z", "n", .unchanged]) == .nothing)
    #expect(try update(["1", "a", nil, "b"], ["1", "a", nil, "b"]) == .nothing)
    #expect(stream.keys() == [])
    #expect(try update(["1", "a", "n", "b"], ["1", "a", "m", "b"]) == .rows)
    #expect(try update(["1", "a", nil, "b"], ["1", "a", "", "b"]) == .rows)
    #expect(try update(["1", "a", "n", "b"], ["1", "a", "n", nil]) == .rows)
    #expect(try update(["1", "a", "n", "b"], ["1", "a", "n", "bb"]) == .rows)
    #expect(try update(["1", "a", "n", "b"], ["2", "a", "n", "b"]) == .rows)
    #expect(stream.keys() == ["shop:user:1", "shop:user:2"])
    // INSERT and DELETE always count.
    #expect(try stream.transaction([PgOutput.insert(10, ["5", nil, nil, nil])]) == [.rows])
    #expect(try stream.transaction([PgOutput.delete(10, tag: "O", ["6", nil, nil, nil])]) == [.rows])
  }

  @Test("where old rows are not whole, every UPDATE counts in spite of a column filter")
  func columnFilterWithoutOldRows() throws {
    var stream = Stream([rule("users", ["user:{id}"], columns: ["name"])])
    try stream.describe(Self.plainUsers)
    #expect(try stream.transaction([PgOutput.update(10, ["1", "a", "n", nil])]) == [.rows])
    #expect(stream.keys() == ["shop:user:1"])
  }

  @Test("more keys than the limit in one transaction are a doubt, and the rest is passed over")
  func tooManyKeys() throws {
    var stream = Stream([rule("users", ["user:{id}"])], maximumKeys: 3)
    try stream.describe(Self.users)
    func row(_ id: Int) -> [UInt8] { PgOutput.insert(10, [.text("\(id)"), nil, nil, nil]) }
    // Three keys are allowed, in each transaction anew, and a key counts once.
    #expect(try stream.transaction([row(1), row(2), row(3), row(3)]) == [.rows, .rows, .rows, .rows])
    let events = try stream.transaction([row(4), row(5), row(6), row(7), row(8), row(9)])
    #expect(events == [.rows, .rows, .rows, .doubt(.tooManyKeys(limit: 3)), .nothing, .nothing])
    #expect(stream.batch.count == 7)
    #expect(try stream.transaction([row(10)]) == [.rows])
  }

  @Test("each key remembers the rule it came from")
  func tables() throws {
    var stream = Stream([rule("orders", ["order:{id}"]), rule("users", ["user:{id}"])])
    try stream.describe(table(20, "orders", [column("id", PgType.int8, key: true)]))
    try stream.describe(Self.users)
    try stream.transaction([PgOutput.insert(10, ["1", nil, nil, nil]), PgOutput.insert(20, ["2"])])
    #expect((0..<stream.batch.count).map { stream.batch.table($0) } == [1, 0])
  }

  @Test("rules with a schema see only that schema's table")
  func schemas() throws {
    var stream = Stream([rule("users", ["a:{id}"], schema: "audit"), rule("users", ["p:{id}"])])
    var audit = Self.users
    audit.schema = "audit"
    audit.rootSchema = "audit"
    audit.id = 11
    try stream.describe(audit)
    try stream.describe(Self.users)
    try stream.transaction([
      PgOutput.insert(11, ["1", nil, nil, nil]), PgOutput.insert(10, ["2", nil, nil, nil]),
    ])
    #expect(stream.keys() == ["shop:a:1", "shop:p:2"])
  }

  @Test("the rows of a leaf follow the rules of its root, and its own if it has one")
  func partitions() throws {
    var stream = Stream([rule("events", ["event:{id}"]), rule("events_2024", ["y24:{id}"])])
    let columns = [column("id", PgType.int8, key: true)]
    try stream.describe(table(31, "events_2023", root: "events", columns))
    try stream.describe(table(32, "events_2024", root: "events", columns))
    try stream.transaction([PgOutput.insert(31, ["1"]), PgOutput.insert(32, ["2"])])
    #expect(stream.keys() == ["shop:event:1", "shop:event:2", "shop:y24:2"])
  }

  @Test("a leaf's own replica identity counts, not its root's")
  func leafIdentity() throws {
    var stream = Stream([rule("events", ["event:{kind}"])])
    let columns = [column("id", PgType.int8, key: true), column("kind", key: true)]
    try stream.describe(table(31, "events_2023", root: "events", identity: .full, columns))
    try stream.describe(
      table(32, "events_2024", root: "events", [column("id", PgType.int8, key: true), column("kind")]))
    #expect(try stream.transaction([PgOutput.delete(31, tag: "O", ["1", "k"])]) == [.rows])
    let events = try stream.transaction([PgOutput.delete(32, tag: "K", ["1", nil])])
    let reason = "its replica identity does not hold the column \"kind\""
    #expect(events == [.doubt(.brokenRule(table: "public.events", reason: reason))])
    #expect(stream.keys() == ["shop:event:k"])
  }
}
