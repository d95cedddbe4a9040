import Glibc
import TestSupport
import Testing

/// Without Redis: one process, PostgreSQL, and nothing else.
@Suite("Embedded: a sidecar without Redis")
struct EmbeddedTests {
  private func start(_ options: String..., tables: String = World.tables) throws -> (World, Sidecar) {
    let world = try World(tables: tables, options: options, redis: false)
    return (world, try world.sidecar())
  }

  // MARK: The story

  @Test("A value is filled, served from memory, and gone as soon as its row changes in psql")
  func story() throws {
    let (world, sidecar) = try start()
    let client = try sidecar.client()
    #expect(try sidecar.status()["mode"] == "embedded")
    #expect(try sidecar.status()["role"] == "standalone")
    try fillAside(client, world.key("user:1"), "one")
    try fillAside(client, world.key("user:by-email:user1@example.com"), "one")
    try fillAside(client, world.key("user:2"), "two")
    let hits = try sidecar.count("near_hits")
    for _ in 0..<100 { #expect(try client.call("GET", world.key("user:1")) == "one") }
    #expect(try sidecar.count("near_hits") == hits + 100)

    try world.psql("UPDATE users SET email = 'New@example.com' WHERE id = 1")
    try world.settle(sidecar)
    #expect(try client.call("GET", world.key("user:1")) == nil)
    #expect(try client.call("GET", world.key("user:by-email:user1@example.com")) == nil)
    #expect(try client.call("GET", world.key("user:2")) == "two")
    try fillAside(client, world.key("user:by-email:new@example.com"), "again")

    try world.psql("DELETE FROM users WHERE id = 2")
    try world.settle(sidecar)
    #expect(try client.call("GET", world.key("user:2")) == nil)

    // That there is no row may be remembered as well, until there is one.
    try fillAside(client, world.key("user:999"), "none")
    try world.psql("INSERT INTO users VALUES (999, 'x@example.org', 'X')")
    try world.settle(sidecar)
    #expect(try client.call("GET", world.key("user:999")) == nil)
  }

  @Test("A transaction that is rolled back clears nothing")
  func rollback() throws {
    let (world, sidecar) = try start()
    let client = try sidecar.client()
    try fillAside(client, world.key("user:1"), "one")
    try world.psql("BEGIN; UPDATE users SET name = 'x' WHERE id = 1; ROLLBACK;")
    try world.settle(sidecar)
    #expect(try client.call("GET", world.key("user:1")) == "one")
  }

  @Test("TRUNCATE drops everything, unless the table's \"on\" leaves it out")
  func truncate() throws {
    let (world, sidecar) = try start(
      tables: """
        { "users": "user:{id}", "products": { "keys": "product:{id}", "on": ["insert", "update", "delete"] } }
        """)
    let client = try sidecar.client()
    try fillAside(client, world.key("user:1"), "one")
    try fillAside(client, world.key("product:1"), "first")
    let generation = try sidecar.status()["generation"]

    try world.psql("TRUNCATE products")
    try world.settle(sidecar)
    #expect(try client.call("MGET", world.key("user:1"), world.key("product:1")) == .array(["one", "first"]))
    #expect(try sidecar.status()["generation"] == generation)

    try world.psql("TRUNCATE users")
    try eventually("a new generation") { try sidecar.status()["generation"] != generation }
    #expect(try client.call("MGET", world.key("user:1"), world.key("product:1")) == .array([nil, nil]))
    try eventually("the log says why") { sidecar.log.contains("table public.users was truncated") }
    try sidecar.waitUntilFollowing()
    try fillAside(client, world.key("user:2"), "anew")
  }

  // MARK: What it refuses

  @Test("A key that no mapping covers is an error with the reason, never an empty answer")
  func uncovered() throws {
    let (world, sidecar) = try start()
    let client = try sidecar.client()
    let commands: [[String]] = [
      ["GET", "other:1"], ["SET", "other:1", "x"], ["MGET", world.key("user:1"), "other:1"],
      ["DEL", "other:1"],
      ["EXISTS", world.key("session:1")], ["GETDEL", "other:1"], ["TTL", "other:1"], ["INCR", "other:1"],
      ["MSET", world.key("user:1"), "a", "other:1", "b"], ["NEARSIDE", "LEASE", "other:1"],
    ]
    for command in commands {
      let reply = try client.call(command)
      #expect(
        reply.errorText == "ERR Nearside: no mapping covers this key and no Redis is configured to hold it",
        "\(command): \(reply)")
    }
    // The refused MSET has set nothing.
    #expect(try client.call("GET", world.key("user:1")) == nil)
  }

  @Test("Other types are a clear error that names the command")
  func otherTypes() throws {
    let (world, sidecar) = try start()
    let client = try sidecar.client()
    for command in [
      ["HSET", world.key("user:1"), "f", "v"], ["HGETALL", world.key("user:1")],
      ["LPUSH", world.key("user:1"), "v"],
      ["SADD", world.key("user:1"), "v"], ["ZADD", world.key("user:1"), "1", "v"],
      ["XADD", world.key("user:1"), "*", "f", "v"],
      ["PFADD", world.key("user:1"), "v"], ["SETBIT", world.key("user:1"), "1", "1"],
    ] {
      let reply = try client.call(command)
      #expect(
        reply.errorText == "ERR Nearside: '\(command[0].lowercased())' is not available without Redis",
        "\(command): \(reply)")
    }
    for command in [
      ["MULTI"], ["SUBSCRIBE", "c"], ["BLPOP", world.key("user:1"), "1"], ["FLUSHALL"], ["KEYS", "*"],
    ] {
      #expect(try client.call(command).errorText != nil, "\(command)")
    }
    #expect(try client.call("PING") == .simple("PONG"))
  }

  // MARK: Strings

  @Test("SET with and without a time to live, and with its options, does what Redis does")
  func options() throws {
    let (world, sidecar) = try start()
    let client = try sidecar.client()
    let name = world.key("user:1")
    try fillAside(client, name, "one")
    #expect(try client.call("TTL", name) == -1)
    #expect(try client.call("SET", name, "two", "NX") == nil)
    #expect(try client.call("GET", name) == "one")
    #expect(try client.call("SET", name, "two", "XX", "GET", "EX", "100") == "one")
    #expect(try client.call("TTL", name) == 100)
    #expect(try client.call("SET", name, "three", "KEEPTTL") == .ok)
    #expect(try client.call("GET", name) == "three")
    let left = try client.call("PTTL", name).integerValue ?? 0
    #expect((90_000...100_000).contains(left))
    #expect(try client.call("PERSIST", name) == 1)
    #expect(try client.call("TTL", name) == -1)
    #expect(try client.call("EXPIRE", name, "50", "NX") == 1)
    #expect(try client.call("EXPIRE", name, "60", "NX") == 0)
    #expect(try client.call("STRLEN", name) == 5)
    #expect(try client.call("TYPE", name) == .simple("string"))
    #expect(
      try client.call("SET", name, "x", "EX", "0").errorText == "ERR invalid expire time in 'set' command")
    #expect(try client.call("SET", name, "x", "NX", "XX").errorText == "ERR syntax error")
    #expect(try client.call("SET", name).errorText == "ERR wrong number of arguments for 'set' command")
    #expect(try client.call("GETDEL", name) == "three")
    #expect(try client.call("GET", name) == nil)

    let number = world.key("user:2")
    try fillAside(client, number, "10")
    #expect(try client.call("INCRBY", number, "5") == 15)
    #expect(try client.call("APPEND", number, "0") == 3)
    #expect(try client.call("GET", number) == "150")
    #expect(try client.call("SET", number, "short", "PX", "30") == .ok)
    try eventually("its time is over") { try client.call("GET", number) == nil }
    #expect(try client.call("EXISTS", number) == 0)
  }

  @Test("RESP3 is answered in RESP3")
  func resp3() throws {
    let (world, sidecar) = try start()
    let client = try sidecar.client()
    try client.send("HELLO", "3")
    // RESP2's null is "$-1", RESP3's "_".
    guard case .map = try client.receive() else { throw HarnessError("HELLO 3 was not answered with a map") }
    try client.send("GET", world.key("user:1"))
    #expect(try client.receive(bytes: 3) == Array("_\r\n".utf8))
    #expect(try client.call("SET", world.key("user:1"), "one") == .ok)
    #expect(try client.call("GET", world.key("user:1")) == "one")
  }

  // MARK: Leases

  @Test("A SET whose value was read before the change is answered OK and not stored, and counted")
  func lateSet() throws {
    let (world, sidecar) = try start()
    let client = try sidecar.client()
    let name = world.key("user:1")
    #expect(try client.call("GET", name) == nil)
    try world.psql("UPDATE users SET name = 'new' WHERE id = 1")
    try world.settle(sidecar)
    let refused = try sidecar.count("fills_refused")
    #expect(try client.call("SET", name, "old") == .ok)
    #expect(try client.call("GET", name) == nil)
    #expect(try sidecar.count("fills_refused") == refused + 1)
  }

  @Test("A SET without a miss of its own is not stored while the sidecar cannot date it")
  func withoutMiss() throws {
    let (world, sidecar) = try start(#""plainSetWindow": "60s""#)
    let client = try sidecar.client()
    #expect(try client.call("SET", world.key("user:1"), "x") == .ok)
    #expect(try client.call("GET", world.key("user:1")) == nil)
    #expect(try sidecar.count("fills_refused") == 1)
  }

  @Test("LEASE and FILL are exact: a token of before the change is refused, one of after it is good")
  func leases() throws {
    let (world, sidecar) = try start()
    let client = try sidecar.client()
    let name = world.key("user:1")
    func token() throws -> String {
      let reply = try client.call("NEARSIDE", "LEASE", name).elements ?? []
      #expect(reply.count == 2 && reply.first == nil as Reply)
      return try #require(reply.last?.text)
    }
    let before = try token()
    try world.psql("UPDATE users SET name = 'new' WHERE id = 1")
    try world.settle(sidecar)
    #expect(try client.call("NEARSIDE", "FILL", name, before, "old") == 0)
    #expect(try client.call("GET", name) == nil)
    // On a busy machine the change may not be known to be visible within leaseWait: then the token is one of before.
    var after = ""
    try eventually("a token of after the change is good") {
      after = try token()
      return try client.call("NEARSIDE", "FILL", name, after, "new", "PX", "60000") == 1
    }
    #expect(try client.call("GET", name) == "new")
    #expect(try client.call("TTL", name) == 60)
    #expect(try client.call("NEARSIDE", "LEASE", name) == .array(["new", nil]))
    // An application's own deletion voids tokens too.
    #expect(try client.call("DEL", name) == 1)
    #expect(try client.call("NEARSIDE", "FILL", name, after, "late") == 0)
    for wrong in ["", "nonsense", String(repeating: "0", count: 48)] {
      let reply = try client.call("NEARSIDE", "FILL", name, wrong, "x")
      #expect(reply == 0 || reply.errorText != nil, "\(wrong): \(reply)")
    }
    #expect(try client.call("GET", name) == nil)
  }

  // MARK: NEARSIDE WAIT, INVALIDATE

  @Test("WAIT answers 1 for what is applied, 0 at its time-out, and an error for what is no position")
  func wait() throws {
    let (world, sidecar) = try start()
    let client = try sidecar.client()
    let now = try world.psql("SELECT pg_current_wal_insert_lsn()")
    #expect(try client.call("NEARSIDE", "WAIT", now, "10000") == 1)
    let began = ContinuousClock().now
    #expect(try client.call("NEARSIDE", "WAIT", "FFFFFFFF/0", "80") == 0)
    #expect(ContinuousClock().now - began >= .milliseconds(75))
    #expect(try client.call("NEARSIDE", "WAIT", "FFFFFFFF/0", "0") == 0)
    #expect(try client.call("NEARSIDE", "WAIT", "42").errorText != nil)
    #expect(try client.call("NEARSIDE", "WAIT", now, "-1").errorText != nil)
    // Commands behind a wait are answered after it, in order.
    #expect(
      try client.pipeline([["PING"], ["NEARSIDE", "WAIT", "FFFFFFFF/0", "20"], ["ECHO", "x"]])
        == [.simple("PONG"), 0, "x"])
  }

  @Test("INVALIDATE KEY removes single keys, INVALIDATE ALL everything, and leases of before are void")
  func invalidate() throws {
    let (world, sidecar) = try start()
    let client = try sidecar.client()
    try fillAside(client, world.key("user:1"), "one")
    try fillAside(client, world.key("user:2"), "two")
    try fillAside(client, world.key("product:1"), "first")
    #expect(try client.call("NEARSIDE", "INVALIDATE", "KEY", world.key("user:1"), world.key("user:3")) == 2)
    #expect(try client.call("MGET", world.key("user:1"), world.key("user:2")) == .array([nil, "two"]))
    let token = try client.call("NEARSIDE", "LEASE", world.key("user:1")).elements?.last?.text ?? ""
    #expect(try client.call("NEARSIDE", "INVALIDATE", "ALL") == .ok)
    #expect(try client.call("MGET", world.key("user:2"), world.key("product:1")) == .array([nil, nil]))
    #expect(try client.call("NEARSIDE", "FILL", world.key("user:1"), token, "old") == 0)
    try fillAside(client, world.key("user:3"), "anew")
  }

  // MARK: Several, and again

  @Test("Two sidecars work side by side on one database, each with a temporary slot that goes with it")
  func two() throws {
    let (world, a) = try start()
    let b = try world.sidecar()
    let slots =
      "SELECT count(*), bool_and(temporary), bool_and(active) FROM pg_replication_slots "
      + "WHERE database = current_database()"
    #expect(try world.psql(slots) == "2|t|t")
    try fillAside(a.client(), world.key("user:1"), "of a")
    try fillAside(b.client(), world.key("user:1"), "of b")
    #expect(try a.client().call("GET", world.key("user:1")) == "of a")
    try world.psql("UPDATE users SET name = 'new' WHERE id = 1")
    for sidecar in [a, b] {
      try world.settle(sidecar)
      #expect(try sidecar.client().call("GET", world.key("user:1")) == nil)
    }
    #expect(try a.terminate() == .code(0))
    b.kill()
    try eventually("no slot is left") {
      try world.psql("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == "0"
    }
  }

  @Test("After a restart everything is a miss, and filling works at once")
  func restart() throws {
    let (world, sidecar) = try start()
    try fillAside(sidecar.client(), world.key("user:1"), "one")
    #expect(try sidecar.terminate() == .code(0))
    #expect(access(sidecar.socket, F_OK) != 0, "the socket file is left behind")
    try world.psql("UPDATE users SET name = 'while away' WHERE id = 1")
    try sidecar.start()
    try sidecar.waitUntilFollowing()
    #expect(try sidecar.get(world.key("user:1")) == nil)
    try sidecar.store(world.key("user:1"), "new")
    #expect(try sidecar.get(world.key("user:1")) == "new")
    try fillAside(sidecar.client(), world.key("user:2"), "other")
  }

  @Test("An open transaction holds up the start, and the status says so")
  func openTransaction() throws {
    let world = try World(redis: false, postgres: PostgresServer())
    let open = try world.postgres.background(
      "BEGIN; UPDATE users SET name = 'y' WHERE id = 1; SELECT pg_sleep(600); COMMIT",
      database: world.database)
    let sleeping = "FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    try eventually("the update is done") { try world.psql("SELECT count(*) \(sleeping)") == "1" }
    let sidecar = try Sidecar(
      world.configuration, postgres: world.postgres.url(database: world.database), redis: nil)
    try eventually("the status says what it waits for") {
      try sidecar.status()["trouble"]?.contains("waits until every transaction that is writing now has ended")
        == true
    }
    #expect(try sidecar.get(world.key("user:1")) == nil)
    #expect(try sidecar.client().call("NEARSIDE", "LEASE", world.key("user:1")) == .array([nil, nil]))
    // Cancelling the sleep aborts the transaction.
    try world.psql("SELECT pg_terminate_backend(pid) \(sleeping)")
    _ = try open.wait()
    try sidecar.waitUntilFollowing()
    #expect(try sidecar.status()["trouble"] == nil)
    try sidecar.store(world.key("user:1"), "one")
  }

  @Test("A PostgreSQL that restarts makes a new generation: nothing of before is served, and it works again")
  func postgresRestarts() throws {
    let world = try World(
      options: [#""staleness": { "bound": "1s" }"#], redis: false, postgres: PostgresServer())
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    let name = world.key("user:1")
    try sidecar.store(name, "old")
    try eventually("the value is served") { try client.call("GET", name) == "old" }
    let generation = try sidecar.status()["generation"]
    try world.postgres.stop(.fast)
    try eventually("the value counts no longer") { try client.call("GET", name) == nil }
    // While nothing is known nothing may be stored either.
    #expect(try client.call("SET", name, "unproved") == .ok)
    #expect(try client.call("GET", name) == nil)
    try eventually("the status says what is wrong") { try sidecar.status()["trouble"] != nil }
    #expect(try client.call("PING") == .simple("PONG"))
    try world.postgres.start()
    try world.psql("UPDATE users SET name = 'new' WHERE id = 1")
    try eventually("a new generation", within: .seconds(30)) {
      let now = try sidecar.status()["generation"]
      return now != "" && now != generation
    }
    try sidecar.waitUntilFollowing()
    #expect(try client.call("GET", name) == nil)
    try eventually("it can be filled again") {
      try client.call("NEARSIDE", "LEASE", name).elements?.last?.text != nil
    }
    let token = try client.call("NEARSIDE", "LEASE", name).elements?.last?.text ?? ""
    #expect(try client.call("NEARSIDE", "FILL", name, token, "new") == 1)
    try eventually("the new value is served") { try client.call("GET", name) == "new" }
    try world.psql("UPDATE users SET name = 'newer' WHERE id = 1")
    try world.settle(sidecar)
    #expect(try client.call("GET", name) == nil)
    #expect(try sidecar.status()["trouble"] == nil)
  }
}

/// Cache-aside, as an application does it: a miss, and the value that was read meanwhile is stored.
func fillAside(
  _ client: RESPClient, _ key: String, _ value: String, sourceLocation: SourceLocation = #_sourceLocation
) throws {
  #expect(try client.call("GET", key) == nil, sourceLocation: sourceLocation)
  #expect(try client.call("SET", key, value) == .ok, sourceLocation: sourceLocation)
  #expect(try client.call("GET", key) == .bulk(value), sourceLocation: sourceLocation)
}
