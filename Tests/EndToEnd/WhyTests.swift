import TestSupport
import Testing

@Suite("Why, with real servers")
struct EndToEndWhyTests {
  private func why(_ key: String, _ sidecar: Sidecar) throws -> [String: String] {
    let text = try sidecar.client().call("NEARSIDE", "WHY", key).text ?? ""
    var lines: [String: String] = [:]
    for line in text.split(separator: "\n") {
      let halves = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      lines[String(halves[0])] = String(halves[1])
    }
    return lines
  }

  @Test(
    "every sidecar names the transaction, table and template that cleared a key, and why the generation began"
  )
  func everywhere() throws {
    let world = try World(postgres: PostgresServer())
    let a = try world.sidecar()
    let b = try world.sidecar()
    let key = world.key("user:by-email:user1@example.com")
    try warm(key, "x", a, b)
    #expect(try why(key, a)["fill"] == "NEARSIDE FILL")
    let id = try world.psql(
      "BEGIN; UPDATE users SET name = 'x' WHERE id = 1; SELECT pg_current_xact_id(); COMMIT"
    ).split(separator: "\n").first { $0.allSatisfy(\.isNumber) }.map(String.init)
    try world.settle(a, b)
    for sidecar in [a, b] {
      let lines = try why(key, sidecar)
      #expect(lines["invalidation"] == "transaction")
      #expect(lines["invalidation_transaction"] == id)
      #expect(lines["invalidation_table"] == "public.users")
      #expect(lines["invalidation_template"] == "user:by-email:{email|lower}")
      #expect(lines["near"] == "0")
      #expect(lines["generation_because"] == "there is no state of this namespace yet")
    }
    try world.psql("SELECT nearside.invalidate('\(key)')")
    try world.settle(a, b)
    for sidecar in [a, b] {
      let lines = try why(key, sidecar)
      #expect(lines["invalidation_function"] == "nearside.invalidate")
      #expect(lines["invalidation_transaction"].flatMap { Int($0) }.map { $0 > Int(id ?? "") ?? 0 } == true)
      #expect(lines["invalidation_table"] == nil)
    }
    let token = try b.client().call("NEARSIDE", "LEASE", key).elements?.last?.text ?? ""
    #expect(try a.client().call("DEL", key) == 0)
    #expect(try b.client().call("NEARSIDE", "FILL", key, token, "late") == 0)
    let refused = try why(key, b)
    #expect(refused["refused"] == "NEARSIDE FILL")
    #expect(refused["refused_because"]?.hasPrefix("fence: ") == true)
    for sidecar in [a, b] {
      try eventually("the deletion is heard") { try why(key, sidecar)["invalidation"] == "application" }
    }
    try world.psql("TRUNCATE users")
    for sidecar in [a, b] {
      try eventually("the new generation is explained") {
        try why(key, sidecar)["generation_because"] == "table public.users was truncated"
      }
    }
  }

  @Test("a key that a prefix rule clears has the rule's transaction, table and template")
  func prefixes() throws {
    let world = try World(
      tables: #"{ "products": ["product:{id}", "category:{stock}:*"] }"#,
      schema: """
        CREATE TABLE products (id bigint PRIMARY KEY, name text, stock int NOT NULL DEFAULT 0);
        ALTER TABLE products REPLICA IDENTITY FULL;
        INSERT INTO products SELECT n, 'Product ' || n, 10 FROM generate_series(1, 10) n;
        """)
    let a = try world.sidecar()
    let b = try world.sidecar()
    let key = world.key("category:10:page:2")
    try warm(key, "x", a, b)
    try world.psql("UPDATE products SET name = 'y' WHERE id = 1")
    try world.settle(a, b)
    for sidecar in [a, b] {
      let lines = try why(key, sidecar)
      #expect((lines["near"], lines["invalidation"]) == ("0", "transaction"))
      #expect(lines["invalidation_table"] == "public.products")
      #expect(lines["invalidation_template"] == "category:{stock}:*")
      #expect(try why(world.key("category:11:page:2"), sidecar)["invalidation"] == "none")
    }
    _ = try a.client().call("NEARSIDE", "INVALIDATE", "PREFIX", world.key("category:1"))
    for sidecar in [a, b] {
      try eventually("the prefix is heard") { try why(key, sidecar)["invalidation"] == "application" }
    }
  }
}
