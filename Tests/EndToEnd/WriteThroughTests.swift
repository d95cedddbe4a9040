import Glibc
import TestSupport
import Testing

@testable import nearside

/// Write-through on real servers: a SET counts only once PostgreSQL has committed it, and then it stays.
@Suite("Write-through")
struct WriteThroughTests {
  static let schema =
    World.schema + """

      ALTER TABLE products ADD CONSTRAINT stock_is_there CHECK (stock >= 0);
      """

  static let stock = "UPDATE products SET stock = :value::int WHERE id = :id"

  func world(
    _ sql: String = Self.stock, more: String = "", schema: String = "", tables: String = World.tables,
    options: [String] = []
  )
    throws -> World
  {
    try World(
      tables: tables, schema: Self.schema + schema,
      options: [
        "\"caches\": { \"product:{id}\": { \"write\": { \"policy\": \"through\", \"sql\": \"\(sql)\" }\(more) } }"
      ] + options)
  }

  func stock(_ world: World, _ id: Int) throws -> String {
    try world.psql("SELECT stock FROM products WHERE id = \(id)")
  }

  @Test(
    "What a SET has committed is in PostgreSQL, in Redis and near, and its own invalidation leaves it there")
  func value() throws {
    let world = try world()
    let (one, two) = (try world.sidecar(), try world.sidecar())
    let redis = try #require(world.redis)
    let client = try one.client()
    var stored = 0
    for id in 1...20 {
      let key = world.key("product:\(id)")
      try warm(key, "10", one, two)
      let before = try one.count("writes_stored")
      #expect(try client.call("SET", key, "\(id * 100)") == .ok)
      #expect(try stock(world, id) == "\(id * 100)")
      let after = try one.count("writes_stored")
      if after > before {
        stored += 1
        #expect(try redis.cli("GET", key) == "\(id * 100)")
        try eventually("\(key) is near") { try one.hasNear(key) }
      }
    }
    // A host that is held up for longer than a SET waits answers it without the value.
    #expect(stored > 15, "\(stored) of 20\n\(one.log)")
    try world.settle(one, two)
    for id in 1...20 {
      let key = world.key("product:\(id)")
      let kept = try redis.cli("GET", key)
      #expect(kept == "\(id * 100)" || kept == "")
      for sidecar in [one, two] {
        let value = try sidecar.get(key)
        #expect(value == .bulk("\(id * 100)") || value == nil && kept == "")
      }
    }
  }

  @Test("A statement that PostgreSQL refuses is an error with its SQLSTATE, and the old value stays")
  func refused() throws {
    let world = try world()
    let sidecar = try world.sidecar()
    let key = world.key("product:7")
    try warm(key, "10", sidecar)
    let client = try sidecar.client()
    let error = try client.call("SET", key, "-12345").errorText ?? ""
    #expect(error.contains("23514") && error.contains("check violation"), "\(error)")
    #expect(!error.contains("12345"), "\(error)")
    let invalid = try client.call("SET", key, "many").errorText ?? ""
    #expect(invalid.contains("22P02") && !invalid.contains("many"), "\(invalid)")
    try expectKept(key, "10", world, sidecar)
    let nobody = try client.call("SET", world.key("product:100000"), "1").errorText ?? ""
    #expect(nobody.contains("changed no row"), "\(nobody)")
    #expect(try world.redis?.cli("EXISTS", world.key("product:100000")) == "0")
    #expect(try stock(world, 7) == "10")
  }

  @Test("What cannot be written through is refused, and says what to use")
  func commands() throws {
    let world = try world()
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    let key = world.key("product:7")
    for command in [
      ["SET", key, "1", "NX"], ["SET", key, "1", "XX"], ["SET", key, "1", "GET"],
      ["SET", key, "1", "KEEPTTL"],
      ["SETNX", key, "1"], ["GETSET", key, "1"], ["APPEND", key, "1"], ["INCR", key],
      ["MSET", world.key("user:1"), "a", key, "1"], ["HSET", key, "a", "b"],
    ] {
      let error = try client.call(command).errorText ?? ""
      #expect(error.contains("use SET"), "\(command): \(error)")
    }
    #expect(try stock(world, 7) == "10")
    #expect(try client.call("SETEX", key, "100", "11") == .ok)
    #expect(try client.call("PSETEX", key, "100000", "12") == .ok)
    #expect(try client.call("SET", key, "13", "EX", "100") == .ok)
    #expect(try stock(world, 7) == "13")
    #expect(["-2", "100", "99"].contains(try #require(world.redis).cli("TTL", key)))
    try client.call("DEL", key)
    #expect(try stock(world, 7) == "13")
    #expect(try world.redis?.cli("EXISTS", key) == "0")
  }

  @Test("The time to live is a parameter, in milliseconds, and NULL without one")
  func timeToLive() throws {
    let world = try world(
      "UPDATE products SET stock = :value::int, name = coalesce(:ttl::text, 'none') WHERE id = :id")
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    #expect(try client.call("SET", world.key("product:1"), "1", "EX", "5") == .ok)
    #expect(try client.call("SET", world.key("product:2"), "1") == .ok)
    #expect(
      try world.psql("SELECT string_agg(name, ',' ORDER BY id) FROM products WHERE id < 3") == "5000,none")
  }

  @Test(
    "A GET behind a SET, in one pipeline or not, never answers the value of before", arguments: [false, true])
  func ownWrites(loads: Bool) throws {
    let world = try world(more: loads ? #", "load": "SELECT stock FROM products WHERE id = :id""# : "")
    let sidecar = try world.sidecar()
    let client = try sidecar.client(timeout: .seconds(30))
    let key = world.key("product:7")
    if loads {
      try eventually("the old value is near") { try sidecar.hasNear(key) }
    } else {
      try warm(key, "10", sidecar)
    }
    var found = 0
    for value in 100..<250 {
      let replies = try client.pipeline([["SET", key, "\(value)"], ["GET", key], ["PING"]])
      #expect(replies[0] == .ok)
      #expect(replies[1] == .bulk("\(value)") || !loads && replies[1] == nil, "\(value): \(replies)")
      #expect(replies[2] == .simple("PONG"))
      if replies[1] != nil { found += 1 }
    }
    #expect(found > 75, "\(found) of 150")
    // SETs of one key keep their order.
    let replies = try client.pipeline((1...30).map { ["SET", key, "\($0)"] } + [["GET", key]])
    #expect(replies.prefix(30).allSatisfy { $0 == .ok })
    #expect(replies[30] == "30" || !loads && replies[30] == nil)
    #expect(try stock(world, 7) == "30")
  }

  @Test("Two hosts and psql write the same keys: after quiet nobody has a value that differs from the row")
  func race() throws {
    let world = try world()
    let (one, two) = (try world.sidecar(), try world.sidecar())
    let redis = try world.redis?.client()
    let clients = try (one.client(timeout: .seconds(30)), two.client(timeout: .seconds(30)))
    let direct = try SQLClient(world.postgres.url(database: world.database))
    var generator = SystemRandomNumberGenerator()
    var kept = 0
    for round in 1...60 {
      let ids = (1...5).map { _ in Int.random(in: 1...3, using: &generator) }
      for (turn, id) in ids.enumerated() {
        let key = world.key("product:\(id)")
        let value = round * 100 + turn * 10
        if Bool.random() { try clients.0.send("SET", key, "\(value)") } else { try clients.0.send("PING") }
        if Bool.random() {
          try clients.1.send("SET", key, "\(value + 1)")
        } else {
          try clients.1.send("PING")
        }
        if Bool.random() {
          _ = try direct.value("UPDATE products SET stock = \(value + 2) WHERE id = \(id)")
        }
        if Bool.random() {
          for client in [clients.0, clients.1] { #expect(try client.receive().errorText == nil) }
        } else {
          try clients.0.send("GET", key)
          for client in [clients.0, clients.1, clients.0] { #expect(try client.receive().errorText == nil) }
        }
      }
      try world.settle(one, two)
      for id in 1...3 {
        let (key, row) = (world.key("product:\(id)"), try stock(world, id))
        let stored = try redis?.call("GET", key) ?? nil
        #expect(
          stored == nil || stored == .bulk(row), "round \(round): \(row) in the row, \(stored) in Redis")
        if stored != nil { kept += 1 }
        for sidecar in [one, two] {
          let value = try sidecar.get(key)
          #expect(value == nil || value == .bulk(row), "round \(round): \(row) in the row, \(value) answered")
        }
      }
    }
    #expect(kept > 20, "\(kept) values of 180 were kept")
  }

  @Test("A change by psql right behind a SET wins")
  func overtaken() throws {
    let world = try world()
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    let direct = try SQLClient(world.postgres.url(database: world.database))
    let key = world.key("product:7")
    for value in 1...50 {
      try client.send("SET", key, "\(value)")
      try eventually("the SET has committed") { () throws -> Bool in
        try direct.value("SELECT stock FROM products WHERE id = 7") == "\(value)"
      }
      try direct.query("UPDATE products SET stock = \(value + 1000) WHERE id = 7")
      #expect(try client.receive() == .ok)
      try world.settle(sidecar)
      let reply = try sidecar.get(key)
      #expect(reply == nil || reply == .bulk("\(value + 1000)"))
      #expect(["", "\(value + 1000)"].contains(try #require(world.redis).cli("GET", key)))
    }
  }

  @Test("A sidecar that dies between the commit and the value leaves no old value")
  func killed() throws {
    let world = try world()
    let (one, two) = (try world.sidecar(), try world.sidecar())
    let redis = try #require(world.redis)
    let key = world.key("product:7")
    try warm(key, "10", one, two)
    redis.pause()
    try one.client().send("SET", key, "11")
    try eventually("the SET has committed") {
      try stock(world, 7)
    } until: {
      $0 == "11"
    }
    one.kill()
    redis.resume()
    try two.waitUntilFollowing()
    try world.settle(two)
    try expectGone(key, world, two)
  }

  @Test("A connection that is lost while it writes: the error says so, and the key is removed")
  func unknown() throws {
    let world = try world(
      "SELECT ended(:id, :value)",
      schema: """

        CREATE FUNCTION ended(id bigint, value text) RETURNS int LANGUAGE plpgsql AS $$
          BEGIN
            UPDATE products SET stock = value::int WHERE products.id = ended.id;
            IF value = '99' THEN
              PERFORM pg_terminate_backend(pg_backend_pid());
              PERFORM pg_sleep(5);
            END IF;
            RETURN 1;
          END $$;
        """)
    let sidecar = try world.sidecar()
    let key = world.key("product:7")
    try warm(key, "10", sidecar)
    let client = try sidecar.client(timeout: .seconds(20))
    let error = try client.call("SET", key, "99").errorText ?? ""
    #expect(error.contains("not known"), "\(error)")
    try expectGone(key, world, sidecar)
    #expect(try client.call("SET", key, "12") == .ok)
    #expect(try stock(world, 7) == "12")
  }

  @Test("While Redis is away a SET is written, and its value is found by nobody who could not know it")
  func withoutRedis() throws {
    let world = try world()
    let sidecar = try world.sidecar()
    let key = world.key("product:7")
    try warm(key, "10", sidecar)
    try world.redis?.stop()
    try eventually("Redis is gone") {
      try sidecar.status()["redis"]
    } until: {
      $0 != "up"
    }
    #expect(try sidecar.client().call("SET", key, "11") == .ok)
    #expect(try sidecar.get(key) != "10")
    #expect(try stock(world, 7) == "11")
  }

  /// `isFrozen`: the process is stopped and goes on while it waits, as a debugger or a frozen container makes it do.
  /// Both interrupt system calls that wait for signals (signal(7), "Interruption of system calls").
  @Test("SIGTERM waits for a write that is under way", arguments: [false, true])
  func stopped(isFrozen: Bool) throws {
    // On a busy machine the first connection may take longer than a statement may by default. As a condition of each
    // row it would sleep for all 100 of them, once autovacuum has told the planner how small the table is.
    let world = try world(
      "UPDATE products SET stock = :value::int WHERE id = :id AND (SELECT pg_sleep(0.7)) IS NOT NULL",
      options: ["\"postgres\": { \"loader\": { \"timeout\": \"20s\" } }"])
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    try client.send("SET", world.key("product:7"), "11")
    // Not only begun: SIGTERM waits for 5 s, and a busy machine may need longer to make a connection.
    try eventually("the write is under way") {
      try world.psql(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'UPDATE products%' AND state = 'active' "
          + "AND datname = current_database()")
    } until: {
      $0 == "1"
    }
    sidecar.signal(SIGTERM)
    if isFrozen {
      try eventually("it stops") { sidecar.log.contains("stopping on signal") }
      // More than once: the first may come before it waits.
      for _ in 0..<5 {
        sidecar.signal(SIGSTOP)
        try eventually("it is stopped") { sidecar.isStopped }
        sidecar.signal(SIGCONT)
        try eventually("it goes on") { !sidecar.isStopped }
      }
    }
    let reply = try? client.receive()
    #expect(reply == .ok, "\(sidecar.log)")
    #expect(try stock(world, 7) == "11")
    #expect(try sidecar.wait() == .code(0))
  }
}
