import Invalidation
import NearCache

/// SETs that are written through: mirrors `EventLoop+Writing`.
extension Host {
  struct Through {
    var writes: [Int: ThroughWrite] = [:]
    var last = 0
    var keys: [Int: WrittenKey] = [:]
    /// `ep` as it was last heard.
    var session: String?
    var sessionAsked = Instant(nanoseconds: 0)
    var sessionGeneration: Generation?
    var gaps = 0
    /// Of each key the newest SET that has been answered OK.
    var committed: [Int: Committed] = [:]
  }

  struct Committed {
    /// When everybody saw it.
    var at: UInt64
    /// A Redis that loses writes brings back what was removed, and a crash what was replaced.
    var losses: Int
    var incarnation: Int
  }

  struct WrittenKey {
    /// The SET whose statement runs.
    var running: Int?
    var queue: [Int] = []
    var newest = 0
    var count = 0
    var sightings: [Sighting] = []
    /// The entries by which applications have removed it since the first of them came, and those that were for SETs
    /// of this host.
    var removals: [JournalID] = []
    var own: [JournalID] = []
  }

  struct Sighting {
    var transaction: UInt32
    var generation: Generation
    var entry: JournalID
    var position: LSN
  }

  struct ThroughWrite {
    enum Phase { case writing, removing, awaiting, storing }

    var id: Int
    var key: Key
    var text: String
    var version: Int
    var life: UInt64?
    var client: (Outcome) -> Void
    var gaps: Int
    var session: String?
    var phase = Phase.writing
    var transaction: UInt32?
    var removal: JournalID?
    /// How much Redis had lost when it removed the key.
    var removedAt: Int?
    var isUnknown = false
    var committed: Committed?
  }

  // MARK: Writing

  func setThrough(_ key: Key, _ version: Int, life: UInt64?, _ client: @escaping (Outcome) -> Void) {
    through.last += 1
    let id = through.last
    through.writes[id] = ThroughWrite(
      id: id, key: key, text: Oracle.text([version]), version: version, life: life, client: client,
      gaps: through.gaps, session: through.session)
    var written = through.keys[key.number] ?? WrittenKey()
    written.count += 1
    written.newest = id
    if written.running == nil { written.running = id } else { written.queue.append(id) }
    through.keys[key.number] = written
    if written.running == id { submit(id) }
  }

  /// The statement, on a connection of the pool.
  private func submit(_ id: Int) {
    guard let write = through.writes[id] else { return }
    let postgres = world.postgres
    guard postgres.isUp else {
      world.oracle.refuse(write.version)
      return wrote(id, nil, isUnknown: false)
    }
    let link = Link(world, self, incarnation: { postgres.connections }) { [unowned self] in
      turn { [unowned self] in wrote(id, nil, isUnknown: true) }
    }
    postgres.links.append(link)
    let world = world
    link.send {
      postgres.update(row: write.key.rows[0], to: write.version) { transaction in
        let committed = Committed(at: world.now, losses: 0, incarnation: postgres.incarnation)
        link.answer { [self] in
          postgres.links.removeAll { $0 === link }
          turn { [self] in
            if transaction != nil { through.writes[id]?.committed = committed }
            wrote(id, transaction, isUnknown: false)
          }
        }
      }
    }
  }

  /// The statement has ended; `transaction` nil: it has failed, or nobody knows.
  private func wrote(_ id: Int, _ transaction: UInt64?, isUnknown: Bool) {
    guard let write = through.writes[id], write.phase == .writing else { return }
    startNext(write.key.number)
    guard transaction != nil || isUnknown else { return finish(id, .error) }
    world.count(isUnknown ? "SET through: unknown" : "SET through: committed")
    through.writes[id]?.transaction = transaction.map { UInt32(truncatingIfNeeded: $0) }
    through.writes[id]?.isUnknown = isUnknown
    removeWritten(id)
  }

  private func startNext(_ key: Int) {
    guard var written = through.keys[key] else { return }
    written.running = written.queue.isEmpty ? nil : written.queue.removeFirst()
    through.keys[key] = written
    if let next = written.running { submit(next) }
  }

  private func finish(_ id: Int, _ outcome: Outcome) {
    guard let write = through.writes.removeValue(forKey: id) else { return }
    let key = write.key.number
    if let count = through.keys[key]?.count, count > 1 {
      through.keys[key]?.count = count - 1
    } else {
      through.keys[key] = nil
    }
    if case .done = outcome, !write.isUnknown { noteCommitted(write) }
    write.client(write.isUnknown ? .error : outcome)
  }

  // MARK: Removing

  private func removeWritten(_ id: Int) {
    guard let write = through.writes[id] else { return }
    guard upstreams[0] != nil, !world.weakness.contains(.keepsOnCommit) else {
      if world.weakness.contains(.keepsOnCommit) { through.writes[id]?.removedAt = world.redis.losses }
      return finish(id, .done)
    }
    through.writes[id]?.phase = .removing
    let keep = world.swarm.journalKeep
    var losses = 0
    request(
      via: 0,
      client: { [self] _ in
        noteWrite(write.key)
        finish(id, .done)
      }
    ) { redis in
      losses = redis.losses
      return redis.write {
        $0.del(
          [(key: write.key.name, bucket: write.key.bucket, tags: write.key.tags)], getting: false,
          keep: keep, message: true)
      }
    } _: { [self] reply in
      noteWrite(write.key)
      guard reply.word == .ok, reply.error == nil else { return finish(id, .done) }
      through.writes[id]?.removedAt = losses
      through.writes[id]?.removal = reply.jl
      if let entry = reply.jl { through.keys[write.key.number]?.own.append(entry) }
      guard !write.isUnknown, reply.jl != nil, write.transaction != nil, isNewest(id) else {
        return finish(id, .done)
      }
      through.writes[id]?.phase = .awaiting
      after(world.swarm.patience) { [self] in
        turn { [self] in if through.writes[id]?.phase == .awaiting { finish(id, .done) } }
      }
      storeIfSeen(id)
    }
  }

  private func isNewest(_ id: Int) -> Bool {
    world.weakness.contains(.storesOlderSets)
      || through.writes[id].map { through.keys[$0.key.number]?.newest == id } ?? false
  }

  /// The client is told that its SET is done: from now on nobody on this host is shown anything older.
  private func noteCommitted(_ write: ThroughWrite) {
    guard var committed = write.committed, let losses = write.removedAt else { return }
    committed.losses = losses
    let known = through.committed[write.key.number]
    if let known, known.at > committed.at, known.losses == losses { return }
    through.committed[write.key.number] = committed
  }

  func checkWritten(_ text: String, _ committed: Committed?, _ key: Key) {
    guard let committed, committed.losses == world.redis.losses,
      committed.incarnation == world.postgres.incarnation, !world.redis.isDoubted
    else { return }
    world.count("read after a SET through")
    world.check(text, before: committed.at + 1, "read of \(key.name) on host \(number) after its SET")
  }

  // MARK: Storing

  func missedEntries() {
    guard !through.keys.isEmpty else { return }
    through.gaps += 1
    for key in through.keys.keys { through.keys[key]?.sightings = [] }
  }

  func noteSightings(_ entries: [JournalEntry], _ generation: Generation) {
    guard !through.keys.isEmpty, follower.generation == generation else { return }
    var seen: Set<Int> = []
    for entry in entries {
      var index = 0
      entry.keys.forEach { name in
        defer { index += 1 }
        guard let key = world.keyNamed[String(decoding: name, as: UTF8.self)],
          through.keys[key.number] != nil
        else { return }
        guard let origins = entry.origins else {
          through.keys[key.number]?.removals.append(entry.id)
          return
        }
        if let origin = origins[index] {
          through.keys[key.number]?.sightings.append(
            Sighting(
              transaction: origin.transaction, generation: generation, entry: entry.id,
              position: entry.position))
          seen.insert(key.number)
        }
      }
    }
    let waiting = through.writes.values.filter { $0.phase == .awaiting && seen.contains($0.key.number) }
    for write in waiting.sorted(by: { $0.id < $1.id }) { storeIfSeen(write.id) }
  }

  private func storeIfSeen(_ id: Int) {
    guard let write = through.writes[id], write.phase == .awaiting, let transaction = write.transaction,
      let sightings = through.keys[write.key.number]?.sightings
    else { return }
    let isAny = world.weakness.contains(.storesAtAnySighting)
    guard let sighting = sightings.last(where: { $0.transaction == transaction || isAny }) else { return }
    guard sighting.entry == sightings.last?.entry, write.gaps == through.gaps,
      sighting.generation == follower.generation, upstreams[0] != nil, isNewest(id),
      isRemovedByOthers(write.key) == false || world.weakness.contains(.forgetsRemovals)
    else { return finish(id, .done) }
    store(write, sighting)
  }

  /// Whether another host may have committed a later SET, which the log has not told of yet.
  private func isRemovedByOthers(_ key: Key) -> Bool {
    guard let written = through.keys[key.number] else { return true }
    return written.removals.contains { !written.own.contains($0) }
  }

  private func store(_ write: ThroughWrite, _ sighting: Sighting) {
    guard let session = write.session else { return finish(write.id, .done) }
    let (id, key) = (write.id, write.key)
    noteWrite(key)
    let version = writes[key.number]
    through.writes[id]?.phase = .storing
    let expires = write.life.map { Instant(nanoseconds: now.nanoseconds + $0 * 1_000_000) }
    let order = ModelRedis.Written(
      g: sighting.generation, entry: sighting.entry, position: sighting.position, removal: write.removal,
      key: key.name, tags: key.tags, life: write.life.map { Int($0) }, value: write.text, session: session)
    request(via: 0, writes: key, client: { [self] _ in finish(id, .done) }) { redis in
      redis.write { $0.written(order) }
    } _: { [self] reply, _ in
      let moved = version != writes[key.number]
      noteWrite(key)
      world.count("SET through: \(reply.word.rawValue) \(reply.reply == .null ? "" : "stored")")
      defer { finish(id, .done) }
      guard reply.word == .ok else {
        through.sessionAsked = Instant(nanoseconds: 0)
        return
      }
      guard reply.reply != .null, let g = reply.found.g, let h = reply.found.h, let jl = reply.found.jl,
        follower.accepts(generation: g, beats: h, journal: jl), !moved
      else { return }
      keepNear(key, version: writes[key.number], serial: nil, write.text, expires: expires)
    }
  }

  func askForSession() {
    guard world.swarm.written > 0, upstreams[0] != nil, let generation = follower.generation else { return }
    let isNew = through.session == nil || generation != through.sessionGeneration
    guard isNew || now.since(through.sessionAsked) >= 1_000_000_000 else { return }
    through.sessionAsked = now
    through.sessionGeneration = generation
    request(via: 0, client: nil, { $0.data.hash?.ep }) { [self] in through.session = $0.map { String($0) } }
  }
}
