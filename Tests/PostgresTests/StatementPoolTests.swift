import Glibc
import Invalidation
import TestSupport
import Testing

@testable import Postgres

@Suite("A pool of connections")
struct StatementPoolTests {
  @Test("A statement is prepared once a connection, however often it runs")
  func preparedOnce() throws {
    let runner = PoolRunner(
      try Place(),
      [
        .init("SELECT $1::int", 1), .init("SELECT $1::int AS a, 2 AS b", 1),
        .init(
          """
          SELECT string_agg(name || ' ' || (generic_plans + custom_plans), ', ' ORDER BY name)
          FROM pg_prepared_statements WHERE name < 'nearside_2'
          """),
      ])
    for number in 1...30 { #expect(try runner.values(0, [String(number)]) == [String(number)]) }
    for number in 1...3 { #expect(try runner.values(1, [String(number)]).count == 1) }
    #expect(try runner.values(2) == ["nearside_0 30, nearside_1 3"])
    #expect(runner.standing == 1)
  }

  @Test("10,000 jobs over 4 connections all end once, with their own rows")
  func many() throws {
    let place = try Place()
    let runner = PoolRunner(
      place,
      [.init("SELECT $1::int * 2", 1), .init("SELECT pg_backend_pid()"), .init("SELECT 1/$1::int", 1)],
      connections: 4, waiting: 10_000)
    for number in 0..<10_000 {
      switch number % 10 {
      case 0: runner.submit(1)
      case 1: runner.submit(2, ["0"])
      default: runner.submit(0, [String(number)])
      }
    }
    try runner.turn("all have ended", within: 60) { runner.ended.count == 10_000 }
    var backends: Set<[UInt8]> = []
    for (id, completion) in runner.ended {
      let number = Int(id) - 1
      switch completion.result {
      case .success(let rows) where number % 10 == 0: backends.insert(try #require(rows.values[0]))
      case .success(let rows) where number % 10 > 1: #expect(rows.values == [Array(String(number * 2).utf8)])
      case .failure(let failure) where number % 10 == 1: #expect(failure.sqlState == "22012")
      default: Issue.record("job \(number): \(completion)")
      }
    }
    #expect(backends.count == 4)
    #expect(runner.isIdle)
    let names = "SELECT count(*) || ' ' || min(application_name) FROM pg_stat_activity WHERE datname = "
    #expect(try place.psql(names + "'\(place.database)' AND pid <> pg_backend_pid()") == "4 nearside loader")
  }

  @Test("Jobs beyond the bound are refused at once, and those that wait too long are never sent")
  func bounded() throws {
    let place = try Place()
    try place.psql("CREATE TABLE ran (id int)")
    let runner = PoolRunner(
      place,
      [
        .init("SELECT pg_sleep(0.5)", 0, .any),
        .init("INSERT INTO ran VALUES ($1)", 1, .any, timeout: 100_000_000),
      ], access: .writes, waiting: 2)
    try runner.turn("a connection stands") { runner.standing == 1 }
    let slow = runner.submit(0)
    runner.turn(until: 0)
    let first = runner.submit(1, ["1"])
    let second = runner.submit(1, ["2"])
    let third = try runner.failure(1, ["3"])
    #expect(third.kind == .overloaded)
    #expect(try runner.completion(first).result == .failure(.waitedTooLong))
    #expect(try runner.completion(second).result == .failure(.waitedTooLong))
    #expect(runner.ended[slow] == nil, "they did not wait for a connection")
    #expect(try runner.completion(slow).took >= 500_000_000)
    #expect(try runner.run(1, ["4"]).get().affected == 1)
    #expect(try place.psql("SELECT string_agg(id::text, ',') FROM ran") == "4")
  }

  @Test("A statement that takes too long is ended by the server, and the connection goes on")
  func timeout() throws {
    let place = try Place()
    let runner = PoolRunner(
      place,
      [
        .init("SELECT pg_sleep(60)::text", timeout: 100_000_000),
        .init(
          "SELECT current_setting('statement_timeout') || ' ' || pg_backend_pid()", timeout: 2_000_000_001),
        .init("SELECT current_setting('statement_timeout') || ' ' || pg_backend_pid()", timeout: 100_000_000),
      ])
    let before = try runner.values(2)
    let failure = try runner.failure(0)
    #expect(failure.kind == .timedOut)
    #expect(failure.sqlState == "57014")
    let active =
      "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(60)%'"
    #expect(try place.psql(active) == "0")
    let pid = try #require(before[0]).split(separator: " ")[1]
    #expect(before == ["100ms \(pid)"])
    #expect(try runner.values(1) == ["2001ms \(pid)"])
    #expect(try runner.values(2) == ["100ms \(pid)"])
  }

  @Test("A server that is silent loses its connections, not the jobs")
  func silence() throws {
    let place = try Place(PostgresServer())
    let runner = PoolRunner(
      place, [.init("SELECT $1::int", 1, timeout: 100_000_000), .init("SELECT 'back'")])
    #expect(try runner.values(0, ["1"]) == ["1"])
    place.server.pause()
    let job = runner.submit(0, ["2"])
    let failure = try runner.failure(0, ["3"])
    #expect(failure.kind == .timedOut)
    #expect(try runner.completion(job).result == .failure(.silent(writes: false)))
    #expect(runner.standing == 0)
    place.server.resume()
    try runner.turn("it answers again") { try runner.run(1) == .success(text("back", "?column?")) }
  }

  @Test("While the server is down jobs fail at once; once it is back they run, on new connections")
  func restart() throws {
    let place = try Place(PostgresServer())
    let runner = PoolRunner(place, [.init("SELECT $1::int", 1)], connections: 2)
    #expect(try runner.values(0, ["1"]) == ["1"])
    try place.server.stop()
    try runner.turn("the loss is noticed, and that nobody is there") {
      runner.standing == 0 && runner.trouble != nil
    }
    let began = monotonicNanoseconds()
    for _ in 0..<100 { #expect(try runner.failure(0, ["2"]).sqlState == "08001") }
    let failure = try runner.failure(0, ["2"])
    #expect(failure.kind == .unreachable)
    #expect(failure.sentence.hasPrefix("There is no connection to PostgreSQL: PostgreSQL cannot be reached"))
    #expect(monotonicNanoseconds() - began < 1_000_000_000)
    try place.server.start()
    try runner.turn("a connection stands") { runner.standing > 0 }
    #expect(runner.trouble == nil)
    #expect(try runner.values(0, ["3"]) == ["3"])
  }

  @Test("Jobs do not wait long for a first connection that is not made")
  func patience() throws {
    let place = try Place(PostgresServer())
    place.server.pause()
    let runner = PoolRunner(place, [.init("SELECT 1")])
    let failure = try runner.failure(0)
    #expect(failure.sqlState == "08001")
    #expect(failure.sentence == "There is no connection to PostgreSQL yet.")
    #expect(runner.trouble == nil, "the attempt is still under way")
    place.server.resume()
    try runner.turn("a connection stands") { runner.standing == 1 }
    #expect(try runner.values(0) == ["1"])
  }

  @Test("One connection is enough until jobs wait for more")
  func grows() throws {
    let runner = PoolRunner(
      try Place(), [.init("SELECT 1"), .init("SELECT pg_sleep(0.2)::text")], connections: 3)
    for _ in 0..<20 { #expect(try runner.values(0) == ["1"]) }
    #expect(runner.standing == 1)
    let slow = [1, 1, 1, 1].map { runner.submit($0) }
    try runner.turn("all have ended") { slow.allSatisfy { runner.ended[$0] != nil } }
    #expect(runner.standing == 3)
  }

  @Test(
    "A write whose server dies is said to be unknown; a load is said to be lost; an ended backend is named")
  func lost() throws {
    let place = try Place(PostgresServer())
    let statement = StatementPool.Statement("SELECT pg_sleep(60)", 0, .any, timeout: 60_000_000_000)
    let reader = PoolRunner(place, [statement])
    let writer = PoolRunner(place, [statement], access: .writes)
    let under = "FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'"
    func begin(_ runner: PoolRunner, _ count: Int) throws -> UInt64 {
      let job = runner.submit(0)
      try runner.turn("it runs") { try place.psql("SELECT count(*) " + under) == String(count) }
      return job
    }
    let ended = try begin(reader, 1)
    try place.psql("SELECT pg_terminate_backend(pid) " + under)
    let named = try failure(of: reader.completion(ended))
    #expect(named.sqlState == "57P01")
    #expect(named.kind == .unreachable)
    // The client hears of its end before it has left pg_stat_activity, where it would pass for the next one.
    try reader.turn("the backend is gone") { try place.psql("SELECT count(*) " + under) == "0" }

    let load = try begin(reader, 1)
    let write = try begin(writer, 2)
    place.server.kill()
    #expect(try failure(of: reader.completion(load)).sqlState == "08006")
    let unknown = try failure(of: writer.completion(write))
    #expect(unknown.sqlState == "08007")
    #expect(unknown.kind == .unreachable)
    #expect(unknown.sentence.contains("not known"))
  }

  @Test("A table that is altered, and statements that are dropped, only cost a preparation")
  func altered() throws {
    let place = try Place()
    try place.psql("CREATE TABLE t (v int); INSERT INTO t VALUES (1)")
    let runner = PoolRunner(place, [.init("SELECT * FROM t")], connections: 1)
    #expect(try runner.values(0) == ["1"])
    try place.psql("ALTER TABLE t ALTER COLUMN v TYPE text USING v || '!'")
    #expect(try runner.values(0) == ["1!"])
    try place.psql("ALTER TABLE t ADD COLUMN w text DEFAULT 'new'")
    #expect(try runner.values(0) == [#"{"v":"1!","w":"new"}"#])
    try place.psql("ALTER TABLE t ADD COLUMN x int DEFAULT 3")
    #expect(try runner.values(0) == [#"{"v":"1!","w":"new","x":3}"#])
    try place.psql("ALTER TABLE t RENAME TO s")
    #expect(try runner.failure(0).sqlState == "42P01")
    try place.psql("ALTER TABLE s RENAME TO t")
    #expect(try runner.values(0) == [#"{"v":"1!","w":"new","x":3}"#])

    let writer = PoolRunner(
      place,
      [.init("DEALLOCATE ALL", 0, .any), .init("UPDATE t SET x = x + 1 RETURNING x", 0, .any)],
      access: .writes)
    #expect(try writer.values(1) == ["4"])
    #expect(try writer.run(0).get().height == 0)
    #expect(try writer.values(1) == ["5"], "it ran once")
  }

  @Test("A connection learns of a change of columns that another one has not met")
  func alteredElsewhere() throws {
    let place = try Place()
    try place.psql("CREATE TABLE t (v int); INSERT INTO t VALUES (1)")
    let runner = PoolRunner(
      place, [.init("SELECT * FROM t"), .init("SELECT pg_sleep(0.3)::text")], connections: 2)
    #expect(try runner.values(0) == ["1"])
    try place.psql("ALTER TABLE t ADD COLUMN w int DEFAULT 2")
    // The first connection is busy, so the job goes to one that has never described it.
    let slow = runner.submit(1)
    runner.turn(until: 0)
    #expect(try runner.values(0) == [#"{"v":1,"w":2}"#])
    #expect(runner.ended[slow] == nil)
  }

  @Test("A replica's rows come with what it had replayed before; a primary's with nothing")
  func replica() throws {
    let place = try Place(PostgresServer())
    try place.psql("CREATE TABLE t (v int); INSERT INTO t VALUES (1)")
    let standby = try PostgresServer(standbyOf: place.server)
    let url = standby.url(database: place.database)
    let statements: [StatementPool.Statement] = [.init("SELECT v FROM t")]
    let runner = PoolRunner(url, statements, access: .reads(replica: true))
    func run() throws -> (values: [[UInt8]?], replayed: LSN?) {
      let completion = try runner.completion(runner.submit(0))
      return (try completion.result.get().values, completion.replayed.map { LSN($0) })
    }
    func position() throws -> LSN {
      try #require(LSN(try place.psql("SELECT pg_current_wal_lsn()")))
    }
    let one = try position()
    try runner.turn("it has replayed the row") { try run().replayed ?? .zero >= one }
    #expect(try run().values == [Array("1".utf8)])

    try standby.psql("SELECT pg_wal_replay_pause()")
    try eventually("it rests") { try standby.psql("SELECT pg_get_wal_replay_pause_state()") == "paused" }
    try place.psql("UPDATE t SET v = 2")
    let two = try position()
    let behind = try run()
    #expect(behind.values == [Array("1".utf8)])
    #expect(try #require(behind.replayed) < two)
    try standby.psql("SELECT pg_wal_replay_resume()")
    try runner.turn("it has replayed the change") {
      let seen = try run()
      let isNew = seen.values == [Array("2".utf8)]
      if try #require(seen.replayed) >= two { #expect(isNew) }
      return isNew
    }

    let strict = PoolRunner(url, statements)
    let failure = try strict.failure(0)
    #expect(failure.sqlState == "08001")
    #expect(failure.sentence.contains("replica"))
    let trouble = try #require(strict.trouble)
    #expect(trouble.contains("postgres.loader.replica"))

    let primary = PoolRunner(place, statements, access: .reads(replica: true))
    #expect(try primary.completion(primary.submit(0)).replayed == nil)
  }

  private func text(_ value: String, _ column: String) -> StatementPool.Rows {
    StatementPool.Rows(columns: [column], height: 1, values: [Array(value.utf8)], affected: 0)
  }

  private func failure(of completion: StatementPool.Completion) throws -> StatementPool.Failure {
    guard case .failure(let failure) = completion.result else { throw HarnessError("no failure") }
    return failure
  }
}
