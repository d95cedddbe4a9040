import Configuration
import DequeModule
import Invalidation
import NearCache

/// SETs that are written through to PostgreSQL.
extension EventLoop {
  mutating func writeThrough(
    _ request: Request, _ name: String, _ key: GovernedKey, _ rule: WriteRule, _ slot: Int
  ) {
    let options = SetOptions(request, name)
    guard name != "setnx", name != "getset", options.isPlain, let value = options.value else {
      return refuseUnlessSet(slot)
    }
    let bytes = [UInt8](value)
    if rule.behind != nil, refusesBehind(bytes, slot) { return }
    guard let values = rule.values(of: key.bytes, value: bytes, milliseconds: options.milliseconds) else {
      return reply(slot) {
        $0.error("ERR Nearside: no row has this key as a mapping writes it, so nothing was written")
      }
    }
    guard writing.writes.count < Writing.most else {
      return reply(slot) {
        $0.error("TRYAGAIN Nearside: \(Writing.most) writes to PostgreSQL are under way; try again")
      }
    }
    if rule.behind == nil { counters.writes += 1 } else { counters.behindWrites += 1 }
    writing.lastWrite += 1
    let id = writing.lastWrite
    writing.writes[id] = ThroughWrite(
      key: key, command: name, value: bytes, milliseconds: options.milliseconds,
      client: clients[slot].token, number: clients[slot].holdNext(), gaps: writing.gaps,
      session: writing.session, came: now)
    clients[slot].writes += 1
    clients[slot].owedBytes += bytes.count
    // The value of an earlier one is not stored any more.
    if let overtaken = writing.keys[key.bytes]?.awaiting { finish(overtaken, nil) }
    var written = writing.keys[key.bytes] ?? WrittenKey(isBehind: rule.behind != nil)
    written.count += 1
    written.newest = id
    if rule.behind == nil {
      writing.queued[id] = SQLJob(
        id: loading.newJob(.write(id)), statement: rule.statement, parameters: values)
    }
    written.queue.append(id)
    writing.keys[key.bytes] = written
    if written.running == nil { startNext(key.bytes) }
  }

  /// Whether a command is refused because it would change a key that only SET may write.
  mutating func refusesUnlessSet(_ key: GovernedKey, _ slot: Int) -> Bool {
    guard key.rule.write != nil else { return false }
    refuseUnlessSet(slot)
    return true
  }

  /// The same for what would show or change what Redis holds of a key without what is pending of it.
  mutating func refusesBehind(_ key: GovernedKey, _ slot: Int) -> Bool {
    guard key.rule.write?.behind != nil else { return false }
    return refusesUnlessSet(key, slot)
  }

  private mutating func refuseUnlessSet(_ slot: Int) {
    reply(slot) {
      $0.error(
        "ERR Nearside: what is set here is written to PostgreSQL, and that can only be done with a whole value; "
          + "use SET (with EX or PX), SETEX or PSETEX")
    }
  }

  /// Whether a command has to wait for the client's SETs before it. SETs of other keys go beside each other.
  mutating func waitsForWrites(_ request: Request, _ spec: CommandSpec?, _ slot: Int) -> Bool {
    guard clients[slot].writes > 0, loading.resumed == nil else { return false }
    if case .replace = spec?.kind, governance.rule(request[1])?.write != nil { return false }
    pause(slot, .drain)
    return true
  }

  /// The statement of a SET has ended.
  mutating func wrote(_ id: UInt64, _ outcome: SQLOutcome) {
    guard var write = writing.writes[id] else { return }
    startNext(write.key.bytes)
    switch outcome.result {
    case .success(let rows) where rows.affected == 0:
      counters.writesFailed += 1
      finish(
        id,
        "ERR Nearside: the statement of this key's write changed no row, so nothing was written and nothing stored"
      )
    case .success(let rows):
      write.transaction = rows.transaction
      writing.writes[id] = write
      remove(id)
    case .failure(let failure):
      counters.writesFailed += 1
      let isUnknown = failure.sqlState == SQLFailure.unknown
      let text = Self.errorText(failure, isUnknown: isUnknown)
      guard isUnknown else { return finish(id, text) }
      write.failure = text
      writing.writes[id] = write
      remove(id)
    }
  }

  private static func errorText(_ failure: SQLFailure, isUnknown: Bool) -> String {
    if isUnknown {
      return "ERR Nearside: it is not known whether this write has happened, and the key was removed; "
        + "SQLSTATE \(failure.sqlState): \(failure.line)"
    }
    return failure.reply("the write of this key")
  }

  /// Begins the key's next SET: the place in the order of the one before it is decided.
  mutating func startNext(_ key: [UInt8]) {
    while let next = writing.keys[key]?.queue.popFirst() {
      writing.keys[key]?.running = next
      if let job = writing.queued.removeValue(forKey: next) {
        sql?.submit(job)
        return
      }
      if take(next) { return }
    }
    writing.keys[key]?.running = nil
  }

  /// Answers a SET and forgets it. `error`: begins with its code; nil: OK.
  mutating func finish(_ id: UInt64, _ error: String?) {
    guard let write = writing.writes.removeValue(forKey: id) else { return }
    if let count = writing.keys[write.key.bytes]?.count, count > 1 {
      writing.keys[write.key.bytes]?.count = count - 1
      if case .awaiting = write.phase { writing.keys[write.key.bytes]?.awaiting = nil }
    } else {
      writing.keys[write.key.bytes] = nil
    }
    guard isAlive(write.client) else { return }
    let slot = Int(write.client.slot)
    clients[slot].writes -= 1
    clients[slot].settle(held: write.number) { output in
      if let error { output.error(error) } else { output.status("OK") }
    }
    markDirty(slot)
  }

  // MARK: Removing

  /// Removes the key, with its fence. Where Redis cannot be told, the log's own invalidation removes it.
  private mutating func remove(_ id: UInt64) {
    guard let write = writing.writes[id] else { return }
    let name = write.key.bytes
    let removal = removal(of: [name])
    guard resp2.isReady, !removal.governed.isEmpty else { return finish(id, write.failure) }
    writing.writes[id]?.phase = .removing
    let (state, journal) = (keys, settings.journal)
    resp2.append(removal, [name], word: "UNLINK", state, journal)
    resp2.await(.task(UpstreamTask(client: nil, work: .writtenRemoval(id))))
  }

  mutating func finishRemoval(_ id: UInt64, _ replies: UnsafeRawBufferPointer) {
    guard var write = writing.writes[id] else { return }
    dropNear(write.key)
    var cursor = ReplyCursor(replies)
    guard !cursor.isError, cursor.enter() == 4, cursor.text() == "OK" else {
      if isForgottenScript(replies) {
        reloadScripts()
        if !write.isRepeated {
          write.isRepeated = true
          writing.writes[id] = write
          return remove(id)
        }
      }
      return finish(id, write.failure)
    }
    _ = cursor.raw()
    _ = cursor.raw()
    write.removal = cursor.text().flatMap { JournalID($0) }
    if let removal = write.removal { writing.keys[write.key.bytes]?.removedHere(by: removal) }
    // What another SET is to replace, or has replaced, is not stored.
    let isNewest = writing.keys[write.key.bytes]?.newest == id
    guard write.failure == nil, write.removal != nil, write.transaction != nil, isNewest else {
      return finish(id, write.failure)
    }
    write.phase = .awaiting
    writing.writes[id] = write
    writing.keys[write.key.bytes]?.awaiting = id
    writing.awaiting.append((id, now.after(nanoseconds: Writing.patience)))
    storeIfSeen(id)
  }

  /// No reply will come.
  mutating func abandonWritten(_ id: UInt64) {
    guard let write = writing.writes[id] else { return }
    dropNear(write.key)
    finish(id, write.failure)
  }

  // MARK: Storing

  /// Notes what the journal tells of keys with SETs under way. What was seen before the statement's own outcome
  /// came counts as well: the log may be faster than PostgreSQL's reply.
  mutating func noteSightings(_ entries: [JournalEntry], _ generation: Generation) {
    guard !writing.keys.isEmpty else { return noteGroups(entries) }
    var seen: [[UInt8]] = []
    for entry in entries {
      if let origins = entry.origins, follower.generation == generation {
        var index = 0
        let isMixed = writing.groupsAt == entry.position
        entry.keys.forEach { name in
          let key = [UInt8](name)
          if let origin = origins[index], writing.keys[key] != nil {
            writing.keys[key]?.saw(
              Sighting(
                transaction: origin.transaction, generation: generation, entry: entry.id,
                position: entry.position, isMixed: isMixed))
            seen.append(key)
          }
          index += 1
        }
      } else if entry.origins == nil {
        entry.keys.forEach { writing.keys[[UInt8]($0)]?.removed(by: entry.id) }
      }
      if !entry.groups.isEmpty { writing.groupsAt = entry.position }
    }
    for key in seen { if let id = writing.keys[key]?.awaiting { storeIfSeen(id) } }
  }

  private mutating func noteGroups(_ entries: [JournalEntry]) {
    for entry in entries where !entry.groups.isEmpty { writing.groupsAt = entry.position }
  }

  /// Stores the value of a SET if the journal has told of its transaction and of none after it.
  private mutating func storeIfSeen(_ id: UInt64) {
    guard let write = writing.writes[id], case .awaiting = write.phase, let transaction = write.transaction,
      let sightings = writing.keys[write.key.bytes]?.sightings,
      let sighting = sightings.last(where: { $0.transaction == transaction })
    else { return }
    // Another host may have written the key later, removed it and answered, before the log tells of that.
    let isRemoved = writing.keys[write.key.bytes]?.isRemovedByOthers ?? true
    guard sighting.entry == sightings.last?.entry, !sighting.isMixed, !isRemoved, write.gaps == writing.gaps,
      sighting.generation == follower.generation, resp2.isReady
    else { return finish(id, nil) }
    storeWritten(id, sighting)
  }

  private mutating func storeWritten(_ id: UInt64, _ sighting: Sighting) {
    guard var write = writing.writes[id], let session = write.session else { return finish(id, nil) }
    noteWrite(write.key)
    write.key.version = writeVersion(write.key.hash)
    write.key.serial = epochs.serial
    write.phase = .storing
    writing.keys[write.key.bytes]?.awaiting = nil
    writing.writes[id] = write
    let given = write.milliseconds.map { UInt64($0).multipliedReportingOverflow(by: 1_000_000) }
    let lifetime = [given.map { $0.overflow ? .max : $0.partialValue }, write.key.rule.lifetime()]
      .compactMap { $0 }.min()
    let lease = Lease(
      generation: sighting.generation, stamp: Stamp(visible: sighting.position, deletions: 0))
    let fill = WrittenFill(
      write: id, lease: lease, expires: lifetime.map { now.after(nanoseconds: $0) })
    resp2.begin(.written, keys: 3, arguments: 8)
    resp2.output.bulk(keys.meta)
    resp2.output.bulk(keys.journal(sighting.generation))
    resp2.output.bulk(write.key.bytes)
    resp2.output.bulk(sighting.generation.hex)
    resp2.output.bulk(sighting.entry.description)
    resp2.output.bulk(sighting.position.hex)
    resp2.output.bulk(write.removal?.description ?? "")
    resp2.output.bulk(write.key.tags)
    resp2.appendLimit(lifetime)
    resp2.output.bulk(write.value)
    resp2.output.bulk(session)
    resp2.await(.task(UpstreamTask(client: nil, work: .writtenFill(fill))))
  }

  mutating func finish(_ fill: WrittenFill, _ replies: UnsafeRawBufferPointer) {
    guard let write = writing.writes[fill.write] else { return }
    defer { finish(fill.write, nil) }
    let moved = write.key.version != writeVersion(write.key.hash)
    dropNear(write.key)
    var cursor = ReplyCursor(replies)
    guard !cursor.isError, cursor.enter() == 7, let word = cursor.text() else {
      if isForgottenScript(replies) { reloadScripts() }
      return
    }
    let isStored = !cursor.isError && !cursor.isNull
    _ = cursor.raw()
    guard word == "OK" else {
      // It may have been another session.
      writing.sessionAsked = Instant(nanoseconds: 0)
      return noteRefused(write.key, by: write.command, FillRefusal(script: word), under: fill.lease)
    }
    guard isStored else { return }
    noteStored(write.key, by: write.command, under: fill.lease)
    counters.writesStored += 1
    guard acceptsFill(&cursor), !moved, write.value.count <= settings.near.maxEntry else { return }
    var key = write.key
    key.version = writeVersion(key.hash)
    write.value.withUnsafeBytes { keepNear(key, $0, expires: fill.expires) }
  }

  /// Asks for the tailer's session now and then, so that it is known before a SET comes.
  private mutating func askForSession() {
    guard governance.writesThrough, resp2.isReady, let generation = follower.generation else { return }
    let isNew = writing.session == nil || generation != writing.sessionGeneration
    guard now.since(writing.sessionAsked) >= (isNew ? 20_000_000 : 1_000_000_000) else { return }
    writing.sessionAsked = now
    writing.sessionGeneration = generation
    resp2.output.array(3)
    resp2.output.argument("HGET")
    resp2.output.bulk(keys.meta)
    resp2.output.argument("ep")
    resp2.await(.task(UpstreamTask(client: nil, work: .tailSession)))
  }

  mutating func finishSession(_ replies: UnsafeRawBufferPointer) {
    var cursor = ReplyCursor(replies)
    writing.session = cursor.isError ? nil : cursor.text()
  }

  /// Answers the SETs that have waited for the journal for long enough.
  mutating func tickWrites() {
    askForSession()
    tickBehind()
    while let first = writing.awaiting.first {
      let waits = if case .awaiting = writing.writes[first.id]?.phase { true } else { false }
      guard !waits || now >= first.until else { return }
      writing.awaiting.removeFirst()
      if waits { finish(first.id, nil) }
    }
  }
}

extension WrittenKey {
  /// The journal tells of a removal.
  fileprivate mutating func removed(by entry: JournalID) {
    guard !isBehind, own.remove(entry) == nil else { return }
    removals.append(entry)
    guard removals.count > Writing.mostRemovals else { return }
    removals.removeFirst()
    hasForgotten = true
  }

  /// This host has removed the key, for a SET.
  fileprivate mutating func removedHere(by entry: JournalID) {
    if let place = removals.firstIndex(of: entry) {
      removals.remove(at: place)
      return
    }
    own.insert(entry)
    guard own.count > Writing.mostRemovals else { return }
    own = []
    hasForgotten = true
  }

  fileprivate mutating func saw(_ sighting: Sighting) {
    guard sightings.last?.entry != sighting.entry else { return }
    sightings.append(sighting)
    if sightings.count > Writing.mostSightings { sightings.removeFirst() }
  }
}

/// A value that was written, on its way to Redis.
struct WrittenFill {
  var write: UInt64
  /// As if it were a lease: the entry that cleared the key.
  var lease: Lease
  var expires: Instant?
}
