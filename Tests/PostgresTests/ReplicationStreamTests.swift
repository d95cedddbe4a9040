import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Postgres

@Suite("The replication stream")
struct ReplicationStreamTests {
  @Test("The server says who it is")
  func identity() throws {
    let place = try Place()
    let identity = try place.stream().identifySystem()
    #expect(identity.timeline == 1)
    #expect(identity.systemID == (try place.psql("SELECT system_identifier FROM pg_control_system()")))
  }

  @Test("A temporary slot ends with its connection, and a durable one stays")
  func slots() throws {
    let place = try Place()
    let session = try place.sql()
    do {
      let stream = try place.stream()
      let before = try #require(LSN(place.psql("SELECT pg_current_wal_lsn()")))
      #expect(try stream.createSlot(place.slot, temporary: true) >= before)
      let status = try #require(try SlotStatus.read(place.slot, session))
      #expect(status.isTemporary)
      #expect(status.plugin == "pgoutput")
      #expect(status.database == place.database)
      #expect(status.activePID == stream.backendPID)
    }
    try eventually("it is gone") { try SlotStatus.read(place.slot, session) == nil }

    let point = try place.stream().createSlot(place.slot, temporary: false)
    try eventually("it is free") { try SlotStatus.read(place.slot, session)?.isActive == false }
    let status = try #require(try SlotStatus.read(place.slot, session))
    #expect(!status.isTemporary)
    #expect(status.confirmedFlush == point)
    #expect(status.walStatus == "reserved")
    #expect(status.retainedBytes ?? -1 >= 0)
    #expect(failure { _ = try place.stream().createSlot(place.slot, temporary: false) }?.kind == .slotExists)
    try place.stream().dropSlot(place.slot)
    #expect(try SlotStatus.read(place.slot, session) == nil)
    #expect(failure { try place.stream().dropSlot(place.slot) }?.kind == .slotMissing)
  }

  @Test("A slot that must wait for a writer is given up in time and leaves nothing behind")
  func slotTimeout() throws {
    let place = try Place()
    let session = try place.sql()
    let writer = try place.sql()
    _ = try writer.query("CREATE TABLE public.t (id int)")
    _ = try writer.query("BEGIN")
    _ = try writer.query("INSERT INTO public.t VALUES (1)")
    let stream = try place.stream()
    let error = failure { _ = try stream.createSlot(place.slot, temporary: false, timeout: 300_000_000) }
    #expect(error?.kind == .timedOut)
    #expect(error?.description.contains("every transaction that was writing has ended") == true)
    try eventually("nothing is left") { try SlotStatus.read(place.slot, session) == nil }
  }

  @Test("Changes arrive in commit order, messages included, and nothing else")
  func changes() throws {
    let place = try Place()
    try place.prepare()
    var stream = try place.stream()
    try stream.start(slot: place.slot, publication: place.publication)
    try place.psql(
      """
      INSERT INTO t VALUES (1, 'a');
      UPDATE t SET v = 'b';
      DELETE FROM t;
      SELECT pg_logical_emit_message(true, 'nearside', 'hello');
      TRUNCATE t;
      """)
    let all = try collect(&stream) { $0.tags.contains("T") && $0.tags.hasSuffix("C") }
    #expect(all.changes == "BIC" + "BUC" + "BDC" + "BMC" + "BTC")
    #expect(all.tags.hasPrefix("BRI"))
  }

  @Test("A slot that is taken is an error of its own, with the process that has it")
  func taken() throws {
    let place = try Place()
    try place.prepare()
    var first = try place.stream()
    try first.start(slot: place.slot, publication: place.publication)
    var second = try place.stream()
    let error = failure { try second.start(slot: place.slot, publication: place.publication) }
    #expect(error?.kind == .slotActive(pid: first.backendPID))
    #expect(error?.isTemporary == true)
    // The same connection may try again later.
    first.stop()
    try second.start(slot: place.slot, publication: place.publication)
    #expect(try SlotStatus.read(place.slot, place.sql())?.activePID == second.backendPID)
  }

  @Test("A slot that is missing or not ours is an error")
  func missing() throws {
    let place = try Place()
    var stream = try place.stream()
    #expect(failure { try stream.start(slot: "no_such_slot", publication: "p") }?.kind == .slotMissing)
    let other = try Place()
    try other.prepare()
    let error = failure { try stream.start(slot: other.slot, publication: "p") }
    #expect(error?.kind == .server)
    #expect(error?.description.contains("was not created in this database") == true)
  }

  @Test("A missing publication is said at the first change")
  func publicationMissing() throws {
    let place = try Place()
    try place.prepare()
    var stream = try place.stream()
    try stream.start(slot: place.slot, publication: "gone'\\\"; away")
    try place.psql("INSERT INTO t VALUES (1)")
    let error = failure { _ = try collect(&stream) { _ in false } }
    #expect(error?.kind == .publicationMissing)
    #expect(error?.description.contains("gone'\\\"; away") == true)
  }

  @Test("A publication and a slot with every kind of quote in the name work")
  func quoting() throws {
    let place = try Place()
    let name = "it's \"a\\b, c"
    try place.psql("CREATE TABLE t (id int PRIMARY KEY)")
    let session = try place.sql()
    _ = try session.query("CREATE PUBLICATION \(quotedIdentifier(name)) FOR TABLE public.t")
    var stream = try place.stream()
    _ = try stream.createSlot(place.slot, temporary: true)
    try stream.start(slot: place.slot, publication: name)
    try place.psql("INSERT INTO t VALUES (1)")
    #expect(try collect(&stream) { $0.tags.hasSuffix("C") }.changes == "BIC")
  }

  @Test("A confirmation moves the slot, never back, and what is confirmed is not sent again")
  func confirmation() throws {
    let place = try Place()
    try place.prepare()
    let session = try place.sql()
    let created = try #require(try SlotStatus.read(place.slot, session)?.confirmedFlush)
    var stream = try place.stream()
    try stream.start(slot: place.slot, publication: place.publication)
    // Before anything is known, a sign of life must not move the slot.
    try stream.confirm(.zero)
    try place.psql("INSERT INTO t VALUES (1)")
    let first = try collect(&stream) { $0.tags.hasSuffix("C") }
    #expect(try SlotStatus.read(place.slot, session)?.confirmedFlush == created)
    try stream.confirm(first.end)
    try eventually("it has moved") { try SlotStatus.read(place.slot, session)?.confirmedFlush == first.end }
    try stream.confirm(LSN(1))
    #expect(stream.confirmed == first.end)
    stream.stop()

    var next = try place.stream()
    try next.start(slot: place.slot, publication: place.publication)
    try place.psql("INSERT INTO t VALUES (2)")
    #expect(try collect(&next) { $0.tags.hasSuffix("C") }.changes == "BIC")
    // Let go without a confirmation: the same transaction comes again.
    next.stop()
    var last = try place.stream()
    try last.start(slot: place.slot, publication: place.publication)
    #expect(try collect(&last) { $0.tags.hasSuffix("C") }.changes == "BIC")
  }

  @Test("stop brings the last confirmation home and frees the slot")
  func stop() throws {
    let place = try Place()
    try place.prepare()
    let session = try place.sql()
    var stream = try place.stream()
    try stream.start(slot: place.slot, publication: place.publication)
    try place.psql("INSERT INTO t SELECT generate_series(1, 20000)")
    let all = try collect(&stream) { $0.tags.hasSuffix("C") }
    try place.psql("INSERT INTO t SELECT generate_series(20001, 40000)")
    try stream.confirm(all.end)
    stream.stop(timeout: 10_000_000_000)
    let status = try #require(try SlotStatus.read(place.slot, session))
    #expect(!status.isActive)
    #expect(status.confirmedFlush == all.end)
  }

  @Test("A request for a reply is answered, with the last confirmed position, and the connection lives on")
  func keepalive() throws {
    let place = try Place()
    try place.prepare()
    let session = try place.sql()
    var stream = try place.stream()
    try stream.start(slot: place.slot, publication: place.publication)
    // After half of wal_sender_timeout without a word from us the server asks; after all of it, it hangs
    // up. Two requests show that the first was answered.
    let all = try collect(&stream) { $0.asked >= 2 }
    #expect(all.serverEnd > .zero)
    #expect(stream.confirmed == .zero)
    try eventually("the server has taken note of the second answer", within: .seconds(2)) {
      try session.query(
        "SELECT FROM pg_stat_replication WHERE pid = $1 AND reply_time > now() - interval '1 s'",
        [String(stream.backendPID)]
      ).count == 1
    }
  }

  @Test("A large transaction is drained in bounded steps, and a long row in one piece")
  func large() throws {
    let place = try Place()
    try place.prepare()
    var stream = try place.stream()
    try stream.start(slot: place.slot, publication: place.publication)
    try place.psql(
      """
      BEGIN;
      INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 60000) i;
      INSERT INTO t VALUES (0, repeat('y', 3000000));
      COMMIT;
      """)
    let all = try collect(&stream, limit: 7) { $0.tags.hasSuffix("C") }
    #expect(all.changes.count == 60_000 + 3)
    #expect(all.bytes > 60_000 * 100 + 3_000_000)
  }

  @Test("The closure can stop after a message, and the next drain goes on behind it")
  func interrupted() throws {
    let place = try Place()
    try place.prepare()
    var stream = try place.stream()
    try stream.start(slot: place.slot, publication: place.publication)
    try place.psql("INSERT INTO t VALUES (1)")
    var tags = ""
    let deadline = monotonicNanoseconds() + 10_000_000_000
    while !tags.hasSuffix("C") {
      let left = try stream.drain(limit: 100) { (message) throws(Never) in
        guard case .data(_, _, let payload) = message else { return true }
        tags.append(Character(UnicodeScalar(payload[0])))
        return false
      }
      if case .empty = left {
        #expect(waitForSocket(stream.descriptor, alsoWritable: false, deadline: deadline))
      }
    }
    #expect(tags.filter { $0 != "R" } == "BIC")
    struct Mine: Error {}
    try place.psql("INSERT INTO t VALUES (2)")
    var caught: Mine?
    while caught == nil {
      // The first poll may only report a keepalive.
      #expect(waitForSocket(stream.descriptor, alsoWritable: false, deadline: deadline))
      do {
        _ = try stream.drain(limit: 100) { (message) throws(Mine) in
          if case .data = message { throw Mine() }
          return true
        }
      } catch {
        guard case .body(let mine) = error else { throw error }
        caught = mine
      }
    }
    #expect(try collect(&stream) { $0.tags.hasSuffix("C") }.changes == "IC")
  }

  @Test("A stream that the server ends throws, whatever ended it")
  func ended() throws {
    let place = try Place()
    try place.prepare()
    var stream = try place.stream()
    try stream.start(slot: place.slot, publication: place.publication)
    try place.psql("SELECT pg_terminate_backend(\(stream.backendPID))")
    let error = failure { _ = try collect(&stream) { _ in false } }
    #expect(error?.isTemporary == true)
    #expect(failure { _ = try collect(&stream) { _ in false } } != nil)

    let server = try PostgresServer()
    let other = try Place(server)
    try other.prepare()
    var second = try other.stream()
    try second.start(slot: other.slot, publication: other.publication)
    try server.stop(.immediate)
    #expect(failure { _ = try collect(&second) { _ in false } }?.isTemporary == true)
  }

  @Test("A slot whose log was removed is reported as lost")
  func slotLost() throws {
    let server = try PostgresServer(settings: [
      "max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB",
    ])
    let place = try Place(server)
    try place.prepare()
    let session = try place.sql()
    for _ in 0..<4 {
      try place.psql("SELECT pg_logical_emit_message(false, 'x', 'y'); SELECT pg_switch_wal();")
    }
    try place.psql("CHECKPOINT")
    try eventually("it is lost") { try SlotStatus.read(place.slot, session)?.isLost == true }
    var stream = try place.stream()
    let error = failure { try stream.start(slot: place.slot, publication: place.publication) }
    #expect(error?.kind == .slotLost)
    let findings = try PostgresPreflight.examine(place.settings(), tables: [], session)
    #expect(findings.contains { $0.severity == .warning && $0.what.contains("is lost") })
    // Setup repairs it.
    let plan = try SetupPlan.setup(place.request(["t"]), session)
    try plan.apply(session)
    try stream.start(slot: place.slot, publication: place.publication)
  }
}
