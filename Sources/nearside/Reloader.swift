import Admin
import Configuration
import Invalidation
import Logging
import Metrics
import Server
import Synchronization

/// Reads the configuration again while the sidecar runs: all of it is good, or nothing changes.
final class Reloader: Sendable {
  private let file: ConfigurationFile
  private let cadence: SharedCadence
  private let mailbox: LoopMailbox
  private let manager: ServiceManager?
  private let log: Logger
  /// Held for as long as one reload takes.
  private let turn = Mutex(())
  private let state: Mutex<State>

  private struct State: Sendable {
    /// In force.
    var settings: Settings
    var report = ReloadReport()
  }

  init(
    _ file: ConfigurationFile, _ settings: Settings, _ cadence: SharedCadence, _ mailbox: LoopMailbox,
    _ manager: ServiceManager?, _ log: Logger
  ) {
    self.cadence = cadence
    self.file = file
    self.mailbox = mailbox
    self.manager = manager
    self.log = log
    state = Mutex(State(settings: settings))
  }

  /// What is in force.
  var settings: Settings { state.withLock { $0.settings } }

  /// What became of reloads so far.
  var report: ReloadReport { state.withLock { $0.report } }

  /// Called on any thread that may wait for files. What it has done is in the log, too.
  @discardableResult
  func reload() -> ReloadAnswer {
    turn.withLock { _ in
      manager?.reloading()
      defer { manager?.ready() }
      guard !file.isStandardInput else {
        // No newer file has been refused: nothing is wrong.
        let text = "The configuration was read from standard input and cannot be read again; restart instead."
        log.warning("\(text)")
        return .refused(text)
      }
      switch file.read() {
      case .failure(let unusable): return refuse(unusable.text)
      case .success(let loaded):
        let changes = SettingsChanges(from: settings, to: loaded.settings)
        state.withLock {
          $0.settings = changes.settings
          $0.report.taken += 1
          $0.report.trouble = nil
          $0.report.needRestart = changes.needRestart
        }
        LogLines.level = changes.settings.log.level
        cadence.change(to: Cadence(bound: changes.settings.shortestBound))
        if !changes.live.isEmpty { mailbox.take(changes) }
        if !loaded.warnings.isEmpty { log.warning("\(loaded.warnings)") }
        tell(changes)
        return .reloaded(changed: changes.live, needRestart: changes.needRestart)
      }
    }
  }

  private func refuse(_ text: String) -> ReloadAnswer {
    state.withLock {
      $0.report.refused += 1
      $0.report.trouble = text
    }
    log.error("the configuration was not taken over, and the one of before stays in force: \(text)")
    return .refused(text)
  }

  private func tell(_ changes: SettingsChanges) {
    if changes.live.isEmpty, changes.needRestart.isEmpty {
      log.notice("the configuration was read again; nothing in it has changed")
    }
    if !changes.live.isEmpty {
      log.notice("taken over from the configuration: \(changes.live.joined(separator: ", "))")
    }
    if !changes.needRestart.isEmpty {
      log.warning(
        "these changes of the configuration need a restart: \(changes.needRestart.joined(separator: ", "))")
    }
  }
}
