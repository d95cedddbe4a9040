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
    default: return false
    }
    return true
  }

  // MARK: Commands that block

  private mutating func executeBlocking(_ request: Request, _ name: String, _ slot: Int) {
    if refusesGoverned(request, name, slot) { return }
    let isReading = name == "xread" || name == "xreadgroup"
    if isReading, !(1..<request.count).contains(where: { request.isWord($0, "block") }) {
      return relay(request, slot)
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
    if clients[slot].session.isWatching {
      return reply(slot) {
        $0.error("ERR Nearside: SELECT of another database is not possible while keys are watched")
      }
    }
    guard let upstream = pinned(slot) else { return }
    clients[slot].session.database = database
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
      pins[upstream.token]?.database = database
    }
    settle(slot) { output, _ in output.append(cursor.raw()) }
  }

  /// Back to the configured database. Whether its replies are awaited has been seen to.
  mutating func leaveElsewhere(_ slot: Int) {
    if let token = clients[slot].session.pinned { closePin(token) }
    clients[slot].session.pinned = nil
    clients[slot].session.database = nil
    clients[slot].session.isQueueingElsewhere = false
  }

  /// Everything that goes to Redis goes as it comes: no key of another database is governed. Whether it went.
  private mutating func executeElsewhere(_ request: Request, _ spec: CommandSpec?, _ slot: Int) -> Bool {
    switch spec?.kind {
    case .local where !clients[slot].session.isQueueingElsewhere, .refuse, .subscription: return false
    default: break
    }
    if writesState(request, spec) {
      reply(slot) { $0.error(Self.stateIsOurs) }
      return true
    }
    if let token = clients[slot].session.pinned, let upstream = pins.connection(token), upstream.isReady {
      // In its own order, so nothing has to be waited for.
      sendElsewhere(request, spec, upstream, slot)
    } else if let upstream = pinned(slot) {
      sendElsewhere(request, spec, upstream, slot)
    }
    return true
  }

  private mutating func sendElsewhere(
    _ request: Request, _ spec: CommandSpec?, _ upstream: Upstream, _ slot: Int
  ) {
    switch spec?.name {
    case "multi": clients[slot].session.isQueueingElsewhere = true
    case "exec", "discard": clients[slot].session.isQueueingElsewhere = false
    default: break
    }
    if spec?.kind == .blocking || request.isNamed("waitaof") { return block(request, upstream, slot) }
    clients[slot].owed.append(.awaited)
    let before = upstream.output.count
    request.append(to: &upstream.output)
    clients[slot].owedBytes += upstream.output.count - before
    upstream.await(.relay(clients[slot].token))
  }
}
