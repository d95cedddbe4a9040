import Metrics

/// The metrics of one report.
enum MetricNames {
  static func families(
    _ report: SidecarReport, _ health: Health, build: (revision: String, swift: String)
  ) -> [MetricFamily] {
    let loop = report.loop
    var info = MetricFamily("nearside_build_info", .info, "What this program is.")
    info.add(1, ["version": loop.version, "revision": build.revision, "swift": build.swift])
    var parts = MetricFamily(
      "nearside_health", .gauge, "1 while nothing is wrong with this part that needs mending.")
    for part in Health.Part.allCases {
      let isBad = health.problems.contains { $0.part == part && $0.severity == .error }
      parts.add(isBad ? 0 : 1, ["part": part.rawValue])
    }
    return [info, parts] + caches(loop) + near(loop) + loads(loop) + commands(loop) + clients(loop)
      + upstream(report) + replication(loop) + invalidations(loop) + writes(loop) + audit(loop.audit)
      + [reloads(report.reloads)] + process(report.process)
  }

  // MARK: Reads

  private static func caches(_ loop: LoopReport) -> [MetricFamily] {
    var gets = MetricFamily(
      "nearside_cache_gets_total", .counter,
      "Reads of one key each: hit and negative_hit were answered near, redis_hit by Redis; bypass is a miss without "
        + "the right to fill.")
    var puts = MetricFamily("nearside_cache_puts_total", .counter, "Values put into the near cache.")
    var entries = MetricFamily("nearside_cache_entries", .gauge, "Entries in the near cache.")
    var bytes = MetricFamily(
      "nearside_cache_bytes", .gauge, "Bytes that entries take: headers, keys and values.")
    for cache in loop.caches {
      for (result, count) in [
        ("hit", cache.hit), ("negative_hit", cache.negativeHit), ("redis_hit", cache.redisHit),
        ("miss", cache.miss), ("stale", cache.stale), ("bypass", cache.bypass),
      ] { gets.add(count, ["cache": cache.name, "result": result]) }
      puts.add(cache.puts, ["cache": cache.name])
      entries.add(cache.entries, ["cache": cache.name])
      bytes.add(cache.bytes, ["cache": cache.name])
    }
    return [gets, puts, entries, bytes]
  }

  private static func near(_ loop: LoopReport) -> [MetricFamily] {
    let near = loop.near
    var evictions = MetricFamily(
      "nearside_cache_evictions_total", .counter, "Entries that left the near cache, by cause.")
    for (cause, count) in [
      ("size", near.evictedForRoom), ("expired", near.expired), ("invalidated", near.invalidated),
      ("flush", near.flushed),
    ] { evictions.add(count, ["cause": cause]) }
    return [
      evictions,
      MetricFamily(
        "nearside_cache_limit_bytes", .gauge, "The most memory that the near cache takes.", near.limit),
      MetricFamily(
        "nearside_cache_drops_total", .counter, "How often the whole near cache was dropped at once.",
        near.drops),
    ]
  }

  private static func loads(_ loop: LoopReport) -> [MetricFamily] {
    guard loop.loader != nil else { return [] }
    var loads = MetricFamily("nearside_loads_total", .counter, "Loads from the database, by result.")
    var durations = MetricFamily(
      "nearside_load_duration_seconds", .histogram, "How long statements of loads took.")
    var coalesced = MetricFamily(
      "nearside_loads_coalesced_total", .counter, "Reads that waited for a load that another read had begun.")
    for cache in loop.caches {
      let figures = cache.loads
      for (result, count) in [
        ("success", figures.found), ("negative", figures.negative), ("error", figures.failed),
        ("timeout", figures.timedOut),
      ] { loads.add(count, ["cache": cache.name, "result": result]) }
      durations.add(figures.durations, ["cache": cache.name])
      coalesced.add(figures.coalesced, ["cache": cache.name])
    }
    return [loads, durations, coalesced]
  }

  // MARK: Clients

  private static func commands(_ loop: LoopReport) -> [MetricFamily] {
    var commands = MetricFamily("nearside_commands_total", .counter, "Commands of clients, by who answered.")
    var durations = MetricFamily(
      "nearside_command_duration_seconds", .histogram,
      "From sending a command to Redis until its reply was here.")
    for command in loop.commands {
      for (served, count) in [("near", command.near), ("redis", command.redis), ("local", command.local)]
      where count > 0 {
        commands.add(count, ["command": command.name, "served": served])
      }
      if let histogram = command.durations {
        durations.add(histogram, ["command": command.name, "served": "redis"])
      }
    }
    return [commands, durations]
  }

  private static func clients(_ loop: LoopReport) -> [MetricFamily] {
    var now = MetricFamily("nearside_clients", .gauge, "Connected clients, by what they say they are.")
    var counts: [ClientsReport.Library: Int] = [:]
    for library in loop.clients.libraries {
      let merged = ClientsReport.Library(name: library.name, version: "", resp: library.resp, clients: 0)
      counts[merged, default: 0] += library.clients
    }
    for (library, count) in counts.sorted(by: { ($0.key.name, $0.key.resp) < ($1.key.name, $1.key.resp) }) {
      now.add(count, ["lib": library.name, "resp": "\(library.resp)"])
    }
    if counts.isEmpty { now.add(0, ["lib": "", "resp": "2"]) }
    let clients = loop.clients
    return [
      now,
      MetricFamily("nearside_clients_limit", .gauge, "How many clients may be connected.", clients.limit),
      MetricFamily(
        "nearside_client_connections_total", .counter, "Connections that were accepted.", clients.connections),
      MetricFamily(
        "nearside_client_refusals_total", .counter,
        "Connections that were closed because there were too many clients.",
        clients.refused),
      MetricFamily(
        "nearside_client_drops_total", .counter,
        "Clients disconnected because they did not take their answers.",
        clients.dropped),
      MetricFamily(
        "nearside_client_protocol_errors_total", .counter, "Commands that could not be read.",
        clients.protocolErrors),
    ]
  }

  private static func upstream(_ report: SidecarReport) -> [MetricFamily] {
    let loop = report.loop
    var up = MetricFamily("nearside_upstream_up", .gauge, "1 while it is connected.")
    var errors = MetricFamily(
      "nearside_upstream_errors_total", .counter, "Connections that were lost or could not be made.")
    var durations = MetricFamily(
      "nearside_upstream_duration_seconds", .histogram,
      "How long Redis took to answer, observed once for each batch of replies, of the command that waited longest; and "
        + "how long each statement of a load or a write took in PostgreSQL.")
    if let redis = loop.redis { durations.add(redis.durations, ["target": "redis"]) }
    if let loader = loop.loader { durations.add(loader.durations, ["target": "postgres"]) }
    up.add(loop.isPostgresAway ? 0 : 1, ["target": "postgres"])
    if let redis = loop.redis {
      up.add(redis.isUp ? 1 : 0, ["target": "redis"])
      errors.add(redis.errors, ["target": "redis"])
    }
    let redis = report.redis
    return [
      up, errors, durations,
      MetricFamily("nearside_redis_hits_total", .counter, "Redis's keyspace_hits.", redis?.hits),
      MetricFamily("nearside_redis_misses_total", .counter, "Redis's keyspace_misses.", redis?.misses),
      MetricFamily("nearside_redis_evicted_keys_total", .counter, "Redis's evicted_keys.", redis?.evicted),
      MetricFamily("nearside_redis_expired_keys_total", .counter, "Redis's expired_keys.", redis?.expired),
      MetricFamily("nearside_redis_used_memory_bytes", .gauge, "Redis's used_memory.", redis?.usedMemory),
      MetricFamily(
        "nearside_redis_max_memory_bytes", .gauge, "Redis's maxmemory; 0 is without limit.", redis?.mostMemory
      ),
      MetricFamily("nearside_redis_clients", .gauge, "Redis's connected_clients.", redis?.clients),
    ]
  }

  // MARK: The log

  private static func replication(_ loop: LoopReport) -> [MetricFamily] {
    var generation = MetricFamily("nearside_generation_info", .info, "The generation that this host follows.")
    if let id = loop.generation.id { generation.add(1, ["generation": id]) }
    var changes = MetricFamily(
      "nearside_replication_changes_total", .counter,
      "Rows of the log that a rule asked for, on the host that tails.")
    for change in loop.tail?.changes ?? [] {
      changes.add(change.count, ["table": change.table, "op": change.operation])
    }
    let tail = loop.isTailing ? loop.tail : nil
    return [
      MetricFamily(
        "nearside_replication_connected", .gauge,
        "1 while this host follows the log, by its slot or through the fleet.",
        loop.isConnected ? 1 : 0),
      MetricFamily(
        "nearside_leader", .gauge, "1 while this host holds the replication slot.", loop.isTailing ? 1 : 0),
      MetricFamily(
        "nearside_replication_lag_seconds", .gauge,
        "Age of the oldest received commit that is not applied; only on the host that tails.",
        real: tail.map { Double($0.lag) / 1e9 }),
      MetricFamily(
        "nearside_replication_lag_bytes", .gauge,
        "The end of the server's log less what it may forget; only on the host that tails.", loop.lagBytes),
      MetricFamily(
        "nearside_replication_transactions_total", .counter, "Transactions read from the log.",
        loop.tail?.transactions),
      changes, generation,
      MetricFamily(
        "nearside_generations_total", .counter, "Generations that this host has followed.",
        loop.generation.begun),
      MetricFamily(
        "nearside_staleness_seconds", .gauge,
        "How old a near answer given now can be at most; absent while nothing is known.",
        real: loop.staleness.map { Double($0) / 1e9 }),
      MetricFamily(
        "nearside_staleness_bound_seconds", .gauge, "The configured bound of it.",
        real: Double(loop.stalenessBound) / 1e9),
      MetricFamily(
        "nearside_slot_retained_wal_bytes", .gauge, "Log that the server keeps for the slot.",
        loop.tail?.slot?.retained.map { Int(clamping: $0) }),
      MetricFamily(
        "nearside_slot_safe_wal_bytes", .gauge, "Log that may still be written before the slot is lost.",
        loop.tail?.slot?.safe.map { Int(clamping: $0) }),
      MetricFamily(
        "nearside_slot_lost", .gauge, "1 while the slot lacks log that it needs.",
        loop.tail?.slot?.walStatus.map { $0 == "lost" ? 1 : 0 }),
    ]
  }

  private static func invalidations(_ loop: LoopReport) -> [MetricFamily] {
    var messages = MetricFamily(
      "nearside_invalidations_total", .counter, "Invalidations that this host has heard.")
    var keys = MetricFamily(
      "nearside_invalidation_keys_total", .counter, "Keys, prefixes and tags that invalidations named.")
    for report in loop.invalidations {
      messages.add(report.count, ["table": report.table ?? "", "source": report.source.rawValue])
      keys.add(report.keys, ["table": report.table ?? "", "source": report.source.rawValue])
    }
    var delays = MetricFamily(
      "nearside_invalidation_duration_seconds", .histogram,
      "From the commit, by the primary's clock, until its keys had left this near cache, or Redis.")
    delays.add(loop.nearDelay, ["stage": "near"])
    if let tail = loop.tail { delays.add(tail.delay, ["stage": "redis"]) }
    return [messages, keys, delays]
  }

  private static func writes(_ loop: LoopReport) -> [MetricFamily] {
    guard let behind = loop.writes.behind else { return [] }
    return [
      MetricFamily(
        "nearside_write_behind_queue_entries", .gauge, "Writes that wait for PostgreSQL, of the whole fleet.",
        behind.depth),
      MetricFamily(
        "nearside_write_behind_oldest_seconds", .gauge, "Age of the oldest of them.",
        real: Double(behind.age) / 1e9),
      MetricFamily(
        "nearside_write_behind_dead_entries", .gauge, "Writes that were given up, and are kept for a person.",
        behind.dead),
    ]
  }

  private static func audit(_ audit: AuditReport?) -> [MetricFamily] {
    guard let audit else { return [] }
    return [
      MetricFamily(
        "nearside_audit_samples_total", .counter, "Cached values that were compared with the database.",
        audit.samples),
      MetricFamily(
        "nearside_audit_stale_total", .counter,
        "Of these, values that differed though no change of their row was on its way.", audit.stale),
      MetricFamily(
        "nearside_audit_undecided_total", .counter,
        "Comparisons without an outcome: the row changed all the time, or a server did not answer.",
        audit.undecided),
      MetricFamily(
        "nearside_audit_nines", .gauge,
        "How many nines the share of values that were not stale amounts to; while none was stale, what so many "
          + "samples can show.", real: audit.nines),
    ]
  }

  private static func reloads(_ reloads: ReloadReport) -> MetricFamily {
    var family = MetricFamily(
      "nearside_config_reloads_total", .counter,
      "How often the configuration was read again, and taken over or refused.")
    family.add(reloads.taken, ["result": "success"])
    family.add(reloads.refused, ["result": "failure"])
    return family
  }

  private static func process(_ process: ProcessReport) -> [MetricFamily] {
    [
      MetricFamily("process_resident_memory_bytes", .gauge, "Resident memory size.", process.resident),
      MetricFamily("process_virtual_memory_bytes", .gauge, "Virtual memory size.", process.virtual),
      MetricFamily(
        "process_cpu_seconds_total", .counter, "User and system CPU time spent.",
        real: process.cpu.map { Double($0) / 1e9 }),
      MetricFamily("process_open_fds", .gauge, "Open file descriptors.", process.openDescriptors),
      MetricFamily(
        "process_max_fds", .gauge, "The most file descriptors that may be open.", process.mostDescriptors),
      MetricFamily(
        "process_start_time_seconds", .gauge, "When the process began, since 1970.", real: process.started),
    ]
  }
}
