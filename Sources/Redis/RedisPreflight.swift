import Configuration
import Invalidation

/// Whether a Redis will do, before anything depends on it.
public enum RedisPreflight {
  public struct Finding: Hashable, Sendable, CustomStringConvertible {
    public enum Severity: Sendable, Hashable {
      /// Nearside cannot work with this Redis as it is.
      case problem
      /// It works, at a price.
      case warning
    }

    public var severity: Severity
    /// One or two plain sentences: what is the case, and what to do.
    public var description: String
    /// Whether waiting may mend it: Redis is down, restarting or slow.
    public var isTemporary = false
  }

  /// Connects, looks, and changes nothing. Empty: all is well.
  ///
  /// - Parameters:
  ///   - keys: the names of the fleet's state.
  ///   - keyPrefix: what all governed keys begin with, `Settings.keyPrefix`.
  ///   - writesBehind: whether Redis holds writes that were acknowledged and are nowhere else.
  public static func findings(
    settings: RedisSettings, keys: StateKeys, keyPrefix: String, writesBehind: Bool = false
  ) -> [Finding] {
    do throws(RedisError) {
      var connection = try RedisConnection(settings, name: "nearside-check")
      var preflight = Look(place: connection.place)
      if try preflight.server(&connection) {
        try preflight.memory(&connection, writesBehind: writesBehind)
        if writesBehind { try preflight.persistence(&connection) }
        if settings.tracking { try preflight.tracking(&connection, keyPrefix: keyPrefix) }
        try preflight.permissions(
          &connection, keys: keys, keyPrefix: keyPrefix, writesBehind: writesBehind)
      }
      return preflight.findings
    } catch {
      return [
        Finding(severity: .problem, description: error.description, isTemporary: error.kind.isTemporary)
      ]
    }
  }
}

private struct Look {
  let place: String
  var findings: [RedisPreflight.Finding] = []

  mutating func problem(_ text: String) { findings.append(.init(severity: .problem, description: text)) }
  mutating func warning(_ text: String) { findings.append(.init(severity: .warning, description: text)) }

  init(place: String) { self.place = place }

  /// Version, mode and role as HELLO tells them: unlike INFO, every user may ask it. False: too old for the
  /// rest. Source: Redis documentation, HELLO (since 6.0).
  mutating func server(_ connection: inout RedisConnection) throws(RedisError) -> Bool {
    let reply = try connection.command(["HELLO", "2"])
    if case .error(let text) = reply {
      guard text.contains("unknown command") else { throw RedisError(answer: text, place: place) }
      problem("Redis at \(place) is older than 6.0; nearside needs 7.0 or later.")
      return false
    }
    let pairs = reply.elements ?? []
    func value(_ name: String) -> String? {
      stride(from: 0, to: pairs.count - 1, by: 2).first { pairs[$0].text == name }
        .flatMap { pairs[$0 + 1].text }
    }
    let version = value("version") ?? "unknown"
    guard let major = version.split(separator: ".").first.flatMap({ Int($0) }), major >= 7 else {
      problem("Redis at \(place) has version \(version); nearside needs 7.0 or later.")
      return false
    }
    if value("mode") == "cluster" {
      problem(
        "Redis at \(place) is part of a Redis Cluster, which nearside does not support; use one server.")
    }
    if value("role") != "master" {
      problem("Redis at \(place) is a replica and takes no writes; name the primary instead.")
    }
    return true
  }

  /// Only if this user may ask: INFO is a dangerous command to Redis's access control.
  mutating func memory(_ connection: inout RedisConnection, writesBehind: Bool) throws(RedisError) {
    let info = try info("memory", &connection)
    guard let policy = info["maxmemory_policy"] else { return }
    if policy.hasPrefix("allkeys-"), writesBehind {
      return problem(
        "Redis at \(place) has the maxmemory-policy \(policy), which may evict writes that were acknowledged and have "
          + "not reached PostgreSQL (\"behind\"). Use a volatile-* policy or noeviction.")
    }
    guard let limit = info["maxmemory"], limit != "0" else { return }
    if policy.hasPrefix("allkeys-") {
      warning(
        "Redis at \(place) has the maxmemory-policy \(policy), so it may evict nearside's own state when "
          + "memory is short, which makes every cached value a miss once. A volatile-* policy cannot.")
    }
  }

  /// What is acknowledged must outlive a crash of Redis.
  mutating func persistence(_ connection: inout RedisConnection) throws(RedisError) {
    guard try info("persistence", &connection)["aof_enabled"] == "0" else { return }
    warning(
      "Redis at \(place) has appendonly off, so writes that were acknowledged and have not reached PostgreSQL "
        + "(\"behind\") are lost if it dies. Set appendonly to yes, and appendfsync to always if not even the last "
        + "second may be lost.")
  }

  /// `redis.tracking`: not every managed Redis, and not every ACL, lets a client ask for messages.
  mutating func tracking(_ connection: inout RedisConnection, keyPrefix: String) throws(RedisError) {
    let reply = try connection.command(["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", keyPrefix])
    guard case .error(let text) = reply else {
      _ = try connection.command(["CLIENT", "TRACKING", "OFF"])
      return
    }
    warning(
      "Redis at \(place) does not permit CLIENT TRACKING (\(text)), so near copies will not notice changes made behind "
        + "Nearside's back. Its ACL needs +client|tracking; or leave \"tracking\" of \"redis\" out.")
  }

  /// The lines of a section of INFO; empty if this user may not ask.
  private func info(
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
  mutating func permissions(
    _ connection: inout RedisConnection, keys: StateKeys, keyPrefix: String, writesBehind: Bool
  ) throws(RedisError) {
    let journal = keys.journalPrefix + "0000000000000000"
    let value = keyPrefix + "nearside-check"
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
    ]
    if writesBehind {
      commands += [
        ["XRANGE", keys.writes, "-", "+"], ["XDEL", keys.writes, "1-0"], ["HEXISTS", keys.pendingWrites, ""],
        ["XADD", keys.deadWrites, "*", "s", ""],
      ]
    }
    if case .error(let text) = try connection.command(["MULTI"]) {
      warning(
        "Redis at \(place) does not permit MULTI (\(text)), so permissions could not be checked and "
          + "transactions of applications will fail.")
      return
    }
    var refused: [String] = []
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
    guard !refused.isEmpty else { return }
    problem(
      "Redis at \(place) does not permit its user \(refused.joined(separator: ", ")). Its ACL needs "
        + "~\(keys.meta.dropLast())* ~\(keyPrefix)* &\(keys.channel) and these commands.")
  }
}
