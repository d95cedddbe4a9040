import Dispatch
import Foundation

/// Runs `work` on `count` threads of their own (with their numbers from 0) while `body` runs on this one, and
/// returns when all are done.
func withThreads(_ count: Int, _ work: @escaping @Sendable (Int) -> Void, while body: () -> Void) {
  let done = DispatchGroup()
  for number in 0..<count {
    done.enter()
    Thread.detachNewThread {
      work(number)
      done.leave()
    }
  }
  body()
  done.wait()
}
