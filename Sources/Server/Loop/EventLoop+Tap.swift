import CLinux
import Configuration
import Invalidation
import Metrics
import NearCache

/// What clears keys here is counted, and told to whoever watches.
extension EventLoop {
  /// Entries of the journal that have been applied. `before`: the last one that had been heard until then.
  mutating func noteEntries(_ entries: [JournalEntry], after before: JournalID) {
    for entry in entries where entry.id > before && !entry.isEmpty {
      noteInvalidation(entry.keys, entry.groups, entry.origins, position: entry.position)
    }
    tell()
  }

  /// Keys and groups have left the near cache. `origins`: nil: an application's command.
  mutating func noteInvalidation(
    _ keys: PackedKeys, _ groups: PackedKeys, _ origins: PackedOrigins?, position: LSN
  ) {
    let time = Self.wallTime()
    let delay = origins?.committedAt.map { time.since(WallTime(postgres: $0)) }
    if let delay { tally.nearDelay.observe(delay) }
    count(keys, groups, origins)
    guard tally.tap != nil else { return }
    // One event for each table, template and transaction, in the order in which they come.
    var events: [InvalidationEvent] = []
    var places: [KeyOrigin?: Int] = [:]
    var index = 0
    func place(_ origin: KeyOrigin?) -> Int {
      if let known = places[origin] { return known }
      var event = InvalidationEvent(time: time, source: .write)
      if let origin {
        let names = originNames[origin]
        event.table = names?.table
        event.template = names?.template
        event.source = origin.isNamed ? .manual : .wal
        event.transaction = origin.transaction == 0 ? nil : origin.transaction
        event.operation = origin.operation?.rawValue
      }
      event.position = position.rawValue
      event.delay = delay
      places[origin] = events.count
      events.append(event)
      return events.count - 1
    }
    keys.forEach { key in
      let at = place(origins?[index])
      events[at].keyCount += 1
      if events[at].keys.count < InvalidationEvent.mostKeys {
        events[at].keys.append(String(decoding: key, as: UTF8.self))
      }
      index += 1
    }
    groups.forEach { name in
      let at = place(origins?[index])
      events[at].keyCount += 1
      if events[at].groups.count < InvalidationEvent.mostKeys {
        let kind = name.first == KeyGroup.prefix ? "prefix " : "tag "
        events[at].groups.append(kind + String(decoding: name.dropFirst(), as: UTF8.self))
      }
      index += 1
    }
    for event in events { tally.tapped.append(.invalidation(event)) }
  }

  /// An invalidation is what one transaction did to the keys of one template.
  private mutating func count(_ keys: PackedKeys, _ groups: PackedKeys, _ origins: PackedOrigins?) {
    guard let origins else {
      var number = 0
      keys.forEach { _ in number += 1 }
      groups.forEach { _ in number += 1 }
      return tally.invalidated(nil, .write, keys: number)
    }
    var tables: [UInt16: (origin: KeyOrigin, count: Int, keys: Int)] = [:]
    var named = (count: 0, keys: 0)
    for (origin, keys) in origins.counted() {
      if origin.isNamed {
        named = (named.count + 1, named.keys + keys)
      } else {
        let before = tables[origin.table]
        tables[origin.table] = (origin, (before?.count ?? 0) + 1, (before?.keys ?? 0) + keys)
      }
    }
    for (origin, count, keys) in tables.values {
      tally.invalidated(originNames[origin]?.table, .wal, count: count, keys: keys)
    }
    if named.count > 0 { tally.invalidated(nil, .manual, count: named.count, keys: named.keys) }
  }

  /// A key that Redis says somebody wrote.
  mutating func noteForeign(_ key: UnsafeRawBufferPointer) {
    tally.invalidated(nil, .redis, keys: 1)
    guard tally.tap != nil else { return }
    var event = InvalidationEvent(time: Self.wallTime(), source: .redis)
    event.keys = [String(decoding: key, as: UTF8.self)]
    event.keyCount = 1
    tally.tapped.append(.invalidation(event))
  }

  mutating func noteGeneration(_ generation: Generation) {
    tally.generations += 1
    guard tally.tap != nil else { return }
    let reason = generationReason.flatMap { $0.generation == generation ? $0.text : nil }
    tally.tapped.append(.generation(Self.wallTime(), id: generation.hex, reason: reason))
  }

  static func wallTime() -> WallTime {
    WallTime(nanoseconds: clinux_wall_nanoseconds())
  }

  /// Hands over what whoever watches is to be told.
  mutating func tell() {
    guard !tally.tapped.isEmpty else { return }
    tally.tap?(tally.tapped)
    tally.tapped = []
  }
}
