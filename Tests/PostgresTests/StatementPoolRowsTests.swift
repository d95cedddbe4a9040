import TestSupport
import Testing

@testable import Postgres

@Suite("What a pool's statements give")
struct StatementPoolRowsTests {
  @Test(
    "A single column comes as PostgreSQL prints it, whatever its type and the session's defaults",
    arguments: [
      ("SELECT $1::int + 1", "41", "42"),
      ("SELECT $1::uuid", "7B9E0E0A-0000-4000-8000-00000000000A", "7b9e0e0a-0000-4000-8000-00000000000a"),
      ("SELECT $1::jsonb", "{\"b\":1,  \"a\":[1,2]}", "{\"a\": [1, 2], \"b\": 1}"),
      ("SELECT $1::bytea", "\\x00ff10", "\\x00ff10"), ("SELECT $1::float8 / 3", "1", "0.3333333333333333"),
      ("SELECT $1::timestamptz", "2024-02-03 04:05:06+02", "2024-02-03 02:05:06+00"),
      ("SELECT $1::bool", "true", "t"), ("SELECT $1", "it's \"ü\"; --", "it's \"ü\"; --"),
      ("SELECT $1::text", "", ""),
    ])
  func types(sql: String, parameter: String, printed: String) throws {
    let place = try Place()
    try place.psql(
      """
      ALTER DATABASE \(place.database) SET timezone TO 'Asia/Tokyo';
      ALTER DATABASE \(place.database) SET bytea_output TO 'escape';
      ALTER DATABASE \(place.database) SET datestyle TO 'German';
      """)
    #expect(try PoolRunner(place, [.init(sql, 1)]).values(0, [parameter]) == [printed])
  }

  @Test("A parameter takes the type of the column that it meets, and an index serves")
  func typedParameter() throws {
    let place = try Place()
    try place.psql(
      """
      CREATE TABLE u (id bigint PRIMARY KEY, name text);
      INSERT INTO u VALUES (7, 'seven'), (77, NULL);
      """)
    let runner = PoolRunner(place, [.init("SELECT name FROM u WHERE id = $1", 1)])
    #expect(try runner.values(0, ["7"]) == ["seven"])
    #expect(try runner.values(0, ["007"]) == ["seven"])
    #expect(try runner.run(0, ["77"]).get().values == [nil])
    #expect(try runner.run(0, ["78"]).get().height == 0)
    #expect(try runner.run(0, [nil]).get().height == 0)
  }

  @Test("Several columns come as one JSON object, whatever their names and however the statement ends")
  func json() throws {
    let place = try Place()
    let runner = PoolRunner(
      place,
      [
        .init("SELECT 1 AS a, NULL::text AS b, '{\"x\": 1}'::jsonb AS c, $1 AS r -- as it was", 1),
        .init("SELECT 1 AS \"nearside row\", 2 AS row WHERE $1::int > 0", 1),
        .init("WITH w AS (SELECT 5 AS n) SELECT n, n + 1 AS m FROM w"),
      ])
    #expect(try runner.values(0, ["\""]) == [#"{"a":1,"b":null,"c":{"x": 1},"r":"\""}"#])
    #expect(try runner.values(1, ["1"]) == [#"{"nearside row":1,"row":2}"#])
    #expect(try runner.run(1, ["0"]).get().height == 0)
    #expect(try runner.values(2) == [#"{"n":5,"m":6}"#])
  }

  @Test("More than one row for one value is a failure that names the way out")
  func manyRows() throws {
    let runner = PoolRunner(
      try Place(),
      [
        .init("SELECT generate_series(1, $1::int)", 1), .init("SELECT n, n FROM generate_series(1, 2) n"),
        .init("SELECT generate_series(1, 2)", 0, .fields),
      ])
    let failure = try runner.failure(0, ["2"])
    #expect(failure.kind == .statement)
    #expect(failure.sqlState == "21000")
    #expect(failure.sentence.contains("jsonb_agg"))
    #expect(try runner.values(0, ["1"]) == ["1"])
    #expect(try runner.failure(1).sqlState == "21000")
    #expect(try runner.failure(2).sqlState == "21000")
  }

  @Test("A hash's fields are the columns that are not NULL")
  func hash() throws {
    let runner = PoolRunner(
      try Place(),
      [.init("SELECT 1 AS id, NULL::text AS gone, 'x' AS name, NULL::int AS also WHERE $1::bool", 1, .fields)]
    )
    let rows = try runner.run(0, ["t"]).get()
    #expect(rows.columns == ["id", "name"])
    #expect(rows.height == 1)
    #expect(try runner.values(0, ["t"]) == ["1", "x"])
    #expect(try runner.run(0, ["f"]).get().height == 0)
  }

  @Test("A list keeps its order and leaves NULL out; two columns are no list")
  func list() throws {
    let runner = PoolRunner(
      try Place(),
      [
        .init("SELECT v FROM (VALUES ('c'), (NULL), ('a'), ('b')) t (v)", 0, .values),
        .init("SELECT 1 WHERE false", 0, .values), .init("SELECT 1, 2", 0, .values),
      ])
    #expect(try runner.values(0) == ["c", "a", "b"])
    #expect(try runner.run(0).get().height == 3)
    #expect(try runner.run(1).get().height == 0)
    #expect(try runner.failure(2).sentence.contains("one column"))
  }

  @Test("What gives no rows cannot be loaded, and a wrong number of parameters is said")
  func unfit() throws {
    let runner = PoolRunner(
      try Place(), [.init("SET work_mem = '8MB'"), .init("SELECT $1::int + $2::int", 1)])
    #expect(try runner.failure(0).sentence.contains("SELECT"))
    let wrong = try runner.failure(1, ["1"])
    #expect(wrong.sqlState == "42P02")
    #expect(wrong.sentence.contains("2 parameters"))
    #expect(try runner.failure(1, ["1", "2"]).sqlState == "42P02")
  }

  @Test("Tables are found as the role finds them, without a schema")
  func searchPath() throws {
    let place = try Place()
    try place.psql(
      """
      CREATE SCHEMA shop;
      CREATE TABLE shop.things AS SELECT 'of the shop' AS v;
      ALTER ROLE postgres IN DATABASE \(place.database) SET search_path TO shop;
      """)
    #expect(try PoolRunner(place, [.init("SELECT v FROM things")]).values(0) == ["of the shop"])
  }

  @Test("A load cannot write, and a write says how many rows it has changed")
  func writes() throws {
    let place = try Place()
    try place.psql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    let insert = "INSERT INTO t VALUES ($1, $2), ($1 + 1, $2) RETURNING id"
    let refused = try PoolRunner(place, [.init(insert, 2)]).failure(0, ["1", "a"])
    #expect(refused.sqlState == "25006")
    #expect(refused.kind == .statement)
    #expect(try place.psql("SELECT count(*) FROM t") == "0")

    let writer = PoolRunner(
      place, [.init(insert, 2, .any), .init("UPDATE t SET v = $1", 1, .any)], access: .writes)
    let rows = try writer.run(0, ["1", nil]).get()
    #expect(rows.affected == 2)
    #expect(rows.height == 2)
    #expect(try writer.run(1, ["x"]).get().affected == 2)
    #expect(try place.psql("SELECT string_agg(v, ',') FROM t") == "x,x")
  }

  @Test("A failure names code and condition, and never a value")
  func failures() throws {
    let place = try Place()
    try place.psql("CREATE TABLE t (v text CONSTRAINT only_one UNIQUE); INSERT INTO t VALUES ('s3cret')")
    let reader = PoolRunner(
      place,
      [
        .init("SELECT $1::int", 1), .init("SELECT * FROM nowhere"), .init("SELEC 1"),
        .init("SELECT 1/$1::int", 1),
      ])
    let cast = try reader.failure(0, ["s3cret"])
    #expect(cast.sqlState == "22P02")
    #expect(
      cast.sentence == "PostgreSQL refused the statement: invalid text representation (SQLSTATE 22P02).")
    let table = try reader.failure(1)
    #expect(
      table.sentence
        == "PostgreSQL refused the statement: undefined table at character 15 of the statement "
        + "(SQLSTATE 42P01).")
    #expect(try reader.failure(2).sqlState == "42601")
    #expect(try reader.failure(3, ["0"]).sentence.contains("division by zero"))
    #expect(try reader.values(0, ["5"]) == ["5"], "an error leaves the connection usable")

    let writer = PoolRunner(place, [.init("INSERT INTO t VALUES ($1)", 1, .any)], access: .writes)
    let twice = try writer.failure(0, ["s3cret"])
    #expect(twice.sqlState == "23505")
    #expect(
      twice.sentence
        == "PostgreSQL refused the statement: unique violation (only_one) (SQLSTATE 23505).")
  }

  @Test("A parameter with a zero byte is refused, not cut off")
  func zeroByte() throws {
    let runner = PoolRunner(try Place(), [.init("SELECT $1", 1)])
    #expect(try runner.failure(0, ["a\0b"]).sqlState == "22021")
    #expect(try runner.values(0, ["a"]) == ["a"])
  }

  @Test("A large value comes through")
  func large() throws {
    let runner = PoolRunner(try Place(), [.init("SELECT repeat($1, 1000000)", 1)])
    #expect(try runner.values(0, ["abc"]).first??.utf8.count == 3_000_000)
  }
}
