import Testing

@testable import Postgres

@Suite("Errors in plain words")
struct DiagnosisTests {
  @Test(
    "A refused connection is told apart by what the server said",
    arguments: [
      (
        "connection to server at \"db\" (10.0.0.1), port 5432 failed: Connection refused\n\tIs the server …",
        PostgresError.Kind.unreachable
      ),
      ("could not translate host name \"db\" to address: Name or service not known", .unreachable),
      ("connection to server at \"db\" (10.0.0.1), port 5432 failed: timeout expired", .unreachable),
      (
        "connection to server at \"db\" (10.0.0.1), port 5432 failed: FATAL:  password authentication failed "
          + "for user \"u\"", .authentication
      ),
      (
        "connection to server on socket \"/s\" failed: FATAL:  database \"shop\" does not exist",
        .authentication
      ),
      (
        "connection to server on socket \"/s\" failed: FATAL:  no pg_hba.conf entry for host "
          + "\"10.0.0.9\", user \"u\", database \"d\", no encryption", .noHostLine
      ),
      ("… failed: FATAL:  must be superuser or replication role to start walsender", .noReplicationRight),
      ("… failed: FATAL:  permission denied to start WAL sender", .noReplicationRight),
      (
        "… failed: FATAL:  number of requested standby connections exceeds max_wal_senders (currently 10)",
        .walSendersExhausted
      ),
      ("… failed: FATAL:  the database system is starting up", .unreachable),
      ("… failed: FATAL:  sorry, too many clients already", .connectionsExhausted),
      ("… failed: FATAL:  unsupported startup parameter: replication", .pooler),
      ("… failed: FATAL:  der Server fährt hoch", .server),
    ])
  func connecting(_ text: String, _ kind: PostgresError.Kind) {
    let error = PostgresError.connecting(text, purpose: .replication, place: "database d on db:5432")
    #expect(error.kind == kind)
    #expect(error.description.contains("database d on db:5432"))
    #expect(!error.description.contains("\n"))
    #expect(error.description.hasSuffix("."))
    #expect(error.fix != nil)
  }

  @Test("A taken slot is told apart by its code, in any language")
  func slotActive() {
    let german = PostgresError.reported(
      sqlState: "55006", message: "Replikations-Slot »s« ist aktiv für PID 4711",
      during: .startingStream(slot: "s"),
      place: "here")
    #expect(german.kind == .slotActive(pid: 4711))
    #expect(german.isTemporary)
  }

  @Test("The same code means different things in different commands")
  func codes() {
    func kind(_ state: String, _ operation: Postgres.Operation, _ message: String = "") -> PostgresError.Kind
    {
      PostgresError.reported(sqlState: state, message: message, during: operation, place: "").kind
    }
    #expect(kind("42704", .startingStream(slot: "s")) == .slotMissing)
    #expect(kind("42704", .streaming(publication: "p")) == .publicationMissing)
    #expect(kind("42704", .query) == .server)
    #expect(kind("42710", .creatingSlot("s")) == .slotExists)
    #expect(kind("53400", .creatingSlot("s")) == .slotsExhausted)
    #expect(
      kind("55000", .creatingSlot("s"), "logisches Dekodieren erfordert wal_level >= logical")
        == .wrongWalLevel)
    #expect(
      kind("55000", .startingStream(slot: "s"), "can no longer get changes from replication slot \"s\"")
        == .slotLost)
    // Taking this for a lost slot would drop somebody else's.
    #expect(
      kind("55000", .startingStream(slot: "s"), "replication slot \"s\" was not created in this database")
        == .server)
  }

  @Test("Values of rows are not repeated")
  func values() {
    for state in ["22P02", "23505", "P0001"] {
      let error = PostgresError.reported(
        sqlState: state, message: "invalid input: \"s3cret\"", during: .query, place: "here")
      #expect(!"\(error) \(error.what)".contains("s3cret"))
      #expect(error.description.contains(state))
    }
  }
}
