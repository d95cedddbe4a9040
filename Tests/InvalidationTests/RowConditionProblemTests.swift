import Configuration
import Invalidation
import Testing

// Conditions against the catalogue, and in explain.
extension RowConditionTests {
  static func problems(
    _ when: String, identity: ReplicaIdentity = .full,
    on operations: Set<RowOperation> = Set(RowOperation.allCases)
  ) throws -> [String] {
    var columns =
      columns + [
        column("seen", PgType.timestamptz, key: true), column("made", generated: true),
        column("uid", 2950, key: true),
        column("day", 1082, key: true),
      ]
    if identity != .full {
      for index in columns.indices { columns[index].inIdentity = columns[index].name == "id" }
    }
    let plan = KeyPlan(tables: [try ruled(when, on: operations)], keyPrefix: "")
    return plan.problems(with: table(10, "products", identity: identity, columns)).map {
      "\($0.place.column - 19)+\($0.place.length) \($0.isFatal ? "" : "warning ")\($0.message)"
    }
  }

  @Test(
    "sound conditions have no problems",
    arguments: [
      "changed(price, seen) and new.status <> 'draft'", "id > 5 and price between 1 and 2.5",
      "seen = '2026-01-01 00:00:00+00'",
      "uid = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "day = '2026-01-31'",
      "mood = 'ok' and new.mood <> old.mood",
      "active and active = 'f'", "new.code = old.code", "id = new.price",
    ])
  func sound(when: String) throws {
    #expect(try Self.problems(when) == [])
  }

  @Test("unknown columns, generated ones and types that cannot be compared so are told with their places")
  func misfits() throws {
    let known = "id, status, price, active, code, mood, mail, body, cat, seen, made, uid, day"
    #expect(
      try Self.problems("id = 1 and new.statsu = 'x'") == [
        "12+10 \"when\" names column \"statsu\", which table public.products does not have (columns: \(known)); did "
          + "you mean \"status\"?"
      ])
    let generated = try Self.problems("made = 'x'")
    #expect(generated.count == 1)
    #expect(
      generated[0].hasPrefix("1+4 \"when\" names column \"made\" of public.products, which is generated"))
    let text = "in \"when\" of public.products column "
    for (when, expected) in [
      (
        "status < 'x'",
        "8+1 \(text)\"status\" is of type text, whose order depends on the collation, which is not known here; texts are "
          + "compared with =, <>, in and like only"
      ),
      ("status = 5", "10+1 \(text)\"status\" is of type text and is compared with a text in single quotes"),
      ("price = 'x'", "9+3 \(text)\"price\" is of type ? and is compared with a number"),
      ("active = 1", "10+1 \(text)\"active\" is of type bool and is compared with true or false"),
      (
        "active < true",
        "8+1 \(text)\"active\" is of type bool, and only numbers are compared with <, <=, >, >= and between"
      ),
      (
        "seen > '2026'",
        "6+1 \(text)\"seen\" is of type timestamptz, and only numbers are compared with <, <=, >, >= and between"
      ),
      (
        "seen = 5",
        "8+1 \(text)\"seen\" is of type timestamptz and is compared with PostgreSQL's own text for its values, in single "
          + "quotes"
      ),
      (
        "uid = 'A'",
        "7+3 \(text)\"uid\" is of type ? and is compared with a uuid in single quotes, in lower case with hyphens"
      ),
      (
        "day = '1.2.2026'",
        "7+10 \(text)\"day\" is of type ? and is compared with a date in single quotes, like '2026-01-31'"
      ),
      ("price like '1%'", "7+4 \(text)\"price\" is of type ?, and \"like\" is for texts only"),
      ("new.status", "1+10 \(text)\"status\" is of type text, and only a boolean stands by itself"),
      (
        "new.status = new.price",
        "12+1 \(text)\"status\" is of type text and column \"price\" of type ?, and only columns of one kind are compared"
      ),
    ] {
      #expect(try Self.problems(when) == [expected], "\(when)")
    }
  }

  @Test("a column outside the replica identity is refused wherever its old value decides")
  func identity() throws {
    let fix =
      "; run ALTER TABLE public.products REPLICA IDENTITY FULL, or, for less log, CREATE UNIQUE INDEX products_nearside "
      + "ON public.products (id, status) and ALTER TABLE public.products REPLICA IDENTITY USING INDEX products_nearside"
    #expect(
      try Self.problems("old.status = 'x'", identity: .primaryKey) == [
        "1+10 \"when\" names column \"status\", which the replica identity of public.products does not hold, so what it "
          + "was before an UPDATE or DELETE could not be told\(fix)"
      ])
    #expect(
      try Self.problems("new.status = 'x'", identity: .primaryKey) == [
        "1+10 \"when\" names column \"status\", which the replica identity of public.products does not hold, so an UPDATE "
          + "that takes a row out of the condition could not be told\(fix)"
      ])
    #expect(try Self.problems("new.status = 'x'", identity: .primaryKey, on: [.insert, .delete]) == [])
    #expect(try Self.problems("status = 'x'", identity: .primaryKey, on: [.insert, .delete]).count == 1)
    #expect(try Self.problems("status = 'x'", identity: .primaryKey, on: [.insert]) == [])
    #expect(try Self.problems("id = 5", identity: .primaryKey) == [])
  }

  // MARK: explain

  @Test("explain says that the condition is not met, with and without the catalogue")
  func explain() throws {
    let plan = KeyPlan(
      tables: [try Self.ruled("changed(price) and new.status <> 'draft'")], keyPrefix: "shop:")
    func explain(_ operation: RowOperation, new: [String: String?]? = nil, old: [String: String?]? = nil)
      -> [String]
    {
      [Self.products, nil].map { catalogue in
        plan.explain(table: 0, catalogue: catalogue, new: new, old: old, operation: operation).map {
          switch $0.outcome {
          case .key(let key): key
          case .none(let reason): reason
          }
        }.joined(separator: "|")
      }
    }
    let unmet = "the condition of \"when\" is not met"
    func both(_ text: String) -> [String] { [text, text] }
    #expect(explain(.insert, new: ["id": "1", "status": "draft"]) == both(unmet))
    #expect(explain(.insert, new: ["id": "1", "status": "live"]) == both("shop:p:1"))
    #expect(explain(.delete, old: ["id": "1", "status": "draft"]) == both("shop:p:1"))
    #expect(
      explain(.update, new: ["id": "1", "status": "live", "price": "2"], old: ["price": "2.0"])
        == both("shop:p:1"))
    #expect(
      explain(.update, new: ["id": "1", "status": "live", "price": "2"], old: ["price": "2"]) == both(unmet))
    #expect(
      explain(.update, new: ["id": "1", "status": "draft"], old: ["status": "live"]) == both("shop:p:1"))
    #expect(
      explain(.update, new: ["id": "1", "status": "draft", "price": "1"], old: ["price": "2"]) == both(unmet))
  }
}
