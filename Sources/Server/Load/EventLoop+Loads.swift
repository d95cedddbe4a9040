import Configuration
import Invalidation
import NearCache
import Policies

/// Reads that wait for the database.
extension EventLoop {
  /// What a read needs so that it can be done again; nil: none of its keys is loaded.
  func loadedRead(_ request: Request, _ name: String, _ keys: [GovernedKey]) -> LoadedRead? {
    if let resumed = loading.resumed { return resumed.read }
    // A transaction is what Redis does at one moment: nothing is loaded within it.
    guard transacting == nil,
      sql != nil && keys.contains(where: { $0.rule.load != nil })
        || governance.hasTurns && keys.count == 1 && keys[0].rule.turn != nil && Self.takesTurns(name)
    else { return nil }
    var bytes = IOBuffer(size: request.length + 16)
    request.append(to: &bytes)
    return LoadedRead(request: [UInt8](bytes.bytes), name: name, arrival: loading.table.serial)
  }

  /// Of reads of several keys, and of parts, none waits for another client: their replies hang on more.
  private static func takesTurns(_ name: String) -> Bool { name == "get" || name == "lease" }

  /// What is known of a missing key without Redis, and until when: what was loaded for the read that is being
  /// done again, or that there was no such row a moment ago.
  mutating func decision(
    _ key: GovernedKey, _ certificate: Instant?, at instant: Instant
  ) -> (LoadDecision, until: Instant)? {
    guard sql != nil, let rule = key.rule.load else { return nil }
    if let decision = loading.resumed?.read.decided[key.bytes] {
      return (decision, Instant(nanoseconds: .max))
    }
    guard rule.negative != nil, let until = showsNear(key, certificate, at: instant), isKnownAbsent(key)
    else { return nil }
    counters.absentHits += 1
    tally.read(.negativeHit, of: key.rule)
    let lease = embedded == nil ? follower.state?.lease : embedded?.lease
    return (.absent(givesLease(key, certificate, at: instant) ? lease : nil), until)
  }

  /// Whether a miss gives the right to fill: not while values are shown only because PostgreSQL is away.
  func givesLease(_ key: GovernedKey, _ certificate: Instant?, at instant: Instant) -> Bool {
    key.rule.staleness.beyond == .serve || certificate.map { isFresh($0, key.rule, at: instant) } ?? false
  }

  /// A client is told this. That there is nothing gives it the right to store something, as any miss does.
  @discardableResult
  mutating func noteDecision(_ decision: LoadDecision, _ key: GovernedKey) -> Lease? {
    guard case .absent(let lease) = decision else { return nil }
    noteMiss(key, lease: lease)
    return lease
  }

  mutating func replyDecided(
    _ decision: LoadDecision, _ key: GovernedKey, _ request: Request, _ name: String, _ absent: AbsentReply,
    until: Instant, _ slot: Int
  ) {
    noteDecision(decision, key)
    let resp3 = clients[slot].resp3
    replyNear(slot, until: until) { output in
      switch decision {
      case .absent: output.absent(absent, arguments: request.count - 2, name: name, resp3: resp3)
      case .value(let value):
        if !output.loaded(value, name, request, resp3: resp3) { output.error(LoadFailure.restless.reply) }
      }
    }
  }

  /// Whether a read whose replies have come waits for a load; `misses`: of each of its keys.
  mutating func waitsForLoad(_ read: GovernedRead, _ misses: [Miss?], _ slot: Int) -> Bool {
    guard let load = read.load else { return false }
    var missing: [(GovernedKey, Lease?)] = []
    for (key, miss) in zip(read.keys, misses) {
      if let miss, key.rule.load != nil { missing.append((key, miss.lease)) }
    }
    guard !missing.isEmpty else { return false }
    wait(load, missing, number: read.hold?.number ?? clients[slot].hold(), slot)
    return true
  }

  /// Whether a read that Redis cannot be asked about waits for loads instead. `isOwed`: Redis had been asked.
  mutating func loadsWithoutRedis(_ read: GovernedRead, _ slot: Int, isOwed: Bool) -> Bool {
    // A write that is pending is known to Redis alone.
    guard let load = read.load, asksGovernedOnly(read),
      read.keys.allSatisfy({ $0.rule.load != nil && $0.rule.write?.behind == nil })
    else {
      return false
    }
    let number = read.hold?.number ?? (isOwed ? clients[slot].hold() : clients[slot].holdNext())
    wait(load, read.keys.map { ($0, nil) }, number: number, slot)
    return true
  }

  private func asksGovernedOnly(_ read: GovernedRead) -> Bool {
    switch read.shape {
    case .mget(let elements):
      elements.allSatisfy { if case .asked(governed: nil) = $0 { false } else { true } }
    case .exists(_, let governed): governed.allSatisfy { $0 }
    case .get, .lease, .other: true
    }
  }

  /// Holds a read back until the keys that it missed are loaded.
  mutating func wait(
    _ read: LoadedRead, _ missing: [(key: GovernedKey, lease: Lease?)], number: Int, _ slot: Int
  ) {
    read.tries += 1
    if !read.isCounted {
      for (key, _) in missing { tally.read(.miss, of: key.rule) }
      read.isCounted = true
    }
    loading.lastWait += 1
    let id = loading.lastWait
    let patience = missing.compactMap { $0.key.rule.load?.patience }.max() ?? 0
    let deadline = read.deadline ?? now.after(nanoseconds: patience)
    read.deadline = deadline
    var wait = LoadWait(client: clients[slot].token, number: number, read: read, deadline: deadline)
    if read.tries > Loading.mostTries { wait.failure = .restless }
    var seen = Set<[UInt8]>()
    for (key, lease) in missing where wait.failure == nil && seen.insert(key.bytes).inserted {
      guard let rule = key.rule.load else { continue }
      guard rule.values(of: key.bytes) != nil else {
        read.decided[key.bytes] = .absent(lease)
        continue
      }
      // Another's load has ended while Redis was asked.
      if showsNear(key, certificate, at: clock()) != nil, isKnownAbsent(key) || isNear(key, read) { continue }
      counters.loadWaits += 1
      let loads = loading.table.count
      defer { if loading.table.count == loads { tally.coalesced(key.rule) } }
      switch loading.table.join(
        key.bytes, waiter: id, arrival: read.arrival, lease: lease,
        takesValue: LoadedReply.canForm(read.name, rule.shape), isShared: rule.stampede.coalesce ?? true)
      {
      case .waits: wait.missing += 1
      case .full: wait.failure = .full
      case .verdict(let verdict): Self.apply(verdict, of: key.bytes, to: &wait)
      }
    }
    if wait.missing == 0 || wait.failure != nil {
      loading.ready.append(wait)
    } else {
      loading.waits[id] = wait
    }
  }

  /// Whether the near cache answers this read of a key.
  private mutating func isNear(_ key: GovernedKey, _ read: LoadedRead) -> Bool {
    key.bytes.withUnsafeBytes { bytes in
      switch read.name {
      case "get", "mget", "lease": findNear(bytes, hash: key.hash) != nil
      case _ where embedded != nil: findNear(bytes, hash: key.hash) != nil
      case "exists": findHeld(bytes, hash: key.hash) != nil
      default: findAnswer(to: read.name, bytes, hash: key.hash, &read.part) != nil
      }
    }
  }

  private static func apply(
    _ verdict: LoadTable<LoadedValue, LoadFailure>.Verdict, of key: [UInt8], to wait: inout LoadWait
  ) {
    switch verdict {
    case .value(let value): wait.read.decided[key] = .value(value)
    case .absent(let lease): wait.read.decided[key] = .absent(lease)
    case .again: break
    case .failed(let failure): wait.failure = failure
    }
  }

  mutating func release(_ releases: [LoadTable<LoadedValue, LoadFailure>.Release]) {
    for release in releases {
      guard var wait = loading.waits[release.waiter] else { continue }
      wait.missing -= 1
      // What was to be replaced may be shown while PostgreSQL is away.
      if case .failed(let failure) = release.verdict, failure.isUnreachable,
        let key = release.key.withUnsafeBytes({ governedKey($0) }), key.rule.failSafe != nil,
        showsNear(key, certificate, at: clock()) != nil, isNear(key, wait.read)
      {
        if wait.missing == 0 {
          loading.waits[release.waiter] = nil
          loading.ready.append(wait)
        } else {
          loading.waits[release.waiter] = wait
        }
        continue
      }
      Self.apply(release.verdict, of: release.key, to: &wait)
      if wait.missing == 0 || wait.failure != nil {
        loading.waits[release.waiter] = nil
        loading.ready.append(wait)
      } else {
        loading.waits[release.waiter] = wait
      }
    }
  }

  // MARK: Going on

  /// Goes on with the reads whose keys are decided, gives up those that have waited for too long, and begins the
  /// loads that this poll has brought.
  mutating func tickLoads() {
    guard sql != nil || governance.hasTurns else { return }
    tickAway()
    if now.since(loading.checkedAt) >= 50_000_000, !loading.waits.isEmpty {
      loading.checkedAt = now
      for (id, var wait) in loading.waits {
        guard isAlive(wait.client) else {
          loading.waits[id] = nil
          continue
        }
        guard now >= wait.deadline else { continue }
        if !wait.isTurn { wait.failure = .slow }
        loading.waits[id] = nil
        loading.ready.append(wait)
      }
    }
    tickLocks()
    tickReplica()
    tickTurns()
    refreshChanged()
    while !loading.ready.isEmpty {
      let waits = loading.ready
      loading.ready = []
      for wait in waits where isAlive(wait.client) { resume(wait) }
    }
    startLoads()
  }

  private mutating func resume(_ wait: LoadWait) {
    let slot = Int(wait.client.slot)
    loading.resumed = (wait.number, wait.read)
    tally.isRepeated = true
    defer {
      loading.resumed = nil
      tally.isRepeated = false
    }
    if let failure = wait.failure { return reply(slot) { $0.error(failure.reply) } }
    var parser = RequestParser()
    var arguments: [Argument] = []
    wait.read.request.withUnsafeBytes { bytes in
      guard case .command(let length) = parser.next(bytes, into: &arguments), let base = bytes.baseAddress
      else { preconditionFailure("a command that was executed once is whole") }
      arguments.withUnsafeBufferPointer { arguments in
        guard let first = arguments.baseAddress else { return }
        execute(Request(base: base, arguments: first, count: arguments.count, length: length), slot)
      }
    }
  }

  private mutating func startLoads() {
    while loading.table.isDue, let start = loading.table.next(isThere: { loading.waits[$0] != nil }) {
      if !asksForLock(start) { begin(start.load, start.key, isErrand: start.isErrand) }
      guard !loading.table.isAlone(start.load),
        let rule = start.key.withUnsafeBytes({ governance.rule($0)?.load }), rule.many != nil
      else { continue }
      startAlong(rule)
    }
    for load in loading.table.takeDropped() { unlock(load) }
    submitLoads()
  }

  /// Begins loads that may run in one statement with the one before.
  private mutating func startAlong(_ rule: LoadRule) {
    for _ in 1..<Loading.mostAtOnce {
      let start = loading.table.nextAlong(
        isThere: { loading.waits[$0] != nil },
        if: { key in key.withUnsafeBytes { governance.rule($0)?.load === rule } })
      guard let start else { return }
      if !asksForLock(start) { begin(start.load, start.key, isErrand: start.isErrand) }
    }
  }

  /// Begins a load; its statement is sent with the others of this poll.
  mutating func begin(_ load: UInt64, _ key: [UInt8], isErrand: Bool) {
    guard let rule = key.withUnsafeBytes({ governance.rule($0)?.load }) else {
      preconditionFailure("only keys with a load are loaded")
    }
    let isAlone = loading.table.isAlone(load)
    // It has begun before, with others.
    if !isAlone { counters.loads += 1 }
    let lease = loading.table.begins(load)
    let job = LoadJob(
      load: load, key: key, values: rule.values(of: key) ?? [], isErrand: isErrand, rule: rule,
      needed: max(appliedPosition, lease?.stamp.visible ?? .zero),
      deadline: now.after(nanoseconds: rule.patience), isAlone: isAlone)
    loading.begun.append(job)
  }

  /// Asks a replica again that was behind.
  private mutating func tickReplica() {
    guard !loading.behind.isEmpty else { return }
    let due = loading.behind.filter { now >= $0.due }
    guard !due.isEmpty else { return }
    loading.behind.removeAll { now >= $0.due }
    loading.begun += due.map(\.job)
  }

  mutating func loaded(_ job: LoadJob, _ outcome: SQLOutcome) {
    if let replayed = outcome.replayed, replayed < job.needed.rawValue, case .success = outcome.result,
      now < job.deadline
    {
      // The replica is behind what this host has told of: it is asked again, when it has had time to catch up.
      return loading.behind.append((job, due: now.after(nanoseconds: Loading.replicaPause)))
    }
    let result: LoadTable<LoadedValue, LoadFailure>.Outcome
    noteLoad(job, outcome)
    switch outcome.result {
    case .failure(let failure):
      counters.loadsFailed += 1
      result = .failed(LoadFailure(failure))
    case .success where (outcome.replayed ?? .max) < job.needed.rawValue:
      counters.loadsFailed += 1
      result = .failed(.slow)
    case .success(let rows): result = LoadedValue(rows, as: job.rule.shape).map { .value($0) } ?? .absent
    }
    if case .success = outcome.result, let beta = job.rule.stampede.early {
      loading.early.took(job.key.withUnsafeBytes { near.hash($0) }, outcome.took, beta: beta)
    }
    guard let ended = loading.table.finished(job.load, result) else { return }
    release(ended.releases)
    guard let lease = ended.lease else { return unlock(job.load) }
    var value: LoadedValue?
    if case .value(let loaded) = result { value = loaded }
    // A change of row 7 clears the key of 7, and not one of 007, which finds the same row.
    guard LoadRule.areSpeltAsPrinted(job.values, outcome.types) else {
      counters.loadsNotStored += 1
      return filled(job.load, stored: false)
    }
    store(job, value, lease)
  }

  private mutating func noteLoad(_ job: LoadJob, _ outcome: SQLOutcome) {
    guard let rule = job.key.withUnsafeBytes({ governance.rule($0) }) else { return }
    let result: Tally.LoadResult =
      switch outcome.result {
      case .success where (outcome.replayed ?? .max) < job.needed.rawValue: .timedOut
      case .success(let rows): LoadedValue(rows, as: job.rule.shape) == nil ? .negative : .found
      case .failure(let failure): failure.kind == .timedOut ? .timedOut : .failed
      }
    tally.loaded(result, of: rule, took: outcome.took)
  }

  // MARK: Storing

  private mutating func store(_ job: LoadJob, _ value: LoadedValue?, _ lease: Lease) {
    guard let key = job.key.withUnsafeBytes({ governedKey($0) }) else {
      return filled(job.load, stored: false)
    }
    if embedded != nil {
      let isStored = storeEmbedded(key, job.rule, value, lease)
      return filled(job.load, stored: isStored)
    }
    guard resp2.isReady else { return filled(job.load, stored: false) }
    var fill = LoadedFill(load: job.load, key: key, lease: lease, value: value)
    if value != nil { noteWrite(key) }
    fill.key.version = writeVersion(key.hash)
    let lifetime = value == nil ? nil : key.rule.lifetime()
    let ends = value == nil ? job.rule.negative : lifetime
    fill.expires = ends.map { now.after(nanoseconds: $0) }
    let arguments = value?.arguments ?? []
    let writesBehind = key.rule.write?.behind != nil
    resp2.begin(.load, keys: writesBehind ? 3 : 2, arguments: 7 + arguments.count)
    resp2.output.bulk(keys.meta)
    resp2.output.bulk(key.bytes)
    if writesBehind { resp2.output.bulk(keys.pendingWrites) }
    resp2.output.bulk(lease.generation)
    resp2.output.buckets(of: key)
    resp2.output.bulk(lease.stamp)
    resp2.output.bulk(key.tags)
    resp2.output.bulk(value?.type ?? "none")
    resp2.appendLimit(lifetime)
    resp2.output.argument(job.isErrand ? "1" : "")
    for argument in arguments { resp2.output.bulk(argument) }
    resp2.await(.task(UpstreamTask(client: nil, work: .loadedFill(fill))))
  }

  /// Redis has stored what was loaded, or refused it.
  mutating func finish(_ fill: LoadedFill, _ replies: UnsafeRawBufferPointer) {
    var cursor = ReplyCursor(replies)
    let moved = fill.key.version != writeVersion(fill.key.hash)
    if fill.value != nil { dropNear(fill.key) }
    guard !cursor.isError, cursor.enter() == 6, let word = cursor.text() else {
      if isForgottenScript(replies) { reloadScripts() }
      return filled(fill.load, stored: false)
    }
    let reply = cursor.integer()
    guard word == "OK" else {
      noteRefused(fill.key, by: Self.loadCommand, FillRefusal(script: word), under: fill.lease)
      return filled(fill.load, stored: false)
    }
    // Otherwise Redis has a value that an application has stored meanwhile, or another host.
    let isStored = reply == (fill.value == nil ? 0 : 1)
    if isStored, fill.value != nil { noteStored(fill.key, by: Self.loadCommand, under: fill.lease) }
    if isStored, !moved, acceptsFill(&cursor) {
      var key = fill.key
      key.version = writeVersion(key.hash)
      switch fill.value {
      case .string(let value): value.withUnsafeBytes { keepNear(key, $0, expires: fill.expires) }
      case nil: if let expires = fill.expires { keepAbsent(key, until: expires) }
      default: break
      }
    }
    filled(fill.load, stored: isStored)
  }

  private mutating func filled(_ load: UInt64, stored: Bool) {
    release(loading.table.filled(load, stored: stored))
    unlock(load)
  }

  static let loadCommand = "nearside load"

  /// No reply will come: Redis may have stored it.
  mutating func abandon(_ fill: LoadedFill) {
    if fill.value != nil { dropNear(fill.key) }
    filled(fill.load, stored: false)
  }

  /// Remembers that no row gives this key. Whatever clears a near value clears this too.
  mutating func keepAbsent(_ key: GovernedKey, until: Instant) {
    tally.put(key.rule)
    _ = key.bytes.withUnsafeBytes {
      near.insert(
        $0, hash: key.hash, value: UnsafeRawBufferPointer(start: nil, count: 0), expires: until,
        tag: key.rule.mark | EntryMark.absent, serial: key.nearSerial)
    }
  }
}
