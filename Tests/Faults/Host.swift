import Glibc
import Synchronization
import TestSupport

/// A host of the fleet: its sidecar, and its paths to PostgreSQL and to Redis.
final class Host: Sendable {
  let number: Int
  let postgresLink: FaultProxy
  let redisLink: FaultProxy
  private let folder: TemporaryFolder
  private let made = Mutex<Sidecar?>(nil)
  private let make: @Sendable () throws -> Sidecar

  init(
    _ number: Int, configuration: String, database: String, postgres: PostgresServer, redis: RedisServer
  ) throws {
    self.number = number
    let folder = try TemporaryFolder()
    self.folder = folder
    // libpq looks for this name in the folder that is given as its host.
    postgresLink = try FaultProxy(at: .unix(folder.file(".s.PGSQL.5432")), to: postgres.place)
    redisLink = try FaultProxy(at: .unix(folder.file("redis.sock")), to: .unix(redis.socket))
    make = {
      try Sidecar(
        configuration, postgres: "postgresql://postgres@/\(database)?host=\(folder.path)",
        redis: "unix://\(folder.file("redis.sock"))")
    }
  }

  /// Starts the sidecar, for the first time or again.
  func start() throws {
    if let sidecar = made.withLock({ $0 }) { return try sidecar.start() }
    let sidecar = try make()
    made.withLock { $0 = sidecar }
  }

  var sidecar: Sidecar {
    guard let sidecar = made.withLock({ $0 }) else { preconditionFailure("host \(number) was not started") }
    return sidecar
  }

  func kill() { sidecar.kill() }
  func freeze() { sidecar.signal(SIGSTOP) }
  func thaw() { sidecar.signal(SIGCONT) }

  func client(timeout: Duration = .seconds(10)) throws -> RESPClient { try sidecar.client(timeout: timeout) }

  /// The lines of NEARSIDE STATUS; a host that does not answer soon throws.
  func status(timeout: Duration = .seconds(2)) throws -> [String: String] {
    let text = try client(timeout: timeout).call("NEARSIDE", "STATUS").text ?? ""
    var all: [String: String] = [:]
    for line in text.split(whereSeparator: \.isNewline) {
      let halves = line.split(separator: ":", maxSplits: 1)
      if halves.count == 2 { all[String(halves[0])] = String(halves[1]) }
    }
    return all
  }

  func count(_ name: String) throws -> Int { Int(try status()[name] ?? "") ?? 0 }

  /// The generation that it follows; nil if none.
  func generation() throws -> String? {
    let generation = try status()["generation"]
    return generation?.isEmpty == true ? nil : generation
  }

  /// Whether it follows, with evidence within the bound and of a moment after `since`.
  static func isWell(_ status: [String: String], since: Moment) -> Bool {
    guard status["standing"] == "following", status["cleared"] == "1", status["redis"] == "up",
      let age = status["staleness_ms"].flatMap({ Int($0) }),
      let bound = status["staleness_bound_ms"].flatMap({ Int($0) })
    else { return false }
    return age <= bound && bootMoment().less(.milliseconds(UInt64(age))) > since
  }

  /// Waits until it follows with evidence within the bound (and of a moment after `since`), and Redis is cleared
  /// of what is older.
  func waitUntilFollowing(since: Moment = 0, within limit: Duration = .seconds(30)) throws {
    do {
      try eventually("host \(number) follows", within: limit, every: .milliseconds(10)) {
        try status()
      } until: {
        Host.isWell($0, since: since)
      }
    } catch {
      throw HarnessError("\(error)\n\(sidecar.log)")
    }
  }

  // MARK: Values

  func get(_ key: String) throws -> Reply { try client().call("GET", key) }

  /// Stores a value with a lease; waits until one is given and taken.
  func store(
    _ key: String, _ value: String, within limit: Duration = .seconds(15), file: StaticString = #fileID,
    line: UInt = #line
  ) throws {
    let client = try client()
    try eventually("\(key) is stored", within: limit, file: file, line: line) { () throws -> String in
      let lease = try client.call("NEARSIDE", "LEASE", key)
      guard let token = lease.elements?.last?.text else { return "\(lease)" }
      return try client.call("NEARSIDE", "FILL", key, token, value).description
    } until: {
      $0 == ":1"
    }
  }

  /// A read and whether it was answered from this host's memory.
  func read(_ key: String) throws -> (value: Reply, isNear: Bool) {
    let client = try client()
    let replies = try client.pipeline([["NEARSIDE", "STATUS"], ["GET", key], ["NEARSIDE", "STATUS"]])
    func hits(_ reply: Reply) -> Int? {
      let line = reply.text?.split(whereSeparator: \.isNewline).first { $0.hasPrefix("near_hits:") }
      return (line?.dropFirst("near_hits:".count)).flatMap { Int($0) }
    }
    guard let before = hits(replies[0]), let after = hits(replies[2]) else {
      throw HarnessError("no near_hits in NEARSIDE STATUS")
    }
    return (replies[1], after > before)
  }
}

extension Cluster {
  /// Stores a value through the first host and has all of them keep it near.
  func warm(
    _ id: Int, _ value: String = "before", file: StaticString = #fileID, line: UInt = #line
  ) throws {
    do {
      try hosts[0].store(key(id), value, file: file, line: line)
      for host in hosts {
        try eventually("key \(id) is near on host \(host.number)", file: file, line: line) {
          try host.read(key(id))
        } until: {
          $0.value == .bulk(value) && $0.isNear
        }
      }
    } catch {
      let now = bootMoment()
      let inRedis = (try? redis.cli("GET", key(id))) ?? "no answer"
      let state = (try? redis.cli("HMGET", stateKey, "g", "c", "W", "V", "h", "wt")) ?? "no answer"
      throw HarnessError(
        "\(error)\nin Redis: \(inRedis); state: \(state.replacing("\n", with: " ")) at \(now / 1_000_000)\n\(report)"
      )
    }
  }
}
