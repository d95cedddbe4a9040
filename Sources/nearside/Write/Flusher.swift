import CLinux
import Configuration
import Invalidation
import Logging
import Postgres
import Redis
import Server

/// The thread that takes to PostgreSQL what was written behind: stands by until it holds the fleet's lock, reads the
/// stream of pending writes from its beginning, and begins again after anything that went wrong. It keeps nothing from
/// one hold to the next; what is not known to have been written is written again.
struct Flusher: ~Copyable {
  private let settings: Settings
  private let redisSettings: RedisSettings
  private let keys: StateKeys
  private let plan: BehindPlan
  private let mailbox: LoopMailbox
  private let stop: StopSignal
  private let log: Logger
  private var report = FlusherReport()
  private var told = FlusherReport()
  /// Replaced entries of holds that are over.
  private var coalescedBefore = 0
  private var unknown: Set<[UInt8]> = []
  /// V, if a batch has waited for it in vain and it has not moved since.
  private var stillAt: UInt64?

  /// How many keys are held in memory at most, and how many entries are read at once.
  private static let mostKeys = 20_000
  private static let chunk = 500
  /// How many keys one script ends.
  private static let mostEnded = 200

  /// nil: nothing is written behind.
  init?(settings: Settings, mailbox: LoopMailbox, stop: StopSignal, log: Logger) {
    guard let redis = settings.redis, let namespace = settings.namespace, let plan = BehindPlan(settings)
    else {
      return nil
    }
    self.settings = settings
    redisSettings = redis
    keys = StateKeys(namespace: namespace)
    self.plan = plan
    self.mailbox = mailbox
    self.stop = stop
    self.log = log
  }

  /// Runs until the stop signal.
  mutating func run() {
    while !stop.isSet {
      do throws(FlushTrouble) { try hold() } catch { note(error.sentence) }
      report.isFlushing = false
      tell()
      stop.wait(UInt64.random(in: 500_000_000...1_000_000_000))
    }
  }

  private mutating func hold() throws(FlushTrouble) {
    var session = try trouble { () throws(PostgresError) in try WriteSession(settings.postgres) }
    while !(try trouble { () throws(PostgresError) in try session.lock(settings.namespace ?? "") }) {
      note(nil)
      stop.wait(UInt64.random(in: 500_000_000...1_000_000_000))
      if stop.isSet { return }
    }
    var redis = try trouble { () throws(RedisError) in
      try RedisConnection(redisSettings, name: "nearside-writes", patience: 1_000_000_000)
    }
    log.notice("takes what is written behind to \(session.place)")
    report.isFlushing = true
    note(nil)
    var queue = BehindQueue(plan.caches.map(\.settings))
    defer { coalescedBefore += queue.coalesced }
    var cursor = "0-0"
    var isOld = true
    var heardAt = Self.now()
    var emptyAt = Self.now()
    while !stop.isSet {
      if Self.now() - heardAt > 3_000_000_000 {
        try trouble { () throws(PostgresError) in try session.probe() }
        heardAt = Self.now()
      }
      let wait = isOld || !queue.hasRoom(Self.mostKeys) ? 0 : Self.pause(queue.nextTime())
      if queue.hasRoom(Self.mostKeys) {
        let read = try self.read(&redis, &cursor, wait: wait, isOld: isOld, into: &queue)
        // Everything that waits is read before anything is written, so that only the newest value of a key is.
        if isOld, read == Self.chunk { continue }
        isOld = false
      } else {
        stop.wait(Self.pause(queue.nextTime()))
      }
      let batch = queue.next(now: Self.now())
      if !batch.isEmpty {
        try write(batch, &session, &redis, &queue)
        heardAt = Self.now()
      }
      if queue.keys > 0 { emptyAt = Self.now() }
      // A failover behind a proxy need not end this connection, and the new primary may have lost what the old one was
      // told last: entries that were ended stand in its stream again, before the cursor.
      if Self.now() - emptyAt > 3_000_000_000 {
        emptyAt = Self.now()
        cursor = "0-0"
        isOld = true
      }
      report.coalesced = coalescedBefore + queue.coalesced
      tell()
    }
  }

  private static func now() -> UInt64 { clinux_boot_nanoseconds() }

  /// How long to wait for entries, in nanoseconds: at most until something is due.
  private static func pause(_ due: UInt64?) -> UInt64 {
    let now = now()
    return min(due.map { $0 > now ? $0 - now : 0 } ?? .max, 100_000_000)
  }

  // MARK: Redis

  /// Reads what has come; how many entries.
  private mutating func read(
    _ redis: inout RedisConnection, _ cursor: inout String, wait: UInt64, isOld: Bool,
    into queue: inout BehindQueue
  ) throws(FlushTrouble) -> Int {
    var words = ["XREAD", "COUNT", String(Self.chunk)]
    // 0 would mean for ever.
    if wait > 1_000_000 { words += ["BLOCK", String(wait / 1_000_000)] }
    let reply = try command(&redis, words + ["STREAMS", keys.writes, cursor])
    let entries = reply.elements?.first?.elements?.last?.elements ?? []
    for entry in entries {
      guard let id = entry.elements?.first?.text, let list = entry.elements?.last?.elements else { continue }
      cursor = id
      var fields: [String: [UInt8]] = [:]
      for index in stride(from: 0, to: list.count - 1, by: 2) {
        if let name = list[index].text, case .bulk(let value) = list[index + 1] { fields[name] = value }
      }
      guard let key = fields["k"], let value = fields["v"] else { continue }
      let milliseconds = fields["x"].flatMap { Int(String(decoding: $0, as: UTF8.self)) }
      guard let write = plan.write(key, value: value, milliseconds: milliseconds) else {
        if unknown.count < 1000, unknown.insert(key).inserted {
          log.error("a write that waits is of no cache of this configuration, and stays: add its cache again")
        }
        continue
      }
      queue.add(
        id, key: key, cache: write.cache, parameters: write.parameters, isOld: isOld, now: Self.now())
    }
    return entries.count
  }

  /// Ends entries in Redis.
  private func finish(_ ended: [BehindQueue.Ended], _ redis: inout RedisConnection) throws(FlushTrouble) {
    for start in stride(from: 0, to: ended.count, by: Self.mostEnded) {
      let part = ended[start..<min(start + Self.mostEnded, ended.count)]
      var words: [[UInt8]] = ["EVAL", StateScripts.finished, String(4 + part.count)].map { Array($0.utf8) }
      words += [keys.meta, keys.writes, keys.pendingWrites, keys.deadWrites].map { Array($0.utf8) }
      words += part.map(\.key)
      words += [keys.journalPrefix, keys.channel, String(settings.journal.keep / 1_000_000)].map {
        Array($0.utf8)
      }
      for one in part {
        var message = PublishedMessage(table: nil)
        one.key.withUnsafeBytes { message.append($0) }
        words.append(Array(String(one.key.withUnsafeBytes { KeyHash.bucket($0) }).utf8))
        words.append(Array(one.id.utf8))
        words.append(Array(one.ids.joined(separator: ",").utf8))
        words.append(message.rest())
        words.append(Array((one.reason ?? "").utf8))
        words.append(Array(String(one.attempts).utf8))
      }
      let reply = try trouble { () throws(RedisError) in try redis.command(words) }
      if case .error(let text) = reply {
        throw FlushTrouble(sentence: "Redis refused to end writes: \(text)")
      }
    }
  }

  private func command(_ redis: inout RedisConnection, _ words: [String]) throws(FlushTrouble) -> RedisReply {
    let reply = try trouble { () throws(RedisError) in try redis.command(words) }
    if case .error(let text) = reply { throw FlushTrouble(sentence: "Redis refused \(words[0]): \(text)") }
    return reply
  }

  // MARK: PostgreSQL

  private mutating func write(
    _ batch: [BehindQueue.Write], _ session: inout WriteSession, _ redis: inout RedisConnection,
    _ queue: inout BehindQueue
  ) throws(FlushTrouble) {
    let writes = batch.map {
      WriteSession.Write(statement: $0.cache, sql: plan.caches[$0.cache].sql, parameters: $0.parameters)
    }
    let outcome: WriteSession.Outcome
    do throws(PostgresError) { outcome = try session.write(writes) } catch { throw FlushTrouble(error) }
    switch outcome {
    case .written(let position):
      if let position { try waitUntilVisible(position, &redis) }
      report.flushed += batch.count
      note(nil)
      try finish(queue.written(batch), &redis)
    case .refused(let sqlState, let sentence):
      let ended = queue.failed(batch, sqlState ?? BehindQueue.noRow, now: Self.now())
      guard batch.count == 1 else { return }
      report.retries += 1
      let name = plan.caches[batch[0].cache].name
      note(
        "PostgreSQL refuses a write of \(name): \(sentence)" + (sqlState.map { " (SQLSTATE \($0))" } ?? ""))
      guard !ended.isEmpty else { return }
      log.error("a write of \(name) was given up and is in the stream \(keys.deadWrites): \(sentence)")
      try finish(ended, &redis)
    }
  }

  /// A read that follows the end of an entry must find its row everywhere, a standby that loads included: V tells. It
  /// also spares the key a second removal by the log. Where nobody tails, nobody gives leases either; and while V
  /// stands still, only the first batch waits for it.
  private mutating func waitUntilVisible(
    _ position: UInt64, _ redis: inout RedisConnection
  ) throws(FlushTrouble) {
    let until = Self.now() + 1_000_000_000
    var first: UInt64?
    while !stop.isSet {
      let text = try command(&redis, ["HGET", keys.meta, "V"]).text
      let visible = text.flatMap { LSN(hex: $0) }?.rawValue ?? 0
      if visible >= position || visible == stillAt { return }
      stillAt = nil
      if first == nil { first = visible }
      guard Self.now() < until else {
        if visible == first { stillAt = visible }
        return
      }
      stop.wait(2_000_000)
    }
  }

  // MARK: What is told

  private mutating func note(_ sentence: String?) {
    if let sentence, sentence != report.trouble { log.warning("\(sentence)") }
    report.trouble = sentence
    tell()
  }

  private mutating func tell() {
    guard report != told else { return }
    told = report
    mailbox.report(report)
  }

  private func trouble<Result: ~Copyable>(
    _ body: () throws(PostgresError) -> Result
  ) throws(FlushTrouble) -> Result {
    do throws(PostgresError) { return try body() } catch { throw FlushTrouble(error) }
  }

  private func trouble<Result: ~Copyable>(
    _ body: () throws(RedisError) -> Result
  ) throws(FlushTrouble) -> Result {
    do throws(RedisError) { return try body() } catch { throw FlushTrouble(sentence: error.description) }
  }
}

/// Why a hold has ended, as a sentence.
private struct FlushTrouble: Error {
  var sentence: String

  init(sentence: String) { self.sentence = sentence }
  init(_ error: PostgresError) { sentence = error.description }
}

extension BehindQueue {
  fileprivate func hasRoom(_ most: Int) -> Bool { keys < most }
}
