import Configuration
import Invalidation
import Logging
import NearCache

/// NEARSIDE LEASE, FILL and INVALIDATE in the embedded mode.
extension EventLoop {
  mutating func leaseEmbedded(_ request: Request, _ slot: Int) {
    if loading.resumed == nil, waitsForFence(request, keys: 2..<3, slot) { return }
    if loadsEmbedded(request, "lease", keys: 2..<3, slot) { return }
    let resp3 = clients[slot].resp3
    do throws(ErrorReply) {
      let key = try heldKey(request[2])
      let entry = find(key)
      let standing = try standingNow(key)
      if let entry, standing != .hidden {
        noteHit(key, standing)
        return reply(slot) {
          $0.array(2)
          $0.append(entry.reply)
          $0.null(resp3: resp3)
        }
      }
      if standing == .fresh, waitsForTurn(request, "lease", key, slot) { return }
      let lease = noteMiss(key, standing, isHeld: entry != nil)
      reply(slot) {
        $0.array(2)
        $0.null(resp3: resp3)
        if let lease { $0.bulk(Self.token(lease)) } else { $0.null(resp3: resp3) }
      }
    } catch {
      reply(slot) { $0.error(error.text) }
    }
  }

  mutating func fillEmbedded(_ request: Request, _ slot: Int) {
    do throws(ErrorReply) {
      let fill = try FillOrder(request, now: now)
      let key = try heldKey(request[2])
      let isStored = try store(
        key, request[4], expires: fill.expires, by: Self.fillCommand, under: .fill(fill.lease))
      reply(slot) { $0.integer(isStored ? 1 : 0) }
    } catch {
      reply(slot) { $0.error(error.text) }
    }
  }

  /// NEARSIDE INVALIDATE KEY: a key that nothing is held under counts like any other, as it does with Redis.
  mutating func invalidateEmbedded(_ request: Request, _ slot: Int) {
    for index in 3..<request.count {
      if let key = governedKey(request[index]) { remove(key) }
    }
    let count = request.count - 3
    reply(slot) { $0.integer(count) }
  }

  /// NEARSIDE INVALIDATE ALL: nothing is held any more, and no lease of before counts. The tail goes on
  /// under the generation that it began.
  mutating func invalidateAllEmbedded(_ slot: Int) {
    let generation = Generation.random()
    embedded?.renew(generation)
    chronicle.began(generation, at: now)
    generationReason = (generation, "NEARSIDE INVALIDATE ALL")
    near.removeAll()
    tracking.table.flush()
    expectHerd()
    counters.drops += 1
    reply(slot) { $0.status("OK") }
  }
}
