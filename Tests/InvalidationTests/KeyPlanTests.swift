import Configuration
import Invalidation
import Testing

@Suite("Rules against the catalogue")
struct KeyPlanTests {
  static let columns = [
    column("id", PgType.int8, key: true), column("tenant_id", PgType.int8), column("email", PgType.citext),
    column("name", notNull: false), column("full_name", generated: true),
    column("seen", PgType.timestamptz), column("order"),
  ]

  static func users(
    identity: ReplicaIdentity = .primaryKey, kind: Character = "r", persistence: Character = "p",
    rowFilter: Bool = false, published: [String]? = nil
  ) -> CatalogueTable {
    var columns = columns
    for index in columns.indices {
      switch identity {
      case .full: columns[index].inIdentity = true
      case .nothing: columns[index].inIdentity = false
      case .primaryKey, .index: break
      }
    }
    return table(
      10, "users", kind: kind, persistence: persistence, identity: identity, columns, rowFilter: rowFilter,
      published: published)
  }

  static func problems(
    _ keys: [String], with table: CatalogueTable = users(), columns: [String]? = nil,
    on operations: Set<RowOperation> = Set(RowOperation.allCases)
  ) -> [PlanProblem] {
    KeyPlan(tables: [rule("users", keys, columns: columns, on: operations)], keyPrefix: "shop:")
      .problems(with: table)
  }

  @Test("tables are found by schema and name, and named in the order of the file")
  func names() {
    let plan = KeyPlan(
      tables: [rule("users", []), rule("users", [], schema: "audit"), rule("orders", [])], keyPrefix: "")
    #expect(plan.tableNames == ["public.users", "audit.users", "public.orders"])
    #expect(plan.ruleIndex(schema: "audit", name: "users") == 1)
    #expect(plan.ruleIndex(schema: "public", name: "orders") == 2)
    #expect(plan.ruleIndex(schema: "Public", name: "orders") == nil)
  }

  @Test("a sound rule has no problems, and a table without a rule has none either")
  func sound() {
    #expect(Self.problems(["user:{id}"]) == [])
    #expect(Self.problems(["user:{id}:{email|lower}"], with: Self.users(identity: .full)) == [])
    #expect(Self.problems(["user:{nope}"], with: table(11, "orders", [])) == [])
  }

  @Test("an unknown column is named with those there are, and with the one that was meant")
  func unknownColumn() {
    let problems = Self.problems(["a:{id}", "user:{uid}"])
    #expect(
      problems.map(\.message) == [
        "template \"user:{uid}\" names column \"uid\", which table public.users does not have (columns: id, "
          + "tenant_id, email, name, full_name, seen, order); did you mean \"id\"?"
      ])
    #expect(problems.first?.isFatal == true)
    #expect(problems.first?.place == SourcePlace(line: 2, column: 1, length: 3))
    #expect(Self.problems(["{emial}"])[0].message.hasSuffix("did you mean \"email\"?"))
    #expect(Self.problems(["{EMAIL}"])[0].message.hasSuffix("did you mean \"email\"?"))
    #expect(Self.problems(["{price}"])[0].message.hasSuffix("order)"))
  }

  @Test("a generated column is refused")
  func generated() {
    let problems = Self.problems(["{full_name}"], with: Self.users(identity: .full))
    #expect(problems.count == 1)
    #expect(problems[0].message.contains("\"full_name\" of public.users, which is generated"))
    #expect(problems[0].isFatal)
  }

  @Test("a column that the publication leaves out is refused")
  func columnList() {
    let table = Self.users(identity: .full, published: ["id", "name"])
    #expect(Self.problems(["{id}"], with: table) == [])
    let problems = Self.problems(["{email}"], with: table)
    #expect(problems.count == 1)
    #expect(problems[0].message.contains("does not send (it sends id, name of public.users)"))
  }

  @Test("a row filter is refused")
  func rowFilter() {
    let problems = Self.problems(["{id}"], with: Self.users(rowFilter: true))
    #expect(problems.count == 1)
    #expect(problems[0].message.contains("sends only some rows of public.users"))
    #expect(problems[0].isFatal)
    #expect(problems[0].place.line == 99)
  }

  @Test("a type that applications may write differently needs |raw")
  func types() {
    let table = Self.users(identity: .full)
    let problems = Self.problems(["{seen}", "{seen|lower}"], with: table)
    #expect(problems.count == 2)
    #expect(problems[0].message.contains("column \"seen\" of type timestamptz"))
    #expect(problems[0].message.hasSuffix("write {seen|raw} if the application uses PostgreSQL's own text"))
    #expect(Self.problems(["{seen|raw}", "{seen|lower|raw}"], with: table) == [])
  }

  @Test("a column that old rows do not carry is refused, with the two ways to have it")
  func identity() {
    let problems = Self.problems(["user:{id}", "user:by:{email}:{order}"])
    #expect(problems.map(\.place.line) == [2, 2])
    #expect(
      problems[0].message
        == "template \"user:by:{email}:{order}\" names column \"email\", which the replica identity of "
        + "public.users does not hold, so an UPDATE or DELETE could not name the old key; run ALTER TABLE "
        + "public.users REPLICA IDENTITY FULL, or, for less log, CREATE UNIQUE INDEX users_nearside ON "
        + "public.users (id, email, \"order\") and ALTER TABLE public.users REPLICA IDENTITY USING INDEX "
        + "users_nearside")
    #expect(problems.allSatisfy { $0.isFatal })
    let nullable = Self.problems(["{name}"])
    #expect(nullable.count == 1)
    #expect(nullable[0].message.hasSuffix("so first ALTER COLUMN name SET NOT NULL)"))
  }

  @Test("rules that never need an old row do not care for the identity")
  func insertOnly() {
    #expect(Self.problems(["{email}"], on: [.insert, .truncate]) == [])
    #expect(Self.problems(["{email}"], on: [.delete]).count == 1)
    #expect(Self.problems(["{email}"], on: [.update]).count == 1)
  }

  @Test("a table without a replica identity is refused, once, and only warned of where only INSERT counts")
  func noIdentity() {
    let problems = Self.problems(["{id}", "{email}"], with: Self.users(identity: .nothing))
    #expect(problems.count == 1)
    #expect(problems[0].message.hasPrefix("public.users has REPLICA IDENTITY NOTHING"))
    #expect(problems[0].isFatal)
    let noKey = Self.problems(["{id}"], with: table(10, "users", [column("id", PgType.int8)]))
    #expect(noKey.count == 1)
    #expect(noKey[0].message.hasPrefix("public.users has no primary key"))
    let insert = Self.problems(["{id}"], with: Self.users(identity: .nothing), on: [.insert])
    #expect(insert.map(\.isFatal) == [false])
  }

  @Test("what is not in the log at all is refused, and nothing else is said of it")
  func kinds() {
    let view = Self.problems(["{nope}"], with: Self.users(kind: "v"))
    #expect(view.count == 1)
    #expect(view[0].message.hasPrefix("public.users is a view"))
    let unlogged = Self.problems(["{nope}"], with: Self.users(persistence: "u"))
    #expect(unlogged.count == 1)
    #expect(unlogged[0].message.contains("run ALTER TABLE public.users SET LOGGED"))
    let temporary = Self.problems(["{nope}"], with: Self.users(persistence: "t"))
    #expect(temporary.count == 1)
  }

  @Test("a partitioned table is judged by its columns, its leaves by their own identity")
  func partitions() {
    let plan = KeyPlan(tables: [rule("users", ["{id}", "{email}"])], keyPrefix: "")
    var root = Self.users(kind: "p")
    #expect(plan.problems(with: root) == [])
    root.columns.remove(at: 2)
    #expect(plan.problems(with: root).count == 1)
    var leaf = Self.users()
    leaf.name = "users_7"
    #expect(plan.problems(with: leaf).count == 1)
    #expect(plan.problems(with: leaf)[0].message.contains("public.users_7"))
    leaf.identity = .full
    #expect(plan.problems(with: leaf) == [])
  }

  @Test("columns must exist and need the whole old row")
  func columnFilter() {
    let full = Self.users(identity: .full)
    #expect(Self.problems(["{id}"], with: full, columns: ["name", "seen"]) == [])
    let unknown = Self.problems(["{id}"], with: full, columns: ["nmae"])
    #expect(unknown.count == 1)
    #expect(unknown[0].message.hasPrefix("\"columns\" names column \"nmae\""))
    #expect(unknown[0].message.hasSuffix("did you mean \"name\"?"))
    let identity = Self.problems(["{id}"], columns: ["name"])
    #expect(
      identity.map(\.message) == [
        "\"columns\" of public.users needs the whole old row to tell what an UPDATE has changed; run ALTER "
          + "TABLE public.users REPLICA IDENTITY FULL, or leave \"columns\" out"
      ])
    #expect(identity[0].isFatal)
  }

  @Test("names in SQL are quoted where SQL needs it")
  func quoting() {
    var odd = table(10, "Weird\"Name", [column("id", key: true), column("Email"), column("2nd")])
    odd.rootName = "users"
    let message = Self.problems(["{Email}:{2nd}"], with: odd)[0].message
    #expect(message.contains("ALTER TABLE public.\"Weird\"\"Name\" REPLICA"))
    #expect(message.contains("(id, \"Email\", \"2nd\")"))
  }
}

@Suite("Explaining a change")
struct ExplainTests {
  static let plan = KeyPlan(
    tables: [
      rule(
        "users", ["user:{id}", "by-email:{email}", "active:{active}:*"], on: [.insert, .update, .delete]),
      rule("docs", ["doc:{id}"], columns: ["title"]),
    ], keyPrefix: "shop:")
  static let users = table(
    10, "users", identity: .full,
    [
      column("id", PgType.int8, key: true), column("email", PgType.citext, key: true),
      column("active", PgType.bool, key: true),
    ])

  func explain(
    _ operation: RowOperation, new: [String: String?]? = nil, old: [String: String?]? = nil,
    table: Int = 0, catalogue: CatalogueTable? = users
  ) -> [String] {
    Self.plan.explain(table: table, catalogue: catalogue, new: new, old: old, operation: operation).map {
      switch $0.outcome {
      case .key(let key): "\($0.image) \(key)"
      case .none(let reason): "\($0.image) \($0.template.text): \(reason)"
      }
    }
  }

  @Test("an INSERT gives each template's key, as the log would")
  func insert() {
    #expect(
      explain(.insert, new: ["id": "4 2", "email": "Ann@X", "active": "t"])
        == ["new shop:user:4%202", "new shop:by-email:ann@x", "new shop:active:true:*"])
  }

  @Test("without the database values are taken as they stand")
  func offline() {
    #expect(
      explain(.insert, new: ["id": "42", "email": "Ann@X", "active": "true"], catalogue: nil)
        == ["new shop:user:42", "new shop:by-email:Ann@X", "new shop:active:true:*"])
  }

  @Test("an UPDATE gives both rows' keys, equal ones once, and takes what one row lacks from the other")
  func update() {
    #expect(
      explain(.update, new: ["id": "1", "email": "b", "active": "f"], old: ["email": "a"])
        == [
          "new shop:user:1", "new shop:by-email:b", "old shop:by-email:a", "new shop:active:false:*",
        ])
  }

  @Test("a DELETE gives the old row's keys")
  func delete() {
    #expect(
      explain(.delete, old: ["id": "1", "email": "a", "active": nil])
        == [
          "old shop:user:1", "old shop:by-email:a",
          "old active:{active}:*: column \"active\" is NULL, and a key needs a value for each column",
        ])
  }

  @Test("each missing key has its reason")
  func reasons() {
    #expect(
      explain(.truncate)[0]
        == "new user:{id}: the rule of public.users leaves TRUNCATE out")
    #expect(
      explain(.truncate, table: 1, catalogue: nil)
        == ["new doc:{id}: TRUNCATE names no rows, so it clears every key of the namespace at once"])
    #expect(explain(.insert, new: [:])[0] == "new user:{id}: the row gives no value for column \"id\"")
    let docs = table(11, "docs", [column("title")])
    #expect(
      explain(.insert, new: ["id": "1"], table: 1, catalogue: docs)
        == ["new doc:{id}: table public.docs has no column \"id\""])
    let unfit = table(11, "docs", [column("id", PgType.timestamptz, key: true)])
    #expect(
      explain(.insert, new: ["id": "1"], table: 1, catalogue: unfit)
        == ["new doc:{id}: column \"id\" is of type timestamptz, which needs |raw"])
    let unheld = table(11, "docs", [column("id", PgType.int8), column("key", key: true)])
    #expect(
      explain(.insert, new: ["id": "1"], table: 1, catalogue: unheld)
        == ["new doc:{id}: the replica identity of public.docs does not hold column \"id\""])
    let long = String(repeating: "a", count: PackedKeys.longestKey)
    #expect(
      explain(.insert, new: ["id": long], table: 1, catalogue: nil)
        == ["new doc:{id}: the key would be longer than 65535 bytes; such a row begins a new generation"])
  }

  @Test("an UPDATE that a column filter ignores says so")
  func columnFilter() {
    let ignored = ["new doc:{id}: the UPDATE changes no column that \"columns\" lists or a template names"]
    func update(_ new: [String: String?], _ old: [String: String?]) -> [String] {
      explain(.update, new: new, old: old, table: 1, catalogue: nil)
    }
    #expect(update(["id": "1", "title": "a", "x": "1"], ["id": "1", "title": "a", "x": "2"]) == ignored)
    #expect(update(["id": "1", "title": "b"], ["id": "1", "title": "a"]) == ["new shop:doc:1"])
    #expect(
      update(["id": "2", "title": "a"], ["id": "1", "title": "a"])
        == ["new shop:doc:2", "old shop:doc:1"])
  }
}
