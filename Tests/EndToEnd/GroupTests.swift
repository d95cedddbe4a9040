import TestSupport
import Testing

@Suite("Prefixes and tags", .serialized)
struct GroupTests {
  static let tables = """
    { "products": { "keys": ["product:{id}", "category:{category_id}:*"], "tags": ["tenant:{tenant_id}"] } }
    """
  static let schema = """
    CREATE TABLE products (id bigint PRIMARY KEY, category_id int, tenant_id text, name text);
    ALTER TABLE products REPLICA IDENTITY FULL;
    INSERT INTO products SELECT n, n % 10, 't' || n % 3, 'Product ' || n FROM generate_series(1, 100) n;
    """
  static let caches = #""caches": { "report:{tenant_id}:{name}": { "tags": ["tenant:{tenant_id}"] } }"#

  private func world(redis: Bool = true) throws -> World {
    try World(tables: Self.tables, schema: Self.schema, options: [Self.caches], redis: redis)
  }

  private func lease(_ sidecar: Sidecar, _ key: String) throws -> String {
    let reply = try sidecar.client().call("NEARSIDE", "LEASE", key)
    guard let elements = reply.elements, elements.count == 2, elements[0] == nil, let token = elements[1].text
    else { throw HarnessError("LEASE \(key): \(reply)") }
    return token
  }

  private func isPending(_ world: World) throws -> Bool {
    try world.redis?.cli("HEXISTS", "nearside:{\(world.database)}:m", "pd") == "1"
  }

  private func waitUntilSwept(_ world: World) throws {
    try eventually("the sweep ends", within: .seconds(30)) {
      try isPending(world)
    } until: {
      !$0
    }
  }

  /// Keys of nobody, so that a sweep takes a while: a thousand steps.
  private func fillUp(_ world: World, _ count: Int = 200_000) throws {
    _ = try world.redis?.cli(
      "EVAL", "for i=1,tonumber(ARGV[2]) do redis.call('SET',ARGV[1]..i,'x') end", "0",
      world.key("filler:"), String(count))
  }

  @Test("A changed row clears the pages of its category, old and new, in Redis and in two near caches")
  func prefixes() throws {
    let world = try world()
    let a = try world.sidecar()
    let b = try world.sidecar()
    let gone = ["category:7:page:1", "category:7:page:2", "category:8:page:1"].map(world.key)
    let kept = ["category:70:page:1", "category:6:page:1", "product:8"].map(world.key)
    for key in gone + kept { try warm(key, "old", a, b) }
    try world.psql("UPDATE products SET category_id = 8 WHERE id = 7")
    try world.settle(a, b)
    for key in gone {
      #expect(try a.get(key) == nil)
      #expect(try b.get(key) == nil)
    }
    try waitUntilSwept(world)
    for key in gone { try expectGone(key, world, a, b) }
    for key in kept { try expectKept(key, "old", world, a, b) }
    try warm(gone[0], "new", a, b)
  }

  @Test("A changed row clears what has its tag, and a tag's name is no prefix")
  func tags() throws {
    let world = try world()
    let a = try world.sidecar()
    let b = try world.sidecar()
    let gone = ["report:t1:sales", "report:t1:stock"].map(world.key)
    let kept = ["report:t10:sales", "report:t2:sales", "report:t1:sales:2"].map(world.key)
    for key in gone + kept.prefix(2) { try warm(key, "old", a, b) }
    _ = try world.redis?.cli("SET", kept[2], "old")
    try world.psql("UPDATE products SET name = 'x' WHERE id = 1")
    try world.settle(a, b)
    for key in gone {
      #expect(try a.get(key) == nil)
      #expect(try b.get(key) == nil)
    }
    try waitUntilSwept(world)
    for key in gone { try expectGone(key, world, a, b) }
    for key in kept { try expectKept(key, "old", world, a, b) }
  }

  @Test("A value read before a group's change is not stored after it")
  func leases() throws {
    let world = try world()
    let a = try world.sidecar()
    for key in ["category:7:page:9", "report:t1:other"].map(world.key) {
      let token = try lease(a, key)
      let client = try a.client()
      #expect(try client.call("GET", key) == nil)
      try world.psql("UPDATE products SET name = name || '.' WHERE id = 7")
      try world.settle(a)
      #expect(try client.call("NEARSIDE", "FILL", key, token, "old") == 0)
      #expect(try client.call("SET", key, "old") == .ok)
      #expect(try client.call("MSET", key, "old") == .ok)
      #expect(try client.call("GET", key) == nil)
      try a.store(key, "new")
      #expect(try client.call("GET", key) == "new")
    }
  }

  @Test("While a sweep is held up nothing of before shows, and what is filled meanwhile is good")
  func heldUp() throws {
    let world = try world()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let b = try world.sidecar()
    let pages = (0..<4).map { world.key("category:7:page:\($0)") }
    let other = world.key("category:6:page:1")
    for key in pages + [other] { try a.store(key, "old") }
    try fillUp(world)
    try world.psql("UPDATE products SET name = 'new' WHERE id = 7")
    try world.settle(a, b)
    let client = try b.client()
    #expect(try client.call("GET", pages[0]) == nil)
    #expect(try client.call(["MGET", pages[0], other]) == .array([nil, "old"]))
    #expect(try client.call("EXISTS", pages[0], pages[1], other) == 1)
    #expect(try client.call("STRLEN", pages[0]) == 0)
    #expect(try client.call("TYPE", pages[1]) == .simple("none"))
    #expect(try client.call("EXPIRE", pages[1], "100") == 0)
    #expect(try client.call("GETDEL", pages[1]) == nil)
    #expect(try client.call("GET", pages[2]) == nil)
    #expect(try client.call("SET", pages[2], "x", "XX") == nil)
    guard case .error = try client.call("APPEND", pages[0], "x") else {
      Issue.record("a merging command ran on a value of before")
      return
    }
    let token = try lease(b, pages[3])
    #expect(try client.call("NEARSIDE", "FILL", pages[3], token, "new") == 1)
    #expect(try client.call("GET", pages[3]) == "new")
    let pending = try isPending(world)
    #expect(pending, "the sweep was over before anything could be seen")
    try waitUntilSwept(world)
    // The sweep may have met the new value or not: either is right, the old one is not.
    #expect(["", "new"].contains(try redis.cli("GET", pages[3])))
    #expect(try client.call("GET", pages[3]) == "new")
    for key in pages.prefix(3) { try expectGone(key, world, a, b) }
    try expectKept(other, "old", world, a, b)
    try warm(pages[0], "newer", a, b)
  }

  @Test("A group that is cleared again during its sweep is swept again")
  func again() throws {
    let world = try world()
    let a = try world.sidecar()
    let page = world.key("category:7:page:1")
    try fillUp(world)
    try a.store(page, "0")
    for number in 1...3 {
      try world.psql("UPDATE products SET name = '\(number)' WHERE id = 7")
      try world.settle(a)
      #expect(try a.get(page) == nil)
      try a.store(page, "\(number)")
      #expect(try a.get(page) == .bulk("\(number)"))
    }
    #expect(try a.client().call("NEARSIDE", "INVALIDATE", "PREFIX", world.key("category:7:")) == .ok)
    #expect(try a.get(page) == nil)
    try waitUntilSwept(world)
    try expectGone(page, world, a)
  }

  @Test("A tailer that dies during a sweep leaves it to the next one")
  func takeover() throws {
    let world = try world()
    let a = try world.sidecar()
    let b = try world.sidecar()
    let page = world.key("category:7:page:1")
    try a.store(page, "old")
    try fillUp(world)
    try world.psql("UPDATE products SET name = 'new' WHERE id = 7")
    try world.settle(b)
    #expect(try isPending(world))
    let (tailer, follower) = try a.status()["role"] == "tailer" ? (a, b) : (b, a)
    tailer.kill()
    #expect(try follower.get(page) == nil)
    try eventually("the other one tails", within: .seconds(30)) {
      try follower.status()["role"]
    } until: {
      $0 == "tailer"
    }
    try waitUntilSwept(world)
    try expectGone(page, world, follower)
  }

  @Test("A prefix that no rule gives, by SQL and by command, and tags by command")
  func adHoc() throws {
    let world = try world()
    let a = try world.sidecar()
    let b = try world.sidecar()
    let client = try a.client()
    let pages = ["category:7:page:1", "category:7:page:2", "category:7:list"].map(world.key)
    let report = world.key("report:t1:sales")
    let product = world.key("product:7")
    for key in pages + [report, product] { try warm(key, "old", a, b) }

    let token = try lease(a, world.key("category:7:page:3"))
    try world.psql("SELECT nearside.invalidate('\(world.key("category:7:page*"))')")
    try world.settle(a, b)
    for key in pages.prefix(2) {
      #expect(try a.get(key) == nil)
      #expect(try b.get(key) == nil)
    }
    #expect(try client.call("NEARSIDE", "FILL", world.key("category:7:page:3"), token, "old") == 0)
    try waitUntilSwept(world)
    for key in pages.prefix(2) { try expectGone(key, world, a, b) }
    for key in [pages[2], report, product] { try expectKept(key, "old", world, a, b) }

    #expect(try client.call("NEARSIDE", "INVALIDATE", "PREFIX", world.key("category:*")) == .ok)
    #expect(try a.get(pages[2]) == nil)
    #expect(try client.call("NEARSIDE", "INVALIDATE", "TAG", "tenant:t1") == .ok)
    #expect(try a.get(report) == nil)
    try waitUntilSwept(world)
    for key in [pages[2], report] { try expectGone(key, world, a) }
    try eventually("the other host has heard of it") {
      try b.get(report)
    } until: {
      $0 == nil
    }
    try expectKept(product, "old", world, a, b)
    // Leases of after the command are good at once.
    try a.store(report, "new")
    #expect(try b.get(report) == "new")
    for (words, text) in [
      (["PREFIX", "blog:"], "begins with this fleet's namespace"), (["TAG", "nobody"], "no cache has a tag"),
    ] {
      guard case .error(let error) = try client.call(["NEARSIDE", "INVALIDATE"] + words) else {
        Issue.record("\(words) was accepted")
        continue
      }
      #expect(error.contains(text))
    }
  }

  @Test("Without Redis the same holds of what is near")
  func embedded() throws {
    let world = try world(redis: false)
    let a = try world.sidecar()
    let client = try a.client()
    let (page, other) = (world.key("category:7:page:1"), world.key("category:6:page:1"))
    let report = world.key("report:t1:sales")
    for key in [page, other, report] { try a.store(key, "old") }
    let token = try lease(a, world.key("category:7:page:2"))
    try world.psql("UPDATE products SET name = 'new' WHERE id = 7")
    try world.settle(a)
    #expect(try client.call(["MGET", page, other, report]) == .array([nil, "old", nil]))
    #expect(try client.call("NEARSIDE", "FILL", world.key("category:7:page:2"), token, "old") == 0)
    try a.store(page, "new")
    #expect(try client.call("GET", page) == "new")
    #expect(try client.call("NEARSIDE", "INVALIDATE", "PREFIX", world.key("category:7:")) == .ok)
    #expect(try client.call(["MGET", page, other]) == .array([nil, "old"]))
    try world.psql("SELECT nearside.invalidate('\(world.key("category:6:p*"))')")
    try world.settle(a)
    #expect(try client.call("GET", other) == nil)
  }
}
