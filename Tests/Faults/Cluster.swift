import Synchronization
import TestSupport

/// A PostgreSQL, a Redis and a few sidecars that nobody else uses, each sidecar behind proxies of its own.
///
/// Applications (the tests' writers and readers) reach PostgreSQL directly, as they would on hosts whose networks
/// are sound.
final class Cluster: Sendable {
  struct Options: Sendable {
    var hosts = 2
    /// `staleness.bound`, in milliseconds.
    var bound = 2000
    /// `plainSetWindow`, in milliseconds.
    var window = 1000
    /// Rows of `kv`.
    var keys = 100
    /// Whether PostgreSQL has a hot standby, and Redis a replica.
    var standby = false
    var replica = false
    /// Settings of PostgreSQL and arguments of redis-server beyond those of the harness.
    var postgres: [String: String] = [:]
    var redis: [String] = []
    /// Further members of the configuration.
    var members: [String] = []
    var tables = #""kv": "kv:{id}""#
    /// SQL after the tables are made, before `nearside setup`.
    var schema = ""
  }

  /// A PostgreSQL that streams from the primary through a proxy.
  struct Standby: Sendable {
    let server: PostgresServer
    let link: FaultProxy
    /// The folder of the proxy's socket.
    let folder: TemporaryFolder
  }

  /// A Redis that replicates from the master through a proxy.
  struct Replica: Sendable {
    let server: RedisServer
    let link: FaultProxy
  }

  private struct State {
    var postgres: PostgresServer
    var standby: Standby?
    var redis: RedisServer
    var replica: Replica?
  }

  let options: Options
  let database: String
  let configuration: String
  let hosts: [Host]
  private let state: Mutex<State>

  init(_ options: Options = Options(), start: Bool = true) throws {
    self.options = options
    let postgres = try PostgresServer(settings: options.postgres)
    let redis = try RedisServer(Self.redisArguments + options.redis)
    database = try postgres.createDatabase()
    try postgres.psql(
      """
      CREATE TABLE kv (
        id int PRIMARY KEY, v bigint NOT NULL DEFAULT 0, op bigint NOT NULL DEFAULT 0, note text);
      CREATE TABLE kv_log (id int, v bigint, op bigint, PRIMARY KEY (id, v));
      INSERT INTO kv SELECT n FROM generate_series(1, \(options.keys)) n;
      \(options.schema)
      """, database: database)
    let members =
      [
        #""namespace": "\#(database)""#, #""staleness": { "bound": "\#(options.bound)ms" }"#,
        #""plainSetWindow": "\#(options.window)ms""#, "\"tables\": { \(options.tables) }",
      ] + options.members
    configuration = "{ " + members.joined(separator: ",\n  ") + " }\n"
    let folder = try TemporaryFolder()
    let done = try Sidecar.command(
      ["setup", "--config", folder.write(configuration, to: "config.json"), "--apply"],
      environment: ["DATABASE_URL": postgres.url(database: database), "REDIS_URL": redis.url])
    guard done.exit == .code(0) else { throw HarnessError("setup: \(done.output)\(done.errors)") }
    state = Mutex(State(postgres: postgres, redis: redis))
    let (database, configuration) = (database, configuration)
    hosts = try (0..<options.hosts).map { number in
      try Host(
        number, configuration: configuration, database: database, postgres: postgres, redis: redis)
    }
    if options.standby { try makeStandby() }
    if options.replica { try makeReplica() }
    if start {
      for host in hosts { try host.start() }
      for host in hosts { try host.waitUntilFollowing() }
    }
  }

  var slot: String { "nearside_\(database)" }
  var publication: String { "nearside_\(database)" }
  /// The hash that holds the fleet's state.
  var stateKey: String { "nearside:{\(database)}:m" }
  func key(_ id: Int) -> String { "\(database):kv:\(id)" }
  func key(_ rest: String) -> String { "\(database):\(rest)" }

  /// The present primary and the present master.
  var postgres: PostgresServer { state.withLock { $0.postgres } }
  var redis: RedisServer { state.withLock { $0.redis } }
  var standby: Standby? { state.withLock { $0.standby } }
  var replica: Replica? { state.withLock { $0.replica } }

  /// Where applications find the primary.
  var url: String { postgres.url(database: database) }

  @discardableResult
  func sql(_ text: String) throws -> String { try postgres.psql(text, database: database) }

  /// Changes a row once, as the workload's writers do; the version it has then.
  @discardableResult
  func change(_ id: Int) throws -> Int {
    let version = try sql("UPDATE kv SET v = v + 1 WHERE id = \(id) RETURNING v")
    guard let number = Int(version) else { throw HarnessError("no row \(id)") }
    return number
  }

  // MARK: Hosts

  /// The host that holds the slot; nil while none says so.
  func tailer() -> Host? { hosts.first { (try? $0.status()["role"]) == "tailer" } }

  /// Waits until one host tails; that one.
  func waitForTailer(within limit: Duration = .seconds(15)) throws -> Host {
    let found = try eventually("some host tails", within: limit) {
      tailer()
    } until: {
      $0 != nil
    }
    guard let found else { throw HarnessError("no host tails") }
    return found
  }

  /// The first host that does not tail.
  func follower() throws -> Host {
    let tailer = try waitForTailer()
    guard let other = hosts.first(where: { $0.number != tailer.number }) else {
      throw HarnessError("there is no follower")
    }
    return other
  }

  /// Waits until these hosts (all, if none is named) have applied everything that is committed now.
  func settle(_ some: Host...) throws {
    let position = try sql("SELECT pg_current_wal_lsn()")
    for host in some.isEmpty ? hosts : some {
      guard try host.client(timeout: .seconds(25)).call("NEARSIDE", "WAIT", position, "20000") == 1 else {
        throw HarnessError(
          "host \(host.number) did not apply \(position) within 20 s: \(try host.status())\n\(host.sidecar.log)"
        )
      }
    }
  }

  /// Waits until every host follows with evidence of a moment after `since`, and Redis is cleared of what is older.
  func waitUntilWell(since: Moment = bootMoment(), within limit: Duration = .seconds(20)) throws {
    for host in hosts { try host.waitUntilFollowing(since: since, within: limit) }
  }

  var report: String {
    hosts.map { host in
      let status = (try? host.status()).map { "\($0)" } ?? "no answer"
      let log = host.sidecar.log.split(separator: "\n").suffix(12).joined(separator: "\n")
      return "host \(host.number): \(status)\n\(log)"
    }.joined(separator: "\n")
  }

  /// The pid of the slot's walsender; nil: nobody holds it.
  func slotHolder() throws -> String? {
    let pid = try sql("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '\(slot)'")
    return pid.isEmpty ? nil : pid
  }

  // MARK: Redis fails over

  /// A master otherwise waits 5 s for further replicas before it sends its data to the first.
  private static let redisArguments = ["--repl-diskless-sync-delay", "0"]

  /// Gives the master a replica, and waits until it is in step.
  func makeReplica() throws {
    let master = redis
    let link = try FaultProxy(at: .loopback(0), to: .unix(master.socket))
    guard case .loopback(let port) = link.place else { return }
    let server = try RedisServer(Self.redisArguments + options.redis)
    try server.cli("REPLICAOF", "127.0.0.1", "\(port)")
    let replica = Replica(server: server, link: link)
    state.withLock { $0.replica = replica }
    try waitForReplica()
  }

  /// Waits until the replica has everything that the master has now.
  func waitForReplica() throws {
    guard let replica else { throw HarnessError("there is no replica") }
    try eventually("the replica is in step") {
      try replica.server.info("replication", "master_link_status") == "up"
        && replica.server.info("replication", "slave_repl_offset")
          == redis.info("replication", "master_repl_offset")
    }
  }

  /// The master dies and its replica takes its place with what it has. Returns the old master, which is dead.
  @discardableResult
  func failOverRedis() throws -> RedisServer {
    guard let replica else { throw HarnessError("there is no replica") }
    let old = redis
    old.kill()
    try promoteReplica(replica)
    return old
  }

  /// The replica becomes a master and all hosts are sent to it; the old master is left as it is.
  func promoteReplica(_ replica: Replica) throws {
    try replica.server.cli("REPLICAOF", "NO", "ONE")
    state.withLock {
      $0.redis = replica.server
      $0.replica = nil
    }
    for host in hosts {
      host.redisLink.point(to: .unix(replica.server.socket))
      host.redisLink.cut()
    }
  }

  // MARK: PostgreSQL fails over

  /// Gives the primary a hot standby, and waits until it is in step.
  func makeStandby() throws {
    let folder = try TemporaryFolder()
    let link = try FaultProxy(at: .unix(folder.file(".s.PGSQL.5432")), to: postgres.place)
    let server = try PostgresServer(standbyOf: postgres, through: folder.path)
    state.withLock { $0.standby = Standby(server: server, link: link, folder: folder) }
    try waitForStandby()
  }

  func waitForStandby() throws {
    guard let standby else { throw HarnessError("there is no standby") }
    let position = try sql("SELECT pg_current_wal_lsn()")
    try eventually("the standby is in step") {
      try standby.server.psql("SELECT pg_last_wal_replay_lsn() >= '\(position)'") == "t"
    }
  }

  /// The standby becomes a primary for applications; the old primary is left as it is, and the hosts as well.
  func promoteStandby() throws {
    guard let standby else { throw HarnessError("there is no standby") }
    try standby.server.promote()
    state.withLock {
      $0.postgres = standby.server
      $0.standby = nil
    }
  }

  /// Sends a host to the present primary.
  func repoint(_ host: Host) {
    host.postgresLink.point(to: postgres.place)
    host.postgresLink.cut()
  }

  /// The primary dies, and its standby takes its place with what it has, for everybody.
  func failOverPostgres() throws {
    postgres.kill()
    try promoteStandby()
    hosts.forEach(repoint)
  }
}

extension PostgresServer {
  /// Its socket.
  var place: SocketPlace { .unix(folder.file(".s.PGSQL.5432")) }
}
