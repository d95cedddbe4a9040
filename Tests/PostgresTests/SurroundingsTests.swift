import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Postgres

@Suite("What a doctor asks PostgreSQL")
struct SurroundingsTests {
  /// The findings that are not good.
  private func found(_ change: (inout PostgresSurroundings) -> Void) -> [Finding] {
    var around = PostgresSurroundings()
    change(&around)
    return PostgresPreflight.judge(around).filter { !$0.isGood }
  }

  @Test("A server with everything as it should be is good, and each good line says what was looked at")
  func good() {
    let all = PostgresPreflight.judge(PostgresSurroundings())
    #expect(all.allSatisfy { $0.isGood })
    #expect(Set(all.map(\.check)).count == all.count)
    #expect(all.allSatisfy { $0.what.hasSuffix(".") })
  }

  @Test(
    "Each check can fail, says so in words and says what to do",
    arguments: [
      ("encryption", "is not encrypted", "sslmode"), ("pooler", "PgBouncer", "postgres.url"),
      ("logical_decoding_work_mem", "64 kB", "ALTER SYSTEM"),
      ("idle_replication_slot_timeout", "30 s", "ALTER SYSTEM"),
      ("statement_timeout", "200 ms", "ALTER ROLE \"nearside\" SET statement_timeout"),
      ("clock", "2000 ms behind", "NTP"), ("slot_reader", "process 7", "postgres.slot.name"),
      (
        "orphaned_slots", "nearside_old of database shop has no reader and keeps 3 MiB",
        "pg_drop_replication_slot"
      ),
    ])
  func bad(_ check: String, _ words: String, _ fix: String) {
    let findings = found { around in
      switch check {
      case "encryption": around.isLocal = false
      case "pooler": around.isDirect = false
      case "logical_decoding_work_mem": around.decodingMemory = 64 << 10
      case "idle_replication_slot_timeout": around.idleSlotTimeout = 30
      case "statement_timeout": around.statementTimeout = 0.2
      case "clock": around.clockDifference = -2000
      case "slot_reader": around.holder = .init(pid: 7, role: "debezium", application: "dbz")
      default: around.otherSlots = [.init(name: "nearside_old", database: "shop", retained: 3 << 20)]
      }
    }
    #expect(findings.map(\.check) == [check])
    #expect(findings.first?.what.contains(words) == true, "\(findings)")
    #expect(findings.first?.fix?.contains(fix) == true, "\(findings)")
  }

  @Test(
    "What is encrypted, or stays on this host, is not complained of; nor is a sidecar that reads the slot")
  func notBad() {
    #expect(
      found {
        $0.isLocal = false
        $0.tls = "TLSv1.3"
      } == [])
    #expect(found { $0.holder = .init(pid: 7, role: "nearside", application: "nearside") } == [])
    // A role that may not see who it is.
    #expect(found { $0.holder = .init(pid: 7, role: nil, application: nil) } == [])
    #expect(found { $0.idleSlotTimeout = 3600 } == [])
  }

  @Test("A clock is only off by what the time of the question cannot explain")
  func clock() {
    func difference(_ told: Int64) -> Int64 {
      PostgresSurroundings.difference(asked: 1000, answered: 1500, told: told)
    }
    #expect(difference(1000) == 0 && difference(1500) == 0)
    #expect(difference(1600) == 100 && difference(400) == -600)
  }

  @Test(
    "A walsender that gives up before the sidecar speaks, or never",
    arguments: [(5000, "good"), (3000, "good"), (1000, "error"), (0, "warning"), (60_000, "warning")])
  func senderTimeout(_ milliseconds: Int64, _ severity: String) {
    let finding = PostgresPreflight.judge(senderTimeout: milliseconds)
    #expect(finding.severity.rawValue == severity)
    #expect(finding.isGood == (finding.fix == nil))
  }

  @Test("Every finding of the preflight that is not good says what to do")
  func fixes() {
    var server = ServerFacts(
      isStandby: true, roleMayReplicate: false, walLevel: "replica", maxSlots: 1, usedSlots: 1,
      maxWalSenders: 1,
      usedWalSenders: 1, maxSlotWALKeepSize: "-1", synchronousStandbyNames: "*")
    let settings = SlotSettings(name: "nearside_shop", mode: .durable)
    var findings = [PostgresPreflight.judge(version: 130_010)] + PostgresPreflight.judge(server)
    findings += PostgresPreflight.judge(nil, settings, server)
    server.database = "shop"
    var slot = SlotStatus(
      plugin: "pgoutput", database: "shop", isTemporary: false, isActive: false, walStatus: "lost",
      retainedBytes: 2 << 30)
    for status in ["lost", "unreserved", "reserved"] {
      slot.walStatus = status
      let one = PostgresPreflight.judge(slot, settings, server).filter { $0.check == "slot_wal" }
      #expect(one.map(\.isGood) == [false], "\(status)")
      findings += one
    }
    findings += PostgresPreflight.judge(nil, named: "p")
    findings += PostgresPreflight.judge(
      PublicationFacts(missingActions: ["delete"], viaPartitionRoot: true), named: "p")
    let bad = findings.filter { !$0.isGood }
    #expect(
      Set(bad.map(\.check)) == [
        "version", "primary", "wal_level", "replication_right", "synchronous_standby_names",
        "max_replication_slots",
        "max_wal_senders", "max_slot_wal_keep_size", "slot", "slot_wal", "publication", "publication_actions",
        "publication_via_root",
      ])
    for finding in bad { #expect(finding.fix?.hasSuffix(".") == true, "\(finding)") }
  }

  @Test(
    "A real server: a reader that is no sidecar, slots left behind, settings of the role and of the server")
  func real() throws {
    let server = try PostgresServer(settings: ["logical_decoding_work_mem": "64kB"])
    let place = try Place(server)
    try place.prepare()
    try place.psql(
      """
      CREATE ROLE slow LOGIN REPLICATION SUPERUSER; ALTER ROLE slow SET statement_timeout = '250ms';
      SELECT pg_create_logical_replication_slot('nearside_gone', 'pgoutput');
      SELECT pg_create_logical_replication_slot('other_gone', 'pgoutput');
      """)
    func bad(_ settings: PostgresSettings) throws -> [String: String] {
      let findings = PostgresPreflight.judge(try PostgresSurroundings.read(settings, SQLSession(settings)))
      return Dictionary(uniqueKeysWithValues: findings.filter { !$0.isGood }.map { ($0.check, $0.what) })
    }
    let before = try bad(place.settings(user: "slow"))
    #expect(before.keys.sorted() == ["logical_decoding_work_mem", "orphaned_slots", "statement_timeout"])
    #expect(before["statement_timeout"]?.contains("is 250 ms") == true)
    #expect(before["orphaned_slots"]?.contains("nearside_gone of database \(place.database)") == true)

    var stranger = place.settings()
    stranger.url = Secret(stranger.url.exposed + "&application_name=recorder")
    var stream = try ReplicationStream(stranger)
    try stream.start(slot: place.slot, publication: place.publication)
    let after = try bad(place.settings())
    #expect(after["slot_reader"]?.contains("(recorder), role postgres") == true, "\(after)")
    #expect(try bad(stranger)["slot_reader"] == nil)
  }

  @Test(
    "The walsender's time limit is what the sidecar asks for, and lines of pg_hba.conf are for superusers")
  func limits() throws {
    let place = try Place()
    #expect(try place.stream().senderTimeout() == 5000)
    #expect(try PostgresPreflight.brokenHostLines(place.sql()) == 0)
    try place.psql("CREATE ROLE weak_\(place.database) LOGIN")
    #expect(try PostgresPreflight.brokenHostLines(place.sql(user: "weak_\(place.database)")) == nil)
    #expect(try PostgresPreflight.loaderIsDirect(place.settings()))
  }
}
