import Configuration
import Invalidation

/// How requests become the scripts' keys and arguments.
extension RedisSink {
  public mutating func send(_ request: StateRequest) throws(SinkError) {
    switch request {
    case .takeover(let token, let server, let mapping, let fingerprint):
      begin(.takeover, keys: 1)
      arguments.append(keys.meta)
      arguments.append(token)
      arguments.append(server.systemID)
      arguments.append(hexadecimal8(server.timeline))
      arguments.append(mapping)
      arguments.append(fingerprint)
    case .newGeneration(
      let token, let old, let new, let server, let mapping, let applied, let visible, let watching,
      let fingerprint):
      begin(.newGeneration, keys: 2)
      arguments.append(keys.meta)
      arguments.append(keys.journal(old ?? new))
      arguments.append(token)
      arguments.append(old?.hex ?? "")
      arguments.append(new.hex)
      arguments.append(server.systemID)
      arguments.append(hexadecimal8(server.timeline))
      arguments.append(mapping)
      arguments.append(applied.hex)
      arguments.append(visible.hex)
      arguments.append(watching ? "1" : "0")
      arguments.append(keys.channel)
      arguments.append(fingerprint)
    case .purge(let check, let cursor):
      begin(.purge, keys: 1)
      arguments.append(keys.meta)
      append(check)
      arguments.append(cursor)
      arguments.append(purgeMatch)
      arguments.append(stepSize.count)
      for pattern in purgePatterns { arguments.append(pattern) }
    case .purged(let check):
      begin(.purged, keys: 1)
      arguments.append(keys.meta)
      append(check)
    case .sweep(let check, let cursor, let packed):
      begin(.sweep, keys: 1)
      arguments.append(keys.meta)
      append(check)
      arguments.append(cursor)
      arguments.append(purgeMatch)
      arguments.append(stepSize.count)
      arguments.append(packed.bytes)
      for rule in groups.sweepRules {
        arguments.append(rule.pattern)
        arguments.append(rule.replacement)
      }
    case .swept(let check, let pending):
      begin(.swept, keys: 1)
      arguments.append(keys.meta)
      append(check)
      arguments.append(pending.packed.bytes)
    }
    try submit()
  }

  public mutating func apply(
    _ apply: ApplyRequest, keys batch: borrowing KeyBatch, chunk: Range<Int>
  ) throws(SinkError) {
    precondition(chunk.count <= 1000, "a script holds up everybody else, so a step has at most 1000 keys")
    begin(.apply, keys: 2 + chunk.count)
    arguments.append(keys.meta)
    arguments.append(keys.journal(apply.check.generation))
    buckets.removeAll(keepingCapacity: true)
    for index in chunk {
      batch.withKey(index) { key, _ in
        arguments.append(key)
        buckets.append(Int32(KeyHash.bucket(key)))
      }
    }
    var raisesFloor = false
    for index in apply.groups {
      batch.withGroup(index) { group, _ in
        buckets.append(Int32(KeyHash.bucket(group)))
        if groups.isAdHoc(group) { raisesFloor = true }
      }
    }
    append(apply.check)
    arguments.append(apply.applied.hex)
    arguments.append(apply.visible.hex)
    arguments.append(apply.fence.hex)
    arguments.append(apply.sampled != nil ? "1" : "0")
    arguments.append(apply.stopsWatching ? "0" : "")
    let packed = batch.packed(chunk).bytes
    let packedGroups = batch.packedGroups(apply.groups).bytes
    arguments.append(journal.keep / 1_000_000)
    arguments.append(
      journalCheck.isDue(adding: packed.count + packedGroups.count) ? String(journal.size) : "")
    arguments.append(keys.channel)
    arguments.append(packed)
    arguments.append(batch.packedOrigins(chunk, groups: apply.groups).bytes)
    arguments.append(packedGroups)
    arguments.append(raisesFloor ? "1" : "")
    arguments.append(apply.tellsPending ? "1" : "")
    let messages = messages(batch, chunk, apply.groups, part: apply.part, parts: apply.parts)
    arguments.append(messages.count)
    for message in messages { arguments.append(message) }
    buckets.sort()
    var last: Int32 = -1
    for bucket in buckets where bucket != last {
      arguments.append(bucket)
      last = bucket
    }
    try submit()
  }

  /// One message for each table, in the order in which the tables come first in the step.
  private func messages(
    _ batch: borrowing KeyBatch, _ chunk: Range<Int>, _ chosen: Range<Int>, part: Int, parts: Int
  ) -> [[UInt8]] {
    var tables: [Int] = []
    var open: [PublishedMessage] = []
    func place(_ table: Int) -> Int {
      if let place = tables.firstIndex(of: table) { return place }
      tables.append(table)
      open.append(PublishedMessage(table: tableNames.indices.contains(table) ? tableNames[table] : nil))
      return open.count - 1
    }
    for index in chunk { batch.withKey(index) { key, table in open[place(table)].append(key) } }
    for index in chosen { batch.withGroup(index) { group, table in open[place(table)].append(group: group) } }
    return open.map { $0.rest(part: part, of: parts) }
  }

  private mutating func begin(_ request: Request, keys count: Int) {
    precondition(underWay == nil, "one request is under way at a time")
    underWay = request
    arguments.removeAll()
    arguments.append("EVALSHA")
    arguments.append(digests[request] ?? "")
    arguments.append(count)
  }

  private mutating func append(_ check: WriteCheck) {
    arguments.append(check.token)
    arguments.append(check.generation.hex)
    arguments.append(check.count)
  }

  private mutating func submit() throws(SinkError) {
    do throws(RedisError) {
      let isTimed = underWay?.isTimed ?? false
      if isTimed { try connection.append(["TIME"]) }
      try connection.append(&arguments)
      if isTimed { try connection.append(["TIME"]) }
      expected = isTimed ? [.clock, .answer, .clock] : [.answer]
      clock = nil
      sent = bootInstant()
      unsent = try !connection.write()
    } catch { throw SinkError(error) }
  }
}
