import Configuration
import Invalidation
import NearCache

/// Groups of keys: what a prefix or a tag clears at once.
extension EventLoop {
  /// The near value under a key, unless a group of the key was cleared since it was asked for.
  mutating func findNear(_ key: UnsafeRawBufferPointer, hash: UInt64) -> NearEntry? {
    guard let entry = near.find(key, hash: hash, now: now), EntryMark.isValue(entry.tag) else { return nil }
    return isCurrent(entry, key) ? entry : nil
  }

  /// Whether a load has found that no row gives this key, and nothing has happened to it since.
  mutating func isKnownAbsent(_ key: GovernedKey) -> Bool {
    key.bytes.withUnsafeBytes {
      guard let entry = near.find($0, hash: key.hash, now: now), EntryMark.isAbsent(entry.tag) else {
        return false
      }
      return isCurrent(entry, $0)
    }
  }

  /// Whether a near entry still counts. One whose key belongs to no group costs this one look.
  @inline(__always)
  func isCurrent(_ entry: NearEntry, _ key: UnsafeRawBufferPointer) -> Bool {
    guard let serial = entry.serial else { return true }
    return isCurrent(serial, key)
  }

  /// Whether what was asked for at this moment of `epochs` still counts.
  func isCurrent(_ serial: UInt32, _ key: UnsafeRawBufferPointer) -> Bool {
    var isCurrent = true
    governance.groups.forEach(of: key) { if !epochs.isCurrent(serial, $0) { isCurrent = false } }
    return isCurrent
  }

  /// A group (its kind included) was cleared: none of its keys is found near any more. A prefix that no rule
  /// gives is the group of no entry, and costs the whole near cache.
  mutating func drop(group: UnsafeRawBufferPointer) {
    noteChange(ofGroup: group)
    if epochs.clear(group) || governance.groups.isAdHoc(group) {
      near.removeAll()
      if epochs.isUsedUp { epochs.beginAnew() }
      tracking.table.flushGoverned()
      droppedSerial = epochs.serial
      counters.drops += 1
    }
  }

  /// NEARSIDE INVALIDATE PREFIX prefix, NEARSIDE INVALIDATE TAG tag.
  mutating func invalidateGroup(_ request: Request, kind: UInt8, _ slot: Int) {
    var name = request[3]
    // Templates and SQL write a prefix with a star behind it, which no prefix ends in.
    if kind == KeyGroup.prefix, name.last == UInt8(ascii: "*") {
      name = UnsafeRawBufferPointer(rebasing: name.dropLast())
    }
    let group = [kind] + name
    if let problem = problem(withGroup: group) { return reply(slot) { $0.error("ERR Nearside: \(problem)") } }
    counters.removals += 1
    clear(group)
    let raisesFloor = group.withUnsafeBytes { governance.groups.isAdHoc($0) }
    guard embedded == nil else {
      if raisesFloor { expectHerd() } else { endTurns(in: [group]) }
      return reply(slot) { $0.status("OK") }
    }
    let token = clients[slot].token
    let (state, journal) = (keys, settings.journal)
    withUpstream(slot) { upstream in
      upstream.append(invalidationOf: group, raisesFloor: raisesFloor, state, journal)
      upstream.await(.task(UpstreamTask(client: token, work: .invalidate(group: group))))
    }
  }

  /// Why a group (its kind included) cannot be cleared, as a sentence without its full stop; nil: it can.
  func problem(withGroup group: [UInt8]) -> String? {
    let name = group.dropFirst()
    if group.first == KeyGroup.prefix {
      guard name.starts(with: settings.keyPrefix.utf8) else {
        return "a prefix begins with this fleet's namespace, \"\(settings.keyPrefix)\""
      }
    } else if !Array(name).withUnsafeBytes({ governance.groups.hasTag($0) }) {
      return "no cache has a tag like this one"
    }
    guard name.count <= KeyGroup.longestName else {
      return "a prefix or a tag has at most \(KeyGroup.longestName) bytes"
    }
    return nil
  }

  /// Drops a group here: when it is asked for, and when Redis has answered or will not, since whatever was read
  /// before Redis knew of it must not stay near.
  mutating func clear(_ group: [UInt8]) {
    group.withUnsafeBytes {
      drop(group: $0)
      let raisesFloor = governance.groups.isAdHoc($0)
      embedded?.fence($0, raisesFloor: raisesFloor)
    }
  }

  mutating func finish(group: [UInt8], _ replies: UnsafeRawBufferPointer, client slot: Int?) {
    clear(group)
    var cursor = ReplyCursor(replies)
    if cursor.isError {
      let forgotten = isForgottenScript(replies)
      if forgotten { reloadScripts() }
      return settle(slot) { output, _ in
        if forgotten { output.error(Self.forgotten) } else { output.append(replies) }
      }
    }
    _ = cursor.enter()
    let word = cursor.text()
    settle(slot) { output, _ in
      if word == "FULL" {
        output.error(
          "TRYAGAIN Nearside: too many prefixes and tags wait to be swept out of Redis; no sidecar seems to tail, "
            + "see NEARSIDE STATUS")
      } else {
        output.status("OK")
      }
    }
  }
}
