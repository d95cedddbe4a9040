import Glibc
import TestSupport
import Testing

@Suite("Sidecars that die and sidecars that stand still")
struct SidecarFaultTests {
  @Test("The tailer is killed again and again under writes: nothing is lost, and nothing is in doubt")
  func killTailer() throws {
    let cluster = try Cluster()
    let generation = try cluster.generation()
    let writer = try cluster.postgres.background(
      (1...400).map { "UPDATE kv SET v = v + 1 WHERE id = \($0 % 50 + 1);" }.joined()
        + "SELECT pg_sleep(0.1); UPDATE kv SET v = v + 1 WHERE id <= 50;", database: cluster.database)
    for turn in 1...3 {
      let tailer = try cluster.waitForTailer()
      try cluster.warm(60 + turn)
      tailer.kill()
      try cluster.change(60 + turn)
      try tailer.start()
    }
    #expect(try writer.wait() == .code(0))
    try cluster.waitUntilWell()
    try cluster.settle()
    for turn in 1...3 { try cluster.expectMiss(60 + turn, "turn \(turn)") }
    #expect(try cluster.generation() == generation)
    try cluster.expectSound()
  }

  @Test("A killed follower starts with nothing and hides nothing from the others")
  func killFollower() throws {
    let cluster = try Cluster()
    try cluster.warm(1)
    try cluster.warm(2)
    let follower = try cluster.follower()
    follower.kill()
    try cluster.change(1)
    try follower.start()
    try cluster.waitUntilWell()
    try cluster.settle()
    try cluster.expectMiss(1)
    try cluster.expectKept(2)
    try cluster.expectSound()
  }

  @Test("All sidecars are killed at once: what changed while there were none is gone when they are back")
  func killAll() throws {
    let cluster = try Cluster()
    let generation = try cluster.generation()
    try cluster.warm(1)
    try cluster.warm(2)
    cluster.hosts.forEach { $0.kill() }
    try cluster.change(1)
    for host in cluster.hosts { try host.start() }
    try cluster.waitUntilWell()
    try cluster.settle()
    try cluster.expectMiss(1)
    try cluster.expectKept(2)
    #expect(try cluster.generation() == generation)
  }

  @Test(
    "A follower that stood still for longer than the bound serves nothing from before when it is read at once"
  )
  func stopFollower() throws {
    var options = Cluster.Options()
    options.bound = 1000
    let cluster = try Cluster(options)
    try cluster.warm(1)
    try cluster.warm(2)
    let follower = try cluster.follower()
    // The requests lie in its socket when it wakes up: they are the first that it sees.
    let waiting = try (0..<20).map { _ in try follower.client() }
    follower.freeze()
    try cluster.change(1)
    sleep(.milliseconds(1300))
    for client in waiting {
      try client.send("GET", cluster.key(1))
      try client.send("GET", cluster.key(2))
    }
    let bypassed = follower
    follower.thaw()
    for client in waiting { #expect(try client.receive() == nil) }
    #expect(try bypassed.count("bypassed") > 0)
    try cluster.waitUntilWell()
    // What did not change is there again as soon as there is evidence.
    try cluster.expectKept(2)
    try cluster.expectSound()
  }

  @Test(
    "A tailer that stood still while another took over writes nothing more, and serves nothing from before")
  func stopTailer() throws {
    var options = Cluster.Options()
    options.bound = 1000
    let cluster = try Cluster(options)
    try cluster.warm(1)
    let old = try cluster.waitForTailer()
    let other = try cluster.follower()
    let holder = try cluster.slotHolder()
    old.freeze()
    let frozen = bootMoment()
    try cluster.change(1)
    // PostgreSQL itself waits for 5 s of silence (wal_sender_timeout).
    try eventually("the other host tails", within: .seconds(12)) { try other.status()["role"] == "tailer" }
    #expect(bootMoment() - frozen < .seconds(10))
    #expect(try cluster.slotHolder() != holder)
    try cluster.settle(other)
    #expect(try other.get(cluster.key(1)) == nil)
    try other.store(cluster.key(1), "after")
    old.thaw()
    let first = try old.get(cluster.key(1))
    #expect(first != "before", "\(first)")
    try cluster.waitUntilWell()
    try eventually("it follows") { try old.status()["role"] == "follower" }
    try cluster.expectKept(1, "after")
    try cluster.expectSound()
  }

  @Test("A tailer that stands still shorter than that goes on where it was")
  func stopTailerBriefly() throws {
    let cluster = try Cluster()
    let generation = try cluster.generation()
    try cluster.warm(1)
    let tailer = try cluster.waitForTailer()
    tailer.freeze()
    try cluster.change(1)
    sleep(.milliseconds(1500))
    tailer.thaw()
    try cluster.settle()
    try cluster.expectMiss(1)
    #expect(try cluster.generation() == generation)
    #expect(try cluster.waitForTailer().number == tailer.number)
  }

  /// It answers PostgreSQL, which so sees no reason to end its walsender, and stores no beat. It gives the
  /// slot up by itself soon, and lets the others try first.
  @Test("A tailer that no longer reaches Redis is relieved by another within 5 s")
  func silentTailer() throws {
    let cluster = try Cluster()
    let before = try cluster.generation()
    try cluster.warm(1)
    let old = try cluster.waitForTailer()
    let other = try cluster.follower()
    old.redisLink.freeze()
    try cluster.change(1)
    let changed = bootMoment()
    try cluster.expectBounded(1, on: [other], from: changed)
    try eventually("the other host tails") { try other.status()["role"] == "tailer" }
    #expect(bootMoment() - changed < .seconds(5))
    // A read of this one may wait for Redis as long as `redis.timeout`.
    try cluster.expectBounded(1, on: [old], from: changed)
    try cluster.settle(other)
    #expect(try other.get(cluster.key(1)) == nil)
    try other.store(cluster.key(1), "after")
    old.redisLink.heal()
    #expect(try old.get(cluster.key(1)) != "before")
    try cluster.waitUntilWell()
    try cluster.settle()
    try cluster.expectKept(1, "after")
    #expect(try cluster.generation() == before)
    try cluster.expectSound()
  }

  @Test("A sidecar that does not reach Redis leaves the slot to others, also while nobody holds it")
  func deafStandby() throws {
    let cluster = try Cluster()
    let before = try cluster.generation()
    let tailer = try cluster.waitForTailer()
    let deaf = try cluster.follower()
    deaf.redisLink.freeze()
    tailer.kill()
    let killed = bootMoment()
    try eventually("the slot is free") { try cluster.slotHolder() == nil }
    // It looks for a free slot once a second, so it has had its chances.
    var holder: String?
    while holder == nil, bootMoment() - killed < .seconds(4) {
      holder = try cluster.slotHolder()
      sleep(.milliseconds(2))
    }
    #expect(holder == nil)
    try tailer.start()
    try eventually("the one that reaches Redis tails", within: .seconds(5)) {
      try tailer.status()["role"] == "tailer"
    }
    deaf.redisLink.heal()
    try cluster.waitUntilWell()
    #expect(try cluster.generation() == before)
    try cluster.expectSound()
  }
}
