import Glibc
import TestSupport

/// Something that goes wrong: how it is done, and how it is undone.
struct Fault: Sendable {
  /// What it harms; two faults at a time harm different things. Slot and publication are PostgreSQL's: who touches
  /// them needs a server that answers.
  enum Target: Sendable { case host, link, redis, postgres }

  /// How a fault is undone; called once.
  typealias Undo = () throws -> Void

  let name: String
  let target: Target
  /// How long it lasts, in milliseconds.
  var lasts = 300...2500
  /// Whether it puts state or slot in doubt: positions may go back until the next generation.
  var doubts = false
  let inject: @Sendable (Scene, inout Random) throws -> Undo
}

/// What faults act on.
struct Scene: Sendable {
  let cluster: Cluster
  let workload: Workload

  func tailer() -> Host { cluster.tailer() ?? cluster.hosts[0] }

  func follower(_ random: inout Random) -> Host {
    let tailer = tailer().number
    return random.pick(cluster.hosts.filter { $0.number != tailer })
  }
}

extension Fault {
  /// All that a run picks from.
  static let all = hosts + links + redis + postgres + slot

  // MARK: Sidecars

  static let hosts: [Fault] = [
    Fault(name: "kill -9 of the tailer", target: .host) { scene, _ in
      let host = scene.tailer()
      host.kill()
      return { try host.start() }
    },
    Fault(name: "kill -9 of a follower", target: .host) { scene, random in
      let host = scene.follower(&random)
      host.kill()
      return { try host.start() }
    },
    Fault(name: "the tailer stands still", target: .host, lasts: 500...6000) { scene, _ in
      let host = scene.tailer()
      host.freeze()
      return { host.thaw() }
    },
    Fault(name: "a follower stands still", target: .host, lasts: 500...4000) { scene, random in
      let host = scene.follower(&random)
      host.freeze()
      return { host.thaw() }
    },
    Fault(name: "kill -9 of all sidecars", target: .host, lasts: 100...1000) { scene, _ in
      scene.cluster.hosts.forEach { $0.kill() }
      return { try scene.cluster.hosts.forEach { try $0.start() } }
    },
  ]

  // MARK: Links

  private static func link(
    _ name: String, lasts: ClosedRange<Int> = 300...3000,
    _ harm: @escaping @Sendable (FaultProxy, inout Random) -> Void
  ) -> [Fault] {
    let paths: [(String, @Sendable (Host) -> FaultProxy)] = [
      ("PostgreSQL", { $0.postgresLink }), ("Redis", { $0.redisLink }),
    ]
    return paths.map { (server, path) in
      Fault(name: "\(name) between a host and \(server)", target: .link, lasts: lasts) { scene, random in
        let host = random.oneIn(2) ? scene.tailer() : random.pick(scene.cluster.hosts)
        let proxy = path(host)
        harm(proxy, &random)
        return { proxy.heal() }
      }
    }
  }

  static let links: [Fault] =
    link("connections cut") { proxy, _ in proxy.cut() }
    + link("nothing passes") { proxy, random in
      switch Int.random(in: 0..<3, using: &random) {
      case 0: proxy.freeze([.toServer])
      case 1: proxy.freeze([.toClient])
      default: proxy.freeze()
      }
    }
    + link("everything is late") { proxy, random in
      proxy.delay(random.time(20...700), random.oneIn(2) ? FaultProxy.Direction.allCases : [.toClient])
    }
    + link("connections refused") { proxy, _ in
      proxy.refuse()
      proxy.cut()
    }
    + link("a narrow path") { proxy, _ in proxy.throttle(bytesPerSecond: 20_000) }

  // MARK: Redis

  static let redis: [Fault] =
    [
      Fault(name: "FLUSHALL", target: .redis, lasts: 0...300, doubts: true) { scene, _ in
        try scene.cluster.redis.cli("FLUSHALL")
        return {}
      },
      Fault(name: "the state is deleted", target: .redis, lasts: 0...300, doubts: true) { scene, _ in
        try scene.cluster.redis.cli("DEL", scene.cluster.stateKey)
        return {}
      },
      Fault(name: "the state is something else", target: .redis, lasts: 0...300, doubts: true) { scene, _ in
        try scene.cluster.redis.cli("SET", scene.cluster.stateKey, "x")
        return {}
      },
      Fault(name: "Redis restarts without its data", target: .redis, doubts: true) { scene, _ in
        let redis = scene.cluster.redis
        redis.kill()
        return { try redis.start() }
      },
      Fault(name: "Redis restarts with data of before", target: .redis, doubts: true) { scene, random in
        let redis = scene.cluster.redis
        try redis.cli("SAVE")
        sleep(random.time(100...1500))
        redis.kill()
        return {
          try redis.start()
          // Or the next start would find this file again.
          unlink(redis.folder.file("dump.rdb"))
        }
      },
      Fault(name: "Redis stands still", target: .redis, lasts: 300...4000) { scene, _ in
        let redis = scene.cluster.redis
        redis.pause()
        return { redis.resume() }
      },
      Fault(name: "Redis fails over to a replica that lags", target: .redis, lasts: 0...500, doubts: true) {
        scene, random in
        let cluster = scene.cluster
        if cluster.replica == nil { try cluster.makeReplica() }
        cluster.replica?.link.freeze()
        sleep(random.time(50...1500))
        let old = try cluster.failOverRedis()
        return {
          try old.stop()
          try cluster.makeReplica()
        }
      },
      Fault(name: "Redis fails over to a replica in step", target: .redis, lasts: 0...500, doubts: true) {
        scene, _ in
        let cluster = scene.cluster
        if cluster.replica == nil { try cluster.makeReplica() }
        try cluster.failOverRedis()
        return { try cluster.makeReplica() }
      },
      Fault(name: "Redis is full", target: .redis, lasts: 500...2000, doubts: true) { scene, random in
        let redis = scene.cluster.redis
        let used = Int(try redis.info("memory", "used_memory") ?? "") ?? 4_000_000
        try redis.cli("CONFIG", "SET", "maxmemory-policy", random.pick(policies))
        try redis.cli("CONFIG", "SET", "maxmemory", "\(used + 300_000)")
        // What others keep there; it makes room for itself, or Redis refuses it.
        let client = try redis.client()
        let junk = String(repeating: "x", count: 5000)
        _ = try client.pipeline((0..<200).map { ["SET", "junk:\($0)", junk, "EX", "600"] })
        return {
          try redis.cli("CONFIG", "SET", "maxmemory", "0")
          _ = try client.pipeline((0..<200).map { ["DEL", "junk:\($0)"] })
        }
      },
    ]

  static let policies = [
    "noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu",
    "volatile-random", "volatile-ttl",
  ]
}
