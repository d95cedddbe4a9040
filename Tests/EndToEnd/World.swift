import Glibc
import TestSupport
import Testing

/// A database with tables, a Redis, and the configuration of a fleet: what one test works in.
///
/// The database's name is also the namespace, and so part of the slot's name, which must be unique in a cluster.
final class World: Sendable {
  let postgres: PostgresServer
  let redis: RedisServer?
  let database: String
  /// The configuration file's text, without `listen`.
  let configuration: String
  private let folder: TemporaryFolder

  static let tables = """
    { "users": ["user:{id}", "user:by-email:{email|lower}"], "products": "product:{id}",
      "order_items": "order:{order_id}:item:{line_no}" }
    """

  static let schema = """
    CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, name text);
    ALTER TABLE users REPLICA IDENTITY FULL;
    CREATE TABLE products (id bigint PRIMARY KEY, name text, stock int NOT NULL DEFAULT 0);
    CREATE TABLE order_items (order_id bigint, line_no int, quantity int, PRIMARY KEY (order_id, line_no));
    INSERT INTO users SELECT n, 'user' || n || '@example.com', 'User ' || n FROM generate_series(1, 100) n;
    INSERT INTO products SELECT n, 'Product ' || n, 10 FROM generate_series(1, 100) n;
    INSERT INTO order_items SELECT n, 1, 1 FROM generate_series(1, 100) n;
    """

  /// The cluster of all tests that do not harm theirs. Each of them leaves a slot behind.
  private static let shared = Result {
    try PostgresServer(settings: [
      "max_wal_senders": "100", "max_replication_slots": "1000", "max_connections": "200",
      "track_commit_timestamp": "on",
    ])
  }

  /// - Parameters:
  ///   - tables: the mapping.
  ///   - schema: SQL that makes the tables.
  ///   - options: further members of the configuration, such as `"near": {"size": "1MiB"}`.
  ///   - postgres: a cluster of the test's own; nil: the shared one.
  ///   - setup: whether to run `nearside setup --apply`.
  init(
    tables: String = World.tables, schema: String = World.schema, options: [String] = [], redis: Bool = true,
    redisArguments: [String] = [], postgres: PostgresServer? = nil, setup: Bool = true
  ) throws {
    self.postgres = try postgres ?? World.shared.get()
    self.redis = redis ? try RedisServer(redisArguments) : nil
    database = try self.postgres.createDatabase()
    try self.postgres.psql(schema, database: database)
    // A machine that is busy with other tests may hold a process up for longer than the default bound of 2 s.
    // Tests of the bound give their own.
    let patience =
      options.contains { $0.contains("\"staleness\"") } ? [] : [#""staleness": { "bound": "30s" }"#]
    let members =
      ["\"namespace\": \"\(database)\""] + options + ["\"tables\": \(tables)"] + patience
    configuration = "{ " + members.joined(separator: ",\n  ") + " }\n"
    folder = try TemporaryFolder()
    try folder.write(configuration, to: "config.json")
    if setup {
      let done = try command("setup", "--apply")
      guard done.exit == .code(0) else { throw HarnessError("setup: \(done.output)\(done.errors)") }
    }
  }

  /// `user:42` with the namespace before it.
  func key(_ rest: String) -> String { "\(database):\(rest)" }

  var environment: [String: String] {
    var all = ["DATABASE_URL": postgres.url(database: database)]
    all["REDIS_URL"] = redis?.url
    return all
  }

  /// `nearside VERB --config FILE …` with this world's environment.
  func command(_ verb: String, _ arguments: String..., environment more: [String: String] = [:]) throws
    -> Finished
  {
    try Sidecar.command(
      [verb, "--config", folder.file("config.json")] + arguments,
      environment: environment.merging(more) { $1 })
  }

  var configurationFile: String { folder.file("config.json") }

  @discardableResult
  func psql(_ sql: String) throws -> String { try postgres.psql(sql, database: database) }

  /// Starts a sidecar and waits until it gives leases. `tcp`, `listen`: as `Sidecar` takes them.
  func sidecar(
    environment more: [String: String] = [:], tcp: Bool = false, listen: [String] = [],
    listener: (descriptor: Int32, path: String)? = nil
  ) throws -> Sidecar {
    let sidecar = try Sidecar(
      configuration, postgres: postgres.url(database: database), redis: redis?.url, environment: more,
      tcp: tcp, listen: listen, listener: listener)
    try sidecar.waitUntilFollowing()
    return sidecar
  }

  /// Waits until the sidecars have applied everything that is committed now.
  func settle(_ sidecars: Sidecar...) throws {
    let position = try psql("SELECT pg_current_wal_lsn()")
    for sidecar in sidecars {
      guard try sidecar.client(timeout: .seconds(25)).call("NEARSIDE", "WAIT", position, "20000") == 1 else {
        throw HarnessError("\(position) was not applied within 20 s: \(try sidecar.status())\n\(sidecar.log)")
      }
    }
  }

  /// The active pid of the fleet's slot; nil: nobody holds it.
  func slotHolder() throws -> String? {
    let pid = try psql("SELECT active_pid FROM pg_replication_slots WHERE database = '\(database)'")
    return pid.isEmpty ? nil : pid
  }
}

extension Sidecar {
  /// Waits until it follows, Redis is cleared of older values, and there is evidence. In a cluster that other tests
  /// write to, one of their transactions may outlast the making of the slot and cost another generation, so it also
  /// waits until none of them is watched any more.
  func waitUntilFollowing() throws {
    try eventually("the sidecar follows", within: .seconds(30)) {
      try status()
    } until: { status in
      for (line, value) in ["standing": "following", "cleared": "1", "watching": "0"]
      where status[line] != value {
        return false
      }
      return status["staleness_ms"] != nil
    }
  }

  /// Stores a value with a lease, so that it does not matter what happened to the key a moment ago.
  func store(_ key: String, _ value: String, file: StaticString = #fileID, line: UInt = #line) throws {
    let client = try client()
    try eventually("\(key) is stored", file: file, line: line) { () throws -> String in
      let lease = try client.call("NEARSIDE", "LEASE", key)
      guard let token = lease.elements?.last?.text else { return "\(lease)" }
      let reply = try client.call("NEARSIDE", "FILL", key, token, value)
      return "\(reply)"
    } until: {
      $0 == ":1"
    }
  }

  func get(_ key: String) throws -> Reply { try client().call("GET", key) }

  /// Whether a GET is answered from this sidecar's memory.
  func hasNear(_ key: String) throws -> Bool {
    let before = try count("near_hits")
    _ = try get(key)
    return try count("near_hits") > before
  }
}

/// Stores a value through the first sidecar and has all of them keep it near.
func warm(_ key: String, _ value: String, _ sidecars: Sidecar...) throws {
  try sidecars[0].store(key, value)
  for sidecar in sidecars {
    try eventually("\(key) is near") {
      try sidecar.get(key) == .bulk(value) && sidecar.hasNear(key)
    }
  }
}

/// That a key is nowhere any more. `byGeneration`: a new generation has begun, under which nothing counts of what
/// Redis holds, and it is cleared in the background.
func expectGone(
  _ key: String, _ world: World, _ sidecars: Sidecar..., byGeneration: Bool = false,
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  if let redis = world.redis {
    if byGeneration {
      try eventually("\(key) is cleared from Redis") { try redis.cli("EXISTS", key) == "0" }
    }
    #expect(try redis.cli("EXISTS", key) == "0", "\(key) in Redis", sourceLocation: sourceLocation)
  }
  for sidecar in sidecars {
    #expect(try sidecar.get(key) == nil, "\(key) through a sidecar", sourceLocation: sourceLocation)
  }
}

/// That a key still has its value, near and in Redis.
func expectKept(
  _ key: String, _ value: String, _ world: World, _ sidecars: Sidecar...,
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  if let redis = world.redis {
    #expect(try redis.cli("GET", key) == value, "\(key) in Redis", sourceLocation: sourceLocation)
  }
  for sidecar in sidecars {
    #expect(try sidecar.get(key) == .bulk(value), "\(key) through a sidecar", sourceLocation: sourceLocation)
  }
}

/// Seconds since 1970, the clock that PostgreSQL's commit timestamps are taken from.
func wallClock() -> Double {
  var now = timespec()
  clock_gettime(CLOCK_REALTIME, &now)
  return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
}
