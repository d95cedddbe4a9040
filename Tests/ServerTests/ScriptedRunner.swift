import Synchronization
import TestSupport

@testable import Server

/// A runner whose outcomes the test gives.
final class ScriptedRunner: SQLRunner {
  private let mailbox: LoopMailbox
  private let waiting = Mutex<[SQLJob]>([])
  private let everything = Mutex(0)

  /// The type that all parameters have: text, which is spelt as it is printed.
  let types = Mutex<UInt32>(25)

  init(_ mailbox: LoopMailbox) { self.mailbox = mailbox }

  func submit(_ job: SQLJob) {
    everything.withLock { $0 += 1 }
    waiting.withLock { $0.append(job) }
  }

  /// How many jobs have come.
  var count: Int { everything.withLock { $0 } }

  var isAsked: Bool { waiting.withLock { !$0.isEmpty } }

  /// The next job, once it has come.
  func next() throws -> SQLJob {
    try eventually("a job comes") {
      waiting.withLock { $0.isEmpty ? nil : $0.removeFirst() }
    } until: {
      $0 != nil
    }!
  }

  func answer(_ job: SQLJob, _ rows: SQLRows, took: UInt64 = 1_000_000, replayed: UInt64? = nil) {
    mailbox.finished(
      SQLOutcome(
        id: job.id, result: .success(rows), took: took, replayed: replayed,
        types: job.parameters.map { _ in types.withLock { $0 } }))
  }

  /// One value; nil: no row.
  func answer(_ job: SQLJob, _ value: String?) {
    answer(
      job,
      SQLRows(columns: ["value"], height: value == nil ? 0 : 1, values: value.map { [Array($0.utf8)] } ?? []))
  }

  func fail(_ job: SQLJob, _ failure: SQLFailure) {
    mailbox.finished(SQLOutcome(id: job.id, result: .failure(failure), took: 0))
  }
}
