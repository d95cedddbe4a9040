import Configuration
import Invalidation
import Logging
import NearCache

/// Reads that the near cache could not answer at once.
extension EventLoop {
  /// GET, MGET, EXISTS.
  mutating func executeNear(_ request: Request, _ name: String, _ slot: Int) {
    if request.count == 2, !governance.governs(request[1]) { return relay(request, slot) }
    var keys: [GovernedKey?] = []
    var anyGoverned = false
    for index in 1..<request.count {
      let key = governedKey(request[index])
      anyGoverned = anyGoverned || key != nil
      keys.append(key)
    }
    guard anyGoverned else { return relay(request, slot) }
    let (certificate, instant) = (certificate, clock())
    var nearUntil = Instant(nanoseconds: .max)
    var elements: [GovernedRead.Element] = []
    var asked: [Int] = []
    var governed: [GovernedKey] = []
    var found = 0
    for (index, key) in keys.enumerated() {
      if let key, let until = showsNear(key, certificate, at: instant),
        let entry = name == "exists"
          ? findHeld(request[index + 1], hash: key.hash) : findNear(request[index + 1], hash: key.hash)
      {
        found += 1
        if entry.tag & EntryMark.early != 0 {
          considerEarly(request[index + 1], hash: key.hash, expires: entry.expires)
        }
        nearUntil = min(nearUntil, until)
        noteNearHit(key, certificate, at: instant)
        elements.append(.near(name == "exists" ? [] : [UInt8](entry.reply)))
        continue
      }
      if let key, let (decision, until) = decision(key, certificate, at: instant) {
        nearUntil = min(nearUntil, until)
        noteDecision(decision, key)
        if case .value = decision { found += 1 }
        elements.append(.near(name == "exists" ? [] : decision.bytes(resp3: clients[slot].resp3)))
        continue
      }
      if key != nil { counters.nearMisses += 1 }
      asked.append(index + 1)
      elements.append(.asked(governed: key == nil ? nil : governed.count))
      if let key { governed.append(key) }
    }
    if asked.isEmpty {
      return replyNear(slot, until: nearUntil) { output in
        if name == "exists" { return output.integer(found) }
        if name == "mget" { output.array(elements.count) }
        for case .near(let bytes) in elements { output.append(bytes) }
      }
    }
    let shape: GovernedRead.Shape =
      switch name {
      case "get": .get
      case "mget": .mget(elements)
      default:
        .exists(
          found: found,
          governed: elements.compactMap { if case .asked(let key) = $0 { key != nil } else { nil } })
      }
    let read = GovernedRead(
      shape: shape, keys: governed, asked: now, basis: follower.basis,
      nearUntil: nearUntil, load: loadedRead(request, name, governed))
    for case .near(let bytes) in elements { clients[slot].owedBytes += bytes.count }
    send(read, slot) { output in
      switch shape {
      case .exists:
        for index in asked {
          if let key = keys[index - 1] {
            output.askExpiry(key)
          } else {
            output.array(2)
            output.bulk(request[0])
            output.bulk(request[index])
          }
        }
        return asked.count
      default:
        output.array(asked.count + 1)
        output.bulk(request[0])
        for index in asked { output.bulk(request[index]) }
        for key in governed { output.askExpiry(key) }
        return 1 + governed.count
      }
    }
  }

  /// Whether a near value of this key may be shown, and until when: its evidence is young enough, or stale
  /// values are served by configuration.
  func showsNear(_ key: GovernedKey, _ certificate: Instant?, at instant: Instant) -> Instant? {
    if bypassesNear { return nil }
    let staleness = key.rule.staleness
    if staleness.beyond == .serve { return Instant(nanoseconds: .max) }
    guard let certificate else { return nil }
    let bound = isFresh(certificate, key.rule, at: instant) ? staleness.bound : failSafeBound(key.rule)
    guard instant.since(certificate) <= bound else { return nil }
    let (until, overflow) = certificate.nanoseconds.addingReportingOverflow(bound)
    return Instant(nanoseconds: overflow ? .max : until)
  }

  func isFresh(_ certificate: Instant, _ rule: Governance.Rule, at instant: Instant) -> Bool {
    instant.since(certificate) <= rule.staleness.bound
  }

  /// How old the evidence may be at this moment, in nanoseconds: with `failSafe` older while PostgreSQL is away.
  func failSafeBound(_ rule: Governance.Rule) -> UInt64 {
    guard let more = rule.failSafe, tail.isPostgresAway || loading.isAway else { return rule.staleness.bound }
    let (sum, overflow) = rule.staleness.bound.addingReportingOverflow(more)
    return overflow ? .max : sum
  }

  mutating func noteNearHit(_ key: GovernedKey, _ certificate: Instant?, at instant: Instant) {
    let isFresh = certificate.map { self.isFresh($0, key.rule, at: instant) } ?? false
    tally.read(isFresh ? .hit : .stale, of: key.rule)
    if isFresh {
      counters.nearHits += 1
      if sampling.near.takes(1) != nil { key.bytes.withUnsafeBytes { sampleNear($0) } }
    } else if key.rule.staleness.beyond == .serve {
      counters.stale += 1
    } else {
      counters.failSafe += 1
    }
  }

  /// Any other read: Redis answers, under the state read before it. `places`: of its keys, where they do not stand at
  /// fixed ones.
  mutating func executeRead(
    _ request: Request, _ name: String, _ absent: AbsentReply, places: [Int]? = nil, _ slot: Int
  ) {
    guard let spec = commands.spec(request[0]) else { return relay(request, slot) }
    var governed: [GovernedKey] = []
    for index in places ?? Array(spec.keyIndices(count: request.count)) {
      if let key = governedKey(request[index]) { governed.append(key) }
    }
    guard !governed.isEmpty else { return relay(request, slot) }
    // What reads several keys at once, a union for example, is not made of loaded values.
    let isOne = places == nil && spec.firstKey == spec.lastKey
    var part: PartName?
    if isOne, spec.isKept, governed[0].rule.keepsNear {
      part = PartName(request, name, resp3: clients[slot].resp3)
      if answersNear(request, name, governed[0], &part, slot) { return }
    }
    if isOne, let (decision, until) = decision(governed[0], certificate, at: clock()) {
      return replyDecided(decision, governed[0], request, name, absent, until: until, slot)
    }
    var read = GovernedRead(
      shape: .other(absent, arguments: request.count - 2, name: name), keys: governed, asked: now,
      basis: follower.basis, load: isOne ? loadedRead(request, name, governed) : nil)
    read.asksExistence = isOne && (read.load != nil || governed[0].rule.write?.behind != nil)
    read.part = part
    read.load?.part = part
    let asksAfter = read.asksExistence || part != nil
    send(read, slot) { output in
      request.append(to: &output)
      guard asksAfter else { return 1 }
      output.askExpiry(governed[0])
      return 2
    }
  }

  /// NEARSIDE LEASE key: like GET, with the lease in the answer.
  mutating func executeLease(_ request: Request, _ slot: Int) {
    guard let key = governedKey(request[2]) else { return reply(slot) { $0.error(Self.notGoverned) } }
    let (certificate, instant) = (certificate, clock())
    if let until = showsNear(key, certificate, at: instant),
      let entry = findNear(request[2], hash: key.hash)
    {
      noteNearHit(key, certificate, at: instant)
      let resp3 = clients[slot].resp3
      return replyNear(slot, until: until) {
        $0.array(2)
        $0.append(entry.reply)
        $0.null(resp3: resp3)
      }
    }
    if let (decision, until) = decision(key, certificate, at: instant) {
      let lease = noteDecision(decision, key)
      let resp3 = clients[slot].resp3
      return replyNear(slot, until: until) { output in
        output.array(2)
        output.append(decision.bytes(resp3: resp3))
        if let lease { output.bulk(Self.token(lease)) } else { output.null(resp3: resp3) }
      }
    }
    counters.nearMisses += 1
    let read = GovernedRead(
      shape: .lease, keys: [key], asked: now, basis: follower.basis, load: loadedRead(request, "lease", [key])
    )
    send(read, slot) { output in
      output.array(2)
      output.argument("GET")
      output.bulk(request[2])
      output.askExpiry(key)
      return 2
    }
  }

  static let notGoverned =
    "ERR Nearside: no mapping covers this key, so nothing would clear it when a row changes"

  /// Sends a read behind the request for the state that judges it. `write` appends the read's own commands and
  /// returns how many replies they have.
  private mutating func send(_ read: GovernedRead, _ slot: Int, _ write: (inout IOBuffer) -> Int) {
    let token = clients[slot].token
    let stateRequest = stateRequest
    var read = read
    read.isFinal = transacting != nil
    if let resumed = loading.resumed {
      read.hold = GovernedRead.Hold(
        number: resumed.number, deadline: now.after(nanoseconds: settings.leaseWait))
    }
    guard sharedUpstream(slot).isReady else {
      if loadsWithoutRedis(read, slot, isOwed: false) { return }
      return withUpstream(slot) { _ in }
    }
    let writesBehind = read.keys.filter { $0.rule.write?.behind != nil }
    read.restores = !writesBehind.isEmpty
    let names = keys
    withUpstream(slot) { upstream in
      let start = upstream.output.count
      // The state comes first, so that no lease that it gives is younger than a SET which `restore` did not see.
      upstream.output.appendState(stateRequest, read.keys)
      read.replies = 1
      if read.part != nil {
        upstream.output.askExpiry(read.keys[0])
        read.replies += 1
      }
      read.replies += upstream.restore(writesBehind, names)
      read.replies += write(&upstream.output)
      read.request = [UInt8](upstream.output.bytes.dropFirst(start))
      upstream.await(.task(UpstreamTask(client: token, replies: read.replies, work: .read(read))))
    }
  }

  /// The request for the state without the head that counts its elements: how many keys' fences are asked
  /// for with it differs.
  static func stateRequest(_ meta: String) -> [UInt8] {
    var request = IOBuffer(size: 256)
    request.argument("HMGET")
    request.bulk(meta)
    for name in FleetState.fieldNames { request.bulk(name) }
    request.bulk(FleetState.pendingField)
    return [UInt8](request.bytes)
  }

  /// Reads the reply to it: the state, nil if Redis has none, and the highest fence of each of `keys`, which were
  /// asked for with it.
  mutating func readState(
    _ cursor: inout ReplyCursor, _ keys: [GovernedKey] = []
  ) -> (state: FleetState?, fences: [Stamp]) {
    guard let count = cursor.enter() else {
      _ = cursor.raw()
      return (nil, [])
    }
    let state = readFields(&cursor, count)
    var fences: [Stamp] = []
    for key in keys {
      var fence = state?.floor ?? .zero
      for _ in 0..<key.bucketCount {
        fence = max(fence, cursor.string().flatMap { Stamp(hex: $0) } ?? .zero)
      }
      fences.append(fence)
    }
    return (state, fences)
  }

  /// The state's own fields. Many reads find the same ones: those are not parsed again.
  private mutating func readFields(_ cursor: inout ReplyCursor, _ count: Int) -> FleetState? {
    if cursor.skip(lastFields.bytes) { return lastFields.state }
    let start = cursor.position
    let named = FleetState.fieldNames.count
    var fields: [UnsafeRawBufferPointer?] = []
    fields.reserveCapacity(named)
    for _ in 0..<min(count, named) { fields.append(cursor.string()) }
    let pending = count > named ? cursor.string().map { [UInt8]($0) } : nil
    let state = FleetState(values: fields, pending: pending)
    // Only a whole one is followed by what is the same again.
    if count > named { lastFields = ([UInt8](cursor.bytes[start..<cursor.position]), state) }
    return state
  }
}

extension IOBuffer {
  /// The request for the state and for the fences of `keys` and of their groups.
  mutating func appendState(_ request: [UInt8], _ keys: [GovernedKey]) {
    array(3 + FleetState.fieldNames.count + keys.reduce(0) { $0 + $1.bucketCount })
    append(request)
    for key in keys {
      bucketName(key.bytes.withUnsafeBytes { KeyHash.bucket($0) })
      for bucket in key.groups?.buckets ?? [] { bucketName(Int(bucket)) }
    }
  }

  /// The name of the field of a bucket's fence.
  private mutating func bucketName(_ bucket: Int) {
    append(byte: UInt8(ascii: "$"))
    append(number: 1 + Self.digits(bucket))
    append("\r\nb")
    append(number: bucket)
    append("\r\n")
  }

  mutating func askExpiry(_ key: GovernedKey) {
    array(2)
    argument("PTTL")
    key.bytes.withUnsafeBytes { bulk($0) }
  }
}
