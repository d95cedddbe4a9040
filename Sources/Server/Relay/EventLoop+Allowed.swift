import Configuration
import Invalidation

/// Commands that reach past the namespace, where the configuration allows them, and those that would show Nearside's
/// own keys.
extension EventLoop {
  /// Why a command of kind `.refuse`, or a form of CONFIG or CLIENT, is refused; nil: it is allowed.
  func refusal(_ request: Request, _ name: String) -> String? {
    let subcommand = request.count > 1 ? request.word(1) : ""
    if settings.commands.allows(name, subcommand) { return nil }
    let isHalfOurs = name == "config" || name == "client"
    let full = isHalfOurs ? name + "|" + Self.shown(request[1], 64).lowercased() : name
    let text = "NOPERM this command is not available through Nearside: '\(full)'"
    guard CommandSettings.refused.contains(name) else { return text }
    if name == "flushall" || name == "flushdb" {
      return text
        + "; NEARSIDE INVALIDATE ALL forgets what is cached, or allow it in \"commands\" of the configuration"
    }
    return embedded == nil ? text + "; the configuration may allow it in \"commands\"" : text
  }

  /// Whether an allowed command was dealt with here; all others are relayed like any command.
  mutating func executeAllowed(_ request: Request, _ name: String, _ slot: Int) -> Bool {
    if embedded != nil {
      guard name == "flushall" || name == "flushdb" else { return false }
      invalidateAllEmbedded(slot)
      return true
    }
    switch name {
    case "flushall", "flushdb": executeFlush(request, name, slot)
    case "monitor": executeMonitor(request, slot)
    case "swapdb" where namesOwnDatabase(request):
      reply(slot) {
        $0.error(
          "ERR Nearside: the configured database cannot be exchanged for another, whose values nobody has kept "
            + "current")
      }
    case "shutdown" where transacting == nil, "failover" where transacting == nil,
      "replicaof" where transacting == nil, "slaveof" where transacting == nil,
      "debug" where transacting == nil:
      guard !refusesGoverned(request, name, slot), let upstream = pinned(slot) else { return true }
      block(request, upstream, slot)
    default: return false
    }
    return true
  }

  func namesOwnDatabase(_ request: Request) -> Bool {
    let own = settings.redis?.database ?? 0
    return request.integer(1) == own || request.integer(2) == own
  }

  // MARK: FLUSHDB, FLUSHALL

  /// Empties the database, or all of them, in one step that puts Nearside's own state back and voids every lease.
  private mutating func executeFlush(_ request: Request, _ name: String, _ slot: Int) {
    guard request.count <= 2 else { return reply(slot) { $0.error("ERR syntax error") } }
    let group = [KeyGroup.prefix] + Array(settings.keyPrefix.utf8)
    var message = PublishedMessage(table: nil)
    var packed = PackedKeys()
    group.withUnsafeBytes {
      message.append(group: $0)
      packed.append($0)
    }
    counters.removals += 1
    clearAll()
    let (state, journal) = (keys, settings.journal)
    let token = clients[slot].token
    // From another database, where FLUSHALL is, the client's own connection would not have our state at hand.
    let isElsewhere = transacting == nil && clients[slot].session.database != nil
    if isElsewhere, !clients[slot].owed.isEmpty { return pause(slot, .drain) }
    let upstream = isElsewhere ? (clients[slot].resp3 ? resp3 : resp2) : sharedUpstream(slot)
    guard upstream.isReady else { return reply(slot) { $0.error(Self.unreachable(upstream.trouble)) } }
    clients[slot].owed.append(.awaited)
    upstream.begin(.flush, keys: 5, arguments: 7)
    for key in [state.meta, state.wait, state.writes, state.pendingWrites, state.deadWrites] {
      upstream.output.bulk(key)
    }
    upstream.appendJournal(state, journal)
    message.rest().withUnsafeBytes { upstream.output.bulk($0) }
    packed.bytes.withUnsafeBytes { upstream.output.bulk($0) }
    upstream.output.bulk(name)
    if request.count == 2 { upstream.output.bulk(request[1]) } else { upstream.output.argument("") }
    upstream.await(.task(UpstreamTask(client: token, work: .flush(watch: tracking.watchers.beginFlush()))))
    if isElsewhere { pause(slot, .answer) }
  }

  mutating func finishFlush(_ replies: UnsafeRawBufferPointer, _ watch: Int?, _ slot: Int?) {
    var cursor = ReplyCursor(replies)
    guard !cursor.isError else {
      _ = tracking.watchers.endFlush(watch, isDone: false)
      clearAll()
      let forgotten = isForgottenScript(replies)
      if forgotten { reloadScripts() }
      return settle(slot) { output, _ in
        if forgotten { output.error(Self.forgotten) } else { output.append(replies) }
      }
    }
    _ = cursor.enter()
    _ = cursor.text()
    // Before the reply: clients that track from then on are not told.
    let isDone = !cursor.isError
    if tracking.watchers.endFlush(watch, isDone: isDone), isDone { tracking.table.flush() }
    clearAll()
    let reply = cursor.raw()
    settle(slot) { output, _ in output.append(reply) }
  }

  /// Forgets every near copy on this host, and what is being read.
  mutating func clearAll() {
    clear([KeyGroup.prefix] + Array(settings.keyPrefix.utf8))
    for index in localWrites.indices { localWrites[index] &+= 1 }
  }

  // MARK: MONITOR

  /// On a connection of its own, whose lines are copied like messages until the client leaves or says RESET.
  private mutating func executeMonitor(_ request: Request, _ slot: Int) {
    guard let upstream = pinned(slot, forMessages: true) else { return }
    request.append(to: &upstream.output)
    clients[slot].session.subscriptions.asksMonitor = true
    clients[slot].session.subscriptions.awaited += 1
    pause(slot, .subscription)
  }

  // MARK: Names

  /// KEYS, SCAN, DBSIZE and RANDOMKEY, in which Nearside's own keys do not appear. Whether it was one of them.
  mutating func showsNames(_ request: Request, _ name: String, _ slot: Int) -> Bool {
    let token = clients[slot].token
    switch name {
    case "keys", "scan":
      withUpstream(slot) { upstream in
        request.append(to: &upstream.output)
        upstream.await(.task(UpstreamTask(client: token, work: .names)))
      }
    case "dbsize", "randomkey":
      let state = keys
      withUpstream(slot) { upstream in
        upstream.begin(.unseen, keys: 5, arguments: 2)
        for key in [state.meta, state.wait, state.writes, state.pendingWrites, state.deadWrites] {
          upstream.output.bulk(key)
        }
        upstream.output.bulk(state.journalPrefix)
        upstream.output.bulk(name)
        upstream.await(.task(UpstreamTask(client: token, work: .names)))
      }
    default: return false
    }
    return true
  }

  /// The reply without the names that begin like our own keys: an array, or SCAN's pair of a cursor and an array.
  mutating func finishNames(_ replies: UnsafeRawBufferPointer, _ slot: Int?) {
    if isForgottenScript(replies) {
      reloadScripts()
      return settle(slot) { output, _ in output.error(Self.forgotten) }
    }
    settle(slot) { output, _ in
      var cursor = ReplyCursor(replies)
      guard !cursor.isError, var count = cursor.enter() else { return output.append(replies) }
      let first = cursor.peek
      var second = cursor
      _ = second.raw()
      if count == 2, second.head?.kind == .aggregate, let inner = second.enter() {
        output.array(2)
        output.append(first)
        (cursor, count) = (second, inner)
      }
      var names: [UnsafeRawBufferPointer] = []
      for _ in 0..<count {
        var name = cursor
        let raw = cursor.raw()
        if let bytes = name.string(), StateKeys.isState(bytes) { continue }
        names.append(raw)
      }
      output.array(names.count)
      for name in names { output.append(name) }
    }
  }
}
