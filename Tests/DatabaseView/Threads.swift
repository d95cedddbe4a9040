import Foundation
import Synchronization
import TestSupport

final class Flag: Sendable {
  private let value = Atomic(false)
  var isSet: Bool { value.load(ordering: .relaxed) }
  func set() { value.store(true, ordering: .relaxed) }
}

/// Waits for a number of threads.
final class Group: Sendable {
  private let group = DispatchGroup()
  init(_ count: Int) { for _ in 0..<count { group.enter() } }
  func leave() { group.leave() }
  func wait() { group.wait() }
}

/// The connections of one host's application to PostgreSQL, each in a thread of its own. Whoever asks waits for an
/// answer.
final class Pool: Sendable {
  private final class Job: Sendable {
    let parameter: String
    let sql: String
    let answer = Mutex<Result<String?, HarnessError>>(.success(nil))
    let isDone = DispatchSemaphore(value: 0)

    init(_ sql: String, _ parameter: String) {
      self.sql = sql
      self.parameter = parameter
    }
  }

  private let jobs = Mutex<[Job?]>([])
  private let waiting = DispatchSemaphore(value: 0)
  private let size: Int

  init(_ url: String, size: Int) {
    self.size = size
    for _ in 0..<size {
      let thread = Thread { [self] in
        let client = Result { try SQLClient(url) }
        while let job = next() {
          job.answer.withLock {
            do {
              $0 = .success(try client.get().value(job.sql, [job.parameter]))
            } catch {
              $0 = .failure(HarnessError("\(error)"))
            }
          }
          job.isDone.signal()
        }
      }
      thread.start()
    }
  }

  /// nil: the end.
  private func next() -> Job? {
    waiting.wait()
    return jobs.withLock { $0.isEmpty ? nil : $0.removeFirst() }
  }

  /// Ends its threads, and with them its connections.
  func end() {
    for _ in 0..<size { put(nil) }
  }

  private func put(_ job: Job?) {
    jobs.withLock { $0.append(job) }
    waiting.signal()
  }

  /// The first column of the statement's first row.
  func value(_ sql: String, _ parameter: String) throws -> String? {
    let job = Job(sql, parameter)
    put(job)
    job.isDone.wait()
    return try job.answer.withLock { try $0.get() }
  }
}
