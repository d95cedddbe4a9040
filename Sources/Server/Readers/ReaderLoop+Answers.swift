import CLinux
import Configuration
import Invalidation
import Metrics
import NearCache

/// Near hits, by the same rules and in the same passes as in the event loop (`EventLoop+Input.swift`).
extension ReaderLoop {
  /// How much is answered before it is sent.
  private static let outputHighWater = 1024 * 1024

  /// Answers commands from the front of `input`, and consumes them; the end of the answers may wait in `output`. `isAll`:
  /// everything complete was answered; otherwise the first command that is left is not a reader's business, or the
  /// client does not take its answers.
  mutating func answer(_ descriptor: Int32) -> (commands: Int, isAll: Bool) {
    var answered = 0
    while !input.isEmpty {
      work.removeAll()
      let end = cut()
      let done = answerBatch()
      answered += done
      guard done == work.commands.count else {
        input.consume(work.commands[done].start)
        return (answered, false)
      }
      input.consume(work.consumed)
      switch end {
      case .full: if output.count > Self.outputHighWater, !send(descriptor) { return (answered, false) }
      case .incomplete: return (answered, true)
      case .other: return (answered, false)
      }
    }
    return (answered, true)
  }

  private enum End { case full, incomplete, other }

  /// Cuts GETs and MGETs into `work`; what ended it.
  private mutating func cut() -> End {
    let all = input.bytes
    var at = 0
    while work.commands.count < Batch.most, at < all.count {
      let first = work.arguments.count
      switch parser.next(UnsafeRawBufferPointer(rebasing: all[at...]), into: &work.arguments) {
      case .command(let length):
        let count = work.arguments.count - first
        let isRead = work.arguments.withUnsafeBufferPointer { arguments -> Bool in
          guard let arguments = arguments.baseAddress, count > 1 else { return false }
          let request = Request(
            base: input.readable + at, arguments: arguments + first, count: count, length: length)
          return count == 2 && request.isNamed("get") || request.isNamed("mget")
        }
        guard isRead, count - 1 <= Batch.mostKeys else { return .other }
        guard work.keys + count - 1 <= Batch.mostKeys else { return .full }
        work.commands.append(
          Batch.Command(
            start: at, length: length, firstArgument: first, argumentCount: count, keys: count - 1,
            firstHash: work.keys))
        work.keys += count - 1
        at += length
        work.consumed = at
      case .nothing(let length):
        at += length
        work.consumed = at
      case .incomplete: return .incomplete
      case .failed:
        parser = RequestParser()
        return .other
      }
    }
    return .full
  }

  /// Answers the commands of `work` from the first on for as long as all their keys hit; returns how many.
  private mutating func answerBatch() -> Int {
    guard !work.commands.isEmpty else { return 0 }
    let base = input.readable
    var hashes: [UInt64] = []
    swap(&hashes, &work.hashes)
    defer { swap(&hashes, &work.hashes) }
    let before = output.count
    // Before the first look-up: what it says has been taken out of the near cache is not found any more.
    guard let evidence = plan.board.evidence else { return 0 }
    let age = now.since(evidence.certificate)
    guard age <= governance.longestBound else { return 0 }
    var strictest = UInt64.max
    var done = 0
    var mgets = 0
    let commands = work.commands
    work.arguments.withUnsafeBufferPointer { arguments in
      guard let arguments = arguments.baseAddress else { return }
      for command in commands {
        for key in 1...command.keys {
          let argument = arguments[command.firstArgument + key]
          let hash = plan.near.hash(
            UnsafeRawBufferPointer(
              start: base + command.start + Int(argument.offset), count: Int(argument.length)))
          plan.near.prefetchSlot(hash)
          hashes.append(hash)
        }
      }
      for hash in hashes { plan.near.prefetchEntry(hash) }
      for command in commands {
        let request = Request(
          base: base + command.start, arguments: arguments + command.firstArgument,
          count: command.argumentCount, length: command.length)
        guard let bound = answer(request, command, hashes, age) else { return }
        strictest = min(strictest, bound)
        if Self.isMget(request) { mgets += 1 }
        done += 1
      }
    }
    guard done > 0 else { return 0 }
    // Behind the last look-up: the age of what they claim, and whether they may claim it.
    let age2 = Instant(nanoseconds: clinux_boot_nanoseconds()).since(evidence.certificate)
    guard age2 <= strictest, plan.board.holds(evidence) else {
      output.truncate(to: before)
      return 0
    }
    plan.counters.add(commands: done, mgets: mgets)
    let keys = done == commands.count ? hashes.count : commands[done].firstHash
    if let drawn = sampling.takes(keys), let key = key(drawn, commands, base) {
      plan.sampler?.sample([UInt8](key))
    }
    if let drawn = draw.draw(of: keys), let key = key(drawn, commands, base) {
      plan.hotKeys.note(key, hash: hashes[drawn], at: now)
    }
    return done
  }

  /// The key with this number, counted from the first of the batch; nil: there are fewer.
  private func key(
    _ drawn: Int, _ commands: [Batch.Command], _ base: UnsafeRawPointer
  ) -> UnsafeRawBufferPointer? {
    guard let command = commands.first(where: { $0.firstHash + $0.keys > drawn }) else { return nil }
    let argument = work.arguments[command.firstArgument + 1 + drawn - command.firstHash]
    return UnsafeRawBufferPointer(
      start: base + command.start + Int(argument.offset), count: Int(argument.length))
  }

  /// Answers one command; the strictest bound of its entries, or nil and nothing.
  private mutating func answer(
    _ request: Request, _ command: Batch.Command, _ hashes: [UInt64], _ age: UInt64
  ) -> UInt64? {
    let start = output.count
    if Self.isMget(request) { output.array(command.keys) }
    let isOne = command.keys == 1
    let serial = isOne ? 0 : plan.epochs.serial
    var hasGroups = false
    var strictest = UInt64.max
    if !isOne {
      versions.removeAll(keepingCapacity: true)
      tags.removeAll(keepingCapacity: true)
    }
    for key in 1...command.keys {
      let hash = hashes[command.firstHash + key - 1]
      guard let entry = find(request[key], hash), EntryMark.isValue(entry.tag), !mayBeDue(entry) else {
        output.truncate(to: start)
        return nil
      }
      let bound = governance.bound(marked: entry.tag)
      if entry.serial != nil { hasGroups = true }
      guard age <= bound, isCurrent(entry, request[key], hash) else {
        output.truncate(to: start)
        return nil
      }
      strictest = min(strictest, bound)
      if isOne { plan.counters.hit(EntryMark.rule(of: entry.tag)) }
      if !isOne {
        versions.append(entry.version)
        tags.append(entry.tag)
      }
    }
    // The values of one command were there at one moment, as they are for whoever is answered by the event loop.
    if !isOne {
      let isSame =
        (!hasGroups || plan.epochs.serial == serial)
        && (0..<command.keys).allSatisfy {
          plan.near.isUnchanged(hashes[command.firstHash + $0], since: versions[$0])
        }
      guard isSame else {
        output.truncate(to: start)
        return nil
      }
      for tag in tags { plan.counters.hit(EntryMark.rule(of: tag)) }
    }
    return strictest
  }

  /// GET has one key too, but no array around its value.
  @inline(__always)
  private static func isMget(_ request: Request) -> Bool { request.count > 2 || request[0].count == 4 }

  /// Copies the reply to `output`.
  private mutating func find(_ key: UnsafeRawBufferPointer, _ hash: UInt64) -> NearReader.Copy? {
    var most = 1024
    // A value may be replaced by a longer one between two tries.
    for _ in 0..<3 {
      let room = output.room(most)
      guard let start = room.baseAddress else { return nil }
      switch plan.near.copy(key, hash: hash, now: now, to: start, room: room.count) {
      case .none: return nil
      case .longer(let count): most = count
      case .copied(let copy):
        output.filled(copy.count)
        return copy
      }
    }
    return nil
  }

  /// Whether the event loop would consider loading it anew.
  private func mayBeDue(_ entry: NearReader.Copy) -> Bool {
    guard entry.tag & EntryMark.early != 0, entry.expires != .max else { return false }
    return Instant(nanoseconds: entry.expires).since(now) <= plan.board.earlyLead
  }

  /// Whether no group of the key was cleared since the value was asked for.
  private func isCurrent(_ entry: NearReader.Copy, _ key: UnsafeRawBufferPointer, _ hash: UInt64) -> Bool {
    guard let serial = entry.serial else { return true }
    var isCurrent = true
    governance.groups.forEach(of: key) { if !plan.epochs.isCurrent(serial, $0) { isCurrent = false } }
    // The epochs that were asked may be those of a time after everything was dropped (`GroupEpochs.beginAnew`).
    return isCurrent && plan.near.isUnchanged(hash, since: entry.version)
  }
}
