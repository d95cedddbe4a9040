import CLinux
import Configuration
import Glibc
import Invalidation
import Logging
import Postgres
import Redis
import Server

/// The tail thread: stands by until the slot is free, holds it for as long as it can, and begins again after
/// anything that went wrong. It keeps nothing from one session to the next but whether Redis has lost writes.
struct TailRunner: ~Copyable {
  private let settings: Settings
  private let plan: KeyPlan
  private let mailbox: LoopMailbox
  private let stop: StopSignal
  private let log: Logger
  /// The state has been seen to go back in time: whoever acquires the slot next begins a new generation.
  private var regressed = false
  private var lastTrouble = ""
  /// The last session ended only to read the definitions again.
  private var redefined = false
  private var lastRedefinition = Instant(nanoseconds: 0)
  /// The stream ended because its publication was missing. A slot reads publications as they were when the
  /// log was written, so it fails for good at that place, also when there is a publication again.
  private var slotIsUseless = false

  init(settings: Settings, mailbox: LoopMailbox, stop: StopSignal, log: Logger) {
    self.settings = settings
    self.mailbox = mailbox
    self.stop = stop
    self.log = log
    plan = KeyPlan(tables: settings.tables, keyPrefix: settings.keyPrefix)
  }

  /// Runs until the stop signal.
  mutating func run() {
    var pause: UInt64 = 250_000_000
    while !stop.isSet {
      let began = bootClock()
      var othersFirst = false
      do throws(TailTrouble) {
        if settings.redis != nil { try tailForFleet() } else { try tailForSelf() }
      } catch {
        if error.isMissingPublication { slotIsUseless = true }
        othersFirst = error.othersFirst
        report(error)
      }
      if redefined {
        redefined = false
        // A migration of many steps makes one generation a second, not one for each step.
        let since = bootClock().since(lastRedefinition)
        lastRedefinition = bootClock()
        if since < 1_000_000_000 { stop.wait(1_000_000_000 - since) }
        continue
      }
      // A session that held for a while was sound; one that ends at once is tried less and less often.
      pause = bootClock().since(began) > 5_000_000_000 ? 250_000_000 : min(pause * 2, 5_000_000_000)
      stop.wait(UInt64.random(in: pause / 2...pause) + (othersFirst ? 2 * Self.standbyPeriod.upperBound : 0))
    }
  }

  /// How often a sidecar that stands by looks whether the slot is free, in nanoseconds.
  private static let standbyPeriod: ClosedRange<UInt64> = 500_000_000...1_000_000_000

  private mutating func report(_ trouble: TailTrouble) {
    mailbox.report(TailReport(role: .waiting, trouble: trouble.sentence))
    if trouble.sentence != lastTrouble { log.error("\(trouble.sentence)") }
    lastTrouble = trouble.sentence
  }

  // MARK: A fleet's durable slot

  private mutating func tailForFleet() throws(TailTrouble) {
    let sql = try trouble { () throws(PostgresError) in try SQLSession(settings.postgres) }
    let slot = settings.postgres.slot.name
    var created = false
    guard try standBy(slot, sql), let redis = settings.redis else { return }
    // First of all: the slot is for someone who can also write what it says.
    let sink = try redisSink(redis)
    var stream = try trouble { () throws(PostgresError) in try ReplicationStream(settings.postgres) }
    let server = try trouble { () throws(PostgresError) in try stream.identifySystem() }
    let status = try trouble { () throws(PostgresError) in try SlotStatus.read(slot, sql) }
    let isMadeAnew = status == nil || status?.isLost == true || slotIsUseless
    // Not before there is a publication: a slot must be the younger one.
    if isMadeAnew { _ = try readCatalogue(sql) }
    if let status, isMadeAnew {
      let why = status.isLost ? "has lost log that it needed" : "was read without its publication"
      log.warning("replication slot \(slot) \(why); it is made anew")
      try trouble { () throws(PostgresError) in try stream.dropSlot(slot) }
    }
    if isMadeAnew {
      reportSlotWait()
      _ = try trouble { () throws(PostgresError) in try stream.createSlot(slot, temporary: false) }
      created = true
      slotIsUseless = false
      log.notice("created replication slot \(slot)")
    }
    let questions = try tailSQL(sql)
    // Before the catalogue is read: what changes in between is a change.
    let fingerprint = try trouble { () throws(PostgresError) in try questions.fingerprint(sql) }
    let catalogue = try readCatalogue(sql)
    do throws(PostgresError) {
      try stream.start(slot: slot, publication: settings.postgres.publication)
    } catch {
      // Another sidecar was quicker: that is no trouble, this one follows.
      if case .slotActive = error.kind { return }
      throw TailTrouble(sentence: error.description)
    }
    // Read only now: while this connection holds the slot nobody else can move it.
    let held = try trouble { () throws(PostgresError) in try SlotStatus.read(slot, sql) }
    guard let held, held.activePID == stream.backendPID, let confirmed = held.confirmedFlush else {
      // The stream may have ended already, and then it knows why.
      do throws(DrainError<Never>) { _ = try stream.drain(limit: 1) { _ in true } } catch {
        if case .connection(let error) = error { throw TailTrouble(error) }
      }
      throw Self.notHeld(slot)
    }
    // Only while the slot is held, so that whoever is not in it will be sent.
    let sample = try trouble { () throws(PostgresError) in try questions.sample(sql) }
    try tail(
      stream, sink, sql: sql, questions,
      Hold(
        server: server, created: created, confirmed: confirmed, sample: sample,
        fingerprint: fingerprint, catalogue: catalogue, role: .tailer))
  }

  private static func notHeld(_ slot: String) -> TailTrouble {
    TailTrouble(
      sentence: "Replication slot \(slot) is not held by this sidecar's connection. Connect to PostgreSQL "
        + "directly, without a pooler or balancer between.")
  }

  /// Waits until nobody holds the slot. False: the process stops.
  private mutating func standBy(_ slot: String, _ sql: borrowing SQLSession) throws(TailTrouble) -> Bool {
    var standstill = Standstill()
    var reader: BeatReader?
    while !stop.isSet {
      let status = try trouble { () throws(PostgresError) in try SlotStatus.read(slot, sql) }
      guard let status, status.isActive else { return true }
      mailbox.report(TailReport(role: .follower, confirmed: status.confirmedFlush ?? .zero))
      if lastTrouble != "" { log.notice("following: another sidecar holds replication slot \(slot)") }
      lastTrouble = ""
      // Whoever holds it reads from it, so it is of use.
      slotIsUseless = false
      let holder = try trouble { () throws(PostgresError) in try SlotStatus.holder(of: slot, sql) }
      if standsStill(&standstill, &reader, holder), let walsender = holder?.walsender {
        let ended = try trouble { () throws(PostgresError) in
          try SlotStatus.endHolder(of: slot, walsender: walsender, sql)
        }
        if ended {
          log.warning("ended walsender \(walsender), which held replication slot \(slot) in silence")
        }
      }
      stop.wait(UInt64.random(in: Self.standbyPeriod))
    }
    return false
  }

  private func standsStill(
    _ standstill: inout Standstill, _ reader: inout BeatReader?, _ holder: Standstill.Holder?
  ) -> Bool {
    guard let redis = settings.redis, let holder else {
      standstill.forget()
      return false
    }
    do throws(RedisError) {
      if reader == nil {
        reader = try BeatReader(redis, keys: StateKeys(namespace: settings.namespace ?? ""))
      }
      guard let state = try reader?.read() else {
        return standstill.heard(holder, state: nil, now: bootClock())
      }
      return standstill.heard(holder, state: state, now: bootClock())
    } catch {
      reader = nil
      standstill.forget()
      return false
    }
  }

  private func tailSQL(_ sql: borrowing SQLSession) throws(TailTrouble) -> TailSQL {
    try trouble { () throws(PostgresError) in
      try TailSQL(
        namespace: settings.redis == nil ? nil : settings.namespace,
        publication: settings.postgres.publication,
        tables: settings.tables.map { TableName(schema: $0.schema, name: $0.name) }, sql)
    }
  }

  /// A slot begins where no transaction is open, so a long one holds up its creation, whatever database it is
  /// in. Source: PostgreSQL's snapbuild.c, `SnapBuildFindSnapshot`.
  private func reportSlotWait() {
    mailbox.report(
      TailReport(
        role: .waiting,
        trouble:
          "PostgreSQL is making a replication slot, which waits until every transaction that is writing "
          + "now has ended; pg_stat_activity shows them"))
  }

  private func redisSink(_ redis: RedisSettings) throws(TailTrouble) -> RedisSink {
    do throws(RedisError) {
      return try RedisSink(
        settings: redis, keys: StateKeys(namespace: settings.namespace ?? ""), journal: settings.journal,
        tableNames: plan.tableNames, groups: KeyGroups(settings),
        purgePatterns: settings.governed.map { $0.luaPattern(prefix: settings.keyPrefix) },
        purgeMatch: settings.keyPrefix + "*")
    } catch {
      throw TailTrouble(sentence: error.description)
    }
  }

  // MARK: A temporary slot of one's own

  private mutating func tailForSelf() throws(TailTrouble) {
    let sql = try trouble { () throws(PostgresError) in try SQLSession(settings.postgres) }
    var stream = try trouble { () throws(PostgresError) in try ReplicationStream(settings.postgres) }
    let server = try trouble { () throws(PostgresError) in try stream.identifySystem() }
    let slot = settings.postgres.slot.name + "_" + Generation.random().hex.prefix(8)
    reportSlotWait()
    let point = try trouble { () throws(PostgresError) in try stream.createSlot(slot, temporary: true) }
    let questions = try tailSQL(sql)
    let fingerprint = try trouble { () throws(PostgresError) in try questions.fingerprint(sql) }
    let catalogue = try readCatalogue(sql)
    try trouble { () throws(PostgresError) in
      try stream.start(slot: slot, publication: settings.postgres.publication)
    }
    let held = try trouble { () throws(PostgresError) in try SlotStatus.read(slot, sql) }
    guard held?.activePID == stream.backendPID else { throw Self.notHeld(slot) }
    let sample = try trouble { () throws(PostgresError) in try questions.sample(sql) }
    try tail(
      stream, LocalSink(mailbox: mailbox), sql: sql, questions,
      Hold(
        server: server, created: true, confirmed: point, sample: sample,
        fingerprint: fingerprint, catalogue: catalogue, role: .standalone))
  }

  // MARK: Holding the slot

  /// What was found when the slot was taken.
  private struct Hold {
    var server: ServerIdentity
    var created: Bool
    var confirmed: LSN
    var sample: Sample
    var fingerprint: String
    var catalogue: [CatalogueTable]
    var role: TailReport.Role
  }

  private func readCatalogue(_ sql: borrowing SQLSession) throws(TailTrouble) -> [CatalogueTable] {
    let tables = try trouble { () throws(PostgresError) in
      try Catalogue.read(publication: settings.postgres.publication, sql)
    }
    // A rule that is only broken costs a new generation with each change; one that hears nothing must not
    // serve.
    for problem in tables.flatMap({ plan.problems(with: $0) }) where problem.isSilent {
      throw TailTrouble(sentence: problem.message)
    }
    let findings = try trouble { () throws(PostgresError) in
      try PostgresPreflight.examine(
        publication: settings.postgres.publication,
        tables: settings.tables.map { TableName(schema: $0.schema, name: $0.name) }, sql)
    }
    if let error = findings.first(where: { $0.severity == .error }) {
      throw TailTrouble(sentence: error.sentence)
    }
    return tables
  }

  private mutating func tail<Sink: TailSink & ~Copyable>(
    _ stream: consuming ReplicationStream, _ sink: consuming Sink, sql: consuming SQLSession,
    _ questions: TailSQL, _ hold: Hold
  ) throws(TailTrouble) {
    let token = Generation.random().hex
    let reply = try takeOver(&sink, token: token, hold)
    let acquisition = Acquisition.decide(
      reply, slotCreated: hold.created, confirmed: hold.confirmed, written: hold.sample.written,
      canary: questions.usesCanary ? .holds(hold.sample.canary) : .unused, regressed: regressed)
    if case .refuse(let sentence) = acquisition { throw TailTrouble(sentence: sentence) }
    let session = TailSession(
      token: token, server: hold.server, mapping: settings.mappingHash, acquisition: acquisition,
      confirmed: hold.confirmed, running: hold.sample.snapshot, usesCanary: questions.usesCanary,
      fingerprint: hold.fingerprint, now: bootClock())
    log.notice("tailing \(stream.place) from \(hold.confirmed)")
    lastTrouble = ""
    var loop = TailLoop(
      stream: stream, sql: sql, questions: questions, sink: sink, session: session, plan: plan,
      publication: settings.postgres.publication, stop: stop, log: log, mailbox: mailbox, role: hold.role)
    loop.learn(hold.catalogue)
    switch try loop.run(regressed: &regressed) {
    case .stopped: break
    case .ended(.regressed):
      regressed = true
      throw TailTrouble(sentence: "Redis has lost writes; a new generation begins.")
    case .ended(.fenced):
      throw TailTrouble(sentence: "Another sidecar writes the fleet's state; this one stands by.")
    case .ended(.noState):
      throw TailTrouble(sentence: "The fleet's state is gone from Redis; a new generation begins.")
    case .ended(.redefined):
      redefined = true
      log.notice("reading the definitions of tables and publication again")
    case .ended(.unexpected):
      throw TailTrouble(sentence: "Redis answered what no script answers; the tail begins again.")
    }
    loop.end()
  }

  private func takeOver<Sink: TailSink & ~Copyable>(
    _ sink: inout Sink, token: String, _ hold: Hold
  ) throws(TailTrouble) -> StateReply {
    do throws(SinkError) {
      try sink.send(
        .takeover(
          token: token, server: hold.server, mapping: settings.mappingHash, fingerprint: hold.fingerprint))
      // Shorter than wal_sender_timeout: until the takeover is done nobody reads from the walsender.
      let deadline = bootClock().nanoseconds + 4_000_000_000
      while bootClock().nanoseconds < deadline, !stop.isSet {
        if let reply = try sink.receive() { return reply }
        var waiting = pollfd(
          fd: sink.descriptor, events: Int16(POLLIN) | (sink.wantsToWrite ? Int16(POLLOUT) : 0), revents: 0)
        _ = poll(&waiting, 1, 100)
      }
    } catch {
      throw TailTrouble(error)
    }
    throw TailTrouble(sentence: "The fleet's state did not answer a takeover within 4 s.")
  }
}

/// Why the tail rests, as a sentence for the log and for NEARSIDE STATUS.
struct TailTrouble: Error {
  var sentence: String
  var isMissingPublication = false
  /// This sidecar held the slot and could not use it: others may try before it does so again.
  var othersFirst = false

  init(sentence: String) { self.sentence = sentence }

  init(_ error: PostgresError) {
    sentence = error.description
    isMissingPublication = error.kind == .publicationMissing
  }

  init(_ error: SinkError) {
    sentence = error.description
    // A connection that was closed is likely to be had again; if it is not, the slot is not taken.
    othersFirst = error.cause != .closed
  }
}

func bootClock() -> Instant { Instant(nanoseconds: clinux_boot_nanoseconds()) }

/// Turns an error of PostgreSQL into trouble.
func trouble<Result: ~Copyable>(
  _ body: () throws(PostgresError) -> Result
) throws(TailTrouble) -> Result {
  do throws(PostgresError) { return try body() } catch { throw TailTrouble(error) }
}
