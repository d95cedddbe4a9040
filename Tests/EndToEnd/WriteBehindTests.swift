import Glibc
import TestSupport
import Testing

@testable import nearside

/// Write-behind on real servers: what a SET was acknowledged for is seen at once by everybody, and reaches PostgreSQL
/// whatever is killed.
@Suite("Write-behind", .serialized)
struct WriteBehindTests {
  static let stock = "UPDATE products SET stock = :value::int WHERE id = :id"

  /// A trigger that waits for an advisory lock which the test holds, so that a flush stands still on its way, before it
  /// has locked any row.
  static let gate = """

    ALTER TABLE products ADD CONSTRAINT stock_is_there CHECK (stock >= 0);
    CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF current_setting('application_name') = 'nearside writer' THEN
          PERFORM pg_advisory_xact_lock_shared(4711);
        END IF;
        RETURN NULL;
      END $$;
    CREATE TRIGGER gate BEFORE UPDATE ON products EXECUTE FUNCTION wait_at_gate();
    """

  func world(
    delay: String = "20ms", more: String = "", sql: String = Self.stock, cache: String = "",
    postgres: PostgresServer? = nil, redisArguments: [String] = []
  ) throws -> World {
    let write = #"{ "policy": "behind", "sql": "\#(sql)", "delay": "\#(delay)"\#(more) }"#
    return try World(
      schema: World.schema + Self.gate,
      options: [
        #""caches": { "product:{id}": { "write": \#(write), "load": "SELECT stock FROM products WHERE id = :id"\#(cache) } }"#,
        #""postgres": { "loader": { "timeout": "20s" } }"#,
      ], redisArguments: redisArguments, postgres: postgres)
  }

  func stock(_ world: World, _ id: Int) throws -> String {
    try world.psql("SELECT stock FROM products WHERE id = \(id)")
  }

  func row(_ world: World, _ id: Int, becomes value: String) throws {
    try eventually("row \(id) becomes \(value)", within: .seconds(30)) {
      try stock(world, id)
    } until: {
      $0 == value
    }
  }

  /// Nothing waits for PostgreSQL any more.
  func drained(_ world: World) throws {
    try eventually("nothing is pending", within: .seconds(30)) {
      try world.redis?.cli("XLEN", "nearside:{\(world.database)}:w")
    } until: {
      $0 == "0"
    }
    #expect(try world.redis?.cli("EXISTS", "nearside:{\(world.database)}:wp") == "0")
  }

  func flusher(_ sidecars: Sidecar...) throws -> Sidecar {
    try eventually("somebody holds the lock") {
      try sidecars.first { try $0.count("behind_flushing") == 1 }
    } until: {
      $0 != nil
    }!
  }

  /// Closes the gate for as long as the client lives.
  func closeGate(_ world: World) throws -> SQLClient {
    let gate = try SQLClient(world.postgres.url(database: world.database))
    try gate.query("SELECT pg_advisory_lock(4711)")
    return gate
  }

  func flushWaitsAtGate(_ world: World) throws {
    try eventually("a flush waits at the gate") {
      try world.psql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
      )
    } until: {
      $0 == "1"
    }
  }

  @Test("A SET is seen at once through every host, whatever command reads it, and reaches its row later")
  func value() throws {
    let world = try world(cache: #", "ttl": "1h""#)
    let (one, two) = (try world.sidecar(), try world.sidecar())
    var gate: SQLClient? = try closeGate(world)
    let key = world.key("product:7")
    for sidecar in [one, two] { try eventually("\(key) is near") { try sidecar.hasNear(key) } }
    let (writer, reader) = (try one.client(), try two.client())
    #expect(try writer.call("SET", key, "4242", "EX", "100") == .ok)
    #expect(try stock(world, 7) == "10")
    // The log of another change of the row, or anybody's DEL, does not bring the old value back.
    for step in ["nothing", "deleted", "changed", "invalidated"] {
      switch step {
      case "deleted": try reader.call("DEL", key)
      case "changed":
        try world.psql("UPDATE products SET stock = 77 WHERE id = 7")
        try world.settle(one, two)
      case "invalidated": #expect(try reader.call("NEARSIDE", "INVALIDATE", "ALL") == .ok)
      default: break
      }
      for client in [writer, reader] {
        try eventually("the new value is seen, \(step)") { try client.call("GET", key) == "4242" }
        #expect(try client.call("MGET", key, key) == .array(["4242", "4242"]), "\(step)")
        #expect(try client.call("EXISTS", key) == 1, "\(step)")
        #expect(try client.call("STRLEN", key) == 4, "\(step)")
        #expect(try client.call("TYPE", key) == .simple("string"), "\(step)")
        #expect(try client.call("GETRANGE", key, "1", "2") == "24", "\(step)")
        guard case .integer(let ttl) = try client.call("TTL", key) else { throw HarnessError("no TTL") }
        #expect((80...100).contains(ttl), "\(step)")
        #expect(try client.call("NEARSIDE", "LEASE", key) == .array(["4242", nil]), "\(step)")
      }
    }
    withExtendedLifetime(gate) {}
    gate = nil
    try row(world, 7, becomes: "4242")
    try drained(world)
    try world.settle(one, two)
    #expect(try reader.call("GET", key) == "4242")
    #expect(try reader.call("TTL", key) != 100)
    let status = try flusher(one, two).status()
    #expect(status["behind_flushed"] == "1" && status["behind_dead"] == "0")
    try world.psql("UPDATE products SET stock = 5 WHERE id = 7")
    try world.settle(one, two)
    #expect(try writer.call("GET", key) == "5")
  }

  @Test("A pending value that outlives its time is absent, and nobody fills in the older row")
  func expired() throws {
    let world = try world(delay: "10s")
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    let key = world.key("product:7")
    #expect(try client.call("SET", key, "11", "PX", "150") == .ok)
    try eventually("it has expired") { try client.call("GET", key) == nil }
    #expect(try client.call("NEARSIDE", "LEASE", key) == .array([nil, nil]))
    #expect(try sidecar.count("loads") == 0)
  }

  @Test("The `ttl` of its cache does not take a value that is pending")
  func cacheLimit() throws {
    let world = try world(cache: #", "ttl": "1s""#)
    let sidecar = try world.sidecar()
    let gate = try closeGate(world)
    let client = try sidecar.client()
    let key = world.key("product:7")
    #expect(try client.call("SET", key, "11") == .ok)
    for _ in 0..<2 {
      try eventually("Redis has dropped it") { try world.redis?.cli("EXISTS", key) == "0" }
      #expect(try client.call("GET", key) == "11")
      #expect(try client.call("NEARSIDE", "LEASE", key) == .array(["11", nil]))
    }
    withExtendedLifetime(gate) {}
  }

  @Test("A pending value is seen in MULTI, by a client that watches, and in a Redis that is full")
  func readEverywhere() throws {
    let world = try world()
    let (one, two) = (try world.sidecar(), try world.sidecar())
    let redis = try #require(world.redis)
    let gate = try closeGate(world)
    let key = world.key("product:7")
    #expect(try one.client().call("SET", key, "11") == .ok)
    let client = try two.client()
    for watches in [false, true] {
      try redis.cli("DEL", key)
      if watches {
        #expect(try client.call("WATCH", key) == .ok)
        #expect(try client.call("GETRANGE", key, "0", "5") == "11")
        // That has put it back, which is a change of what is watched.
        #expect(try client.call("UNWATCH") == .ok)
        #expect(try client.call("WATCH", key) == .ok)
      }
      #expect(try client.call("MULTI") == .ok)
      for command in [["GET", key], ["STRLEN", key], ["GETDEL", key]] {
        #expect(try client.call(command) == .simple("QUEUED"))
      }
      let replies = try client.call("EXEC").elements ?? []
      #expect(replies.count == 3 && replies.first == "11" && replies.dropFirst().first == 2, "\(replies)")
      #expect(replies.last?.errorText?.contains("use SET") == true)
    }
    try redis.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    try redis.cli("CONFIG", "SET", "maxmemory", "1")
    #expect(try redis.client().call("SET", "x", "y").errorText?.hasPrefix("OOM") == true)
    for command in [["GETRANGE", key, "0", "5"], ["MGET", key], ["GET", key]] {
      try redis.cli("DEL", key)
      let reply = try client.call(command)
      let expected: Reply = command[0] == "MGET" ? .array(["11"]) : "11"
      #expect(reply == expected, "\(command)")
    }
    try redis.cli("CONFIG", "SET", "maxmemory", "0")
    withExtendedLifetime(gate) {}
  }

  @Test("What cannot be written behind is refused, and nothing is stored")
  func commands() throws {
    let world = try world(delay: "10s")
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    let key = world.key("product:7")
    for command in [
      ["SET", key, "1", "NX"], ["SET", key, "1", "KEEPTTL"], ["APPEND", key, "1"], ["INCR", key],
      ["MSET", key, "1"], ["HSET", key, "a", "b"], ["GETEX", key], ["GETDEL", key], ["EXPIRE", key, "5"],
      ["PERSIST", key],
    ] {
      let error = try client.call(command).errorText ?? ""
      #expect(error.contains("use SET"), "\(command): \(error)")
    }
    try client.send(raw: "*3\r\n$3\r\nSET\r\n$\(key.utf8.count)\r\n\(key)\r\n$1\r\n\0\r\n")
    #expect(try client.receive().errorText?.contains("UTF-8") == true)
    #expect(try world.redis?.cli("XLEN", "nearside:{\(world.database)}:w") == "0")
  }

  enum Moment: CaseIterable { case beforeTheBatch, duringTheStatement, behindTheCommit }

  @Test("kill -9 of the host that writes loses nothing, whenever it comes", arguments: Moment.allCases)
  func killed(moment: Moment) throws {
    let world = try world(delay: moment == .beforeTheBatch ? "3s" : "20ms")
    let redis = try #require(world.redis)
    let sidecars = (try world.sidecar(), try world.sidecar())
    let writing = try flusher(sidecars.0, sidecars.1)
    let other = writing === sidecars.0 ? sidecars.1 : sidecars.0
    var gate: SQLClient? = moment == .beforeTheBatch ? nil : try closeGate(world)
    let client = try writing.client()
    for id in 1...20 { #expect(try client.call("SET", world.key("product:\(id)"), "\(1000 + id)") == .ok) }
    switch moment {
    case .beforeTheBatch: writing.kill()
    case .duringTheStatement:
      try flushWaitsAtGate(world)
      writing.kill()
      gate = nil
    case .behindTheCommit:
      try flushWaitsAtGate(world)
      redis.pause()
      gate = nil
      // The first is in the batch that stands at the gate; on a busy machine the last may not be.
      try row(world, 1, becomes: "1001")
      writing.kill()
      redis.resume()
    }
    _ = gate
    // Also while nobody writes.
    #expect(try other.client(timeout: .seconds(20)).call("GET", world.key("product:7")) == "1007")
    for id in 1...20 { try row(world, id, becomes: "\(1000 + id)") }
    try drained(world)
    try other.waitUntilFollowing()
    try world.settle(other)
    #expect(try other.client().call("GET", world.key("product:7")) == "1007")
  }

  @Test("kill -9 of Redis with appendfsync always loses nothing that was acknowledged")
  func redisKilled() throws {
    let world = try world(
      delay: "1s", redisArguments: ["--appendonly", "yes", "--appendfsync", "always"])
    let sidecar = try world.sidecar()
    let client = try sidecar.client(timeout: .seconds(20))
    for id in 1...50 { #expect(try client.call("SET", world.key("product:\(id)"), "\(1000 + id)") == .ok) }
    try world.redis?.restart(hard: true)
    for id in 1...50 { try row(world, id, becomes: "\(1000 + id)") }
    try drained(world)
  }

  @Test(
    "PostgreSQL dying in the middle of a flush loses nothing that was acknowledged, then or while it is away")
  func postgresDies() throws {
    let postgres = try PostgresServer(settings: ["max_wal_senders": "10", "max_replication_slots": "10"])
    let world = try world(postgres: postgres)
    let (one, two) = (try world.sidecar(), try world.sidecar())
    let gate = try closeGate(world)
    let client = try one.client(timeout: .seconds(20))
    for id in 1...20 { #expect(try client.call("SET", world.key("product:\(id)"), "\(1000 + id)") == .ok) }
    try flushWaitsAtGate(world)
    try postgres.stop(.immediate)
    withExtendedLifetime(gate) {}
    for id in 11...30 { #expect(try client.call("SET", world.key("product:\(id)"), "\(2000 + id)") == .ok) }
    // Beyond the bound too: PostgreSQL is older than what is pending.
    #expect(try two.client(timeout: .seconds(20)).call("GET", world.key("product:30")) == "2030")
    try postgres.start()
    for id in 1...10 { try row(world, id, becomes: "\(1000 + id)") }
    for id in 11...30 { try row(world, id, becomes: "\(2000 + id)") }
    try drained(world)
  }

  @Test("While its first value is being flushed the key is written again, and psql changes the row")
  func writtenAgain() throws {
    let world = try world(delay: "400ms")
    let (one, two) = (try world.sidecar(), try world.sidecar())
    let key = world.key("product:7")
    for sidecar in [one, two] { try eventually("\(key) is near") { try sidecar.hasNear(key) } }
    var gate: SQLClient? = try closeGate(world)
    let (writer, reader) = (try one.client(), try two.client())
    #expect(try writer.call("SET", key, "1") == .ok)
    try flushWaitsAtGate(world)
    try world.psql("UPDATE products SET stock = 55 WHERE id = 7")
    try world.settle(one, two)
    #expect(try reader.call("GET", key) == "1")
    #expect(try writer.call("SET", key, "2") == .ok)
    gate = nil
    _ = gate
    // From here on, 2 and nothing else: neither the first value nor psql's comes up again anywhere.
    var isPending = true
    while isPending {
      isPending = try world.redis?.cli("XLEN", "nearside:{\(world.database)}:w") != "0"
      for client in [writer, reader] { #expect(try client.call("GET", key) == "2") }
    }
    for _ in 0..<50 { for client in [writer, reader] { #expect(try client.call("GET", key) == "2") } }
    #expect(try stock(world, 7) == "2")
    try world.settle(one, two)
    for client in [writer, reader] { #expect(try client.call("GET", key) == "2") }
  }

  @Test(
    "A value that PostgreSQL refuses goes to the dead letters after its attempts; the rest of its batch is written"
  )
  func poison() throws {
    let world = try world(more: #", "attempts": 3"#)
    let redis = try #require(world.redis)
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    for id in 1...9 {
      #expect(try client.call("SET", world.key("product:\(id)"), id == 5 ? "-1" : "\(id * 100)") == .ok)
    }
    let missing = world.key("product:100000")
    #expect(try client.call("SET", missing, "1") == .ok)
    for id in 1...9 where id != 5 { try row(world, id, becomes: "\(id * 100)") }
    try drained(world)
    let letters = try redis.cli("XRANGE", "nearside:{\(world.database)}:wd", "-", "+")
    for part in [world.key("product:5"), "-1", "23514", missing, "no row", "\nn\n3"] {
      #expect(letters.contains(part), "\(part) in \(letters)")
    }
    #expect(try client.call("GET", world.key("product:5")) == "10")
    #expect(try client.call("GET", missing) == nil)
    try eventually("two are counted") { try sidecar.count("behind_dead") == 2 }
    #expect(sidecar.log.contains("given up") && !sidecar.log.contains("(-1)"))
    // A later value of the same key is a new one.
    #expect(try client.call("SET", world.key("product:5"), "6") == .ok)
    try row(world, 5, becomes: "6")
  }

  @Test("What is the statement's fault and not the value's is tried until it is mended")
  func mended() throws {
    let world = try world(more: #", "attempts": 1"#)
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    try world.psql("ALTER TABLE products RENAME COLUMN stock TO stored")
    #expect(try client.call("SET", world.key("product:7"), "8") == .ok)
    try eventually("it is refused") { try sidecar.status()["behind_trouble"]?.contains("42703") == true }
    try world.psql("ALTER TABLE products RENAME COLUMN stored TO stock")
    try row(world, 7, becomes: "8")
    try drained(world)
    #expect(try sidecar.count("behind_dead") == 0)
  }

  @Test(
    "A thousand SETs of ten keys from two hosts: each row ends with what was acknowledged last, by fewer statements"
  )
  func order() throws {
    let world = try world(delay: "50ms")
    let (one, two) = (try world.sidecar(), try world.sidecar())
    let clients = [try one.client(), try two.client()]
    var last: [Int: String] = [:]
    for number in 1...1000 {
      let id = number % 10 + 1
      #expect(try clients[number / 10 % 2].call("SET", world.key("product:\(id)"), "\(number)") == .ok)
      last[id] = "\(number)"
    }
    // SETs of a pipeline keep their order too.
    let replies = try clients[0].pipeline((1...50).map { ["SET", world.key("product:1"), "\($0 + 5000)"] })
    #expect(replies.allSatisfy { $0 == .ok })
    last[1] = "5050"
    for (id, value) in last {
      for client in clients {
        try eventually("\(id) is \(value)") {
          try client.call("GET", world.key("product:\(id)")) == .bulk(value)
        }
      }
    }
    for (id, value) in last { try row(world, id, becomes: value) }
    try drained(world)
    let counts = try (
      one.count("behind_flushed") + two.count("behind_flushed"),
      one.count("behind_coalesced") + two.count("behind_coalesced")
    )
    #expect(counts.0 < 700 && counts.0 + counts.1 == 1050, "\(counts)")
  }

  @Test("Beyond `most` a SET waits, and is then refused; what waits in time gets in, in its order")
  func backPressure() throws {
    let world = try world(more: #", "batch": 10, "most": 50, "wait": "500ms""#)
    let sidecar = try world.sidecar()
    let client = try sidecar.client(timeout: .seconds(20))
    var gate: SQLClient? = try closeGate(world)
    for id in 1...50 { #expect(try client.call("SET", world.key("product:\(id)"), "\(1000 + id)") == .ok) }
    let began = ContinuousClock.now
    let error = try client.call("SET", world.key("product:51"), "1").errorText ?? ""
    #expect(error.hasPrefix("TRYAGAIN Nearside: 50 writes wait"), "\(error)")
    #expect(ContinuousClock.now - began > .milliseconds(400))
    #expect(try world.redis?.cli("EXISTS", world.key("product:51")) == "0")
    // The time counts from when a SET came, also for those that wait behind another one of their key.
    let refused = try client.pipeline((1...10).map { ["SET", world.key("product:51"), "\($0)"] })
    #expect(refused.allSatisfy { $0.errorText?.hasPrefix("TRYAGAIN") == true }, "\(refused)")
    #expect(ContinuousClock.now - began < .seconds(4))
    let waits = try sidecar.count("behind_waits")
    try client.send(
      raw: (1...5).flatMap { RESPClient.encode(["SET", world.key("product:60"), "\($0)"]) }
        + RESPClient.encode(["GET", world.key("product:60")]))
    try eventually("one waits") { try sidecar.count("behind_waits") == waits + 1 }
    gate = nil
    _ = gate
    for _ in 1...5 { #expect(try client.receive() == .ok) }
    #expect(try client.receive() == "5")
    for id in 1...50 { try row(world, id, becomes: "\(1000 + id)") }
    try row(world, 60, becomes: "5")
    #expect(try stock(world, 51) == "10")
    let status = try sidecar.status()
    #expect(status["behind_refused"] == "11")
    try drained(world)
  }

  @Test("Depth and age are seen on every host")
  func metrics() throws {
    let world = try world(delay: "10s")
    let (one, two) = (try world.sidecar(), try world.sidecar())
    for id in 1...3 { #expect(try one.client().call("SET", world.key("product:\(id)"), "1") == .ok) }
    for sidecar in [one, two] {
      try eventually("depth and age") { () throws -> Bool in
        try sidecar.count("behind_depth") == 3 && sidecar.count("behind_age_ms") > 100
      }
    }
  }

  @Test("A load that began before, and a refresh, do not bury what is pending")
  func buried() throws {
    let world = try world(cache: #", "onChange": "refresh""#)
    let (one, two) = (try world.sidecar(), try world.sidecar())
    let gate = try closeGate(world)
    let key = world.key("product:7")
    for sidecar in [one, two] { try eventually("\(key) is near") { try sidecar.hasNear(key) } }
    #expect(try two.client().call("SET", key, "11") == .ok)
    for value in 20..<40 {
      try world.psql("UPDATE products SET stock = \(value) WHERE id = 7")
      try world.settle(one, two)
      for sidecar in [one, two] { #expect(try sidecar.get(key) == "11") }
    }
    #expect(try ["", "11"].contains(try #require(world.redis).cli("GET", key)))
    withExtendedLifetime(gate) {}
  }

  @Test(
    "A host that was stopped while it wrote, and whose session is gone, writes nothing beside its successor")
  func stopped() throws {
    let world = try world()
    let sidecars = (try world.sidecar(), try world.sidecar())
    let writing = try flusher(sidecars.0, sidecars.1)
    let other = writing === sidecars.0 ? sidecars.1 : sidecars.0
    var gate: SQLClient? = try closeGate(world)
    let client = try other.client()
    #expect(try client.call("SET", world.key("product:7"), "1") == .ok)
    try flushWaitsAtGate(world)
    writing.signal(SIGSTOP)
    try world.psql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        + "AND wait_event = 'advisory'")
    gate = nil
    _ = gate
    try row(world, 7, becomes: "1")
    #expect(try client.call("SET", world.key("product:7"), "2") == .ok)
    try row(world, 7, becomes: "2")
    writing.signal(SIGCONT)
    try writing.waitUntilFollowing()
    try drained(world)
    #expect(try stock(world, 7) == "2")
    #expect(try other.count("behind_flushing") == 1)
    try eventually("the old one stands by") { try writing.count("behind_flushing") == 0 }
  }

  @Test("SIGTERM leaves what is pending to another host, and a restart takes it up")
  func terminated() throws {
    let world = try world(delay: "10s")
    let sidecar = try world.sidecar()
    #expect(try sidecar.client().call("SET", world.key("product:7"), "8") == .ok)
    #expect(try sidecar.terminate() == .code(0))
    #expect(try stock(world, 7) == "10")
    let next = try world.sidecar()
    #expect(try next.get(world.key("product:7")) == "8")
    try row(world, 7, becomes: "8")
  }
}
