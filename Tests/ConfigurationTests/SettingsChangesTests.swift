import Testing

@testable import Configuration

@Suite("What a reload takes over")
struct SettingsChangesTests {
  private static let base = #"""
    "namespace": "shop", "redis": "redis://h",
    "tables": { "users": { "keys": ["user:{id}", "w:{id}"], "lookup": [ { "sql": "SELECT 1 AS id WHERE 1 = :id", "keys": ["u:{id}"] } ] } },
    "caches": { "user:{id}": { "load": "SELECT 1", "ttl": "1h" }, "w:{id}": {
      "write": { "policy": "behind", "sql": "SELECT :value::text" } } }
    """#

  private func settings(_ text: String, _ environment: [String: String] = [:]) throws -> Settings {
    let reading = ConfigurationReader.read(
      Array("{\(text)}".utf8), file: "c.json", environment: environment, readFile: { _ in nil })
    return try #require(reading.settings, "\(text): \(reading.diagnostics)")
  }

  private func changes(_ old: String, _ new: String) throws -> SettingsChanges {
    SettingsChanges(from: try settings(old), to: try settings(new))
  }

  /// Another value of each option that is no section, as members of the file or in place of a piece of it; the name
  /// under which it is told.
  private static let others: [(option: String, more: String, live: Bool, told: String?)] = [
    ("postgres.url", #""postgres": { "url": "host=b" }"#, false, nil),
    ("postgres.password", #""postgres": { "password": "p" }"#, false, nil),
    ("postgres.publication", #""postgres": { "publication": "p" }"#, false, nil),
    ("postgres.slot.name", #""postgres": { "slot": { "name": "p" } }"#, false, "postgres.slot"),
    (
      "postgres.slot.maxRetained", #""postgres": { "slot": { "maxRetained": "1GiB" } }"#, false,
      "postgres.slot"
    ),
    ("postgres.loader.url", #""postgres": { "loader": { "url": "host=b" } }"#, false, nil),
    ("postgres.loader.password", #""postgres": { "loader": { "password": "p" } }"#, false, nil),
    ("postgres.loader.connections", #""postgres": { "loader": { "connections": 5 } }"#, false, nil),
    ("postgres.loader.timeout", #""postgres": { "loader": { "timeout": "5s" } }"#, false, nil),
    (
      "postgres.loader.replica", #""postgres": { "loader": { "url": "host=b", "replica": true } }"#, false,
      nil
    ),
    ("listen.socket", #""listen": { "socket": "/s" }"#, false, "listen"),
    ("listen.mode", #""listen": { "mode": "0600" }"#, false, "listen"),
    ("listen.group", #""listen": { "group": "g" }"#, false, "listen"),
    ("listen.tcp", #""listen": { "tcp": "127.0.0.1:6380" }"#, false, "listen"),
    ("listen.password", #""listen": { "password": "p" }"#, false, "listen"),
    ("listen.users", #""listen": { "users": ["u"] }"#, false, "listen"),
    ("listen.groups", #""listen": { "groups": ["g"] }"#, false, "listen"),
    ("listen.busyPoll", #""listen": { "busyPoll": "50us" }"#, false, "listen"),
    ("admin.socket", #""admin": { "socket": "/a" }"#, false, nil),
    ("admin.tcp", #""admin": { "tcp": "127.0.0.1:9847" }"#, false, nil),
    ("threads", #""threads": 7"#, false, nil),
    ("clients.max", #""clients": { "max": 7 }"#, false, nil),
    ("clients.trackedKeys", #""clients": { "trackedKeys": 7 }"#, false, nil),
    ("clients.queryBuffer", #""clients": { "queryBuffer": "7MiB" }"#, true, nil),
    ("clients.idle", #""clients": { "idle": "7s" }"#, true, nil),
    (
      "clients.outputBuffer.normal.hard", #""clients": { "outputBuffer": { "normal": { "hard": "7MiB" } } }"#,
      true,
      "clients.outputBuffer.normal"
    ),
    (
      "clients.outputBuffer.normal.soft", #""clients": { "outputBuffer": { "normal": { "soft": "7MiB" } } }"#,
      true,
      "clients.outputBuffer.normal"
    ),
    (
      "clients.outputBuffer.normal.softTime",
      #""clients": { "outputBuffer": { "normal": { "softTime": "7s" } } }"#,
      true, "clients.outputBuffer.normal"
    ),
    (
      "clients.outputBuffer.pubsub.hard",
      #""clients": { "outputBuffer": { "pubsub": { "hard": "70MiB" } } }"#, true,
      "clients.outputBuffer.pubsub"
    ),
    (
      "clients.outputBuffer.pubsub.soft", #""clients": { "outputBuffer": { "pubsub": { "soft": "7MiB" } } }"#,
      true,
      "clients.outputBuffer.pubsub"
    ),
    (
      "clients.outputBuffer.pubsub.softTime",
      #""clients": { "outputBuffer": { "pubsub": { "softTime": "7s" } } }"#,
      true, "clients.outputBuffer.pubsub"
    ),
    ("near.size", #""near": { "size": "7MiB" }"#, false, nil),
    ("near.maxEntry", #""near": { "maxEntry": "7KiB" }"#, false, nil),
    ("near.ttl", #""near": { "ttl": "7s" }"#, true, nil),
    ("staleness.bound", #""staleness": { "bound": "7s" }"#, true, nil),
    ("staleness.beyond", #""staleness": { "beyond": "fail" }"#, true, nil),
    ("plainSet", #""plainSet": "aged""#, false, nil),
    ("plainSetWindow", #""plainSetWindow": "7s""#, false, nil),
    ("leaseWait", #""leaseWait": "7ms""#, true, nil),
    ("journal.keep", #""journal": { "keep": "7s" }"#, false, nil),
    ("journal.size", #""journal": { "size": "7MiB" }"#, false, nil),
    ("subscribe", #""subscribe": ["c"]"#, false, nil),
    ("commands.allow", #""commands": { "allow": ["flushdb"] }"#, true, nil),
    ("log.level", #""log": { "level": "debug" }"#, true, nil),
    ("log.format", #""log": { "format": "json" }"#, false, nil),
    ("log.slow", #""log": { "slow": "7ms" }"#, true, nil),
    ("audit.share", #""audit": { "share": "7%" }"#, true, nil),
  ]

  @Test(
    "Each option of the file is either taken over or named as one that needs a restart", arguments: others)
  func options(_ option: String, _ more: String, _ isLive: Bool, _ told: String?) throws {
    let found = try changes(Self.base, Self.base + ", " + more)
    let name = told ?? option
    #expect((isLive ? found.live : found.needRestart).contains(name), "\(found.live) \(found.needRestart)")
    #expect((isLive ? found.needRestart : found.live) == [])
    // What was taken over is no change any more; what was not is told again.
    let again = SettingsChanges(from: found.settings, to: try settings(Self.base + ", " + more))
    #expect(again.live == [] && again.needRestart == found.needRestart)
  }

  @Test(
    "The same for what stands in the middle of the file",
    arguments: [
      (#""namespace": "shop""#, #""namespace": "other""#, false, "namespace"),
      ("redis://h", "redis://i", false, "redis.url"), ("redis://h", "redis://:p@h", false, "redis.password"),
      ("redis://h", "redis://u:p@h", false, "redis.url"), ("redis://h", "redis://h/3", false, "redis.url"),
      (
        #""redis": "redis://h""#, #""redis": { "url": "redis://h", "timeout": "7s" }"#, false, "redis.timeout"
      ),
      (
        #""redis": "redis://h""#, #""redis": { "url": "redis://h", "tracking": true }"#, false,
        "redis.tracking"
      ),
      (#""redis": "redis://h""#, #""redis": { "url": "rediss://h" }"#, false, "redis.tls"),
      (#"["user:{id}", "#, #"["user:{id}", "u2:{id}", "#, false, "tables"),
      (#""keys": ["u:{id}"]"#, #""keys": ["u:{id}"], "remember": "1m""#, false, "tables"),
      (#""user:{id}": {"#, #""user:{id}": { "near": false,"#, true, "caches.\"user:{id}\".near"),
      (#""ttl": "1h""#, #""ttl": "2h""#, true, "caches.\"user:{id}\".ttl"),
      (#""ttl": "1h""#, #""ttl": "1h", "jitter": "7%""#, true, "caches.\"user:{id}\".jitter"),
      (#""ttl": "1h""#, #""ttl": "1h", "negative": "7s""#, true, "caches.\"user:{id}\".negative"),
      (#""ttl": "1h""#, #""ttl": "1h", "failSafe": "7s""#, true, "caches.\"user:{id}\".failSafe"),
      (
        #""ttl": "1h""#, #""ttl": "1h", "staleness": { "bound": "7s" }"#, true,
        "caches.\"user:{id}\".staleness"
      ),
      (
        #""ttl": "1h""#, #""ttl": "1h", "stampede": { "lock": "7s" }"#, false, "caches.\"user:{id}\".stampede"
      ),
      (#""ttl": "1h""#, #""ttl": "1h", "onChange": "refresh""#, false, "caches.\"user:{id}\".onChange"),
      (#""ttl": "1h""#, #""ttl": "1h", "plainSet": "aged""#, false, "caches.\"user:{id}\".plainSet"),
      (#""SELECT 1""#, #""SELECT 2""#, false, "caches.\"user:{id}\".load"),
      (#""SELECT 1""#, #"{ "sql": "SELECT 1", "timeout": "7s" }"#, false, "caches.\"user:{id}\".load"),
      (#"::text""#, #"::text", "batch": 7"#, false, "caches.\"w:{id}\".write"),
      (#""w:{id}": {"#, #""u:{id}": {"#, false, "caches"),
    ])
  func pieces(_ old: String, _ new: String, _ isLive: Bool, _ told: String) throws {
    #expect(Self.base.contains(old))
    let found = try changes(Self.base, Self.base.replacing(old, with: new))
    #expect((isLive ? found.live : found.needRestart).contains(told), "\(found.live) \(found.needRestart)")
    #expect(isLive ? found.needRestart == [] : found.live == [], "\(found.live) \(found.needRestart)")
  }

  @Test("No option is forgotten")
  func complete() {
    let sections = Set(ConfigurationOption.all.map(\.parent))
    let leaves = ConfigurationOption.all.map(\.path).filter { path in
      !sections.contains(path) && !path.hasPrefix("tables") && !path.hasPrefix("caches")
        && !path.hasPrefix("redis")
        && path != "$schema" && path != "namespace" && path != "postgres.slot.mode"
    }
    #expect(Set(Self.others.map(\.option)) == Set(leaves))
  }

  @Test("Nothing has changed, though lines have moved and members stand in another order")
  func nothing() throws {
    let moved = Self.base.replacing("\n", with: "\n\n").replacing(
      "\"load\": \"SELECT 1\", \"ttl\": \"1h\"",
      with: "\"ttl\": \"1h\",\n\n \"load\": \"SELECT 1\"")
    let found = try changes(Self.base, moved)
    #expect(found.live == [] && found.needRestart == [])
    #expect(!found.concernsEntries)
  }

  @Test("What entries were kept under is told apart from what they have nothing to do with")
  func entries() throws {
    #expect(try changes(Self.base, Self.base + #", "near": { "ttl": "7s" }"#).concernsEntries)
    #expect(try !changes(Self.base, Self.base + #", "log": { "level": "debug" }"#).concernsEntries)
    #expect(try !changes(Self.base, Self.base.replacing("1h", with: "2h")).concernsEntries)
  }
}
