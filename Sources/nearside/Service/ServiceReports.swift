import CLinux
import Metrics
import Server

/// Tells the service manager how the sidecar is, until the stop signal: that the event loop turns, twice within the
/// time that the watchdog allows, and every few seconds one line for people. Both are sent by the loop's own thread,
/// so a loop that hangs says nothing.
struct ServiceReports {
  let manager: ServiceManager
  let mailbox: LoopMailbox
  let stop: StopSignal

  private static let statusPeriod: UInt64 = 5_000_000_000

  func run() {
    let period = min(manager.watchdog.map { max(10_000_000, $0 / 2) } ?? .max, Self.statusPeriod)
    var statusAt: UInt64 = 0
    while !stop.isSet {
      let manager = manager
      if manager.watchdog != nil { mailbox.askWhetherAlive { manager.alive() } }
      let now = clinux_boot_nanoseconds()
      if now >= statusAt {
        statusAt = now + Self.statusPeriod
        mailbox.askForReport { manager.status(Self.line($0)) }
      }
      stop.wait(period)
    }
  }

  /// `tailing, answers at most 104 ms old, 98.7 % near`
  static func line(_ report: LoopReport) -> String {
    var parts: [String] = []
    switch report.role {
    case "tailer", "standalone": parts.append("tailing")
    case "follower": parts.append(report.standing == "following" ? "following" : report.standing)
    default: parts.append(report.trouble ?? report.standing)
    }
    if let age = report.staleness {
      parts.append("answers at most \(age / 1_000_000) ms old")
    } else {
      parts.append("nothing known of freshness")
    }
    let near = report.caches.reduce(0) { $0 + $1.near }
    let all = report.caches.reduce(0) { $0 + $1.reads }
    if all > 0 { parts.append("\((Double(near) / Double(all) * 1000).rounded() / 10) % near") }
    parts.append("\(report.clients.now) clients")
    return parts.joined(separator: ", ")
  }
}
