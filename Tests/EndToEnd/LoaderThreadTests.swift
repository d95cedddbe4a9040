import Configuration
import Server
import Synchronization
import TestSupport
import Testing

@testable import nearside

@Suite("The thread that runs SQL for the event loop")
struct LoaderThreadTests {
  /// What a loader has told.
  private final class Outcomes: Sendable {
    private let heard = Mutex<[SQLOutcome]>([])

    func hear(_ outcome: SQLOutcome) { heard.withLock { $0.append(outcome) } }
    var all: [SQLOutcome] { heard.withLock { $0 } }

    func of(_ id: UInt64) throws -> Result<SQLRows, SQLFailure> {
      try eventually("job \(id) ends") {
        all.first { $0.id == id }
      } until: {
        $0 != nil
      }?.result ?? .failure(SQLFailure(kind: .statement, sqlState: "", sentence: ""))
    }
  }

  private let server: PostgresServer

  init() throws {
    server = try PostgresServer()
    try server.psql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one')")
  }

  private static let second: UInt64 = 1_000_000_000
  private static let statements = [
    SQLStatement(
      sql: "SELECT v FROM t WHERE id = $1", parameterCount: 1, mode: .load(as: .string), timeout: second),
    SQLStatement(
      sql: "INSERT INTO t VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = $2", parameterCount: 2,
      mode: .write, timeout: second),
    SQLStatement(
      sql: "SELECT pg_sleep($1::float8)::text", parameterCount: 1, mode: .load(as: .string),
      timeout: 60 * second),
    SQLStatement(sql: "SELECT * FROM t", parameterCount: 0, mode: .load(as: .hash), timeout: second),
    SQLStatement(sql: "SELECT v FROM t", parameterCount: 0, mode: .load(as: .list), timeout: second),
  ]

  private func loader(_ outcomes: Outcomes, replica: PostgresServer? = nil) throws -> LoaderThread {
    let url = Secret(server.url())
    let settings = PostgresSettings(
      url: url, password: nil, publication: "p", slot: SlotSettings(name: "s", mode: .durable),
      loader: replica.map {
        LoaderSettings(url: Secret($0.url()), password: nil, connections: 2, isReplica: true)
      } ?? LoaderSettings(url: url, password: nil, connections: 2))
    return try #require(
      LoaderThread(settings, statements: Self.statements) { outcomes.hear($0) }, "the thread starts")
  }

  private func job(_ id: UInt64, _ statement: Int, _ parameters: [String] = []) -> SQLJob {
    SQLJob(id: id, statement: statement, parameters: parameters.map { Array($0.utf8) })
  }

  @Test("Loads and writes of several threads are all answered once")
  func runs() throws {
    let outcomes = Outcomes()
    let loader = try loader(outcomes)
    let threads = (0..<4).map { thread in
      Worker.start("submitter") {
        for number in 0..<100 {
          loader.submit(
            SQLJob(id: UInt64(thread * 100 + number), statement: 0, parameters: [Array("1".utf8)]))
        }
      }
    }
    for thread in threads { try #require(thread).join() }
    loader.submit(job(1000, 1, ["2", "two"]))
    #expect(try outcomes.of(1000).get().affected == 1)
    loader.submit(job(1001, 0, ["2"]))
    #expect(try outcomes.of(1001).get().values == [Array("two".utf8)])
    loader.submit(job(1002, 3))
    #expect(try outcomes.of(1002) == .failure(Self.manyRows))
    loader.submit(job(1003, 4))
    #expect(try outcomes.of(1003).get().height == 2)
    try eventually("all are answered") { outcomes.all.count >= 404 }
    loader.stop()
    #expect(outcomes.all.count == 404)
    #expect(Set(outcomes.all.map(\.id)).count == 404)
    #expect(try connections() == "0")
  }

  private static let manyRows = SQLFailure(
    kind: .statement, sqlState: "21000",
    sentence: "The statement gave more than one row for one hash. Add LIMIT 1, or name the row by its key.")

  private func connections() throws -> String {
    try eventually("the server has noticed") {
      try server.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'nearside %'")
    } until: {
      $0 == "0"
    }
  }

  @Test("What is under way at the end is answered, unless it takes longer than the end may")
  func stops() throws {
    let outcomes = Outcomes()
    let short = try loader(outcomes)
    short.submit(job(1, 2, ["0.3"]))
    short.stop()
    #expect(outcomes.all.map(\.id) == [1])
    #expect(try outcomes.of(1).get().height == 1)

    let long = try loader(outcomes)
    long.submit(job(2, 2, ["30"]))
    try eventually("it runs") {
      try server.psql(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'")
        == "1"
    }
    let clock = ContinuousClock()
    #expect(clock.measure { long.stop(drain: Self.second / 10) } < .seconds(5))
    #expect(outcomes.all.count == 1)
  }

  @Test("With a replica loads go there, and writes to the primary")
  func replica() throws {
    let standby = try PostgresServer(standbyOf: server)
    let outcomes = Outcomes()
    let loader = try loader(outcomes, replica: standby)
    loader.submit(job(1, 0, ["1"]))
    #expect(try outcomes.of(1).get().values == [Array("one".utf8)])
    #expect(outcomes.all[0].replayed != nil)
    loader.submit(job(2, 1, ["1", "changed"]))
    #expect(try outcomes.of(2).get().affected == 1)
    #expect(outcomes.all[1].replayed == nil)
    #expect(try server.psql("SELECT v FROM t") == "changed")
    loader.stop()
  }
}
