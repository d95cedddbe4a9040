import Configuration
import Invalidation
import Logging

/// What becomes of clients that say nothing, or too much, or do not take their answers.
/// Source: Redis's redis.conf and networking.c, whose limits these are.
extension EventLoop {
  static func outputConcern(_ settings: ClientSettings) -> Int {
    [settings.output, settings.messageOutput].map { min($0.hard, $0.soft ?? .max) }.min() ?? 0
  }

  /// Whether the client is to be disconnected for what it leaves unread.
  mutating func isOverOutputLimit(_ slot: Int) -> Bool {
    let takesMessages = clients[slot].session.subscriber != nil
    let limit = takesMessages ? settings.clients.messageOutput : settings.clients.output
    // Messages wait behind what is owed, a command that blocks for example.
    let count = clients[slot].output.count + (takesMessages ? clients[slot].owedBytes : 0)
    if count > limit.hard { return noteDropped(slot, "leaves \(count) bytes of its answers unread") }
    guard let soft = limit.soft, count > soft else {
      clients[slot].overSoftSince = nil
      return false
    }
    guard let since = clients[slot].overSoftSince else {
      clients[slot].overSoftSince = now
      overSoftLimit.append(clients[slot].token)
      return false
    }
    guard now.since(since) > limit.softTime else { return false }
    return noteDropped(slot, "has left more than \(soft) bytes of its answers unread for too long")
  }

  mutating func dropForQueryBuffer(_ slot: Int) {
    _ = noteDropped(slot, "sent a command of more than \(settings.clients.queryBuffer) bytes")
    drop(slot)
  }

  private mutating func noteDropped(_ slot: Int, _ why: String) -> Bool {
    counters.clientsDropped += 1
    log.warning("client \(clients[slot].id) \(clients[slot].name) is disconnected: it \(why)")
    return true
  }

  /// Once a second.
  mutating func tickLimits() {
    if slow.isOn { tellHeldBack() }
    if !overSoftLimit.isEmpty {
      let tokens = overSoftLimit
      overSoftLimit = []
      for token in tokens where isAlive(token) && clients[Int(token.slot)].overSoftSince != nil {
        if isOverOutputLimit(Int(token.slot)) {
          drop(Int(token.slot))
        } else if clients[Int(token.slot)].overSoftSince != nil {
          overSoftLimit.append(token)
        }
      }
    }
    guard let idle = settings.clients.idle else { return }
    for slot in inUse.indices where inUse[slot] && now.since(heardAt(slot)) > idle {
      guard !waitsForOthers(slot), clients[slot].owed.isEmpty else { continue }
      drop(slot)
    }
  }
}
