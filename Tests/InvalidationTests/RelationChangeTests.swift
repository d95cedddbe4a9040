import Configuration
import Invalidation
import Testing

@Suite("Tables change under way")
struct RelationChangeTests {
  static let users = table(10, "users", [column("id", PgType.int8, key: true), column("name")])

  static func relation(
    _ columns: [PgOutput.Column], name: String = "users", identity: Character = "d"
  ) -> [UInt8] { PgOutput.relation(10, name: name, identity: identity, columns: columns) }

  static let id = PgOutput.Column(name: "id", type: PgType.int8, isKey: true)
  static let name = PgOutput.Column(name: "name", type: PgType.text)

  @Test("a relation that was never learnt is asked for, and then taken")
  func unknown() throws {
    var stream = Stream([rule("users", ["user:{id}"])])
    let message = Self.relation([Self.id, Self.name])
    let question = LogEvent.unknownRelation(id: 10, schema: "public", name: "users")
    #expect(try stream.feed(message) == question)
    #expect(try stream.feed(message) == question)
    stream.reader.learn(Self.users)
    #expect(try stream.feed(message) == .nothing)
    try stream.transaction([PgOutput.insert(10, ["1", nil])])
    #expect(stream.keys() == ["shop:user:1"])
  }

  @Test("pg_catalog comes as the empty string")
  func catalogSchema() throws {
    var stream = Stream([])
    let event = try stream.feed(PgOutput.relation(9, schema: "", name: "pg_class", columns: []))
    #expect(event == .unknownRelation(id: 9, schema: "pg_catalog", name: "pg_class"))
  }

  @Test("a relation that the catalogue no longer has still follows the rule of its name")
  func dropped() throws {
    var stream = Stream([rule("users", ["user:{id}"])])
    let message = Self.relation([Self.id, Self.name])
    _ = try stream.feed(message)
    stream.reader.learn(.dropped(id: 10, schema: "public", name: "users"))
    #expect(try stream.feed(message) == .nothing)
    try stream.transaction([PgOutput.insert(10, ["1", nil])])
    #expect(stream.keys() == ["shop:user:1"])
  }

  @Test("a relation that has changed is asked for once more, then taken as the stream describes it")
  func changed() throws {
    var stream = Stream([rule("users", ["user:{id}"])])
    try stream.describe(Self.users)
    #expect(try stream.feed(Self.relation([Self.id, Self.name])) == .nothing)
    let wider = Self.relation([PgOutput.Column(name: "extra", type: PgType.text), Self.id, Self.name])
    let question = LogEvent.unknownRelation(id: 10, schema: "public", name: "users")
    #expect(try stream.feed(wider) == question)
    stream.reader.learn(Self.users)
    #expect(try stream.feed(wider) == .nothing)
    try stream.transaction([PgOutput.insert(10, [nil, "7", nil])])
    #expect(stream.keys() == ["shop:user:7"])
  }

  @Test("changes of tables without a rule are not asked about")
  func changedUnmapped() throws {
    var stream = Stream([rule("orders", ["order:{id}"])])
    try stream.describe(Self.users)
    #expect(try stream.feed(Self.relation([Self.id])) == .nothing)
  }

  @Test("a rule that no longer holds is a doubt in each transaction with its rows, until it holds again")
  func broken() throws {
    var stream = Stream([rule("users", ["user:{id}", "name:{name}"])])
    var full = Self.users
    full.identity = .full
    full.columns[1].inIdentity = true
    try stream.describe(full)
    let row = PgOutput.insert(10, ["1", "n"])
    #expect(try stream.transaction([row]) == [.rows])
    #expect(stream.keys() == ["shop:user:1", "shop:name:n"])

    // Somebody sets the replica identity back.
    let message = Self.relation([Self.id, Self.name])
    stream.reader.learn(Self.users)
    _ = try stream.feed(message)
    #expect(try stream.feed(message) == .nothing)
    let reason = "its replica identity does not hold the column \"name\""
    let doubt = LogEvent.doubt(.brokenRule(table: "public.users", reason: reason))
    #expect(try stream.transaction([row, row]) == [doubt, .rows])
    #expect(try stream.transaction([PgOutput.update(10, ["1", "n"])]) == [doubt])
    #expect(stream.keys() == [])

    // And full again.
    let good = Self.relation([Self.id, Self.name], identity: "f")
    _ = try stream.feed(good)
    stream.reader.learn(full)
    #expect(try stream.feed(good) == .nothing)
    #expect(try stream.transaction([row]) == [.rows])
    #expect(stream.keys() == ["shop:user:1", "shop:name:n"])
  }

  @Test("a column that is gone, or whose type is no longer fit, breaks its rule")
  func columnGone() throws {
    func reason(_ columns: [PgOutput.Column]) throws -> String? {
      var stream = Stream([rule("users", ["user:{id}"])])
      stream.reader.learn(Self.users)
      let message = Self.relation(columns)
      if case .unknownRelation = try stream.feed(message) {
        stream.reader.learn(Self.users)
        #expect(try stream.feed(message) == .nothing)
      }
      let values = columns.map { _ in PgOutput.Value.text("1") }
      guard case .doubt(.brokenRule(_, let reason)) = try stream.transaction([PgOutput.insert(10, values)])[0]
      else { return nil }
      return reason
    }
    #expect(try reason([Self.id]) == nil)
    #expect(try reason([Self.name]) == "its rows no longer have the column \"id\"")
    let time = PgOutput.Column(name: "id", type: PgType.timestamptz, isKey: true)
    #expect(try reason([time]) == "the text of the column \"id\" is not fit for a key without |raw")
  }

  @Test("rules that only see INSERT need no replica identity")
  func insertOnly() throws {
    var stream = Stream([rule("users", ["name:{name}"], on: [.insert, .truncate])])
    try stream.describe(Self.users)
    #expect(try stream.transaction([PgOutput.insert(10, ["1", "n"])]) == [.rows])
    #expect(stream.keys() == ["shop:name:n"])
  }

  @Test("a table that is renamed away leaves its rule, one that is renamed to its name follows it")
  func renamed() throws {
    var stream = Stream([rule("users", ["user:{id}"])])
    try stream.describe(Self.users)
    let away = Self.relation([Self.id, Self.name], name: "users_old")
    var renamed = Self.users
    renamed.name = "users_old"
    renamed.rootName = "users_old"
    guard case .unknownRelation = try stream.feed(away) else {
      Issue.record("not asked")
      return
    }
    stream.reader.learn(renamed)
    #expect(try stream.feed(away) == .nothing)
    #expect(try stream.transaction([PgOutput.insert(10, ["1", nil])]) == [.nothing])

    try stream.describe(table(12, "users_new", [column("id", PgType.int8, key: true)]))
    let to = PgOutput.relation(12, name: "users", columns: [Self.id])
    guard case .unknownRelation = try stream.feed(to) else {
      Issue.record("not asked")
      return
    }
    stream.reader.learn(table(12, "users", [column("id", PgType.int8, key: true)]))
    #expect(try stream.feed(to) == .nothing)
    #expect(try stream.transaction([PgOutput.insert(12, ["2"])]) == [.rows])
    #expect(stream.keys() == ["shop:user:2"])
  }

  @Test("learning that a table became a partition counts at once")
  func attached() throws {
    var stream = Stream([rule("events", ["event:{id}"])])
    let columns = [column("id", PgType.int8, key: true)]
    try stream.describe(table(31, "events_2023", columns))
    #expect(try stream.transaction([PgOutput.insert(31, ["1"])]) == [.nothing])
    stream.reader.learn(table(31, "events_2023", root: "events", columns))
    #expect(try stream.transaction([PgOutput.insert(31, ["2"])]) == [.rows])
    #expect(stream.keys() == ["shop:event:2"])
  }
}
