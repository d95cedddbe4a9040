import Foundation
import Testing

@testable import Configuration

@Suite("Strategies of a cache")
struct StrategyTests {
  /// The rule for `k:{id}` with these members, and Redis beside it.
  private func rule(_ members: String) throws -> CacheRule {
    let reading = read(
      """
      {"namespace": "s", "redis": "redis://h", "postgres": {"loader": {"timeout": "3s"}},
      "tables": {"t": "k:{id}"}, "caches": {"k:{id}": {\(members)}}}
      """)
    #expect(summary(reading.diagnostics) == [])
    return try #require(reading.settings?.caches.first)
  }

  private let second: UInt64 = 1_000_000_000

  @Test("without any, values are the application's business")
  func none() throws {
    let rule = try rule("")
    #expect(rule.ttl == nil && rule.jitter == 0 && rule.negative == nil && rule.load == nil)
    #expect(rule.write == .around && rule.onChange == .forget && rule.failSafe == nil)
    #expect(rule.stampede == StampedeSettings(coalesce: nil, lock: nil, early: nil, wait: second))
  }

  @Test("times, shares and what may be false")
  func times() throws {
    var rule = try rule(
      #""ttl": "15m", "jitter": "2.5%", "negative": "30s", "load": "SELECT 1", "onChange": "refresh", "failSafe": "1m""#
    )
    #expect(rule.ttl == 900 * second && rule.jitter == 0.025 && rule.negative == 30 * second)
    #expect(rule.onChange == .refresh && rule.failSafe == 60 * second)
    rule = try self.rule(
      #""negative": false, "failSafe": false, "stampede": {"lock": false, "early": false}"#)
    #expect(rule.negative == nil && rule.failSafe == nil)
    #expect(rule.stampede == StampedeSettings())
    #expect(try self.rule(#""ttl": "1s", "jitter": "100%""#).jitter == 1)
  }

  @Test("a load is a statement or an object, and its time is the loader's unless it says otherwise")
  func load() throws {
    var load = try #require(try rule(#""load": "SELECT a FROM t WHERE id = :id""#).load)
    #expect(load.sql.text == "SELECT a FROM t WHERE id = $1" && load.sql.names == ["id"])
    #expect(load.shape == .string && load.timeout == 3 * second)
    load = try #require(
      try rule(#""load": {"sql": "SELECT $$$$ :id $$$$", "as": "set", "timeout": "1s"}"#).load)
    #expect(load.sql.text == "SELECT $$ :id $$" && load.sql.names == [])
    #expect(load.shape == .set && load.timeout == second)
  }

  @Test("a write is around, through or behind")
  func write() throws {
    #expect(try rule(#""write": "around""#).write == .around)
    #expect(try rule(#""write": {"policy": "around"}"#).write == .around)
    let through = try rule(
      #""write": {"policy": "through", "sql": "UPDATE t SET v = :value, x = :ttl WHERE id = :id"}"#
    ).write
    #expect(through.policy == .through)
    #expect(through.sql?.text == "UPDATE t SET v = $1, x = $2 WHERE id = $3")
    #expect(through.sql?.names == ["value", "ttl", "id"])
    guard case .behind(let usual) = try rule(#""write": {"policy": "behind", "sql": "SELECT :id"}"#).write,
      case .behind(let other) = try rule(
        #""write": {"policy": "behind", "sql": "SELECT :id", "delay": "1s", "batch": 7, "attempts": 1, "most": 7, "wait": "2s"}"#
      ).write
    else {
      Issue.record("not behind")
      return
    }
    #expect(usual == BehindSettings(sql: usual.sql))
    #expect((usual.delay, usual.batch, usual.attempts, usual.most) == (500_000_000, 200, 5, 10_000))
    #expect(usual.wait == second)
    #expect(
      other == BehindSettings(sql: other.sql, delay: second, batch: 7, attempts: 1, most: 7, wait: 2 * second)
    )
  }

  @Test("early is a factor, and true is 1")
  func stampede() throws {
    func early(_ text: String) throws -> Double? {
      try rule(#""ttl": "1m", "load": "SELECT 1", "stampede": {"early": \#(text)}"#).stampede.early
    }
    #expect(try early("true") == 1 && early("2") == 2 && early("0.5") == 0.5 && early("false") == nil)
    let all = try rule(
      #""ttl": "1m", "load": "SELECT 1", "stampede": {"coalesce": false, "lock": "3s", "early": 1, "wait": "2s"}"#
    )
    #expect(
      all.stampede == StampedeSettings(coalesce: false, lock: 3 * second, early: 1, wait: 2 * second))
  }

  @Test("the loader is at the primary, with its password, unless it has its own url")
  func loader() throws {
    func loader(_ postgres: String) throws -> LoaderSettings {
      let reading = read(
        "{\"postgres\": \(postgres), \"tables\": {\"t\": \"k\"}}", environment: ["DATABASE_URL": "dbname=d"])
      #expect(summary(reading.diagnostics) == [])
      return try #require(reading.settings?.postgres.loader)
    }
    for text in [#""dbname=a""#, #"{"url": "dbname=a", "password": "p"}"#] {
      let usual = try loader(text)
      #expect(
        usual.url.exposed == "dbname=a" && usual.password?.exposed == (text.contains("p\"}") ? "p" : nil))
      #expect(usual.connections == 4 && usual.timeout == 2 * second && !usual.isReplica)
    }
    #expect(try loader(#"{"loader": {}}"#).url.exposed == "dbname=d")
    #expect(try loader(#"{"url": "dbname=a", "loader": {"url": "${X:-}"}}"#).url.exposed == "dbname=a")
    var own = try loader(#"{"password": "p", "loader": "dbname=b"}"#)
    #expect(own.url.exposed == "dbname=b" && own.password == nil)
    own = try loader(
      #"{"password": "p", "loader": {"url": "dbname=b", "password": "q", "connections": 64, "timeout": "1s", "replica": true}}"#
    )
    #expect(own.url.exposed == "dbname=b" && own.password?.exposed == "q")
    #expect(own.connections == 64 && own.timeout == second && own.isReplica)
  }

  @Test("channels are a list of names")
  func subscribe() {
    let reading = read(
      #"{"namespace": "s", "redis": "redis://h", "subscribe": ["a", "b:c"], "tables": {"t": "k"}}"#)
    #expect(reading.settings?.subscribe == ["a", "b:c"])
    #expect(read(#"{"tables": {"t": "k"}}"#).settings?.subscribe == [])
  }
}
