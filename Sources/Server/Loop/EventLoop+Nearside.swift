import Configuration
import Invalidation
import Logging
import Metrics
import NearCache
import Policies

/// NEARSIDE STATUS | WAIT | INVALIDATE | LEASE | FILL | WHY.
extension EventLoop {
  mutating func nearside(_ request: Request, _ slot: Int) {
    guard request.count > 1 else { return wrongCount("nearside", slot) }
    if clients[slot].session.database != nil, concernsKeys(request) {
      return reply(slot) {
        $0.error(
          "ERR Nearside: what is governed lies in the configured database, and this connection has selected another"
        )
      }
    }
    switch (request.word(1), request.count) {
    case ("status", 2):
      collectCounts()
      let text = statusLines().joined(separator: "\n") + "\n"
      let resp3 = clients[slot].resp3
      reply(slot) { $0.verbatim(text, resp3: resp3) }
    case ("wait", 3), ("wait", 4): wait(request, slot)
    case ("invalidate", 4...) where isDurable(request): invalidateDurably(request, slot)
    case ("invalidate", 3...) where request.isWord(2, "all") && request.count == 3: invalidateAll(slot)
    case ("invalidate", 4...) where request.isWord(2, "key"):
      if embedded != nil { return invalidateEmbedded(request, slot) }
      remove(request, keys: 3..<request.count, word: "UNLINK", answerCount: request.count - 3, slot)
    case ("invalidate", 4) where request.isWord(2, "prefix"):
      invalidateGroup(request, kind: KeyGroup.prefix, slot)
    case ("invalidate", 4) where request.isWord(2, "tag"):
      invalidateGroup(request, kind: KeyGroup.tag, slot)
    case ("lease", 3):
      if embedded != nil { return leaseEmbedded(request, slot) }
      executeLease(request, slot)
    case ("fill", 5...):
      if embedded != nil { return fillEmbedded(request, slot) }
      executeFill(request, slot)
    case ("why", 3): why(request, slot)
    default:
      reply(slot) {
        $0.error(
          "ERR Nearside: the commands are NEARSIDE STATUS, WAIT <lsn> [ms], INVALIDATE KEY key… [DURABLE], INVALIDATE "
            + "PREFIX prefix [DURABLE], INVALIDATE TAG tag [DURABLE], INVALIDATE ALL [DURABLE], LEASE key, FILL key "
            + "token value [PX ms], WHY key")
      }
    }
  }

  private func concernsKeys(_ request: Request) -> Bool {
    switch request.word(1) {
    case "lease", "fill", "why": true
    case "invalidate": !isDurable(request) && request.count > 3
    default: false
    }
  }

  private func isDurable(_ request: Request) -> Bool {
    guard request.isWord(request.count - 1, "durable") else { return false }
    return switch request.word(2) {
    case "all": request.count == 4
    case "prefix", "tag": request.count == 5
    case "key": request.count > 4
    default: false
    }
  }

  /// NEARSIDE WAIT lsn [ms]: :1 as soon as everything up to the position has been applied here, :0 at the
  /// time-out, which is one second unless given.
  private mutating func wait(_ request: Request, _ slot: Int) {
    guard let position = LSN(request.text(2)) else {
      return reply(slot) { $0.error("ERR Nearside: a position is written like 0/16B3748") }
    }
    var milliseconds = 1000
    if request.count == 4 {
      guard let given = request.integer(3), given >= 0, given <= 3_600_000 else {
        return reply(slot) { $0.error("ERR timeout is not an integer or out of range") }
      }
      milliseconds = given
    }
    if hasApplied(position) { return reply(slot) { $0.integer(1) } }
    if milliseconds == 0 { return reply(slot) { $0.integer(0) } }
    // What is owed before it is answered first; the wait holds everything behind it.
    let deadline = Instant(nanoseconds: now.nanoseconds + UInt64(milliseconds) * 1_000_000)
    pause(slot, .position(position, deadline: deadline))
  }

  /// Whether no read from now on shows anything older than `position`. While transactions from before the slot
  /// are watched, one of them may lie below it and be visible to nobody yet.
  func hasApplied(_ position: LSN) -> Bool {
    appliedPosition >= position && !isWatching
  }

  /// Whether transactions from before the slot may still become visible; the first that does makes a generation.
  var isWatching: Bool { embedded?.watching ?? follower.state?.watching ?? false }

  /// NEARSIDE INVALIDATE ALL: the tailer, wherever it runs, is asked for a new generation; OK once this
  /// sidecar follows it.
  private mutating func invalidateAll(_ slot: Int) {
    if embedded != nil { return invalidateAllEmbedded(slot) }
    guard resp2.isReady else {
      let trouble = resp2.trouble
      return reply(slot) { $0.error("ERR Nearside: upstream Redis is unreachable (\(trouble))") }
    }
    sendAsk()
    pause(
      slot,
      .generation(
        after: follower.generation, deadline: Instant(nanoseconds: now.nanoseconds + 5_000_000_000)))
  }

  mutating func sendAsk() {
    resp2.begin(.ask, keys: 1, arguments: 0)
    resp2.output.bulk(keys.meta)
    resp2.await(.task(UpstreamTask(client: nil, work: .askForGeneration)))
  }

  // MARK: Status

  /// One `name:value` a line, in the manner of INFO.
  func statusLines() -> [String] {
    let statistics = near.statistics
    var lines = [
      "version:\(version)",
      "mode:\(embedded == nil ? "redis" : "embedded")",
      "threads:\(lending.readers.count + 1)",
      "listen_tcp:\(listener.loopback.map { String(describing: $0.address) } ?? "")",
      "role:\(tail.role.rawValue)",
      "standing:\(standing)",
      "generation:\(currentGeneration?.hex ?? "")",
      "cleared:\(isCleared ? 1 : 0)",
      "watching:\(isWatching ? 1 : 0)",
      "applied:\(appliedPosition)",
      "stream_position:\(tail.position)",
      "confirmed:\(tail.confirmed)",
      "staleness_ms:\(certificate.map { String(now.since($0) / 1_000_000) } ?? "")",
      "staleness_bound_ms:\(settings.staleness.bound / 1_000_000)",
      "near_entries:\(statistics.entries)",
      "near_bytes:\(statistics.bytes)",
      "near_limit_bytes:\(statistics.limit)",
      "near_hits:\(counters.nearHits)",
      "near_misses:\(counters.nearMisses)",
      "near_evicted:\(statistics.evictions.size)",
      "near_expired:\(statistics.evictions.expired)",
      "near_invalidated:\(statistics.evictions.invalidated)",
      "near_drops:\(counters.drops)",
      "redis_hits:\(counters.redisHits)",
      "redis_misses:\(counters.redisMisses)",
      "bypassed:\(counters.bypassed)",
      "misses_held:\(counters.held)",
      "served_stale:\(counters.stale)",
      "served_fail_safe:\(counters.failSafe)",
      "fills_stored:\(counters.fillsStored)",
      "fills_refused:\(counters.fillsRefused)",
      "loads:\(counters.loads)",
      "load_statements:\(counters.loadStatements)",
      "loads_failed:\(counters.loadsFailed)",
      "loads_not_stored:\(counters.loadsNotStored)",
      "load_limit:\(loading.pace.limit)",
      "load_slow_starts:\(loading.pace.starts)",
      "loads_waiting:\(loading.table.count)",
      "load_waits:\(counters.loadWaits)",
      "turn_waits:\(counters.turnWaits)",
      "refreshes:\(counters.refreshes)",
      "absent_hits:\(counters.absentHits)",
      "writes:\(counters.writes)",
      "writes_failed:\(counters.writesFailed)",
      "writes_stored:\(counters.writesStored)",
      "removals:\(counters.removals)",
      "durable_invalidations:\(counters.durable)",
      "durable_failed:\(counters.durableFailed)",
      "announcements:\(counters.announcements)",
      "announcements_malformed:\(counters.announcementsMalformed)",
      "audit_samples:\(audit.samples)",
      "audit_stale:\(audit.stale)",
      "audit_undecided:\(audit.undecided)",
      "clients:\(counters.clients)",
      "clients_limit:\(inUse.count)",
      "clients_lent:\(lending.lent)",
      "clients_refused:\(counters.clientsRefused)",
      "clients_dropped:\(counters.clientsDropped)",
      "own_connections:\(pins.all.count)",
      "connections:\(counters.connections)",
      "commands:\(counters.commands)",
      "protocol_errors:\(counters.protocolErrors)",
    ]
    lines += trackingLines()
    if governance.writesBehind { lines += behindLines() }
    if settings.redis != nil { lines.append("redis:\(resp2.isReady ? "up" : "down (\(resp2.trouble))")") }
    if let trouble = tail.trouble { lines.append("trouble:\(trouble)") }
    return lines
  }

  var isCleared: Bool { embedded != nil || follower.state?.trusted ?? false }

  var standing: String {
    if let embedded { return embedded.generation == nil ? "starting" : "following" }
    return switch follower.standing {
    case .starting: "starting"
    case .following: "following"
    case .noState: "no state: no sidecar has begun a generation yet"
    case .poisoned: "poisoned: the state in Redis went back in time"
    case .otherMapping: "other mapping: the fleet works with another configuration"
    case .unreachable(let reason): "unreachable: \(reason)"
    }
  }
}
