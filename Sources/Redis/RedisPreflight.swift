import Configuration
import Invalidation

/// Whether a Redis will do, before anything depends on it.
public enum RedisPreflight {
  /// Connects, looks, and changes nothing. Empty: all is well.
  ///
  /// - Parameters:
  ///   - keys: the names of the fleet's state.
  ///   - keyPrefix: what all governed keys begin with, `Settings.keyPrefix`.
  ///   - writesBehind: whether Redis holds writes that were acknowledged and are nowhere else.
  public static func findings(
    settings: RedisSettings, keys: StateKeys, keyPrefix: String, writesBehind: Bool = false
  ) -> [Finding] {
    survey(
      settings,
      RedisQuestions(
        keys: keys, keyPrefix: keyPrefix, writesBehind: writesBehind, tracking: settings.tracking)
    ).filter { !$0.isGood }
  }

  /// The same for `nearside doctor`: with what is as it should be, and with 100 PINGs that are timed.
  ///
  /// - Parameter clock: nanoseconds, from any beginning.
  public static func survey(
    settings: RedisSettings, keys: StateKeys, keyPrefix: String, writesBehind: Bool,
    clock: @escaping () -> UInt64
  ) -> [Finding] {
    survey(
      settings,
      RedisQuestions(
        keys: keys, keyPrefix: keyPrefix, writesBehind: writesBehind, tracking: settings.tracking, pings: 100,
        clock: clock))
  }

  private static func survey(_ settings: RedisSettings, _ questions: RedisQuestions) -> [Finding] {
    do throws(RedisError) {
      var connection = try RedisConnection(settings, name: "nearside-check")
      return judge(try RedisFacts.read(&connection, questions), questions)
        + (questions.pings > 0 ? [encryption(settings)] : [])
    } catch {
      // The first sentence says what happened, the others what to do.
      let text = error.description
      guard let end = text.ranges(of: ". ").first else {
        return [Finding("reachable", .error, text, isTemporary: error.kind.isTemporary)]
      }
      return [
        Finding(
          "reachable", .error, text[..<end.lowerBound] + ".", fix: String(text[end.upperBound...]),
          isTemporary: error.kind.isTemporary)
      ]
    }
  }

  static func judge(_ facts: RedisFacts, _ questions: RedisQuestions) -> [Finding] {
    var findings = [version(facts)]
    guard facts.isNewEnough else { return findings }
    findings += [mode(facts), role(facts)]
    findings += memory(facts, writesBehind: questions.writesBehind)
    if questions.writesBehind { findings += persistence(facts) }
    if questions.tracking { findings.append(tracking(facts)) }
    findings.append(permissions(facts, questions))
    if !facts.roundTrips.isEmpty { findings.append(roundTrips(facts)) }
    return findings
  }

  private static func version(_ facts: RedisFacts) -> Finding {
    if facts.isAncient {
      return Finding(
        "version", .error, "Redis at \(facts.place) is older than 6.0; nearside needs 7.0 or later.",
        fix: "Upgrade it, or name another one.")
    }
    guard facts.isNewEnough else {
      return Finding(
        "version", .error,
        "Redis at \(facts.place) has version \(facts.version); nearside needs 7.0 or later.",
        fix: "Upgrade it, or name another one.")
    }
    return .good("version", "Redis at \(facts.place) answers; it is version \(facts.version).")
  }

  private static func mode(_ facts: RedisFacts) -> Finding {
    guard facts.mode == "cluster" else { return .good("mode", "It is a server by itself.") }
    return Finding(
      "mode", .error,
      "Redis at \(facts.place) is part of a Redis Cluster, which nearside does not support; use one server.",
      fix: "Give a server without cluster-enabled in redis.url.")
  }

  private static func role(_ facts: RedisFacts) -> Finding {
    guard facts.role != "master" else { return .good("role", "It is a primary.") }
    return Finding(
      "role", .error, "Redis at \(facts.place) is a replica and takes no writes; name the primary instead.",
      fix: "Give the primary's address in redis.url.")
  }

  /// Nothing if this user may not ask.
  private static func memory(_ facts: RedisFacts, writesBehind: Bool) -> [Finding] {
    guard let policy = facts.memory["maxmemory_policy"] else { return [] }
    if policy.hasPrefix("allkeys-"), writesBehind {
      return [
        Finding(
          "maxmemory_policy", .error,
          "Redis at \(facts.place) has the maxmemory-policy \(policy), which may evict writes that were acknowledged "
            + "and have not reached PostgreSQL (\"behind\").",
          fix: "Use a volatile-* policy or noeviction.")
      ]
    }
    guard let limit = facts.memory["maxmemory"].flatMap({ Int($0) }), limit > 0 else {
      return [.good("maxmemory_policy", "It has no memory limit of its own, so it evicts nothing.")]
    }
    if policy.hasPrefix("allkeys-") {
      return [
        Finding(
          "maxmemory_policy", .warning,
          "Redis at \(facts.place) has the maxmemory-policy \(policy), so it may evict nearside's own state when "
            + "memory is short, which makes every cached value a miss once.",
          fix: "A volatile-* policy cannot.")
      ]
    }
    if policy == "noeviction", let used = facts.memory["used_memory"].flatMap({ Int($0) }),
      used > limit / 10 * 9
    {
      return [
        Finding(
          "maxmemory_policy", .warning,
          "Redis at \(facts.place) uses \(used >> 20) of \(limit >> 20) MiB and evicts nothing (noeviction), so "
            + "applications' SETs will soon fail.",
          fix: "Raise maxmemory, or use a volatile-* policy.")
      ]
    }
    return [.good("maxmemory_policy", "Its maxmemory-policy is \(policy).")]
  }

  /// What is acknowledged must outlive a crash of Redis.
  private static func persistence(_ facts: RedisFacts) -> [Finding] {
    guard let enabled = facts.persistence["aof_enabled"] else { return [] }
    guard enabled == "0" else { return [.good("appendonly", "appendonly is on.")] }
    return [
      Finding(
        "appendonly", .warning,
        "Redis at \(facts.place) has appendonly off, so writes that were acknowledged and have not reached PostgreSQL "
          + "(\"behind\") are lost if it dies.",
        fix: "Set appendonly to yes, and appendfsync to always if not even the last second may be lost.")
    ]
  }

  private static func tracking(_ facts: RedisFacts) -> Finding {
    guard let text = facts.trackingRefusal else { return .good("tracking", "CLIENT TRACKING is permitted.") }
    return Finding(
      "tracking", .warning,
      "Redis at \(facts.place) does not permit CLIENT TRACKING (\(text)), so near copies will not notice changes made "
        + "behind Nearside's back.",
      fix: "Its ACL needs +client|tracking; or leave \"tracking\" of \"redis\" out.")
  }

  private static func permissions(_ facts: RedisFacts, _ questions: RedisQuestions) -> Finding {
    if let text = facts.multiRefusal {
      return Finding(
        "permissions", .warning,
        "Redis at \(facts.place) does not permit MULTI (\(text)), so permissions could not be checked and "
          + "transactions of applications will fail.", fix: "Its ACL needs +multi +exec +discard.")
    }
    guard !facts.refused.isEmpty else {
      return .good("permissions", "Its user may do everything that Nearside does.")
    }
    return Finding(
      "permissions", .error,
      "Redis at \(facts.place) does not permit its user \(facts.refused.joined(separator: ", ")).",
      fix: "Its ACL needs ~\(questions.keys.meta.dropLast())* ~\(questions.keyPrefix)* "
        + "&\(questions.keys.channel) and these commands.")
  }

  /// Every miss takes one; a slow one is not wrong, but it is what applications will feel.
  private static func roundTrips(_ facts: RedisFacts) -> Finding {
    let sorted = facts.roundTrips.sorted()
    let middle = sorted[sorted.count / 2]
    let worst = sorted[min(sorted.count - 1, sorted.count * 99 / 100)]
    let numbers =
      "half of \(sorted.count) PINGs took less than \(milliseconds(middle)) ms, 99 % less than "
      + "\(milliseconds(worst)) ms"
    guard middle > 5_000_000 || worst > 250_000_000 else {
      return .good("round_trip", "Round trips: \(numbers).")
    }
    return Finding(
      "round_trip", .warning, "Redis at \(facts.place) is far away or busy: \(numbers).",
      fix: "Use a Redis in the same place as this host, and look at its SLOWLOG and its load.")
  }

  private static func milliseconds(_ nanoseconds: UInt64) -> String {
    let hundredths = (nanoseconds + 5000) / 10_000
    let rest = String(hundredths % 100)
    return "\(hundredths / 100).\(rest.count == 1 ? "0" : "")\(rest)"
  }

  static func encryption(_ settings: RedisSettings) -> Finding {
    switch (settings.endpoint, settings.tls) {
    case (.unix, _): return .good("encryption", "The connection does not leave this host.")
    case (.tcp(let host, _), nil):
      if host == "localhost" || host == "::1" || host.hasPrefix("127.") {
        return .good("encryption", "The connection does not leave this host.")
      }
      return Finding(
        "encryption", .warning, "The connection to Redis leaves this host and is not encrypted.",
        fix: "Use rediss:// in redis.url.")
    case (.tcp, let tls?):
      guard !tls.verifies else {
        return .good("encryption", "The connection is encrypted, and Redis's certificate is checked.")
      }
      return Finding(
        "encryption", .warning, "The connection to Redis is encrypted, but nobody checks who answers.",
        fix: "Take \"verify\": false out of redis.tls, and give redis.tls.ca if the system does not trust it."
      )
    }
  }
}
