import CLinux
import Configuration
import Glibc
import Invalidation
import Logging
import NearCache
import Policies

/// What the event loop knows of one reader.
struct Reader {
  let plan: ReaderPlan
  /// How many clients it has.
  var clients = 0
  /// What of its counters has been added to the event loop's.
  var counted = ReaderCounters.Totals()
  var thread: Worker.Handle?
}

/// Clients that are lent to readers.
///
/// Lent is a client that carries nothing from one command to the next and has had a row of near hits, as long as the
/// reader has fewer clients than the event loop has that are as busy. It comes back with the first command that is
/// not plainly a near hit. One that came back soon has to show a longer row the next time.
struct Lending {
  var readers: [Reader] = []
  var heard = HeardTimes(slots: 0)
  /// How many clients are lent, or on their way back.
  var lent = 0
  /// Clients here that could be lent, counted in periods; a client's own number says in which it was counted.
  private var period: UInt32 = 1
  private var began = Instant(nanoseconds: 0)
  private var busy = (now: 0, before: 0)

  /// A row of so many near hits, at first and at most. Tests whose clients have few say less.
  static let leastRow = rowOfTests ?? 64
  static let mostRow = rowOfTests ?? 1 << 16
  private static let rowOfTests = getenv("NEARSIDE_LEND_AFTER").flatMap { Int(String(cString: $0)) }
  private static let periodLength: UInt64 = 100_000_000

  /// A client has such a row: the reader that it is to be lent to; nil: it stays.
  mutating func reader(for counted: inout UInt32, at now: Instant) -> Int? {
    if now.since(began) >= Self.periodLength {
      busy = (0, now.since(began) < 2 * Self.periodLength ? busy.now : 0)
      began = now
      period &+= 1
    }
    if counted != period {
      counted = period
      busy.now += 1
    }
    guard let least = readers.indices.min(by: { readers[$0].clients < readers[$1].clients }),
      readers[least].clients < max(busy.now, busy.before)
    else { return nil }
    busy = (max(0, busy.now - 1), max(0, busy.before - 1))
    counted = 0
    return least
  }
}

extension EventLoop {
  // MARK: Threads

  /// Makes `count` readers; fewer where the system refuses, which costs no more than what they would have done.
  mutating func startReaders(_ count: Int) {
    guard count > 0 else { return }
    lending.heard = HeardTimes(slots: inUse.count)
    for number in 1...count {
      guard let box = ReaderMailbox() else { break }
      let plan = ReaderPlan(
        near: near.reader, epochs: epochs, governance: governance, auditShare: auditShare, sampler: sampler,
        board: ReaderBoard(), heard: lending.heard,
        counters: ReaderCounters(templates: governance.templates.count + 1), hotKeys: tally.hotKeys,
        mailbox: box, busyPoll: settings.listen.busyPoll, owner: mailbox)
      let thread = Worker.start("reader-\(number)") {
        var loop = ReaderLoop(plan)
        loop.run()
      }
      guard let thread else { break }
      lending.readers.append(Reader(plan: plan, thread: thread))
    }
    if lending.readers.count < count {
      log.warning(
        "\(lending.readers.count + 1) of \(count + 1) threads serve clients: the system gives no more threads or descriptors"
      )
    }
    publishEvidence()
  }

  func stopReaders() { for reader in lending.readers { reader.plan.mailbox.post(.stop) } }

  /// Readers read the near cache's memory: it must not go before they have ended.
  mutating func joinReaders() {
    for index in lending.readers.indices {
      lending.readers[index].thread?.join()
      lending.readers[index].thread = nil
    }
    collectCounts()
  }

  /// Says what readers may claim: nothing while clients are paused, who then come back. To be called after everything that the evidence tells of has left the near cache,
  /// and before anybody is told that it has, or anything enters it.
  mutating func publishEvidence() {
    guard !lending.readers.isEmpty else { return }
    let (certificate, lead) = (clientPause.coversAll ? nil : certificate, loading.early.longestLead)
    for reader in lending.readers { reader.plan.board.publish(certificate, earlyLead: lead) }
  }

  /// Adds what readers have counted.
  mutating func collectCounts() {
    for index in lending.readers.indices {
      let totals = lending.readers[index].plan.counters.totals
      let counted = lending.readers[index].counted
      for (template, hits) in totals.hits.enumerated() {
        let more = hits - (counted.hits.isEmpty ? 0 : counted.hits[template])
        counters.nearHits += more
        tally.runHits[template] += more
      }
      let (commands, mgets) = (totals.commands - counted.commands, totals.mgets - counted.mgets)
      counters.commands += commands
      tally.runGets += commands - mgets
      tally.runMgets += mgets
      lending.readers[index].counted = totals
    }
  }

  /// When a client was heard last.
  func heardAt(_ slot: Int) -> Instant {
    clients[slot].reader == nil ? clients[slot].heardAt : max(clients[slot].heardAt, lending.heard.at(slot))
  }

  // MARK: There and back

  /// A client has had a long row of near hits.
  mutating func considerLending(_ slot: Int) {
    let client = clients + slot
    guard client.pointee.isLendable, !isStopping,
      let number = lending.reader(for: &client.pointee.countedIn, at: now)
    else {
      // Asked again a little later.
      client.pointee.nearRow = client.pointee.lendAfter - Lending.leastRow
      return
    }
    _ = clinux_epoll_remove(epoll, client.pointee.descriptor)
    client.pointee.reader = Int32(number)
    client.pointee.nearRow = 0
    lending.lent += 1
    lending.readers[number].clients += 1
    lending.heard.note(Int32(slot), now)
    lending.readers[number].plan.mailbox.post(
      .lend(
        Loan(
          client: client.pointee.token, descriptor: client.pointee.descriptor,
          arrivals: client.pointee.arrivals, heardAt: now)))
  }

  /// Something waits to be written to a client that is lent.
  func recall(_ slot: Int) {
    guard let reader = clients[slot].reader else { return }
    lending.readers[Int(reader)].plan.mailbox.post(.recall(clients[slot].token))
  }

  /// A client that is lent is dropped. Its descriptor is closed by whoever has it, so that no other gets its number
  /// meanwhile; the client notices at once.
  mutating func dropLent(_ slot: Int) {
    guard let reader = clients[slot].reader else { return }
    shutdown(clients[slot].descriptor, Int32(SHUT_RDWR))
    clients[slot].leavesDescriptorOpen = true
    lending.readers[Int(reader)].plan.mailbox.post(.close(clients[slot].token))
    noteBack(Int(reader))
  }

  private mutating func noteBack(_ reader: Int) {
    lending.lent -= 1
    lending.readers[reader].clients -= 1
  }

  mutating func takeBack(_ back: GivenBack) {
    guard isAlive(back.loan.client) else {
      // Dropped meanwhile.
      close(back.loan.descriptor)
      return
    }
    let slot = Int(back.loan.client.slot)
    let client = clients + slot
    guard let reader = client.pointee.reader else { return }
    client.pointee.heardAt = heardAt(slot)
    client.pointee.reader = nil
    noteBack(Int(reader))
    if back.loan.answered >= 4 * client.pointee.lendAfter {
      client.pointee.lendAfter = Lending.leastRow
    } else if !back.isIdle {
      client.pointee.lendAfter = min(client.pointee.lendAfter * 2, Lending.mostRow)
    }
    client.pointee.arrivals = back.loan.arrivals.moved(to: poll)
    client.pointee.partialSince = back.unreadSince
    client.pointee.emptyAt = back.unreadSince
    // What the event loop has for it comes behind what the reader has begun to write.
    let later = [UInt8](client.pointee.output.bytes)
    client.pointee.output.consume(later.count)
    client.pointee.output.append(back.unsent)
    client.pointee.output.append(later)
    client.pointee.input.append(back.unread)
    client.pointee.watched = UInt32(CLINUX_READABLE)
    client.pointee.readsPaused = false
    let added = clinux_epoll_add(
      epoll, client.pointee.descriptor, client.pointee.watched, Self.pack(client.pointee.token))
    guard added == 0 else { return drop(slot) }
    if !client.pointee.input.isEmpty {
      processInput(slot)
      if client.pointee.input.count > settings.clients.queryBuffer { return dropForQueryBuffer(slot) }
    }
    flush(slot)
  }
}

extension Client {
  /// Whether nothing of it would have to be carried to another loop.
  var isLendable: Bool {
    reader == nil && input.isEmpty && output.isEmpty && owed.isEmpty && longRequest == nil && pause == .none
      && session.isPlain && session.pinned == nil && session.subscriptions.isEmpty && !isTracking
      && writes == 0 && !isClosing
      && !hasEnded && !readsPaused && overSoftSince == nil
  }
}
