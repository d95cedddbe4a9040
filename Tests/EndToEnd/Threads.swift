import Dispatch
import Foundation

/// Runs `work` on `count` threads of their own (with their numbers from 0) while `body` runs on this one, and
/// returns when all are done. A `body` that throws must have told them to end, too.
func withThreads(
  _ count: Int, _ work: @escaping @Sendable (Int) -> Void, while body: () throws -> Void
) rethrows {
  let done = DispatchGroup()
  for number in 0..<count {
    done.enter()
    Thread.detachNewThread {
      work(number)
      done.leave()
    }
  }
  defer { done.wait() }
  try body()
}
