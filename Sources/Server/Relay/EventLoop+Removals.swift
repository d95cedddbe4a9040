import Configuration
import Invalidation
import NearCache

/// Removals and changes of expiry of governed keys, by scripts that raise the keys' fences with them.
extension EventLoop {
  /// DEL, UNLINK, GETDEL: the fence goes up with the removal, so that no fill of before survives it.
  mutating func executeRemove(_ request: Request, _ name: String, _ slot: Int) {
    if name == "getdel", let key = governedKey(request[1]), refusesBehind(key, slot) { return }
    remove(request, keys: 1..<request.count, word: name.uppercased(), answerCount: nil, slot)
  }

  /// Removes the keys at `indices`; those that no mapping covers are removed with them.
  mutating func remove(
    _ request: Request, keys indices: Range<Int>, word: String, answerCount: Int?, _ slot: Int
  ) {
    let names = indices.map { [UInt8](request[$0]) }
    let removal = removal(of: names)
    guard !removal.governed.isEmpty || answerCount != nil else { return relay(request, slot) }
    counters.removals += removal.governed.count
    let own = ownWrite(names, by: answerCount == nil ? "del" : "nearside", slot)
    let work = UpstreamTask.Work.remove(
      GovernedRemoval(keys: removal.governed, answerCount: answerCount, own: own))
    let token = clients[slot].token
    let (state, journal) = (keys, settings.journal)
    withUpstream(slot) { upstream in
      upstream.append(removal, names, word: word, state, journal)
      upstream.await(.task(UpstreamTask(client: token, work: work)))
    }
  }

  /// What the script must know of these keys; near copies of them are dropped.
  mutating func removal(of names: [[UInt8]]) -> Removal {
    var removal = Removal()
    for name in names {
      name.withUnsafeBytes { bytes in
        if let key = governedKey(bytes) {
          noteWrite(key)
          removal.governed.append(key)
          removal.fences.append((String(KeyHash.bucket(bytes)), key.tags))
        } else {
          removal.fences.append(("", []))
        }
      }
    }
    guard !removal.governed.isEmpty else { return removal }
    var message = PublishedMessage(table: nil)
    for key in removal.governed { key.bytes.withUnsafeBytes { message.append($0) } }
    removal.message = message.rest()
    return removal
  }

  /// EXPIRE, PERSIST, GETEX and kin: near copies leave everywhere; if the key is gone afterwards, the fence
  /// goes up as for a removal.
  mutating func executeExpiry(_ request: Request, _ name: String, _ slot: Int) {
    guard let key = governedKey(request[1]) else { return relay(request, slot) }
    if refusesBehind(key, slot) { return }
    noteWrite(key)
    let absent: AbsentReply = name == "getex" ? .null : .zero
    let own = ownWrite([key.bytes], by: name, slot)
    let work = UpstreamTask.Work.expire(GovernedRemoval(keys: [key], own: own), absent: absent)
    let token = clients[slot].token
    let (state, journal) = (keys, settings.journal)
    withUpstream(slot) { upstream in
      upstream.begin(.expire, keys: 2, arguments: 6 + request.count)
      upstream.output.bulk(state.meta)
      upstream.output.bulk(request[1])
      upstream.appendJournal(state, journal)
      upstream.output.bulk(String(KeyHash.bucket(request[1])))
      key.tags.withUnsafeBytes { upstream.output.bulk($0) }
      upstream.appendLimit(key.rule.lifetime())
      for index in 0..<request.count { upstream.output.bulk(request[index]) }
      upstream.await(.task(UpstreamTask(client: token, work: work)))
    }
  }
}

/// What the script for removals must know of its keys.
struct Removal {
  var governed: [GovernedKey] = []
  /// For each key its bucket, empty if it is not governed, and its tags packed.
  var fences: [(bucket: String, tags: [UInt8])] = []
  /// What applications with caches of their own are told; nothing without a governed key.
  var message: [UInt8] = []
}

extension Upstream {
  /// The argument by which a script learns how long a key may live at most; `lifetime`: nanoseconds.
  func appendLimit(_ lifetime: UInt64?) {
    if let lifetime { output.bulk(number: Int(max(1, lifetime / 1_000_000))) } else { output.argument("") }
  }

  /// The three arguments by which a script finds journal and channel.
  func appendJournal(_ keys: StateKeys, _ journal: JournalSettings) {
    output.bulk(keys.journalPrefix)
    output.bulk(keys.channel)
    output.bulk(String(journal.keep / 1_000_000))
  }

  /// The request to remove `names` by the command `word`, `removal` being about the same names in the same order.
  func append(
    _ removal: Removal, _ names: [[UInt8]], word: String, _ keys: StateKeys, _ journal: JournalSettings
  ) {
    begin(.remove, keys: names.count + 1, arguments: 5 + 2 * names.count)
    output.bulk(keys.meta)
    for name in names { name.withUnsafeBytes { output.bulk($0) } }
    appendJournal(keys, journal)
    removal.message.withUnsafeBytes { output.bulk($0) }
    output.bulk(word)
    for (bucket, tags) in removal.fences {
      output.bulk(bucket)
      tags.withUnsafeBytes { output.bulk($0) }
    }
  }

  /// The request to clear a group, its kind included.
  func append(
    invalidationOf group: [UInt8], raisesFloor: Bool, _ keys: StateKeys, _ journal: JournalSettings
  ) {
    var message = PublishedMessage(table: nil)
    var packed = PackedKeys()
    group.withUnsafeBytes {
      message.append(group: $0)
      packed.append($0)
    }
    begin(.invalidateGroup, keys: 1, arguments: 7)
    output.bulk(keys.meta)
    appendJournal(keys, journal)
    message.rest().withUnsafeBytes { output.bulk($0) }
    packed.bytes.withUnsafeBytes { output.bulk($0) }
    output.bulk(String(group.withUnsafeBytes { KeyHash.bucket($0) }))
    output.bulk(raisesFloor ? "1" : "")
  }
}
