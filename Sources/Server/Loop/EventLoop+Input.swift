import Configuration
import Invalidation
import Logging
import Metrics
import NearCache

/// The commands of one read, kept between reads so that their memory is made once.
struct Batch {
  struct Command {
    /// From the first unread byte of the client's input.
    var start: Int
    var length: Int
    var firstArgument: Int
    var argumentCount: Int
    /// How many keys a GET or MGET has whose memory is already on the way when they are looked up; 0: it is none.
    var keys = 0
    /// Where their hashes begin.
    var firstHash = 0
  }

  var commands: [Command] = []
  var arguments: [Argument] = []
  var hashes: [UInt64] = []
  /// How many keys the commands have, of a reader.
  var keys = 0
  /// How many bytes of the input the batch takes, empty lines included.
  var consumed = 0

  /// So many commands are looked up together: enough to hide memory's latency, few enough to stay in cache.
  static let most = 64
  /// The same for keys: an MGET that would bring more of them is executed by itself.
  static let mostKeys = 1024

  mutating func removeAll() {
    commands.removeAll(keepingCapacity: true)
    arguments.removeAll(keepingCapacity: true)
    hashes.removeAll(keepingCapacity: true)
    keys = 0
    consumed = 0
  }
}

extension EventLoop {
  /// Executes every complete command in the client's input, in order, until one pauses the client or there are
  /// too many replies that it has not taken.
  mutating func processInput(_ slot: Int) {
    let client = clients + slot
    var work = Batch()
    swap(&work, &batch)
    defer { swap(&work, &batch) }
    client.pointee.isStalled = false
    while client.pointee.pause == .none, !client.pointee.isClosing {
      if mustWait(slot) {
        client.pointee.isStalled = !client.pointee.input.isEmpty
        return
      }
      if client.pointee.longRequest != nil {
        passOn(slot)
        if client.pointee.longRequest != nil { return }
        continue
      }
      work.removeAll()
      let wasLocked = client.pointee.session.isLocked
      let failure = cut(slot, into: &work)
      let done = work.commands.isEmpty ? 0 : execute(&work, slot)
      // A command that pauses the client leaves the rest of the batch for later: it is cut again then.
      if done < work.commands.count {
        client.pointee.input.consume(work.commands[done].start)
        client.pointee.parser = RequestParser(isLocked: client.pointee.session.isLocked)
        return
      }
      if client.pointee.isClosing { return client.pointee.input.consume(client.pointee.input.count) }
      if failure != nil, client.pointee.pause != .none {
        // The error comes behind the answer that is waited for: it is found again then.
        client.pointee.input.consume(work.consumed)
        client.pointee.parser = RequestParser(isLocked: client.pointee.session.isLocked)
        return
      }
      if failure != nil, wasLocked, !client.pointee.session.isLocked {
        // It was cut by the bounds of before the password was said.
        client.pointee.input.consume(work.consumed)
        client.pointee.parser = RequestParser()
        continue
      }
      if let failure {
        counters.protocolErrors += 1
        client.pointee.reply { $0.error(Array("ERR Protocol error: ".utf8) + failure.text) }
        client.pointee.isClosing = true
        return
      }
      if work.consumed > 0 { client.pointee.input.consume(work.consumed) }
      if work.commands.count < Batch.most {
        if client.pointee.input.count > Self.longRequest, client.pointee.pause == .none {
          beginLongRequest(slot)
        }
        return
      }
    }
  }

  /// Cuts up to `Batch.most` commands. The result is the protocol error behind them, if there is one.
  private mutating func cut(_ slot: Int, into work: inout Batch) -> ProtocolError? {
    let client = clients + slot
    let all = client.pointee.input.bytes
    var at = 0
    while work.commands.count < Batch.most, at < all.count {
      let first = work.arguments.count
      switch client.pointee.parser.next(
        UnsafeRawBufferPointer(rebasing: all[at...]), into: &work.arguments)
      {
      case .command(let length):
        work.commands.append(
          Batch.Command(
            start: at, length: length, firstArgument: first, argumentCount: work.arguments.count - first))
        at += length
        work.consumed = at
      case .nothing(let length):
        at += length
        work.consumed = at
      case .incomplete: return nil
      case .failed(let error): return error
      }
    }
    return nil
  }

  /// Executes the commands of a batch; returns how many, fewer than all if one of them paused the client.
  ///
  /// Near hits in a row make a run. Whether the evidence still holds is asked once for each run, after its
  /// last lookup and before anything of it can be written; a run that took too long is taken back and
  /// answered again without the near cache.
  private mutating func execute(_ work: inout Batch, _ slot: Int) -> Int {
    let client = clients + slot
    let base = client.pointee.input.readable
    let count = work.commands.count
    counters.commands += count
    var hashes: [UInt64] = []
    swap(&hashes, &work.hashes)
    defer { swap(&hashes, &work.hashes) }
    return work.arguments.withUnsafeBufferPointer { arguments in
      guard let arguments = arguments.baseAddress else { return count }
      work.commands.withUnsafeMutableBufferPointer { commands in
        for index in 0..<count {
          let request = Self.request(commands[index], base, arguments)
          guard request.count > 1, Self.isNearRead(request),
            hashes.count + request.count <= Batch.mostKeys
          else { continue }
          commands[index].keys = request.count - 1
          commands[index].firstHash = hashes.count
          for key in 1..<request.count {
            let hash = near.hash(request[key])
            near.prefetchSlot(hash)
            hashes.append(hash)
          }
        }
      }
      for hash in hashes { near.prefetchEntry(hash) }
      var index = 0
      while index < count {
        let mayBeNear =
          work.commands[index].keys > 0 && client.pointee.writes == 0 && client.pointee.session.isPlain
          && !client.pointee.isTracking && !clientPause.coversAll
        if mayBeNear {
          let end = executeRun(work, hashes, from: index, slot, base, arguments)
          if end > index {
            client.pointee.nearRow &+= end - index
            index = end
            continue
          }
        }
        client.pointee.nearRow = 0
        if mayBeNear, work.commands[index].keys == 1,
          relayPlainRead(Self.request(work.commands[index], base, arguments), slot)
        {
          index += 1
          continue
        }
        let isQuiet = client.pointee.session.isQuiet
        if isQuiet { client.pointee.beginQuietly() }
        let request = Self.request(work.commands[index], base, arguments)
        if slow.isOn { executeTimed(request, slot) } else { execute(request, slot) }
        if isQuiet { client.pointee.endQuietly(repeats: client.pointee.repeatsCommand) }
        if !client.pointee.repeatsCommand { tally.executed(isEmbedded: embedded != nil) }
        if client.pointee.isClosing { return count }
        // A command that waits for its client to be answered first is executed again then.
        if client.pointee.repeatsCommand { return index }
        index += 1
        if client.pointee.pause != .none { return index }
      }
      return count
    }
  }

  @inline(__always)
  private static func request(
    _ command: Batch.Command, _ base: UnsafeRawPointer, _ arguments: UnsafePointer<Argument>
  ) -> Request {
    Request(
      base: base + command.start, arguments: arguments + command.firstArgument,
      count: command.argumentCount, length: command.length)
  }

  @inline(__always)
  private static func isNearRead(_ request: Request) -> Bool {
    request.count == 2 && request.isNamed("get") || request.isNamed("mget")
  }

  /// Answers GETs and MGETs from `first` on for as long as all their keys hit; returns the first that did not. Each
  /// entry may have a bound of its own; what is asked of the clock after the last one is the strictest of the run.
  @inline(__always)
  private mutating func executeRun(
    _ work: borrowing Batch, _ hashes: [UInt64], from first: Int, _ slot: Int, _ base: UnsafeRawPointer,
    _ arguments: UnsafePointer<Argument>
  ) -> Int {
    guard isFresh(at: now, bound: governance.longestBound), let certificate else { return first }
    let age = now.since(certificate)
    var index = first
    var served = 0
    clients[slot].replyNear { output in
      var (hits, mgets) = (0, 0)
      var strictest = UInt64.max
      commands: while index < work.commands.count, work.commands[index].keys > 0 {
        let command = work.commands[index]
        let request = Self.request(command, base, arguments)
        let start = output.count
        // GET has one key too, but no array around its value.
        let isMget = request.count > 2 || request[0].count == 4
        if isMget { output.array(command.keys) }
        for key in 1...command.keys {
          let hash = hashes[command.firstHash + key - 1]
          guard let entry = near.find(request[key], hash: hash, now: now), isCurrent(entry, request[key]),
            EntryMark.isValue(entry.tag), age <= bound(of: entry)
          else {
            output.truncate(to: start)
            uncount(request, keys: 1..<key, hashes, command)
            break commands
          }
          strictest = min(strictest, bound(of: entry))
          if entry.tag & EntryMark.early != 0 {
            considerEarly(request[key], hash: hash, expires: entry.expires)
          }
          tally.runHits[EntryMark.rule(of: entry.tag)] &+= 1
          output.append(entry.reply)
        }
        hits += command.keys
        if isMget { mgets += 1 }
        index += 1
      }
      guard index > first else { return nil }
      if !isFresh(at: clock(), bound: strictest) {
        index = first
        return nil
      }
      counters.nearHits += hits
      served = hits
      tally.runMgets += mgets
      tally.runGets += index - first - mgets
      let (until, overflow) = certificate.nanoseconds.addingReportingOverflow(strictest)
      return (index - first, Instant(nanoseconds: overflow ? .max : until))
    }
    if let drawn = tally.draw.draw(of: served) { noteHot(drawn, work, hashes, first, base, arguments) }
    if index > first, let drawn = sampling.near.takes(served) {
      sampleNear(key(drawn, work, first, base, arguments))
    }
    return index
  }

  /// The key with this number, counted from the first of the run, was drawn.
  @inline(never)
  private func noteHot(
    _ drawn: Int, _ work: borrowing Batch, _ hashes: [UInt64], _ first: Int, _ base: UnsafeRawPointer,
    _ arguments: UnsafePointer<Argument>
  ) {
    let hash = hashes[work.commands[first].firstHash + drawn]
    tally.hotKeys.note(key(drawn, work, first, base, arguments), hash: hash, at: now)
  }

  /// The key with this number, counted from the first of the run.
  private func key(
    _ drawn: Int, _ work: borrowing Batch, _ first: Int, _ base: UnsafeRawPointer,
    _ arguments: UnsafePointer<Argument>
  ) -> UnsafeRawBufferPointer {
    let number = work.commands[first].firstHash + drawn
    // Commands between two of the run would have ended it, so its keys lie side by side.
    var index = first
    while work.commands[index].firstHash + work.commands[index].keys <= number { index += 1 }
    let command = work.commands[index]
    return Self.request(command, base, arguments)[1 + number - command.firstHash]
  }

  /// Takes back the count of the first keys of an MGET that does not hit wholly: it is executed by itself, and counted
  /// then.
  private mutating func uncount(
    _ request: Request, keys: Range<Int>, _ hashes: [UInt64], _ command: Batch.Command
  ) {
    for key in keys {
      let hash = hashes[command.firstHash + key - 1]
      guard let entry = near.find(request[key], hash: hash, now: now) else { continue }
      tally.runHits[EntryMark.rule(of: entry.tag)] &-= 1
    }
  }

  @inline(__always)
  func bound(of entry: NearEntry) -> UInt64 {
    governance.bound(marked: entry.tag)
  }
}
