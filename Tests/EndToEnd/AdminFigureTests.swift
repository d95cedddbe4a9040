import Foundation
import Synchronization
import TestSupport
import Testing

/// What the admin endpoint tells, compared with what was done.
@Suite struct AdminFigureTests {
  static let userCache: String = #"cache="user:{id}""#

  static func gets(_ result: String, in text: String) -> Double? {
    AdminTests.figure("nearside_cache_gets_total{\(userCache),result=\"\(result)\"}", in: text)
  }

  @Test("under load, while it is scraped, every read and every invalidation is counted once")
  func counts() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let keys = (1...20).map { world.key("user:\($0)") }
    for key in keys { try sidecar.store(key, "value of \(key)") }
    let before = try sidecar.admin.get("/metrics").body
    let rounds = 300
    let scrapes = Mutex(0)
    let isOver = Mutex(false)
    let failures = Mutex<[String]>([])
    withThreads(2) { number in
      if number == 1 {
        // Whoever scrapes sees counters that only grow.
        var last = 0.0
        while !isOver.withLock({ $0 }) {
          guard let text = try? sidecar.admin.get("/metrics").body, let hits = Self.gets("hit", in: text)
          else {
            failures.withLock { $0.append("no metrics") }
            continue
          }
          if hits < last { failures.withLock { $0.append("\(hits) after \(last)") } }
          last = hits
          scrapes.withLock { $0 += 1 }
        }
        return
      }
      guard let client = try? sidecar.client() else { return }
      for _ in 0..<rounds {
        for key in keys { _ = try? client.call("GET", key) }
        _ = try? client.call(["MGET"] + keys)
      }
      isOver.withLock { $0 = true }
    } while: {
    }
    #expect(failures.withLock { $0 } == [], "\(sidecar.isRunning) \(sidecar.log)")
    #expect(scrapes.withLock { $0 } > 0)
    let after = try sidecar.admin.get("/metrics").body
    func grown(_ name: String) -> Double {
      (AdminTests.figure(name, in: after) ?? 0) - (AdminTests.figure(name, in: before) ?? 0)
    }
    let results = ["hit", "negative_hit", "redis_hit", "miss", "stale", "bypass"]
    let total = results.reduce(0) {
      $0 + grown("nearside_cache_gets_total{\(Self.userCache),result=\"\($1)\"}")
    }
    #expect(total == Double(rounds * keys.count * 2))
    let hits = grown("nearside_cache_gets_total{\(Self.userCache),result=\"hit\"}")
    #expect(hits >= total - Double(2 * keys.count), "at most the first read of each key goes to Redis")
    let commands = ["near", "redis"].reduce(0) {
      $0 + grown("nearside_commands_total{command=\"get\",served=\"\($1)\"}")
    }
    #expect(commands == Double(rounds * keys.count))
    let many = ["near", "redis"].reduce(0) {
      $0 + grown("nearside_commands_total{command=\"mget\",served=\"\($1)\"}")
    }
    #expect(many == Double(rounds))
    #expect(AdminTests.figure("nearside_cache_entries{\(Self.userCache)}", in: after) == Double(keys.count))
    let bytes = try #require(AdminTests.figure("nearside_cache_bytes{\(Self.userCache)}", in: after))
    #expect(bytes >= Double(keys.count * 40) && bytes <= Double(keys.count * 256))
    #expect(AdminTests.figure("nearside_cache_entries{cache=\"product:{id}\"}", in: after) == 0)
    // Each key was asked for and stored, one command after the other: as many batches of one reply each.
    let batches = AdminTests.figure("nearside_upstream_duration_seconds_count{target=\"redis\"}", in: before)
    #expect(batches.map { $0 >= Double(keys.count * 2) } == true, "\(batches ?? -1)")
    #expect(
      AdminTests.figure("nearside_upstream_duration_seconds_count{target=\"redis\"}", in: after) ?? 0
        < (batches ?? 0) + 2 * Double(keys.count), "near hits ask Redis nothing")

    // 20 rows change, each in its own transaction, and 3 keys are deleted by hand.
    for id in 1...20 { try world.psql("UPDATE users SET name = 'x' WHERE id = \(id)") }
    try world.settle(sidecar)
    for key in keys.prefix(3) { _ = try sidecar.client().call("DEL", key) }
    try eventually("the deletions have been heard") {
      try sidecar.admin.get("/metrics").body
    } until: {
      AdminTests.figure("nearside_invalidation_keys_total{table=\"\",source=\"write\"}", in: $0) == 3
    }
    // The tail tells its figures ten times a second.
    let last = try eventually("the tail has told of all changes") {
      try sidecar.admin.get("/metrics").body
    } until: {
      AdminTests.figure("nearside_replication_changes_total{table=\"public.users\",op=\"update\"}", in: $0)
        == 20
        && AdminTests.figure("nearside_invalidation_duration_seconds_count{stage=\"redis\"}", in: $0)
          == AdminTests.figure("nearside_invalidation_duration_seconds_count{stage=\"near\"}", in: $0)
    }
    // Of each row two keys: by its id and by its e-mail.
    #expect(
      AdminTests.figure("nearside_invalidation_keys_total{table=\"public.users\",source=\"wal\"}", in: last)
        == 40)
    let delays = AdminTests.figure(
      "nearside_invalidation_duration_seconds_count{stage=\"near\"}", in: last)
    #expect(delays.map { $0 >= 1 && $0 <= 20 } == true)
    #expect((AdminTests.figure("nearside_redis_hits_total", in: last) ?? 0) > 0)
    #expect(!last.contains(world.key("user:1")), "no key in any label")
    #expect(!last.contains("user:1\""))
  }

  @Test(
    "/tail tells each invalidation, why, and how long it took; an embedded sidecar does as well",
    arguments: [true, false])
  func tail(redis: Bool) throws {
    let world = try World(redis: redis)
    let sidecar = try world.sidecar()
    let stream = try sidecar.admin.stream("/tail")
    // The stream's first line comes when it is open; the loop hears of it a moment later.
    let position = try eventually("an update is told") { () throws -> [String: Any] in
      try world.psql("UPDATE users SET name = name || '.' WHERE id = 7")
      return try Self.object(stream.nextEvent().data)
    } until: {
      ($0["keys"] as? [String])?.contains(world.key("user:7")) == true
    }
    #expect(position["table"] as? String == "public.users")
    #expect(position["op"] as? String == "update")
    #expect(position["source"] as? String == "wal")
    #expect((position["transaction"] as? Int ?? 0) > 0)
    #expect((position["position"] as? String)?.contains("/") == true)
    let delay = try #require(position["delay_ms"] as? Double)
    #expect(delay > 0 && delay < 30_000)
    try world.psql("SELECT nearside.invalidate('\(world.key("user:9"))')")
    let manual = try eventually("nearside.invalidate is told") {
      try Self.object(stream.nextEvent().data)
    } until: {
      $0["source"] as? String == "manual"
    }
    #expect(manual["keys"] as? [String] == [world.key("user:9")])
  }

  static func object(_ text: String) throws -> [String: Any] {
    let any = try JSONSerialization.jsonObject(with: Data(text.utf8))
    return try #require(any as? [String: Any])
  }

  @Test("POST /invalidate clears keys as a client's command does")
  func invalidate() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let key = world.key("user:3")
    try sidecar.store(key, "old")
    let answer = try sidecar.admin.request("POST", "/invalidate", body: "key \(key)\n")
    #expect(answer.status == 200, "\(answer.body)")
    #expect(try sidecar.client().call("GET", key) == .null)
    #expect(try world.redis?.cli("EXISTS", key) == "0")
  }

  @Test("the keys of an MGET that hits in part are counted once")
  func partly() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let key = world.key("user:1")
    try sidecar.store(key, "warm")
    let before = try #require(Self.gets("hit", in: sidecar.admin.get("/metrics").body))
    #expect(try sidecar.client().call("MGET", key, world.key("user:2")).elements?.count == 2)
    let text = try sidecar.admin.get("/metrics").body
    #expect(Self.gets("hit", in: text) == before + 1)
    // One of them was the first look at the key that is warm now.
    #expect(Self.gets("miss", in: text) == 2)
  }

  @Test("a cache that loads counts its loads by result, and those who waited for one")
  func loads() throws {
    let world = try World(options: [
      #""caches": { "user:{id}": { "load": "SELECT name FROM users WHERE id = :id", "negative": "5s" } }"#
    ])
    let sidecar = try world.sidecar()
    for id in [1, 1, 2, 2, 500, 500] { _ = try sidecar.client().call("GET", world.key("user:\(id)")) }
    let text = try sidecar.admin.get("/metrics").body
    func loads(_ result: String) -> Double {
      AdminTests.figure("nearside_loads_total{\(Self.userCache),result=\"\(result)\"}", in: text) ?? -1
    }
    // While other tests keep the machine busy a value may not have been kept, and is loaded again.
    #expect((2...4).contains(loads("success")))
    #expect((1...2).contains(loads("negative")))
    // On a busy machine one may take too long.
    let ended = ["success", "negative", "error", "timeout"].reduce(0) { $0 + loads($1) }
    #expect(
      AdminTests.figure("nearside_load_duration_seconds_count{\(Self.userCache)}", in: text)
        == ended)
    #expect(
      AdminTests.figure("nearside_upstream_duration_seconds_count{target=\"postgres\"}", in: text) == ended)
    // A read may come while the load before it still stores its value, and joins it.
    let joined = AdminTests.figure("nearside_loads_coalesced_total{\(Self.userCache)}", in: text) ?? 0
    // The second read of a key may also find, behind Redis's answer, that the first one's load has ended meanwhile.
    let missed = Self.gets("miss", in: text) ?? -1
    #expect((ended + joined...ended + joined + 3).contains(missed))
    let all = ["hit", "negative_hit", "redis_hit", "miss", "stale", "bypass"]
    #expect(all.reduce(0) { $0 + (Self.gets($1, in: text) ?? 0) } == 6)
  }

  /// Debian's promtool; `Tests/Admin/install` brings it.
  static var checker: String? { ProcessInfo.processInfo.environment["NEARSIDE_PROMTOOL"] }

  @Test("promtool finds nothing to say about the live metrics", .enabled(if: AdminFigureTests.checker != nil))
  func promtool() throws {
    let world = try World(options: [
      #""caches": { "user:{id}": { "load": "SELECT name FROM users WHERE id = :id" } }"#
    ])
    let sidecar = try world.sidecar()
    for id in 1...5 { _ = try sidecar.client().call("GET", world.key("user:\(id)")) }
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try world.settle(sidecar)
    let text = try eventually("Redis's own figures are there") {
      try sidecar.admin.get("/metrics").body
    } until: {
      $0.contains("nearside_redis_used_memory_bytes ")
    }
    let found = try run([try #require(Self.checker), "check", "metrics"], input: text)
    #expect(found.exit == .code(0), "\(found.output)\(found.errors)")
    #expect(found.output + found.errors == "")
  }
}
