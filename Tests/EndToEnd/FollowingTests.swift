import Glibc
import TestSupport
import Testing

@Suite("One sidecar tails, the others follow, and any of them may go")
struct FollowingTests {
  private func role(_ sidecar: Sidecar) throws -> String { try sidecar.status()["role"] ?? "" }

  private func waitForRole(_ role: String, _ sidecar: Sidecar, within limit: Duration = .seconds(15)) throws {
    try eventually("role \(role)", within: limit) {
      try self.role(sidecar)
    } until: {
      $0 == role
    }
  }

  @Test("When the tailer is killed, a follower takes over within seconds and clears what changed meanwhile")
  func kill() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    try waitForRole("tailer", a)
    try waitForRole("follower", b)
    try warm(world.key("user:1"), "before", a, b)
    try warm(world.key("user:2"), "before", a, b)
    let generation = try b.status()["generation"]
    a.kill()
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try waitForRole("tailer", b, within: .seconds(8))
    try world.settle(b)
    try expectGone(world.key("user:1"), world, b)
    // Nothing was in doubt: what did not change is still there.
    try expectKept(world.key("user:2"), "before", world, b)
    #expect(try b.status()["generation"] == generation)

    try a.start()
    try a.waitUntilFollowing()
    try waitForRole("follower", a)
    try world.psql("UPDATE users SET name = 'x' WHERE id = 2")
    try world.settle(a, b)
    try expectGone(world.key("user:2"), world, a, b)
  }

  @Test("Takeovers in a row under writes lose no change")
  func takeovers() throws {
    let world = try World()
    let sidecars = [try world.sidecar(), try world.sidecar()]
    for turn in 1...4 {
      let ids = (turn * 10)..<(turn * 10 + 5)
      for id in ids { try warm(world.key("product:\(id)"), "before", sidecars[0], sidecars[1]) }
      let tailer = try #require(try sidecars.firstIndex { try role($0) == "tailer" })
      let writer = try world.postgres.background(
        ids.map { "UPDATE products SET stock = \(turn) WHERE id = \($0); SELECT pg_sleep(0.05);" }.joined(),
        database: world.database)
      sidecars[tailer].kill()
      #expect(try writer.wait() == .code(0))
      try waitForRole("tailer", sidecars[1 - tailer])
      try sidecars[tailer].start()
      for sidecar in sidecars { try sidecar.waitUntilFollowing() }
      try world.settle(sidecars[0], sidecars[1])
      for id in ids { try expectGone(world.key("product:\(id)"), world, sidecars[0], sidecars[1]) }
    }
  }

  @Test("SIGTERM ends a sidecar with code 0, frees the slot at once and removes its socket")
  func terminate() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    try warm(world.key("user:1"), "before", a, b)
    let client = try a.client()
    try client.call("PING")
    #expect(try a.terminate() == .code(0))
    #expect(access(a.socket, F_OK) != 0)
    try waitForRole("tailer", b, within: .seconds(5))
    try expectKept(world.key("user:1"), "before", world, b)
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try world.settle(b)
    try expectGone(world.key("user:1"), world, b)
  }

  @Test("A tailer that slept while another took over writes nothing afterwards")
  func sleeper() throws {
    let world = try World(
      options: [#""staleness": { "bound": "1s" }"#],
      postgres: PostgresServer(settings: ["wal_sender_timeout": "'2s'"]))
    let a = try world.sidecar()
    let b = try world.sidecar()
    try waitForRole("tailer", a)
    try warm(world.key("user:1"), "before", a, b)
    try warm(world.key("user:2"), "before", a, b)
    a.signal(SIGSTOP)
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try waitForRole("tailer", b, within: .seconds(20))
    try world.settle(b)
    try expectGone(world.key("user:1"), world, b)
    try b.store(world.key("user:1"), "after")
    a.signal(SIGCONT)
    // What it still held from before must not be served: first of all the change that it slept through.
    let first = try a.client().pipeline([["GET", world.key("user:1")], ["NEARSIDE", "STATUS"]])
    #expect(first[0] != "before", "\(first)")
    try waitForRole("follower", a)
    try a.waitUntilFollowing()
    #expect(try role(b) == "tailer")
    try eventually("the sleeper has caught up") {
      try a.get(world.key("user:1"))
    } until: {
      $0 == "after"
    }
    try expectKept(world.key("user:1"), "after", world, a, b)
    try world.psql("UPDATE users SET name = 'y' WHERE id IN (1, 2)")
    try world.settle(a, b)
    try expectGone(world.key("user:1"), world, a, b)
    try expectGone(world.key("user:2"), world, a, b)
  }

  @Test("The slot is confirmed as changes are applied, so that PostgreSQL may drop its log")
  func confirmed() throws {
    let world = try World()
    let a = try world.sidecar()
    try world.psql("UPDATE users SET name = 'x'")
    let position = try world.psql("SELECT pg_current_wal_lsn()")
    try world.settle(a)
    try eventually("the slot is confirmed") {
      try world.psql(
        "SELECT confirmed_flush_lsn >= '\(position)' FROM pg_replication_slots WHERE database = '\(world.database)'"
      )
        == "t"
    }
  }

  @Test("PostgreSQL crashes and comes back: the sidecar finds it again by itself")
  func postgresCrash() throws {
    let world = try World(options: [#""staleness": { "bound": "1s" }"#], postgres: PostgresServer())
    let a = try world.sidecar()
    try warm(world.key("user:1"), "before", a)
    world.postgres.kill()
    try eventually("the trouble is shown") { try a.status()["trouble"] != nil }
    #expect(try a.client().call("PING") == .simple("PONG"))
    // What is older than the bound is not served from memory while nobody can say that it is current.
    try eventually("the near cache rests") {
      try a.client().pipeline([["GET", world.key("user:1")], ["NEARSIDE", "STATUS"]])
    } until: {
      $0[0] == nil
    }
    try world.postgres.start()
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try eventually("it tails again", within: .seconds(30)) { try a.status()["trouble"] == nil }
    try world.settle(a)
    try expectGone(world.key("user:1"), world, a)
    try warm(world.key("user:2"), "after", a)
  }

  @Test("Redis loses everything: near copies go, a new generation begins, fills count again")
  func redisLoss() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let b = try world.sidecar()
    for loss in ["FLUSHALL", "restart"] {
      try warm(world.key("user:1"), loss, a, b)
      let before = try a.status()["generation"]
      if loss == "restart" { try redis.restart(hard: true) } else { try redis.cli("FLUSHALL") }
      for sidecar in [a, b] {
        try eventually("a new generation after \(loss)") {
          let generation = try sidecar.status()["generation"]
          return generation != before && generation?.isEmpty == false
        }
        try sidecar.waitUntilFollowing()
        #expect(try sidecar.get(world.key("user:1")) == nil, "after \(loss)")
      }
      try warm(world.key("user:2"), loss, a, b)
      try world.psql("UPDATE users SET name = '\(loss)' WHERE id = 2")
      try world.settle(a, b)
      try expectGone(world.key("user:2"), world, a, b)
    }
  }

  @Test("Redis that has gone back in time is noticed: a new generation")
  func redisRegression() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let b = try world.sidecar()
    try warm(world.key("user:1"), "before", a, b)
    let before = try a.status()["generation"]
    let state = "nearside:{\(world.database)}:m"
    #expect(try redis.cli("EXISTS", state) == "1")
    // As after the failover to a replica that lacked the last writes.
    try redis.cli("HINCRBY", state, "n", "-3")
    try redis.cli("HINCRBY", state, "h", "-3")
    for sidecar in [a, b] {
      try eventually("a new generation") {
        let generation = try sidecar.status()["generation"]
        return generation != before && generation?.isEmpty == false
      }
      try sidecar.waitUntilFollowing()
      #expect(try sidecar.get(world.key("user:1")) == nil)
    }
    try warm(world.key("user:1"), "after", a, b)
  }

  @Test("A journal with a gap makes a follower drop its near cache and start again")
  func brokenChain() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let b = try world.sidecar()
    try warm(world.key("user:1"), "before", a, b)
    try warm(world.key("user:2"), "before", a, b)
    let drops = try b.count("near_drops")
    // The follower sleeps through a change whose journal entry is gone when it wakes up.
    b.signal(SIGSTOP)
    // The read that waits at Redis takes the first entry along.
    for id in [3, 1, 4] {
      try world.psql("UPDATE users SET name = 'x' WHERE id = \(id)")
      try world.settle(a)
    }
    let journal = "nearside:{\(world.database)}:j:\(try a.status()["generation"] ?? "")"
    try redis.cli("XTRIM", journal, "MAXLEN", "1")
    b.signal(SIGCONT)
    try b.waitUntilFollowing()
    try world.settle(b)
    try expectGone(world.key("user:1"), world, a, b)
    #expect(try b.count("near_drops") > drops)
    try expectKept(world.key("user:2"), "before", world, a, b)
    try warm(world.key("user:1"), "after", a, b)
  }

  @Test("While Redis hangs, clients are answered; the slot is given up, and nothing is lost")
  func redisHangs() throws {
    let world = try World(options: [#""redis": { "timeout": "20s" }"#])
    // Else it could be PostgreSQL that ends the connection.
    #expect(try world.psql("SHOW wal_sender_timeout") == "1min")
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    try warm(world.key("user:1"), "before", a)
    let holder = try world.slotHolder()
    #expect(holder != nil)
    redis.pause()
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    let end = ContinuousClock().now.advanced(by: .seconds(5))
    while ContinuousClock().now < end {
      #expect(try a.client().call("PING") == .simple("PONG"))
      sleep(.milliseconds(250))
    }
    // A sidecar that can reach Redis could take it now.
    #expect(try world.slotHolder() == nil)
    redis.resume()
    try world.settle(a)
    try expectGone(world.key("user:1"), world, a)
  }

  @Test("A slot that somebody dropped or moved is noticed, and everything begins anew")
  func slotHole() throws {
    let world = try World()
    let a = try world.sidecar()
    let slot = "nearside_\(world.database)"
    for harm in [
      "SELECT pg_drop_replication_slot('\(slot)')",
      "SELECT pg_replication_slot_advance('\(slot)', pg_current_wal_lsn())",
    ] {
      try warm(world.key("user:1"), "before", a)
      let before = try a.status()["generation"]
      a.kill()
      try world.psql("UPDATE users SET name = name || 'x' WHERE id = 1")
      try eventually("the slot is free") { try world.slotHolder() == nil }
      try world.psql(harm)
      try a.start()
      try eventually("a new generation") {
        let generation = try a.status()["generation"]
        return generation != before && generation?.isEmpty == false
      }
      try a.waitUntilFollowing()
      #expect(try a.get(world.key("user:1")) == nil, "\(harm)")
      try world.psql("UPDATE users SET name = 'y' WHERE id = 2")
      try world.settle(a)
    }
  }

  @Test("Sidecars with different mappings do not trust each other's state")
  func otherMapping() throws {
    let world = try World()
    let a = try world.sidecar()
    try warm(world.key("user:1"), "before", a)
    let before = try a.status()["generation"]
    a.kill()
    let other = try Sidecar(
      world.configuration.replacing("order:{order_id}:item:{line_no}", with: "order:{order_id}"),
      postgres: world.postgres.url(database: world.database), redis: world.redis?.url)
    try other.waitUntilFollowing()
    #expect(try other.status()["generation"] != before)
    #expect(try other.get(world.key("user:1")) == nil)
    try warm(world.key("order:7"), "before", other)
    try world.psql("UPDATE order_items SET quantity = 9 WHERE order_id = 7")
    try world.settle(other)
    try expectGone(world.key("order:7"), world, other)
    // One of the first configuration follows nobody's state but its own.
    try a.start()
    try eventually("it says why it does not follow") {
      try a.status()["standing"]
    } until: {
      $0?.contains("mapping") == true
    }
    #expect(try a.get(world.key("user:1")) == nil)
  }
}
