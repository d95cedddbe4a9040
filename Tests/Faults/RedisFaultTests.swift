import Glibc
import TestSupport
import Testing

@Suite("A Redis that loses what it had")
struct RedisFaultTests {
  /// Which of them is told depends on whether the tailer or the slot notices first.
  static let lost = "Redis has lost writes"
  static let hole = "the replication slot has moved on"
  static let gone = "there is no state of this namespace yet"

  @Test(
    "State that is gone, or is something else, makes a new generation, and nothing from before is served",
    arguments: ["FLUSHALL", "DEL", "SET", "UNLINK of one field"])
  func stateGone(how: String) throws {
    let cluster = try Cluster()
    let before = try cluster.generation()
    try cluster.warm(1)
    try cluster.warm(2)
    try cluster.change(2)
    switch how {
    case "FLUSHALL": try cluster.redis.cli("FLUSHALL")
    case "DEL": try cluster.redis.cli("DEL", cluster.stateKey)
    case "SET": try cluster.redis.cli("SET", cluster.stateKey, "x")
    default: try cluster.redis.cli("HDEL", cluster.stateKey, "W")
    }
    try cluster.waitForNewGeneration(after: before, because: Self.gone)
    // Except for FLUSHALL the value itself was still in Redis.
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  @Test(
    "A restart without data is a new generation; until then no value of before lives longer than the bound")
  func restartEmpty() throws {
    var options = Cluster.Options()
    options.bound = 1000
    let cluster = try Cluster(options)
    let before = try cluster.generation()
    try cluster.warm(1)
    cluster.redis.kill()
    try cluster.change(1)
    let changed = bootMoment()
    try cluster.expectBounded(1, from: changed)
    try cluster.redis.start()
    try cluster.waitForNewGeneration(after: before, because: Self.gone)
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  @Test("A restart with data of before brings a deleted value back, and nobody serves it")
  func restartOld() throws {
    let cluster = try Cluster()
    let before = try cluster.generation()
    try cluster.warm(1)
    try cluster.redis.cli("SAVE")
    try cluster.change(1)
    try cluster.settle()
    try cluster.expectMiss(1)
    cluster.redis.kill()
    try cluster.redis.start()
    // It is there again, and the state of then with it.
    let (value, generation) = (try cluster.redis.cli("GET", cluster.key(1)), try cluster.stateGeneration())
    #expect(value == "before" || generation != before)
    try cluster.waitForNewGeneration(after: before, because: Self.lost, Self.hole)
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  @Test("So it is if the sidecars were away while Redis went back")
  func restartOldAlone() throws {
    let cluster = try Cluster()
    let before = try cluster.generation()
    try cluster.warm(1)
    try cluster.redis.cli("SAVE")
    try cluster.change(1)
    try cluster.settle()
    for host in cluster.hosts { try host.sidecar.terminate() }
    cluster.redis.kill()
    try cluster.redis.start()
    #expect(try cluster.redis.cli("GET", cluster.key(1)) == "before")
    for host in cluster.hosts { try host.start() }
    // The slot knows more than the state: that is the hole.
    try cluster.waitForNewGeneration(after: before, because: "the replication slot has moved on")
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  @Test("An append-only file that lost its last second is a Redis that went back")
  func appendOnly() throws {
    var options = Cluster.Options()
    // Written by nobody but the kernel: what a crash of the machine leaves is what is copied below.
    options.redis = ["--appendonly", "yes", "--appendfsync", "everysec", "--aof-use-rdb-preamble", "no"]
    let cluster = try Cluster(options)
    let before = try cluster.generation()
    try cluster.warm(1)
    let folder = cluster.redis.folder.file("appendonlydir")
    // Longer than the second for which Redis keeps writes to itself.
    try succeed(["sh", "-c", "sleep 1.2; cp -a \(folder) \(folder).old"])
    try cluster.change(1)
    try cluster.settle()
    try cluster.expectMiss(1)
    cluster.redis.kill()
    try succeed(["sh", "-c", "rm -rf \(folder) && mv \(folder).old \(folder)"])
    try cluster.redis.start()
    try cluster.waitForNewGeneration(after: before, because: Self.lost, Self.hole)
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  // MARK: Failover

  @Test("Failover to a replica that lags brings deleted values back, and nobody serves them")
  func lagging() throws {
    var options = Cluster.Options()
    options.replica = true
    let cluster = try Cluster(options)
    let before = try cluster.generation()
    try cluster.warm(1)
    try cluster.waitForReplica()
    cluster.replica?.link.freeze()
    try cluster.change(1)
    try cluster.settle()
    try cluster.failOverRedis()
    try cluster.waitForNewGeneration(after: before, because: Self.lost, Self.hole)
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  @Test("Failover to a replica in step is no reason for doubt")
  func inStep() throws {
    var options = Cluster.Options()
    options.replica = true
    let cluster = try Cluster(options)
    let before = try cluster.generation()
    try cluster.warm(1)
    // Beats go on all the time, so they are stopped for a replica that has everything.
    let postgres = cluster.postgres
    postgres.pause()
    sleep(.milliseconds(300))
    try cluster.waitForReplica()
    try cluster.failOverRedis()
    postgres.resume()
    try cluster.waitUntilWell()
    #expect(try cluster.generation() == before)
    try cluster.expectKept(1)
    try cluster.expectSound()
  }

  @Test("Two masters: whoever is left with the one that nobody tails into stops serving within the bound")
  func splitBrain() throws {
    var options = Cluster.Options()
    options.replica = true
    options.bound = 1000
    let cluster = try Cluster(options)
    let tailer = try cluster.waitForTailer()
    let other = try cluster.follower()
    try cluster.warm(1)
    let replica = try #require(cluster.replica)
    replica.link.freeze()
    try replica.server.cli("REPLICAOF", "NO", "ONE")
    // The tailer is on the new side, the follower on the old one.
    tailer.redisLink.point(to: .unix(replica.server.socket))
    tailer.redisLink.cut()
    try cluster.change(1)
    let changed = bootMoment()
    try cluster.expectBounded(1, on: [other], from: changed)
    try cluster.expectBounded(1, on: [tailer], from: changed)
    // Healed: both see the new master, which never had what the old one was told.
    try cluster.promoteReplica(replica)
    try cluster.waitUntilWell()
    try cluster.settle()
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  // MARK: Memory

  @Test(
    "Eviction of the state is a loss of state, whatever the policy",
    arguments: ["allkeys-lru", "allkeys-random"])
  func evictedState(policy: String) throws {
    var options = Cluster.Options()
    options.bound = 1000
    let cluster = try Cluster(options)
    let before = try cluster.generation()
    try cluster.warm(1)
    let redis = cluster.redis
    try redis.cli("CONFIG", "SET", "maxmemory-policy", policy)
    // Nothing fits: everything that may go has to.
    try redis.cli("CONFIG", "SET", "maxmemory", "1000000")
    try eventually("the state was evicted") {
      _ = try? redis.client().call("SET", "junk", "x")
      return try Int(redis.info("stats", "evicted_keys") ?? "") ?? 0 > 0
        && cluster.stateGeneration() != before
    }
    try cluster.change(1)
    let changed = bootMoment()
    try cluster.expectBounded(1, from: changed)
    try redis.cli("CONFIG", "SET", "maxmemory", "0")
    try cluster.waitForNewGeneration(after: before, because: Self.gone)
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  @Test("A policy that evicts only keys with a time to live leaves the state alone")
  func volatile() throws {
    let cluster = try Cluster()
    let before = try cluster.generation()
    try cluster.warm(1)
    let redis = cluster.redis
    try redis.cli("SET", "junk", "x", "EX", "600")
    try redis.cli("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    try redis.cli("CONFIG", "SET", "maxmemory", "1000000")
    try cluster.change(1)
    try cluster.settle()
    try cluster.expectMiss(1)
    try redis.cli("CONFIG", "SET", "maxmemory", "0")
    #expect(try cluster.generation() == before)
    try cluster.expectSound()
  }

  @Test("A full Redis refuses fills, with its own error, and still forgets what changes")
  func full() throws {
    let cluster = try Cluster()
    let before = try cluster.generation()
    try cluster.warm(1)
    let redis = cluster.redis
    try redis.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    try redis.cli("CONFIG", "SET", "maxmemory", "1000000")
    let client = try cluster.hosts[0].client()
    #expect(try client.call("GET", cluster.key(2)) == nil)
    let error = try client.call("SET", cluster.key(2), "x").errorText
    #expect(error?.hasPrefix("OOM") == true, "\(error ?? "none")")
    let lease = try client.call("NEARSIDE", "LEASE", cluster.key(3)).elements?.last?.text
    let refused = try client.call("NEARSIDE", "FILL", cluster.key(3), lease ?? "", "x")
    #expect(refused.errorText?.hasPrefix("OOM") == true || refused == 0, "\(refused)")
    try cluster.change(1)
    try cluster.settle()
    try cluster.expectMiss(1)
    #expect(try redis.cli("EXISTS", cluster.key(1)) == "0")
    try redis.cli("CONFIG", "SET", "maxmemory", "0")
    #expect(try cluster.generation() == before)
    try cluster.expectSound()
  }

  @Test("A Redis that cannot write its file refuses writes: the bound holds, and it comes back")
  func misconfigured() throws {
    var options = Cluster.Options()
    options.bound = 1000
    let cluster = try Cluster(options)
    let redis = cluster.redis
    try cluster.warm(1)
    // A folder in the place of the file makes every background save fail.
    try succeed(["mkdir", redis.folder.file("dump.rdb")])
    try redis.cli("CONFIG", "SET", "save", "3600 1")
    try redis.cli("BGSAVE")
    try eventually("the save failed") { try redis.info("persistence", "rdb_last_bgsave_status") == "err" }
    try cluster.change(1)
    let changed = bootMoment()
    try cluster.expectBounded(1, from: changed)
    try redis.cli("CONFIG", "SET", "save", "")
    rmdir(redis.folder.file("dump.rdb"))
    try cluster.waitUntilWell()
    try cluster.settle()
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }
}
