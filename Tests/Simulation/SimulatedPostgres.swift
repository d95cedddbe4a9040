import Invalidation

/// PostgreSQL as far as Nearside sees it: a log with its flushed part, the list of running transactions, rows
/// with versions, one replication slot, the canary, and definitions that can change.
final class SimulatedPostgres {
  private unowned let world: World
  private(set) var isUp = true
  /// Grows with each crash and promotion: then commits may have been lost.
  private(set) var incarnation = 0
  /// Grows whenever connections break.
  private(set) var connections = 0
  private(set) var timeline: UInt32 = 1
  var links: [Link] = []

  /// The end of what is written, and of what is flushed.
  private(set) var written: UInt64 = 1000
  private(set) var flushed: UInt64 = 1000
  private var nextXid: UInt64 = 700
  /// The youngest transaction that has ended.
  private var lastEnded: UInt64 = 699
  private var running: [Transaction] = []
  /// Commit records in the log, in its order.
  private(set) var commits: [Transaction] = []
  private var aborted: Set<UInt64> = []
  /// The current, visible version of each row.
  private(set) var rows: [Int]
  private var locked: Set<Int> = []
  var canary: Generation?
  var definitions = 0
  var slot: Slot?
  /// While set, commits stay invisible after they were flushed, as with a synchronous standby that is away.
  private(set) var holdsCommits = false

  final class Transaction {
    let xid: UInt64
    /// Row, the version that this transaction gives it, and the one that it replaces.
    var writes: [(row: Int, new: Int, old: Int)] = []
    var keys: [Int] = []
    var groups: [[UInt8]] = []
    var isEmpty: Bool { keys.isEmpty && groups.isEmpty }
    var doubt: Doubt?
    /// Where its commit record begins and ends.
    var record: UInt64 = 0
    var end: UInt64 = 0
    var isVisible = false
    /// In seconds after which everybody must know although nothing in the log tells.
    var isSilent = false
    /// Tells its client: with its number when everybody sees it, nil when it has failed.
    var tell: ((UInt64?) -> Void)?

    init(xid: UInt64) { self.xid = xid }
  }

  struct Slot {
    var confirmed: UInt64
    /// What has been written down; a crash goes back to it.
    var saved: UInt64
    /// Commits up to here are not its business.
    var beginning: UInt64
    var walsender: Walsender?
  }

  init(_ world: World) {
    self.world = world
    rows = (0..<world.rowCount).map { _ in world.oracle.make() }
  }

  // MARK: Reading

  /// It begins to count at the last transaction that has ended, so one that is younger is not listed.
  var snapshot: Snapshot {
    let next = lastEnded + 1
    return Snapshot(next: next, running: running.map(\.xid).filter { $0 < next }.sorted())
  }

  func status(_ xid: UInt64) -> TransactionStatus {
    if running.contains(where: { $0.xid == xid }) { return .running }
    return aborted.contains(xid) ? .aborted : .committed
  }

  /// The first commit with keys in the given part of the log that not everybody can see.
  func invisible(above low: LSN, through high: LSN) -> LSN? {
    for commit in commits.reversed() {
      if commit.record < low.rawValue { break }
      if commit.record < high.rawValue, !commit.isVisible, !commit.isEmpty || commit.doubt != nil {
        if commit.end > slot?.beginning ?? 0 { return LSN(commit.end) }
      }
    }
    return nil
  }

  /// Nothing is under way.
  var isIdle: Bool { running.isEmpty && !holdsCommits }

  // MARK: Writing

  /// A transaction of an application, from its beginning to its end.
  func beginSomething() {
    guard isUp else { return }
    let count = 1 + (world.random.once(in: 4) ? world.random.below(4) : 0)
    var chosen: [Int] = []
    for _ in 0..<count {
      let row = world.random.below(rows.count)
      if !locked.contains(row) && !chosen.contains(row) { chosen.append(row) }
    }
    begin(rows: chosen)
  }

  /// A statement of a transaction of its own that gives a row this version. It waits for whoever holds the row.
  func update(row: Int, to version: Int, _ tell: @escaping (UInt64?) -> Void) {
    guard !locked.contains(row) else {
      let connection = connections
      world.at(world.now + 1 + world.random.below(500_000 as UInt64)) { [self] in
        if connection == connections { update(row: row, to: version, tell) }
      }
      return
    }
    begin(rows: [row], version: version, tell)
  }

  /// `version`: what its one row becomes; 0: something new.
  private func begin(rows chosen: [Int], version: Int = 0, _ tell: ((UInt64?) -> Void)? = nil) {
    guard !chosen.isEmpty else { return }
    let transaction = start()
    transaction.tell = tell
    for row in chosen {
      locked.insert(row)
      transaction.writes.append((row, version, 0))
    }
    transaction.keys = world.keys(ofRows: chosen)
    transaction.groups = world.groups(ofRows: chosen)
    written += 10 + world.random.below(60 as UInt64)
    let connection = connections
    world.at(world.now + world.random.below(3_000_000 as UInt64)) { [self] in
      guard connection == connections else { return }
      if world.random.once(in: 12) { abort(transaction) } else { commit(transaction) }
    }
  }

  private func start() -> Transaction {
    let transaction = Transaction(xid: nextXid)
    nextXid += 1
    running.append(transaction)
    return transaction
  }

  private func ended(_ transaction: Transaction) {
    running.removeAll { $0 === transaction }
    lastEnded = max(lastEnded, transaction.xid)
  }

  /// A transaction that does nothing, so that a snapshot taken after it lists everybody who runs.
  func endOne() {
    lastEnded = nextXid
    nextXid += 1
  }

  private func abort(_ transaction: Transaction) {
    aborted.insert(transaction.xid)
    ended(transaction)
    for write in transaction.writes {
      locked.remove(write.row)
      if write.new != 0 { world.oracle.refuse(write.new) }
    }
    transaction.tell.take()?(nil)
  }

  private func commit(_ transaction: Transaction) {
    record(transaction)
    let connection = connections
    if world.random.below(100) < world.swarm.asynchronous {
      // Visible at once; the WAL writer flushes it within three rounds of 200 ms.
      show(transaction)
      world.at(world.now + world.random.below(600_000_000 as UInt64)) { [self] in
        if connection == connections { flush(through: transaction.end) }
      }
    } else {
      world.at(world.now + 100_000 + world.random.below(1_500_000 as UInt64)) { [self] in
        guard connection == connections else { return }
        flush(through: written)
        showLater(transaction)
      }
    }
  }

  /// The commit record, after which the walsender may send the transaction as soon as it is flushed.
  private func record(_ transaction: Transaction) {
    transaction.record = written
    written += 20 + world.random.below(40 as UInt64)
    transaction.end = written
    for index in transaction.writes.indices {
      transaction.writes[index].old = rows[transaction.writes[index].row]
      if transaction.writes[index].new == 0 { transaction.writes[index].new = world.oracle.make() }
    }
    commits.append(transaction)
  }

  private func showLater(_ transaction: Transaction) {
    let isLate = world.random.below(100) < world.swarm.lateVisible
    let wait: UInt64 =
      isLate
      ? world.random.below(world.random.one(of: [2, 30, 900]) * 1_000_000) : world.random.below(50_000)
    let connection = connections
    world.at(world.now + wait) { [self] in
      guard connection == connections else { return }
      if holdsCommits {
        world.at(world.now + 20_000_000) { [self] in
          if connection == connections { showLater(transaction) }
        }
      } else {
        show(transaction)
      }
    }
  }

  /// It leaves the list of running transactions: from now on everybody sees it, and its client is told.
  private func show(_ transaction: Transaction) {
    guard !transaction.isVisible else { return }
    transaction.isVisible = true
    ended(transaction)
    for write in transaction.writes {
      rows[write.row] = write.new
      locked.remove(write.row)
      world.oracle.supersede(write.old, at: world.now + (transaction.isSilent ? world.silentGrace : 0))
    }
    transaction.tell.take()?(transaction.xid)
    if !transaction.isEmpty {
      world.note(
        "pg: \(transaction.xid) of \(LSN(transaction.end)) is visible, keys \(transaction.keys), groups "
          + "\(transaction.groups.map { String(decoding: $0, as: UTF8.self) })")
    }
  }

  private func flush(through end: UInt64) {
    guard end > flushed else { return }
    flushed = end
    slot?.walsender?.push()
  }

  /// A transaction without rows of interest, flushed and visible at once: a nudge, or the canary's.
  func commitPlain() {
    let transaction = start()
    record(transaction)
    show(transaction)
    flush(through: written)
  }

  func hiddenWrite() { written += 1 + world.random.below(100 as UInt64) }

  /// Every row may be another one afterwards. `doubt` nil: the log says nothing of it.
  func replaceAll(_ doubt: Doubt?) {
    guard isUp, locked.isEmpty else { return }
    let transaction = start()
    for row in rows.indices { transaction.writes.append((row, 0, 0)) }
    transaction.doubt = doubt
    transaction.isSilent = doubt == nil
    if doubt != .some(.truncated(table: "t")) { definitions += 1 }
    record(transaction)
    flush(through: written)
    show(transaction)
  }

  func holdCommits(for time: UInt64) {
    guard !holdsCommits else { return }
    holdsCommits = true
    world.at(world.now + time) { [self] in holdsCommits = false }
  }

  // MARK: The slot

  /// Whether a slot can be made now: whoever is writing has to end first. One that has written its commit
  /// record and is not visible yet is not waited for.
  var canMakeSlot: Bool { running.allSatisfy { $0.end != 0 } }

  func makeSlot() {
    written += 10
    flush(through: written)
    slot = Slot(confirmed: written, saved: written, beginning: written)
    world.note("pg: slot made at \(LSN(written))")
  }

  func dropSlot() {
    slot?.walsender?.end()
    slot = nil
  }

  /// Somebody else consumes what the slot holds, or a part of it.
  func moveSlot() {
    guard let slot else { return }
    slot.walsender?.end()
    let end = slot.confirmed + world.random.below(max(1, flushed - min(flushed, slot.confirmed) + 1))
    self.slot?.confirmed = end
    self.slot?.walsender = nil
    world.note("pg: slot moved to \(LSN(end))")
  }

  func confirm(_ position: UInt64, by walsender: Walsender) {
    guard let slot, slot.walsender === walsender else { return }
    walsender.heard = world.now
    guard position > slot.confirmed else { return }
    self.slot?.confirmed = position
    if world.random.once(in: 10) { self.slot?.saved = position }
    if let hidden = invisible(above: LSN(slot.confirmed), through: LSN(position)) {
      world.fail("\(LSN(position)) is confirmed, and the commit at \(hidden) is not visible")
    }
  }

  func save() { if let confirmed = slot?.confirmed { slot?.saved = confirmed } }

  // MARK: Faults

  private func breakAll(down time: UInt64) {
    connections += 1
    for link in links { link.cut(noticed: world.noticeDelay()) }
    links = []
    slot?.walsender = nil
    isUp = false
    let connection = connections
    world.at(world.now + time) { [self] in if connection == connections { isUp = true } }
  }

  /// A backend or the postmaster is killed: what was not flushed is lost.
  func crash(down time: UInt64) {
    guard isUp else { return }
    breakAll(down: time)
    recover(through: flushed)
    if let saved = slot?.saved { slot?.confirmed = saved }
    canary = nil
    world.note("pg: crash, log ends at \(LSN(written))")
  }

  /// A standby that may lack the last commits takes over. It has no slot.
  func promote(down time: UInt64) {
    guard isUp else { return }
    breakAll(down: time)
    let lost = world.random.below(min(commits.count, 6) + 1)
    recover(through: lost == 0 ? flushed : min(flushed, commits[commits.count - lost].end - 1))
    timeline += 1
    slot = nil
    canary = nil
    world.note("pg: promotion, log ends at \(LSN(written))")
  }

  func restart(down time: UInt64) {
    guard isUp else { return }
    // Whoever waits for a standby is told to go on.
    for transaction in running { if transaction.end == 0 { abort(transaction) } else { show(transaction) } }
    save()
    flushed = written
    breakAll(down: time)
    slot?.walsender = nil
  }

  private func recover(through end: UInt64) {
    while let last = commits.last, last.end > end {
      commits.removeLast()
      running.removeAll { $0 === last }
      guard last.isVisible else {
        for write in last.writes { world.oracle.refuse(write.new) }
        continue
      }
      for write in last.writes.reversed() where rows[write.row] == write.new {
        rows[write.row] = write.old
        world.oracle.supersede(write.new, at: world.now)
        world.oracle.reinstate(write.old)
      }
    }
    for transaction in running { if transaction.end == 0 { abort(transaction) } else { show(transaction) } }
    running = []
    locked = []
    incarnation += 1
    written = end
    flushed = end
    // Numbers of transactions that left no trace are given out again.
    nextXid = max(700, (commits.map(\.xid).max() ?? 0) + 1)
    lastEnded = nextXid - 1
    aborted = aborted.filter { $0 < nextXid }
  }
}

/// Sends the log to the tailer that holds the slot.
final class Walsender {
  private unowned let world: World
  let link: Link
  let pid: Int32
  private var next: Int
  /// When its tailer was last heard of.
  var heard: UInt64
  private let deliver: (LogMessage) -> Void
  private var owesKeepalive = false

  enum LogMessage {
    case began(UInt32)
    case rows([Int], [[UInt8]])
    case doubt(Doubt)
    case committed(Commit)
    case keepalive(UInt64)
  }

  init(
    _ world: World, _ link: Link, pid: Int32, from confirmed: UInt64, beginning: UInt64,
    deliver: @escaping (LogMessage) -> Void
  ) {
    self.world = world
    self.link = link
    self.pid = pid
    self.deliver = deliver
    heard = world.now
    let start = max(confirmed, beginning)
    var first = world.postgres.commits.count
    while first > 0, world.postgres.commits[first - 1].record >= start { first -= 1 }
    next = first
  }

  private func send(_ message: LogMessage) { link.answer { [deliver] in deliver(message) } }

  /// Sends what has been flushed.
  func push() {
    let postgres = world.postgres
    while next < postgres.commits.count, postgres.commits[next].end <= postgres.flushed {
      let transaction = postgres.commits[next]
      next += 1
      let xid = UInt32(truncatingIfNeeded: transaction.xid)
      send(.began(xid))
      if world.random.once(in: 10) { send(.keepalive(transaction.end)) }
      if !transaction.isEmpty { send(.rows(transaction.keys, transaction.groups)) }
      if let doubt = transaction.doubt { send(.doubt(doubt)) }
      send(
        .committed(
          Commit(
            transaction: xid, record: LSN(transaction.record), end: LSN(transaction.end), committedAt: 0)))
    }
    guard !owesKeepalive else { return }
    owesKeepalive = true
    world.at(world.now + world.random.below(8_000_000 as UInt64)) { [self] in
      owesKeepalive = false
      guard world.postgres.slot?.walsender === self else { return }
      send(.keepalive(world.postgres.flushed))
    }
  }

  /// The connection ends from the server's side.
  func end() {
    link.cut(noticed: world.noticeDelay())
    if world.postgres.slot?.walsender === self { world.postgres.slot?.walsender = nil }
  }
}
