import Foundation
import Glibc
import TestSupport
import Testing

@Suite("Bad input gets a clear error, and nothing is lost")
struct BadInputTests {
  /// Starts a sidecar that must end by itself, and returns how and with what words.
  private func refusal(
    _ world: World, _ environment: [String: String] = [:], configuration: String? = nil
  ) throws -> (exit: ChildProcess.Exit?, log: String) {
    let sidecar = try Sidecar(
      configuration ?? world.configuration, postgres: world.postgres.url(database: world.database),
      redis: world.redis?.url, environment: environment, ready: false)
    let exit = try sidecar.wait()
    #expect(access(sidecar.socket, F_OK) != 0, "a socket is left behind")
    return (exit, sidecar.log)
  }

  // MARK: PostgreSQL is not as the configuration says

  @Test("A template that names a column the table does not have ends the start with 78 and a plain sentence")
  func column() throws {
    let world = try World(tables: #"{ "users": "user:{idd}" }"#)
    let (exit, log) = try refusal(world)
    #expect(exit == .code(78))
    #expect(
      log.contains(
        #"template "user:{idd}" names column "idd", which table public.users does not have "#
          + #"(columns: id, email, name); did you mean "id"?"#), "\(log)")
  }

  @Test(
    "A template whose column the replica identity does not hold ends the start with 78 and the statement that helps"
  )
  func identity() throws {
    let world = try World(tables: #"{ "products": "product:by-name:{name}" }"#)
    let (exit, log) = try refusal(world)
    #expect(exit == .code(78))
    #expect(
      log.contains(#"names column "name", which the replica identity of public.products does not hold"#),
      "\(log)")
    #expect(log.contains("ALTER TABLE public.products REPLICA IDENTITY FULL"), "\(log)")
    // That statement is the cure.
    try world.psql("ALTER TABLE public.products REPLICA IDENTITY FULL")
    let sidecar = try world.sidecar()
    try sidecar.store(world.key("product:by-name:Product%201"), "x")
  }

  @Test("A missing publication ends the start with 78, and setup is the cure")
  func publication() throws {
    let world = try World(setup: false)
    let (exit, log) = try refusal(world)
    #expect(exit == .code(78))
    #expect(
      log.contains("Publication nearside_\(world.database) does not exist. Run nearside setup."), "\(log)")
    #expect(try world.command("setup", "--apply").exit == .code(0))
    _ = try world.sidecar()
  }

  @Test("A table that is not published ends the start with 78")
  func unpublished() throws {
    let world = try World()
    try world.psql("ALTER PUBLICATION nearside_\(world.database) DROP TABLE products")
    let (exit, log) = try refusal(world)
    #expect(exit == .code(78))
    #expect(log.contains("does not hold table public.products. Run nearside setup."), "\(log)")
  }

  @Test("wal_level other than logical ends setup, check and the start, with the statement that helps")
  func walLevel() throws {
    let postgres = try PostgresServer(settings: ["wal_level": "replica"])
    let world = try World(postgres: postgres, setup: false)
    try world.psql("CREATE PUBLICATION nearside_\(world.database) FOR TABLE users, products, order_items")
    let (exit, log) = try refusal(world)
    #expect(exit == .code(78))
    #expect(log.contains("ALTER SYSTEM SET wal_level = 'logical'"), "\(log)")
    let setup = try world.command("setup", "--apply")
    #expect(setup.exit == .code(1) && setup.output.contains("wal_level is replica"), "\(setup.output)")
    let check = try world.command("check")
    #expect(check.exit == .code(1) && check.errors.contains("wal_level is replica"), "\(check.errors)")
  }

  @Test(
    "A role without the right to replicate ends the start with 77, and its name is in the statement that helps"
  )
  func right() throws {
    let world = try World()
    let role = "\(world.database)_reader"
    try world.psql("CREATE ROLE \(role) LOGIN")
    let url = world.postgres.url(user: role, database: world.database)
    let (exit, log) = try refusal(world, ["DATABASE_URL": url])
    #expect(exit == .code(77), "\(String(describing: exit))")
    #expect(log.contains("ALTER ROLE \"\(role)\" REPLICATION"), "\(log)")
    let nobody = try refusal(
      world, ["DATABASE_URL": world.postgres.url(user: "nobody_at_all", database: world.database)])
    #expect(nobody.exit == .code(77))
    #expect(nobody.log.contains("role \"nobody_at_all\" does not exist"), "\(nobody.log)")
  }

  @Test("A configuration with errors starts nothing, and shows them all with 78")
  func configuration() throws {
    let world = try World()
    let (exit, log) = try refusal(
      world,
      configuration: #"{ "namespace": "nearside", "tables": { "users": "user:{id" }, "near": { "sise": 1 } }"#
    )
    #expect(exit == .code(78))
    #expect(log.contains("3 errors") && log.contains("Nothing was started"), "\(log)")
  }

  // MARK: A server is down

  @Test("Redis unreachable at the start: the log and the socket say so, and it recovers when Redis appears")
  func redisDown() throws {
    let world = try World()
    let redis = try #require(world.redis)
    try redis.stop()
    let sidecar = try Sidecar(
      world.configuration, postgres: world.postgres.url(database: world.database), redis: redis.url)
    #expect(sidecar.log.contains("Redis cannot be reached at \(redis.socket)"), "\(sidecar.log)")
    let client = try sidecar.client()
    try eventually("the status says so") { try sidecar.status()["redis"]?.hasPrefix("down") == true }
    for command in [["GET", "elsewhere"], ["LPUSH", "l", "x"], ["GET", world.key("user:1")]] {
      let reply = try client.call(command)
      #expect(reply.errorText?.contains("Redis is unreachable") == true, "\(command): \(reply)")
    }
    #expect(try client.call("PING") == .simple("PONG"))
    try redis.start()
    try sidecar.waitUntilFollowing()
    try eventually("what is relayed works") { try client.call("SET", "elsewhere", "x") == .ok }
    try sidecar.store(world.key("user:1"), "one")
    try world.psql("UPDATE users SET name = 'new' WHERE id = 1")
    try world.settle(sidecar)
    try expectGone(world.key("user:1"), world, sidecar)
    #expect(try sidecar.status()["trouble"] == nil)
  }

  @Test("PostgreSQL unreachable at the start: the log and the status say so, and it recovers")
  func postgresDown() throws {
    let world = try World(postgres: PostgresServer())
    try world.postgres.stop()
    let sidecar = try Sidecar(
      world.configuration, postgres: world.postgres.url(database: world.database), redis: world.redis?.url)
    #expect(sidecar.log.contains("PostgreSQL cannot be reached"), "\(sidecar.log)")
    try eventually("the status says so") {
      try sidecar.status()["trouble"]?.contains("PostgreSQL cannot be reached") == true
    }
    // What needs no PostgreSQL works meanwhile; a governed key is a miss, and nothing is stored.
    let client = try sidecar.client()
    #expect(try client.call("SET", "elsewhere", "x") == .ok)
    #expect(try client.call("GET", world.key("user:1")) == nil)
    #expect(try client.call("SET", world.key("user:1"), "x") == .ok)
    #expect(try world.redis?.cli("EXISTS", world.key("user:1")) == "0")
    try world.postgres.start()
    try sidecar.waitUntilFollowing()
    try sidecar.store(world.key("user:2"), "two")
  }

  @Test("A wrong Redis password, or none, ends the start with 78 and is not repeated")
  func redisPassword() throws {
    let world = try World(redis: false)
    let redis = try RedisServer()
    try redis.client().call("CONFIG", "SET", "requirepass", "right-one")
    let wrong = try refusal(world, ["REDIS_URL": "unix://:wr0ng-one@\(redis.socket)"])
    #expect(wrong.exit == .code(78), "\(wrong.log)")
    #expect(wrong.log.contains("does not accept the configured user name and password"), "\(wrong.log)")
    #expect(!wrong.log.contains("wr0ng-one"))
    let none = try refusal(world, ["REDIS_URL": redis.url])
    #expect(none.exit == .code(78))
    #expect(none.log.contains("asks for a password"), "\(none.log)")
  }

  @Test("A wrong PostgreSQL password ends the start with 77 and is not repeated")
  func postgresPassword() throws {
    let world = try World(redis: false, postgres: PostgresServer())
    try world.psql("CREATE ROLE guarded LOGIN REPLICATION PASSWORD 'right-one'")
    let rules = world.postgres.data + "/pg_hba.conf"
    try writeFile("local all guarded scram-sha-256\n" + (readFile(rules) ?? ""), to: rules)
    try world.postgres.reload()
    let url = "postgresql://guarded:wr0ng-one@/\(world.database)?host=\(world.postgres.folder.path)"
    let (exit, log) = try refusal(world, ["DATABASE_URL": url])
    #expect(exit == .code(77), "\(log)")
    #expect(log.contains("password authentication failed"), "\(log)")
    #expect(!log.contains("wr0ng-one"))
  }

  // MARK: The socket

  @Test("Malformed and oversized RESP get the very text that Redis gives, and close that connection alone")
  func malformed() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let sidecar = try world.sidecar()
    let other = try sidecar.client()
    #expect(try other.call("PING") == .simple("PONG"))
    let inputs = [
      "*2147483648\r\n", "*abc\r\n", "*\r\n", "*99999999999999999999\r\n", "*1\r\n$536870913\r\n",
      "*1\r\n$-1\r\n",
      "*1\r\n$x\r\n", "*1\r\n:1\r\n", "*2\r\n$4\r\nPING\r\nhello\r\n", "GET \"unbalanced\r\n",
      String(repeating: "x", count: 70_000), "*" + String(repeating: "1", count: 70_000),
      "*1\r\n$" + String(repeating: "1", count: 70_000),
    ]
    for input in inputs {
      let ours = try sidecar.client()
      let theirs = try redis.client()
      try ours.send(raw: input)
      try theirs.send(raw: input)
      let shown = String(input.prefix(40))
      let error = try ours.receive()
      #expect(error == (try theirs.receive()), "\(shown)")
      #expect(error.errorText?.hasPrefix("ERR Protocol error: ") == true, "\(shown): \(error)")
      #expect(ours.isClosed() && theirs.isClosed(), "\(shown)")
    }
    // Redis 7 takes more arguments than the 1,048,576 that are the limit here.
    let many = try sidecar.client()
    try many.send(raw: "*1048577\r\n")
    #expect(try many.receive() == .error("ERR Protocol error: invalid multibulk length"))
    #expect(many.isClosed())
    #expect(try sidecar.count("protocol_errors") == inputs.count + 1)
    #expect(try other.call("PING") == .simple("PONG"))
  }

  @Test("What came before the malformed part is answered, and half a command keeps nobody else waiting")
  func behind() throws {
    let world = try World(redis: false)
    let sidecar = try world.sidecar()
    let client = try sidecar.client()
    try client.send(raw: "PING\r\n*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n*1\r\n!\r\n")
    #expect(try client.receive() == .simple("PONG"))
    #expect(try client.receive() == "hi")
    #expect(try client.receive() == .error("ERR Protocol error: expected '$', got '!'"))
    #expect(client.isClosed())
    let half = try sidecar.client()
    // An announced length takes no memory before its bytes arrive.
    try half.send(raw: "*2\r\n$3\r\nGET\r\n$536870912\r\nabc")
    #expect(try sidecar.client().call("PING") == .simple("PONG"))
    let resident = readFile("/proc/\(sidecar.pid ?? 0)/status")?.split(separator: "\n")
      .first { $0.hasPrefix("VmRSS:") }?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap {
        Int($0)
      }
    #expect(resident ?? .max < 400_000, "kB")
  }

  @Test("The socket file of a dead sidecar is replaced; a living one's is not, and the second ends with 73")
  func socketFile() throws {
    let world = try World(redis: false)
    let sidecar = try world.sidecar()
    let second = try Sidecar.command(
      ["run", "--config", sidecar.configuration],
      environment: ["DATABASE_URL": world.postgres.url(database: world.database)])
    #expect(second.exit == .code(73))
    #expect(second.errors.contains("Another nearside listens on \(sidecar.socket)."), "\(second.errors)")
    #expect(try sidecar.client().call("PING") == .simple("PONG"))
    sidecar.kill()
    #expect(access(sidecar.socket, F_OK) == 0)
    try sidecar.start()
    try sidecar.waitUntilFollowing()
    try sidecar.terminate()
    #expect(access(sidecar.socket, F_OK) != 0)

    // Neither is the socket of another program, nor a file that is none.
    let server = try RedisServer()
    let taken = try refusal(
      world, configuration: #"{ "listen": "\#(server.socket)","# + world.configuration.dropFirst())
    #expect(taken.exit == .code(73))
    #expect(taken.log.contains("Another program listens on \(server.socket)."), "\(taken.log)")
    #expect(try server.client().call("PING") == .simple("PONG"))
    let folder = try TemporaryFolder()
    let file = try folder.write("precious", to: "file")
    let occupied = try refusal(
      world, configuration: #"{ "listen": "\#(file)","# + world.configuration.dropFirst())
    #expect(occupied.exit == .code(73))
    #expect(occupied.log.contains("exists and is no socket"), "\(occupied.log)")
    #expect(readFile(file) == "precious")
  }

  // MARK: Under way

  @Test("A column that goes away under way breaks its rule: a new generation, and the log says why")
  func columnDropped() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    try sidecar.store(world.key("user:1"), "one")
    try sidecar.store(world.key("product:1"), "first")
    let generation = try sidecar.status()["generation"]
    try world.psql("ALTER TABLE users DROP COLUMN email; UPDATE users SET name = 'new' WHERE id = 1")
    try eventually("a new generation", within: .seconds(30)) {
      let now = try sidecar.status()["generation"]
      return now != generation && now != ""
    }
    try eventually("the log says why") {
      sidecar.log.contains("email") && sidecar.log.contains("public.users")
    }
    try eventually("nothing of before is left", within: .seconds(30)) {
      try world.redis?.cli("EXISTS", world.key("user:1"), world.key("product:1")) == "0"
    }
    #expect(try sidecar.get(world.key("user:1")) == nil)
    // It goes on, each change of the table costing a generation; other tables are served as before.
    try sidecar.waitUntilFollowing()
    try sidecar.store(world.key("product:1"), "first")
    try world.psql("UPDATE products SET stock = 1 WHERE id = 1")
    try world.settle(sidecar)
    #expect(try sidecar.get(world.key("product:1")) == nil)
    // Started anew, it says so at once.
    try sidecar.terminate()
    try sidecar.start(ready: false)
    #expect(try sidecar.wait() == .code(78))
  }

  @Test("A replica identity that shrinks under way breaks the rule, and is noticed again when it is mended")
  func identityChanged() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    try sidecar.store(world.key("user:by-email:user1@example.com"), "one")
    let generation = try sidecar.status()["generation"]
    try world.psql(
      "ALTER TABLE users REPLICA IDENTITY DEFAULT; UPDATE users SET email = 'new@example.com' WHERE id = 1")
    try eventually("a new generation", within: .seconds(30)) {
      let now = try sidecar.status()["generation"]
      return now != generation && now != ""
    }
    try eventually("the old key is gone", within: .seconds(30)) {
      try world.redis?.cli("EXISTS", world.key("user:by-email:user1@example.com")) == "0"
    }
    try eventually("the log says why") { sidecar.log.contains("replica identity") }
    try world.psql("ALTER TABLE users REPLICA IDENTITY FULL; UPDATE users SET name = 'x' WHERE id = 2")
    try world.settle(sidecar)
    try sidecar.waitUntilFollowing()
    let mended = try sidecar.status()["generation"]
    try sidecar.store(world.key("user:by-email:new@example.com"), "two")
    try world.psql("UPDATE users SET email = 'newer@example.com' WHERE id = 1")
    try world.settle(sidecar)
    #expect(try sidecar.get(world.key("user:by-email:new@example.com")) == nil)
    #expect(try sidecar.status()["generation"] == mended)
  }

  // MARK: Secrets

  @Test(
    "No password and no value of a row or of the cache is in any log or error", arguments: ["trace", "info"])
  func secrets(level: String) throws {
    let world = try World(
      options: [#""log": { "level": "\#(level)", "format": "text" }"#], redis: false,
      postgres: PostgresServer())
    let redis = try RedisServer()
    try redis.client().call("CONFIG", "SET", "requirepass", "redis-s3cret")
    try world.psql("CREATE ROLE guarded SUPERUSER LOGIN REPLICATION PASSWORD 'postgres-s3cret'")
    let rules = world.postgres.data + "/pg_hba.conf"
    try writeFile("local all guarded scram-sha-256\n" + (readFile(rules) ?? ""), to: rules)
    try world.postgres.reload()
    let environment = [
      "DATABASE_URL":
        "postgresql://guarded:postgres-s3cret@/\(world.database)?host=\(world.postgres.folder.path)",
      "REDIS_URL": "unix://:redis-s3cret@\(redis.socket)",
    ]
    let sidecar = try world.sidecar(environment: environment)
    try sidecar.store(world.key("user:1"), "value-s3cret")
    try world.psql("UPDATE users SET name = 'row-s3cret' WHERE id = 1")
    try world.psql("UPDATE users SET email = 'row-s3cret' WHERE id = 2")
    // A key too long to be kept, a broken rule, a truncation: what is logged of them.
    try world.psql("UPDATE users SET email = repeat('row-s3cret', 8000) WHERE id = 3")
    try world.psql(
      "ALTER TABLE users REPLICA IDENTITY DEFAULT; UPDATE users SET email = 'row-s3cret' WHERE id = 4")
    try world.psql("TRUNCATE products")
    try world.settle(sidecar)
    let client = try sidecar.client()
    var answers: [String] = []
    for command in [
      ["AUTH", "x-s3cret"], ["HELLO", "3", "AUTH", "u", "x-s3cret", "BAD"],
      ["SET", world.key("user:1"), "v", "EX", "s"],
      ["CONFIG", "GET", "requirepass"], ["CONFIG", "GET", "*"], ["CONFIG", "GET", "maxmemory", "MasterAuth"],
      ["INFO"], ["CLIENT", "LIST"], ["NEARSIDE", "STATUS"],
      ["NEARSIDE", "FILL", world.key("user:1"), "t", "value-s3cret"],
    ] {
      answers.append("\(try client.call(command))")
    }
    // Both servers go away and come back.
    try redis.stop()
    try eventually("the status says so") { try sidecar.status()["redis"]?.hasPrefix("down") == true }
    try world.postgres.stop()
    try eventually("the status says so") { try sidecar.status()["trouble"] != nil }
    answers.append("\(try sidecar.status())")
    let folder = try TemporaryFolder()
    try folder.write(world.configuration, to: "config.json")
    for verb in ["check", "setup"] {
      let done = try Sidecar.command(
        [verb, "--config", "config.json"], environment: environment, directory: folder.path)
      answers.append(done.output + done.errors)
    }
    try sidecar.terminate()
    for text in answers + [sidecar.log] { #expect(!text.contains("s3cret"), "\(text)") }
    #expect(sidecar.log.contains("new generation"))
  }
}
