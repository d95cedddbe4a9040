import CLinux
import Configuration
import Glibc
import Invalidation
import Logging
import Synchronization
import TestSupport

@testable import Server

/// An event loop in front of a real Redis, whose tailer and feed the test plays itself.
final class RelaySidecar {
  let redis: RedisServer
  let folder: TemporaryFolder
  let path: String
  let mailbox: LoopMailbox
  private let worker: Worker.Handle
  private var direct: RESPClient
  private let meta = StateKeys(namespace: "").meta
  private var beats: UInt64 = 0
  private(set) var position: UInt64 = 0x100

  private enum Start: Equatable { case pending, running, failed(String) }
  private final class Starting: Sendable { let state = Mutex(Start.pending) }

  /// Keys are `user:<id>` and `page:<id>`; `page`: what is special about the latter; `caches`: about others.
  init(
    bound: UInt64 = 3_600_000_000_000, beyond: StalenessSettings.Beyond = .bypass,
    page: StalenessSettings? = nil, window: UInt64 = 10_000_000_000, timeout: UInt64 = 5_000_000_000,
    leaseWait: UInt64 = 20_000_000, caches: [CacheRule] = [], trackedKeys: Int = 1_000_000,
    sql: ((LoopMailbox) -> any SQLRunner)? = nil
  ) throws {
    let redis = try RedisServer()
    self.redis = redis
    let folder = try TemporaryFolder()
    self.folder = folder
    path = folder.file("s")
    guard let mailbox = LoopMailbox() else { throw HarnessError("no eventfd") }
    self.mailbox = mailbox
    direct = try redis.client()
    let place = SourcePlace(line: 1, column: 1, length: 1)
    let templates = try ["user:{id}", "page:{id}"].map { try KeyTemplate.parse($0, place: place) }
    let plainSet = PlainSetSettings(mode: .window, window: window)
    let pageRule = CacheRule(
      template: templates[1], near: CacheRule.NearRule(ttl: nil), plainSet: plainSet, staleness: page)
    let table = TableRule(
      schema: "public", name: "users", keys: templates,
      columns: nil, operations: Set(RowOperation.allCases), place: place)
    let settings = Settings(
      namespace: nil,
      postgres: PostgresSettings(
        url: Secret(""), password: nil, publication: "p", slot: SlotSettings(name: "s", mode: .durable)),
      redis: RedisSettings(
        endpoint: .unix(path: redis.socket), user: nil, password: nil, database: 0, timeout: timeout),
      listen: ListenSettings(path: path, mode: 0o600, group: nil),
      clients: ClientSettings(trackedKeys: trackedKeys),
      near: NearSettings(size: 16 << 20, maxEntry: 1 << 20, ttl: nil),
      staleness: StalenessSettings(bound: bound, beyond: beyond),
      plainSet: plainSet,
      leaseWait: leaseWait, journal: JournalSettings(keep: 60_000_000_000, size: 1 << 24),
      log: LogSettings(level: .error, format: .text), tables: [table],
      caches: caches + (page == nil ? [] : [pageRule]),
      mappingHash: "0000000000000000")
    let runner = sql?(mailbox)
    let starting = Starting()
    let handle = Worker.start("test-loop") {
      do throws(ListenError) {
        var loop = try EventLoop(
          settings: settings, listener: ListenSocket(settings.listen), mailbox: mailbox, sql: runner,
          log: Logger(label: "test"), version: "0.0.0-test")
        starting.state.withLock { $0 = .running }
        loop.run(drain: 0)
      } catch {
        starting.state.withLock { $0 = .failed(error.description) }
      }
    }
    guard let handle else { throw HarnessError("no thread") }
    worker = handle
    let state = try eventually("the loop runs") {
      starting.state.withLock { $0 }
    } until: {
      $0 != .pending
    }
    if case .failed(let reason) = state { throw HarnessError(reason) }
    try eventually("both connections to Redis are ready") {
      let client = try self.client()
      guard try client.call("GET", "plain").errorText == nil else { return false }
      try client.call("HELLO", "3")
      return try client.call("GET", "plain").errorText == nil
    }
    try begin(Generation(0xa1))
  }

  deinit {
    redis.resume()
    mailbox.stop()
    worker.join()
  }

  func client() throws -> RESPClient { try RESPClient(path) }

  /// A new generation, cleared, with evidence.
  func begin(_ generation: Generation, cleared: Bool = true) throws {
    beats = 0
    direct = try redis.client()
    let zero = String(repeating: "0", count: 16)
    try direct.call("DEL", meta)
    try direct.call(
      "HSET", meta, "g", generation.hex, "c", cleared ? generation.hex : zero, "h", "0", "W",
      LSN(position).hex, "V", LSN(position).hex, "F", LSN(0x100).hex + zero, "d", zero, "dc", "0", "jl",
      "0-0", "wt", "0", "cfg", "0000000000000000", "s", "0", "n", "0", "tok", "t", "ep", "1")
    try beat()
    try beat()
    try beat()
  }

  /// A beat of the tailer, and a poll that sees it.
  func beat() throws {
    try direct.call("HINCRBY", meta, "h", "2")
    beats += 2
    try poll()
  }

  /// What the feed would say now; returns when the loop has heard it.
  func poll() throws {
    let asked = Instant(nanoseconds: clinux_boot_nanoseconds())
    let fields = try direct.call(["HMGET", meta] + FleetState.fieldNames).elements ?? []
    mailbox.hear(.state(FleetState(fields: fields.map(\.text)), asked: asked))
    let client = try client()
    // The mailbox is emptied in the poll that sees it, before or after this client's first command.
    for _ in 0..<2 { try client.call("PING") }
  }

  /// A transaction that changed the row of `key`; near copies are taken to have none.
  func change(_ key: String) throws {
    try apply(key)
    try makeVisible()
    try beat()
  }

  /// The same before any snapshot shows the transaction.
  func apply(_ key: String) throws {
    position += 0x100
    var text = key
    let bucket = text.withUTF8 { KeyHash.bucket(UnsafeRawBufferPointer($0)) }
    let zero = String(repeating: "0", count: 16)
    try direct.call("HSET", meta, "b\(bucket)", LSN(position).hex + zero, "W", LSN(position).hex)
    try direct.call("UNLINK", key)
  }

  /// Every transaction is visible.
  func makeVisible() throws { try direct.call("HSET", meta, "V", LSN(position).hex) }

  /// Waits until so many answers have been held back since the start.
  func waitUntilHeld(_ count: Int) throws {
    try eventually("\(count) answers are held back") { try status("misses_held") == String(count) }
  }

  /// Waits until the evidence is older than so many milliseconds.
  func waitUntilOld(_ milliseconds: Int) throws {
    try eventually("the evidence is old") {
      (try status("staleness_ms").flatMap { Int($0) } ?? 0) > milliseconds
    }
  }

  /// A lease as of now, as NEARSIDE LEASE would give it.
  func lease() throws -> String {
    let fields = try direct.call("HMGET", meta, "g", "V", "d").elements ?? []
    return fields.compactMap(\.text).joined()
  }

  func count(_ name: String) throws -> Int { try status(name).flatMap { Int($0) } ?? 0 }

  func status(_ name: String) throws -> String? {
    let text = try client().call("NEARSIDE", "STATUS").text ?? ""
    return text.split(separator: "\n").first { $0.hasPrefix(name + ":") }.map {
      String($0.dropFirst(name.utf8.count + 1))
    }
  }
}
