import Configuration
import NearCache

/// What a reload brings, while clients are served.
extension EventLoop {
  /// Requests under way end under what held when they began.
  mutating func take(_ changes: SettingsChanges) {
    settings = changes.settings
    if changes.live.contains("audit.share") { sampling = Samplings(share: auditShare) }
    slow.change(to: settings.log.slow)
    governance = Governance(settings: settings)
    tracking.bound = Tracking.bound(of: settings)
    outputConcern = Self.outputConcern(settings.clients)
    // A reader has them before it looks at its clients again. What it is answering now was sent before.
    for reader in lending.readers {
      reader.plan.mailbox.post(.settings(governance, auditShare: auditShare))
    }
    // Entries bear the number of the rule whose bound holds, and the time to live of before.
    guard changes.concernsEntries else { return }
    for index in localWrites.indices { localWrites[index] &+= 1 }
    near.removeAll()
    if tracking.isActive { tracking.table.flush() }
    counters.drops += 1
  }
}
