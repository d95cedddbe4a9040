import Glibc
import TestSupport
import Testing

/// One transaction of very many rows must not make the sidecar large.
@Suite("Huge transactions")
struct HugeTransactionTests {
  private static var isLong: Bool { getenv("NEARSIDE_TEST_ALL") != nil }

  /// The largest resident memory that the process has had, in bytes. Source: proc(5).
  private func peak(_ sidecar: Sidecar) throws -> Int {
    let pid = try #require(sidecar.pid)
    let line = (readFile("/proc/\(pid)/status") ?? "").split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
    let kilobytes = line.flatMap { Int($0.split(whereSeparator: \.isWhitespace)[1]) }
    return try #require(kilobytes) * 1024
  }

  private func change(_ world: World, _ sql: String) throws {
    let url = try #require(world.environment["DATABASE_URL"])
    try succeed(["psql", "-X", "-q", "-c", sql, "-d", url], within: .seconds(600))
  }

  @Test(
    "A million rows (ten million with --all) in one transaction cost a new generation and less than 32 MB")
  func rows() throws {
    let world = try World(postgres: PostgresServer(settings: ["max_wal_size": "'4GB'"]))
    let sidecar = try world.sidecar()
    let before = try (generation: sidecar.status()["generation"], bytes: peak(sidecar))
    let rows = Self.isLong ? 10_000_000 : 1_000_000
    try change(world, "INSERT INTO products SELECT n, NULL, 1 FROM generate_series(1000, \(rows + 999)) n")
    let end = try world.psql("SELECT pg_current_wal_lsn()")
    let client = try sidecar.client(timeout: .seconds(900))
    #expect(try client.call("NEARSIDE", "WAIT", end, "900000") == 1)
    #expect(try sidecar.status()["generation"] != before.generation)
    let grown = try peak(sidecar) - before.bytes
    print("\(rows) rows: \(grown / 1_000_000) MB more")
    #expect(grown < 32_000_000)
  }

  @Test("Keys that a transaction names again and again are kept once")
  func repeats() throws {
    let world = try World(postgres: PostgresServer())
    let sidecar = try world.sidecar()
    let before = try (generation: sidecar.status()["generation"], bytes: peak(sidecar))
    // 200,000 changes of 100 rows; more keys than that would be a new generation.
    try change(
      world, "DO $$ BEGIN FOR n IN 1..2000 LOOP UPDATE products SET stock = stock + 1; END LOOP; END $$")
    try world.settle(sidecar)
    #expect(try sidecar.status()["generation"] == before.generation)
    #expect(try peak(sidecar) - before.bytes < 32_000_000)
  }
}
