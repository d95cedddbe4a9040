import TestSupport
import Testing

@Suite("NEARSIDE WAIT and INVALIDATE")
struct NearsideCommandTests {
  @Test("NEARSIDE INVALIDATE ALL makes a new generation for the whole fleet")
  func invalidateAll() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    try warm(world.key("user:1"), "before", a, b)
    let before = try a.status()["generation"]
    #expect(try b.client().call("NEARSIDE", "INVALIDATE", "ALL") == .ok)
    #expect(try b.status()["generation"] != before)
    for sidecar in [a, b] {
      try eventually("the new generation") { try sidecar.status()["generation"] != before }
      #expect(try sidecar.get(world.key("user:1")) == nil)
    }
  }

  @Test("NEARSIDE INVALIDATE KEY clears keys everywhere, governed or not")
  func invalidateKeys() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    try warm(world.key("user:1"), "v", a, b)
    try warm(world.key("user:2"), "v", a, b)
    #expect(
      try a.client().call("NEARSIDE", "INVALIDATE", "KEY", world.key("user:1"), world.key("user:9"))
        .integerValue != nil)
    try expectGone(world.key("user:1"), world, a)
    try eventually("the other host has heard") { try b.get(world.key("user:1")) == nil }
    try expectKept(world.key("user:2"), "v", world, a, b)
  }

  @Test(
    "NEARSIDE WAIT reaches the end of the log even where an open transaction has written and nobody flushes")
  func waitForInsertPosition() throws {
    // A server of the test's own, which writes nothing by itself for seconds.
    let postgres = try PostgresServer(settings: ["wal_writer_delay": "'10s'", "bgwriter_delay": "'10s'"])
    let world = try World(postgres: postgres)
    let sidecar = try world.sidecar()
    let open = try SQLClient(postgres.url(database: world.database))
    let client = try sidecar.client()
    let key = world.key("user:1")
    try sidecar.store(key, "before")
    try open.query("BEGIN")
    try open.query("INSERT INTO products SELECT n, 'x' FROM generate_series(1000, 1099) n")
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try open.query("INSERT INTO products VALUES (2000, 'x')")
    let position = try #require(try open.value("SELECT pg_current_wal_insert_lsn()"))
    #expect(try client.call("NEARSIDE", "WAIT", position, "5000") == 1)
    #expect(try client.call("GET", key) == nil)
    try open.query("ROLLBACK")
  }

  @Test("NEARSIDE WAIT answers 1 when a position is applied here, and 0 at the time-out")
  func wait() throws {
    let world = try World()
    let a = try world.sidecar()
    let client = try a.client()
    let position = try world.psql("SELECT pg_current_wal_lsn()")
    #expect(try client.call("NEARSIDE", "WAIT", position, "5000") == 1)
    #expect(try client.call("NEARSIDE", "WAIT", "FFFF/0", "0") == 0)
    let clock = ContinuousClock()
    let start = clock.now
    #expect(try client.call("nearside", "wait", "FFFF/0", "300") == 0)
    let waited = start.duration(to: clock.now)
    #expect(waited >= .milliseconds(290) && waited < .seconds(3), "\(waited)")
    for wrong in [["FFFF"], ["0/0", "x"], ["0/0", "-1"], []] {
      #expect(try client.call(["NEARSIDE", "WAIT"] + wrong).errorText?.hasPrefix("ERR") == true, "\(wrong)")
    }
    // What stands behind a wait in a pipeline waits with it, and other clients do not.
    try client.send(
      raw: RESPClient.encode(["NEARSIDE", "WAIT", "FFFF/0", "500"]) + RESPClient.encode(["PING"]))
    #expect(try a.client().call("PING") == .simple("PONG"))
    #expect(try client.receive() == 0)
    #expect(try client.receive() == .simple("PONG"))
  }
}
