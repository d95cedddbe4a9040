import Glibc

/// Why a helper of the tests gave up: what it waited for and what it saw instead.
public struct HarnessError: Error, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// Looks again and again until `good` says yes of what `look` returns, and returns that.
///
/// An error of `look` counts as "not yet". When `limit` has passed, throws a `HarnessError` that names `what`, the
/// place in the test and what was seen last.
@discardableResult
public func eventually<Seen>(
  _ what: String, within limit: Duration = .seconds(15), every pause: Duration = .milliseconds(3),
  file: StaticString = #fileID, line: UInt = #line,
  _ look: () throws -> Seen, until good: (Seen) -> Bool
) throws -> Seen {
  let clock = ContinuousClock()
  let deadline = clock.now.advanced(by: limit)
  while true {
    let seen = Result { try look() }
    if case .success(let value) = seen, good(value) { return value }
    if clock.now >= deadline {
      let last =
        switch seen {
        case .success(let value): "last seen: \(value)"
        case .failure(let error): "last error: \(error)"
        }
      throw HarnessError("\(file):\(line): \(what): not within \(limit); \(last)")
    }
    sleep(pause)
  }
}

/// Waits until `condition` is true; an error of it counts as "not yet". Throws as the longer form does.
public func eventually(
  _ what: String = "the condition", within limit: Duration = .seconds(15),
  every pause: Duration = .milliseconds(3), file: StaticString = #fileID, line: UInt = #line,
  _ condition: () throws -> Bool
) throws {
  try eventually(what, within: limit, every: pause, file: file, line: line, condition, until: { $0 })
}

/// Blocks this thread. Only for polling and for tests that let time pass on purpose.
public func sleep(_ time: Duration) {
  let (seconds, attoseconds) = time.components
  var left = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
  var rest = timespec()
  while nanosleep(&left, &rest) == -1, errno == EINTR { left = rest }
}

extension Duration {
  /// This duration in milliseconds, for printing and for C calls.
  public var milliseconds: Double {
    Double(components.seconds) * 1e3 + Double(components.attoseconds) / 1e15
  }
}
