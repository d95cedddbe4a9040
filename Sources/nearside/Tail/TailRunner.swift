import CLinux
import Configuration
import Glibc
import Invalidation
import Logging
import Metrics
import Postgres
import Redis
import Server

/// The tail thread: stands by until the slot is free, holds it for as long as it can, and begins again after
/// anything that went wrong. It keeps nothing from one session to the next but whether Redis has lost writes.
struct TailRunner: ~Copyable {
  let settings: Settings
  let plan: KeyPlan
  let cadence: SharedCadence
  let mailbox: LoopMailbox
  let stop: StopSignal
  let log: Logger
  /// The state has been seen to go back in time: whoever acquires the slot next begins a new generation.
  var regressed = false
  var lastTrouble = ""
  /// The last session ended only to read the definitions again.
  private var redefined = false
  private var lastRedefinition = Instant(nanoseconds: 0)
  /// The stream ended because its publication was missing. A slot reads publications as they were when the
  /// log was written, so it fails for good at that place, also when there is a publication again.
  var slotIsUseless = false
  /// What all holds of the slot together have counted.
  var figures = TailFigures()

  init(
    settings: Settings, cadence: SharedCadence, mailbox: LoopMailbox, stop: StopSignal, log: Logger
  ) {
    self.settings = settings
    self.cadence = cadence
    self.mailbox = mailbox
    self.stop = stop
    self.log = log
    plan = KeyPlan(settings)
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
  static let standbyPeriod: ClosedRange<UInt64> = 500_000_000...1_000_000_000

  private mutating func report(_ trouble: TailTrouble) {
    mailbox.report(
      TailReport(
        role: .waiting, trouble: trouble.sentence, isPostgresAway: trouble.isPostgresAway, figures: figures))
    if trouble.sentence != lastTrouble { log.error("\(trouble.sentence)") }
    lastTrouble = trouble.sentence
  }

  // MARK: A temporary slot of one's own

  private mutating func tailForSelf() throws(TailTrouble) {
    let sql = try trouble { () throws(PostgresError) in try SQLSession(settings.postgres) }
    let lookups = try lookupSession()
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
      stream, LocalSink(mailbox: mailbox), sql: sql, lookups, questions,
      Hold(
        slot: slot, server: server, created: true, confirmed: point, sample: sample,
        fingerprint: fingerprint, catalogue: catalogue, role: .standalone))
  }

  // MARK: Holding the slot

  static func notHeld(_ slot: String) -> TailTrouble {
    TailTrouble(
      sentence: "Replication slot \(slot) is not held by this sidecar's connection. Connect to PostgreSQL "
        + "directly, without a pooler or balancer between.")
  }

  func tailSQL(_ sql: borrowing SQLSession) throws(TailTrouble) -> TailSQL {
    try trouble { () throws(PostgresError) in
      try TailSQL(
        namespace: settings.redis == nil ? nil : settings.namespace,
        publication: settings.postgres.publication,
        tables: settings.tables.map { TableName(schema: $0.schema, name: $0.name) }, sql)
    }
  }

  /// The connection for lookups; nil if there are none. It is made before the slot is taken, as it prepares statements
  /// and may have to wait for that.
  func lookupSession() throws(TailTrouble) -> LookupSession? {
    guard !plan.lookups.isEmpty else { return nil }
    return try trouble { () throws(PostgresError) in try LookupSession(settings.postgres, plan: plan) }
  }

  /// A slot begins where no transaction is open, so a long one holds up its creation, whatever database it is
  /// in. Source: PostgreSQL's snapbuild.c, `SnapBuildFindSnapshot`.
  func reportSlotWait() {
    mailbox.report(
      TailReport(
        role: .waiting,
        trouble:
          "PostgreSQL is making a replication slot, which waits until every transaction that is writing "
          + "now has ended; pg_stat_activity shows them"))
  }

  /// What was found when the slot was taken.
  struct Hold {
    var slot: String
    var server: ServerIdentity
    var created: Bool
    var confirmed: LSN
    var sample: Sample
    var fingerprint: String
    var catalogue: [CatalogueTable]
    var role: TailReport.Role
  }

  func readCatalogue(_ sql: borrowing SQLSession) throws(TailTrouble) -> [CatalogueTable] {
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

  mutating func tail<Sink: TailSink & ~Copyable>(
    _ stream: consuming ReplicationStream, _ sink: consuming Sink, sql: consuming SQLSession,
    _ lookups: consuming LookupSession?, _ questions: TailSQL, _ hold: Hold
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
      fingerprint: hold.fingerprint, lookups: plan.lookups, cadence: cadence.value,
      now: bootClock())
    log.notice("tailing \(stream.place) from \(hold.confirmed)")
    lastTrouble = ""
    var loop = TailLoop(
      stream: stream, lookups: lookups, timeout: settings.postgres.loader.timeout, sql: sql,
      questions: questions, sink: sink, session: session, plan: plan,
      publication: settings.postgres.publication,
      slot: SlotWatch(name: hold.slot, bound: settings.postgres.slot.maxRetained), cadence: cadence,
      stop: stop, log: log, mailbox: mailbox, role: hold.role)
    loop.learn(hold.catalogue)
    let end = try loop.run(regressed: &regressed, figures: &figures)
    switch end {
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
