import Configuration
import Invalidation

/// Commands that open, use or end what a session carries.
extension EventLoop {
  /// Whether the command was dealt with here. Not with it are those of a client that watches keys, for example: they
  /// are executed as ever, only that nothing is answered from the near cache.
  mutating func executeInSession(_ request: Request, _ spec: CommandSpec?, _ slot: Int) -> Bool {
    let name = spec?.name ?? ""
    if clients[slot].session.transaction != nil { return queue(request, spec, slot) }
    if refusesWhileSubscribed(request, name, slot) { return true }
    if clients[slot].session.database != nil, executeElsewhere(request, spec, slot) { return true }
    switch spec?.kind {
    case .transaction: executeTransaction(request, name, slot)
    case .subscription: executeSubscription(request, name, slot)
    case .blocking: executeBlocking(request, name, slot)
    case nil where request.isNamed("waitaof"): executeBlocking(request, "waitaof", slot)
    case .pass where endsScript(request):
      // On the connections that are shared it would wait for the very script that it is to end.
      guard let upstream = pinned(slot) else { return true }
      block(request, upstream, slot)
    default: return false
    }
    return true
  }

  /// SCRIPT KILL, FUNCTION KILL.
  private func endsScript(_ request: Request) -> Bool {
    request.count == 2 && request.isWord(1, "kill")
      && (request.isNamed("script") || request.isNamed("function"))
  }

  // MARK: Commands that block

  private mutating func executeBlocking(_ request: Request, _ name: String, _ slot: Int) {
    let isReading = name == "xread" || name == "xreadgroup"
    if isReading, !(1..<request.count).contains(where: { request.isWord($0, "block") }) {
      guard let uses = keyUses(request, name) else { return relay(request, slot) }
      return executeOnKeys(request, name, uses, slot)
    }
    for index in 1..<request.count where governance.governs(request[index]) {
      return reply(slot) {
        $0.error(
          "ERR Nearside: '\(name)' cannot wait on a key that a mapping covers: what lies there may go at any time, so it "
            + "is no queue; give the queue a key of its own")
      }
    }
    guard let upstream = pinned(slot) else { return }
    if name == "wait" || name == "waitaof" {
      // Redis counts replicas that have what *this connection* wrote last, and this client's writes went over
      // another one. A write behind them makes it the last. Source: Redis documentation, WAIT.
      upstream.output.array(5)
      upstream.output.argument("SET")
      upstream.output.bulk(keys.wait)
      upstream.output.argument("1")
      upstream.output.argument("PX")
      upstream.output.argument("1000")
      upstream.await(.task(UpstreamTask(client: nil, work: .note)))
    }
    block(request, upstream, slot)
  }

  /// Sends a command that may take as long as it likes; the client's next one waits for its reply.
  mutating func block(_ request: Request, _ upstream: Upstream, _ slot: Int) {
    clients[slot].owed.append(.awaited)
    request.append(to: &upstream.output)
    upstream.await(.relay(clients[slot].token))
    pins[upstream.token]?.isBlocked = true
    pause(slot, .answer)
  }

  // MARK: Another database

  /// SELECT of a database that is not the configured one.
  mutating func selectElsewhere(_ database: Int, _ request: Request, _ slot: Int) {
    guard embedded == nil else {
      return reply(slot) { $0.error("ERR DB index is out of range: without Redis there is one database, 0") }
    }
    guard let upstream = pinned(slot) else { return }
    clients[slot].session.database = database
    // What is watched stays so: the connection is the same.
    if clients[slot].session.isWatching {
      clients[slot].session.isWatching = false
      clients[slot].session.isWatchingElsewhere = true
      if clients[slot].session.hasLostWatch { clients[slot].session.isBrokenElsewhere = true }
      clients[slot].session.hasLostWatch = false
    }
    clients[slot].owed.append(.awaited)
    request.append(to: &upstream.output)
    upstream.await(.task(UpstreamTask(client: clients[slot].token, work: .select(database))))
    pause(slot, .answer)
  }

  /// SELECT of the configured database from another one. Whoever watches keys goes on with its connection.
  mutating func selectHome(_ database: Int, _ request: Request, _ slot: Int) {
    if !clients[slot].owed.isEmpty { return pause(slot, .drain) }
    let session = clients[slot].session
    guard session.isWatchingElsewhere else {
      leaveElsewhere(slot)
      return reply(slot) { $0.status("OK") }
    }
    guard !session.isBrokenElsewhere, let upstream = pinned(slot) else {
      if clients[slot].pause != .none { return }
      leaveElsewhere(slot)
      clients[slot].session.isWatching = true
      clients[slot].session.hasLostWatch = true
      return reply(slot) { $0.status("OK") }
    }
    clients[slot].owed.append(.awaited)
    request.append(to: &upstream.output)
    upstream.await(.task(UpstreamTask(client: clients[slot].token, work: .select(database))))
    pause(slot, .answer)
  }

  mutating func finishSelect(
    _ database: Int, _ replies: UnsafeRawBufferPointer, _ slot: Int?, _ upstream: Upstream
  ) {
    guard let slot else { return }
    var cursor = ReplyCursor(replies)
    if cursor.isError {
      // It stays where it was, which is another database if this was not the first SELECT.
      clients[slot].session.database = pins.database(of: upstream.token)
    } else {
      let isHome = database == settings.redis?.database ?? 0
      clients[slot].session.database = isHome ? nil : database
      pins[upstream.token]?.database = isHome ? nil : database
    }
    if clients[slot].session.database == nil {
      let session = clients[slot].session
      clients[slot].session.isWatching = session.isWatchingElsewhere
      if session.isWatchingElsewhere, session.isBrokenElsewhere { clients[slot].session.hasLostWatch = true }
      endElsewhere(slot)
    }
    settle(slot) { output, _ in output.append(cursor.raw()) }
  }

  /// Back to the configured database. Whether its replies are awaited has been seen to.
  mutating func leaveElsewhere(_ slot: Int) {
    if let token = clients[slot].session.pinned { closePin(token) }
    clients[slot].session.pinned = nil
    clients[slot].session.database = nil
    endElsewhere(slot)
  }

  /// Everything that goes to Redis goes as it comes: no key of another database is governed. Whether it went.
  private mutating func executeElsewhere(_ request: Request, _ spec: CommandSpec?, _ slot: Int) -> Bool {
    let isQueueing = clients[slot].session.isQueueingElsewhere
    switch spec?.kind {
    case .local:
      guard isQueueing, spec?.name != "quit", spec?.name != "reset" else { return false }
      // CONFIG SET and kin are Redis's own, if they are allowed.
      if spec?.name == "config", !request.isWord(1, "get"), refusal(request, "config") == nil { break }
      if spec?.name != "ping", spec?.name != "echo" {
        breakElsewhere(slot)
        reply(slot) { $0.error(Self.notInTransaction(spec?.name ?? "")) }
        return true
      }
    case .refuse:
      let name = spec?.name ?? ""
      // What these do in the configured database is seen to on its own connection.
      let isOurs = name == "flushall" || name == "monitor" || name == "swapdb" && namesOwnDatabase(request)
      if refusal(request, name) != nil || isOurs {
        if isQueueing { breakElsewhere(slot) }
        if isQueueing, isOurs, refusal(request, name) == nil {
          reply(slot) { $0.error(Self.notInTransaction(name)) }
          return true
        }
        return false
      }
    case .subscription:
      guard isQueueing else { return false }
      breakElsewhere(slot)
      reply(slot) { $0.error(Self.notInTransaction(spec?.name ?? "")) }
      return true
    default: break
    }
    if answersBroken(spec?.name, slot) { return true }
    // These reach into the configured database.
    if spec?.name == "move" || spec?.name == "copy", refusesGoverned(request, spec?.name ?? "", slot) {
      return true
    }
    if writesState(request, spec) {
      reply(slot) { $0.error(Self.stateIsOurs) }
      return true
    }
    if let token = clients[slot].session.pinned, let upstream = pins.connection(token), upstream.isReady {
      // In its own order, so nothing has to be waited for.
      pins.touched.append(token)
      sendElsewhere(request, spec, upstream, slot)
    } else if let upstream = pinned(slot) {
      sendElsewhere(request, spec, upstream, slot)
    }
    return true
  }

  mutating func endElsewhere(_ slot: Int) {
    clients[slot].session.isQueueingElsewhere = false
    clients[slot].session.isWatchingElsewhere = false
    clients[slot].session.isBrokenElsewhere = false
  }

  /// Nothing of the open transaction will be carried out.
  private mutating func breakElsewhere(_ slot: Int) {
    guard !clients[slot].session.isBrokenElsewhere else { return }
    clients[slot].session.isBrokenElsewhere = true
    guard let token = clients[slot].session.pinned, let upstream = pins.connection(token), upstream.isReady
    else { return }
    pins.touched.append(token)
    upstream.output.array(1)
    upstream.output.argument("DISCARD")
    upstream.await(.task(UpstreamTask(client: nil, work: .note)))
  }

  /// What a transaction is told, or whoever would begin one, of which nothing may be carried out.
  private mutating func answersBroken(_ name: String?, _ slot: Int) -> Bool {
    guard clients[slot].session.isBrokenElsewhere else { return false }
    switch name {
    case "multi" where !clients[slot].session.isQueueingElsewhere:
      clients[slot].session.isQueueingElsewhere = true
      reply(slot) { $0.status("OK") }
    case "exec" where clients[slot].session.isQueueingElsewhere:
      endElsewhere(slot)
      reply(slot) { $0.error(Self.aborted) }
    case "discard" where clients[slot].session.isQueueingElsewhere, "unwatch":
      endElsewhere(slot)
      reply(slot) { $0.status("OK") }
    default:
      guard clients[slot].session.isQueueingElsewhere else { return false }
      reply(slot) {
        $0.error("ERR Nearside: this transaction was given up, so nothing of it is carried out; use DISCARD")
      }
    }
    return true
  }

  private mutating func sendElsewhere(
    _ request: Request, _ spec: CommandSpec?, _ upstream: Upstream, _ slot: Int
  ) {
    switch spec?.name {
    case "multi": clients[slot].session.isQueueingElsewhere = true
    case "watch": clients[slot].session.isWatchingElsewhere = true
    case "unwatch": clients[slot].session.isWatchingElsewhere = false
    case "exec", "discard": endElsewhere(slot)
    default: break
    }
    if spec?.kind == .blocking || request.isNamed("waitaof") { return block(request, upstream, slot) }
    clients[slot].owed.append(.awaited)
    let before = upstream.output.count
    request.append(to: &upstream.output)
    clients[slot].owedBytes += upstream.output.count - before
    upstream.await(.relay(clients[slot].token))
    if flushesScripts(request) { upstream.loadScripts() }
  }
}
