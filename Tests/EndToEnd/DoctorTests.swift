import Configuration
import Foundation
import Glibc
import Postgres
import TestSupport
import Testing

@testable import nearside

@Suite("nearside doctor")
struct DoctorTests {
  /// A world in a cluster of its own, where no other test has left a slot.
  private func world(
    tables: String = World.tables, schema: String = World.schema, options: [String] = [],
    postgres settings: [String: String] = [:], redis: [String] = [], setup: Bool = true
  ) throws -> World {
    let server = try PostgresServer(
      settings: ["max_slot_wal_keep_size": "'1GB'"].merging(settings) { $1 })
    return try World(
      tables: tables, schema: schema, options: options, redisArguments: redis, postgres: server, setup: setup)
  }

  private struct Check: Decodable {
    var group: String
    var check: String
    var result: String
    var what: String
    var fix: String?
  }

  private struct Report: Decodable {
    var schema: Int
    var problems: Int
    var warnings: Int
    var checks: [Check]

    func bad() -> [String] { checks.filter { $0.result != "good" }.map { "\($0.group).\($0.check)" } }
    subscript(_ name: String) -> Check? {
      checks.first { "\($0.group).\($0.check)" == name && $0.result != "good" }
    }
  }

  private func report(_ world: World, environment more: [String: String] = [:], _ folder: TemporaryFolder)
    throws
    -> (report: Report, exit: ChildProcess.Exit)
  {
    let done = try world.command(
      "doctor", "--json", environment: ["RUNTIME_DIRECTORY": folder.path].merging(more) { $1 })
    let report = try JSONDecoder().decode(Report.self, from: Data(done.output.utf8))
    #expect(report.schema == 1)
    for check in report.checks {
      #expect((check.result == "good") == (check.fix == nil), "\(check)")
    }
    return (report, done.exit)
  }

  @Test("On a healthy set it prints neither ✗ nor !, also with an administrator's eyes and beside a sidecar")
  func healthy() throws {
    let world = try world(options: [
      #""caches": { "user:{id}": { "load": "SELECT name FROM users WHERE id = :id" } }"#
    ])
    let folder = try TemporaryFolder()
    let environment = ["RUNTIME_DIRECTORY": folder.path]
    let sidecar = try world.sidecar()
    for arguments in [[], ["--strict"], ["--as", world.postgres.url(database: world.database)]] {
      let done = try Sidecar.command(
        ["doctor", "--config", sidecar.configuration] + arguments,
        environment: world.environment.merging(environment) { $1 })
      #expect(done.exit == .code(0))
      #expect(!done.output.contains("✗") && !done.output.contains("  ! "), "\(done.output)")
      #expect(done.output.contains("  ✓ wal_level is logical\n"))
      #expect(done.output.contains("sends the slot's changes to a sidecar"))
      #expect(done.output.contains("0 problems, 0 warnings ("), "\(done.output)")
      #expect(done.output.contains("A sidecar (process"), "\(done.output)")
    }
    // Without Redis there is no such group.
    let embedded = try Sidecar.command(
      ["doctor", "--config", sidecar.configuration],
      environment: ["DATABASE_URL": world.postgres.url(database: world.database)].merging(environment) { $1 })
    #expect(!embedded.output.contains("\nRedis\n"), "\(embedded.output)")
  }

  @Test("A server without logical replication, without slots to give and with a role that times out")
  func server() throws {
    let world = try world(
      schema: World.schema + "SELECT pg_create_physical_replication_slot('backup');",
      postgres: [
        "wal_level": "replica", "max_replication_slots": "1", "max_slot_wal_keep_size": "-1",
        "logical_decoding_work_mem": "64kB", "statement_timeout": "900",
      ], setup: false)
    let folder = try TemporaryFolder()
    let (report, exit) = try report(world, folder)
    #expect(exit == .code(1))
    for check in [
      "wal_level", "max_replication_slots", "max_slot_wal_keep_size", "logical_decoding_work_mem",
      "statement_timeout", "publication", "slot", "setup", "canary",
    ] { #expect(report["postgres." + check] != nil, "\(check) in \(report.bad())") }
    #expect(report["postgres.wal_level"]?.fix?.contains("ALTER SYSTEM SET wal_level = 'logical'") == true)
  }

  @Test(
    "A role that may not replicate, a table outside the publication, an identity that does not hold the key")
  func roleAndTables() throws {
    let world = try world(
      tables: #"{ "users": "user:{id}", "products": "product:{name}", "order_items": "item:{order_id}" }"#,
      schema: World.schema + "CREATE TABLE vault (id bigint, secret text); CREATE ROLE weak LOGIN;",
      options: [
        #""caches": { "user:{id}": { "load": "SELECT secret FROM vault WHERE id = :id" } }"#
      ])
    try world.psql("ALTER PUBLICATION nearside_\(world.database) DROP TABLE order_items")
    let folder = try TemporaryFolder()
    let weak = ["DATABASE_URL": world.postgres.url(user: "weak", database: world.database)]
    let (found, exit) = try report(world, environment: weak, folder)
    #expect(exit == .code(1))
    #expect(found["postgres.replication_right"]?.fix?.contains("ALTER ROLE \"weak\" REPLICATION") == true)
    #expect(found["postgres.table_published"]?.what.contains("public.order_items") == true)
    #expect(found["postgres.mapping"]?.what.contains("\"name\"") == true)
    #expect(found["postgres.mapping"]?.fix?.contains("REPLICA IDENTITY FULL") == true)
    #expect(found["postgres.statements"]?.what.contains("may not run") == true, "\(found.checks)")
    #expect(found["postgres.canary"] != nil)
    // As an administrator one also sees what the role lacks.
    let done = try world.command(
      "doctor", "--as", world.postgres.url(database: world.database), environment: weak)
    #expect(done.output.contains("nearside setup would still run"), "\(done.output)")
  }

  @Test("Redis: rights, eviction and a cluster")
  func redis() throws {
    let world = try world(redis: ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"])
    let redis = try #require(world.redis)
    let folder = try TemporaryFolder()
    try redis.cli("ACL", "SETUSER", "weak", "on", ">w", "~*", "&*", "+@all", "-xadd")
    let (found, exit) = try report(
      world, environment: ["REDIS_URL": "unix://weak:w@\(redis.socket)"], folder)
    #expect(exit == .code(1))
    #expect(found.bad().sorted() == ["redis.maxmemory_policy", "redis.permissions"])
    #expect(found["redis.permissions"]?.what.contains("XADD") == true)
    let clustered = try RedisServer(["--cluster-enabled", "yes"])
    let (other, _) = try report(world, environment: ["REDIS_URL": clustered.url], folder)
    #expect(other["redis.mode"]?.result == "problem")
  }

  @Test("A server that is only down ends it with 69, warnings alone with 0 and with --strict with 1")
  func exits() throws {
    let world = try world(postgres: ["max_slot_wal_keep_size": "-1"])
    let folder = try TemporaryFolder()
    let environment = ["RUNTIME_DIRECTORY": folder.path]
    #expect(try world.command("doctor", environment: environment).exit == .code(0))
    #expect(try world.command("doctor", "--strict", environment: environment).exit == .code(1))
    try world.redis?.stop()
    let down = try world.command("doctor", environment: environment)
    #expect(down.exit == .code(69))
    #expect(down.output.contains("✗ Redis cannot be reached"), "\(down.output)")
    #expect(try Sidecar.command(["doctor", "--config", "/nowhere"]).exit == .code(78))
    #expect(try Sidecar.command(["doctor", "--jsonn"]).exit == .code(64))
  }

  @Test("The host: no folder, no group, a path too long, too few descriptors, a socket left over")
  func host() throws {
    let world = try world(options: [
      #""listen": { "socket": "${PLACE:-/nowhere/n.sock}", "group": "nobody-has-this" }"#
    ])
    let folder = try TemporaryFolder()
    let (found, _) = try report(world, environment: ["PLACE": folder.file("not/here.sock")], folder)
    #expect(found.bad().sorted() == ["host.socket_folder", "host.socket_group"])
    let long = folder.path + "/" + String(repeating: "x", count: 110)
    #expect(try world.command("doctor", environment: ["PLACE": long]).exit == .code(78))

    let place = folder.file("left.sock")
    let dead = try ListenPlace(place)
    let (other, _) = try report(world, environment: ["PLACE": place], folder)
    #expect(other["host.socket"]?.what.contains("Another program") == true, "\(other.bad())")
    dead.close()
    let (left, _) = try report(world, environment: ["PLACE": place], folder)
    #expect(left["host.socket"]?.what.contains("left over") == true, "\(left.bad())")

    let few = try run(
      [
        "setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "--", "prlimit",
        "--nofile=300:300",
        Sidecar.executable, "doctor", "--config", world.configurationFile,
      ],
      environment: world.environment.merging(["PLACE": folder.file("n.sock")]) { $1 })
    #expect(few.output.contains("at most 44 clients are served"), "\(few.output)\(few.errors)")
  }

  // MARK: Judged without a host

  private func found(_ change: (inout HostFacts) -> Void) -> [Finding] {
    var facts = HostFacts()
    change(&facts)
    return facts.findings.filter { !$0.isGood }
  }

  @Test("Each check of the host can fail, and says what to do")
  func hostFindings() {
    #expect(found { _ in } == [])
    let all: [(String, (inout HostFacts) -> Void)] = [
      ("socket_path", { $0.path = "/" + String(repeating: "p", count: 107) }),
      ("socket_folder", { $0.folder = .missing }), ("socket_folder", { $0.folder = .readOnly }),
      ("socket", { $0.place = .listener(pid: 7, program: "redis-server") }),
      ("socket", { $0.place = .leftOver }),
      ("socket", { $0.place = .closed }), ("socket", { $0.place = .noSocket }),
      ("socket_group", { $0.group = .missing }), ("socket_group", { $0.group = .foreign }),
      ("loopback", { $0.loopback = ("127.0.0.1:6380", true) }),
      ("admin_socket", { $0.admin = ("/run/a", .listener(pid: 7, program: "nginx")) }),
      ("admin_socket", { $0.admin = ("/run/a", .listener(pid: 7, program: "nearside")) }),
      ("admin_socket", { $0.admin = ("/run/a", .closed) }),
      ("admin_socket", { $0.admin = ("/run/a", .noSocket) }),
      ("admin_tcp", { $0.adminTCP = ("127.0.0.1:9847", true, EADDRINUSE) }),
      ("admin_tcp", { $0.adminTCP = ("192.0.2.1:9847", false, EADDRNOTAVAIL) }),
      ("admin_tcp", { $0.adminTCP = ("127.0.0.1:80", true, EACCES) }),
      ("admin_tcp", { $0.adminTCP = ("0.0.0.0:9847", false, 0) }),
      ("file_descriptors", { $0.descriptors = "few; raise the limit" }),
      (
        "memory",
        {
          $0.nearSize = 256 << 20
          $0.memoryLimit = 300 << 20
        }
      ),
      (
        "memory",
        {
          $0.nearSize = 256 << 20
          $0.memory = 300 << 20
        }
      ),
    ]
    for (check, change) in all {
      let findings = found(change)
      #expect(findings.map(\.check) == [check])
      #expect(findings.first?.fix?.hasSuffix(".") == true, "\(findings)")
    }
    // While a sidecar runs its address is in use, by itself.
    #expect(
      found {
        $0.place = .listener(pid: 7, program: "nearside")
        $0.loopback = ("127.0.0.1:6380", true)
        $0.admin = ("/run/a", .listener(pid: 7, program: "nearside"))
        $0.adminTCP = ("127.0.0.1:9847", true, EADDRINUSE)
      } == [])
    #expect(found { $0.admin = ("/run/a", .leftOver) } == [])
    #expect(
      found {
        $0.nearSize = 256 << 20
        $0.memoryLimit = 512 << 20
      } == [])
  }

  @Test(
    "What PgBouncer answers to a replication connection is a finding with its fix; so are plans and loaders")
  func judged() {
    let pooled = Finding(
      "replication",
      PostgresError(
        kind: .pooler,
        what: "A connection pooler such as PgBouncer stands before PostgreSQL and refuses the connection",
        place: "database shop on db:6432", fix: "Point postgres.url at the PostgreSQL server itself."))
    #expect(pooled.severity == .error && pooled.fix != nil && !pooled.isTemporary)
    for finding in [
      DatabaseDoctor.canary(isUsable: false), DatabaseDoctor.loader(isDirect: false),
      DatabaseDoctor.hostLines(broken: 2),
    ] { #expect(!finding.isGood && finding.fix?.hasSuffix(".") == true, "\(finding)") }
    for finding in [
      DatabaseDoctor.canary(isUsable: true), DatabaseDoctor.loader(isDirect: true),
      DatabaseDoctor.hostLines(broken: 0),
    ] { #expect(finding.isGood) }
  }

  /// Debian's PgBouncer beside promtool; `Tests/Admin/install` brings both.
  static let pooler: String? = ProcessInfo.processInfo.environment["NEARSIDE_PROMTOOL"].map {
    URL(fileURLWithPath: $0).deletingLastPathComponent().appendingPathComponent("pgbouncer").path
  }.flatMap { FileManager.default.isExecutableFile(atPath: $0) ? $0 : nil }

  @Test(
    "A real PgBouncer refuses the replication connection, and doctor says so",
    .enabled(if: Self.pooler != nil))
  func pooled() throws {
    let world = try world()
    let folder = try TemporaryFolder(owner: .ofServers)
    try folder.write(
      """
      [databases]
      * = host=\(world.postgres.folder.path)
      [pgbouncer]
      listen_addr =
      listen_port = 6432
      unix_socket_dir = \(folder.path)
      auth_type = any
      pool_mode = session
      logfile = \(folder.file("log"))
      """, to: "pgbouncer.ini")
    let process = try ChildProcess(
      [try #require(Self.pooler), folder.file("pgbouncer.ini")], user: .ofServers, directory: folder.path)
    defer { _ = process.kill() }
    try eventually("PgBouncer listens") { access(folder.file(".s.PGSQL.6432"), F_OK) == 0 }
    let url = "postgresql://postgres@/\(world.database)?host=\(folder.path)&port=6432"
    let done = try world.command("doctor", environment: ["DATABASE_URL": url])
    #expect(done.exit == .code(1))
    #expect(
      done.output.contains("✗ A connection pooler such as PgBouncer stands before PostgreSQL"),
      "\(done.output)")
    #expect(done.output.contains("Point postgres.url at the PostgreSQL server itself"), "\(done.output)")
  }

  @Test("The exit code: waiting helps against the only problem, or it does not")
  func exitStatus() {
    func status(_ findings: [Finding], strict: Bool = false) -> Int32 {
      DoctorReport(groups: [.init(name: "host", title: "This host", findings: findings)], duration: 0)
        .exitStatus(strict: strict)
    }
    let down = Finding("reachable", .error, "Down.", isTemporary: true)
    let wrong = Finding("wal_level", .error, "Wrong.")
    let price = Finding("tracking", .warning, "Price.")
    #expect(status([.good("a", "A.")]) == 0)
    #expect(status([price]) == 0 && status([price], strict: true) == 1)
    #expect(status([down, price]) == 69 && status([down, wrong]) == 1)
  }
}

/// A program that listens on a Unix socket, and leaves the file behind.
private struct ListenPlace {
  private let descriptor: Int32

  init(_ path: String) throws {
    descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard bound == 0, listen(descriptor, 8) == 0 else { throw HarnessError("listen on \(path)") }
  }

  func close() { _ = Glibc.close(descriptor) }
}
