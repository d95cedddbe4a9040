import Configuration
import Glibc
import Invalidation

/// The tailer's way to the fleet's state in Redis: one request at a time, each a script, on a connection that
/// never blocks.
///
/// It begins with a blocking conversation (connect, log in, load the scripts, read the state), before the
/// tailer takes the slot, so that nobody takes it who does not reach Redis; a sink whose connection breaks is
/// replaced, not repaired.
public struct RedisSink: ~Copyable, TailSink {
  /// How many keys SCAN looks at in one purge step: 1.9 ms of Redis at 1000, so applies in between wait well
  /// under a millisecond.
  static let purgeCount = 200
  /// How long an answer may be awaited, whatever `redis.timeout` allows: who holds the slot without reaching
  /// Redis keeps every other sidecar from doing better.
  static let patience: UInt64 = 1_500_000_000

  private var connection: RedisConnection
  private let keys: StateKeys
  private let journal: JournalSettings
  private let tableNames: [String]
  private let groups: KeyGroups
  private let purgePatterns: [String]
  private let purgeMatch: String
  private let timeout: UInt64

  /// What EVALSHA calls each script.
  private let digests: [Request: String]
  private var underWay: Request?
  private var sent = Instant(nanoseconds: 0)
  private var unsent = false
  /// The request under way, kept to be sent again if Redis has lost the script.
  private var arguments = RedisArguments()
  private var buckets: [Int32] = []
  private var journalCheck: JournalCheck

  private enum Request: String, CaseIterable {
    case apply, takeover, newGeneration, purge, purged, sweep, swept

    var script: String {
      switch self {
      case .apply: StateScripts.apply
      case .takeover: StateScripts.takeover
      case .newGeneration: StateScripts.newGeneration
      case .purge: StateScripts.purge
      case .purged: StateScripts.purged
      case .sweep: StateScripts.sweep
      case .swept: StateScripts.swept
      }
    }
  }

  /// - Parameters:
  ///   - tableNames: `schema.name` by the table indices of the batches' keys.
  ///   - groups: which prefixes rules give, and how the tags of a key are told.
  ///   - purgePatterns: Lua patterns of the governed keys; none: all keys that `purgeMatch` covers.
  ///   - purgeMatch: SCAN's glob for the namespace, such as `shop:*`.
  public init(
    settings: RedisSettings, keys: StateKeys, journal: JournalSettings, tableNames: [String],
    groups: KeyGroups, purgePatterns: [String], purgeMatch: String
  ) throws(RedisError) {
    var connection = try RedisConnection(settings, name: "nearside-tailer")
    var digests: [Request: String] = [:]
    for request in Request.allCases {
      guard let digest = try connection.demand(["SCRIPT", "LOAD", request.script]).text else {
        throw RedisError(unexpected: "SCRIPT LOAD", place: connection.place)
      }
      digests[request] = digest
    }
    // An answer of any kind will do: what is there is judged once the slot is held, by `takeover`.
    _ = try connection.command(["HMGET", keys.meta, "g", "h"])
    connection.becomeNonBlocking()
    self.connection = connection
    self.digests = digests
    self.keys = keys
    self.journal = journal
    self.tableNames = tableNames
    self.groups = groups
    self.purgePatterns = purgePatterns
    self.purgeMatch = purgeMatch
    timeout = min(settings.timeout, Self.patience)
    journalCheck = JournalCheck(limit: journal.size)
  }

  public var descriptor: Int32 { connection.descriptor }
  public var wantsToWrite: Bool { unsent }

  // MARK: Requests

  public mutating func send(_ request: StateRequest) throws(SinkError) {
    switch request {
    case .takeover(let token, let server, let mapping, let fingerprint):
      begin(.takeover, keys: 1)
      arguments.append(keys.meta)
      arguments.append(token)
      arguments.append(server.systemID)
      arguments.append(hexadecimal8(server.timeline))
      arguments.append(mapping)
      arguments.append(fingerprint)
    case .newGeneration(
      let token, let old, let new, let server, let mapping, let applied, let visible, let watching,
      let fingerprint):
      begin(.newGeneration, keys: 2)
      arguments.append(keys.meta)
      arguments.append(keys.journal(old ?? new))
      arguments.append(token)
      arguments.append(old?.hex ?? "")
      arguments.append(new.hex)
      arguments.append(server.systemID)
      arguments.append(hexadecimal8(server.timeline))
      arguments.append(mapping)
      arguments.append(applied.hex)
      arguments.append(visible.hex)
      arguments.append(watching ? "1" : "0")
      arguments.append(keys.channel)
      arguments.append(fingerprint)
    case .purge(let check, let cursor):
      begin(.purge, keys: 1)
      arguments.append(keys.meta)
      append(check)
      arguments.append(cursor)
      arguments.append(purgeMatch)
      arguments.append(Self.purgeCount)
      for pattern in purgePatterns { arguments.append(pattern) }
    case .purged(let check):
      begin(.purged, keys: 1)
      arguments.append(keys.meta)
      append(check)
    case .sweep(let check, let cursor, let packed):
      begin(.sweep, keys: 1)
      arguments.append(keys.meta)
      append(check)
      arguments.append(cursor)
      arguments.append(purgeMatch)
      arguments.append(Self.purgeCount)
      arguments.append(packed.bytes)
      for rule in groups.sweepRules {
        arguments.append(rule.pattern)
        arguments.append(rule.replacement)
      }
    case .swept(let check, let pending):
      begin(.swept, keys: 1)
      arguments.append(keys.meta)
      append(check)
      arguments.append(pending.packed.bytes)
    }
    try submit()
  }

  public mutating func apply(
    _ apply: ApplyRequest, keys batch: borrowing KeyBatch, chunk: Range<Int>
  ) throws(SinkError) {
    precondition(chunk.count <= 1000, "a script holds up everybody else, so a step has at most 1000 keys")
    begin(.apply, keys: 2 + chunk.count)
    arguments.append(keys.meta)
    arguments.append(keys.journal(apply.check.generation))
    buckets.removeAll(keepingCapacity: true)
    for index in chunk {
      batch.withKey(index) { key, _ in
        arguments.append(key)
        buckets.append(Int32(KeyHash.bucket(key)))
      }
    }
    var raisesFloor = false
    for index in apply.groups {
      batch.withGroup(index) { group, _ in
        buckets.append(Int32(KeyHash.bucket(group)))
        if groups.isAdHoc(group) { raisesFloor = true }
      }
    }
    append(apply.check)
    arguments.append(apply.applied.hex)
    arguments.append(apply.visible.hex)
    arguments.append(apply.fence.hex)
    arguments.append(apply.sampled != nil ? "1" : "0")
    arguments.append(apply.stopsWatching ? "0" : "")
    let packed = batch.packed(chunk).bytes
    let packedGroups = batch.packedGroups(apply.groups).bytes
    arguments.append(journal.keep / 1_000_000)
    arguments.append(
      journalCheck.isDue(adding: packed.count + packedGroups.count) ? String(journal.size) : "")
    arguments.append(keys.channel)
    arguments.append(packed)
    arguments.append(batch.packedOrigins(chunk, groups: apply.groups).bytes)
    arguments.append(packedGroups)
    arguments.append(raisesFloor ? "1" : "")
    arguments.append(apply.tellsPending ? "1" : "")
    let messages = messages(batch, chunk, apply.groups, part: apply.part, parts: apply.parts)
    arguments.append(messages.count)
    for message in messages { arguments.append(message) }
    buckets.sort()
    var last: Int32 = -1
    for bucket in buckets where bucket != last {
      arguments.append(bucket)
      last = bucket
    }
    try submit()
  }

  /// One message for each table, in the order in which the tables come first in the step.
  private func messages(
    _ batch: borrowing KeyBatch, _ chunk: Range<Int>, _ chosen: Range<Int>, part: Int, parts: Int
  ) -> [[UInt8]] {
    var tables: [Int] = []
    var open: [PublishedMessage] = []
    func place(_ table: Int) -> Int {
      if let place = tables.firstIndex(of: table) { return place }
      tables.append(table)
      open.append(PublishedMessage(table: tableNames.indices.contains(table) ? tableNames[table] : nil))
      return open.count - 1
    }
    for index in chunk { batch.withKey(index) { key, table in open[place(table)].append(key) } }
    for index in chosen { batch.withGroup(index) { group, table in open[place(table)].append(group: group) } }
    return open.map { $0.rest(part: part, of: parts) }
  }

  private mutating func begin(_ request: Request, keys count: Int) {
    precondition(underWay == nil, "one request is under way at a time")
    underWay = request
    arguments.removeAll()
    arguments.append("EVALSHA")
    arguments.append(digests[request] ?? "")
    arguments.append(count)
  }

  private mutating func append(_ check: WriteCheck) {
    arguments.append(check.token)
    arguments.append(check.generation.hex)
    arguments.append(check.count)
  }

  private mutating func submit() throws(SinkError) {
    do throws(RedisError) {
      try connection.append(arguments)
      sent = bootInstant()
      unsent = try !connection.write()
    } catch { throw SinkError(error) }
  }

  // MARK: Replies

  public mutating func receive() throws(SinkError) -> StateReply? {
    do throws(RedisError) {
      if unsent { unsent = try !connection.write() }
      var reply = try connection.next()
      if reply == nil {
        try connection.read()
        reply = try connection.next()
      }
      guard let request = underWay else {
        // Nothing was asked: reading has only told whether the connection still stands.
        guard reply == nil else { throw RedisError(unexpected: "nothing", place: connection.place) }
        return nil
      }
      guard let reply else {
        // Judged after reading, so that an answer which came while this process was stopped still counts.
        if bootInstant().since(sent) > timeout {
          throw RedisError(
            .timedOut, "Redis at \(connection.place) did not answer \"\(request.rawValue)\" in time.")
        }
        return nil
      }
      if case .error(let text) = reply, text.hasPrefix("NOSCRIPT") {
        // Somebody ran SCRIPT FLUSH; EVAL runs the script and keeps it.
        arguments = arguments.replacingFirst(["EVAL", request.script])
        try connection.append(arguments)
        sent = bootInstant()
        unsent = try !connection.write()
        return nil
      }
      underWay = nil
      if case .error(let text) = reply { throw RedisError(answer: text, place: connection.place) }
      guard let parsed = parse(reply, of: request) else {
        throw RedisError(unexpected: "\"\(request.rawValue)\"", place: connection.place)
      }
      return parsed
    } catch { throw SinkError(error) }
  }

  private func parse(_ reply: RedisReply, of request: Request) -> StateReply? {
    guard let elements = reply.elements, let word = elements.first?.text else { return nil }
    let texts = elements.map(\.text)
    func text(_ index: Int) -> String? { index < texts.count ? texts[index] : nil }
    switch word {
    case "NOSTATE": return .noState
    case "FENCED": return .fenced
    case "REGRESSED": return .regressed
    case "RACE": return .raced
    case "SYSID": return text(1).map { .otherSystem($0) }
    case "OLDTL": return text(1).map { .olderTimeline($0) }
    case "NEEDGEN": return text(1).flatMap { Generation(hex: $0) }.map { .needsGeneration($0) }
    case "OK": break
    default: return nil
    }
    switch request {
    case .apply:
      guard let w = text(1).flatMap({ LSN(hex: $0) }), let v = text(2).flatMap({ LSN(hex: $0) })
      else { return nil }
      guard let pending = pending(elements, 4) else { return nil }
      return .applied(W: w, V: v, generationAsked: ["1", "2"].contains(text(3)), pending: pending)
    case .takeover:
      guard let g = text(1).flatMap({ Generation(hex: $0) }), let w = text(2).flatMap({ LSN(hex: $0) }),
        let v = text(3).flatMap({ LSN(hex: $0) }), let n = text(4).flatMap({ UInt64($0) })
      else { return nil }
      return .takenOver(
        StateReply.Takeover(
          generation: g, applied: w, visible: v, count: n, watching: text(7) == "1",
          cleared: text(8) == g.hex))
    case .newGeneration: return .began
    case .purge, .sweep:
      guard let cursor = text(1), elements.count > 2, case .integer(let removed) = elements[2]
      else { return nil }
      return .purgeStep(cursor: cursor, removed: Int(removed))
    case .purged: return .cleared
    case .swept: return pending(elements, 1).map { .swept(left: $0) }
    }
  }

  private func pending(_ elements: [RedisReply], _ index: Int) -> PendingGroups? {
    guard index < elements.count, case .bulk(let bytes) = elements[index] else { return nil }
    return PendingGroups(bytes: bytes)
  }
}

extension SinkError {
  init(_ error: RedisError) {
    let cause: Cause =
      switch error.kind {
      case .unreachable, .closed: .closed
      case .timedOut: .silent
      case .refused, .denied, .answered, .malformed: .refused
      }
    self.init(error.description, cause: cause)
  }
}

/// When the journal's size is looked at: MEMORY USAGE costs as much as a small apply, so not every time.
struct JournalCheck {
  private let limit: Int
  private var bytes = 0
  private var steps = 0

  init(limit: Int) { self.limit = limit }

  /// Every hundredth step, since applications' deletions add entries too, and whenever a sixteenth of the
  /// limit has been added.
  mutating func isDue(adding count: Int) -> Bool {
    bytes += count
    steps += 1
    guard steps >= 100 || bytes >= limit / 16 else { return false }
    (bytes, steps) = (0, 0)
    return true
  }
}

func hexadecimal8(_ value: UInt32) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: 8 - digits.utf8.count) + digits
}

/// This instant by the clock of `Instant`.
func bootInstant() -> Instant {
  var now = timespec()
  clock_gettime(CLOCK_BOOTTIME, &now)
  return Instant(nanoseconds: UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec))
}
