import Invalidation

/// The tail thread of a host: mirrors `TailRunner.tailForFleet` (stand by, take the slot, take the state over)
/// and `TailLoop.run`.
final class Tailer {
  private unowned let host: Host
  private var world: World { host.world }
  /// What belongs to an earlier attempt no longer matters.
  private var attempt = 0
  private var began = Instant(nanoseconds: 0)
  private var pause: UInt64 = 250_000_000
  private var regressed = false

  private var sql: Link?
  private var stream: Link?
  private var sink: Link?
  private var walsender: Walsender?
  private var identity = ServerIdentity(systemID: "7", timeline: 1)
  private var token = ""
  private var created = false
  /// What this session has heard of the definitions.
  private var definitions = 0
  private var standstill = Standstill()

  private(set) var session: TailSession?
  private var inbox: [Walsender.LogMessage] = []
  /// Whose rows come now.
  private var transaction: UInt32 = 0
  private var asked: Question?
  private var askedAt = Instant(nanoseconds: 0)
  private var sentAt: Instant?
  private var lastConfirm = Instant(nanoseconds: 0)
  private var confirmed = LSN.zero
  private var wakes = 0
  /// The last V that a reply has told of.
  private var answered = LSN.zero
  private var beginning = LSN.zero

  init(_ host: Host) { self.host = host }

  // MARK: TailRunner

  func die() {
    attempt += 1
    end()
    regressed = false
    pause = 250_000_000
  }

  /// The run is over.
  func forgetAll() { (sql, stream, sink, walsender) = (nil, nil, nil, nil) }

  private func end() {
    sql?.cut()
    sink?.cut()
    if let walsender, let stream {
      // The server notices at once that a process is gone, and not at all that a host is.
      if world.postgres.slot?.walsender === walsender, world.random.below(4) != 0 { walsender.end() }
      stream.cut()
    }
    (sql, stream, sink, walsender, asked, sentAt) = (nil, nil, nil, nil, nil, nil)
    session = nil
    inbox = []
  }

  private func trouble(_ why: String) {
    world.note("\(host.number): tail rests: \(why)")
    attempt += 1
    end()
    pause = host.clock.since(began) > 5_000_000_000 ? 250_000_000 : min(pause * 2, 5_000_000_000)
    let attempt = attempt
    host.after(pause / 2 + world.random.below(pause / 2)) { [self] in
      if attempt == self.attempt { start() }
    }
  }

  var holdsSlot: Bool { walsender.map { world.postgres.slot?.walsender === $0 } ?? false }

  func stallSink(for time: UInt64) { sink?.stallRequests(for: time) }
  func stallStream(for time: UInt64) { stream?.stallReplies(for: time) }

  func start() {
    attempt += 1
    began = host.clock
    guard let link = connect() else { return trouble("PostgreSQL is down") }
    sql = link
    standstill = Standstill()
    standBy(link)
  }

  private func connect() -> Link? {
    guard world.postgres.isUp else { return nil }
    let (attempt, postgres) = (attempt, world.postgres)
    let link = Link(world, host, incarnation: { postgres.connections }) { [unowned self] in
      if attempt == self.attempt { trouble("a connection to PostgreSQL is lost") }
    }
    postgres.links.append(link)
    return link
  }

  private func call<Reply>(
    _ link: Link, _ work: @escaping (SimulatedPostgres) -> Reply, _ then: @escaping (Reply) -> Void
  ) {
    let (attempt, postgres) = (attempt, world.postgres)
    link.send { [self] in
      let reply = work(postgres)
      link.answer { [self] in if attempt == self.attempt { then(reply) } }
    }
  }

  private func standBy(_ link: Link) {
    call(link) {
      $0.slot
    } _: { [self] slot in
      guard let walsender = slot?.walsender else { return connectStream(link) }
      if world.redis.isUp {
        let state = world.redis.data.state.map { (generation: $0.generation, beats: $0.beats) }
        let holder = Standstill.Holder(walsender: walsender.pid, answered: "\(walsender.heard)")
        if standstill.heard(holder, state: state, now: host.clock) {
          call(link) { postgres in
            if postgres.slot?.walsender === walsender { walsender.end() }
          } _: {
          }
        }
      } else {
        standstill.forget()
      }
      let attempt = attempt
      host.after(500_000_000 + world.random.below(500_000_000 as UInt64)) { [self] in
        if attempt == self.attempt { standBy(link) }
      }
    }
  }

  private func connectStream(_ link: Link) {
    guard let stream = connect() else { return trouble("PostgreSQL is down") }
    self.stream = stream
    call(link) {
      ($0.timeline, $0.slot == nil)
    } _: { [self] timeline, isMissing in
      identity = ServerIdentity(systemID: "7", timeline: timeline)
      created = isMissing
      if isMissing { makeSlot(link) } else { take(link, stream) }
    }
  }

  /// CREATE_REPLICATION_SLOT waits until nobody writes any more.
  private func makeSlot(_ link: Link) {
    guard let stream else { return }
    call(link) { postgres -> Bool? in
      if postgres.slot != nil { return nil }
      guard postgres.canMakeSlot else { return false }
      postgres.makeSlot()
      return true
    } _: { [self] made in
      switch made {
      case .some(true): take(link, stream)
      case .some(false):
        let attempt = attempt
        host.after(2_000_000) { [self] in if attempt == self.attempt { makeSlot(link) } }
      case .none: trouble("somebody else has made the slot")
      }
    }
  }

  private func take(_ link: Link, _ stream: Link) {
    call(link) {
      $0.definitions
    } _: { [self] definitions in
      let attempt = attempt
      world.tailers += 1
      let pid = Int32(world.tailers)
      call(stream) { [self] postgres -> Walsender? in
        guard let slot = postgres.slot, slot.walsender == nil else { return nil }
        let walsender = Walsender(
          world, stream, pid: pid, from: slot.confirmed, beginning: slot.beginning
        ) { [self] message in
          guard attempt == self.attempt else { return }
          inbox.append(message)
          pump()
        }
        postgres.slot?.walsender = walsender
        walsender.push()
        return walsender
      } _: { [self] walsender in
        guard let walsender else { return trouble("the slot is taken") }
        self.walsender = walsender
        call(link) { postgres -> Held? in
          guard let slot = postgres.slot, slot.walsender === walsender else { return nil }
          postgres.endOne()
          return Held(
            confirmed: LSN(slot.confirmed), written: LSN(postgres.written), running: postgres.snapshot,
            canary: postgres.canary, definitions: definitions)
        } _: { [self] held in
          guard let held else { return trouble("the slot is not held") }
          takeOver(held)
        }
      }
    }
  }

  /// What was found when the slot was taken.
  private struct Held {
    var confirmed: LSN
    var written: LSN
    var running: Snapshot
    var canary: Generation?
    var definitions: Int
  }

  private func takeOver(_ held: Held) {
    guard world.redis.isUp else { return trouble("Redis is down") }
    let (attempt, redis) = (attempt, world.redis)
    let link = Link(world, host, incarnation: { redis.incarnation }) { [unowned self] in
      if attempt == self.attempt { trouble("the connection to Redis is lost") }
    }
    redis.links.append(link)
    sink = link
    token = Generation(world.random.next()).hex
    let (token, server) = (token, identity)
    let fingerprint = world.weakness.product.contains(.ignoresFingerprint) ? "" : String(held.definitions)
    write(link) {
      $0.takeover(
        token: token, system: server.systemID, timeline: server.timeline, mapping: Host.mapping,
        fingerprint: fingerprint)
    } _: { [self] reply in
      guard let reply = reply.stateReply else { return trouble("Redis answered an error") }
      let acquisition = Acquisition.decide(
        reply, slotCreated: created, confirmed: held.confirmed, written: held.written,
        canary: .holds(held.canary), regressed: regressed, weakness: world.weakness.product)
      definitions = held.definitions
      world.note("\(host.number): holds the slot at \(held.confirmed): \(acquisition)")
      switch acquisition {
      case .refuse(let why): return trouble(why)
      case .resume(let state):
        answered = state.visible
        world.count("resumed")
      case .begin(_, let reason):
        answered = .zero
        world.count(String(reason.prefix { !$0.isNumber }))
      }
      session = TailSession(
        token: token, server: server, mapping: Host.mapping, acquisition: acquisition,
        confirmed: held.confirmed, running: held.running, fingerprint: String(held.definitions),
        cadence: Cadence(bound: world.swarm.bound), now: host.clock,
        keysPerStep: world.swarm.keysPerStep, groupsPerStep: world.swarm.keysPerStep, mostPending: 50)
      session?.weakness = world.weakness.product
      self.confirmed = .zero
      pump()
    }
    host.after(4_000_000_000) { [self] in
      if attempt == self.attempt, session == nil { trouble("no answer to a takeover") }
    }
  }

  private func write(
    _ link: Link, _ script: @escaping (inout ModelRedis) -> ModelRedis.TailerReply,
    _ then: @escaping (ModelRedis.TailerReply) -> Void
  ) {
    let (attempt, redis) = (attempt, world.redis)
    link.send { [self] in
      let reply = redis.write(script)
      link.answer { [self] in if attempt == self.attempt { then(reply) } }
    }
  }

  // MARK: TailLoop

  private func pump() {
    guard session != nil else { return }
    while session?.isFull == false, !inbox.isEmpty { hear(inbox.removeFirst()) }
    let drained = inbox.isEmpty
    converse(drained)
    if let sentAt, host.clock.since(sentAt) > Host.redisTimeout {
      return trouble("Redis has not answered in time")
    }
    let new = Generation(world.random.next())
    var until = host.clock
    switch session?.next(now: host.clock, drained: drained, random: { new }) {
    case .send(let request):
      until = Instant(nanoseconds: until.nanoseconds + 100_000_000)
      send(request)
    case .apply(let request, let chunk):
      until = Instant(nanoseconds: until.nanoseconds + 100_000_000)
      apply(request, chunk)
    case .wait(let instant): until = instant
    case .end: return trouble("definitions have changed")
    case nil: return
    }
    confirm()
    wakes += 1
    let (wake, attempt) = (wakes, attempt)
    let latest = Instant(nanoseconds: host.clock.nanoseconds + 100_000_000)
    let earliest = Instant(nanoseconds: host.clock.nanoseconds + 200_000)
    host.after(max(earliest, min(until, latest)).since(host.clock)) { [self] in
      if attempt == self.attempt, wake == wakes { pump() }
    }
  }

  private func hear(_ message: Walsender.LogMessage) {
    switch message {
    case .began(let id):
      transaction = id
      session?.heard(.began(transaction: id))
    case .rows(let keys, let groups):
      let origin = KeyOrigin.named(by: transaction)
      for key in keys { world.keys[key].withBytes { session?.pending.append($0, table: 0, origin: origin) } }
      for group in groups { group.withUnsafeBytes { session?.pending.append(group: $0, table: 0) } }
      session?.heard(.rows)
    case .doubt(let doubt): session?.heard(.doubt(doubt))
    case .committed(let commit): session?.heard(.committed(commit))
    case .keepalive(let end): session?.heardKeepalive(LSN(end))
    }
  }

  private func converse(_ drained: Bool) {
    guard asked == nil, let sql else {
      if host.clock.since(askedAt) > 10_000_000_000 { trouble("no answer to a question") }
      return
    }
    guard let question = session?.ask(now: host.clock, drained: drained) else { return }
    asked = question
    askedAt = host.clock
    let (attempt, postgres) = (attempt, world.postgres)
    func reply(_ answer: Answer) {
      sql.answer { [self] in
        guard attempt == self.attempt, session != nil else { return }
        asked = nil
        if case .fingerprint(let found) = answer { definitions = Int(found) ?? 0 }
        session?.answered(answer, now: host.clock)
        pump()
      }
    }
    sql.send { [self] in
      switch question {
      case .look: reply(.look(postgres.snapshot))
      case .sample(let watched):
        // The statement's snapshot is taken before anything in it is computed.
        let (snapshot, canary) = (postgres.snapshot, postgres.canary)
        world.at(world.now + world.random.below(200_000 as UInt64)) {
          reply(
            .sample(
              Sample(
                written: LSN(postgres.written), snapshot: snapshot, canary: canary,
                watched: watched.map { postgres.status($0) })))
        }
      case .nudge:
        postgres.commitPlain()
        reply(.nudged)
      case .mark(let generation):
        postgres.canary = generation
        postgres.commitPlain()
        reply(.marked)
      case .fingerprint: reply(.fingerprint(String(postgres.definitions)))
      }
    }
  }

  private func send(_ request: StateRequest) {
    guard let sink else { return }
    sentAt = host.clock
    switch request {
    case .takeover: preconditionFailure("a session has taken over")
    case .newGeneration(
      let token, let old, let new, let server, let mapping, let applied, let visible, let wt,
      let fingerprint):
      beginning = visible
      let order = ModelRedis.NewGeneration(
        token: token, old: old, new: new, system: server.systemID, timeline: server.timeline,
        mapping: mapping,
        W: applied, V: visible, wt: wt,
        fingerprint: world.weakness.product.contains(.ignoresFingerprint) ? "" : fingerprint)
      write(sink) {
        $0.newGeneration(order, journal: old ?? new)
      } _: { [self] in
        replied($0)
      }
    case .purge(let check, let cursor):
      let redis = world.redis
      write(sink) {
        let step = redis.scan(Int(cursor) ?? 0)
        return $0.purge(
          token: check.token, g: check.generation, n: check.count, places: step.places, next: step.next
        ) { _ in true }
      } _: { [self] in
        replied($0)
      }
      strike(sink, world.swarm.strikes)
    case .sweep(let check, let cursor, let groups):
      let (redis, keyNamed) = (world.redis, world.keyNamed)
      world.count("sweep")
      write(sink) {
        let step = redis.scan(Int(cursor) ?? 0)
        return $0.sweep(
          token: check.token, g: check.generation, n: check.count, groups: groups, places: step.places,
          next: step.next
        ) { keyNamed[$0]?.tags ?? PackedKeys() }
      } _: { [self] in
        replied($0)
      }
      strike(sink, world.swarm.sweepStrikes)
    case .swept(let check, let pending):
      write(sink) {
        $0.swept(token: check.token, g: check.generation, n: check.count, pending: pending)
      } _: { [self] in
        replied($0)
      }
    case .purged(let check):
      write(sink) {
        $0.purged(token: check.token, g: check.generation, n: check.count)
      } _: { [self] in
        replied($0)
      }
    }
  }

  /// A failover that takes the last steps back, while the connection is led on.
  private func strike(_ link: Link, _ chance: Int) {
    guard chance > 0, world.random.once(in: chance) else { return }
    link.send { [world] in if !world.isQuiet { world.redis.failOver(outliving: true, latest: 2) } }
  }

  private func apply(_ request: ApplyRequest, _ chunk: Range<Int>) {
    guard let sink else { return }
    sentAt = host.clock
    var keys: [Key] = []
    for index in chunk {
      if let name = session?.sending.withKey(index, { key, _ in String(decoding: key, as: UTF8.self) }),
        let key = world.keyNamed[name]
      {
        keys.append(key)
      }
    }
    var packed = PackedKeys()
    for key in keys { key.withBytes { packed.append($0) } }
    var (groups, groupBuckets, raisesFloor): ([String], [Int], Bool) = ([], [], false)
    for index in request.groups {
      session?.sending.withGroup(index) { group, _ in
        groups.append(String(decoding: group, as: UTF8.self))
        groupBuckets.append(KeyHash.bucket(group))
        if world.mapping.groups.isAdHoc(group) { raisesFloor = true }
      }
    }
    let order = ModelRedis.Apply(
      token: request.check.token, g: request.check.generation, n: request.check.count, W: request.applied,
      V: request.visible, X: request.fence, beat: request.sampled != nil,
      wt: request.stopsWatching ? false : nil, keep: world.swarm.journalKeep, keys: keys.map(\.name),
      buckets: keys.map(\.bucket), packed: packed,
      origins: session?.sending.packedOrigins(chunk, groups: request.groups), messages: keys.isEmpty ? 0 : 1,
      groups: groups, groupBuckets: groupBuckets, raisesFloor: raisesFloor, tellsPending: request.tellsPending
    )
    world.note(
      "\(host.number): apply W \(order.W) V \(order.V) X \(order.X)\(order.beat ? " beat" : "") \(order.keys + order.groups)"
    )
    write(sink) {
      $0.apply(order)
    } _: { [self] in
      replied($0)
    }
  }

  private func replied(_ reply: ModelRedis.TailerReply) {
    sentAt = nil
    guard let parsed = reply.stateReply else { return trouble("Redis answered an error") }
    if case .applied(_, let visible, _, _) = parsed { answered = visible }
    switch session?.replied(parsed, now: host.clock) {
    case .began(let generation, let reason):
      answered = beginning
      regressed = false
      world.count("generation")
      world.note("\(host.number): generation \(generation): \(reason)")
    case .cleared:
      world.count("cleared")
      world.note("\(host.number): cleared")
    case .over(let ending):
      if ending == .regressed { regressed = true }
      world.count("over: \(ending)")
      return trouble("\(ending)")
    case .goOn, nil: break
    }
    pump()
  }

  private func confirm() {
    guard let stream, let walsender, let confirmable = session?.confirmable else { return }
    if confirmable > answered {
      world.fail("\(confirmable) may be confirmed, but replies have told of \(answered)")
    }
    let now = host.clock
    guard
      confirmable > confirmed && now.since(lastConfirm) >= 10_000_000
        || now.since(lastConfirm) >= 1_000_000_000
    else { return }
    lastConfirm = now
    confirmed = max(confirmed, confirmable)
    let (postgres, position) = (world.postgres, confirmable.rawValue)
    stream.send { postgres.confirm(position, by: walsender) }
  }
}
