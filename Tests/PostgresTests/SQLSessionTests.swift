import Configuration
import Glibc
import TestSupport
import Testing

@testable import Postgres

@Suite("SQL sessions")
struct SQLSessionTests {
  @Test("Parameters, NULL and column names come through")
  func query() throws {
    let session = try Place().sql()
    let rows = try session.query(
      "SELECT $1::int + 1 AS n, $2::text AS nothing, $3 AS text, true AS yes", ["41", nil, "it's \"ü\""])
    #expect(rows.columns == ["n", "nothing", "text", "yes"])
    #expect(rows.count == 1)
    #expect(rows[0].integer("n") == 42)
    #expect(rows[0]["nothing"] == nil)
    #expect(rows[0][2] == "it's \"ü\"")
    #expect(rows[0].isTrue("yes"))
    #expect(try session.query("SELECT 1 WHERE false").isEmpty)
  }

  @Test("An error of a statement leaves the session usable and says what and where")
  func statementError() throws {
    let place = try Place()
    let session = try place.sql()
    let error = failure { _ = try session.query("SELECT * FROM public.nowhere") }
    #expect(error?.sqlState == "42P01")
    #expect(error?.description.contains("relation \"public.nowhere\" does not exist") == true)
    #expect(error?.description.contains("database \(place.database) on /") == true)
    #expect(try session.query("SELECT 1")[0][0] == "1")
    // One statement at a time, so that a parameter can never bring a second one along.
    #expect(failure { _ = try session.query("SELECT 1; SELECT 2") }?.sqlState == "42601")
  }

  @Test("An event loop can send, poll and collect")
  func asynchronous() throws {
    var session = try Place().sql()
    for text in ["SELECT pg_sleep(0.05), 'a' AS x", "SELECT 1/0", "SELECT repeat('b', 300000) AS x"] {
      var unsent = try session.send(text)
      let isBusy = session.isBusy
      #expect(isBusy)
      var rows: Rows?
      do {
        while rows == nil {
          #expect(
            waitForSocket(
              session.descriptor, alsoWritable: unsent, deadline: monotonicNanoseconds() + 5_000_000_000))
          unsent = try session.consume()
          rows = try session.result()
        }
      } catch {
        #expect(error.sqlState == "22012")
      }
      let isIdle = !session.isBusy
      #expect(isIdle)
      #expect(try session.result() == nil)
      if text.contains("sleep") { #expect(rows?[0]["x"] == "a") }
      if text.contains("repeat") { #expect(rows?[0]["x"]?.count == 300_000) }
    }
  }

  @Test("A statement that takes too long is given up and cancelled on the server")
  func timeout() throws {
    let place = try Place()
    let session = try place.sql()
    let error = failure { _ = try session.query("SELECT pg_sleep(60)", timeout: 50_000_000) }
    #expect(error?.kind == .timedOut)
    try eventually("the statement ends") {
      try place.psql(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND state = 'active'")
        == "0"
    }
  }

  @Test("A session that the server ends is reported as lost")
  func lost() throws {
    let place = try Place()
    let session = try place.sql()
    try place.psql("SELECT pg_terminate_backend(\(session.backendPID))")
    let error = failure { _ = try session.query("SELECT 1") }
    #expect(error?.isTemporary == true)
    #expect(failure { _ = try session.query("SELECT 1") }?.kind == .connectionLost)
  }

  @Test("Tables must be named with their schema, and nothing shadows the catalogue")
  func searchPath() throws {
    let place = try Place()
    try place.psql("CREATE TABLE mine (); CREATE TABLE pg_class (x int);")
    try place.server.psql("ALTER DATABASE \(place.database) SET search_path = public, pg_catalog")
    let session = try place.sql()
    #expect(failure { _ = try session.query("SELECT * FROM mine") }?.sqlState == "42P01")
    #expect(try session.query("SELECT oid FROM pg_class LIMIT 1").count == 1)
  }

  @Test("The settings that a key could depend on are pinned against hostile defaults")
  func pinned() throws {
    let place = try Place()
    try place.psql("CREATE ROLE hostile_\(place.database) LOGIN REPLICATION;")
    for (target, zone) in [
      ("DATABASE \(place.database)", "Asia/Tokyo"), ("ROLE hostile_\(place.database)", "CET"),
    ] {
      for setting in [
        "datestyle = 'German, DMY'", "intervalstyle = 'sql_standard'", "timezone = '\(zone)'",
        "extra_float_digits = -15", "bytea_output = 'escape'", "client_encoding = 'LATIN1'",
      ] { try place.psql("ALTER \(target) SET \(setting)") }
    }
    let wanted = [
      "intervalstyle": "postgres", "timezone": "UTC", "extra_float_digits": "1",
      "bytea_output": "hex", "client_encoding": "UTF8",
    ]
    let session = try place.sql(user: "hostile_\(place.database)")
    let stream = try place.stream(user: "hostile_\(place.database)")
    for (name, value) in wanted {
      let shown = try session.query("SHOW \(name)")[0][0]
      #expect(shown == value, "\(name)")
      #expect(try stream.show(name) == value, "\(name)")
    }
    // What follows the comma only matters for reading dates.
    #expect(try session.query("SHOW datestyle")[0][0]?.hasPrefix("ISO, ") == true)
    #expect(try stream.show("datestyle")?.hasPrefix("ISO, ") == true)
    #expect(try stream.show("wal_sender_timeout") == "5s")
    #expect(try stream.show("application_name") == "nearside")
    // Without the pins it would have been otherwise.
    #expect(
      try place.server.psql("SHOW datestyle", database: place.database, user: "hostile_\(place.database)")
        == "German, DMY")
  }

  @Test("Variables of libpq that outrank options do not get through either")
  func environment() async throws {
    let place = try Place()
    let url = place.server.url(database: place.database)
    await #expect(processExitsWith: .success) { [url = url as String] in
      setenv("PGTZ", "Asia/Tokyo", 1)
      setenv("PGDATESTYLE", "German", 1)
      setenv("PGCLIENTENCODING", "LATIN1", 1)
      setenv("PGOPTIONS", "-c statement_timeout=77s", 1)
      let settings = PostgresSettings(
        url: Secret(url), password: nil, publication: "p", slot: SlotSettings(name: "s", mode: .durable))
      let session = try SQLSession(settings)
      let stream = try ReplicationStream(settings)
      for (name, value) in [
        ("timezone", "UTC"), ("datestyle", "ISO, DMY"), ("client_encoding", "UTF8"),
        ("statement_timeout", "77s"),
      ] {
        #expect(try session.query("SHOW \(name)")[0][0] == value)
        #expect(try stream.show(name) == value)
      }
    }
  }
}

extension ReplicationStream {
  /// A walsender of a database understands SQL, too.
  func show(_ name: String) throws -> String? { try connection.run("SHOW \(name)", nil, .query)[0][0] }
}
