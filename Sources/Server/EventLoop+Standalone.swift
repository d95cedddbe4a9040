import Configuration
import Invalidation
import Logging
import NearCache

/// The embedded mode: values live in the near cache only, and strings are what it holds.
extension EventLoop {
  mutating func executeStandalone(_ request: Request, _ spec: CommandSpec?, _ slot: Int) {
    reply(slot) { $0.error("ERR later") }
  }
  mutating func invalidateStandalone(_ request: Request, _ slot: Int) {}
  mutating func leaseStandalone(_ request: Request, _ slot: Int) {}
  mutating func fillStandalone(_ request: Request, _ slot: Int) {}
  mutating func invalidateAllStandalone(_ slot: Int) {}
}
