import CLinux
import Configuration
import Glibc
import Invalidation
import Logging
import Synchronization
import TestSupport

@testable import Server

/// An event loop in the embedded mode, on a thread of this process, with a tail that the test itself plays.
final class EmbeddedSidecar: Sendable {
  let folder: TemporaryFolder
  let path: String
  let mailbox: LoopMailbox
  private let worker: Mutex<Worker.Handle?>

  private enum Start: Equatable { case pending, running, failed(String) }
  private final class Starting: Sendable { let state = Mutex(Start.pending) }

  /// `page`: how stale keys of the form `page:<id>` may be. Keys are these and `user:<id>`, kept for as long as they were set; `short:<id>`, kept for an hour
  /// at most; and `far:<id>`, which may not be kept near.
  init(
    bound: Duration = .seconds(3600), beyond: StalenessSettings.Beyond = .bypass,
    plainSet: PlainSetSettings = PlainSetSettings(mode: .window, window: 10_000_000_000),
    near: NearSettings = NearSettings(size: 16 << 20, maxEntry: 1 << 20, ttl: nil),
    leaseWait: UInt64 = 20_000_000, page: StalenessSettings? = nil, folder: TemporaryFolder? = nil,
    threads: Int = 1
  ) throws {
    self.folder = try folder ?? TemporaryFolder()
    path = self.folder.file("s")
    let settings = try Self.settings(path, bound, beyond, plainSet, near, leaseWait, page, threads)
    guard let mailbox = LoopMailbox() else { throw HarnessError("no eventfd") }
    self.mailbox = mailbox
    let starting = Starting()
    let handle = Worker.start("test-loop") {
      do throws(ListenError) {
        var loop = try EventLoop(
          settings: settings, listener: ListenSocket(settings.listen), mailbox: mailbox,
          log: Logger(label: "test"), version: "0.0.0-test")
        starting.state.withLock { $0 = .running }
        loop.run()
      } catch {
        starting.state.withLock { $0 = .failed(error.description) }
      }
    }
    worker = Mutex(handle)
    let state = try eventually("the loop runs") {
      starting.state.withLock { $0 }
    } until: {
      $0 != .pending
    }
    if case .failed(let reason) = state { throw HarnessError(reason) }
  }

  deinit { stop() }

  /// Ends the loop and waits for its thread.
  func stop() {
    guard let handle = worker.withLock({ $0.take() }) else { return }
    mailbox.stop()
    handle.join()
  }

  func client() throws -> RESPClient { try RESPClient(path) }

  private static func settings(
    _ path: String, _ bound: Duration, _ beyond: StalenessSettings.Beyond, _ plainSet: PlainSetSettings,
    _ near: NearSettings, _ leaseWait: UInt64, _ page: StalenessSettings?, _ threads: Int
  ) throws -> Settings {
    let place = SourcePlace(line: 1, column: 1, length: 1)
    let texts = ["user:{id}", "page:{id}", "short:{id}", "far:{id}"]
    let templates = try texts.map { try KeyTemplate.parse($0, place: place) }
    let table = TableRule(
      schema: "public", name: "users", keys: templates, columns: nil,
      operations: Set(RowOperation.allCases), place: place)
    let caches = [
      CacheRule(
        template: templates[2], near: CacheRule.NearRule(ttl: 3_600_000_000_000), plainSet: plainSet),
      CacheRule(template: templates[3], near: nil, plainSet: plainSet),
      CacheRule(
        template: templates[1], near: CacheRule.NearRule(ttl: near.ttl), plainSet: plainSet,
        staleness: page),
    ]
    return Settings(
      namespace: nil,
      postgres: PostgresSettings(
        url: Secret(""), password: nil, publication: "p", slot: SlotSettings(name: "s", mode: .temporary)),
      redis: nil, listen: ListenSettings(path: path, mode: 0o600, group: nil), threads: threads, near: near,
      staleness: StalenessSettings(bound: UInt64(bound.milliseconds * 1e6), beyond: beyond),
      plainSet: plainSet, leaseWait: leaseWait, journal: JournalSettings(keep: 60_000_000_000, size: 1 << 24),
      log: LogSettings(level: .error, format: .text), tables: [table], caches: caches,
      mappingHash: "0000000000000000")
  }
}

/// The tail's side: what a test lets PostgreSQL's log say.
struct Tail: ~Copyable {
  private var sink: LocalSink
  private(set) var generation = Generation(0)
  private(set) var position = LSN(0x1000)
  private var count: UInt64 = 0

  init(_ sidecar: EmbeddedSidecar) { sink = LocalSink(mailbox: sidecar.mailbox) }

  /// A new generation, and the first beat of it.
  mutating func begin() throws {
    try beginWithoutBeat()
    try beat()
  }

  mutating func beginWithoutBeat() throws {
    generation = Generation.random()
    count = 0
    try sink.send(
      .newGeneration(
        token: "t", old: nil, new: generation, server: ServerIdentity(systemID: "1", timeline: 1),
        mapping: "0000000000000000", applied: position,
        visible: position, watching: false))
    guard try reply() == .began else { throw HarnessError("no generation was begun") }
  }

  mutating func beat() throws { try apply([], beat: true) }

  /// A transaction that changed the rows of these keys.
  mutating func change(_ keys: String...) throws {
    position = LSN(position.rawValue + 0x100)
    try apply(keys, beat: true)
  }

  /// The same before any snapshot shows the transaction; a beat makes it visible.
  mutating func applyInvisibly(_ keys: String...) throws {
    let visible = position
    position = LSN(position.rawValue + 0x100)
    try apply(keys, beat: false, visible: visible)
  }

  private mutating func apply(_ keys: [String], beat: Bool, visible: LSN? = nil) throws {
    let visible = visible ?? position
    var batch = KeyBatch()
    for key in keys { Array(key.utf8).withUnsafeBytes { batch.append($0, table: 0) } }
    batch.complete(through: position)
    let check = WriteCheck(token: "t", generation: generation, count: count)
    count += 1
    let asked = Instant(nanoseconds: clinux_boot_nanoseconds())
    try sink.apply(
      ApplyRequest(
        check: check, applied: position, visible: visible, fence: position,
        sampled: beat ? asked : nil),
      keys: batch, chunk: 0..<batch.completeCount)
    guard try reply() == .applied(W: position, V: visible, generationAsked: false) else {
      throw HarnessError("the transaction was not applied")
    }
  }

  private mutating func reply() throws -> StateReply {
    var answer: StateReply?
    let deadline = ContinuousClock().now.advanced(by: .seconds(10))
    while answer == nil, ContinuousClock().now < deadline {
      answer = try sink.receive()
      if answer == nil {
        var waiting = pollfd(fd: sink.descriptor, events: Int16(POLLIN), revents: 0)
        _ = poll(&waiting, 1, 1000)
      }
    }
    guard let answer else { throw HarnessError("the loop did not answer the tail") }
    return answer
  }
}

/// A sidecar whose tail has begun, and a client of it: where most tests start.
final class EmbeddedStage {
  let sidecar: EmbeddedSidecar
  var tail: Tail
  let client: RawClient

  init(plainSet: PlainSetSettings? = nil, bound: Duration? = nil, beyond: StalenessSettings.Beyond = .bypass)
    throws
  {
    let window = PlainSetSettings(mode: .window, window: 10_000_000_000)
    sidecar = try EmbeddedSidecar(
      bound: bound ?? .seconds(3600), beyond: beyond, plainSet: plainSet ?? window)
    tail = Tail(sidecar)
    client = try RawClient(sidecar.path)
    try tail.begin()
  }

  deinit { sidecar.stop() }
}
