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

  /// An error in place of a reply.
  private struct Refusal: Error, CustomStringConvertible {
    let description: String
  }

  @discardableResult
  private func call(_ client: RESPClient, _ arguments: String...) throws -> Reply {
    let reply = try client.call(arguments)
    if let error = reply.errorText { throw Refusal(description: error) }
    return reply
  }

  /// One read of an application: from the cache, or from the database and then stored.
  private func read(_ id: Int, _ client: RESPClient, _ pool: Pool) throws {
    let key = key(id)
    if setup.loads {
      try call(client, "GET", key)
      return
    }
    let sql = "SELECT body FROM items, pg_sleep(0.02) WHERE id = $1"
    if sidecars.isEmpty {
      guard try call(client, "GET", key) == .null else { return }
      let body = try pool.value(sql, String(id)) ?? ""
      try call(client, "SET", key, body, "EX", "600")
      return
    }
    let lease = try call(client, "NEARSIDE", "LEASE", key).elements ?? []
    guard lease.first == .null else { return }
    let body = try pool.value(sql, String(id)) ?? ""
    if let token = lease.last?.text { try call(client, "NEARSIDE", "FILL", key, token, body) }
  }

  /// What clients have done.
  private struct Doings {
    /// When each read ended, and how long it took, in milliseconds.
    var reads: [(end: ContinuousClock.Instant, took: Double)] = []
    /// The errors that others got.
    var refusals: [String] = []
  }

  /// Runs clients, each in a thread of its own with 20 ms between two reads; `meanwhile` runs in this thread once each
  /// of them has read.
  private func run(
    clients count: Int, key: @escaping @Sendable (inout SystemRandomNumberGenerator) -> Int,
    meanwhile: () throws -> Void
  ) throws -> Doings {
    let (isOver, ended, ready) = (Flag(), Group(count), Group(count))
    let doings = Mutex(Doings())
    let trouble = Mutex<String?>(nil)
    for number in 0..<count {
      let (socket, pool) = (socket(number), pools[number % 3])
      let thread = Thread { [self] in
        var own = Doings()
        var random = SystemRandomNumberGenerator()
        var isReady = false
        do {
          let client = try RESPClient(socket, timeout: .seconds(30))
          while !isOver.isSet {
            let before = ContinuousClock().now
            do {
              try read(key(&random), client, pool)
              let end = ContinuousClock().now
              own.reads.append((end, (end - before).milliseconds))
            } catch let refusal as Refusal {
              own.refusals.append(refusal.description)
            }
            if !isReady { ready.leave() }
            isReady = true
            sleep(.microseconds(Int.random(in: 10_000...30_000)))
          }
        } catch {
          trouble.withLock { $0 = "\(error)" }
        }
        if !isReady { ready.leave() }
        doings.withLock { [own] in
          $0.reads += own.reads
          $0.refusals += own.refusals
        }
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
    return doings.withLock { $0 }
  }

  struct HotKey {
    var statements: Int
    var reads: Int
    /// The 99th percentile, in milliseconds.
    var slow: Int
    var refusals: [String]
  }

  func hotKey(_ load: Load) throws -> HotKey {
    let connection = try SQLClient(url)
    let redis = try redis.client()
    let clock = ContinuousClock()
    var statements = 0
    var (from, to) = (clock.now, clock.now)
    let doings = try run(clients: load.hotClients) { _ in
      1
    } meanwhile: {
      let before = try Self.statements(connection)
      from = clock.now
      for turn in 0..<(load.hotSeconds * load.changes) {
        try connection.query("UPDATE items SET body = $1 WHERE id = 1", ["turn \(turn)"])
        // Without Nearside whoever writes must remember to delete.
        if sidecars.isEmpty { try call(redis, "DEL", key(1)) }
        let rest = from.advanced(by: .milliseconds((turn + 1) * 1000 / load.changes)) - clock.now
        if rest > .zero { sleep(rest) }
      }
      statements = try Self.statements(connection) - before
      to = clock.now
    }
    let times = doings.reads.filter { from < $0.end && $0.end <= to }.map(\.took).sorted()
    let seconds = (to - from).milliseconds / 1000
    return HotKey(
      statements: Int((Double(statements) / seconds).rounded()),
      reads: Int(Double(times.count) / seconds),
      slow: times.isEmpty ? 0 : Int(times[min(times.count * 99 / 100, times.count - 1)].rounded()),
      refusals: doings.refusals)
  }

  struct Flush {
    var statements: Int
    var refusals: [String]
  }

  func flush(_ load: Load) throws -> Flush {
    let connection = try SQLClient(url)
    let keys = load.keys
    // Everything is cached, and on every host, as after a while.
    for number in 0..<3 {
      let warm = try RESPClient(socket(number), timeout: .seconds(30))
      for id in 1...keys { try read(id, warm, pools[number]) }
    }
    var statements = 0
    let doings = try run(clients: load.flushClients) {
      Int.random(in: 1...keys, using: &$0)
    } meanwhile: {
      let before = try Self.statements(connection)
      if sidecars.isEmpty {
        try redis.cli("FLUSHALL")
      } else {
        try call(sidecars[0].client(timeout: .seconds(30)), "NEARSIDE", "INVALIDATE", "ALL")
      }
      sleep(.seconds(load.flushSeconds))
      statements = try Self.statements(connection) - before
    }
    return Flush(statements: statements, refusals: doings.refusals)
  }
}
