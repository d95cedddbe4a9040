import Metrics

/// The answer to /status.
enum StatusText {
  /// - Parameter showsKeys: whether whoever asks may see keys, and wants to.
  static func json(
    _ report: SidecarReport, _ health: Health, places: AdminPlaces, showsKeys: Bool = false
  ) -> JSONText {
    let loop = report.loop
    let more: JSONText = [
      "schema": 1, "version": .text(loop.version), "pid": .whole(report.process.pid),
      "time": .text(report.time.text), "uptime_seconds": .seconds(loop.uptime),
      "mode": loop.isEmbedded ? "embedded" : "redis", "namespace": .text(ifAny: loop.namespace),
      "listen": [
        "unix": .text(loop.socket), "tcp": .text(ifAny: loop.loopback),
        "admin_unix": .text(ifAny: places.socket), "admin_tcp": .text(ifAny: places.tcp),
      ],
      "health": health.json, "role": .text(loop.role), "standing": .text(loop.standing),
      "trouble": .text(ifAny: loop.trouble), "generation": generation(loop.generation),
      "replication": replication(loop), "slot": slot(loop.tail?.slot),
      "staleness": [
        "seconds": .seconds(loop.staleness), "bound_seconds": .seconds(loop.stalenessBound),
      ],
      "near": near(loop.near), "redis": redis(loop.redis, report.redis), "loader": loader(loop.loader),
      "writes": writes(loop.writes), "clients": clients(loop.clients),
      "audit": audit(loop.audit), "reloads": reloads(report.reloads),
      "commands": [
        "total": .whole(loop.clients.commands), "protocol_errors": .whole(loop.clients.protocolErrors),
      ],
      "process": process(report.process), "caches": .list(loop.caches.map(cache)),
      "invalidations": .list(loop.invalidations.map(invalidation)),
      "counters": .object(loop.counters.map { JSONText.Member(name: $0.name, value: .whole($0.value)) }),
    ]
    guard showsKeys, case .object(let members) = more else { return more }
    return .object(members + [.init(name: "hot_keys", value: .list(loop.hotKeys.map(hotKey)))])
  }

  private static func hotKey(_ entry: HotKeys.Entry) -> JSONText {
    ["key": .text(String(decoding: entry.key, as: UTF8.self)), "share": .real(entry.share)]
  }

  private static func generation(_ generation: GenerationReport) -> JSONText {
    [
      "id": .text(ifAny: generation.id), "age_seconds": .seconds(generation.age),
      "reason": .text(ifAny: generation.reason), "cleared": .flag(generation.isCleared),
      "watching": .flag(generation.isWatching),
    ]
  }

  private static func replication(_ loop: LoopReport) -> JSONText {
    [
      "connected": .flag(loop.isConnected), "lag_seconds": .seconds(loop.tail?.lag),
      "lag_bytes": .whole(ifAny: loop.lagBytes), "position": .text(loop.position.logPosition),
      "confirmed": .text(loop.confirmed.logPosition), "applied": .text(loop.applied.logPosition),
      "transactions": .whole(ifAny: loop.tail?.transactions),
    ]
  }

  private static func slot(_ slot: SlotReport?) -> JSONText {
    guard let slot else { return .null }
    return [
      "name": .text(slot.name), "wal_status": .text(ifAny: slot.walStatus),
      "retained_bytes": .whole(ifAny: slot.retained.map { Int(clamping: $0) }),
      "safe_wal_size": .whole(ifAny: slot.safe.map { Int(clamping: $0) }),
      "bound_bytes": .whole(ifAny: slot.bound.map { Int(clamping: $0) }),
    ]
  }

  private static func audit(_ audit: AuditReport?) -> JSONText {
    guard let audit else { return .null }
    return [
      "share": .real(audit.share), "samples": .whole(audit.samples), "stale": .whole(audit.stale),
      "undecided": .whole(audit.undecided), "nines": .real(ifAny: audit.nines),
    ]
  }

  private static func reloads(_ reloads: ReloadReport) -> JSONText {
    [
      "success": .whole(reloads.taken), "failure": .whole(reloads.refused),
      "refused": .flag(reloads.trouble != nil),
      "needs_restart": .list(reloads.needRestart.map { .text($0) }),
    ]
  }

  private static func near(_ near: NearReport) -> JSONText {
    [
      "entries": .whole(near.entries), "bytes": .whole(near.bytes), "limit_bytes": .whole(near.limit),
      "hits": .whole(near.hits), "misses": .whole(near.misses),
      "evictions": [
        "size": .whole(near.evictedForRoom), "expired": .whole(near.expired),
        "invalidated": .whole(near.invalidated), "flush": .whole(near.flushed),
      ],
      "drops": .whole(near.drops),
    ]
  }

  private static func redis(_ link: RedisLinkReport?, _ info: RedisReport?) -> JSONText {
    guard let link else { return .null }
    return [
      "up": .flag(link.isUp), "trouble": .text(ifAny: link.trouble), "version": .text(link.version),
      "hits": .whole(ifAny: info?.hits), "misses": .whole(ifAny: info?.misses),
      "evicted_keys": .whole(ifAny: info?.evicted), "expired_keys": .whole(ifAny: info?.expired),
      "used_memory_bytes": .whole(ifAny: info?.usedMemory),
      "max_memory_bytes": .whole(ifAny: info?.mostMemory),
    ]
  }

  private static func loader(_ loader: LoaderReport?) -> JSONText {
    guard let loader else { return .null }
    return [
      "limit": .whole(loader.limit), "loads": .whole(loader.loads), "failed": .whole(loader.failed),
      "coalesced": .whole(loader.coalesced), "waiting": .whole(loader.waiting), "away": .flag(loader.isAway),
    ]
  }

  private static func writes(_ writes: WritesReport) -> JSONText {
    var behind = JSONText.null
    if let queue = writes.behind {
      behind = [
        "depth": .whole(queue.depth), "age_seconds": .seconds(queue.age), "dead": .whole(queue.dead),
        "flushing": .flag(queue.isFlushing), "trouble": .text(ifAny: queue.trouble),
      ]
    }
    return ["through": .whole(writes.through), "failed": .whole(writes.failed), "behind": behind]
  }

  private static func clients(_ clients: ClientsReport) -> JSONText {
    [
      "now": .whole(clients.now), "limit": .whole(clients.limit), "refused": .whole(clients.refused),
      "dropped": .whole(clients.dropped), "connections": .whole(clients.connections),
      "by_library": .list(
        clients.libraries.map {
          [
            "lib": .text($0.name), "version": .text($0.version), "resp": .whole($0.resp),
            "clients": .whole($0.clients),
          ]
        }),
    ]
  }

  private static func process(_ process: ProcessReport) -> JSONText {
    [
      "resident_bytes": .whole(ifAny: process.resident), "cpu_seconds": .seconds(process.cpu),
      "open_fds": .whole(ifAny: process.openDescriptors), "max_fds": .whole(ifAny: process.mostDescriptors),
    ]
  }

  private static func cache(_ cache: CacheReport) -> JSONText {
    [
      "cache": .text(cache.name), "hit": .whole(cache.hit), "negative_hit": .whole(cache.negativeHit),
      "redis_hit": .whole(cache.redisHit), "miss": .whole(cache.miss), "stale": .whole(cache.stale),
      "bypass": .whole(cache.bypass), "puts": .whole(cache.puts), "entries": .whole(cache.entries),
      "bytes": .whole(cache.bytes),
      "loads": .whole(cache.loads.found + cache.loads.negative),
      "loads_failed": .whole(cache.loads.failed + cache.loads.timedOut),
    ]
  }

  private static func invalidation(_ report: InvalidationReport) -> JSONText {
    [
      "table": .text(report.table ?? ""), "source": .text(report.source.rawValue),
      "count": .whole(report.count),
      "keys": .whole(report.keys),
    ]
  }
}

extension LoopReport {
  /// How far the server's log reaches beyond what it may forget; nil: this process does not tail.
  var lagBytes: Int? {
    guard isTailing, let tail else { return nil }
    return Int(clamping: tail.serverEnd > confirmed ? tail.serverEnd - confirmed : 0)
  }
}

/// Where the endpoint itself listens.
public struct AdminPlaces: Sendable, Equatable {
  public var socket: String?
  /// With the port that it really has.
  public var tcp: String?

  public init(socket: String?, tcp: String?) {
    self.socket = socket
    self.tcp = tcp
  }
}
