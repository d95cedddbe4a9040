/// When values end that clients have read, in steps of a quarter of a second.
struct TrackingEnds {
  private static let step: UInt64 = 250_000_000

  private var steps: [UInt64: [[UInt8]]] = [:]
  private var last: UInt64 = 0
  /// How many ends are noted; a key may have several, of which the last counts.
  private(set) var count = 0

  mutating func add(_ key: [UInt8], _ end: UInt64) {
    guard end < .max - Self.step else { return }
    steps[max(end / Self.step + 1, last + 1), default: []].append(key)
    count += 1
  }

  /// The keys of which an end has passed; each end is handed over once.
  mutating func due(_ now: UInt64) -> [[UInt8]] {
    let reached = now / Self.step
    guard reached > last else { return [] }
    let passed =
      reached - last < 1000
      ? (last + 1...reached).compactMap { steps.removeValue(forKey: $0) }
      : steps.keys.filter { $0 <= reached }.sorted().compactMap { steps.removeValue(forKey: $0) }
    last = reached
    count -= passed.reduce(0) { $0 + $1.count }
    return passed.flatMap { $0 }
  }

  mutating func removeAll() {
    steps = [:]
    count = 0
  }
}

/// Writes of clients that broadcast and do not want to hear of them (NOLOOP).
///
/// Redis tells this process of every change, and not who has made it. But each write that has certainly changed its
/// key is told of once, shortly before or after it is answered; so much is not passed on to its client.
struct OwnWrites {
  /// How long Redis may take to tell of a write that it has answered, in nanoseconds. What comes later is passed on.
  static let patience: UInt64 = 100_000_000

  private struct Write {
    var sent = 0
    /// Several were under way at once: Redis may tell of them together, so at most one message stands for them.
    var overlaps = false
    var withheld = 0
    var expected = 0
    var until: UInt64 = 0

    var isOver: Bool { sent == 0 && withheld == 0 && expected == 0 }
  }

  private struct Name: Hashable {
    var client: TrackingTable.Client
    var key: [UInt8]
  }

  private var writes: [Name: Write] = [:]

  var isEmpty: Bool { writes.isEmpty }

  mutating func began(_ keys: [[UInt8]], by client: TrackingTable.Client) {
    for key in keys {
      let name = Name(client: client, key: key)
      var write = writes[name] ?? Write()
      write.sent += 1
      if write.sent > 1 { write.overlaps = true }
      writes[name] = write
    }
  }

  /// Whether what Redis tells of this key stands for a write of this client.
  mutating func isEcho(_ key: [UInt8], _ client: TrackingTable.Client, now: UInt64) -> Bool {
    let name = Name(client: client, key: key)
    guard var write = writes[name] else { return false }
    defer { writes[name] = write.isOver ? nil : write }
    if now > write.until { write.expected = 0 }
    if write.expected > 0 {
      write.expected -= 1
      return true
    }
    guard write.withheld < (write.overlaps ? min(1, write.sent) : write.sent) else { return false }
    write.withheld += 1
    return true
  }

  /// Result: keys of which something was withheld that was not this client's.
  mutating func ended(
    _ keys: [[UInt8]], by client: TrackingTable.Client, isCertain: Bool, now: UInt64
  ) -> [[UInt8]] {
    var told: [[UInt8]] = []
    for key in keys {
      let name = Name(client: client, key: key)
      var write = writes[name] ?? Write()
      write.sent = max(0, write.sent - 1)
      if isCertain, write.withheld > 0 {
        write.withheld -= 1
      } else if isCertain, !write.overlaps {
        write.expected += 1
        write.until = now + Self.patience
      }
      if write.withheld > write.sent {
        write.withheld = write.sent
        told.append(key)
      }
      writes[name] = write.isOver ? nil : write
    }
    return told
  }

  mutating func forget(_ client: TrackingTable.Client) {
    writes = writes.filter { $0.key.client != client }
  }

  mutating func purge(now: UInt64) {
    guard !writes.isEmpty else { return }
    writes = writes.filter { $0.value.sent > 0 || $0.value.withheld > 0 || now <= $0.value.until }
  }
}
