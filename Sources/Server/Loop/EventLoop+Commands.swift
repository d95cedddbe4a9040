import Configuration
import Invalidation
import Logging
import NearCache

/// What happens to a command that is no plain near hit.
extension EventLoop {
  mutating func execute(_ request: Request, _ slot: Int) {
    let spec = commands.spec(request[0])
    if let spec, !spec.accepts(count: request.count) {
      return reply(slot) { $0.error("ERR wrong number of arguments for '\(spec.name)' command") }
    }
    if waitsForWrites(request, spec, slot) { return }
    switch spec?.kind {
    case .local: return executeLocal(request, spec?.name ?? "", slot)
    case .refuse:
      return reply(slot) {
        $0.error("NOPERM this command is not available through Nearside: '\(spec?.name ?? "")'")
      }
    case .later where embedded == nil: return replyLater(spec?.name ?? "", slot)
    // Redis 7.2's; it would hold up everybody else on the shared connection.
    case nil where embedded == nil && request.isNamed("waitaof"): return replyLater("waitaof", slot)
    default: break
    }
    if embedded != nil { return executeEmbedded(request, spec, slot) }
    if writesState(request, spec) {
      return reply(slot) {
        $0.error(
          "NOPERM keys that begin with 'nearside:{' hold Nearside's own state and are not written here")
      }
    }
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
  private func writesState(_ request: Request, _ spec: CommandSpec?) -> Bool {
    switch spec?.kind {
    case .near, .read: return false
    default: break
    }
    for index in 1..<max(1, request.count) {
      let argument = request[index]
      if argument.count > 10, argument.prefix(10).elementsEqual("nearside:{".utf8) { return true }
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

  private mutating func replyLater(_ name: String, _ slot: Int) {
    reply(slot) {
      $0.error(
        "ERR Nearside: '\(name)' is not supported by this version; "
          + "send it to Redis on a connection of its own")
    }
  }

  /// Any other command, a module's for example: what it does to a governed key is not known, so it may only
  /// be sent if none of its arguments is one.
  private mutating func executePass(_ request: Request, _ name: String, _ slot: Int) {
    for index in 1..<max(1, request.count) where governance.governs(request[index]) {
      let shown = name.isEmpty ? "this command" : "'\(name)'"
      return reply(slot) {
        $0.error(
          "ERR Nearside: \(shown) cannot be used on a key that a mapping covers in this version; "
            + "its effect on cached values could not be followed")
      }
    }
    relay(request, slot)
  }

  /// Sends a command to Redis as it came, and its reply back as it comes.
  mutating func relay(_ request: Request, _ slot: Int) {
    let token = clients[slot].token
    withUpstream(slot) { upstream in
      request.append(to: &upstream.output)
      upstream.await(.relay(token))
    }
  }

  /// Hands the connection to Redis that speaks the client's protocol version to `send`, and notes that the
  /// client is owed one reply; answers an error if there is no such connection.
  mutating func withUpstream(_ slot: Int, _ send: (inout Upstream) -> Void) {
    let resp3 = clients[slot].resp3
    guard resp3 ? self.resp3.isReady : resp2.isReady else {
      let reason = resp3 ? self.resp3.trouble : resp2.trouble
      return reply(slot) { $0.error("ERR Nearside: upstream Redis is unreachable (\(reason))") }
    }
    // A reply that is held back is owed already.
    if loading.resumed == nil { clients[slot].owed.append(.awaited) }
    let before = resp3 ? self.resp3.output.count : resp2.output.count
    if resp3 { send(&self.resp3) } else { send(&resp2) }
    clients[slot].owedBytes += (resp3 ? self.resp3.output.count : resp2.output.count) - before
  }
}
