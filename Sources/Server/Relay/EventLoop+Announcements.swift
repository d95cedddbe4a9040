import Configuration
import Invalidation
import Logging
import NearCache

/// What applications announce on a channel is treated like a DEL, or a NEARSIDE INVALIDATE, of theirs. Every sidecar
/// hears it and does so; what another has done already costs a removal of nothing.
extension EventLoop {
  /// - Parameter announcement: nil: the message was not understood.
  mutating func hear(_ announcement: Announcement?) {
    counters.announcements += 1
    guard let announcement else { return noteMalformed("it is no key, list or object") }
    let namespace = Array(settings.keyPrefix.utf8)
    var isForeign = false
    let keys = announcement.keys.filter { $0.starts(with: namespace) }
    if keys.count < announcement.keys.count { isForeign = true }
    for start in stride(from: 0, to: keys.count, by: 1000) {
      runErrand(.remove(Array(keys[start..<min(start + 1000, keys.count)])))
    }
    let groups =
      announcement.prefixes.map { [KeyGroup.prefix] + $0 } + announcement.tags.map { [KeyGroup.tag] + $0 }
    for group in groups {
      if problem(withGroup: group) == nil { runErrand(.clear(group)) } else { isForeign = true }
    }
    if isForeign { noteMalformed("it names keys of another namespace, or a tag that no cache has") }
    runErrands()
  }

  private mutating func runErrand(_ errand: Errand) {
    guard !errands.append(errand, generation: currentGeneration) else { return }
    near.removeAll()
    tracking.table.flush()
    counters.drops += 1
  }

  /// Sends what waits, if Redis can be asked.
  mutating func runErrands() {
    guard !errands.waiting.isEmpty, resp2.isReady, now >= errands.restUntil else { return }
    for errand in errands.take() { send(errand) }
  }

  private mutating func send(_ errand: Errand) {
    counters.removals += 1
    let task = UpstreamTask(client: nil, work: .errand(errand))
    switch errand {
    case .clear(let group):
      clear(group)
      let raisesFloor = group.withUnsafeBytes { governance.groups.isAdHoc($0) }
      resp2.append(invalidationOf: group, raisesFloor: raisesFloor, keys, settings.journal)
      resp2.await(.task(task))
    case .remove(let names):
      let removal = removal(of: names)
      resp2.append(removal, names, word: "UNLINK", keys, settings.journal)
      resp2.await(.task(task))
    }
  }

  mutating func finish(_ errand: Errand, _ reply: UnsafeRawBufferPointer) {
    forgetNear(errand)
    guard ReplyCursor(reply).isError else { return }
    // Scripts that Redis forgot, or a Redis that loads its data: nothing has been done.
    if isForgottenScript(reply) { reloadScripts() }
    runErrand(errand)
    errands.restUntil = Instant(nanoseconds: now.nanoseconds + 100_000_000)
  }

  /// No reply will come: Redis may have done it or not.
  mutating func abandon(_ errand: Errand) {
    forgetNear(errand)
    runErrand(errand)
  }

  /// Whatever was read before Redis had carried it out must not stay near.
  private mutating func forgetNear(_ errand: Errand) {
    switch errand {
    case .clear(let group): clear(group)
    case .remove(let names):
      for name in names {
        if let key = name.withUnsafeBytes({ governedKey($0) }) { dropNear(key) }
      }
    }
  }

  private mutating func noteMalformed(_ reason: String) {
    counters.announcementsMalformed += 1
    guard now.since(errands.lastComplaint) > 10_000_000_000 || counters.announcementsMalformed == 1 else {
      return
    }
    errands.lastComplaint = now
    log.warning(
      "a message on a channel of \"subscribe\" was not understood: \(reason)",
      metadata: ["so_far": "\(counters.announcementsMalformed)"])
  }
}
