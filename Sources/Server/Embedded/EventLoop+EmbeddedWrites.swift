import CLinux
import Configuration
import Invalidation
import Logging
import NearCache

/// Writes of whole values in the embedded mode. A value is stored under the lease that a plain SET has in
/// every mode, or it is not, and the answer is the same.
extension EventLoop {
  /// SET, SETEX, PSETEX, SETNX, GETSET.
  mutating func setEmbedded(_ request: Request, _ name: String, _ slot: Int) throws(ErrorReply) {
    let key = try heldKey(request[1])
    let (options, valueIndex) = try StringOptions.set(request, name)
    let clock = WallClock.now()
    let timeOfDay = clock.milliseconds(floor: now)
    var end: Int?
    if let (form, digits) = options.time {
      end = try GivenTime(form: form).end(request[digits], of: name, positive: true, now: timeOfDay)
    }
    var old: (reply: [UInt8], expires: Instant?)?
    if options.looks {
      let entry = find(key)
      let isShown = try standingNow(key) != .hidden
      if let entry, isShown { old = (options.returnsOld ? [UInt8](entry.reply) : [], entry.expires) }
    }
    let isMet =
      switch options.condition {
      case .none: true
      case .absent: old == nil
      case .present: old != nil
      }
    if isMet {
      if let end, end <= timeOfDay {
        remove(key)
      } else {
        let expires = options.keepsTime ? old?.expires : end.map { clock.instant($0) }
        try store(
          key, request[valueIndex], expires: expires, by: name, under: plainLease(key, slot))
      }
    }
    let resp3 = clients[slot].resp3
    reply(slot) { output in
      if options.returnsOld {
        if let old { output.append(old.reply) } else { output.null(resp3: resp3) }
      } else if name == "setnx" {
        output.integer(isMet ? 1 : 0)
      } else if isMet {
        output.status("OK")
      } else {
        output.null(resp3: resp3)
      }
    }
  }

  /// MSET: each key under its own lease; those that are refused are left out.
  mutating func setManyEmbedded(_ request: Request, _ slot: Int) throws(ErrorReply) {
    guard request.count % 2 == 1 else {
      throw ErrorReply("ERR wrong number of arguments for 'mset' command")
    }
    // An error leaves everything as it was.
    var keys: [GovernedKey] = []
    for index in stride(from: 1, to: request.count, by: 2) {
      keys.append(try heldKey(request[index]))
      guard fits(request[index + 1]) else { throw tooLarge }
    }
    // Whoever reads on another thread and finds one of the new values must not find an old one after it.
    for key in keys { _ = key.bytes.withUnsafeBytes { near.remove($0, hash: key.hash) } }
    for (index, key) in keys.enumerated() {
      try store(key, request[index * 2 + 2], expires: nil, by: "mset", under: plainLease(key, slot))
    }
    reply(slot) { $0.status("OK") }
  }

  // MARK: APPEND, INCR and kin

  mutating func appendEmbedded(_ request: Request, _ slot: Int) throws(ErrorReply) {
    let key = try heldKey(request[1])
    let addition = request[2]
    let lease = try mergeLease(key, "append", slot)
    let entry = find(key)
    var value: [UInt8] = []
    value.reserveCapacity((entry?.valueCount ?? 0) + addition.count)
    if let entry { value.append(contentsOf: entry.value) }
    value.append(contentsOf: addition)
    try merge(key, "append", value, expires: entry?.expires, under: lease)
    let count = value.count
    reply(slot) { $0.integer(count) }
  }

  /// INCR, DECR, INCRBY, DECRBY.
  mutating func addEmbedded(_ request: Request, _ name: String, _ slot: Int) throws(ErrorReply) {
    let key = try heldKey(request[1])
    var step = 1
    if request.count > 2 {
      guard let given = request.integer(2) else { throw .notInteger }
      step = given
    }
    if name == "decr" || name == "decrby" {
      guard step != .min else { throw ErrorReply("ERR decrement would overflow") }
      step = -step
    }
    let lease = try mergeLease(key, name, slot)
    let entry = find(key)
    var old = 0
    if let entry {
      guard let number = RequestParser.number(entry.value) else { throw .notInteger }
      old = number
    }
    let (sum, overflow) = old.addingReportingOverflow(step)
    guard !overflow else { throw ErrorReply("ERR increment or decrement would overflow") }
    try merge(key, name, Array(String(sum).utf8), expires: entry?.expires, under: lease)
    reply(slot) { $0.integer(sum) }
  }

  /// INCRBYFLOAT.
  mutating func addFloatEmbedded(_ request: Request, _ slot: Int) throws(ErrorReply) {
    let key = try heldKey(request[1])
    let lease = try mergeLease(key, "incrbyfloat", slot)
    let entry = find(key)
    let old = entry.map { [UInt8]($0.value) } ?? [UInt8(ascii: "0")]
    let step = [UInt8](request[2])
    var sum = [CChar](repeating: 0, count: Int(CLINUX_DECIMAL))
    let length = old.withUnsafeBytes { old in
      step.withUnsafeBytes { step in
        clinux_add_decimals(
          old.baseAddress?.assumingMemoryBound(to: CChar.self), old.count,
          step.baseAddress?.assumingMemoryBound(to: CChar.self), step.count, &sum)
      }
    }
    guard length != -1 else { throw ErrorReply("ERR value is not a valid float") }
    guard length > 0 else { throw ErrorReply("ERR increment would produce NaN or Infinity") }
    let text = sum[..<Int(length)].map { UInt8(bitPattern: $0) }
    try merge(key, "incrbyfloat", text, expires: entry?.expires, under: lease)
    reply(slot) { output in text.withUnsafeBytes { output.bulk($0) } }
  }

  /// The lease of a write that builds on what is held. A value that may not be shown is not built upon
  /// either. Whoever is refused finds everything as it was, and may try again.
  private mutating func mergeLease(
    _ key: GovernedKey, _ name: String, _ slot: Int
  ) throws(ErrorReply) -> Lease {
    let lease: Lease
    switch judged(plainLease(key, slot, merges: true), key) {
    case .refuse(let reason):
      noteRefused(key, by: name, reason, under: nil)
      throw ErrorReply(Self.tryAgain)
    case .fill(let given): lease = given
    }
    guard try standingNow(key) != .hidden || find(key) == nil else { throw ErrorReply(Self.tryAgain) }
    return lease
  }

  private mutating func merge(
    _ key: GovernedKey, _ name: String, _ value: [UInt8], expires: Instant?, under lease: Lease
  ) throws(ErrorReply) {
    // An error leaves everything as it was.
    guard value.withUnsafeBytes({ fits($0) }) else { throw tooLarge }
    let failure = value.withUnsafeBytes { bytes in
      Result { () throws(ErrorReply) in try store(key, bytes, expires: expires, by: name, under: .fill(lease))
      }
    }
    _ = try failure.get()
  }

  // MARK: Storing

  /// Stores a value if nothing that the lease did not know of has happened to its key. Refused, the key is
  /// left empty: what was there is older than what was to be stored.
  ///
  /// False: refused. Throws if the value is too large, and then what was there is gone as well.
  @discardableResult
  mutating func store(
    _ key: GovernedKey, _ value: UnsafeRawBufferPointer, expires: Instant?, by command: String,
    under plain: PlainLease
  ) throws(ErrorReply) -> Bool {
    noteWrite(key)
    guard fits(value) else { throw tooLarge }
    let lease: Lease
    switch judged(plain, key) {
    case .refuse(let reason):
      noteRefused(key, by: command, reason, under: plain.lease)
      return false
    case .fill(let given): lease = given
    }
    let until = end(expires, key.rule)
    tally.put(key.rule)
    let isStored = key.bytes.withUnsafeBytes {
      near.insert(
        $0, hash: key.hash, value: value, expires: until, tag: key.rule.mark,
        serial: key.nearSerial)
    }
    guard isStored else { throw tooLarge }
    noteStored(key, by: command, under: lease)
    return true
  }

  /// The same lease if nothing that it does not know of has happened to the key.
  private func judged(_ plain: PlainLease, _ key: GovernedKey) -> PlainLease {
    let groups = key.groups?.buckets ?? []
    guard let lease = plain.lease,
      let refusal = key.bytes.withUnsafeBytes({ embedded?.refusal(lease, $0, groups: groups) })
    else { return plain }
    return .refuse(FillRefusal(refusal))
  }

  /// Whether the near cache takes a value: `near.maxEntry` bounds the whole reply, with its `$…` line and
  /// ends of lines.
  private func fits(_ value: UnsafeRawBufferPointer) -> Bool {
    "$\(value.count)\r\n".utf8.count + value.count + 2 <= settings.near.maxEntry
  }

  private var tooLarge: ErrorReply {
    ErrorReply(
      "ERR Nearside: the value is larger than near.maxEntry (\(settings.near.maxEntry) bytes) and no Redis is "
        + "configured to hold it")
  }
}
