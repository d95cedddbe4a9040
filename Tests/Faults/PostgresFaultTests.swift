import Glibc
import TestSupport
import Testing

@Suite("A PostgreSQL that goes, comes back, and may have lost commits")
struct PostgresFaultTests {
  static let crashed = "PostgreSQL has crashed, failed over or been restored"

  @Test("A clean restart is no reason for doubt: what did not change is kept")
  func restart() throws {
    let cluster = try Cluster()
    let before = try cluster.generation()
    try cluster.warm(1)
    try cluster.warm(2)
    try cluster.postgres.restart(.fast)
    try cluster.change(1)
    try cluster.waitUntilWell()
    try cluster.settle()
    try cluster.expectMiss(1)
    try cluster.expectKept(2)
    #expect(try cluster.generation() == before)
    try cluster.expectSound()
  }

  enum Crash: String, CaseIterable, CustomTestStringConvertible {
    case server = "kill -9 of the server"
    case backend = "kill -9 of a backend"
    case immediate = "immediate shutdown"
    var testDescription: String { rawValue }

    func act(_ cluster: Cluster) throws {
      let server = cluster.postgres
      switch self {
      case .server:
        server.kill()
        try server.start()
      case .backend:
        try cluster.killBackend()
        try eventually("it has recovered", within: .seconds(30)) { try server.psql("SELECT 1") == "1" }
      case .immediate:
        try server.stop(.immediate)
        try server.start()
      }
    }
  }

  /// A commit with `synchronous_commit = off` is visible before it is in the log on disk. The tailer would have it
  /// flushed with its next beat, so it stands still meanwhile.
  @Test("A value read from a commit that a crash then lost is served no more", arguments: Crash.allCases)
  func lostCommit(crash: Crash) throws {
    var options = Cluster.Options()
    options.bound = 5000
    options.postgres = ["wal_writer_delay": "'10s'", "checkpoint_timeout": "'1h'"]
    let cluster = try Cluster(options)
    let tailer = try cluster.waitForTailer()
    let other = try cluster.follower()
    // PostgreSQL's own writer may flush it by chance.
    for id in 1...5 {
      let before = try cluster.generation()
      tailer.freeze()
      try cluster.sql("SET synchronous_commit = off; UPDATE kv SET v = v + 1 WHERE id = \(id)")
      try other.store(cluster.key(id), "phantom")
      #expect(try other.get(cluster.key(id)) == "phantom")
      try crash.act(cluster)
      let isLost = try cluster.sql("SELECT v FROM kv WHERE id = \(id)") == "0"
      tailer.thaw()
      try cluster.waitForNewGeneration(after: before, because: Self.crashed)
      try cluster.expectMiss(id)
      if isLost { return try cluster.expectSound() }
    }
    Issue.record("no commit was lost")
  }

  @Test("A promoted standby that lacks commits: nothing that was read of them is served")
  func promotionWithLoss() throws {
    var options = Cluster.Options()
    options.standby = true
    let cluster = try Cluster(options)
    let before = try cluster.generation()
    try cluster.warm(1)
    let standby = try #require(cluster.standby)
    standby.link.freeze()
    try cluster.change(1)
    try cluster.settle()
    try cluster.warm(1, "phantom")
    try cluster.failOverPostgres()
    #expect(try cluster.sql("SELECT v FROM kv WHERE id = 1") == "0")
    try cluster.waitForNewGeneration(after: before, because: "replication slot")
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  @Test("A promoted standby that has everything is a new beginning all the same")
  func promotion() throws {
    var options = Cluster.Options()
    options.standby = true
    let cluster = try Cluster(options)
    let before = try cluster.generation()
    try cluster.warm(1)
    try cluster.waitForStandby()
    try cluster.failOverPostgres()
    try cluster.waitForNewGeneration(after: before, because: "replication slot")
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  @Test("A host that still talks to the abandoned primary does not lead the fleet back to it")
  func abandonedPrimary() throws {
    var options = Cluster.Options()
    options.standby = true
    options.bound = 1000
    let cluster = try Cluster(options)
    let before = try cluster.generation()
    let tailer = try cluster.waitForTailer()
    let left = try cluster.follower()
    try cluster.warm(1)
    let old = cluster.postgres
    try cluster.promoteStandby()
    cluster.repoint(tailer)
    try cluster.change(1)
    try eventually("the new primary is followed", within: .seconds(20)) {
      try tailer.status()["role"] == "tailer" && tailer.generation() != before
    }
    // It finds a slot that nobody holds, and a state that has gone on without it.
    try eventually("the host that was left says so", within: .seconds(20)) {
      try left.status()["trouble"]?.contains("abandoned primary") == true
    }
    try cluster.settle(tailer)
    let generation = try tailer.generation()
    try old.psql("UPDATE kv SET v = v + 100 WHERE id = 2", database: cluster.database)
    try cluster.change(2)
    try cluster.settle(tailer)
    sleep(.seconds(2))
    #expect(try tailer.generation() == generation)
    #expect(try tailer.status()["role"] == "tailer")
    // Its cache follows the fleet through Redis.
    try cluster.settle()
    try cluster.expectMiss(1)
    cluster.repoint(left)
    try cluster.expectSound()
  }

  @Test("PostgreSQL stands still: near hits end with the bound, and come back with it")
  func standsStill() throws {
    var options = Cluster.Options()
    options.bound = 1000
    let cluster = try Cluster(options)
    let before = try cluster.generation()
    try cluster.warm(1)
    cluster.postgres.pause()
    let paused = bootMoment()
    try cluster.expectBounded(1, from: paused)
    cluster.postgres.resume()
    try cluster.waitUntilWell()
    try cluster.expectKept(1)
    #expect(try cluster.generation() == before)
    try cluster.expectSound()
  }

  @Test("A data directory that is put back to an old copy makes a new generation")
  func restored() throws {
    let cluster = try Cluster()
    try cluster.warm(1)
    let server = cluster.postgres
    for host in cluster.hosts { try host.sidecar.terminate() }
    try server.stop()
    try succeed(["cp", "-a", server.data, server.folder.file("copy")])
    try server.start()
    for host in cluster.hosts { try host.start() }
    try cluster.waitUntilWell()
    let before = try cluster.generation()
    try cluster.change(1)
    try cluster.settle()
    try cluster.warm(1, "phantom")
    for host in cluster.hosts { try host.sidecar.terminate() }
    try server.stop()
    try succeed(["rm", "-rf", server.data])
    try succeed(["mv", server.folder.file("copy"), server.data])
    try server.start()
    #expect(try cluster.sql("SELECT v FROM kv WHERE id = 1") == "0")
    for host in cluster.hosts { try host.start() }
    try cluster.waitForNewGeneration(after: before, because: "PostgreSQL's log ends at")
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }
}
