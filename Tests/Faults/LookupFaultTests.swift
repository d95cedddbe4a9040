import TestSupport
import Testing

@Suite("Keys that a lookup finds, on real servers")
struct LookupFaultTests {
  private static let lookup = "SELECT user_id FROM orders WHERE id = :order_id"

  private func cluster(_ sql: String = lookup, start: Bool = true) throws -> Cluster {
    var options = Cluster.Options()
    options.tables = """
      "kv": "kv:{id}",
      "items": { "keys": "item:{id}", "lookup": [{ "sql": "\(sql)", "keys": ["user:{user_id}:orders"] }] }
      """
    options.schema = """
      CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL);
      CREATE TABLE items (id int, order_id int, n int NOT NULL DEFAULT 0, PRIMARY KEY (id, order_id));
      INSERT INTO orders SELECT o, o + 100 FROM generate_series(1, 50) o;
      INSERT INTO items SELECT i, i % 50 + 1 FROM generate_series(1, 1000) i;
      """
    return try Cluster(options, start: start)
  }

  /// Stores a value and has every host keep it near.
  private func warm(_ cluster: Cluster, _ name: String) throws {
    let key = cluster.key(name)
    try cluster.hosts[0].store(key, "before")
    for host in cluster.hosts {
      try eventually("\(name) is near") {
        try host.read(key)
      } until: {
        $0.value == .bulk("before") && $0.isNear
      }
    }
  }

  private func pending(_ cluster: Cluster) throws -> Int {
    Int(try cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")) ?? 0
  }

  @Test("A change in one table clears keys that only a query finds; who waited for it reads nothing older")
  func dependent() throws {
    let cluster = try cluster()
    let before = try cluster.generation()
    for turn in 1...10 {
      try warm(cluster, "user:105:orders")
      try warm(cluster, "user:106:orders")
      // Orders 5 and 6 have twenty items each; one item moves to order 7.
      try cluster.sql(
        turn % 2 == 0
          ? "UPDATE items SET n = n + 1 WHERE order_id IN (5, 6)"
          : "UPDATE items SET order_id = 6, id = 10000 + id WHERE id = (SELECT min(id) FROM items WHERE order_id = 5)"
      )
      try cluster.settle()
      for host in cluster.hosts {
        #expect(try host.get(cluster.key("user:105:orders")) == nil, "turn \(turn)")
        #expect(try host.get(cluster.key("user:106:orders")) == nil, "turn \(turn)")
      }
    }
    let host = try cluster.follower()
    let why = try host.client().call("NEARSIDE", "WHY", cluster.key("user:105:orders")).text ?? ""
    #expect(why.contains("invalidation_table:public.items"), "\(why)")
    #expect(why.contains("invalidation_template:user:{user_id}:orders"), "\(why)")
    #expect(try cluster.generation() == before)
    try cluster.expectSound()
  }

  @Test("check prepares a lookup and says what is wrong with it, explain shows what a row asks")
  func checked() throws {
    func run(_ cluster: Cluster, _ command: String, _ rest: String...) throws -> Finished {
      let folder = try TemporaryFolder()
      let file = try folder.write(cluster.configuration, to: "config.json")
      return try Sidecar.command(
        [command, "--config", file] + rest,
        environment: ["DATABASE_URL": cluster.url, "REDIS_URL": cluster.redis.url])
    }
    let sound = try cluster(start: false)
    let good = try run(sound, "check")
    #expect(good.exit == .code(0), "\(good.errors)")
    let row = #"{"id": 4, "order_id": 5}"#
    let explained = try run(sound, "explain", "items", row, "--old", #"{"id": 4, "order_id": 6}"#)
    #expect(explained.output.contains("user:{user_id}:orders: \(Self.lookup) with order_id = 5"))
    #expect(explained.output.contains("with order_id = 6"))
    let wrong = try run(cluster("SELECT user_id FROM ordres WHERE id = :order_id", start: false), "check")
    #expect(wrong.exit != .code(0))
    #expect(wrong.errors.contains("5:") && wrong.errors.contains("the lookup cannot be prepared"))
    #expect(wrong.errors.contains("ordres"))
    let other = try run(cluster("SELECT id FROM orders WHERE id = :order_id", start: false), "check")
    #expect(other.errors.contains("user_id"), "\(other.errors)")
  }

  @Test("A lookup waits until its transaction is visible; plain keys and evidence do not")
  func invisible() throws {
    let cluster = try cluster()
    try warm(cluster, "user:105:orders")
    try warm(cluster, "item:4")
    try cluster.warm(1)
    cluster.postgres.set("synchronous_standby_names", "'nobody'")
    try cluster.postgres.reload()
    // The order gets another user in the same transaction: only a query after it is visible tells that.
    let writer = try cluster.postgres.background(
      "BEGIN; UPDATE orders SET user_id = 205 WHERE id = 5; UPDATE items SET n = 1 WHERE id = 4; COMMIT",
      database: cluster.database)
    try eventually("the commit waits") { try pending(cluster) == 1 }
    try eventually("the plain key is cleared") {
      try cluster.redis.cli("EXISTS", cluster.key("item:4")) == "0"
    }
    try cluster.sql("SET synchronous_commit = local; UPDATE kv SET v = v + 1 WHERE id = 1")
    try eventually("so is another") { try cluster.redis.cli("EXISTS", cluster.key(1)) == "0" }
    let since = bootMoment()
    try cluster.waitUntilWell(since: since + .milliseconds(500))
    for host in cluster.hosts {
      #expect(try host.get(cluster.key("user:105:orders")) == .bulk("before"))
      // Whoever waits for a later position waits for it, too.
      let position = try cluster.sql("SELECT pg_current_wal_insert_lsn()")
      #expect(try host.client().call("NEARSIDE", "WAIT", position, "100") == 0)
    }
    try cluster.redis.cli("SET", cluster.key("user:205:orders"), "before")
    try cluster.cancelWaits()
    _ = try writer.wait()
    cluster.postgres.set("synchronous_standby_names", "''")
    try cluster.postgres.reload()
    try cluster.settle()
    for host in cluster.hosts { #expect(try host.get(cluster.key("user:205:orders")) == nil) }
    try cluster.expectSound()
  }

  @Test("A tailer that is killed between a commit and its lookup loses nothing")
  func killed() throws {
    let cluster = try cluster()
    let before = try cluster.generation()
    try warm(cluster, "user:105:orders")
    try warm(cluster, "item:4")
    cluster.postgres.set("synchronous_standby_names", "'nobody'")
    try cluster.postgres.reload()
    let writer = try cluster.postgres.background(
      "UPDATE items SET n = 1 WHERE id = 4", database: cluster.database)
    try eventually("the commit waits") { try pending(cluster) == 1 }
    // The transaction has been applied, but for its lookup.
    try eventually("the plain key is cleared") {
      try cluster.redis.cli("EXISTS", cluster.key("item:4")) == "0"
    }
    let tailer = try cluster.waitForTailer()
    tailer.kill()
    #expect(try cluster.redis.cli("EXISTS", cluster.key("user:105:orders")) == "1")
    try cluster.cancelWaits()
    _ = try writer.wait()
    cluster.postgres.set("synchronous_standby_names", "''")
    try cluster.postgres.reload()
    try tailer.start()
    try cluster.waitUntilWell()
    try cluster.settle()
    for host in cluster.hosts { #expect(try host.get(cluster.key("user:105:orders")) == nil) }
    #expect(try cluster.generation() == before)
    try cluster.expectSound()
  }

  @Test("A lookup that always fails clears every key that begins like its template, and nothing else")
  func fails() throws {
    let cluster = try cluster(
      "SELECT user_id / (id - :order_id) AS user_id FROM orders WHERE id = :order_id")
    let before = try cluster.generation()
    try warm(cluster, "user:105:orders")
    try warm(cluster, "user:106:orders")
    try cluster.warm(1)
    try cluster.sql("UPDATE items SET n = 1 WHERE id = 4")
    try cluster.settle()
    for host in cluster.hosts {
      #expect(try host.get(cluster.key("user:105:orders")) == nil)
      #expect(try host.get(cluster.key("user:106:orders")) == nil)
    }
    try cluster.expectKept(1)
    #expect(try cluster.generation() == before)
    let tailer = try cluster.waitForTailer()
    try eventually("the trouble is told") {
      try tailer.status()["trouble"]?.contains("lookup of table public.items") == true
    }
    #expect(tailer.sidecar.log.contains("PostgreSQL reported error 22012"))
    try cluster.waitUntilWell()
  }
}
