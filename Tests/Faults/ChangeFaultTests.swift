import TestSupport
import Testing

@Suite("Changes that are larger or stranger than most")
struct ChangeFaultTests {
  @Test("DDL in mid-stream is noticed, each statement once, and the fleet is well again soon")
  func definitions() throws {
    let cluster = try Cluster()
    try cluster.warm(1)
    let before = try cluster.generation()
    try cluster.sql(
      """
      ALTER TABLE kv ADD COLUMN extra int DEFAULT 7;
      UPDATE kv SET v = v + 1 WHERE id = 1;
      ALTER TABLE kv DROP COLUMN extra;
      ALTER TABLE kv ALTER COLUMN note TYPE varchar USING note || '';
      """)
    let done = bootMoment()
    try cluster.waitForNewGeneration(after: before, because: "definition")
    try cluster.waitUntilWell(since: done, within: .seconds(5))
    try cluster.settle()
    try cluster.expectMiss(1)
    sleep(.seconds(2))
    // No more generations than statements: none is begun for a change that is known already.
    let log = cluster.hosts.map { $0.sidecar.log }.joined().split(separator: "\n")
    let begun = log.filter { $0.contains("new generation ") && $0.contains("definition") }
    #expect(begun.count <= 3, "\(begun.joined(separator: "\n"))")
    try cluster.expectSound()
  }

  @Test("TRUNCATE forgets everything")
  func truncate() throws {
    var options = Cluster.Options()
    options.tables = #""kv": "kv:{id}", "big": "big:{id}""#
    options.schema =
      "CREATE TABLE big (id int PRIMARY KEY, n int NOT NULL DEFAULT 0); INSERT INTO big VALUES (1);"
    let cluster = try Cluster(options)
    let before = try cluster.generation()
    try cluster.warm(1)
    try cluster.sql("TRUNCATE big")
    try cluster.waitForNewGeneration(after: before, because: "truncated")
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }

  /// The bound of keys a transaction may have is 100,000.
  @Test(
    "A transaction of a million rows costs a generation, a smaller one its keys; until then nothing looks fresh"
  )
  func many() throws {
    var options = Cluster.Options()
    options.bound = 1000
    options.tables = #""kv": "kv:{id}", "big": "big:{id}""#
    options.schema = """
      CREATE TABLE big (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
      INSERT INTO big SELECT n FROM generate_series(1, 1000000) n;
      """
    let cluster = try Cluster(options)
    for (rows, costs) in [(20_000, false), (1_000_000, true)] {
      let before = try cluster.generation()
      try cluster.warm(1)
      try cluster.hosts[0].store(cluster.key("big:7"), "before")
      try cluster.sql(
        "BEGIN; UPDATE big SET n = n + 1 WHERE id <= \(rows); UPDATE kv SET v = v + 1 WHERE id = 1; COMMIT")
      let changed = bootMoment()
      try cluster.expectBounded(1, from: changed)
      if costs {
        try cluster.waitForNewGeneration(after: before, because: "more than", within: .seconds(120))
      } else {
        try cluster.waitUntilWell(since: changed, within: .seconds(30))
        #expect(try cluster.generation() == before)
      }
      try cluster.settle()
      try cluster.expectMiss(1)
      for host in cluster.hosts { #expect(try host.get(cluster.key("big:7")) == nil) }
    }
    try cluster.expectSound()
  }
}

@Suite("Definitions that change what rows a rule hears of")
struct DefinitionFaultTests {
  private func cluster(_ schema: String) throws -> Cluster {
    var options = Cluster.Options()
    options.bound = 1000
    options.tables = #""kv": "kv:{id}", "parted": "parted:{id}""#
    options.schema = "CREATE TABLE parted (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);" + schema
    return try Cluster(options)
  }

  private static let halves = """
    CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (100);
    INSERT INTO parted VALUES (7, 1);
    """

  @Test("A partition that is taken out, or put in, moves rows without a word: a new generation")
  func partitions() throws {
    let cluster = try cluster(Self.halves)
    let key = cluster.key("parted:7")
    for statement in [
      "ALTER TABLE parted DETACH PARTITION low",
      "UPDATE low SET n = 2; ALTER TABLE parted ATTACH PARTITION low FOR VALUES FROM (0) TO (100)",
    ] {
      let before = try cluster.generation()
      try cluster.hosts[0].store(key, "before")
      for host in cluster.hosts { #expect(try host.get(key) == "before") }
      try cluster.sql(statement)
      try cluster.waitForNewGeneration(after: before, because: "definition")
      for host in cluster.hosts { #expect(try host.get(key) == nil, "\(statement)") }
    }
    // The leaf is heard again.
    try cluster.hosts[0].store(key, "before")
    try cluster.sql("UPDATE parted SET n = 3")
    try cluster.settle()
    for host in cluster.hosts { #expect(try host.get(key) == nil) }
    try cluster.expectSound()
  }

  @Test("A new leaf is heard from its first row on")
  func newLeaf() throws {
    let cluster = try cluster(Self.halves)
    let key = cluster.key("parted:150")
    let before = try cluster.generation()
    try cluster.hosts[0].store(key, "none")
    try cluster.sql("CREATE TABLE high PARTITION OF parted FOR VALUES FROM (100) TO (200)")
    try cluster.sql("INSERT INTO parted VALUES (150, 1)")
    try cluster.settle()
    for host in cluster.hosts { #expect(try host.get(key) == nil) }
    // The catalogue is looked at once a second.
    try cluster.waitForNewGeneration(after: before, because: "definition")
    try cluster.expectSound()
  }

  @Test("A table in the place of another under the same name is not taken for it")
  func swapped() throws {
    let cluster = try Cluster()
    try cluster.warm(1)
    try cluster.sql(
      """
      BEGIN;
      ALTER TABLE kv RENAME TO kv_old;
      CREATE TABLE kv (LIKE kv_old INCLUDING ALL);
      INSERT INTO kv SELECT id, v + 1, op, note FROM kv_old;
      COMMIT;
      """)
    let swapped = bootMoment()
    try cluster.expectBounded(1, from: swapped)
    try eventually("the trouble is told", within: .seconds(10)) {
      try cluster.hosts.contains { try $0.status()["trouble"]?.contains("kv") == true }
    }
    try cluster.setUp()
    try cluster.waitUntilWell()
    try cluster.expectMiss(1)
    try cluster.expectSound()
  }
}
