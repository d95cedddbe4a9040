import Configuration
import Invalidation
import NearCache
import Policies

/// `stampede.coalesce` where applications fill: the lease itself is what readers of one key share. One client is
/// told of the miss, the others wait for its value, at most `stampede.wait`.
extension EventLoop {
  /// Whether a GET, or a NEARSIDE LEASE, that has missed waits for another client's value.
  mutating func waitsForTurn(_ read: GovernedRead, _ misses: [Miss?], _ slot: Int) -> Bool {
    guard let load = read.load, let key = read.keys.first, read.keys.count == 1, misses[0]?.lease != nil,
      takesTurn(key, load, slot)
    else { return false }
    waitForTurn(load, key, number: read.hold?.number ?? clients[slot].hold(), slot)
    return true
  }

  /// The same without Redis.
  mutating func waitsForTurn(_ request: Request, _ name: String, _ key: GovernedKey, _ slot: Int) -> Bool {
    guard governance.hasTurns, key.rule.turn != nil, let read = loadedRead(request, name, [key]),
      takesTurn(key, read, slot)
    else { return false }
    waitForTurn(read, key, number: loading.resumed?.number ?? clients[slot].holdNext(), slot)
    return true
  }

  /// Whether a read has to wait; otherwise it is its client's turn, or it has waited for long enough.
  private mutating func takesTurn(_ key: GovernedKey, _ read: LoadedRead, _ slot: Int) -> Bool {
    guard let wait = key.rule.turn else { return false }
    let deadline = read.deadline ?? now.after(nanoseconds: wait)
    let answer = loading.turns.missed(
      key.bytes, by: Self.pack(clients[slot].token), waiter: loading.lastWait + 1, mayWait: now < deadline,
      wait: wait, now: now)
    guard answer == .waits else { return false }
    read.deadline = deadline
    return true
  }

  private mutating func waitForTurn(_ read: LoadedRead, _ key: GovernedKey, number: Int, _ slot: Int) {
    if !read.isCounted { tally.read(.miss, of: key.rule) }
    read.isCounted = true
    counters.turnWaits += 1
    loading.lastWait += 1
    loading.waits[loading.lastWait] = LoadWait(
      client: clients[slot].token, number: number, read: read, missing: 1,
      deadline: read.deadline ?? now, isTurn: true)
  }

  /// A key was written, removed or invalidated: whoever waits for it reads again.
  mutating func endTurn(_ key: [UInt8]) {
    guard !loading.turns.isEmpty else { return }
    goOn(loading.turns.ended(key))
  }

  /// Groups (their kinds included) were cleared: whoever waits for a key in one of them reads again.
  mutating func endTurns(in groups: Set<[UInt8]>) {
    guard !groups.isEmpty, !loading.turns.isEmpty else { return }
    let members = governance.groups
    let waiters = loading.turns.ended { key in
      var isIn = false
      key.withUnsafeBytes { key in
        members.forEach(of: key) { if groups.contains([UInt8]($0)) { isIn = true } }
      }
      return isIn
    }
    goOn(waiters)
  }

  mutating func endTurns(of client: ClientToken) {
    guard !loading.turns.isEmpty else { return }
    goOn(loading.turns.left(Self.pack(client)))
  }

  mutating func endAllTurns() {
    guard !loading.turns.isEmpty else { return }
    goOn(loading.turns.endedAll())
  }

  mutating func tickTurns() {
    guard !loading.turns.isEmpty, now.since(loading.turnsAt) >= 10_000_000 else { return }
    loading.turnsAt = now
    goOn(loading.turns.expired(now: now))
  }

  private mutating func goOn(_ waiters: [UInt64]) {
    for waiter in waiters {
      if let wait = loading.waits.removeValue(forKey: waiter) { loading.ready.append(wait) }
    }
  }
}
