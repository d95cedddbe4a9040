import Configuration
import Invalidation
import NearCache

/// SETs of governed keys that go to Redis as one call of `StateScripts.fillMany`: a script for each would cost Redis
/// several times what the SET does.
///
/// It is sent before whatever is sent next on the connection, and at the end of the loop's turn at the latest, so each
/// client's commands are carried out in the order in which they came.
struct FillBatch: ~Copyable {
  struct Entry {
    var client: ClientToken
    var fill: GovernedFill
    /// The number of its command for `Tally`, and when it came.
    var command: Int
    var began: Instant
  }

  /// So many SETs, or so many bytes of them, and it is sent: other clients of Redis wait for a script to end.
  private static let most = 64
  private static let mostBytes = 64 * 1024
  /// Longer values are sent by themselves.
  static let longestValue = 16 * 1024

  private(set) var entries: [Entry] = []
  private var keys = IOBuffer(size: 4096)
  private var arguments = IOBuffer(size: 16 * 1024)

  var isEmpty: Bool { entries.isEmpty }
  var isFull: Bool { entries.count >= Self.most || bytes >= Self.mostBytes }
  /// How much of it will be sent.
  var bytes: Int { keys.count + arguments.count }

  /// `lifetime`: milliseconds; nil: for ever.
  mutating func append(
    _ entry: Entry, value: UnsafeRawBufferPointer, lifetime: Int?
  ) {
    let fill = entry.fill
    fill.key.bytes.withUnsafeBytes { keys.bulk($0) }
    arguments.bulk(fill.lease)
    arguments.buckets(of: fill.key)
    if let lifetime { arguments.bulk(number: lifetime) } else { arguments.argument("") }
    arguments.bulk(value)
    entries.append(entry)
  }

  /// Ends the call whose beginning, up to the first key, is in `output`, and hands over what it is about.
  mutating func send(to output: inout IOBuffer) -> [Entry] {
    output.append(keys.bytes)
    output.append(arguments.bytes)
    keys.consume(keys.count)
    arguments.consume(arguments.count)
    defer { entries.removeAll(keepingCapacity: true) }
    return entries
  }
}

extension Upstream {
  /// Puts a SET behind those that are sent together. `value` and `lifetime` (milliseconds) are what is stored.
  func add(
    _ entry: FillBatch.Entry, value: UnsafeRawBufferPointer, lifetime: Int?, meta: String
  ) {
    if fills.isFull { sendFills() }
    fillMeta = meta
    fills.append(entry, value: value, lifetime: lifetime)
  }

  /// Sends the SETs that wait to be sent together.
  func sendFills() {
    guard !fills.isEmpty else { return }
    let count = fills.entries.count
    begin(.fillMany, keys: count + 1, arguments: 4 * count)
    output.bulk(fillMeta)
    self.await(.task(UpstreamTask(client: nil, work: .fills(fills.send(to: &output)))))
  }
}

extension EventLoop {
  /// A SET that simply puts a value there, for a time or for ever.
  mutating func fillTogether(
    _ key: GovernedKey, _ name: String, lease: Lease, value: UnsafeRawBufferPointer, milliseconds: Int?,
    _ slot: Int
  ) {
    noteWrite(key)
    var fill = GovernedFill(
      key: key, command: name, lease: lease, answer: .command(refused: .ok), near: nil)
    fill.key.version = writeVersion(key.hash)
    let limit = key.rule.lifetime().map { Int(max(1, $0 / 1_000_000)) }
    let lifetime = limit.map { min($0, milliseconds ?? .max) } ?? milliseconds
    if key.rule.keepsNear, value.count <= settings.near.maxEntry {
      fill.near = ([UInt8](value), lifetime.map { now.after(milliseconds: $0) })
    }
    let upstream = sharedUpstream(slot)
    clients[slot].owed.append(.awaited)
    clients[slot].relayed += 1
    clients[slot].owedBytes += value.count + key.bytes.count + 128
    tally.wentUpstream = true
    upstream.add(
      FillBatch.Entry(client: clients[slot].token, fill: fill, command: tally.current, began: now),
      value: value, lifetime: lifetime, meta: keys.meta)
  }

  /// Whether a SET of this client's may wait for others.
  func mayFillTogether(_ slot: Int) -> Bool {
    transacting == nil && loading.resumed == nil && !tracking.isActive
      && clients[slot].session.database == nil
      && sharedUpstream(slot).isReady
  }

  /// Redis has answered SETs that were sent together.
  mutating func finish(_ fills: [FillBatch.Entry], _ replies: UnsafeRawBufferPointer) {
    var cursor = ReplyCursor(replies)
    guard !cursor.isError, cursor.enter() == 6 + fills.count else {
      if isForgottenScript(replies) { reloadScripts() }
      for entry in fills { finishFailed(entry.fill, replies, slot(of: entry.client)) }
      return
    }
    for entry in fills { tally.answered(entry.command, after: now.since(entry.began)) }
    _ = (cursor.raw(), cursor.raw())
    // What the script found: nothing may have moved since, here or there, for a value to be kept near.
    var found = cursor
    let isCurrent = acceptsFill(&found)
    // It stops at the first that is missing, as all are where there is no state.
    for _ in 0..<4 { _ = cursor.raw() }
    for entry in fills {
      // 1 if it was stored, otherwise why not.
      let word = cursor.text()
      finish(entry.fill, refusal: word, isCurrent: isCurrent, slot(of: entry.client))
    }
  }

  private mutating func finish(_ fill: GovernedFill, refusal: String?, isCurrent: Bool, _ slot: Int?) {
    let moved = fill.key.version != writeVersion(fill.key.hash)
    if let slot { clients[slot].noteReply(5) }
    settle(slot) { output, _ in output.status("OK") }
    if let refusal {
      noteRefused(fill.key, by: fill.command, FillRefusal(script: refusal), under: fill.lease)
    }
    dropNear(fill.key)
    guard refusal == nil else { return }
    noteStored(fill.key, by: fill.command, under: fill.lease)
    if let near = fill.near, isCurrent, !moved {
      var key = fill.key
      key.version = writeVersion(key.hash)
      near.value.withUnsafeBytes { keepNear(key, $0, expires: near.expires) }
    }
  }

  private func slot(of client: ClientToken) -> Int? { isAlive(client) ? Int(client.slot) : nil }
}
