import TestSupport
import Testing

@Suite("A slot that costs too much")
struct SlotBoundTests {
  private func world() throws -> World {
    let server = try PostgresServer(settings: ["min_wal_size": "'32MB'", "max_wal_size": "'64MB'"])
    return try World(
      options: [#""postgres": { "slot": { "maxRetained": "24MiB" } }"#], postgres: server)
  }

  /// Moves the log on by so many segments of 16 MiB.
  private func write(_ segments: Int, _ world: World) throws {
    for _ in 0..<segments {
      try world.psql("SELECT pg_logical_emit_message(false, 'filler', 'x'); SELECT pg_switch_wal()")
    }
    try world.psql("CHECKPOINT")
  }

  @Test("is dropped though no sidecar can use it, while Redis is down; then a new generation begins")
  func whileRedisIsDown() throws {
    let world = try world()
    let sidecar = try world.sidecar()
    let user = world.key("user:1")
    try warm(user, "old", sidecar)
    let before = try sidecar.status()["generation"]
    try world.redis?.stop()
    try eventually("nobody holds the slot", within: .seconds(30)) { try world.slotHolder() == nil }
    try write(1, world)
    #expect(try world.psql("SELECT count(*) FROM pg_replication_slots") == "1")
    // Nobody holds it, and whoever watches is told what it costs all the same.
    try eventually("its figures are there") {
      try sidecar.admin.get("/metrics").body
    } until: {
      $0.contains("\nnearside_slot_retained_wal_bytes ")
    }
    try write(2, world)
    try eventually("the slot is dropped", within: .seconds(30)) {
      try world.psql("SELECT count(*) FROM pg_replication_slots") == "0"
    }
    try eventually("it says why") {
      sidecar.log.contains("more than postgres.slot.maxRetained (24 MiB) allows")
    }
    try world.psql("UPDATE users SET name = 'new' WHERE id = 1")
    try world.redis?.start()
    try sidecar.waitUntilFollowing()
    #expect(try sidecar.status()["generation"] != before)
    #expect(try sidecar.get(user) == nil)
    try warm(user, "new", sidecar)
  }

  @Test("is given up by the tailer that holds it, when a transaction stays open for too long")
  func whileHeld() throws {
    let world = try world()
    let sidecar = try world.sidecar()
    let user = world.key("user:1")
    try warm(user, "old", sidecar)
    let before = try sidecar.status()["generation"]
    let open = try SQLClient(world.postgres.url(database: world.database))
    try open.query("BEGIN")
    try open.query("INSERT INTO products VALUES (7001, 'open', 1)")
    try write(3, world)
    try eventually("it says why", within: .seconds(40)) {
      sidecar.log.contains("more than postgres.slot.maxRetained (24 MiB) allows")
    }
    // A new slot begins where no transaction is open.
    try open.query("COMMIT")
    try eventually("a new generation begins", within: .seconds(30)) {
      try sidecar.status()["generation"] != before
    }
    try sidecar.waitUntilFollowing()
    #expect(try sidecar.get(user) == nil)
  }

  @Test("What the slot costs is shown to whoever asks: metrics, status, stats and doctor")
  func figures() throws {
    let world = try World(options: [#""postgres": { "slot": { "maxRetained": "3GiB" } }"#])
    let sidecar = try world.sidecar()
    let slot = try world.psql(
      "SELECT slot_name FROM pg_replication_slots WHERE database = '\(world.database)'")
    let metrics = try eventually("its figures are there") {
      try sidecar.admin.get("/metrics").body
    } until: {
      $0.contains("\nnearside_slot_retained_wal_bytes ")
    }
    #expect(metrics.contains("\nnearside_slot_lost 0\n"), "\(metrics)")
    #expect(try sidecar.admin.get("/status").body.contains(#""bound_bytes":3221225472"#))
    let stats = try Sidecar.command(["stats", "--admin", sidecar.socket + ".admin"], environment: [:]).output
    #expect(stats.contains("slot       \(slot), "), "\(stats)")
    #expect(stats.contains("of at most 3.0 GiB"), "\(stats)")
    let doctor = try Sidecar.command(
      ["doctor", "--config", sidecar.configuration], environment: world.environment)
    #expect(doctor.output.contains("It holds replication slot \(slot), keeps "), "\(doctor.output)")
    #expect(doctor.output.contains("Nothing is audited: no cache has load"), "\(doctor.output)")
  }
}
