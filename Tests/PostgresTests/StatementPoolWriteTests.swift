import TestSupport
import Testing

@testable import Postgres

@Suite("What a pool's writes leave behind")
struct StatementPoolWriteTests {
  @Test("A write tells the transaction that its row bears; one that is refused leaves nothing open")
  func transaction() throws {
    let place = try Place()
    try place.psql(
      """
      CREATE TABLE t (id int PRIMARY KEY, v int CHECK (v > 0),
        other int UNIQUE DEFERRABLE INITIALLY DEFERRED);
      INSERT INTO t VALUES (1, 1, 1), (2, 1, 2);
      """)
    let writer = PoolRunner(
      place,
      [.init("UPDATE t SET v = $2 WHERE id = $1", 2, .any), .init("UPDATE t SET other = $1", 1, .any)],
      access: .writes)
    for value in ["2", "3"] {
      let rows = try writer.run(0, ["1", value]).get()
      #expect(rows.affected == 1)
      #expect(try place.psql("SELECT xmin FROM t WHERE id = 1") == rows.transaction.map { "\($0)" })
    }
    #expect(try writer.failure(0, ["1", "-1"]).sqlState == "23514")
    #expect(try writer.failure(1, ["7"]).sqlState == "23505", "which only the commit finds out")
    #expect(
      try place.psql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'")
        == "0")
    #expect(try writer.run(0, ["1", "4"]).get().affected == 1)
    #expect(try place.psql("SELECT string_agg(v || '/' || other, ' ' ORDER BY id) FROM t") == "4/1 1/2")
  }

  @Test("A statement whose plan no longer fits is prepared anew, and written once")
  func altered() throws {
    let place = try Place()
    try place.psql("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)")
    let writer = PoolRunner(
      place, [.init("UPDATE t SET v = v + 1 WHERE id = $1 RETURNING *", 1, .any)], access: .writes)
    #expect(try writer.run(0, ["1"]).get().affected == 1)
    try place.psql("ALTER TABLE t ADD more text")
    #expect(try writer.run(0, ["1"]).get().affected == 1)
    #expect(try place.psql("SELECT v FROM t") == "3")
  }

  @Test("A statement that changes no row leaves nothing behind, whatever else it has written")
  func noRow() throws {
    let place = try Place()
    try place.psql("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE log (v int)")
    let writer = PoolRunner(
      place,
      [
        .init(
          "WITH noted AS (INSERT INTO log VALUES ($2)) UPDATE t SET v = $2 WHERE id = $1", 2, .any)
      ], access: .writes)
    let rows = try writer.run(0, ["1", "2"]).get()
    #expect(rows.affected == 0 && rows.transaction == nil)
    #expect(try place.psql("SELECT count(*) FROM log") == "0")
    try place.psql("INSERT INTO t VALUES (1, 1)")
    #expect(try writer.run(0, ["1", "2"]).get().affected == 1)
    #expect(try place.psql("SELECT count(*) FROM log") == "1")
  }

  @Test(
    "Whatever code a connection ends with while it writes, it is not known whether the write has happened")
  func ended() throws {
    let place = try Place()
    try place.psql(
      """
      CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1);
      CREATE FUNCTION ended() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5); RETURN NULL; END $$;
      CREATE CONSTRAINT TRIGGER ended AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION ended();
      """)
    let writer = PoolRunner(place, [.init("UPDATE t SET v = $2 WHERE id = $1", 2, .any)], access: .writes)
    #expect(try writer.failure(0, ["1", "2"]).sqlState == "08007")
    #expect(try place.psql("SELECT v FROM t") == "1")
  }
}
