import Foundation
import TestSupport
import Testing

@Suite("Conditions of rows, end to end")
struct RowConditionTests {
  static let schema = """
    CREATE TABLE products (id bigint PRIMARY KEY, name text, price numeric(10, 2), status text, views int DEFAULT 0,
      body text);
    ALTER TABLE products REPLICA IDENTITY FULL;
    ALTER TABLE products ALTER body SET STORAGE EXTERNAL;
    INSERT INTO products SELECT n, 'p' || n, n, CASE WHEN n < 50 THEN 'live' ELSE 'draft' END, 0, repeat('x', 4000)
    FROM generate_series(1, 100) n;
    """

  static let tables = #"""
    { "products": { "keys": "product:{id}", "when": "changed(price, name, body) and new.status <> 'draft'" } }
    """#

  @Test("A change that does not meet the condition clears nothing, and one that does clears its key")
  func filtered() throws {
    let world = try World(tables: Self.tables, schema: Self.schema)
    let a = try world.sidecar()
    let b = try world.sidecar()
    let live = world.key("product:1")
    let draft = world.key("product:60")
    for key in [live, draft] { try warm(key, "v", a, b) }
    for sql in [
      "UPDATE products SET views = views + 1", "UPDATE products SET price = 7, name = 'x' WHERE id = 60",
      "UPDATE products SET body = repeat('y', 4000) WHERE id = 60",
      "INSERT INTO products VALUES (160, 'new', 1, 'draft')",
    ] {
      try world.psql(sql)
      try world.settle(a, b)
      for key in [live, draft] { try expectKept(key, "v", world, a, b) }
    }
    for sql in [
      "UPDATE products SET price = price + 1 WHERE id = 1", "UPDATE products SET body = 'short' WHERE id = 1",
      "UPDATE products SET name = NULL WHERE id = 1", "DELETE FROM products WHERE id = 1",
      "INSERT INTO products VALUES (1, 'again', 1, 'live')",
    ] {
      if try a.get(live) == nil { try warm(live, "v", a, b) }
      try world.psql(sql)
      try world.settle(a, b)
      try expectGone(live, world, a, b)
      try expectKept(draft, "v", world, a, b)
    }
  }

  @Test("A row that leaves the condition clears its key, and so does one that enters it")
  func transition() throws {
    let world = try World(tables: Self.tables, schema: Self.schema)
    let a = try world.sidecar()
    for (id, status) in [(1, "draft"), (60, "live"), (2, "sold"), (2, "draft")] {
      let key = world.key("product:\(id)")
      if try a.get(key) == nil { try warm(key, "v", a) }
      try world.psql("UPDATE products SET status = '\(status)' WHERE id = \(id)")
      try world.settle(a)
      if status == "sold" {
        try expectKept(key, "v", world, a)
      } else {
        try expectGone(key, world, a)
      }
    }
  }

  @Test(
    "check refuses a condition that the database cannot answer, with its place, and explain says when it is not met"
  )
  func commands() throws {
    let tables = #"{ "products": { "keys": "product:{id}", "when": "old.price > 5 and statsu = 'x'" } }"#
    let schema = Self.schema.replacing("ALTER TABLE products REPLICA IDENTITY FULL;", with: "")
    let world = try World(tables: tables, schema: schema, setup: false)
    let check = try world.command("check")
    let said = check.output + check.errors
    #expect(check.exit != .code(0))
    #expect(
      said.contains(#""when" names column "statsu", which table public.products does not have"#), "\(said)")
    #expect(said.contains(#"did you mean "status"?"#), "\(said)")
    #expect(
      said.contains(
        #""when" names column "price", which the replica identity of public.products does not hold"#))
    let line =
      world.configuration.split(separator: "\n").firstIndex { $0.contains("statsu") }.map { $0 + 1 } ?? 0
    let text = world.configuration.split(separator: "\n").first { $0.contains("statsu") } ?? ""
    let column =
      text.range(of: "statsu").map { text.distance(from: text.startIndex, to: $0.lowerBound) + 1 } ?? 0
    #expect(said.contains("config.json:\(line):\(column): error"), "\(said)")

    let broken = try World(
      tables: #"{ "products": { "keys": "product:{id}", "when": "new.price >" } }"#, schema: schema,
      setup: false)
    let unread = try broken.command("check")
    #expect(unread.exit != .code(0))
    #expect((unread.output + unread.errors).contains("the condition ends where a column must stand"))

    let sound = try World(tables: Self.tables, schema: Self.schema)
    #expect(try sound.command("check").exit == .code(0))
    let explained = try sound.command("explain", "products", #"{"id":1,"status":"draft"}"#)
    #expect(
      explained.output.contains(#"-    product:{id}: the condition of "when" is not met"#),
      "\(explained.output)")
    let met = try sound.command("explain", "products", #"{"id":1,"status":"live"}"#)
    #expect(met.output.contains("product:1    product:{id}"), "\(met.output)")
  }
}
