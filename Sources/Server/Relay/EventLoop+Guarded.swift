import Configuration
import Invalidation
import NearCache

/// A command that goes between two scripts, in one MULTI with them: a script of the application's, RENAME, and others
/// that read and write several keys.
struct GuardedCommand {
  struct Use {
    var key: GovernedKey
    /// Under which what the command leaves may stay; nil: it may not, or the key is only read.
    var lease: Lease?
    var kind: KeyUse.Kind
  }

  var name: String
  var keys: [Use]
  /// Whether it is part of the client's own MULTI, and so has none of its own.
  var isNested: Bool
}

extension EventLoop {
  /// A command of which it is known what it does with its keys.
  mutating func executeOnKeys(_ request: Request, _ name: String, _ uses: [KeyUse], _ slot: Int) {
    var keys: [GuardedCommand.Use] = []
    var places: [[UInt8]: Int] = [:]
    for use in uses {
      guard let key = governedKey(request[use.index]) else { continue }
      if let same = places[key.bytes] {
        if use.kind.rawValue > keys[same].kind.rawValue { keys[same].kind = use.kind }
      } else {
        places[key.bytes] = keys.count
        keys.append(GuardedCommand.Use(key: key, lease: nil, kind: use.kind))
      }
    }
    guard !keys.isEmpty else { return relay(request, slot) }
    if uses.allSatisfy({ $0.kind == .read }) {
      for use in keys where refusesBehind(use.key, slot) { return }
      return executeRead(request, name, Self.absentReply(name), places: uses.map(\.index), slot)
    }
    for use in keys {
      if use.kind == .read ? refusesBehind(use.key, slot) : refusesUnlessSet(use.key, slot) { return }
    }
    executeGuarded(request, name, keys, slot)
  }

  /// The command is carried out whatever the leases say, since nothing in a MULTI can keep it from that; what it may
  /// not leave is removed in the same step.
  private mutating func executeGuarded(
    _ request: Request, _ name: String, _ given: [GuardedCommand.Use], _ slot: Int
  ) {
    var keys = given
    for index in keys.indices where keys[index].kind != .read {
      noteWrite(keys[index].key)
      keys[index].key.version = writeVersion(keys[index].key.hash)
      // What comes from another governed key is kept current for that one's rows only.
      if keys[index].kind == .made, keys.count > 1 { continue }
      if case .fill(let lease) = plainLease(keys[index].key, slot, merges: true) { keys[index].lease = lease }
    }
    let work = GuardedCommand(name: name, keys: keys, isNested: transacting != nil)
    let token = clients[slot].token
    let (state, journal) = (self.keys, settings.journal)
    withUpstream(slot) { upstream in
      if !work.isNested {
        upstream.output.array(1)
        upstream.output.argument("MULTI")
      }
      // By their texts, so that they are carried out even if Redis has just forgotten its scripts.
      upstream.output.array(5 + 2 * keys.count)
      upstream.output.argument("EVAL")
      upstream.output.bulk(StateScripts.before)
      upstream.output.bulk(String(keys.count + 1))
      upstream.output.bulk(state.meta)
      for use in keys { use.key.bytes.withUnsafeBytes { upstream.output.bulk($0) } }
      for use in keys { use.key.tags.withUnsafeBytes { upstream.output.bulk($0) } }
      upstream.output.bulk(String(keys.map { $0.kind == .read ? "0" : "1" } as [Character]))
      request.append(to: &upstream.output)
      upstream.output.array(7 + 7 * keys.count)
      upstream.output.argument("EVAL")
      upstream.output.bulk(StateScripts.after)
      upstream.output.bulk(String(keys.count + 1))
      upstream.output.bulk(state.meta)
      for use in keys { use.key.bytes.withUnsafeBytes { upstream.output.bulk($0) } }
      upstream.appendJournal(state, journal)
      for use in keys {
        upstream.output.bulk(use.kind == .read ? "read" : use.lease == nil ? "drop" : "keep")
        upstream.output.bulk(use.lease?.generation.hex ?? "")
        upstream.output.bulk(use.key.buckets)
        upstream.output.bulk(use.lease?.stamp.hex ?? "")
        upstream.appendLimit(use.key.rule.lifetime())
        use.key.tags.withUnsafeBytes { upstream.output.bulk($0) }
      }
      if !work.isNested {
        upstream.output.array(1)
        upstream.output.argument("EXEC")
      }
      // OK, three times QUEUED, and what EXEC says; within the client's transaction the three replies themselves.
      upstream.await(
        .task(UpstreamTask(client: token, replies: work.isNested ? 3 : 5, work: .guarded(work))))
    }
  }

  mutating func finish(_ command: GuardedCommand, _ replies: UnsafeRawBufferPointer, _ slot: Int?) {
    for use in command.keys where use.kind != .read { dropNear(use.key) }
    var cursor = ReplyCursor(replies)
    if !command.isNested {
      var refusal: UnsafeRawBufferPointer?
      for _ in 0..<4 {
        if cursor.isError, refusal == nil { refusal = cursor.peek }
        _ = cursor.raw()
      }
      guard !cursor.isError, cursor.enter() == 3 else {
        // Redis has not taken the command, and nothing was carried out.
        let answer = refusal ?? cursor.peek
        return settle(slot) { output, _ in output.append(answer) }
      }
    }
    let there = [UInt8](cursor.string() ?? UnsafeRawBufferPointer(start: nil, count: 0))
    let answer = cursor.raw()
    settle(slot) { output, _ in output.append(answer) }
    var words: [UInt8] = []
    var lease: Lease?
    if cursor.enter() == 4 {
      words = [UInt8](cursor.string() ?? UnsafeRawBufferPointer(start: nil, count: 0))
      if let generation = cursor.text().flatMap({ Generation(hex: $0) }),
        let stamp = Stamp(hex: (cursor.text() ?? "") + (cursor.text() ?? ""))
      {
        lease = Lease(generation: generation, stamp: stamp)
      }
    }
    for (index, use) in command.keys.enumerated() {
      let word = index < words.count ? words[index] : UInt8(ascii: "r")
      if word == UInt8(ascii: "r") { noteRefused(use.key, by: command.name, .outdated, under: use.lease) }
      if word == UInt8(ascii: "k"), use.kind != .read, let lease = use.lease {
        noteStored(use.key, by: command.name, under: lease)
      }
      // The reply may tell that the key does not exist, before or after.
      let isThere = word == UInt8(ascii: "k") || word == UInt8(ascii: "u")
      if !isThere || index >= there.count || there[index] == UInt8(ascii: "0") {
        noteMiss(use.key, lease: lease)
      }
    }
  }
}
