import CLinux
import Glibc
import Invalidation
import NearCache

/// What a reader is given; all of it may be used on any thread.
struct ReaderPlan: Sendable {
  var near: NearReader
  var epochs: GroupEpochs
  /// Those of the beginning, as the next.
  var governance: Governance
  var auditShare: Double
  var sampler: (any KeySampler)?
  var board: ReaderBoard
  var heard: HeardTimes
  var counters: ReaderCounters
  var hotKeys: HotKeyBoard
  var mailbox: ReaderMailbox
  /// In nanoseconds (`listen.busyPoll`); 0: none.
  var busyPoll: UInt64
  /// The event loop's.
  var owner: LoopMailbox
}

/// A thread beside the event loop that answers GET and MGET from the near cache, for clients that the event loop has
/// lent to it. Whatever it cannot answer it gives back, with the bytes from there on; so the order of answers is
/// that of the commands, and everything that has a state stays in one place.
struct ReaderLoop: ~Copyable {
  let plan: ReaderPlan
  /// Those in force.
  private(set) var governance: Governance
  var sampling: Sampling
  private let epoll: Int32
  private var loans: [Loan?] = []
  private var free: [Int] = []
  private var places: [Int32: Int] = [:]
  /// Of the client that is being served. A client of whom something waits here is given back, so all share them.
  var input = IOBuffer(size: 64 * 1024)
  var output = IOBuffer(size: 64 * 1024)
  var parser = RequestParser()
  var work = Batch()
  /// Of the values of one MGET: their versions, and what the owner handed over with them.
  var versions: [UInt64] = []
  var tags: [UInt32] = []
  var draw = HotKeyBoard.draw()
  var now: Instant
  private var poll: UInt64 = 1
  private var wholePoll: Arrivals.WholePoll
  private var lookedForIdle: Instant
  private var isStopping = false

  /// At most so many reads bring the rest of a command.
  private static let mostReads = 8
  /// A client that says nothing for so long is given back, so that those that a reader has are those it works for.
  private static let idle: UInt64 = 1_000_000_000

  init(_ plan: ReaderPlan) {
    self.plan = plan
    governance = plan.governance
    sampling = Sampling(share: plan.auditShare)
    epoll = plan.mailbox.epoll
    now = Instant(nanoseconds: clinux_boot_nanoseconds())
    wholePoll = Arrivals.WholePoll(began: now)
    lookedForIdle = now
  }

  /// Serves until it is told to stop; then nobody is lent to it any more.
  mutating func run() {
    let events = UnsafeMutablePointer<clinux_event>.allocate(capacity: 512)
    defer { events.deallocate() }
    var waiting = BusyPoll(plan.busyPoll)
    while !isStopping {
      let began = Instant(nanoseconds: clinux_boot_nanoseconds())
      let count = waiting.wait(epoll, events, 512, 500)
      now = Instant(nanoseconds: clinux_boot_nanoseconds())
      for index in 0..<max(0, Int(count)) {
        guard events[index].token != ReaderMailbox.token else {
          readMailbox()
          continue
        }
        let place = Int(UInt32(truncatingIfNeeded: events[index].token))
        guard let loan = loans[place], loan.client.serial == UInt32(events[index].token >> 32) else {
          continue
        }
        serve(place, events[index].events)
      }
      if count >= 0, count < 512 { wholePoll = Arrivals.WholePoll(number: poll, began: began) }
      poll += 1
      if now.since(lookedForIdle) >= Self.idle / 2 { giveBackIdle() }
    }
  }

  // MARK: Whose clients

  private mutating func readMailbox() {
    for message in plan.mailbox.take() {
      switch message {
      case .lend(let loan): take(loan)
      case .recall(let client): if let place = place(of: client) { giveBack(place, since: now) }
      case .close(let client):
        guard let place = place(of: client), let loan = loans[place] else { continue }
        forget(place, loan)
        close(loan.descriptor)
      case .settings(let governance, let share):
        self.governance = governance
        if share != sampling.share { sampling = Sampling(share: share) }
      case .stop:
        isStopping = true
        for place in loans.indices where loans[place] != nil { giveBack(place, since: now) }
      }
    }
  }

  private func place(of client: ClientToken) -> Int? {
    guard let place = places[client.slot], loans[place]?.client == client else { return nil }
    return place
  }

  private mutating func take(_ lent: Loan) {
    var loan = lent
    loan.arrivals = lent.arrivals.moved(to: poll)
    loan.heardAt = now
    let place: Int
    if let last = free.popLast() {
      place = last
      loans[place] = loan
    } else {
      place = loans.count
      loans.append(loan)
    }
    places[loan.client.slot] = place
    let token = UInt64(loan.client.serial) << 32 | UInt64(place)
    let failed = clinux_epoll_add(epoll, loan.descriptor, UInt32(CLINUX_READABLE), token) != 0
    if failed || isStopping { giveBack(place, since: now) }
  }

  private mutating func forget(_ place: Int, _ loan: Loan) {
    _ = clinux_epoll_remove(epoll, loan.descriptor)
    loans[place] = nil
    places[loan.client.slot] = nil
    free.append(place)
  }

  /// With what is left in `input` and `output`, sent by the client after `since`.
  private mutating func giveBack(_ place: Int, since: Instant, isIdle: Bool = false) {
    guard let loan = loans[place] else { return }
    forget(place, loan)
    let back = GivenBack(
      loan: loan, unread: [UInt8](input.bytes), unreadSince: since, unsent: [UInt8](output.bytes),
      isIdle: isIdle)
    input.consume(input.count)
    output.consume(output.count)
    // Half of a command may have been cut.
    if !back.unread.isEmpty { parser = RequestParser() }
    plan.owner.post(.givenBack(back))
  }

  private mutating func giveBackIdle() {
    lookedForIdle = now
    for place in loans.indices {
      guard let loan = loans[place], now.since(loan.heardAt) >= Self.idle else { continue }
      giveBack(place, since: now, isIdle: true)
    }
    // Both are empty between two clients; what a long answer took goes back.
    output.shrinkIfIdle(to: 64 * 1024)
    input.shrinkIfIdle(to: 64 * 1024)
  }

  // MARK: One client

  /// Reads, answers, writes. What is not plainly readable is the event loop's business: nothing is read then, so that it
  /// finds it as it is.
  private mutating func serve(_ place: Int, _ events: UInt32) {
    guard var loan = loans[place] else { return }
    guard events == UInt32(CLINUX_READABLE) else { return giveBack(place, since: now) }
    let since = loan.arrivals.named(in: poll, last: wholePoll, watched: true)
    loan.heardAt = now
    plan.heard.note(loan.client.slot, now)
    var reads = 0
    var goesOn = true
    while goesOn {
      let before = input.count
      var drained = false
      switch input.read(from: loan.descriptor, limit: 16 * 1024, drained: &drained) {
      case .some:
        loan.arrivals.took(input.count - before, at: now)
        if drained { loan.arrivals.drained(now) }
        let answered = answer(loan.descriptor)
        loan.answered += answered.commands
        loans[place] = loan
        let isDone = send(loan.descriptor) && answered.isAll
        if isDone, input.isEmpty { return }
        // The rest of a command is likely to be there: a batch is longer than one read.
        reads += 1
        goesOn = isDone && reads < Self.mostReads
      case .wouldBlock:
        loan.arrivals.drained(now)
        loans[place] = loan
        if input.isEmpty { return }
        goesOn = false
      case .closed, .failed: goesOn = false
      }
    }
    giveBack(place, since: since)
  }

  /// Whether the socket took everything.
  mutating func send(_ descriptor: Int32) -> Bool {
    guard !output.isEmpty else { return true }
    if case .some = output.write(to: descriptor) { return true }
    return false
  }
}
