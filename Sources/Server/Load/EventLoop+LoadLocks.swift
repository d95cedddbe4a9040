import Configuration
import Invalidation
import NearCache
import Policies

/// `stampede.lock`: of a whole fleet one host loads a key. The others ask every few milliseconds whether its value
/// has come, at most for the time of the lock; then they load it themselves.
extension EventLoop {
  /// Whether a load waits for Redis to say whether it may begin.
  mutating func asksForLock(_ start: LoadTable<LoadedValue, LoadFailure>.Start) -> Bool {
    if let lock = loading.locks[start.load] {
      // Its time is over, or it has got the lock.
      if lock.standing != .held { loading.locks[start.load] = nil }
      return false
    }
    guard embedded == nil, resp2.isReady, let rule = start.key.withUnsafeBytes({ governance.rule($0) }),
      let time = rule.load?.stampede.lock
    else { return false }
    if !start.isErrand, isBetweenGenerations(rule, start.lease, time) {
      loading.locks[start.load] = LoadLock(
        key: start.key, until: now.after(nanoseconds: LoadLock.leasePeriod), isErrand: false,
        standing: .unled, askedAt: now, time: time)
      loading.table.elsewhere(start.load)
      return true
    }
    guard start.lease != nil else { return false }
    loading.locks[start.load] = LoadLock(
      key: start.key, until: now.after(nanoseconds: time), isErrand: start.isErrand, askedAt: now, time: time)
    askForLock(start.load)
    return true
  }

  /// Whether the fleet is about to agree on a generation, after a flush for example. What is loaded before could
  /// not be kept, or would not be shown yet, and each host would load it again. That is waited for as for
  /// another's load.
  private mutating func isBetweenGenerations(
    _ rule: Governance.Rule, _ lease: Lease?, _ time: UInt64
  ) -> Bool {
    // With evidence that is only too old nothing is about to change.
    let isOld = certificate.map { !isFresh($0, rule, at: now) } ?? false
    guard !isOld, lease == nil || certificate == nil else {
      loading.unledSince = nil
      return false
    }
    let since = loading.unledSince ?? now
    loading.unledSince = since
    return now.since(since) < time
  }

  private mutating func askForLock(_ load: UInt64) {
    guard let lock = loading.locks[load], let key = lock.key.withUnsafeBytes({ governedKey($0) }),
      let time = key.rule.load?.stampede.lock
    else { return }
    loading.locks[load]?.askedAt = now
    loading.locks[load]?.isAsked = true
    resp2.begin(.lock, keys: 3, arguments: 4)
    resp2.output.bulk(keys.meta)
    resp2.output.bulk(keys.lock(lock.key))
    resp2.output.bulk(lock.key)
    resp2.output.bulk(lock.owner)
    resp2.appendLimit(time)
    resp2.output.bulk(key.tags)
    // A refresh does without the lock's holder: what is there still counts.
    resp2.output.argument(lock.isErrand ? "" : "1")
    resp2.await(.task(UpstreamTask(client: nil, work: .loadLock(load))))
  }

  mutating func finishLock(_ load: UInt64, _ replies: UnsafeRawBufferPointer) {
    guard let lock = loading.locks[load] else { return }
    loading.locks[load]?.isAsked = false
    var cursor = ReplyCursor(replies)
    switch cursor.integer() {
    case 1:
      loading.locks[load]?.standing = .held
      if lock.standing == .asked {
        begin(load, lock.key, isErrand: lock.isErrand)
      } else {
        loading.table.takeBack(load)
      }
    case 2:
      loading.locks[load] = nil
      release(loading.table.appeared(load))
    case 0 where lock.isErrand:
      loading.locks[load] = nil
      release(loading.table.appeared(load))
    case 0:
      if lock.standing == .asked {
        loading.locks[load]?.standing = .elsewhere
        loading.table.elsewhere(load)
      }
    default:
      if isForgottenScript(replies) { reloadScripts() }
      loadHere(load)
    }
  }

  /// Redis does not say who may load: this host does.
  mutating func loadHere(_ load: UInt64) {
    guard let lock = loading.locks[load] else { return }
    loading.locks[load]?.isAsked = false
    switch lock.standing {
    case .asked:
      loading.locks[load] = nil
      begin(load, lock.key, isErrand: lock.isErrand)
    case .elsewhere, .unled: loading.table.takeBack(load)
    case .held: break
    }
  }

  /// Whether it must soon be asked again what has become of another host's load.
  var waitsForLock: Bool {
    loading.locks.contains { $0.value.standing == .elsewhere || $0.value.standing == .unled }
  }

  mutating func tickLocks() {
    guard !loading.locks.isEmpty, now.since(loading.locksAt) >= 1_000_000 else { return }
    loading.locksAt = now
    for (load, lock) in loading.locks where lock.standing == .unled {
      let isWanted = loading.table.isWanted(load) { loading.waits[$0] != nil }
      if !resp2.isReady || !isWanted {
        loadHere(load)
      } else if now >= lock.until, certificate != nil || isOver(lock.time) {
        loading.locks[load] = nil
        let releases = loading.table.appeared(load)
        // They have seen nothing yet that a change could have overtaken. A read may have waited for several keys.
        for release in releases where loading.waits[release.waiter]?.isUncounted == false {
          loading.waits[release.waiter]?.isUncounted = true
          loading.waits[release.waiter]?.read.tries -= 1
        }
        // The next time is another one, even if no load of this host's follows.
        if certificate != nil, follower.state != nil { loading.unledSince = nil }
        self.release(releases)
      }
    }
    var asked = loading.locks.values.count { $0.isAsked }
    for (load, lock) in loading.locks where lock.standing == .elsewhere && !lock.isAsked {
      let isWanted = loading.table.isWanted(load) { loading.waits[$0] != nil }
      if now >= lock.until || !resp2.isReady || !isWanted {
        loadHere(load)
      } else if asked < LoadLock.mostAsked, now.since(lock.askedAt) >= LoadLock.period {
        asked += 1
        askForLock(load)
      }
    }
  }

  /// Whether there has been no lease for so long.
  private func isOver(_ time: UInt64) -> Bool {
    loading.unledSince.map { now.since($0) >= time } ?? true
  }

  /// The load has ended: another host may begin one.
  mutating func unlock(_ load: UInt64) {
    guard let lock = loading.locks.removeValue(forKey: load), lock.standing == .held, resp2.isReady else {
      return
    }
    resp2.begin(.unlock, keys: 1, arguments: 1)
    resp2.output.bulk(keys.lock(lock.key))
    resp2.output.bulk(lock.owner)
    resp2.await(.task(UpstreamTask(client: nil, work: .loadUnlock)))
  }
}
