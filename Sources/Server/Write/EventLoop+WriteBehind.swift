import Configuration
import DequeModule
import Invalidation
import NearCache

/// SETs that are written behind: a script puts them into a stream of Redis and under their key, and the thread of
/// one host of the fleet takes them to PostgreSQL. Until it has, every read puts the value back under the key first.
extension EventLoop {
  /// Whether what is set could not become a parameter of a statement.
  mutating func refusesBehind(_ value: [UInt8], _ slot: Int) -> Bool {
    if value.contains(0) || String(validating: value, as: UTF8.self) == nil {
      reply(slot) {
        $0.error(
          "ERR Nearside: PostgreSQL takes only text in UTF-8 without a zero byte, so nothing was written")
      }
      return true
    }
    guard !resp2.isReady else { return false }
    let trouble = resp2.trouble
    reply(slot) { $0.error("ERR Nearside: upstream Redis is unreachable (\(trouble)); nothing was written") }
    return true
  }

  /// Asks Redis to take a SET whose turn it is. False: it cannot be asked, so the SET is over and it is the next one's
  /// turn.
  mutating func take(_ id: UInt64) -> Bool {
    guard var write = writing.writes[id], let settings = write.key.rule.write?.behind else { return false }
    guard resp2.isReady else {
      finish(id, "ERR Nearside: upstream Redis is unreachable (\(resp2.trouble)); nothing was written")
      return false
    }
    noteWrite(write.key)
    write.phase = .taking
    writing.writes[id] = write
    var message = PublishedMessage(table: nil)
    write.key.bytes.withUnsafeBytes { message.append($0) }
    let (state, journal) = (keys, self.settings.journal)
    resp2.begin(.behind, keys: 4, arguments: 9)
    resp2.output.bulk(state.meta)
    resp2.output.bulk(write.key.bytes)
    resp2.output.bulk(state.writes)
    resp2.output.bulk(state.pendingWrites)
    resp2.appendJournal(state, journal)
    resp2.output.bulk(message.rest())
    resp2.output.bulk(String(write.key.bytes.withUnsafeBytes { KeyHash.bucket($0) }))
    resp2.output.bulk(String(settings.most))
    resp2.output.bulk(write.milliseconds.map { String($0) } ?? "")
    resp2.appendLimit(write.key.rule.lifetime())
    resp2.output.bulk(write.value)
    resp2.await(.task(UpstreamTask(client: nil, work: .behind(id))))
    return true
  }

  private mutating func takeAgain(_ id: UInt64) {
    guard let key = writing.writes[id]?.key.bytes else { return }
    if !take(id) { startNext(key) }
  }

  mutating func finishBehind(_ id: UInt64, _ replies: UnsafeRawBufferPointer) {
    guard var write = writing.writes[id] else { return }
    dropNear(write.key)
    var cursor = ReplyCursor(replies)
    if cursor.isError, isForgottenScript(replies), !write.isRepeated {
      reloadScripts()
      write.isRepeated = true
      writing.writes[id] = write
      return takeAgain(id)
    }
    guard !cursor.isError, cursor.enter() != nil, let word = cursor.text() else {
      let text = String(decoding: replies.dropFirst().prefix { $0 != 13 && $0 != 10 }, as: UTF8.self)
      return end(id, "ERR Nearside: Redis did not take this write: \(text)")
    }
    switch word {
    case "OK": end(id, nil)
    case "FULL":
      if !write.isWaiting {
        counters.behindWaits += 1
        write.isWaiting = true
        writing.writes[id] = write
      }
      writing.full.append(id)
    default:
      end(
        id, "TRYAGAIN Nearside: no sidecar has begun the fleet's state yet, so nothing was written; try again"
      )
    }
  }

  /// No reply will come: Redis may have taken it.
  mutating func abandonBehind(_ id: UInt64) {
    guard let write = writing.writes[id] else { return }
    dropNear(write.key)
    end(
      id,
      "ERR Nearside: it is not known whether this write has happened, since the connection to Redis was lost "
        + "(\(resp2.trouble))")
  }

  private mutating func end(_ id: UInt64, _ error: String?) {
    guard let key = writing.writes[id]?.key.bytes else { return }
    if error != nil { counters.behindRefused += 1 }
    finish(id, error)
    startNext(key)
  }

  // MARK: Back-pressure

  /// How long a full stream is left alone, in nanoseconds, and how many SETs try again then.
  private static let fullPeriod: UInt64 = 20_000_000
  private static let mostAtOnce = 64

  mutating func tickBehind() {
    guard governance.writesBehind else { return }
    askForBacklog()
    guard !writing.full.isEmpty, now.since(writing.fullAskedAt) >= Self.fullPeriod else { return }
    writing.fullAskedAt = now
    refuseOverdue()
    for _ in 0..<min(Self.mostAtOnce, writing.full.count) { takeAgain(writing.full.removeFirst()) }
  }

  private mutating func refuseOverdue() {
    let waiting = writing.full
    writing.full = []
    for id in waiting {
      guard let key = writing.writes[id]?.key, let settings = key.rule.write?.behind, isOverdue(id) else {
        writing.full.append(id)
        continue
      }
      let text =
        "TRYAGAIN Nearside: \(settings.most) writes wait for PostgreSQL, so nothing was written; try again"
      // Those behind it that came too long ago as well need not ask.
      while let next = writing.keys[key.bytes]?.queue.first, isOverdue(next) {
        writing.keys[key.bytes]?.queue.removeFirst()
        counters.behindRefused += 1
        finish(next, text)
      }
      end(id, text)
    }
  }

  private func isOverdue(_ id: UInt64) -> Bool {
    guard let write = writing.writes[id], let settings = write.key.rule.write?.behind else { return false }
    return now >= write.came.after(nanoseconds: settings.wait)
  }

  // MARK: What waits

  private mutating func askForBacklog() {
    guard resp2.isReady, now.since(writing.backlog.askedAt) >= 500_000_000 else { return }
    writing.backlog.askedAt = now
    resp2.begin(.backlog, keys: 2, arguments: 0)
    resp2.output.bulk(keys.writes)
    resp2.output.bulk(keys.deadWrites)
    resp2.await(.task(UpstreamTask(client: nil, work: .backlog)))
  }

  mutating func finishBacklog(_ replies: UnsafeRawBufferPointer) {
    var cursor = ReplyCursor(replies)
    guard !cursor.isError, cursor.enter() == 3 else {
      if isForgottenScript(replies) { reloadScripts() }
      return
    }
    writing.backlog.depth = cursor.integer() ?? 0
    writing.backlog.age = cursor.integer() ?? 0
    writing.backlog.dead = cursor.integer() ?? 0
  }

  /// Lines of NEARSIDE STATUS.
  func behindLines() -> [String] {
    let (backlog, flusher) = (writing.backlog, writing.flusher)
    var lines = [
      "behind_writes:\(counters.behindWrites)",
      "behind_waits:\(counters.behindWaits)",
      "behind_refused:\(counters.behindRefused)",
      "behind_depth:\(backlog.depth)",
      "behind_age_ms:\(backlog.age)",
      "behind_dead:\(backlog.dead)",
      "behind_flushing:\(flusher.isFlushing ? 1 : 0)",
      "behind_flushed:\(flusher.flushed)",
      "behind_coalesced:\(flusher.coalesced)",
      "behind_retries:\(flusher.retries)",
    ]
    if let trouble = flusher.trouble { lines.append("behind_trouble:\(trouble)") }
    return lines
  }
}

// MARK: Reading

extension EventLoop {
  /// How often a read is done that finds a pending value deleted again each time.
  private static let mostReads = 8

  /// Takes the reply to `restore`, and judges the keys by what is pending. `isLost`: a value that was there then is
  /// not in what Redis has answered behind it. If it has failed, the result is the error that the client is given.
  mutating func takeRestored(
    _ read: GovernedRead, _ cursor: inout ReplyCursor, _ judgements: inout [Judgement], _ isLost: inout Bool
  ) -> String? {
    if isForgottenScript(cursor.peek) {
      reloadScripts()
      return Self.forgotten
    }
    guard !cursor.isError, cursor.enter() != nil else {
      return String(decoding: cursor.peek.dropFirst().prefix { $0 != 13 && $0 != 10 }, as: UTF8.self)
    }
    var there: [Int] = []
    for (index, key) in read.keys.enumerated() where key.rule.write?.behind != nil {
      guard let found = cursor.integer(), found != 0 else { continue }
      judgements[index] = .pending(mayKeep: judgements[index].mayKeep)
      if found == 1 { there.append(index) }
    }
    // In a transaction nobody can have come in between.
    guard !read.isFinal, !there.isEmpty else { return nil }
    let missed = misses(read, cursor, judgements, countsPending: true)
    isLost = there.contains { missed[$0] != nil }
    return nil
  }

  /// Somebody has deleted a pending value between `restore` and the read: both are sent again.
  mutating func repeatLost(_ read: GovernedRead, _ slot: Int) {
    var read = read
    read.attempts += 1
    guard read.attempts < Self.mostReads, sharedUpstream(slot).isReady else {
      return settle(slot, read.hold) { output, _ in
        output.error("TRYAGAIN Nearside: what is pending of this key could not be read; try again")
      }
    }
    read.hold =
      read.hold
      ?? GovernedRead.Hold(
        number: clients[slot].hold(), deadline: now.after(nanoseconds: settings.leaseWait))
    sendAgain(read, clients[slot].token)
  }
}

extension Upstream {
  /// Sends what puts pending writes back under their keys; returns how many replies it has.
  func restore(_ governed: [GovernedKey], _ keys: StateKeys) -> Int {
    guard !governed.isEmpty else { return 0 }
    begin(.restore, keys: 2 + governed.count, arguments: 0)
    output.bulk(keys.writes)
    output.bulk(keys.pendingWrites)
    for key in governed { output.bulk(key.bytes) }
    return 1
  }
}

/// What waits for PostgreSQL, as it was last heard.
struct Backlog {
  var depth = 0
  /// Of the oldest entry, in milliseconds.
  var age = 0
  var dead = 0
  var askedAt = Instant(nanoseconds: 0)
}

/// What one host has taken to PostgreSQL, for `NEARSIDE STATUS`.
public struct FlusherReport: Sendable, Equatable {
  /// Whether this host is the one of the fleet that writes.
  public var isFlushing = false
  /// Keys that were written; entries that a later one of their key has replaced; tries that failed.
  public var flushed = 0
  public var coalesced = 0
  public var retries = 0
  /// Why nothing is written at the moment, as a sentence.
  public var trouble: String?

  public init() {}
}
