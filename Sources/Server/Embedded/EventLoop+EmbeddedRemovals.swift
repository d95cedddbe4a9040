import Configuration
import Invalidation
import Logging
import NearCache

/// Removals and changes of expiry in the embedded mode. A removal voids the leases of its key that were given
/// before it, so that no fill of before survives it.
extension EventLoop {
  /// DEL, UNLINK: removes whatever the evidence says.
  mutating func removeEmbedded(_ request: Request, _ slot: Int) throws(ErrorReply) {
    var keys: [GovernedKey] = []
    for index in 1..<request.count { keys.append(try heldKey(request[index])) }
    var count = 0
    for key in keys {
      if find(key) != nil { count += 1 }
      remove(key)
    }
    reply(slot) { $0.integer(count) }
  }

  /// GETDEL.
  mutating func takeEmbedded(_ request: Request, _ slot: Int) throws(ErrorReply) {
    let key = try heldKey(request[1])
    let value = find(key).map { [UInt8]($0.reply) }
    remove(key)
    let standing = try standingNow(key)
    let resp3 = clients[slot].resp3
    if let value, standing != .hidden {
      noteHit(key, standing)
      reply(slot) { $0.append(value) }
    } else {
      noteMiss(key, standing, isHeld: value != nil)
      reply(slot) { $0.null(resp3: resp3) }
    }
  }

  mutating func remove(_ key: GovernedKey) {
    noteWrite(key)
    key.bytes.withUnsafeBytes { embedded?.fence($0) }
    chronicle.removed(key.hash, KeyInvalidation(position: appliedPosition, origin: nil), at: now)
    counters.removals += 1
  }

  // MARK: Expiry

  /// EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT.
  mutating func expireEmbedded(_ request: Request, _ name: String, _ slot: Int) throws(ErrorReply) {
    let key = try heldKey(request[1])
    let condition = try ExpiryCondition(request)
    let clock = WallClock.now()
    let timeOfDay = clock.milliseconds(floor: now)
    let form: GivenTime.Form =
      switch name {
      case "expire": .seconds
      case "pexpire": .milliseconds
      case "expireat": .secondsAt
      default: .millisecondsAt
      }
    let end = try GivenTime(form: form).end(request[2], of: name, positive: false, now: timeOfDay)
    guard let entry = try show(key), condition.isMet(entry.expires.map { clock.milliseconds($0) }, by: end)
    else { return reply(slot) { $0.integer(0) } }
    if end <= timeOfDay { remove(key) } else { setEnd(key, clock.instant(end)) }
    reply(slot) { $0.integer(1) }
  }

  mutating func persistEmbedded(_ request: Request, _ slot: Int) throws(ErrorReply) {
    let key = try heldKey(request[1])
    guard let entry = try show(key), entry.expires != nil else { return reply(slot) { $0.integer(0) } }
    setEnd(key, nil)
    reply(slot) { $0.integer(1) }
  }

  mutating func getAndExpireEmbedded(_ request: Request, _ slot: Int) throws(ErrorReply) {
    let key = try heldKey(request[1])
    let options = try StringOptions(request, from: 2, isSet: false)
    guard let entry = try show(key) else {
      let resp3 = clients[slot].resp3
      return reply(slot) { $0.null(resp3: resp3) }
    }
    let clock = WallClock.now()
    let timeOfDay = clock.milliseconds(floor: now)
    var end: Int?
    if let (form, digits) = options.time {
      end = try GivenTime(form: form).end(request[digits], of: "getex", positive: true, now: timeOfDay)
    }
    reply(slot) { $0.append(entry.reply) }
    if let end {
      if end <= timeOfDay { remove(key) } else { setEnd(key, clock.instant(end)) }
    } else if options.persists {
      setEnd(key, nil)
    }
  }

  private mutating func setEnd(_ key: GovernedKey, _ expires: Instant?) {
    let until = end(expires, key.rule)
    _ = key.bytes.withUnsafeBytes { near.setExpiry($0, hash: key.hash, expires: until) }
  }

  /// `expires`, or the end that the configuration sets if that comes before.
  func end(_ expires: Instant?, _ rule: Governance.Rule) -> Instant? {
    earliest(expires, [rule.nearTTL, rule.lifetime()])
  }
}
