import Configuration
import Invalidation
import NearCache

/// Commands of applications: mirrors `EventLoop+Reads`, `+ReadReplies`, `+Writes` and `+WriteReplies` for GET,
/// SET, NEARSIDE LEASE, NEARSIDE FILL, DEL and EXPIRE, one key each.
extension Host {
  struct Upstream {
    let link: Link
    var awaited: [Request] = []
    var heardAt: Instant
  }

  /// A request under way: whom to tell, and what to do if no reply comes.
  struct Request {
    var number: Int
    var client: ((Outcome) -> Void)?
    /// A governed write that may have been carried out.
    var writes: Key?
    var clears: [UInt8]?
  }

  enum Outcome {
    case hit(String)
    /// With the token, where one was asked for.
    case miss(Lease?)
    case done
    /// NEARSIDE FILL: not stored.
    case refused
    case error
  }

  static let redisTimeout: UInt64 = 1_000_000_000

  // MARK: The connection (EventLoop+Upstream.swift)

  func connectUpstream(_ via: Int) {
    guard upstreams[via] == nil, !isConnecting[via], world.redis.isUp else { return }
    isConnecting[via] = true
    let redis = world.redis
    after(1_000_000 + world.random.below(30_000_000 as UInt64)) { [self] in
      isConnecting[via] = false
      guard redis.isUp else { return }
      let link = Link(world, self, incarnation: { redis.incarnation }) { [unowned self] in
        turn { [unowned self] in upstreamFailed(via) }
      }
      redis.links.append(link)
      upstreams[via] = Upstream(link: link, heardAt: clock)
    }
  }

  func giveUpSilentUpstream(_ via: Int) {
    guard let upstream = upstreams[via] else { return }
    if upstream.awaited.isEmpty {
      upstreams[via]?.heardAt = now
    } else if now.since(upstream.heardAt) >= Self.redisTimeout {
      upstreamFailed(via)
    }
  }

  private func upstreamFailed(_ via: Int) {
    guard let upstream = upstreams[via] else { return }
    upstream.link.cut()
    upstreams[via] = nil
    for request in upstream.awaited {
      // `abandon`: no reply will come, and Redis may have carried the write out.
      if let key = request.writes { noteWrite(key) }
      request.clears?.withUnsafeBytes { clear($0) }
      request.client?(.error)
    }
  }

  /// Sends one request; `finish` is run in a turn of the loop when its reply has come.
  func request<Reply>(
    via: Int, writes: Key? = nil, clears: [UInt8]? = nil, client: ((Outcome) -> Void)?,
    _ work: @escaping (SimulatedRedis) -> Reply,
    _ finish: @escaping (Reply) -> Void
  ) {
    guard let link = upstreams[via]?.link else {
      client?(.error)
      return
    }
    let number = expect(via, writes, clears, client)
    let redis = world.redis
    link.send {
      let reply = work(redis)
      link.answer { [self] in
        turn { [self] in if settle(via, number, link) { finish(reply) } }
      }
    }
  }

  private func expect(
    _ via: Int, _ writes: Key?, _ clears: [UInt8]?, _ client: ((Outcome) -> Void)?
  ) -> Int {
    requests += 1
    upstreams[via]?.awaited.append(
      Request(number: requests, client: client, writes: writes, clears: clears))
    return requests
  }

  /// False if it has been given up meanwhile.
  private func settle(_ via: Int, _ number: Int, _ link: Link) -> Bool {
    guard upstreams[via]?.link === link, upstreams[via]?.awaited.first?.number == number else { return false }
    upstreams[via]?.awaited.removeFirst()
    upstreams[via]?.heardAt = now
    return true
  }

  func ask() {
    request(via: 0, client: nil, { redis in redis.write { $0.ask() } }, { _ in })
  }

  // MARK: Reads

  /// GET, or with `token` NEARSIDE LEASE.
  func read(_ key: Key, via: Int = 0, _ client: @escaping (Outcome) -> Void) {
    let removal = removed[key.number]
    let written = through.committed[key.number]
    if isFresh(at: clock) || world.weakness.contains(.nearHitsNeedNoEvidence), let text = findNear(key) {
      world.hit(text, self, near: true, key)
      checkRemoved(text, removal, key)
      checkWritten(text, written, key)
      return client(.hit(text))
    }
    ask(for: key, via: via, holdUntil: nil) { [self] outcome in
      if case .hit(let text) = outcome {
        checkRemoved(text, removal, key)
        checkWritten(text, written, key)
      }
      client(outcome)
    }
  }

  private func ask(
    for key: Key, via: Int, holdUntil: Instant?, _ client: @escaping (Outcome) -> Void
  ) {
    guard let link = upstreams[via]?.link else { return client(.error) }
    let number = expect(via, nil, nil, client)
    let asked = now
    let basis = follower.basis
    let version = writes[key.number]
    let serial = serial(key)
    let redis = world.redis
    let valueFirst = world.weakness.contains(.valueBeforeState)
    // Three requests in one pipeline. Other connections' requests may be carried out between them.
    var state: FleetState?
    var fence: Stamp?
    var value: String?
    // A proxy may keep a connection over a change of server, but not in the middle of a pipeline: that is assumed.
    var incarnations: [Int] = []
    let readState = {
      incarnations.append(redis.incarnation)
      state = redis.state
      let hash = redis.data.hash
      fence = key.buckets.compactMap { hash?.fences[$0] }.reduce(hash?.F ?? .zero) { max($0, $1) }
    }
    let readValue = {
      incarnations.append(redis.incarnation)
      value = redis.get(key.name)
    }
    link.send(valueFirst ? readValue : readState)
    if world.swarm.splitReads, world.random.once(in: 3) { link.dawdle() }
    world.perhapsFailOver()
    link.send(valueFirst ? readState : readValue)
    if world.swarm.splitReads, world.random.once(in: 6) { link.dawdle() }
    link.send { [self] in
      let life = redis.life(key.name)
      link.answer { [self] in
        turn { [self] in
          guard settle(via, number, link) else { return }
          guard incarnations[0] == incarnations[1] || valueFirst else { return client(.error) }
          let answer = { [self] in
            finish(key, version, serial, state, value, life, asked: asked, basis, client)
          }
          guard let state, let fence, fence > state.stamp, holdUntil.map({ clock < $0 }) ?? true,
            value == nil || !isTrusted(key, state), lease(judge(state, basis, key), value) != nil
          else { return answer() }
          holdBack(
            Hold(
              deadline: holdUntil ?? Instant(nanoseconds: now.nanoseconds + 20_000_000), fence: fence,
              generation: state.generation, key: key, via: via, client: client, finish: answer))
        }
      }
    }
  }

  /// finishGet and finishLease.
  private func finish(
    _ key: Key, _ version: UInt32, _ serial: UInt32?, _ state: FleetState?, _ value: String?, _ life: Int,
    asked: Instant,
    _ basis: Follower.Basis, _ client: (Outcome) -> Void
  ) {
    let judgement = judge(state, basis, key)
    guard let value, case .trusted(_, let mayKeep) = judgement else {
      let lease = lease(judgement, value)
      world.misses += 1
      world.count("miss: \(state == nil ? "no state" : "\(judgement)".prefix { $0 != "(" } + "")")
      noteMiss(key, lease: lease)
      return client(.miss(lease))
    }
    world.hit(value, self, near: false, key)
    client(.hit(value))
    guard mayKeep || world.weakness.contains(.keepsWhateverCame), life != -2 else { return }
    let expires =
      life < 0 ? nil : Instant(nanoseconds: asked.nanoseconds + UInt64(life) * 1_000_000)
    keepNear(key, version: version, serial: serial, value, expires: expires)
  }

  private func lease(_ judgement: Judgement, _ value: String?) -> Lease? {
    switch judgement {
    case .trusted(let lease, _), .absent(let lease): lease
    case .bypass(let lease): value == nil ? lease : nil
    }
  }

  // MARK: Answers held back (EventLoop+Holds.swift)

  struct Hold {
    var deadline: Instant
    var fence: Stamp
    var generation: Generation
    var key: Key
    var via: Int
    var client: (Outcome) -> Void
    var finish: () -> Void
  }

  private func holdBack(_ hold: Hold) {
    holds.append(hold)
    world.count("held")
    if holds.count == 1 { tickHolds() }
  }

  /// About once a millisecond, on behalf of all.
  private func tickHolds() {
    after(1_000_000) { [self] in
      turn { [self] in
        let due = holds.filter { now >= $0.deadline }
        holds.removeAll { now >= $0.deadline }
        for hold in due { hold.finish() }
        guard !holds.isEmpty else { return }
        if upstreams[0] != nil {
          request(via: 0, client: nil, { $0.state }) { [self] in if let state = $0 { releaseHolds(state) } }
        }
        tickHolds()
      }
    }
  }

  /// Does the reads again whose fences lie no longer above V, and those of another generation.
  func releaseHolds(_ state: FleetState) {
    let over = holds.filter { $0.generation != state.generation || $0.fence <= state.stamp }
    holds.removeAll { $0.generation != state.generation || $0.fence <= state.stamp }
    for hold in over {
      if upstreams[hold.via] == nil {
        hold.finish()
      } else {
        ask(for: hold.key, via: hold.via, holdUntil: hold.deadline, hold.client)
      }
    }
  }

  // MARK: Fills

  /// SET without a token; `dated`: when its connection was last seen empty.
  func set(
    _ key: Key, _ text: String, life: UInt64?, dated: Instant, via: Int = 0,
    _ client: @escaping (Outcome) -> Void
  ) {
    let hash = key.withBytes { KeyHash.hash($0, seed: ledger.seed) }
    let rule = PlainSetSettings(mode: world.swarm.plainSet, window: world.swarm.window)
    switch ledger.verdict(forSetOf: hash, dated: dated, now: now, rule: rule) {
    case .fill(let lease): fill(key, text, life: life, lease, plain: true, via: via, client)
    case .refuse(let why):
      world.count("SET refused: \(why.rawValue)")
      noteWrite(key)
      ledger.refused(hash, at: now)
      client(.done)
    }
  }

  /// NEARSIDE FILL, and what SET becomes.
  func fill(
    _ key: Key, _ text: String, life: UInt64?, _ lease: Lease, plain: Bool, via: Int,
    _ client: @escaping (Outcome) -> Void
  ) {
    noteWrite(key)
    let version = writes[key.number]
    let serial = serial(key)
    let expires = life.map { Instant(nanoseconds: now.nanoseconds + $0 * 1_000_000) }
    let command = ModelRedis.Command.set(text, life: life.map { .milliseconds(Int($0)) } ?? .none)
    request(via: via, writes: key, client: client) { redis in
      redis.write {
        $0.fill(replaces: true, lease, buckets: key.buckets, tags: key.tags, key: key.name, command)
      }
    } _: { [self] reply in
      world.count("fill \(reply.word.rawValue)")
      guard reply.word == .ok else {
        ledger.refused(key.withBytes { KeyHash.hash($0, seed: ledger.seed) }, at: now)
        noteWrite(key)
        return client(plain ? .done : .refused)
      }
      client(.done)
      let moved = version != writes[key.number]
      noteWrite(key)
      guard let g = reply.found.g, let h = reply.found.h, let jl = reply.found.jl,
        follower.accepts(generation: g, beats: h, journal: jl) || world.weakness.contains(.keepsWhateverCame),
        !moved || world.weakness.contains(.ownWritesNotCounted)
      else { return }
      keepNear(key, version: writes[key.number], serial: serial, text, expires: expires)
    }
  }

  // MARK: Removals

  func remove(
    _ key: Key, via: Int, _ client: @escaping (Outcome) -> Void, removed: @escaping () -> Void
  ) {
    noteWrite(key)
    let keep = world.swarm.journalKeep
    request(via: via, writes: key, client: client) { redis in
      let reply = redis.write {
        $0.del(
          [(key: key.name, bucket: key.bucket, tags: key.tags)], getting: false, keep: keep, message: true)
      }
      if reply.error == nil { removed() }
      return reply
    } _: { [self] reply in
      noteWrite(key)
      client(reply.error == nil ? .done : .error)
    }
  }

  /// NEARSIDE INVALIDATE PREFIX and TAG; the group with its kind.
  func invalidate(
    _ group: [UInt8], via: Int, _ client: @escaping (Outcome) -> Void, cleared: @escaping () -> Void
  ) {
    group.withUnsafeBytes { clear($0) }
    let keep = world.swarm.journalKeep
    let raisesFloor = group.withUnsafeBytes { world.mapping.groups.isAdHoc($0) }
    let bucket = group.withUnsafeBytes { KeyHash.bucket($0) }
    let name = String(decoding: group, as: UTF8.self)
    world.note("\(number): INVALIDATE \(name)")
    request(via: via, clears: group, client: client) { redis in
      let reply = redis.write {
        $0.invalidateGroup(name, bucket: bucket, raisesFloor: raisesFloor, keep: keep)
      }
      if reply.error == nil { cleared() }
      return reply
    } _: { [self] reply in
      group.withUnsafeBytes { clear($0) }
      client(reply.error == nil ? .done : .error)
    }
  }

  func expire(_ key: Key, life: Int, via: Int, _ client: @escaping (Outcome) -> Void) {
    noteWrite(key)
    let keep = world.swarm.journalKeep
    request(via: via, writes: key, client: client) { redis in
      redis.write {
        $0.expire(key.name, bucket: key.bucket, tags: key.tags, keep: keep, message: true, .expire(life))
      }
    } _: { [self] reply in
      noteWrite(key)
      if reply.word == .untrusted || reply.reply == .integer(0) {
        // noteAbsent: the reply says that the key does not exist.
        let state = follower.state
        noteMiss(key, lease: state?.generation == reply.g ? state?.lease : nil)
      }
      client(.done)
    }
  }
}
