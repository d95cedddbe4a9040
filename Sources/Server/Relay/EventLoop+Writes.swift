import Configuration
import Invalidation
import Logging
import NearCache

/// Writes of governed keys. Each is carried out by a script that first asks whether the lease still counts
/// (fills), or that raises the key's fence with it (removals).
extension EventLoop {
  /// SET and its kin: one key, one whole value.
  mutating func executeReplace(_ request: Request, _ name: String, _ slot: Int) {
    guard let key = governedKey(request[1]) else { return relay(request, slot) }
    if let rule = key.rule.write { return writeThrough(request, name, key, rule, slot) }
    let options = SetOptions(request, name)
    let refused: GovernedFill.RefusedAnswer =
      name == "setnx" ? .one : (name == "getset" || options.returnsOld) ? .null : .ok
    let lease: Lease
    switch plainLease(key, slot) {
    case .fill(let given): lease = given
    case .refuse(let reason): return refuse(key, name, reason, refused, slot)
    }
    if options.isBare, let value = options.value, value.count <= FillBatch.longestValue, mayFillTogether(slot)
    {
      return fillTogether(
        key, name, lease: lease, value: value, milliseconds: options.milliseconds, slot)
    }
    var near: (value: [UInt8], expires: Instant?)?
    if key.rule.keepsNear, options.isPlain, let value = options.value, value.count <= settings.near.maxEntry {
      near = ([UInt8](value), options.milliseconds.map { now.after(milliseconds: $0) })
    }
    fill(
      key, name, lease: lease, mode: "replace", answer: .command(refused: refused), near: near, slot,
      argumentCount: request.count
    ) { output in
      for index in 0..<request.count { output.bulk(request[index]) }
    }
  }

  /// INCR, HSET, LPUSH and the like: what they leave behind depends on what is there.
  mutating func executeMerge(_ request: Request, _ name: String, _ slot: Int) {
    guard let key = governedKey(request[1]) else { return relay(request, slot) }
    if refusesUnlessSet(key, slot) { return }
    let lease: Lease
    switch plainLease(key, slot, merges: true) {
    case .fill(let given): lease = given
    case .refuse(let reason): return refuse(key, name, reason, .tryAgain, slot)
    }
    fill(
      key, name, lease: lease, mode: "merge", answer: .command(refused: .tryAgain),
      shape: ReplyShape(request, name), near: nil, slot, argumentCount: request.count
    ) { output in
      for index in 0..<request.count { output.bulk(request[index]) }
    }
  }

  /// NEARSIDE FILL key token value [PX ms].
  mutating func executeFill(_ request: Request, _ slot: Int) {
    let order: FillOrder
    do throws(ErrorReply) { order = try FillOrder(request, now: now) } catch {
      return reply(slot) { $0.error(error.text) }
    }
    guard let key = governedKey(request[2]) else { return reply(slot) { $0.error(Self.notGoverned) } }
    let value = request[4]
    let near =
      key.rule.keepsNear && value.count <= settings.near.maxEntry ? ([UInt8](value), order.expires) : nil
    let px = order.expires != nil
    fill(
      key, Self.fillCommand, lease: order.lease, mode: "replace", answer: .stored, near: near, slot,
      argumentCount: px ? 5 : 3
    ) { output in
      output.argument("SET")
      output.bulk(request[2])
      output.bulk(value)
      if px {
        output.argument("PX")
        output.bulk(request[6])
      }
    }
  }

  /// MSET: each key under its own lease; those that are refused are left out.
  mutating func executeReplaceMany(_ request: Request, _ slot: Int) {
    guard request.count % 2 == 1 else {
      return reply(slot) { $0.error("ERR wrong number of arguments for 'mset' command") }
    }
    for index in stride(from: 1, to: request.count, by: 2) {
      if let key = governedKey(request[index]), refusesUnlessSet(key, slot) { return }
    }
    var keys: [Int: GovernedKey] = [:]
    var leases: [Int: Lease] = [:]
    var left = Set<Int>()
    for index in stride(from: 1, to: request.count, by: 2) {
      guard let key = governedKey(request[index]) else { continue }
      noteWrite(key)
      keys[index] = key
      switch plainLease(key, slot) {
      case .fill(let lease): leases[index] = lease
      case .refuse(let reason):
        left.insert(index)
        noteRefused(key, by: "mset", reason, under: nil)
      }
    }
    guard !keys.isEmpty else { return relay(request, slot) }
    let sent = stride(from: 1, to: request.count, by: 2).filter { !left.contains($0) }
    guard !sent.isEmpty else { return reply(slot) { $0.status("OK") } }
    let token = clients[slot].token
    let meta = self.keys.meta
    withUpstream(slot) { upstream in
      upstream.begin(.fillMany, keys: sent.count + 1, arguments: sent.count * 4)
      upstream.output.bulk(meta)
      for index in sent { upstream.output.bulk(request[index]) }
      for index in sent {
        if let lease = leases[index], let key = keys[index] {
          upstream.output.bulk(lease)
          upstream.output.buckets(of: key)
          upstream.appendLimit(key.rule.lifetime())
        } else {
          for _ in 0..<3 { upstream.output.argument("") }
        }
        upstream.output.bulk(request[index + 1])
      }
      let fills = sent.map { index in
        leases[index].flatMap { lease in keys[index].map { (key: $0, lease: lease) } }
      }
      upstream.await(.task(UpstreamTask(client: token, work: .fillMany(fills))))
    }
  }

  // MARK: Fills

  private mutating func fill(
    _ key: GovernedKey, _ name: String, lease: Lease, mode: StaticString, answer: GovernedFill.Answer,
    shape: ReplyShape = .same, near: (value: [UInt8], expires: Instant?)?, _ slot: Int, argumentCount: Int,
    command: (inout IOBuffer) -> Void
  ) {
    noteWrite(key)
    var key = key
    key.version = writeVersion(key.hash)
    let limit = key.rule.lifetime()
    let near = near.map { (value: $0.value, expires: earliest($0.expires, [limit])) }
    let work = GovernedFill(
      key: key, command: name, lease: lease, answer: answer, shape: shape, near: near)
    let token = clients[slot].token
    let meta = keys.meta
    withUpstream(slot) { upstream in
      upstream.begin(.fill, keys: 2, arguments: 6 + argumentCount)
      upstream.output.bulk(meta)
      key.bytes.withUnsafeBytes { upstream.output.bulk($0) }
      upstream.output.argument(mode)
      upstream.output.bulk(lease.generation)
      upstream.output.buckets(of: key)
      upstream.output.bulk(lease.stamp)
      key.tags.withUnsafeBytes { upstream.output.bulk($0) }
      upstream.appendLimit(limit)
      command(&upstream.output)
      upstream.await(.task(UpstreamTask(client: token, work: .fill(work))))
    }
  }

  /// What a write without a token counts under.
  enum PlainLease {
    case fill(Lease)
    case refuse(FillRefusal)

    var lease: Lease? { if case .fill(let lease) = self { lease } else { nil } }
  }

  /// `merges`: whether the write builds on what is there.
  func plainLease(_ key: GovernedKey, _ slot: Int, merges: Bool = false) -> PlainLease {
    let hash = key.bytes.withUnsafeBytes { ledgerKey($0) }
    if merges, !ledger.mayMerge(hash, at: now) { return .refuse(.barred) }
    switch ledger.verdict(
      forSetOf: hash, dated: clients[slot].emptyAt, now: now, rule: key.rule.plainSet)
    {
    case .fill(let lease): return .fill(lease)
    case .refuse(let reason): return .refuse(FillRefusal(reason))
    }
  }

  static let tryAgain =
    "TRYAGAIN Nearside: the key was invalidated a moment ago, and this write may build on a value of before; "
    + "try again"

  static let fillCommand = "nearside fill"

  mutating func noteStored(_ key: GovernedKey, by command: String, under lease: Lease) {
    counters.fillsStored += 1
    chronicle.filled(key.hash, by: command, under: lease, at: now)
  }

  mutating func noteRefused(
    _ key: GovernedKey, by command: String, _ reason: FillRefusal, under lease: Lease?
  ) {
    counters.fillsRefused += 1
    chronicle.filled(key.hash, by: command, under: lease, refusal: reason, at: now)
    endTurn(key.bytes)
    ledger.refused(key.bytes.withUnsafeBytes { ledgerKey($0) }, at: now)
  }

  /// A SET that may carry a value from before a change is answered like one that was stored, and is not.
  private mutating func refuse(
    _ key: GovernedKey, _ name: String, _ reason: FillRefusal, _ answer: GovernedFill.RefusedAnswer,
    _ slot: Int
  ) {
    noteWrite(key)
    noteRefused(key, by: name, reason, under: nil)
    let resp3 = clients[slot].resp3
    reply(slot) { $0.refused(answer, resp3: resp3) }
  }
}

extension IOBuffer {
  mutating func refused(_ answer: GovernedFill.RefusedAnswer, resp3: Bool) {
    switch answer {
    case .ok: status("OK")
    case .null: null(resp3: resp3)
    case .one: integer(1)
    case .tryAgain:
      error(EventLoop.tryAgain)
    }
  }
}

/// What a SET, SETEX, PSETEX, SETNX or GETSET asks for, as far as the near cache must know.
struct SetOptions {
  var value: UnsafeRawBufferPointer?
  /// Whether the command simply puts the value there, so that its success means the value is stored.
  var isPlain = true
  /// Whether nothing else is asked for, so that SET with this value and time to live does the same.
  var isBare = false
  var returnsOld = false
  /// The time to live it gives; nil: none.
  var milliseconds: Int?

  init(_ request: Request, _ name: String) {
    switch name {
    case "setex", "psetex":
      value = request[3]
      let time = request.integer(2)
      milliseconds = time.flatMap { name == "setex" ? Self.milliseconds(seconds: $0) : $0 }
      isPlain = milliseconds.map { $0 > 0 && $0 < 1 << 50 } ?? false
      isBare = isPlain
    case "set":
      value = request[2]
      var index = 3
      while index < request.count {
        switch request.word(index) {
        case "ex" where index + 1 < request.count:
          index += 1
          milliseconds = request.integer(index).flatMap { Self.milliseconds(seconds: $0) }
          isPlain = isPlain && (milliseconds.map { $0 > 0 } ?? false)
        case "px" where index + 1 < request.count:
          index += 1
          milliseconds = request.integer(index)
          isPlain = isPlain && (milliseconds.map { $0 > 0 && $0 < 1 << 50 } ?? false)
        case "get":
          returnsOld = true
          isPlain = false
        default: isPlain = false
        }
        index += 1
      }
      isBare = isPlain && (request.count == 3 || request.count == 5)
    default:
      value = request[2]
      isPlain = false
    }
  }

  private static func milliseconds(seconds: Int) -> Int? {
    seconds > 0 && seconds < 1 << 40 ? seconds * 1000 : nil
  }
}

/// NEARSIDE FILL key token value [PX ms], without its key and value.
struct FillOrder {
  var lease: Lease
  var expires: Instant?

  init(_ request: Request, now: Instant) throws(ErrorReply) {
    guard request.count == 5 || (request.count == 7 && request.isWord(5, "px")) else { throw .syntax }
    guard let lease = EventLoop.lease(token: request[3]) else {
      throw ErrorReply("ERR Nearside: the token is none that NEARSIDE LEASE gave")
    }
    self.lease = lease
    if request.count == 7 {
      guard let milliseconds = request.integer(6), milliseconds > 0, milliseconds < 1 << 50 else {
        throw ErrorReply("ERR invalid expire time in 'nearside' command")
      }
      expires = now.after(milliseconds: milliseconds)
    }
  }
}
