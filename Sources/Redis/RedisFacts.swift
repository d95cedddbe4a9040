import Configuration
import Invalidation

/// What a Redis says of itself and of what its user may do.
struct RedisFacts: Equatable {
  var place = "redis"
  /// Whether it is too old to know HELLO.
  var isAncient = false
  var version = "7.0.0"
  /// `standalone`, `sentinel` or `cluster`.
  var mode = "standalone"
  /// `master` or `replica`.
  var role = "master"
  /// Sections of INFO; empty if this user may not ask.
  var memory: [String: String] = [:]
  var persistence: [String: String] = [:]
  /// What Redis says to CLIENT TRACKING; nil: it permits it, or was not asked.
  var trackingRefusal: String?
  /// What Redis says to MULTI; nil: it permits it.
  var multiRefusal: String?
  /// The commands that this user may not use, with their key.
  var refused: [String] = []
  /// How long each of some PINGs took, in nanoseconds; empty: none was sent.
  var roundTrips: [UInt64] = []

  /// The major version; nil if what Redis says of it makes no sense.
  var major: Int? { version.split(separator: ".").first.flatMap { Int($0) } }
  /// Whether the rest can be asked.
  var isNewEnough: Bool { !isAncient && (major ?? 0) >= 7 }
}

/// What is asked for.
struct RedisQuestions {
  var keys: StateKeys
  var keyPrefix: String
  var writesBehind: Bool
  var tracking: Bool
  /// How many PINGs are timed.
  var pings = 0
  /// Nanoseconds, from any beginning.
  var clock: () -> UInt64 = { 0 }
}

extension RedisFacts {
  /// Changes nothing.
  static func read(
    _ connection: inout RedisConnection, _ questions: RedisQuestions
  ) throws(RedisError) -> RedisFacts {
    var facts = RedisFacts(place: connection.place)
    try facts.readServer(&connection)
    guard facts.isNewEnough else { return facts }
    facts.memory = try info("memory", &connection)
    if questions.writesBehind { facts.persistence = try info("persistence", &connection) }
    if questions.tracking { try facts.readTracking(&connection, questions) }
    try facts.readPermissions(&connection, questions)
    for _ in 0..<questions.pings {
      let before = questions.clock()
      _ = try connection.command(["PING"])
      facts.roundTrips.append(questions.clock() - before)
    }
    return facts
  }

  /// Version, mode and role as HELLO tells them: unlike INFO, every user may ask it.
  /// Source: Redis documentation, HELLO (since 6.0).
  private mutating func readServer(_ connection: inout RedisConnection) throws(RedisError) {
    let reply = try connection.command(["HELLO", "2"])
    if case .error(let text) = reply {
      guard text.contains("unknown command") else { throw RedisError(answer: text, place: place) }
      isAncient = true
      return
    }
    let pairs = reply.elements ?? []
    func value(_ name: String) -> String? {
      stride(from: 0, to: pairs.count - 1, by: 2).first { pairs[$0].text == name }
        .flatMap { pairs[$0 + 1].text }
    }
    version = value("version") ?? "unknown"
    mode = value("mode") ?? "unknown"
    role = value("role") ?? "unknown"
  }

  /// `redis.tracking`: not every managed Redis, and not every ACL, lets a client ask for messages.
  private mutating func readTracking(
    _ connection: inout RedisConnection, _ questions: RedisQuestions
  ) throws(RedisError) {
    let reply = try connection.command(["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", questions.keyPrefix])
    if case .error(let text) = reply {
      trackingRefusal = text
    } else {
      _ = try connection.command(["CLIENT", "TRACKING", "OFF"])
    }
  }

  /// The lines of a section of INFO; empty if this user may not ask: it is a dangerous command to Redis's access
  /// control.
  private static func info(
    _ section: String, _ connection: inout RedisConnection
  ) throws(RedisError) -> [String: String] {
    var lines: [String: String] = [:]
    for line in (try connection.command(["INFO", section]).text ?? "").split(whereSeparator: \.isNewline) {
      let parts = line.split(separator: ":", maxSplits: 1)
      if parts.count == 2 { lines[String(parts[0])] = String(parts[1]) }
    }
    return lines
  }

  /// Each command that nearside itself sends, queued in a transaction that is then discarded: Redis judges
  /// permissions when it queues, so nothing is executed. Source: Redis documentation, "Transactions".
  private mutating func readPermissions(
    _ connection: inout RedisConnection, _ questions: RedisQuestions
  ) throws(RedisError) {
    let keys = questions.keys
    let journal = keys.journalPrefix + "0000000000000000"
    let value = questions.keyPrefix + "nearside-check"
    var commands: [[String]] = [
      ["SCRIPT", "LOAD", "return 1"], ["EVAL", "return 1", "1", keys.meta],
      ["EVALSHA", "0000000000000000000000000000000000000000", "1", keys.meta],
      ["HMGET", keys.meta, "g"], ["HGET", keys.meta, "g"], ["HSET", keys.meta, "g", ""],
      ["HDEL", keys.meta, "pd"],
      ["HINCRBY", keys.meta, "n", "1"], ["UNLINK", keys.meta], ["TIME"],
      ["XADD", journal, "*", "p", ""], ["XREAD", "STREAMS", journal, "0"], ["XLEN", journal],
      ["XTRIM", journal, "MAXLEN", "1"], ["MEMORY", "USAGE", journal], ["EXISTS", journal],
      ["PEXPIRE", journal, "1"], ["PUBLISH", keys.channel, ""], ["SCAN", "0"], ["GET", value],
      ["SET", value, ""], ["PTTL", value], ["DEL", value], ["UNLINK", value],
      ["DUMP", value], ["PEXPIRETIME", value],
    ]
    if questions.writesBehind {
      commands += [
        ["XRANGE", keys.writes, "-", "+"], ["XDEL", keys.writes, "1-0"], ["HEXISTS", keys.pendingWrites, ""],
        ["XADD", keys.deadWrites, "*", "s", ""],
      ]
    }
    if case .error(let text) = try connection.command(["MULTI"]) {
      multiRefusal = text
      return
    }
    for command in commands {
      guard case .error(let text) = try connection.command(command), text.hasPrefix("NOPERM") else {
        continue
      }
      // By name, since the texts of Redis do not always tell the key.
      refused.append(
        (command[0] == "SCRIPT" || command[0] == "MEMORY" ? "\(command[0]) \(command[1])" : command[0])
          + (command.first { $0.hasPrefix("nearside:") || $0 == value }
            .map { " on \($0)" } ?? ""))
    }
    _ = try connection.command(["DISCARD"])
  }
}
