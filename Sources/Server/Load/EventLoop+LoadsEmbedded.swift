import Configuration
import Invalidation
import NearCache

/// Read-through without Redis: a load ends in the near cache.
extension EventLoop {
  /// Whether a read was answered from what was loaded, or waits for a load; otherwise it goes its usual way.
  mutating func loadsEmbedded(_ request: Request, _ name: String, keys indices: Range<Int>, _ slot: Int)
    -> Bool
  {
    guard sql != nil else { return false }
    var keys: [GovernedKey] = []
    for index in indices {
      // Keys that cannot be held are errors of the usual way.
      guard let key = governedKey(request[index]), key.rule.keepsNear else { return false }
      keys.append(key)
    }
    guard keys.contains(where: { $0.rule.load != nil }) else { return false }
    let (certificate, instant) = (certificate, clock())
    var elements: [(reply: [UInt8], length: Int)?] = []
    var missing: [(key: GovernedKey, lease: Lease?)] = []
    var absent: [(key: GovernedKey, lease: Lease?)] = []
    var until = Instant(nanoseconds: .max)
    var values = 0
    for key in keys {
      let shows = showsNear(key, certificate, at: instant)
      let entry = find(key)
      if let shows, let entry {
        until = min(until, shows)
        if entry.tag & EntryMark.early != 0 {
          key.bytes.withUnsafeBytes { considerEarly($0, hash: key.hash, expires: entry.expires) }
        }
        elements.append(([UInt8](entry.reply), entry.valueCount))
      } else if let (decision, end) = decision(key, certificate, at: instant) {
        until = min(until, end)
        guard case .value(.string(let value)) = decision else {
          if case .absent(let lease) = decision { absent.append((key, lease)) }
          elements.append(nil)
          continue
        }
        values += 1
        elements.append((decision.bytes(resp3: false), value.count))
      } else {
        elements.append(nil)
        let gathering = certificate == nil && entry == nil
        let gives = gathering || givesLease(key, certificate, at: instant)
        let lease = gives ? embedded?.lease : nil
        if key.rule.load != nil, key.rule.staleness.beyond != .fail || shows != nil {
          missing.append((key, lease))
        } else {
          absent.append((key, lease))
        }
      }
    }
    if !missing.isEmpty, let read = loadedRead(request, name, keys) {
      let number = loading.resumed?.number ?? clients[slot].holdNext()
      if !read.isCounted {
        for key in keys where !missing.contains(where: { $0.key.bytes == key.bytes }) {
          tally.read(.hit, of: key.rule)
        }
      }
      wait(read, missing, number: number, slot)
      return true
    }
    // What is near, or absent, is answered as ever.
    guard values > 0 else { return false }
    let resp3 = clients[slot].resp3
    for (key, lease) in absent { noteMiss(key, lease: lease) }
    replyNear(slot, until: until) { output in
      if name == "mget" { output.array(elements.count) }
      if name == "lease" { output.array(2) }
      switch name {
      case "get", "mget", "lease":
        for element in elements {
          if let element { output.append(element.reply) } else { output.null(resp3: resp3) }
        }
        if name == "lease" { output.null(resp3: resp3) }
      case "exists": output.integer(elements.count { $0 != nil })
      case "type": output.status("string")
      case "strlen": output.integer(elements[0]?.length ?? 0)
      default: output.error(LoadFailure.restless.reply)
      }
    }
    return true
  }

  /// Stores what was loaded, or that there is nothing; false: a change came in between.
  mutating func storeEmbedded(
    _ key: GovernedKey, _ rule: LoadRule, _ value: LoadedValue?, _ lease: Lease
  ) -> Bool {
    switch value {
    case .string(let bytes):
      let stored = bytes.withUnsafeBytes { bytes in
        Result { () throws(ErrorReply) in
          try store(key, bytes, expires: nil, by: Self.loadCommand, under: .fill(lease))
        }
      }
      return (try? stored.get()) ?? false
    case nil:
      let groups = key.groups?.buckets ?? []
      let refusal = key.bytes.withUnsafeBytes { embedded?.refusal(lease, $0, groups: groups) }
      guard refusal == nil, find(key) == nil else { return false }
      if let negative = rule.negative { keepAbsent(key, until: now.after(nanoseconds: negative)) }
      return true
    default: return false
    }
  }
}
