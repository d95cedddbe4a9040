import Configuration
import Invalidation
import Logging
import NearCache

/// What happens to a command that is no plain near hit.
extension EventLoop {
  mutating func execute(_ request: Request, _ slot: Int) {
    let spec = commands.spec(request[0])
    tally.current = spec?.number ?? commands.names.count
    tally.kind = spec?.kind
    tally.wentUpstream = false
    if let spec, !spec.accepts(count: request.count) {
      if transacting == nil { clients[slot].session.transaction?.isFailed = true }
      return reply(slot) { $0.error("ERR wrong number of arguments for '\(spec.name)' command") }
    }
    clients[slot].lastCommand = spec?.name ?? ""
    if request.count > 1, request.isNamed("client") || request.isNamed("config") {
      clients[slot].lastCommand += "|" + Self.shown(request[1], 32).lowercased()
    }
    if clients[slot].session.isLocked, refusesLocked(request, spec, slot) { return }
    if clientPause.isOn, waitsForUnpause(request, spec, slot) { return }
    if waitsForWrites(request, spec, slot) { return }
    if clients[slot].isTracking, waitsForWatcher(request, spec, slot) { return }
    defer { if clients[slot].isTracking { noteRead(request, spec, slot) } }
    if embedded == nil, transacting == nil, loading.resumed == nil, executeInSession(request, spec, slot) {
      return
    }
    switch spec?.kind {
    case .local: return executeLocal(request, spec?.name ?? "", slot)
    case .refuse:
      if let refusal = refusal(request, spec?.name ?? "") { return reply(slot) { $0.error(refusal) } }
      if executeAllowed(request, spec?.name ?? "", slot) { return }
    default: break
    }
    if embedded != nil { return executeEmbedded(request, spec, slot) }
    if writesState(request, spec) { return reply(slot) { $0.error(Self.stateIsOurs) } }
    bypassesNear = transacting != nil || clients[slot].session.isWatching
    defer { bypassesNear = false }
    switch spec?.kind {
    case .near: executeNear(request, spec?.name ?? "", slot)
    case .read(let absent): executeRead(request, spec?.name ?? "", absent, slot)
    case .replace: executeReplace(request, spec?.name ?? "", slot)
    case .replaceMany: executeReplaceMany(request, slot)
    case .merge: executeMerge(request, spec?.name ?? "", slot)
    case .remove: executeRemove(request, spec?.name ?? "", slot)
    case .expiry: executeExpiry(request, spec?.name ?? "", slot)
    default: executePass(request, spec?.name ?? "", slot)
    }
  }

  /// Whether a command that may write names a key of some fleet's state. The values there decide what every
  /// sidecar trusts; only sidecars write them.
  func writesState(_ request: Request, _ spec: CommandSpec?) -> Bool {
    switch spec?.kind {
    case .near, .read: return false
    default: break
    }
    for index in 1..<max(1, request.count) {
      if StateKeys.isState(request[index]) { return true }
    }
    return false
  }

  @inline(__always)
  mutating func reply(_ slot: Int, _ write: (inout IOBuffer) -> Void) {
    guard let resumed = loading.resumed else { return clients[slot].reply(write) }
    clients[slot].settle(held: resumed.number, write)
    markDirty(slot)
  }

  /// The same for a reply made of near values, whose evidence is too old from `until` on.
  mutating func replyNear(_ slot: Int, until: Instant, _ write: (inout IOBuffer) -> Void) {
    guard let resumed = loading.resumed else { return clients[slot].replyNear(until: until, write) }
    clients[slot].settle(held: resumed.number, until: until, write)
    markDirty(slot)
  }

  static let stateIsOurs =
    "NOPERM keys that begin with 'nearside:{' hold Nearside's own state and are not written here"

  /// Any other command.
  private mutating func executePass(_ request: Request, _ name: String, _ slot: Int) {
    if showsNames(request, name, slot) { return }
    if name == "sort" || name == "sort_ro", readsOthers(request) {
      return reply(slot) { $0.error(Self.looksUpOthers) }
    }
    guard let uses = keyUses(request, name) else {
      if refusesGoverned(request, name, slot) { return }
      return relay(request, slot)
    }
    executeOnKeys(request, name, uses, slot)
  }

  private static let looksUpOthers =
    "ERR Nearside: SORT cannot look up, with BY or GET, keys that a mapping covers, since whether their values count "
    + "could not be told"

  /// For a command of which it is not known what it does, a module's for example: it may only be sent if none of its
  /// arguments is a governed key.
  mutating func refusesGoverned(_ request: Request, _ name: String, _ slot: Int) -> Bool {
    for index in 1..<max(1, request.count) where governance.governs(request[index]) {
      let shown = name.isEmpty ? "this command" : "'\(name)'"
      reply(slot) {
        $0.error(
          "ERR Nearside: \(shown) cannot be used on a key that a mapping covers, since its effect on cached values "
            + "could not be followed")
      }
      return true
    }
    return false
  }

  /// Sends a command to Redis as it came, and its reply back as it comes.
  mutating func relay(_ request: Request, _ slot: Int) {
    let flushesScripts = flushesScripts(request)
    if !flushesScripts, clients[slot].session.takesLongReplies, relayApart(request, slot) { return }
    let awaited = awaited(request, slot)
    withUpstream(slot) { upstream in
      request.append(to: &upstream.output)
      upstream.await(awaited)
      if flushesScripts { upstream.loadScripts() }
    }
    if flushesScripts { reloadScripts() }
  }

  /// Relays a GET of a key that no mapping covers, of a client that carries nothing from one command to the next:
  /// most of what is only passed on, and for that `execute` asks a lot. Whether it was relayed.
  @inline(__always)
  mutating func relayPlainRead(_ request: Request, _ slot: Int) -> Bool {
    let client = clients + slot
    let upstream = client.pointee.resp3 ? resp3 : resp2
    guard request[0].count == 3, !governance.governs(request[1]), embedded == nil, upstream.isReady,
      !slow.isOn,
      !client.pointee.session.takesLongReplies, client.pointee.session.subscriptions.isWithoutNames
    else { return false }
    client.pointee.lastCommand = "get"
    client.pointee.owed.append(.awaited)
    client.pointee.relayed += 1
    client.pointee.owedBytes += request.length
    upstream.sendFills()
    request.append(to: &upstream.output)
    upstream.await(.relay(client.pointee.token))
    upstream.time(tally.get, at: now)
    tally.relayedGets &+= 1
    return true
  }

  /// SCRIPT FLUSH outside of a transaction: our own scripts go with the application's.
  func flushesScripts(_ request: Request) -> Bool {
    request.count > 1 && transacting == nil && request.isNamed("script") && request.isWord(1, "flush")
  }

  /// Hands the connection to Redis that speaks the client's protocol version to `send`, and notes that the
  /// client is owed one reply; answers an error if there is no such connection.
  mutating func withUpstream(_ slot: Int, _ send: (Upstream) -> Void) {
    let upstream = sharedUpstream(slot)
    guard upstream.isReady else {
      return reply(slot) { $0.error(Self.unreachable(upstream.trouble)) }
    }
    // A reply that is held back is owed already.
    if loading.resumed == nil { clients[slot].owed.append(.awaited) }
    if Token.isPin(upstream.token) { pins.touched.append(upstream.token) }
    clients[slot].relayed += 1
    tally.wentUpstream = true
    upstream.sendFills()
    let before = upstream.output.count
    send(upstream)
    upstream.time(tally.current, at: now)
    clients[slot].owedBytes += upstream.output.count - before
  }

  /// Where a client's commands go. It is one connection at a time, since replies are put into the order of the
  /// commands by nothing but the order in which they come.
  func sharedUpstream(_ slot: Int) -> Upstream {
    if let transacting { return transacting }
    if clients[slot].session.database != nil, let token = clients[slot].session.pinned,
      let own = pins.connection(token), own.isReady
    {
      return own
    }
    return clients[slot].resp3 ? resp3 : resp2
  }
}
