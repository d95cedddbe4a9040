import Glibc
import TestSupport

/// A server under measurement.
final class Peer {
  let name: String
  let endpoint: Endpoint
  let dialect: Dialect
  /// What stands before the number of a key.
  let prefix: String
  /// The processes whose cost counts: those that an application's host runs for it, and that answer.
  let pids: [pid_t]
  /// Whatever must live as long.
  private let parts: [AnyObject]

  init(
    _ name: String, _ endpoint: Endpoint, _ dialect: Dialect = .resp, prefix: String = Peer.plainPrefix,
    pids: [pid_t], parts: [AnyObject]
  ) throws {
    self.name = name
    self.endpoint = endpoint
    self.dialect = dialect
    self.prefix = prefix
    self.pids = pids
    self.parts = parts
    for pid in pids { try Pinning.pin(pid) }
  }

  /// As long as that of governed keys, so that requests have the same length.
  static let plainPrefix = "other:item:"
  static let governedPrefix = "bench:item:"

  /// Whether a program is there.
  static func has(_ program: String) -> Bool {
    (try? run(["sh", "-c", "command -v \(program)"]).exit == .code(0)) ?? false
  }

  /// Puts every key of the workload there.
  func fill(_ workload: Workload) throws {
    let outcome = try Generator.run(
      Requests(filling: workload, dialect, prefix: prefix), at: endpoint, dialect, connections: 1, depth: 64,
      until: .once)
    if let error = outcome.firstError { throw HarnessError("\(name), while it was filled: \(error)") }
  }
}

extension Pinning {
  /// Lets a process run on every processor but the load's.
  static func spread(_ pid: pid_t) throws {
    guard processors > 2 else { return }
    try succeed(["taskset", "-acp", "0,2-\(processors - 1)", String(pid)])
  }

  /// Binds a process to the processor of servers.
  static func pin(_ pid: pid_t) throws {
    guard processors > 1 else { return }
    try succeed(["taskset", "-acp", "0", String(pid)])
  }
}
