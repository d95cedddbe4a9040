import Foundation
import Synchronization
import TestSupport

/// A database, a Redis, three hosts and their applications.
final class Site: Sendable {
  private let setup: Setup
  private let url: String
  private let redis: RedisServer
  private let sidecars: [Sidecar]
  private let pools: [Pool]
  private let name: String

  init(_ setup: Setup, _ postgres: PostgresServer, keys: Int) throws {
    self.setup = setup
    let database = try postgres.createDatabase()
    name = database
    url = postgres.url(database: database)
    try postgres.psql(
      """
      CREATE EXTENSION pg_stat_statements;
      CREATE TABLE items (id int PRIMARY KEY, body text NOT NULL);
      INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, \(keys)) n;
      """, database: database)
    redis = try RedisServer()
    // Twenty connections for each host's application.
    pools = (0..<3).map { [url] _ in Pool(url, size: 20) }
    guard let cache = setup.cache else {
      sidecars = []
      return
    }
    let configuration = """
      { "namespace": "\(database)", "tables": { "items": "item:{id}" }, "caches": { "item:{id}": \(cache) } }
      """
    let environment = ["DATABASE_URL": url, "REDIS_URL": redis.url]
    let folder = try TemporaryFolder()
    let done = try Sidecar.command(
      ["setup", "--config", folder.write(configuration, to: "config.json"), "--apply"],
      environment: environment)
    guard done.exit == .code(0) else { throw HarnessError(done.errors) }
    let (url, redis) = (url, redis.url)
    sidecars = try (0..<3).map { _ in try Sidecar(configuration, postgres: url, redis: redis) }
    for sidecar in sidecars {
      try eventually("a sidecar follows", within: .seconds(30)) {
        let status = try sidecar.status()
        return status["standing"] == "following" && status["cleared"] == "1" && status["watching"] == "0"
          && status["staleness_ms"] != nil
      }
    }
  }

  deinit { for pool in pools { pool.end() } }

  private func key(_ id: Int) -> String { "\(name):item:\(id)" }
  private func socket(_ number: Int) -> String {
    sidecars.isEmpty ? redis.socket : sidecars[number % sidecars.count].socket
  }

  /// How many statements that load an item PostgreSQL has carried out.
  private static func statements(_ connection: SQLClient) throws -> Int {
    let count = try connection.value(
      """
      SELECT sum(calls)::bigint FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
      WHERE d.datname = current_database() AND query LIKE $1
      """, ["%FROM items, pg_sleep%"])
    return count.flatMap { Int($0) } ?? 0
  }

  /// One read of an application: from the cache, or from the database and then stored.
  private func read(_ id: Int, _ client: RESPClient, _ pool: Pool) throws {
    let key = key(id)
    if setup.loads {
      _ = try client.call("GET", key)
      return
    }
    let sql = "SELECT body FROM items, pg_sleep(0.02) WHERE id = $1"
    if sidecars.isEmpty {
      guard try client.call("GET", key) == .null else { return }
      let body = try pool.value(sql, String(id)) ?? ""
      _ = try client.call("SET", key, body, "EX", "600")
      return
    }
    let lease = try client.call("NEARSIDE", "LEASE", key).elements ?? []
    guard lease.first == .null else { return }
    let body = try pool.value(sql, String(id)) ?? ""
    if let token = lease.last?.text { _ = try client.call("NEARSIDE", "FILL", key, token, body) }
  }

  /// Runs clients, each in a thread of its own with 20 ms between two reads, while `meanwhile` runs in this thread.
  /// How long each read took, in milliseconds.
  private func run(
    clients count: Int, key: @escaping @Sendable (inout SystemRandomNumberGenerator) -> Int,
    meanwhile: () throws -> Void
  ) throws -> [Double] {
    let (isOver, ended, ready) = (Flag(), Group(count), Group(count))
    let times = Mutex<[Double]>([])
    let trouble = Mutex<String?>(nil)
    for number in 0..<count {
      let (socket, pool) = (socket(number), pools[number % 3])
      let thread = Thread { [self] in
        var own: [Double] = []
        var random = SystemRandomNumberGenerator()
        do {
          let client = try RESPClient(socket, timeout: .seconds(30))
          ready.leave()
          while !isOver.isSet {
            let before = ContinuousClock().now
            try read(key(&random), client, pool)
            let took = ContinuousClock().now - before
            own.append(Double(took.components.attoseconds) / 1e15 + Double(took.components.seconds) * 1e3)
            usleep(UInt32.random(in: 10_000...30_000))
          }
        } catch {
          trouble.withLock { $0 = "\(error)" }
          ready.leave()
        }
        times.withLock { $0 += own }
        ended.leave()
      }
      thread.stackSize = 512 << 10
      thread.start()
    }
    ready.wait()
    defer {
      isOver.set()
      ended.wait()
    }
    try meanwhile()
    isOver.set()
    ended.wait()
    if let trouble = trouble.withLock({ $0 }) { throw HarnessError(trouble) }
    return times.withLock { $0 }
  }

  struct HotKey {
    var statements: Int
    var reads: Int
    /// The 99th percentile, in milliseconds.
    var slow: Int
  }

  func hotKey(_ load: Load) throws -> HotKey {
    let connection = try SQLClient(url)
    let redis = try redis.client()
    var statements = 0
    let began = ContinuousClock().now
    var seconds = 0.0
    let times = try run(clients: load.hotClients) { _ in
      1
    } meanwhile: {
      Thread.sleep(forTimeInterval: 0.3)
      let before = try Self.statements(connection)
      for turn in 0..<(load.hotSeconds * load.changes) {
        try connection.query("UPDATE items SET body = $1 WHERE id = 1", ["turn \(turn)"])
        // Without Nearside whoever writes must remember to delete.
        if sidecars.isEmpty { try redis.call("DEL", key(1)) }
        Thread.sleep(forTimeInterval: 1 / Double(load.changes))
      }
      statements = try Self.statements(connection) - before
      let time = ContinuousClock().now - began
      seconds = Double(time.components.seconds) + Double(time.components.attoseconds) / 1e18
    }
    let sorted = times.sorted()
    return HotKey(
      statements: Int((Double(statements) / (seconds - 0.3)).rounded()),
      reads: Int(Double(times.count) / seconds),
      slow: Int(sorted[min(sorted.count * 99 / 100, sorted.count - 1)].rounded()))
  }

  struct Flush {
    var statements: Int
    var worst: Int
  }

  func flush(_ load: Load) throws -> Flush {
    let connection = try SQLClient(url)
    let (keys, pool) = (load.keys, pools[0])
    // Everything is cached, as after a while.
    let warm = try RESPClient(socket(0), timeout: .seconds(30))
    for id in 1...keys { try read(id, warm, pool) }
    var counts: [Int] = []
    _ = try run(clients: load.flushClients) {
      Int.random(in: 1...keys, using: &$0)
    } meanwhile: {
      Thread.sleep(forTimeInterval: 1)
      if sidecars.isEmpty {
        try redis.cli("FLUSHALL")
      } else {
        try sidecars[0].client(timeout: .seconds(30)).call("NEARSIDE", "INVALIDATE", "ALL")
      }
      let before = try Self.statements(connection)
      for _ in 0..<(load.flushSeconds * 10) {
        Thread.sleep(forTimeInterval: 0.1)
        counts.append(try Self.statements(connection) - before)
      }
    }
    let steps = zip(counts.dropFirst(), counts).map { $0 - $1 }
    return Flush(statements: counts.last ?? 0, worst: ([counts.first ?? 0] + steps).max() ?? 0)
  }
}
