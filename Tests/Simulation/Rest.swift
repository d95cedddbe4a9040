import Invalidation
import NearCache

/// The end of a run: nothing goes wrong any more and nothing is written; everything must come to rest, nothing
/// stale may be left anywhere, and every key must be fillable again.
extension World {
  private static var patience: UInt64 { 40_000_000_000 }

  func rest() {
    isQuiet = true
    let end = now + Self.patience
    // It must stay so while a fingerprint is asked for, and for a window in which plain SETs are dated again.
    var since = now
    var generation = redis.state?.generation
    while now - since < 2 * swarm.window + 2_500_000_000 {
      guard advance(100_000_000) else { return }
      if !isSettled() || generation != redis.state?.generation {
        since = now
        generation = redis.state?.generation
        if now > end { return fail("nothing has come to rest within 40 s: \(unsettled())") }
      }
    }
    checkRedis()
    for host in hosts { for key in keys where violation == nil { probe(host, key) } }
  }

  private func advance(_ time: UInt64) -> Bool {
    let end = now + time
    var isOver = false
    at(end) { isOver = true }
    while !isOver { guard step() else { return false } }
    return true
  }

  private func isSettled() -> Bool { unsettled() == "" }

  private func unsettled() -> String {
    guard postgres.isUp, redis.isUp else { return "a server is down" }
    if !postgres.isIdle { return "a transaction is open" }
    guard let state = redis.state else { return "there is no state" }
    if !redis.isOf(postgres.incarnation, state.generation) {
      return "the generation is one of before a crash"
    }
    if redis.data.hash?.req != nil { return "a new generation is asked for" }
    if !state.trusted { return "the generation is not cleared" }
    if !state.pending.isEmpty { return "groups wait to be swept" }
    if state.watching { return "transactions are watched" }
    if postgres.slot?.walsender == nil { return "nobody tails" }
    if let last = postgres.commits.last?.end, state.applied < LSN(last) { return "W has not come to \(last)" }
    if state.visible < state.applied { return "V is \(state.visible), W is \(state.applied)" }
    for host in hosts {
      if !host.isHealthy { return "host \(host.number) is not there" }
      if host.upstreams.contains(where: { $0?.link.isCut ?? true }) {
        return "host \(host.number) has no connection to Redis"
      }
      if host.follower.generation != state.generation { return "host \(host.number) does not follow" }
      if !host.isFresh(at: host.clock) {
        return "host \(host.number) has no evidence, being \(host.follower.standing) at "
          + "\(host.follower.position) of \(state.journal), and \(host.feed)"
      }
    }
    return ""
  }

  private func checkRedis() {
    for key in keys {
      guard let text = redis.get(key.name) else { continue }
      check(text, before: now, "at rest Redis holds for \(key.name)")
    }
  }

  /// Reads, fills and reads again.
  private func probe(_ host: Host, _ key: Key) {
    for attempt in 0..<3 {
      var outcome: Host.Outcome?
      host.turn { host.read(key) { outcome = $0 } }
      while outcome == nil { guard step() else { return } }
      switch outcome {
      case .hit(let text):
        check(text, before: now, "at rest host \(host.number) answers for \(key.name)")
        return
      case .miss:
        if attempt == 2 { return fail("at rest host \(host.number) does not keep \(key.name)") }
        guard let text = read(key) else { return }
        var isDone = false
        let dated = host.emptyAt
        host.turn { host.set(key, text, life: nil, dated: dated) { _ in isDone = true } }
        while !isDone { guard step() else { return } }
      default: return fail("at rest host \(host.number) answers an error for \(key.name)")
      }
    }
  }
}
