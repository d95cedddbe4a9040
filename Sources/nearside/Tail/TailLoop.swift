import CLinux
import Glibc
import Invalidation
import Logging
import Metrics
import Postgres
import Server

/// One hold of the slot: walsender, SQL and state in one poll, so that none ever waits for another.
struct TailLoop<Sink: TailSink & ~Copyable>: ~Copyable {
  private var stream: ReplicationStream
  private var sql: SQLSession
  private var lookups: Lookups
  private let questions: TailSQL
  private var sink: Sink
  private var session: TailSession
  private var reader: LogReader
  private let plan: KeyPlan
  private let publication: String
  private let cadence: SharedCadence
  private let stop: StopSignal
  private let log: Logger
  private let mailbox: LoopMailbox
  private let role: TailReport.Role

  /// What PostgreSQL is being asked, and since when; a nil question is the one about the slot.
  private var asked: (question: Question?, at: Instant)?
  private var slot: SlotWatch
  /// Why the slot is given up; nil: it is not.
  private var excess: String?
  private var sqlWantsToWrite = false
  private var lastConfirm = Instant(nanoseconds: 0)
  private var lastReport = Instant(nanoseconds: 0)
  private var told: TailReport?
  /// Whether the stream had nothing more when it was last read.
  private var drained = false
  /// False: all of the log that was there has been read, and poll(2) has told of nothing since.
  private var logMayHaveMore = true
  private var pace = ReadPace(now: bootClock())
  /// A Relation message that waits for the catalogue.
  private var unlearnt: Unlearnt?
  /// What is wrong with rules since their tables have changed, by the table's id. Until it is mended every
  /// change of such a table costs a new generation, since its keys cannot be told.
  private var broken: [UInt32: String] = [:]
  private var figures = TailFigures()
  /// What earlier holds of the slot have counted, by `LogReader.changes`.
  private var earlier = TailFigures()

  private struct Unlearnt {
    var id: UInt32
    var schema: String
    var name: String
    var message: [UInt8]
  }

  enum End { case stopped, ended(TailSession.Ending) }

  /// More keys than this in one transaction cost a new generation instead: it is cheaper than clearing them
  /// one by one, and bounds the memory a transaction may take.
  static var mostKeysPerTransaction: Int { 100_000 }
  /// Messages read from the log before the state is looked after again.
  static var messagesPerTurn: Int { 1024 }
  /// How long PostgreSQL may take for a question; they are small.
  static var questionTimeout: UInt64 { 10_000_000_000 }

  init(
    stream: consuming ReplicationStream, lookups: consuming LookupSession?, timeout: UInt64,
    sql: consuming SQLSession, questions: TailSQL, sink: consuming Sink, session: consuming TailSession,
    plan: KeyPlan, publication: String, slot: SlotWatch, cadence: SharedCadence, stop: StopSignal,
    log: Logger, mailbox: LoopMailbox, role: TailReport.Role
  ) {
    self.slot = slot
    self.cadence = cadence
    self.stream = stream
    self.lookups = Lookups(session: lookups, plan: plan, timeout: timeout, log: log)
    self.sql = sql
    self.questions = questions
    self.sink = sink
    self.session = session
    self.plan = plan
    self.publication = publication
    self.stop = stop
    self.log = log
    self.mailbox = mailbox
    self.role = role
    reader = LogReader(plan: plan, maximumKeys: Self.mostKeysPerTransaction)
  }

  mutating func learn(_ tables: [CatalogueTable]) {
    for table in tables {
      reader.learn(table)
      judge(table)
    }
  }

  /// `regressed` tells that the state has gone back in time, and is cleared by the new generation that
  /// follows. `figures` goes on from what earlier holds have counted.
  mutating func run(
    regressed: inout Bool, figures: inout TailFigures
  ) throws(TailTrouble) -> End {
    earlier = figures
    self.figures = figures
    defer {
      count()
      figures = self.figures
      // Whoever does not hold it is not told of it.
      figures.slot = nil
    }
    while !stop.isSet {
      session.cadence = cadence.value
      if logMayHaveMore { try readLog() }
      if let unlearnt {
        try learn(unlearnt)
        continue
      }
      try converse()
      if let excess { throw TailTrouble(sentence: "It is given up and made anew: \(excess).") }
      try lookups.turn(&session)
      var until = bootClock()
      do throws(SinkError) {
        while let reply = try sink.receive() {
          let oldest = session.sending.oldestCommit
          defer { noteApplied(oldest) }
          switch session.replied(reply, now: bootClock()) {
          case .goOn: break
          case .began(let generation, let reason):
            regressed = false
            log.notice("new generation \(generation): \(reason)")
            mailbox.began(generation, reason: reason)
          case .cleared: log.notice("values of older generations are cleared")
          case .over(let ending): return .ended(ending)
          }
        }
        switch session.next(now: bootClock(), drained: drained, random: Generation.random) {
        case .send(let request):
          try sink.send(request)
          until = Instant(nanoseconds: bootClock().nanoseconds + Cadence.busy)
        case .apply(let request, let chunk):
          try sink.apply(request, keys: session.sending, chunk: chunk)
          until = Instant(nanoseconds: bootClock().nanoseconds + Cadence.busy)
        case .wait(let instant): until = instant
        case .end(let ending): return .ended(ending)
        }
      } catch {
        throw TailTrouble(error)
      }
      try confirm()
      if drained || session.isFull { wait(until: until) }
    }
    return .stopped
  }

  /// Ends the stream in good order: what has been applied is confirmed, and the slot is free at once.
  consuming func end() {
    // What a reply has told in the last moment. If it is lost, it is sent again.
    try? stream.confirm(session.confirmable)
    stream.stop()
  }

  // MARK: The log

  private mutating func readLog() throws(TailTrouble) {
    guard !session.isFull else { return }
    var count = 0
    defer { pace.took(count, now: bootClock()) }
    do throws(DrainError<PgOutputError>) {
      let left = try stream.drain(limit: Self.messagesPerTurn) { (message) throws(PgOutputError) in
        count += 1
        switch message {
        case .keepalive(let end, _):
          figures.serverEnd = max(figures.serverEnd, end.rawValue)
          session.heardKeepalive(end)
          return true
        case .data(_, let end, let payload):
          figures.serverEnd = max(figures.serverEnd, end.rawValue)
          let event = try reader.read(payload, into: &session.pending)
          if case .unknownRelation(let id, let schema, let name) = event {
            unlearnt = Unlearnt(id: id, schema: schema, name: name, message: [UInt8](payload))
            return false
          }
          session.heard(event)
          return !session.isFull
        }
      }
      drained = left == .empty
    } catch {
      switch error {
      case .connection(let error): throw TailTrouble(error)
      case .body(let error):
        throw TailTrouble(sentence: "PostgreSQL's log could not be read: \(error)")
      }
    }
  }

  /// A table that the catalogue did not have when this session began (a new partition, say), or that has
  /// changed since: the catalogue is asked, and the message is read again.
  private mutating func learn(_ unlearnt: Unlearnt) throws(TailTrouble) {
    while asked != nil {
      try converse()
      try confirm()
      guard asked != nil else { break }
      var waiting = pollfd(
        fd: sql.descriptor, events: Int16(POLLIN) | (sqlWantsToWrite ? Int16(POLLOUT) : 0), revents: 0)
      _ = poll(&waiting, 1, 100)
    }
    self.unlearnt = nil
    let table: CatalogueTable?
    do throws(PostgresError) {
      table = try Catalogue.read(relation: unlearnt.id, publication: publication, sql)
    } catch {
      throw TailTrouble(sentence: error.description)
    }
    let known = table ?? .dropped(id: unlearnt.id, schema: unlearnt.schema, name: unlearnt.name)
    reader.learn(known)
    judge(known)
    do throws(PgOutputError) {
      let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: unlearnt.message.count, alignment: 8)
      defer { copy.deallocate() }
      copy.copyBytes(from: unlearnt.message)
      session.heard(try reader.read(UnsafeRawBufferPointer(copy), into: &session.pending))
    } catch {
      throw TailTrouble(sentence: "PostgreSQL's log could not be read: \(error)")
    }
  }

  private mutating func judge(_ table: CatalogueTable) {
    let problems = plan.problems(with: table).filter(\.isFatal).map(\.message)
    let before = broken[table.id]
    broken[table.id] = problems.isEmpty ? nil : problems.joined(separator: "; ")
    guard broken[table.id] != before else { return }
    if let now = broken[table.id] {
      log.error("\(table.qualifiedName) has changed: \(now)")
    } else {
      log.notice("\(table.qualifiedName) has changed, and its rules hold again")
    }
  }

  // MARK: Questions

  /// Takes the answer to the question under way, if it is there, and asks the next one.
  private mutating func converse() throws(TailTrouble) {
    do throws(PostgresError) {
      if let (question, at) = asked {
        sqlWantsToWrite = try sql.consume()
        if let rows = try sql.result() {
          asked = nil
          if let question {
            session.answered(try questions.answer(question, rows), now: bootClock())
          } else {
            excess = slot.answered(rows, log)
            figures.slot = slot.report
          }
        } else if bootClock().since(at) > Self.questionTimeout {
          throw PostgresError(
            kind: .timedOut, what: "PostgreSQL has not answered a small question in time", place: sql.place)
        }
      }
      // While the catalogue is to be asked, nothing else is.
      guard asked == nil, unlearnt == nil else { return }
      let now = bootClock()
      if let (text, parameters) = slot.ask(now: now) {
        sqlWantsToWrite = try sql.send(text, parameters)
        asked = (nil, now)
        return
      }
      guard let question = session.ask(now: now, drained: drained) else { return }
      let (text, parameters) = questions.statement(question)
      sqlWantsToWrite = try sql.send(text, parameters)
      asked = (question, now)
    } catch {
      throw TailTrouble(sentence: error.description)
    }
  }

  // MARK: Time

  /// Tells PostgreSQL what it may forget: soon after that has moved, and once a second in any case, which
  /// also shows that this side is alive (wal_sender_timeout).
  private mutating func confirm() throws(TailTrouble) {
    let now = bootClock()
    let moved = session.confirmable > stream.confirmed && now.since(lastConfirm) >= 10_000_000
    if moved || now.since(lastConfirm) >= 1_000_000_000 {
      lastConfirm = now
      do throws(PostgresError) { try stream.confirm(session.confirmable) } catch {
        throw TailTrouble(sentence: error.description)
      }
    }
    if now.since(lastReport) >= 100_000_000 {
      lastReport = now
      count()
      let report = TailReport(
        role: role, trouble: trouble, position: session.position, confirmed: stream.confirmed,
        figures: figures)
      // Nobody is woken to be told the same.
      if report != told { mailbox.report(report) }
      told = report
    }
  }

  // MARK: Figures

  private static func wallTime() -> WallTime { WallTime(nanoseconds: clinux_wall_nanoseconds()) }

  /// A reply has come. If it was the last one about what was being sent, the state reflects a batch whose oldest
  /// transaction was committed then.
  private mutating func noteApplied(_ oldest: Int64?) {
    guard let oldest, session.sending.oldestCommit == nil else { return }
    figures.delay.observe(Self.wallTime().since(WallTime(postgres: oldest)))
  }

  /// Brings the figures up to date.
  private mutating func count() {
    figures.transactions = earlier.transactions + Int(clamping: session.transactions)
    let oldest = [session.sending.oldestCommit, session.pending.oldestCommit].compactMap { $0 }.min()
    figures.lag = oldest.map { Self.wallTime().since(WallTime(postgres: $0)) } ?? 0
    var changes = earlier.changes
    let places = Dictionary(
      uniqueKeysWithValues: changes.enumerated().map { ([$1.table, $1.operation], $0) })
    for (index, count) in reader.changes.enumerated() where count > 0 {
      let change = TailFigures.Change(
        table: plan.tableNames[index / 3], operation: ["insert", "update", "delete"][index % 3], count: count)
      if let known = places[[change.table, change.operation]] {
        changes[known].count += count
      } else {
        changes.append(change)
      }
    }
    figures.changes = changes
  }

  private var trouble: String? {
    let all = broken.values.sorted() + lookups.troubles
    return all.isEmpty ? nil : all.joined(separator: "; ")
  }

  private mutating func wait(until: Instant) {
    let now = bootClock()
    let rest = pace.pause > 0 ? pace.pause : session.restsUntil.map { $0.since(now) } ?? 0
    let rests = !session.isFull && rest > 0
    let nanoseconds = min(Cadence.longest, until.since(now), rests ? rest : .max)
    var descriptors = [
      pollfd(fd: sink.descriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: stop.descriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: session.isFull || rests ? -1 : stream.descriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: asked == nil ? -1 : sql.descriptor, events: Int16(POLLIN), revents: 0),
    ]
    if sink.wantsToWrite { descriptors[0].events |= Int16(POLLOUT) }
    if stream.wantsToWrite { descriptors[2].events |= Int16(POLLOUT) }
    if lookups.descriptor >= 0 { descriptors.append(lookups.pollfd) }
    if sqlWantsToWrite { descriptors[3].events |= Int16(POLLOUT) }
    _ = clinux_poll(&descriptors, descriptors.count, nanoseconds)
    logMayHaveMore = !drained || descriptors[2].fd < 0 || descriptors[2].revents != 0
  }
}
