import Configuration
import Invalidation
import Logging
import NearCache

/// Redis has answered a governed write.
extension EventLoop {
  mutating func finish(_ fill: GovernedFill, _ replies: UnsafeRawBufferPointer, client slot: Int?) {
    var cursor = ReplyCursor(replies)
    guard !cursor.isError, cursor.enter() == 6, let word = cursor.text() else {
      return finishFailed(fill, replies, slot)
    }
    let reply = cursor.peek
    let failed = cursor.isError
    _ = cursor.raw()
    guard word == "OK" else {
      noteRefused(fill.key)
      dropNear(fill.key)
      return settle(slot) { output, resp3 in
        switch fill.answer {
        case .command(let refused): output.refused(refused, resp3: resp3)
        case .stored: output.integer(0)
        }
      }
    }
    settle(slot) { output, _ in
      if case .stored = fill.answer, !failed { output.integer(1) } else { output.append(reply) }
    }
    guard !failed else { return dropNear(fill.key) }
    counters.fillsStored += 1
    // Kept near under the state that the script found: nothing may have moved since, here or there.
    if let near = fill.near, acceptsFill(&cursor), fill.key.version == writeVersion(fill.key.hash) {
      near.value.withUnsafeBytes { keepNear(fill.key, $0, expires: near.expires) }
    } else {
      dropNear(fill.key)
    }
  }

  /// The script itself did not run: Redis is full, busy loading, or forgot the script.
  private mutating func finishFailed(_ fill: GovernedFill, _ reply: UnsafeRawBufferPointer, _ slot: Int?) {
    dropNear(fill.key)
    guard isForgottenScript(reply) else { return settle(slot) { output, _ in output.append(reply) } }
    // A fill may always be refused; the scripts are loaded again for the next one.
    reloadScripts()
    noteRefused(fill.key)
    settle(slot) { output, resp3 in
      switch fill.answer {
      case .command(let refused): output.refused(refused, resp3: resp3)
      case .stored: output.integer(0)
      }
    }
  }

  /// Whether g, h and jl of a fill's reply are not behind what this host follows.
  private func acceptsFill(_ cursor: inout ReplyCursor) -> Bool {
    guard let g = cursor.text().flatMap({ Generation(hex: $0) }),
      let h = cursor.text().flatMap({ UInt64($0) }), cursor.text() != nil,
      let jl = cursor.text().flatMap({ JournalID($0) })
    else { return false }
    return follower.accepts(generation: g, beats: h, journal: jl)
  }

  mutating func finishMany(_ keys: [GovernedKey], _ replies: UnsafeRawBufferPointer, client slot: Int?) {
    for key in keys { dropNear(key) }
    var cursor = ReplyCursor(replies)
    if cursor.isError {
      guard isForgottenScript(replies) else {
        return settle(slot) { output, _ in output.append(replies) }
      }
      reloadScripts()
      return settle(slot) { output, _ in output.error(Self.forgotten) }
    }
    if cursor.enter() != nil {
      _ = cursor.raw()
      let refused = cursor.integer() ?? 0
      counters.fillsRefused += refused
      counters.fillsStored += keys.count - refused
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

  /// The write has been carried out: whatever was read before it must not stay near.
  private mutating func dropNear(_ key: GovernedKey) {
    localWrites[Int(key.hash & 4095)] &+= 1
    _ = key.bytes.withUnsafeBytes { near.remove($0, hash: key.hash) }
  }

  private static let forgotten =
    "TRYAGAIN Nearside: Redis forgot Nearside's scripts; they are being loaded, try again"

  private func isForgottenScript(_ reply: UnsafeRawBufferPointer) -> Bool {
    reply.count > 9 && "-NOSCRIPT".utf8.elementsEqual(reply.prefix(9))
  }

  /// SCRIPT FLUSH, or a failover to a server that never had them.
  private mutating func reloadScripts() {
    if resp2.isReady { resp2.loadScripts() }
    if resp3.isReady { resp3.loadScripts() }
  }
}
