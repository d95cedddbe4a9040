import Admin
import CLinux
import Configuration
import Glibc
import Invalidation
import Logging
import Metrics
import Redis
import Server
import Synchronization

/// Answers the admin endpoint: asks the event loop, and adds what is known of the process and of Redis.
final class AdminDesk: AdminSource {
  private let mailbox: LoopMailbox
  private let reloader: Reloader
  /// The socket of the applications as it is served, which a socket unit may have put elsewhere than `listen` says.
  private let socket: String
  private let redis: RedisWatch?

  init(_ reloader: Reloader, _ mailbox: LoopMailbox, socket: String, redis: RedisWatch?) {
    self.reloader = reloader
    self.socket = socket
    self.mailbox = mailbox
    self.redis = redis
  }

  func whetherAlive(_ answer: @escaping @Sendable () -> Void) { mailbox.askWhetherAlive(answer) }

  func report(_ answer: @escaping @Sendable (SidecarReport) -> Void) {
    let redis = redis?.figures()
    // Here, and not in the event loop: it goes through the process's descriptors.
    let process = ProcessReport.now()
    let reloads = reloader.report
    mailbox.askForReport { loop in
      let time = WallTime(nanoseconds: clinux_wall_nanoseconds())
      answer(
        SidecarReport(loop: loop, process: process, redis: redis, reloads: reloads, time: time))
    }
  }

  func look(_ key: [UInt8], showsValue: Bool, _ answer: @escaping @Sendable (KeyReport) -> Void) {
    mailbox.look(key, showsValue: showsValue, answer)
  }

  func tap(_ hear: (@Sendable ([TapEvent]) -> Void)?) { mailbox.tap(hear) }

  func invalidate(
    _ order: InvalidationOrder, _ answer: @escaping @Sendable (InvalidationAnswer) -> Void
  ) {
    let (path, password) = (socket, reloader.settings.listen.password)
    let began = Worker.detached("invalidate") {
      answer(InvalidationErrand.run(order, socket: path, password: password))
    }
    if !began { answer(.failed("The system refuses a thread. Raise the limit of processes.")) }
  }

  func reload(_ answer: @escaping @Sendable (ReloadAnswer) -> Void) {
    let reloader = reloader
    let began = Worker.detached("reload") { answer(reloader.reload()) }
    if !began { answer(.refused("The system refuses a thread. Raise the limit of processes.")) }
  }

  var configuration: JSONText { SettingsText.json(reloader.settings) }

  var version: String { Version.text }
}
