import Glibc
import TestSupport
import Testing

@Suite("NEARSIDE INVALIDATE … DURABLE: through PostgreSQL's log")
struct DurableTests {
  private func world(redis: Bool = true) throws -> World {
    try World(
      tables: #"{ "users": { "keys": ["user:{id}", "list:{id}:*"], "tags": ["tenant:{id}"] } }"#,
      options: [#""caches": { "report:{id}:{name}": { "tags": ["tenant:{id}"] } }"#], redis: redis)
  }

  private func invalidate(_ client: RESPClient, _ arguments: String...) throws -> String {
    let reply = try client.call(["NEARSIDE", "INVALIDATE"] + arguments + ["DURABLE"])
    guard let position = reply.text, position.contains("/") else { throw HarnessError("\(reply)") }
    return position
  }

  private func wait(_ position: String, _ sidecars: [Sidecar]) throws {
    for sidecar in sidecars {
      let client = try sidecar.client(timeout: .seconds(25))
      #expect(try client.call("NEARSIDE", "WAIT", position, "20000") == 1)
    }
  }

  @Test(
    "Keys, a prefix, a tag and everything are gone on every host once the answered position is applied",
    arguments: [true, false])
  func forms(redis: Bool) throws {
    let world = try world(redis: redis)
    let sidecars = try redis ? [world.sidecar(), world.sidecar()] : [world.sidecar()]
    let client = try sidecars[0].client()
    func key(_ rest: String) -> String { world.key(rest) }
    let all = ["user:1", "user:2", "user:3", "list:1:a", "list:2:a", "report:1:x", "report:2:x"]
    func warmAll() throws {
      for name in all {
        if try sidecars[0].get(key(name)) == nil { try sidecars[0].store(key(name), "before") }
        for sidecar in sidecars {
          try eventually("\(name) is near") { try sidecar.hasNear(key(name)) }
        }
      }
    }
    func gone(_ names: [String], after position: String) throws {
      try wait(position, sidecars)
      for sidecar in sidecars {
        for name in all {
          let value = try sidecar.get(key(name))
          #expect(value == (names.contains(name) ? nil : "before"), "\(name) of \(names)")
        }
      }
      try warmAll()
    }
    try warmAll()
    let generation = try sidecars[0].status()["generation"]
    try gone(["user:1", "user:2"], after: try invalidate(client, "KEY", key("user:1"), key("user:2")))
    try gone(["list:1:a"], after: try invalidate(client, "prefix", key("list:1:*")))
    try gone(["report:2:x"], after: try invalidate(client, "TAG", "tenant:2"))
    #expect(try sidecars[0].status()["generation"] == generation)
    try gone(all, after: try invalidate(client, "ALL"))
    #expect(try sidecars[0].status()["generation"] != generation)
    #expect(try sidecars[0].count("durable_invalidations") == 4)
    // What no fleet's cache has as a tag, and what SQL names by itself.
    try world.psql("SELECT nearside.invalidate_tag('nobody', NULL, 'tenant:1')")
    try gone(["report:1:x"], after: try world.psql("SELECT pg_current_wal_insert_lsn()"))
  }

  @Test("While Redis does not answer, or is gone, it is answered, and nobody misses it")
  func withoutRedis() throws {
    let world = try world()
    let (a, b) = (try world.sidecar(), try world.sidecar())
    let redis = try #require(world.redis)
    let key = world.key("user:1")
    try warm(key, "before", a, b)
    redis.pause()
    let position = try invalidate(a.client(), "KEY", key)
    #expect(try a.client().call("NEARSIDE", "WAIT", position, "100") == 0)
    redis.resume()
    try wait(position, [a, b])
    try expectGone(key, world, a, b)

    try redis.stop()
    try eventually("it is noticed") { try a.status()["redis"] != "up" }
    #expect(try a.client().call("NEARSIDE", "INVALIDATE", "KEY", key).errorText?.isEmpty == false)
    let other = try invalidate(a.client(), "PREFIX", world.key("user:"))
    try redis.start()
    try wait(other, [a, b])
  }

  @Test("While PostgreSQL is away it is an error, and afterwards it works again")
  func withoutPostgres() throws {
    let postgres = try PostgresServer()
    let world = try World(postgres: postgres)
    let sidecar = try world.sidecar()
    let key = world.key("user:1")
    try warm(key, "before", sidecar)
    let client = try sidecar.client(timeout: .seconds(20))
    _ = try invalidate(client, "KEY", world.key("user:2"))
    try postgres.stop()
    func error() throws -> String {
      try client.call("NEARSIDE", "INVALIDATE", "KEY", key, "DURABLE").errorText ?? ""
    }
    // The first went out on the connection that stood; then there is none.
    let first = try error()
    #expect(first.contains("it is not known whether PostgreSQL's log holds this"), "\(first)")
    let second = try error()
    #expect(second.contains("PostgreSQL's log does not hold this"), "\(second)")
    #expect(try sidecar.count("durable_failed") == 2)
    try postgres.start()
    try eventually("it works again", within: .seconds(30)) {
      try wait(try invalidate(client, "KEY", key), [sidecar])
      return true
    }
    try expectGone(key, world, sidecar)
  }

  @Test("After a restart of PostgreSQL the first one is answered, over a new connection")
  func restarted() throws {
    let postgres = try PostgresServer()
    let world = try World(postgres: postgres)
    let sidecar = try world.sidecar()
    let client = try sidecar.client(timeout: .seconds(20))
    _ = try invalidate(client, "KEY", world.key("user:1"))
    try postgres.stop()
    try postgres.start()
    _ = try invalidate(client, "KEY", world.key("user:1"))
    #expect(try sidecar.count("durable_failed") == 0)
  }

  @Test("A role without the right, and a database without the function, are told so in a plain sentence")
  func rights() throws {
    let world = try world()
    let role = "app_\(world.database)"
    try world.psql("CREATE ROLE \(role) LOGIN REPLICATION")
    let sidecar = try Sidecar(
      world.configuration, postgres: world.postgres.url(user: role, database: world.database),
      redis: world.redis?.url)
    try sidecar.waitUntilFollowing()
    let client = try sidecar.client()
    func error(_ arguments: String...) throws -> String {
      try client.call(["NEARSIDE", "INVALIDATE"] + arguments + ["DURABLE"]).errorText ?? ""
    }
    let denied = try error("KEY", world.key("user:1"))
    #expect(denied.contains("may not call") && denied.contains("GRANT USAGE ON SCHEMA nearside"), "\(denied)")
    try world.psql("GRANT USAGE ON SCHEMA nearside TO \(role); DROP FUNCTION nearside.invalidate_tag")
    #expect(try error("TAG", "tenant:1").contains("run nearside setup"))
    _ = try invalidate(client, "KEY", world.key("user:1"))
    let done = try world.command("setup", "--apply")
    #expect(done.exit == .code(0))
    try wait(try invalidate(client, "TAG", "tenant:1"), [sidecar])
  }

  @Test("What cannot be told through the log is refused, and says why")
  func refused() throws {
    let world = try world()
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    for (arguments, reason) in [
      (["KEY", "elsewhere:1"], "begins with this fleet's namespace"),
      (["KEY", world.key("user:*")], "does not end in *"),
      (["PREFIX", "elsewhere:"], "a prefix begins with this fleet's namespace"),
      (["TAG", "nobody"], "no cache has a tag"), (["KEY", world.key("a\u{0}b")], "UTF-8 without zero bytes"),
      (["PREFIX", world.key("a"), "b"], "the commands are"),
    ] as [([String], String)] {
      let error = try client.call(["NEARSIDE", "INVALIDATE"] + arguments + ["DURABLE"]).errorText ?? ""
      #expect(error.contains(reason), "\(arguments): \(error)")
    }
    #expect(try client.call("PING") == .simple("PONG"))
  }

  @Test("Several in one pipeline are answered in their order, between other commands")
  func pipeline() throws {
    let world = try world()
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    let replies = try client.pipeline([
      ["NEARSIDE", "INVALIDATE", "KEY", world.key("user:1"), "DURABLE"], ["PING"],
      ["NEARSIDE", "INVALIDATE", "TAG", "tenant:1", "DURABLE"], ["ECHO", "x"],
    ])
    #expect(replies[0].text?.contains("/") == true && replies[2].text?.contains("/") == true, "\(replies)")
    #expect(replies[1] == .simple("PONG") && replies[3] == "x")
    #expect(try client.call("NEARSIDE", "INVALIDATE", "KEY", world.key("user:1")) == 1)
  }
}
