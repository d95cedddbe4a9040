import Configuration
import Invalidation
import Logging
import Metrics
import Postgres
import Redis
import Server

/// A fleet's durable slot: one sidecar holds it, the others stand by.
extension TailRunner {
  mutating func tailForFleet() throws(TailTrouble) {
    let sql = try trouble { () throws(PostgresError) in try SQLSession(settings.postgres) }
    let slot = settings.postgres.slot.name
    var created = false
    guard try standBy(slot, sql), let redis = settings.redis else { return }
    try relieve(slot, sql)
    // First of all: the slot is for someone who can also write what it says.
    let sink = try redisSink(redis)
    let lookups = try lookupSession()
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
      stream, sink, sql: sql, lookups, questions,
      Hold(
        slot: slot, server: server, created: created, confirmed: confirmed, sample: sample,
        fingerprint: fingerprint, catalogue: catalogue, role: .tailer))
  }

  /// Drops a slot that nobody holds and that costs the server too much; also when the rest of what a tailer needs is
  /// not there, such as Redis.
  private mutating func relieve(_ slot: String, _ sql: borrowing SQLSession) throws(TailTrouble) {
    figures.slot = nil
    guard let status = try trouble({ () throws(PostgresError) in try SlotStatus.read(slot, sql) }) else {
      return
    }
    let bound = settings.postgres.slot.maxRetained
    // For whoever asks while nobody can hold it.
    figures.slot = SlotReport(slot, status.health, bound: bound)
    var guardian = SlotGuard(bound: bound)
    guard let bound, case .giveUp(let reason) = guardian.heard(status.health) else { return }
    let isGone = try trouble { () throws(PostgresError) in
      try SlotStatus.drop(slot, keepingMoreThan: bound, sql)
    }
    if isGone { log.warning("dropped replication slot \(slot): \(reason)") }
  }

  /// Waits until nobody holds the slot. False: the process stops.
  private mutating func standBy(_ slot: String, _ sql: borrowing SQLSession) throws(TailTrouble) -> Bool {
    var standstill = Standstill()
    var reader: BeatReader?
    while !stop.isSet {
      let status = try trouble { () throws(PostgresError) in try SlotStatus.read(slot, sql) }
      guard let status, status.isActive else { return true }
      figures.slot = nil
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
}
