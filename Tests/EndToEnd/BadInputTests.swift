import Glibc
import TestSupport
import Testing

@Suite("Bad input gets a clear error, and nothing is lost")
struct BadInputTests {
  // MARK: The start

  /// Starts a sidecar that is expected to end by itself; what it wrote and how it ended.
  private func endedStart(
    _ configuration: String, postgres: String?, redis: String?, environment: [String: String] = [:]
  ) throws -> (exit: ChildProcess.Exit?, log: String) {
    let sidecar = try Sidecar(
      configuration, postgres: postgres, redis: redis, environment: environment, ready: false)
    let exit = try sidecar.wait(within: .seconds(20))
    #expect(access(sidecar.socket, F_OK) != 0, "a socket was left")
    return (exit, sidecar.log)
  }

  @Test("A configuration with errors starts nothing and ends with 78")
  func configuration() throws {
    let (exit, log) = try endedStart(
      """
      { "namespace": "shop", "nammespace": "x",
        "tables": { "users": "user:{id" , "users": "user:{id}" }, "staleness": { "bound": "2 sec" } }
      """, postgres: "postgresql://postgres@/none?host=/nonexistent", redis: nil)
    #expect(exit == .code(78))
    for part in [
      "config.json:1:", "config.json:2:", "did you mean \"namespace\"?", "\"2 sec\"", "stands here twice",
      "Nothing was started",
    ] {
      #expect(log.contains(part), "\(part) in: \(log)")
    }
  }

  @Test("Without wal_level=logical it ends with 78 and names the setting")
  func walLevel() throws {
    let postgres = try PostgresServer(settings: ["wal_level": "replica"])
    let world = try World(postgres: postgres, setup: false)
    try world.psql("CREATE PUBLICATION nearside_\(world.database) FOR TABLE users, products, order_items")
    let (exit, log) = try endedStart(
      world.configuration, postgres: postgres.url(database: world.database), redis: world.redis?.url)
    #expect(exit == .code(78), "\(log)")
    #expect(log.contains("wal_level"), "\(log)")
    #expect(log.contains("logical") && log.contains("ALTER SYSTEM"), "\(log)")
  }

  @Test("Without its publication it ends with 78 and names setup")
  func publication() throws {
    let world = try World(setup: false)
    let (exit, log) = try endedStart(
      world.configuration, postgres: world.postgres.url(database: world.database), redis: world.redis?.url)
    #expect(exit == .code(78), "\(log)")
    #expect(log.contains("nearside_\(world.database)") && log.contains("nearside setup"), "\(log)")
  }

  @Test("Without the right to replicate it ends with 77 and gives the statement that grants it")
  func replicationRight() throws {
    let world = try World(postgres: PostgresServer())
    try world.psql(
      "CREATE ROLE poor LOGIN; GRANT USAGE ON SCHEMA nearside TO poor; GRANT ALL ON ALL TABLES IN SCHEMA nearside TO poor"
    )
    let (exit, log) = try endedStart(
      world.configuration, postgres: world.postgres.url(user: "poor", database: world.database),
      redis: world.redis?.url)
    #expect(exit == .code(77), "\(log)")
    #expect(log.contains("REPLICATION"), "\(log)")
  }

  @Test("A template whose column the table does not have, or whose identity lacks it, starts nothing")
  func columns() throws {
    let world = try World(setup: false)
    try world.psql("CREATE PUBLICATION nearside_\(world.database) FOR ALL TABLES")
    for (tables, parts) in [
      (#"{ "users": "user:{idd}" }"#, ["idd", "public.users", "did you mean \"id\"?"]),
      (#"{ "products": "p:{name}" }"#, ["name", "replica identity", "REPLICA IDENTITY FULL"]),
      (#"{ "prodcts": "p:{id}" }"#, ["prodcts"]),
    ] {
      let (exit, log) = try endedStart(
        "{ \"namespace\": \"\(world.database)\", \"tables\": \(tables) }",
        postgres: world.postgres.url(database: world.database), redis: world.redis?.url)
      #expect(exit == .code(78), "\(tables): \(log)")
      for part in parts { #expect(log.contains(part), "\(part) in: \(log)") }
    }
  }

  @Test("A database that does not exist, or a server that refuses, is told in one sentence")
  func noDatabase() throws {
    let world = try World()
    let sidecar = try Sidecar(
      world.configuration, postgres: world.postgres.url(database: "nowhere"), redis: world.redis?.url,
      ready: false)
    try eventually("it says so") {
      sidecar.log
    } until: {
      $0.contains("nowhere")
    }
  }

  @Test("Servers that are down at the start are waited for, and the socket says which")
  func down() throws {
    let postgres = try PostgresServer()
    let world = try World(postgres: postgres)
    let redis = try #require(world.redis)
    try postgres.stop()
    try redis.stop()
    let a = try Sidecar(
      world.configuration, postgres: postgres.url(database: world.database), redis: redis.url)
    #expect(try a.client().call("PING") == .simple("PONG"))
    let error = try a.get(world.key("user:1")).errorText ?? ""
    #expect(error.contains("Redis") && error.contains("unreachable"), "\(error)")
    try eventually("the trouble with PostgreSQL is shown") {
      try a.status()["trouble"] ?? ""
    } until: {
      $0.contains("PostgreSQL")
    }
    try redis.start()
    try postgres.start()
    try a.waitUntilFollowing()
    try warm(world.key("user:1"), "v", a)
  }

  @Test("No password reaches a log, an error or the status")
  func secrets() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let secret = "Geheimnis42"
    let folder = world.postgres.folder.path
    let good = try Sidecar(
      world.configuration, postgres: "postgresql://postgres:\(secret)@/\(world.database)?host=\(folder)",
      redis: redis.url)
    try good.waitUntilFollowing()
    #expect(!good.log.contains(secret))
    #expect(!(try good.client().call("INFO").text ?? "").contains(secret))
    for (postgres, url) in [
      ("postgresql://postgres:\(secret)@/none?host=/nonexistent", redis.url),
      ("postgresql://nobody:\(secret)@/\(world.database)?host=\(folder)", redis.url),
      ("postgresql://postgres:\(secret)@/\(world.database)?host=\(folder)&nonsense=1", redis.url),
      (world.postgres.url(database: world.database), "unix://:\(secret)@\(redis.socket)?db=0"),
      (world.postgres.url(database: world.database), "unix://:\(secret)@\(redis.socket)?nonsense=\(secret)"),
    ] {
      let bad = try Sidecar(world.configuration, postgres: postgres, redis: url, ready: false)
      try eventually("it says something") { !bad.log.isEmpty }
      sleep(.milliseconds(300))
      bad.kill()
      #expect(!bad.log.contains(secret), "\(bad.log)")
    }
  }

  // MARK: The socket

  @Test("Malformed and oversized requests get Redis's own error and end that connection alone")
  func malformed() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    try warm(world.key("user:1"), "v", a)
    let bystander = try a.client()
    try bystander.call("PING")
    let inputs = [
      "*x\r\n", "*2147483648\r\n", "*99999999999999999999\r\n", "*1\r\nfoo\r\n", "*1\r\n$-1\r\n",
      "*1\r\n$x\r\n",
      "*1\r\n$536870913\r\n", "*2\r\n$3\r\nGET\r\n:1\r\n", "GET \"unbalanced\r\n", "GET 'x'y\r\n",
      String(repeating: "x", count: 70_000), "*" + String(repeating: "1", count: 70_000),
      "*1\r\n$" + String(repeating: "1", count: 70_000),
    ]
    for input in inputs {
      let shown = input.prefix(40)
      let direct = try redis.client()
      try direct.send(raw: input)
      let expected = try direct.receive()
      let client = try a.client()
      try client.send(raw: RESPClient.encode(["GET", world.key("user:1")]))
      #expect(try client.receive() == "v")
      try client.send(raw: input)
      #expect(try client.receive() == expected, "\(shown)")
      #expect(client.isClosed(), "\(shown)")
      #expect(try bystander.call("GET", world.key("user:1")) == "v")
    }
    #expect(try a.count("protocol_errors") >= inputs.count)
  }

  @Test("Requests that arrive byte by byte, and inline ones, are understood")
  func pieces() throws {
    let world = try World()
    let a = try world.sidecar()
    try warm(world.key("user:1"), "v", a)
    let client = try a.client()
    for byte in RESPClient.encode(["GET", world.key("user:1")])
      + Array("\r\n\nPING\r\nget \(world.key("user:1"))\n".utf8)
    {
      try client.send(raw: [byte])
    }
    #expect(try client.receive() == "v")
    #expect(try client.receive() == .simple("PONG"))
    #expect(try client.receive() == "v")
    try client.send(raw: "*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n")
    #expect(try client.receive() == .simple("PONG"))
  }

  @Test("A client that goes in the middle of a request, or that does not read, harms nobody")
  func rudeClients() throws {
    let world = try World()
    let a = try world.sidecar()
    let value = String(repeating: "v", count: 100_000)
    try warm(world.key("user:1"), value, a)
    for cut in 1..<25 {
      let client = try a.client()
      try client.send(raw: Array(RESPClient.encode(["GET", world.key("user:1")]).prefix(cut)))
    }
    // Asks for 40 MB and reads none of it.
    let deaf = try a.client()
    let burst = (0..<400).flatMap { _ in RESPClient.encode(["GET", world.key("user:1")]) }
    try deaf.send(raw: burst)
    let polite = try a.client()
    for _ in 0..<50 { #expect(try polite.call("GET", world.key("user:1")) == .bulk(value)) }
    let memory = try #require(a.pid.flatMap { residentBytes($0) })
    #expect(memory < 100_000_000, "\(memory) bytes resident")
    // Its replies were kept, not dropped.
    for _ in 0..<400 {
      guard try deaf.receive() == .bulk(value) else {
        Issue.record("a reply got lost")
        break
      }
    }
  }

  private func residentBytes(_ pid: pid_t) -> Int? {
    guard let fields = readFile("/proc/\(pid)/statm")?.split(separator: " "), fields.count > 1 else {
      return nil
    }
    return Int(fields[1]).map { $0 * Int(sysconf(Int32(_SC_PAGESIZE))) }
  }

  @Test("A client that has sent its last command still gets all replies")
  func halfClosed() throws {
    let world = try World()
    let a = try world.sidecar()
    try warm(world.key("user:1"), "v", a)
    let client = try a.client()
    try client.send(
      raw: (0..<100).flatMap { RESPClient.encode(["SET", "k\($0)", "x"]) }
        + RESPClient.encode(["GET", world.key("user:1")]))
    client.finishSending()
    for _ in 0..<100 { #expect(try client.receive() == .ok) }
    #expect(try client.receive() == "v")
    #expect(client.isClosed())
  }

  @Test("The socket of a dead sidecar is replaced; that of a living one is not")
  func staleSocket() throws {
    let world = try World()
    let a = try world.sidecar()
    a.kill()
    #expect(access(a.socket, F_OK) == 0)
    try a.start()
    try a.waitUntilFollowing()

    let second = try Sidecar(
      world.configuration.replacing("{ \"namespace\"", with: "{ \"listen\": \"\(a.socket)\", \"namespace\""),
      postgres: world.postgres.url(database: world.database), redis: world.redis?.url, ready: false)
    #expect(try second.wait() == .code(73))
    #expect(second.log.contains(a.socket), "\(second.log)")
    #expect(try a.client().call("PING") == .simple("PONG"))

    // Nor is anything else that lies there.
    let folder = try TemporaryFolder()
    try folder.write("precious", to: "file.sock")
    let third = try Sidecar(
      world.configuration.replacing(
        "{ \"namespace\"", with: "{ \"listen\": \"\(folder.file("file.sock"))\", \"namespace\""),
      postgres: world.postgres.url(database: world.database), redis: world.redis?.url, ready: false)
    #expect(try third.wait() == .code(73))
    #expect(readFile(folder.file("file.sock")) == "precious")
  }

  @Test("The socket has the mode that the configuration gives it")
  func socketMode() throws {
    let world = try World()
    let folder = try TemporaryFolder()
    let a = try Sidecar(
      world.configuration.replacing(
        "{ \"namespace\"",
        with: "{ \"listen\": { \"socket\": \"\(folder.file("s"))\", \"mode\": \"0600\" }, \"namespace\""),
      postgres: world.postgres.url(database: world.database), redis: world.redis?.url, ready: false)
    try eventually("it listens") { try RESPClient(folder.file("s")).call("PING") == .simple("PONG") }
    var info = stat()
    #expect(stat(folder.file("s"), &info) == 0)
    #expect(info.st_mode & 0o777 == 0o600)
    #expect(a.isRunning)
  }

  @Test(
    "While Redis is away near hits go on within the bound, everything else is an error, and it comes back")
  func redisAway() throws {
    let world = try World(options: [#""staleness": { "bound": "3s" }"#])
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    try warm(world.key("user:1"), "v", a)
    let client = try a.client()
    try redis.stop()
    #expect(try client.call("GET", world.key("user:1")) == "v")
    for command in [["GET", world.key("user:2")], ["SET", "plain", "x"], ["DEL", world.key("user:1")]] {
      let error = try client.call(command).errorText ?? ""
      #expect(error.contains("Redis") && error.contains("unreachable"), "\(command): \(error)")
    }
    #expect(try client.call("PING") == .simple("PONG"))
    #expect(try client.call("INFO").text?.contains("loading:0") == true)
    try eventually("the bound has passed") { try client.call("GET", world.key("user:1")) != "v" }
    try redis.start()
    try a.waitUntilFollowing()
    try warm(world.key("user:3"), "v", a)
    #expect(try client.call("SET", "plain", "x") == .ok)
  }
}
