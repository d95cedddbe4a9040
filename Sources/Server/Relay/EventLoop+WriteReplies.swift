import Configuration
import Invalidation
import Logging
import NearCache

/// Redis has answered a governed write.
extension EventLoop {
  mutating func finish(_ fill: GovernedFill, _ replies: UnsafeRawBufferPointer, client slot: Int?) {
    var cursor = ReplyCursor(replies)
    guard !cursor.isError, cursor.enter() == 6, let word = cursor.text() else {
      if isForgottenScript(replies) { reloadScripts() }
      return finishFailed(fill, replies, slot)
    }
    let reply = cursor.peek
    let failed = cursor.isError
    _ = cursor.raw()
    guard word == "OK" else {
      noteRefused(fill.key, by: fill.command, FillRefusal(script: word), under: fill.lease)
      dropNear(fill.key)
      return settle(slot) { output, resp3 in
        switch fill.answer {
        case .command(let refused): output.refused(refused, resp3: resp3)
        case .stored: output.integer(0)
        }
      }
    }
    settle(slot) { output, resp3 in
      if case .stored = fill.answer, !failed {
        output.integer(1)
      } else {
        output.append(reply, shape: fill.shape, resp3: resp3)
      }
    }
    // Whatever was read before the write and arrives after it must not take its place.
    let moved = fill.key.version != writeVersion(fill.key.hash)
    dropNear(fill.key)
    guard !failed else { return }
    noteStored(fill.key, by: fill.command, under: fill.lease)
    if case .command(refused: .tryAgain) = fill.answer, ReplyCursor(reply).saysNothingLeft {
      noteAbsent(fill.key, generation: cursor.peekText)
    }
    // Kept near under the state that the script found: nothing may have moved since, here or there.
    if let near = fill.near, acceptsFill(&cursor), !moved {
      var key = fill.key
      key.version = writeVersion(key.hash)
      near.value.withUnsafeBytes { keepNear(key, $0, expires: near.expires) }
    }
  }

  /// The reply to a write has told that the key does not exist. Such a reply has no stamp, so the miss gets
  /// what this host knows: that is no younger than the reply.
  private mutating func noteAbsent(_ key: GovernedKey, generation: String?) {
    let state = follower.state
    let isOurs = state != nil && state?.generation == generation.flatMap { Generation(hex: $0) }
    noteMiss(key, lease: isOurs ? state?.lease : nil)
  }

  /// The script itself did not run: Redis is full, busy loading, or forgot the script.
  mutating func finishFailed(_ fill: GovernedFill, _ reply: UnsafeRawBufferPointer, _ slot: Int?) {
    dropNear(fill.key)
    guard isForgottenScript(reply) else { return settle(slot) { output, _ in output.append(reply) } }
    // A fill may always be refused; the scripts are loaded again for the next one.
    noteRefused(fill.key, by: fill.command, .reloading, under: fill.lease)
    settle(slot) { output, resp3 in
      switch fill.answer {
      case .command(let refused): output.refused(refused, resp3: resp3)
      case .stored: output.integer(0)
      }
    }
  }

  /// Whether g, h and jl of a fill's reply are not behind what this host follows.
  func acceptsFill(_ cursor: inout ReplyCursor) -> Bool {
    guard let g = cursor.string().flatMap({ Generation(hex: $0) }),
      let h = cursor.text().flatMap({ UInt64($0) }), cursor.string() != nil,
      let jl = cursor.string().flatMap({ JournalID($0) })
    else { return false }
    return follower.accepts(generation: g, beats: h, journal: jl)
  }

  /// `fills`: those that were sent, nil for a key that is not governed.
  mutating func finishMany(
    _ fills: [(key: GovernedKey, lease: Lease)?], _ replies: UnsafeRawBufferPointer, client slot: Int?
  ) {
    for case let fill? in fills { dropNear(fill.key) }
    var cursor = ReplyCursor(replies)
    if cursor.isError {
      guard isForgottenScript(replies) else {
        return settle(slot) { output, _ in output.append(replies) }
      }
      reloadScripts()
      return settle(slot) { output, _ in output.error(Self.forgotten) }
    }
    if let count = cursor.enter(), count == 6 + fills.count {
      for _ in 0..<6 { _ = cursor.raw() }
      for fill in fills {
        // 1 if it was stored, otherwise why not.
        let refusal = cursor.text()
        guard let (key, lease) = fill else { continue }
        if let refusal {
          noteRefused(key, by: "mset", FillRefusal(script: refusal), under: lease)
        } else {
          noteStored(key, by: "mset", under: lease)
        }
      }
    }
    settle(slot) { output, _ in output.status("OK") }
  }

  mutating func finish(
    _ removal: GovernedRemoval, absent: AbsentReply?, _ replies: UnsafeRawBufferPointer, client slot: Int?
  ) {
    for key in removal.keys { dropNear(key) }
    var cursor = ReplyCursor(replies)
    if cursor.isError {
      let forgotten = isForgottenScript(replies)
      if forgotten { reloadScripts() }
      return settle(slot) { output, _ in
        if forgotten { output.error(Self.forgotten) } else { output.append(replies) }
      }
    }
    _ = cursor.enter()
    let word = cursor.text()
    let reply = cursor.peek
    // GETDEL and GETEX of nothing, EXPIRE of nothing; DEL says nothing of what was there before it that a
    // reader could fill.
    let isAbsent = word == "UNTRUSTED" || cursor.isNull || absent != nil && cursor.saysAbsent(.zero)
    _ = cursor.raw()
    if isAbsent { for key in removal.keys { noteAbsent(key, generation: cursor.peekText) } }
    settle(slot) { output, resp3 in
      if let count = removal.answerCount {
        output.integer(count)
      } else if word == "UNTRUSTED" {
        if absent == .null { output.null(resp3: resp3) } else { output.integer(0) }
      } else {
        output.append(reply)
      }
    }
  }

  /// No reply will come: Redis may have carried the write out.
  mutating func abandon(_ work: UpstreamTask.Work) {
    switch work {
    case .fill(let fill): dropNear(fill.key)
    case .fills(let entries): for entry in entries { dropNear(entry.fill.key) }
    case .fillMany(let fills): for case let fill? in fills { dropNear(fill.key) }
    case .remove(let removal), .expire(let removal, _):
      for key in removal.keys { dropNear(key) }
      if let own = removal.own { abandonOwnWrite(own) }
    case .invalidate(let group): clear(group)
    case .flush(let watch):
      _ = tracking.watchers.endFlush(watch, isDone: false)
      clearAll()
    case .guarded(let command): for use in command.keys { dropNear(use.key) }
    case .loadedFill(let fill): abandon(fill)
    case .writtenRemoval(let write): abandonWritten(write)
    case .writtenFill(let fill): abandonWritten(fill.write)
    case .behind(let write): abandonBehind(write)
    case .loadLock(let load): loadHere(load)
    case .errand(let errand): abandon(errand)
    case .transaction(let sent): for case .task(let task) in sent.awaited { abandon(task.work) }
    case .ownWrite(let write): abandonOwnWrite(write)
    case .probe: holds.isProbing = false
    default: break
    }
  }

  /// A request for a new generation was answered.
  mutating func finishAsk(_ reply: UnsafeRawBufferPointer) {
    guard isForgottenScript(reply) else { return }
    reloadScripts()
    if resp2.isReady { sendAsk() }
  }

  /// The write has been carried out: whatever was read before it must not stay near.
  mutating func dropNear(_ key: GovernedKey) {
    localWrites[Int(key.hash & 4095)] &+= 1
    _ = key.bytes.withUnsafeBytes { near.remove($0, hash: key.hash) }
    endTurn(key.bytes)
    noteChange(key)
  }

  static let forgotten =
    "TRYAGAIN Nearside: Redis forgot Nearside's scripts; they are being loaded, try again"

  func isForgottenScript(_ reply: UnsafeRawBufferPointer) -> Bool {
    reply.count > 9 && "-NOSCRIPT".utf8.elementsEqual(reply.prefix(9))
  }

  /// SCRIPT FLUSH, or a failover to a server that never had them.
  mutating func reloadScripts() {
    if resp2.isReady { resp2.loadScripts() }
    if resp3.isReady { resp3.loadScripts() }
  }
}

extension ReplyCursor {
  /// The text at the cursor, which stays where it is.
  fileprivate var peekText: String? {
    var copy = self
    return copy.text()
  }

  /// Whether a command that takes something out found nothing: LPOP, SPOP, ZPOPMIN.
  fileprivate var saysNothingLeft: Bool { isNull || head?.kind == .aggregate && head?.count == 0 }
}

/// What becomes of a script's reply. Scripts answer in RESP2's types, and know one null.
/// Source: Redis documentation, "Redis Lua API reference", RESP2 to Lua type conversion.
enum ReplyShape {
  case same
  /// LPOP and RPOP with a count: RESP2's null is an array's.
  case nullArray
  /// The others are for RESP3. A bulk string that is a number: ZINCRBY, ZADD INCR.
  case double
  /// SPOP with a count.
  case set
  /// A member and its score: ZPOPMIN.
  case scored
  /// Members with their scores, in pairs: ZPOPMIN with a count.
  case scoredPairs

  init(_ request: Request, _ name: String) {
    switch name {
    case "lpop", "rpop": self = request.count == 3 ? .nullArray : .same
    case "zincrby": self = .double
    case "zadd" where (2..<min(request.count, 8)).contains { request.isWord($0, "incr") }: self = .double
    case "spop" where request.count == 3: self = .set
    case "zpopmin", "zpopmax": self = request.count == 2 ? .scored : .scoredPairs
    default: self = .same
    }
  }
}

extension IOBuffer {
  fileprivate mutating func append(_ reply: UnsafeRawBufferPointer, shape: ReplyShape, resp3: Bool) {
    var cursor = ReplyCursor(reply)
    guard resp3 else {
      return shape == .nullArray && cursor.isNull ? append("*-1\r\n") : append(reply)
    }
    switch shape {
    case .double where !cursor.isError && !cursor.isNull: double(&cursor)
    case .set where reply.first == UInt8(ascii: "*"):
      append(byte: UInt8(ascii: "~"))
      append(UnsafeRawBufferPointer(rebasing: reply.dropFirst()))
    case .scored, .scoredPairs:
      guard let count = cursor.enter() else { return append(reply) }
      array(shape == .scored ? count : count / 2)
      for _ in 0..<count / 2 {
        if shape == .scoredPairs { array(2) }
        append(cursor.raw())
        double(&cursor)
      }
    default: append(reply)
    }
  }

  private mutating func double(_ cursor: inout ReplyCursor) {
    guard let digits = cursor.string() else { return }
    append(byte: UInt8(ascii: ","))
    append(digits)
    append("\r\n")
  }
}
