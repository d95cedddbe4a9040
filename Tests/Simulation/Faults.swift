import Invalidation

/// What goes wrong, as often as the seed's swarm says.
extension World {
  func scheduleFaults() {
    for fault in Swarm.Fault.allCases {
      if let period = swarm.faults[fault.rawValue] { schedule(fault, period) }
    }
    if !swarm.storm.isEmpty { scheduleStorm() }
  }

  private func scheduleStorm() {
    at(now + around(swarm.stormPeriod)) { [self] in
      if isQuiet { return }
      let others = hosts.filter { !$0.tailer.holdsSlot }
      let host = random.one(of: others.isEmpty ? hosts : others)
      var time = now
      for fault in swarm.storm {
        time += random.below(swarm.stormSpread)
        at(time) { [self] in
          if isQuiet { return }
          note("storm: \(fault)")
          count("storm: \(fault)")
          perform(fault, host)
        }
      }
      scheduleStorm()
    }
  }

  private func schedule(_ fault: Swarm.Fault, _ period: UInt64) {
    at(now + around(period)) { [self] in
      if isQuiet { return }
      note("fault: \(fault)")
      count("fault: \(fault)")
      perform(fault, hosts[random.below(hosts.count)])
      schedule(fault, period)
    }
  }

  /// A failover that comes between two requests of one pipeline, where a proxy keeps the connection.
  func perhapsFailOver() {
    guard !isQuiet, swarm.splitReads, swarm.faults[Swarm.Fault.failoverBehindProxy.rawValue] != nil,
      random.once(in: 200)
    else { return }
    let host = hosts[random.below(hosts.count)]
    at(now + latency(host)) { [self] in if !isQuiet { redis.failOver(outliving: true) } }
  }

  private func perform(_ fault: Swarm.Fault, _ host: Host) {
    let duration: UInt64 = random.below(random.one(of: [20, 300, 1500, 7000]) * 1_000_000) + 1
    let short: UInt64 = random.below(random.one(of: [20, 200, 1000]) * 1_000_000) + 1
    let stall = random.within(swarm.stalls)
    switch fault {
    case .pause: host.pause(for: duration)
    case .pauseTailer: hosts.first { $0.tailer.holdsSlot }?.pause(for: stall)
    case .stallReplies: host.upstreams[random.below(2)]?.link.stallReplies(for: stall)
    case .stallFeed: host.feed.link?.stallReplies(for: stall)
    case .stallSink: for host in hosts { host.tailer.stallSink(for: stall / 6) }
    case .stallStream: for host in hosts { host.tailer.stallStream(for: stall) }
    case .killHost: host.stop(cleanly: false, for: short)
    case .stopHost: host.stop(cleanly: true, for: short)
    case .cutRedis: for link in redis.links where link.belongs(to: host) { link.cut(noticed: noticeDelay()) }
    case .cutPostgres:
      for link in postgres.links where link.belongs(to: host) { link.cut(noticed: noticeDelay()) }
    case .cutStream: postgres.slot?.walsender?.end()
    case .slowNetwork: slowDown(for: short)
    case .failover: redis.failOver(outliving: false)
    case .failoverBehindProxy: redis.failOver(outliving: true)
    case .restartEmpty:
      redis.goDown(for: short)
      redis.loseAll()
    case .flush: redis.loseAll()
    case .evictState: redis.evictState()
    case .evictJournal: redis.evictJournal()
    case .evictValue: redis.evictValue()
    case .trimJournal: redis.trimJournal()
    case .redisClock: redis.moveClock()
    case .crash: postgres.crash(down: short)
    case .restart: postgres.restart(down: short)
    case .promote: postgres.promote(down: short)
    case .dropSlot: postgres.dropSlot()
    case .moveSlot: postgres.moveSlot()
    case .recreateSlot:
      postgres.dropSlot()
      if postgres.isUp, postgres.canMakeSlot { postgres.makeSlot() }
    case .holdCommits: postgres.holdCommits(for: duration)
    case .hiddenWrite: postgres.hiddenWrite()
    case .redefine: postgres.replaceAll(.schemaChanged)
    case .redefineSilently: postgres.replaceAll(nil)
    case .truncate: postgres.replaceAll(.truncated(table: "t"))
    case .ask: host.turn { host.ask() }
    }
  }
}
