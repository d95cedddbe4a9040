import Configuration
import Invalidation
import Testing

@Suite("Conditions of rows, on the log")
struct RowConditionTests {
  static let here = SourcePlace(line: 7, column: 20, length: 30)

  static func ruled(
    _ when: String, keys: [String] = ["p:{id}"], columns: [String]? = nil,
    on operations: Set<RowOperation> = Set(RowOperation.allCases)
  ) throws -> TableRule {
    var made = rule("products", keys, columns: columns, on: operations)
    made.when = try RowCondition.parse(when, place: here)
    return made
  }

  static let columns = [
    column("id", PgType.int8, key: true), column("status", key: true), column("price", 1700, key: true),
    column("active", PgType.bool, key: true), column("code", PgType.bpchar, key: true),
    column("mood", PgType.mood, key: true), column("mail", PgType.citext, key: true),
    column("body", key: true),
    column("cat", PgType.int8, key: true),
  ]
  static let products = table(10, "products", identity: .full, columns)

  typealias Value = PgOutput.Value

  /// A row of `products`; what is not given is NULL.
  static func row(
    status: Value = nil, price: Value = nil, active: Value = nil, code: Value = nil, mood: Value = nil,
    mail: Value = nil, body: Value = nil, cat: Value = "1"
  ) -> [Value] {
    ["1", status, price, active, code, mood, mail, body, cat]
  }

  /// Whether a change clears a key.
  static func clears(
    _ when: String, _ message: [UInt8], keys: [String] = ["p:{id}"], columns: [String]? = nil
  ) throws
    -> Bool
  {
    var stream = Stream([try ruled(when, keys: keys, columns: columns)])
    try stream.describe(products)
    try stream.transaction([message])
    return !stream.keys().isEmpty
  }

  static func inserted(_ when: String, _ new: [Value]) throws -> Bool {
    try clears(when, PgOutput.insert(10, new))
  }
  static func updated(_ when: String, from old: [Value], to new: [Value]) throws -> Bool {
    try clears(when, PgOutput.update(10, old: old, new))
  }
  static func deleted(_ when: String, _ old: [Value]) throws -> Bool {
    try clears(when, PgOutput.delete(10, tag: "O", old))
  }

  @Test(
    "each operator, on an inserted row with price 10.50, status live, active and a body that is NULL",
    arguments: [
      ("new.price = 10.5", true), ("new.price = 10.51", false), ("new.price <> 10.5", false),
      ("new.price < 10.5", false),
      ("new.price <= 10.500", true), ("new.price > 9", true), ("new.price >= 11", false),
      ("new.price > -20", true),
      ("9 < new.price", true), ("10.5 > new.price", false), ("new.price between 10 and 11", true),
      ("new.price not between 10 and 11", false), ("new.price in (1, 10.5)", true),
      ("new.price not in (1, 2)", true),
      ("new.price in (1, 2)", false), ("new.price = '10.50'", true), ("new.price = 'NaN'", false),
      ("new.price < 'Infinity'", true),
      ("new.price > '-Infinity'", true), ("new.price = new.id", false), ("new.price > new.id", true),
      ("new.status = 'live'", true), ("new.status = 'Live'", false), ("new.status <> 'draft'", true),
      ("new.status in ('draft', 'live')", true), ("new.status like 'l%'", true),
      ("new.status like '_i_e'", true),
      ("new.status like '_i_'", false), ("new.status not like '%v%'", false), ("new.status like '%e'", true),
      ("new.status like 'l\\ive'", true), ("new.status like 'l\\%'", false), ("new.status like ''", false),
      ("new.active", true), ("not new.active", false), ("new.active = false", false),
      ("new.active = 't'", true),
      ("new.active is true", true), ("new.active is not true", false), ("new.active is false", false),
      ("new.code = 'ab'", true), ("new.code = 'ab   '", true), ("new.code <> 'ab'", false),
      ("new.code like 'ab'", false),
      ("new.mood = 'ok'", true), ("new.mood = 'sad'", false), ("new.mail = 'ANN@x'", true),
      ("new.mail <> 'aNN@x'", false),
      ("new.mail = 'bob'", false), ("new.body is null", true), ("new.body is not null", false),
      ("new.status is null", false), ("new.status is not null", true),
      ("new.body is distinct from 'x'", true),
      ("new.body is not distinct from 'x'", false), ("new.body is distinct from new.body", false),
      ("new.status is distinct from new.body", true),
    ])
  func operators(when: String, expected: Bool) throws {
    let row = Self.row(status: "live", price: "10.50", active: "t", code: "ab   ", mood: "ok", mail: "Ann@X")
    #expect(try Self.inserted(when, row) == expected)
    // A bare column of an INSERT is the new row's.
    #expect(try Self.inserted(when.replacing("new.", with: ""), row) == expected)
    #expect(try Self.deleted(when.replacing("new.", with: "old."), row) == expected)
    #expect(try Self.deleted(when.replacing("new.", with: ""), row) == expected)
  }

  @Test(
    "a row that ceases or begins to be NULL where the condition looks goes out or comes in, whatever has changed"
  )
  func unknownToKnown() throws {
    for when in [
      "changed(price) and status = 'live'", "status = 'live' and changed(price)",
      "changed(price) and not status <> 'live'", "changed(price) and status like 'l%'",
      "new.price <> old.price and status in ('live')",
    ] {
      let (live, none) = (Self.row(status: "live", price: "1"), Self.row(price: "1"))
      let draft = Self.row(status: "draft", price: "1")
      #expect(try Self.updated(when, from: none, to: live), "\(when)")
      #expect(try Self.updated(when, from: live, to: none), "\(when)")
      #expect(try Self.updated(when, from: none, to: draft), "\(when)")
      // What was NULL and stays so has not moved, nor has what else changes.
      #expect(try !Self.updated(when, from: none, to: Self.row(price: "1", body: "x")), "\(when)")
      #expect(
        try !Self.updated(when, from: live, to: Self.row(status: "live", price: "1", body: "x")), "\(when)")
    }
    // Known, though it is NULL.
    let when = "changed(price) and status is distinct from 'draft'"
    #expect(try !Self.updated(when, from: Self.row(), to: Self.row(status: "live")))
  }

  @Test("numbers are exact however long they are")
  func numbers() throws {
    let long = "123456789012345678901234567890.000000000000000000000001"
    let row = Self.row(price: .text(long))
    #expect(try Self.inserted("new.price = \(long)", row))
    #expect(try !Self.inserted("new.price = \(long.dropLast())2", row))
    #expect(try Self.inserted("new.price > 123456789012345678901234567890", row))
    let negative = Self.row(price: "-0.10")
    #expect(try Self.inserted("new.price < -0.09 and new.price > -0.11 and new.price = -1e-1", negative))
    #expect(try Self.inserted("new.price = 0", Self.row(price: "0.00")))
    for (value, when) in [
      ("NaN", "new.price > 'Infinity'"), ("NaN", "new.price = 'NaN'"), ("-Infinity", "new.price < -1e200"),
    ] {
      #expect(try Self.inserted(when, Self.row(price: .text(value))), "\(value) \(when)")
    }
  }

  @Test("what is unknown counts, alone and in every combination that it decides")
  func unknown() throws {
    let row = Self.row(status: "live")
    for (when, expected) in [
      ("new.price > 1", true), ("not new.price > 1", true), ("new.price in (1, 2)", true),
      ("new.active", true),
      ("new.body like 'x'", true), ("new.price = 1 and new.status = 'live'", true),
      ("new.price = 1 and new.status = 'draft'", false), ("new.price = 1 or new.status = 'draft'", true),
      ("not (new.price = 1 or new.status = 'live')", false),
      ("not (new.price = 1 and new.status = 'live')", true),
      ("new.price is null and new.status = 'draft'", false),
    ] {
      #expect(try Self.inserted(when, row) == expected, "\(when)")
    }
    // citext lowers letters beyond ASCII by the server's own rules.
    #expect(try Self.inserted("new.mail = 'x'", Self.row(mail: "Ä")))
    #expect(try Self.inserted("new.mail <> 'Ä'", Self.row(mail: "ä")))
  }

  @Test("a row that is not there is unknown, and a bare column is read from the one that is")
  func missingRow() throws {
    let draft = Self.row(status: "draft")
    #expect(try Self.inserted("old.status = 'x'", draft))
    #expect(try Self.inserted("changed(status)", draft))
    #expect(try !Self.inserted("changed(status) and new.status <> 'draft'", draft))
    #expect(try Self.deleted("new.status <> 'draft'", draft))
    #expect(try Self.deleted("changed(status)", draft))
    #expect(try !Self.deleted("old.status <> 'draft'", draft))
    #expect(try !Self.inserted("status <> 'draft'", draft))
    #expect(try !Self.deleted("status <> 'draft'", draft))
  }

  @Test(
    "a row that leaves or enters the condition counts, however it is written",
    arguments: [
      "new.status <> 'draft'", "old.status <> 'draft'", "status <> 'draft'", "not new.status = 'draft'",
      "not (status = 'draft')", "changed(price) and new.status <> 'draft'",
      "changed(price) and status <> 'draft'", "new.price <> old.price and new.status <> 'draft'",
      "not (new.status = 'draft' or not changed(price))",
    ])
  func transition(when: String) throws {
    let live = Self.row(status: "live", price: "1")
    let draft = Self.row(status: "draft", price: "1")
    #expect(try Self.updated(when, from: live, to: draft))
    #expect(try Self.updated(when, from: draft, to: live))
    #expect(try !Self.updated(when, from: draft, to: Self.row(status: "draft", price: "1", body: "x")))
    #expect(try !Self.updated(when, from: draft, to: Self.row(status: "draft", price: "2")))
    #expect(try Self.updated(when, from: live, to: Self.row(status: "live", price: "2")))
  }

  @Test("a condition that compares the two rows in words of its own is taken as it stands")
  func asWritten() throws {
    let when = "old.status = 'draft' and new.status = 'live'"
    #expect(try Self.updated(when, from: Self.row(status: "draft"), to: Self.row(status: "live")))
    #expect(try !Self.updated(when, from: Self.row(status: "gone"), to: Self.row(status: "live")))
    #expect(try !Self.updated(when, from: Self.row(status: "live"), to: Self.row(status: "draft")))
    #expect(try Self.updated("new.price > old.price", from: Self.row(price: "9"), to: Self.row(price: "10")))
    #expect(try !Self.updated("new.price > old.price", from: Self.row(price: "10"), to: Self.row(price: "9")))
  }

  @Test("changed tells NULL from a value, and a row that moves to another key counts while it matters")
  func changed() throws {
    let when = "changed(price, body) and new.status <> 'draft'"
    let live = Self.row(status: "live", price: "1")
    #expect(try !Self.updated(when, from: live, to: live))
    #expect(try Self.updated(when, from: live, to: Self.row(status: "live", price: nil)))
    #expect(try Self.updated(when, from: live, to: Self.row(status: "live", price: "1", body: "")))
    let moved = Self.row(status: "live", price: "1", cat: "2")
    let update = PgOutput.update(10, old: live, moved)
    #expect(try !Self.clears(when, update))
    #expect(try Self.clears(when, update, keys: ["c:{cat}"]))
    let draft = PgOutput.update(10, old: Self.row(status: "draft"), Self.row(status: "draft", cat: "2"))
    #expect(try !Self.clears(when, draft, keys: ["c:{cat}"]))
  }

  @Test("columns and when must both let an UPDATE pass, unless it takes the row in or out")
  func withColumns() throws {
    let when = "new.status <> 'draft'"
    func passes(_ old: [Value], _ new: [Value]) throws -> Bool {
      try Self.clears(when, PgOutput.update(10, old: old, new), columns: ["price"])
    }
    #expect(try passes(Self.row(status: "live", price: "1"), Self.row(status: "live", price: "2")))
    #expect(try !passes(Self.row(status: "live", body: "a"), Self.row(status: "live", body: "b")))
    #expect(try !passes(Self.row(status: "draft", price: "1"), Self.row(status: "draft", price: "2")))
    #expect(try passes(Self.row(status: "live"), Self.row(status: "draft")))
    #expect(try passes(Self.row(status: "draft"), Self.row(status: "live")))
  }

  @Test("a large value that was not sent is the old row's, has not changed, and is unknown without it")
  func toast() throws {
    let old = Self.row(status: "live", body: "long")
    let new = Self.row(status: "live", body: .unchanged)
    #expect(try Self.updated("new.body = 'long'", from: old, to: new))
    #expect(try !Self.updated("new.body = 'short'", from: old, to: new))
    #expect(try !Self.updated("changed(body)", from: old, to: new))
    #expect(try Self.updated("new.body = 'short'", from: Self.row(body: .unchanged), to: new))
  }

  @Test("without an old row the columns of an identity by key have not changed")
  func identityByKey() throws {
    var columns = Self.columns
    for index in columns.indices where columns[index].name != "status" && columns[index].name != "id" {
      columns[index].inIdentity = false
    }
    func clears(_ when: String, _ message: [UInt8]) throws -> Bool {
      var stream = Stream([try Self.ruled(when)])
      try stream.describe(table(10, "products", identity: .index, columns))
      try stream.transaction([message])
      return !stream.keys().isEmpty
    }
    let draft = Self.row(status: "draft", price: "5")
    #expect(try !clears("new.status <> 'draft'", PgOutput.update(10, draft)))
    #expect(try !clears("changed(status)", PgOutput.update(10, draft)))
    #expect(try clears("new.status = 'draft'", PgOutput.update(10, draft)))
    #expect(
      try clears("new.status <> 'draft'", PgOutput.update(10, old: Self.row(status: "live"), tag: "K", draft))
    )
    // The K tuple has NULL for what it does not hold, so nothing can be told of it.
    #expect(try clears("new.price = 1", PgOutput.update(10, old: Self.row(status: "live"), tag: "K", draft)))
    #expect(try clears("new.price = 1", PgOutput.insert(10, draft)))
  }

  @Test("while the table does not fit the condition any more, every change counts")
  func misfit() throws {
    for columns in [
      Self.columns.filter { $0.name != "status" },
      Self.columns.map { $0.name == "status" ? column("status", PgType.int8, key: true) : $0 },
    ] {
      var stream = Stream([try Self.ruled("new.status <> 'draft'")])
      try stream.describe(table(10, "products", identity: .full, columns))
      try stream.transaction([PgOutput.insert(10, columns.map { _ in "1" })])
      #expect(stream.keys() == ["shop:p:1"])
    }
  }

  @Test("an UPDATE without the old row of a full identity is a doubt, whatever the condition says")
  func missingOldRow() throws {
    var stream = Stream([try Self.ruled("new.status <> 'draft'")])
    try stream.describe(Self.products)
    let events = try stream.transaction([PgOutput.update(10, Self.row(status: "draft"))])
    #expect(events.contains { if case .doubt = $0 { true } else { false } })
  }

  @Test("the conditions of a table's and its partition's rules are held apart")
  func twoRules() throws {
    var other = try Self.ruled("new.status = 'draft'", keys: ["d:{id}"])
    other.name = "all_products"
    var stream = Stream([try Self.ruled("new.status <> 'draft'"), other, rule("unlike", [])])
    try stream.describe(table(10, "products", root: "all_products", identity: .full, Self.columns))
    try stream.transaction([PgOutput.insert(10, Self.row(status: "draft"))])
    #expect(stream.keys() == ["shop:d:1"])
    try stream.transaction([PgOutput.insert(10, Self.row(status: "live"))])
    #expect(stream.keys() == ["shop:p:1"])
  }
}
