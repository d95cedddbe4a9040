import Configuration
import Foundation
import Glibc
import TestSupport
import Testing

@testable import Postgres

/// Turns a pool as its thread does: polls its descriptors and a pipe that wakes it.
final class PoolRunner {
  private final class Bell: Sendable {
    let reading: Int32
    let writing: Int32

    init() {
      var ends: [Int32] = [0, 0]
      precondition(pipe(&ends) == 0 && ends.allSatisfy { fcntl($0, F_SETFL, O_NONBLOCK) == 0 })
      reading = ends[0]
      writing = ends[1]
    }

    deinit {
      close(reading)
      close(writing)
    }

    func ring() {
      var byte: UInt8 = 0
      _ = Glibc.write(writing, &byte, 1)
    }
  }

  private var pool: StatementPool
  private let bell = Bell()
  private var nextID: UInt64 = 0
  /// What has ended, by its job. A job that ends twice fails the test.
  private(set) var ended: [UInt64: StatementPool.Completion] = [:]

  init(
    _ url: String, _ statements: [StatementPool.Statement],
    access: StatementPool.Access = .reads(replica: false),
    connections: Int = 1, waiting: Int = 1024
  ) {
    let bell = bell
    pool = StatementPool(
      url: Secret(url), password: nil, access: access, statements: statements, connections: connections,
      waiting: waiting,
      spawn: { body in
        Thread.detachNewThread(body)
        return true
      }, wake: { bell.ring() })
  }

  convenience init(
    _ place: Place, _ statements: [StatementPool.Statement], user: String = "postgres",
    access: StatementPool.Access = .reads(replica: false), connections: Int = 1, waiting: Int = 1024
  ) {
    self.init(
      place.server.url(user: user, database: place.database), statements, access: access,
      connections: connections, waiting: waiting)
  }

  var standing: Int { pool.standing }
  var trouble: String? { pool.trouble }
  var isIdle: Bool { pool.isIdle }

  @discardableResult
  func submit(_ statement: Int, _ parameters: [String?] = []) -> UInt64 {
    nextID += 1
    let bytes = parameters.map { $0.map { Array($0.utf8) } }
    pool.submit(
      StatementPool.Job(id: nextID, statement: statement, parameters: bytes), now: monotonicNanoseconds())
    return nextID
  }

  /// A wait for the next event, and a turn.
  func turn(until deadline: UInt64) {
    var list = [pollfd(fd: bell.reading, events: Int16(POLLIN), revents: 0)]
    pool.watch(&list)
    let due = min(pool.nextTurn ?? .max, deadline)
    let now = monotonicNanoseconds()
    _ = poll(&list, nfds_t(list.count), due <= now ? 0 : Int32(clamping: (due - now + 999_999) / 1_000_000))
    var waste = [UInt8](repeating: 0, count: 64)
    _ = read(bell.reading, &waste, waste.count)
    for completion in pool.turn(now: monotonicNanoseconds()) {
      #expect(ended.updateValue(completion, forKey: completion.id) == nil, "job \(completion.id) ended twice")
    }
  }

  func turn(
    _ what: String, within seconds: UInt64 = 20, until enough: () throws -> Bool
  ) throws {
    let deadline = monotonicNanoseconds() + seconds * 1_000_000_000
    while try !enough() {
      guard monotonicNanoseconds() < deadline else { throw HarnessError("not in time: \(what)") }
      turn(until: min(deadline, monotonicNanoseconds() + 20_000_000))
    }
  }

  func completion(_ id: UInt64) throws -> StatementPool.Completion {
    try turn("job \(id) ends") { ended[id] != nil }
    return try #require(ended[id])
  }

  func run(_ statement: Int, _ parameters: [String?] = []) throws -> Result<
    StatementPool.Rows, StatementPool.Failure
  > {
    try completion(submit(statement, parameters)).result
  }

  /// The values of a run that has to succeed, as text.
  func values(_ statement: Int, _ parameters: [String?] = []) throws -> [String?] {
    try run(statement, parameters).get().values.map { $0.map { String(decoding: $0, as: UTF8.self) } }
  }

  func failure(_ statement: Int, _ parameters: [String?] = []) throws -> StatementPool.Failure {
    switch try run(statement, parameters) {
    case .success(let rows): throw HarnessError("no failure: \(rows)")
    case .failure(let failure): return failure
    }
  }
}

extension StatementPool.Statement {
  /// One that loads a value, unless told otherwise, and may take 5 s.
  init(
    _ sql: String, _ parameterCount: Int = 0, _ shape: StatementPool.Shape = .value,
    timeout: UInt64 = 5_000_000_000
  ) {
    self.init(sql: sql, parameterCount: parameterCount, shape: shape, timeout: timeout)
  }
}
