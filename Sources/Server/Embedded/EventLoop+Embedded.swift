import Configuration
import Invalidation
import Logging
import NearCache

/// An error reply in place of a command's own.
struct ErrorReply: Error {
  /// Begins with its code and holds no line break.
  var text: String

  init(_ text: String) { self.text = text }

  static let notInteger = ErrorReply("ERR value is not an integer or out of range")
  static let syntax = ErrorReply("ERR syntax error")
}

/// The embedded mode: there is no Redis, values live in the near cache only, and strings are what it holds.
///
/// Replies and errors are those of Redis 7 for the same command. What differs: a value may be gone at any
/// time, because the near cache made room, and the leases that guard fills in Redis guard them here too.
extension EventLoop {
  mutating func executeEmbedded(_ request: Request, _ spec: CommandSpec?, _ slot: Int) {
    guard let spec else { return unknown(request, slot) }
    // A command that is executed again after a load has left the input: it waits for no fence.
    if loading.resumed == nil, waitsForFence(request, spec, slot) { return }
    switch spec.kind {
    case .near where loadsEmbedded(request, spec.name, keys: 1..<request.count, slot): return
    case .read where loadsEmbedded(request, spec.name, keys: 1..<2, slot): return
    default: break
    }
    do throws(ErrorReply) {
      switch spec.name {
      case "get": try getEmbedded(request, slot)
      case "mget": try getManyEmbedded(request, slot)
      case "exists": try countEmbedded(request, slot)
      case "strlen", "type", "ttl", "pttl", "expiretime", "pexpiretime":
        try describeEmbedded(request, spec.name, slot)
      case "set", "setex", "psetex", "setnx", "getset": try setEmbedded(request, spec.name, slot)
      case "mset": try setManyEmbedded(request, slot)
      case "append": try appendEmbedded(request, slot)
      case "incr", "decr", "incrby", "decrby": try addEmbedded(request, spec.name, slot)
      case "incrbyfloat": try addFloatEmbedded(request, slot)
      case "del", "unlink": try removeEmbedded(request, slot)
      case "getdel": try takeEmbedded(request, slot)
      case "getex": try getAndExpireEmbedded(request, slot)
      case "expire", "pexpire", "expireat", "pexpireat": try expireEmbedded(request, spec.name, slot)
      case "persist": try persistEmbedded(request, slot)
      default: throw ErrorReply("ERR Nearside: '\(spec.name)' is not available without Redis")
      }
    } catch {
      reply(slot) { $0.error(error.text) }
    }
  }

  // MARK: Keys

  static let notHeld =
    "ERR Nearside: no mapping covers this key and no Redis is configured to hold it"
  static let notNear =
    "ERR Nearside: the cache of this key says \"near\": false and no Redis is configured to hold it"

  /// A key that can be held. Any other is an error with the reason and never an empty answer: an empty one
  /// would look like a miss, and an application would fill it again and again.
  func heldKey(_ bytes: UnsafeRawBufferPointer) throws(ErrorReply) -> GovernedKey {
    guard let key = governedKey(bytes) else {
      if bytes.count > PackedKeys.longestKey, governance.governs(bytes) {
        throw ErrorReply("ERR Nearside: a key is held only up to \(PackedKeys.longestKey) bytes")
      }
      throw ErrorReply(Self.notHeld)
    }
    guard key.rule.keepsNear else { throw ErrorReply(Self.notNear) }
    return key
  }

  // MARK: What may be shown

  /// What a look-up is worth, asked once after the last look-up of a command.
  enum Standing {
    /// Everything that was acknowledged up to the bound ago has been applied.
    case fresh
    /// The evidence is too old, and values are shown by configuration.
    case stale
    /// The evidence is too old, PostgreSQL is away, and values are shown for a while by configuration.
    case failSafe
    /// The evidence is too old: as if nothing were held.
    case hidden
  }

  func standingNow(_ key: GovernedKey) throws(ErrorReply) -> Standing {
    let staleness = key.rule.staleness
    if isFresh(at: clock(), bound: staleness.bound) { return .fresh }
    switch staleness.beyond {
    case .serve: return .stale
    case .bypass:
      return isFresh(at: clock(), bound: failSafeBound(key.rule)) ? .failSafe : .hidden
    case .fail: throw ErrorReply(staleError(since: certificate, bound: staleness.bound))
    }
  }

  /// The entry under a key, whether or not it may be shown.
  mutating func find(_ key: GovernedKey) -> NearEntry? {
    key.bytes.withUnsafeBytes { findNear($0, hash: key.hash) }
  }

  /// The entry under a key if it may be shown; a hit or a miss is counted and noted.
  mutating func show(_ key: GovernedKey) throws(ErrorReply) -> NearEntry? {
    let entry = find(key)
    let standing = try standingNow(key)
    if let entry, standing != .hidden {
      noteHit(key, standing)
      return entry
    }
    noteMiss(key, standing, isHeld: entry != nil)
    return nil
  }

  mutating func noteHit(_ key: GovernedKey, _ standing: Standing) {
    switch standing {
    case .fresh, .hidden: tally.read(.hit, of: key.rule)
    case .stale, .failSafe: tally.read(.stale, of: key.rule)
    }
    switch standing {
    case .fresh, .hidden: counters.nearHits += 1
    case .stale: counters.stale += 1
    case .failSafe: counters.failSafe += 1
    }
  }

  /// A client is told that there is nothing under a key. The result is what that gives the right to: nothing
  /// if there is a value that may not be shown, or if the evidence has become too old; while evidence is
  /// still being gathered, after a start, a true miss does give a lease.
  @discardableResult
  mutating func noteMiss(_ key: GovernedKey, _ standing: Standing, isHeld: Bool) -> Lease? {
    counters.nearMisses += 1
    let gathering = certificate == nil && !isHeld
    let lease = standing == .fresh || standing == .stale || gathering ? embedded?.lease : nil
    if lease == nil { counters.bypassed += 1 }
    tally.read(lease == nil ? .bypass : .miss, of: key.rule)
    noteMiss(key, lease: lease)
    return lease
  }

  // MARK: Reads

  private mutating func getEmbedded(_ request: Request, _ slot: Int) throws(ErrorReply) {
    let key = try heldKey(request[1])
    if key.rule.turn != nil, try standingNow(key) == .fresh, find(key) == nil,
      waitsForTurn(request, "get", key, slot)
    {
      return
    }
    let entry = try show(key)
    let resp3 = clients[slot].resp3
    reply(slot) { if let entry { $0.append(entry.reply) } else { $0.null(resp3: resp3) } }
  }

  private mutating func getManyEmbedded(_ request: Request, _ slot: Int) throws(ErrorReply) {
    let keys = try heldKeys(request)
    let resp3 = clients[slot].resp3
    let values = keys.map { key in find(key).map { [UInt8]($0.reply) } }
    let isShown = try noteAll(keys, values.map { $0 != nil })
    reply(slot) {
      $0.array(keys.count)
      for (value, isShown) in zip(values, isShown) {
        if let value, isShown { $0.append(value) } else { $0.null(resp3: resp3) }
      }
    }
  }

  /// EXISTS: a key that is named twice counts twice.
  private mutating func countEmbedded(_ request: Request, _ slot: Int) throws(ErrorReply) {
    let keys = try heldKeys(request)
    let isHeld = keys.map { find($0) != nil }
    let isShown = try noteAll(keys, isHeld)
    reply(slot) { $0.integer(zip(isHeld, isShown).count { $0 && $1 }) }
  }

  private func heldKeys(_ request: Request) throws(ErrorReply) -> [GovernedKey] {
    var keys: [GovernedKey] = []
    for index in 1..<request.count { keys.append(try heldKey(request[index])) }
    return keys
  }

  /// Notes the hits and misses of a command with several keys, after the last look-up; which of them may be
  /// shown.
  private mutating func noteAll(_ keys: [GovernedKey], _ isHeld: [Bool]) throws(ErrorReply) -> [Bool] {
    var standings: [Standing] = []
    for key in keys { standings.append(try standingNow(key)) }
    for (index, key) in keys.enumerated() {
      if isHeld[index], standings[index] != .hidden {
        noteHit(key, standings[index])
      } else {
        noteMiss(key, standings[index], isHeld: isHeld[index])
      }
    }
    return standings.map { $0 != .hidden }
  }

  /// STRLEN, TYPE and the family of TTL.
  private mutating func describeEmbedded(
    _ request: Request, _ name: String, _ slot: Int
  ) throws(ErrorReply) {
    guard let entry = try show(try heldKey(request[1])) else {
      return reply(slot) {
        switch name {
        case "strlen": $0.integer(0)
        case "type": $0.status("none")
        default: $0.integer(-2)
        }
      }
    }
    let (length, expires) = (entry.valueCount, entry.expires)
    if name == "strlen" { return reply(slot) { $0.integer(length) } }
    if name == "type" { return reply(slot) { $0.status("string") } }
    guard let expires else { return reply(slot) { $0.integer(-1) } }
    let clock = WallClock.now()
    let end = clock.milliseconds(expires)
    let left = max(0, end - clock.milliseconds(floor: now))
    reply(slot) {
      switch name {
      case "ttl": $0.integer((left + 500) / 1000)
      case "pttl": $0.integer(left)
      case "expiretime": $0.integer((end + 500) / 1000)
      default: $0.integer(end)
      }
    }
  }
}
