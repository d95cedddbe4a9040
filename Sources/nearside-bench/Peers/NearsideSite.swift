import Glibc
import TestSupport

/// A sidecar with everything switched on, and what stands behind it: a PostgreSQL whose rows it loads and whose log it
/// tails, and a Redis.
final class NearsideSite {
  let postgres: PostgresServer
  let redis: RedisServer
  let sidecar: Sidecar
  let database: String
  private let workload: Workload

  var url: String { postgres.url(database: database) }
  var pids: [pid_t] { sidecar.pid.map { [$0] } ?? [] }

  /// - Parameters:
  ///   - redis: the server behind it; nil: one of its own.
  ///   - redisURL: where it finds that server; nil: at its Unix socket.
  ///   - near: MiB of the near cache; nil: twice what the values take, so that nothing is evicted.
  ///   - listen: further members of `listen`.
  ///   - threads: how many serve clients. On one processor, where servers run unless loops are what is measured, more
  ///     than one would only cost.
  init(
    _ workload: Workload, redis: RedisServer? = nil, redisURL: String? = nil, threads: Int = 1,
    near: Int? = nil,
    listen: [String] = []
  ) throws {
    self.workload = workload
    postgres = try PostgresServer(settings: ["shared_buffers": "'256MB'", "max_wal_size": "'4GB'"])
    database = try postgres.createDatabase()
    try postgres.psql(
      """
      CREATE TABLE items (id text PRIMARY KEY, body text NOT NULL);
      INSERT INTO items SELECT lpad(n::text, 8, '0'), repeat('x', \(workload.valueBytes))
        FROM generate_series(0, \(workload.keys - 1)) n;
      """, database: database)
    self.redis = try redis ?? RedisServer(["--maxclients", "8000"])
    let size = near ?? max(64, workload.keys * (workload.valueBytes + 200) * 2 / (1 << 20))
    let configuration = """
      {
        "namespace": "bench", "near": { "size": "\(size)MiB", "maxEntry": "512KiB" }, "threads": \(threads),
        "tables": { "items": "item:{id}" },
        "caches": { "item:{id}": { "ttl": "1h", "load": {
          "sql": "SELECT body FROM items WHERE id = :id",
          "many": "SELECT id, body FROM items WHERE id = ANY(:id)" } } }
      }
      """
    let environment = [
      "DATABASE_URL": postgres.url(database: database), "REDIS_URL": redisURL ?? self.redis.url,
    ]
    let folder = try TemporaryFolder()
    let done = try Sidecar.command(
      ["setup", "--config", folder.write(configuration, to: "config.json"), "--apply"],
      environment: environment)
    guard done.exit == .code(0) else { throw HarnessError(done.errors) }
    sidecar = try Sidecar(
      configuration, postgres: postgres.url(database: database), redis: redisURL ?? self.redis.url,
      listen: listen)
    try follow()
  }

  func follow() throws {
    try eventually("the sidecar follows", within: .seconds(60)) {
      let status = try sidecar.status()
      return status["standing"] == "following" && status["cleared"] == "1" && status["watching"] == "0"
        && status["staleness_ms"] != nil
    }
  }

  /// The sidecar as a server whose memory holds every key.
  func peer(_ name: String = PeerName.nearside.rawValue) throws -> Peer {
    let peer = try Peer(
      name, .unix(sidecar.socket), prefix: Peer.governedPrefix, pids: pids, parts: [self])
    try warm()
    return peer
  }

  /// Reads every key until all of them are near.
  func warm() throws {
    try eventually("every key is near", within: .seconds(300)) {
      try readAll()
      return try sidecar.count("near_entries") >= workload.keys
    }
  }

  /// Reads every key once.
  func readAll() throws {
    let client = try sidecar.client(timeout: .seconds(60))
    for first in stride(from: 0, to: workload.keys, by: 200) {
      let keys = (first..<min(first + 200, workload.keys)).map { Requests.key($0, Peer.governedPrefix) }
      if let error = try client.call(["MGET"] + keys).errorText { throw HarnessError(error) }
    }
  }
}
