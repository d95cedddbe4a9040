import Configuration
import Invalidation
import NearCache
import Policies

/// Loads that nobody waits for: the value that is there is shown meanwhile.
extension EventLoop {
  /// A value was shown that ends at `expires`: it may be time to load it anew (`stampede.early`).
  mutating func considerEarly(_ key: UnsafeRawBufferPointer, hash: UInt64, expires: Instant?) {
    guard let expires, loading.early.isDue(hash, left: expires.since(now)) else { return }
    refresh([UInt8](key))
  }

  private mutating func refresh(_ key: [UInt8]) {
    let lease = embedded == nil ? follower.state?.lease : embedded?.lease
    guard let lease, embedded != nil || resp2.isReady,
      let rule = key.withUnsafeBytes({ governance.rule($0)?.load }), rule.values(of: key) != nil
    else { return }
    if loading.table.refresh(key, lease: lease) { counters.refreshes += 1 }
  }

  /// The log has cleared a near entry of this key: it was read lately (`onChange`).
  mutating func noteChanged(_ key: [UInt8], at position: LSN) {
    guard sql != nil, key.withUnsafeBytes({ governance.rule($0)?.load?.refreshes }) == true else { return }
    // In a storm keys are only forgotten.
    guard loading.changed.count < Loading.mostChanged else { return }
    loading.changed.append((key, position))
  }

  /// Loads what has changed, as soon as a lease is newer than the change.
  mutating func refreshChanged() {
    guard !loading.changed.isEmpty, let visible = embedded?.visible ?? follower.state?.visible else { return }
    let due = loading.changed.filter { $0.position <= visible }
    guard !due.isEmpty else { return }
    loading.changed.removeAll { $0.position <= visible }
    for change in due { refresh(change.key) }
  }
}
