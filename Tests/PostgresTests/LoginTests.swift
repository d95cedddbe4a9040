import Configuration
import TestSupport
import Testing

@testable import Postgres

@Suite("Connections that cannot be made")
struct LoginTests {
  private func settings(_ url: String, password: String? = nil) -> PostgresSettings {
    PostgresSettings(
      url: Secret(url), password: password.map { Secret($0) }, publication: "p",
      slot: SlotSettings(name: "s", mode: .durable))
  }

  @Test("Nobody listens")
  func unreachable() throws {
    let folder = try TemporaryFolder()
    let error = failure { _ = try SQLSession(settings("postgresql://u:s3cret@/shop?host=\(folder.path)")) }
    #expect(error?.kind == .unreachable)
    #expect(error?.description.contains("database shop on \(folder.path)/.s.PGSQL.5432") == true)
    #expect(error?.description.contains("s3cret") == false)
    let tcp = failure { _ = try ReplicationStream(settings("postgresql://u@127.0.0.1:1/shop")) }
    #expect(tcp?.kind == .unreachable)
    #expect(tcp?.description.contains("Connection refused (database shop on 127.0.0.1:1)") == true)
  }

  @Test("Wrong password, unknown database, no line in pg_hba.conf, no right to replicate")
  func refused() throws {
    let server = try PostgresServer()
    try server.psql(
      """
      CREATE ROLE guest LOGIN PASSWORD 'right';
      CREATE ROLE plain LOGIN;
      """)
    try writeFile(
      "local all postgres trust\nlocal all plain trust\nlocal all guest scram-sha-256\n",
      to: server.data + "/pg_hba.conf")
    try server.reload()

    let guest = server.url(user: "guest")
    #expect(try SQLSession(settings(guest, password: "right")).query("SELECT current_user")[0][0] == "guest")
    let wrong = failure { _ = try SQLSession(settings(guest, password: "s3cret")) }
    #expect(wrong?.kind == .authentication)
    #expect(wrong?.description.contains("password authentication failed for user \"guest\"") == true)
    #expect(wrong?.description.contains("s3cret") == false)
    #expect(failure { _ = try SQLSession(settings(guest)) }?.kind == .authentication)

    let nowhere = failure { _ = try SQLSession(settings(server.url(database: "nowhere"))) }
    #expect(nowhere?.kind == .authentication)
    #expect(nowhere?.description.contains("\"nowhere\" does not exist") == true)

    let noLine = failure { _ = try ReplicationStream(settings(server.url(user: "stranger"))) }
    #expect(noLine?.kind == .noHostLine)

    let noRight = failure { _ = try ReplicationStream(settings(server.url(user: "plain"))) }
    #expect(noRight?.kind == .noReplicationRight)
    #expect(noRight?.description.contains("ALTER ROLE") == true)
  }

  @Test("All walsenders are used")
  func walSenders() throws {
    let server = try PostgresServer(settings: ["max_wal_senders": "1", "max_replication_slots": "1"])
    let first = try ReplicationStream(settings(server.url()))
    let error = failure { _ = try ReplicationStream(settings(server.url())) }
    #expect(error?.kind == .walSendersExhausted)
    #expect(error?.isTemporary == true)
    _ = try first.createSlot("one", temporary: true)
    #expect(failure { _ = try first.createSlot("two", temporary: true) }?.kind == .slotsExhausted)
  }

  @Test("wal_level is not logical")
  func walLevel() throws {
    let server = try PostgresServer(settings: ["wal_level": "replica"])
    let stream = try ReplicationStream(settings(server.url()))
    let error = failure { _ = try stream.createSlot("s", temporary: false) }
    #expect(error?.kind == .wrongWalLevel)
    #expect(error?.description.contains("ALTER SYSTEM SET wal_level = 'logical'") == true)
    let session = try SQLSession(settings(server.url()))
    let findings = try PostgresPreflight.examine(settings(server.url()), tables: [], session)
    #expect(findings.contains { $0.severity == .error && $0.what.contains("wal_level is replica") })
    let plan = try SetupPlan.setup(
      SetupRequest(postgres: settings(server.url()), namespace: "shop", tables: [], role: nil), session)
    #expect(plan.statements.isEmpty)
    #expect(plan.refusals.contains { $0.contains("wal_level is replica") })
  }
}
