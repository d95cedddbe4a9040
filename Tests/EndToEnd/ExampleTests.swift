import Foundation
import TestSupport
import Testing

/// `config.example.json` on the schema of `deploy/shop.sql`, with a hot standby that rows are loaded from, by the roles
/// of `deploy/postgres.sql` and with no right that everybody has by default.
@Suite("The example configuration at work")
struct ExampleTests {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  private static func text(_ path: String) throws -> String {
    try String(contentsOf: root.appending(path: path), encoding: .utf8)
  }

  @Test("check finds nothing wrong with it on a real database, and each of its strategies does what it says")
  func example() throws {
    let postgres = try PostgresServer(settings: ["max_slot_wal_keep_size": "'10GB'"])
    // As what is written behind asks for.
    let redis = try RedisServer(["--appendonly", "yes"])
    let database = try postgres.createDatabase()
    try postgres.psql(Self.text("deploy/shop.sql"), database: database)
    try postgres.psql(
      "REVOKE ALL ON DATABASE \(database) FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC",
      database: database)
    for _ in 1...2 { try postgres.psql(Self.text("deploy/postgres.sql"), database: database) }
    let standby = try PostgresServer(standbyOf: postgres)
    let group = try #require(getgrgid(getgid())).pointee.gr_name.map { String(cString: $0) }
    let environment = [
      "DATABASE_URL": postgres.url(user: "nearside", database: database), "REDIS_URL": redis.url,
      "LOADER_DATABASE_URL": standby.url(user: "shop_cache", database: database),
      "NEARSIDE_GROUP": try #require(group), "NEARSIDE_USER": "\(getuid())",
    ]
    let folder = try TemporaryFolder()
    // As it stands, but for the socket, which a harness looks for beside the file.
    let configuration = try Self.text("config.example.json").replacing("127.0.0.1:6380", with: "127.0.0.1:0")
      .replacing("127.0.0.1:9847", with: "127.0.0.1:0")
      .replacing(
        "${NEARSIDE_SOCKET:-/run/nearside/redis.sock}", with: "${RUNTIME_DIRECTORY}/n.sock")
    let file = try folder.write(configuration, to: "config.json")
    func command(_ words: String...) throws -> Finished {
      try Sidecar.command(
        words + ["--config", file],
        environment: environment.merging(["RUNTIME_DIRECTORY": folder.path]) { $1 })
    }
    let setup = try command("setup", "--as", postgres.url(database: database), "--apply")
    try #require(setup.exit == .code(0), "\(setup.errors)")
    let check = try command("check")
    #expect(check.exit == .code(0), "\(check.errors)")
    #expect(!check.errors.contains("warning"), "\(check.errors)")

    let sidecar = try Sidecar(
      configuration, postgres: environment["DATABASE_URL"], redis: redis.url, environment: environment)
    try sidecar.waitUntilFollowing()
    let client = try sidecar.client()
    func sql(_ text: String) throws {
      try postgres.psql(text, database: database)
      let position = try postgres.psql("SELECT pg_current_wal_insert_lsn()")
      #expect(try client.call("NEARSIDE", "WAIT", position, "10000") == 1)
    }
    // Read-through, negative caching, and a change.
    #expect(try client.call("GET", "shop:user:42").text?.contains("Ada") == true)
    #expect(try client.call("GET", "shop:user:5000") == nil)
    try sql("INSERT INTO users (id, tenant_id, email, name) VALUES (5000, 7, 'e@example.com', 'Eve')")
    try sql("UPDATE users SET name = 'Countess' WHERE id = 42")
    #expect(try client.call("GET", "shop:user:5000").text?.contains("Eve") == true)
    #expect(try client.call("GET", "shop:user:42").text?.contains("Countess") == true)
    let life = try client.call("PTTL", "shop:user:42")
    guard case .integer(let left) = life else { throw HarnessError("no PTTL: \(life)") }
    #expect((780_000...900_000).contains(left), "15m less at most a tenth, less this test")
    // A hash, a list under a prefix, and a condition: a draft's change is nobody's business.
    #expect(try client.call("HGET", "shop:product:7", "price") == "17.00")
    #expect(try client.call("LRANGE", "shop:category:7:products", "0", "0") == .array(["107"]))
    try sql("UPDATE products SET name = 'A lamp' WHERE id = 27")
    #expect(try client.call("LRANGE", "shop:category:7:products", "0", "0") == .array(["27"]))
    try sql("UPDATE products SET status = 'draft' WHERE id = 8")
    try sidecar.store("shop:product:sku:sku-8", "draft")
    try sql("UPDATE products SET price = 1 WHERE id = 8")
    #expect(try client.call("GET", "shop:product:sku:sku-8") == "draft")
    // A lookup: the item's row does not name the user.
    #expect(try client.call("GET", "shop:user:8:orders").text != nil)
    #expect(try redis.cli("EXISTS", "shop:user:8:orders") == "1")
    try sql("UPDATE sales.order_items SET quantity = 9 WHERE order_id = 7 AND line_no = 1")
    #expect(try redis.cli("EXISTS", "shop:user:8:orders") == "0")
    // Write-through: the row first, and PostgreSQL has the last word.
    #expect(try client.call("SET", "shop:product:7:stock", "99") == .simple("OK"))
    #expect(try postgres.psql("SELECT stock FROM products WHERE id = 7", database: database) == "99")
    #expect(try client.call("SET", "shop:product:7:stock", "-1").errorText?.contains("23514") == true)
    // Write-behind: every host has it at once, and the row soon.
    #expect(try client.call("SET", "shop:cart:42", #"{"lamp": 2}"#) == .simple("OK"))
    #expect(try client.call("GET", "shop:cart:42") == .bulk(#"{"lamp": 2}"#))
    try eventually("the cart's row is written", within: .seconds(20)) {
      try postgres.psql("SELECT body FROM carts WHERE user_id = 42", database: database)
    } until: {
      $0 == #"{"lamp": 2}"#
    }
    // A tag, and what an application announces.
    try sidecar.store("shop:tenant:7:report:sales", "x")
    #expect(try client.call("NEARSIDE", "INVALIDATE", "TAG", "tenant:7") == .simple("OK"))
    #expect(try client.call("GET", "shop:tenant:7:report:sales") == nil)
    try sidecar.store("shop:exchange-rates", "x")
    #expect(try redis.cli("PUBLISH", "cache-invalidation", "shop:exchange-rates") == "1")
    try eventually("the announcement is carried out") {
      try redis.cli("EXISTS", "shop:exchange-rates") == "0"
    }
  }
}
