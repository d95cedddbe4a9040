import CLinux
import DequeModule
import Glibc
import Invalidation

/// Names a client for as long as the process lives: a slot may be taken by another one after it.
struct ClientToken: Equatable {
  var slot: Int32
  var serial: UInt32
}

/// One connection of an application.
struct Client: ~Copyable {
  /// What stands between the replies already written and those to come, in the order of the requests.
  enum Owed {
    /// Redis has not answered yet.
    case awaited
    /// Redis has answered, and the answer is held back (`EventLoop+Holds.swift`).
    case held
    /// Answered, before what is awaited in front of it.
    case ready([UInt8])
    /// The same from the near cache; its evidence is too old from `until` on.
    case near([UInt8], until: Instant)
    /// Answered here, behind something that is still awaited: the next so many bytes of `late`.
    case late(Int)
    /// The same from the near cache, and so many replies; their evidence is too old from `until` on.
    case lateNear(Int, replies: Int, until: Instant)
    /// The next so many bytes of `late`, which nobody is sent.
    case dropped(Int)
  }

  enum Pause: Equatable {
    case none
    /// Until everything owed has been answered: the next command changes how replies are written.
    case drain
    /// Until a position has been applied, or the deadline has come.
    case position(LSN, deadline: Instant)
    /// Until another generation than this one has begun, or the deadline has come.
    case generation(after: Generation?, deadline: Instant)
    /// Until commits are visible up to a fence, or the deadline has come: then the command that found the
    /// fence is executed again. Only without Redis.
    case fence(Stamp, deadline: Instant)
    /// Until a connection of its own has been made, or could not be.
    case connection
    /// Until everything owed has been answered: the command has been sent, and the next one depends on it.
    case answer
    /// The same for confirmations of subscriptions.
    case subscription
    /// Until it is known whether Redis tells of changes (`Watchers`).
    case watcher
    /// Until CLIENT PAUSE ends.
    case clientPause
  }

  let descriptor: Int32
  let token: ClientToken
  /// Unique in this process, as CLIENT ID answers it.
  let id: Int
  let isTCP: Bool
  let connectedAt: Instant

  var input = IOBuffer(size: 16 * 1024)
  var output = IOBuffer(size: 16 * 1024)
  var parser = RequestParser()
  /// The rest of a command that is being passed on; nil: none is.
  var longRequest: LongRequest?
  var owed = Deque<Owed>()
  /// What was answered while something before it was awaited, one reply behind the other.
  private var late = IOBuffer(size: 64)
  /// How many entries of `owed` have been taken off its front so far: with it, a held reply keeps its number.
  private(set) var settled = 0
  /// How many entries `owed` has ever had.
  var entries: Int { settled + owed.count }
  /// Where the first reply that Redis still owes stands in `owed`, or an entry before it: Redis answers in
  /// order, so what lies before that is held back or ready.
  private var firstAwaited = 0
  /// Bytes that are kept for what is owed, here and on the way to Redis, since nothing was owed.
  var owedBytes = 0
  var session = Session()
  /// Whether CLIENT TRACKING is on; the rest of it is in `Tracking`.
  var isTracking = false
  /// How many of its SETs are being written through to the database.
  var writes = 0
  var resp3 = false
  var pause = Pause.none
  /// Until when the command that is executed next may be held up by a fence; nil: it was not held yet.
  var heldUntil: Instant?
  /// Set by QUIT and by protocol errors: whatever comes next is not read, and the connection ends once
  /// everything owed has been sent.
  var isClosing = false
  /// It sends nothing more; what it has sent is still carried out.
  var hasEnded = false
  /// Commands wait in `input` because the client does not take its replies, or is owed too many.
  var isStalled = false
  var readsPaused = false
  /// It stands among those that were answered out of their own turn.
  var isDirty = false
  /// The events that epoll watches for.
  var watched: UInt32

  /// When it last sent something.
  var heardAt: Instant
  /// Since when more waits for it than its soft limit.
  var overSoftSince: Instant?
  /// The last command of it that was no near hit, as CLIENT LIST shows it; empty: none.
  var lastCommand = ""

  var arrivals: Arrivals
  /// Every byte of the commands being executed was sent after this instant.
  var emptyAt: Instant
  /// The same for a command whose rest has not arrived.
  var partialSince: Instant

  /// The reader that it is lent to; nil: it is here.
  var reader: Int32?
  /// How many of its commands in a row were near hits, and how many make it one that may be lent.
  var nearRow = 0
  var lendAfter: Int
  /// In which period it was last counted among the busy ones (`Lending`).
  var countedIn: UInt32 = 0
  /// Another loop closes its descriptor.
  var leavesDescriptorOpen = false

  var name = ""
  var libraryName = ""
  var libraryVersion = ""

  /// `watched`: the events that epoll is told to watch for.
  init(
    descriptor: Int32, token: ClientToken, id: Int, now: Instant, arrivals: Arrivals, watched: UInt32,
    isTCP: Bool = false, lendAfter: Int = .max
  ) {
    self.descriptor = descriptor
    self.isTCP = isTCP
    heardAt = now
    self.token = token
    self.id = id
    connectedAt = now
    self.arrivals = arrivals
    self.watched = watched
    emptyAt = Instant(nanoseconds: 0)
    partialSince = Instant(nanoseconds: 0)
    self.lendAfter = lendAfter
  }

  deinit { if !leavesDescriptorOpen { close(descriptor) } }

  /// Nothing is done for it until it has said the password.
  mutating func lock() {
    session.isLocked = true
    parser.isLocked = true
  }

  mutating func unlock() {
    session.isLocked = false
    parser.isLocked = false
  }

  /// Whether the command that paused this client has not been carried out, and is executed again.
  var repeatsCommand: Bool {
    switch pause {
    case .drain, .fence, .connection, .watcher, .clientPause: true
    case .none, .position, .generation, .answer, .subscription: false
    }
  }

  // MARK: Long replies

  /// Whether the next bytes that it is sent belong to a reply that is awaited.
  var isNext: Bool {
    if case .awaited = owed.first { true } else { false }
  }

  /// The first part of the next reply has been written: whatever else it is to be told comes behind the rest.
  var hasHalfReply = false

  /// About how many bytes a reply of Redis has for it. High at first, so that a pipeline of reads whose replies turn
  /// out to be long is not sent as a whole.
  private var usualReply = 512 * 1024

  /// How many replies Redis owes it, about.
  var relayed = 0

  mutating func noteReply(_ bytes: Int) {
    relayed = max(0, relayed - 1)
    // A long reply counts at once, a short one by and by.
    usualReply = max(bytes, usualReply - usualReply / 8)
  }

  mutating func noteLongReply() { usualReply = max(usualReply, Upstream.longReply) }

  /// How many of those there may be before its own commands wait.
  var mostRelayed: Int { min(EventLoop.mostOwed, max(1, EventLoop.mostOwedBytes / max(1, usualReply))) }

  // MARK: CLIENT REPLY

  /// Commands whose replies are not written, counted as the entries of `owed` are.
  private var quiet: [Range<Int>] = []
  /// CLIENT REPLY OFF is in force.
  private var isOff = false
  /// CLIENT REPLY SKIP is meant for the command that is executed now, or the next one.
  private var skips = (now: false, next: false)
  /// Where the entries begin of the command that is executed now, if it is not answered.
  private var quietFrom: Int?

  /// The commands behind the present one are not answered, or only the next. Source: Redis documentation, CLIENT
  /// REPLY.
  mutating func beQuiet(onlyNext: Bool) {
    if onlyNext { skips.next = !isOff } else { isOff = true }
    session.isQuiet = true
  }

  /// From the present command on all are answered.
  mutating func beginTalking() {
    isOff = false
    skips = (false, false)
    quietFrom = nil
  }

  /// A command is about to be executed, while `session.isQuiet`.
  mutating func beginQuietly() {
    if skips.next { skips = (now: true, next: false) }
    let isAnswered = !isOff && !skips.now
    quietFrom = isAnswered ? nil : settled + owed.count
    if isAnswered, quiet.isEmpty { session.isQuiet = false }
  }

  private func isQuiet(_ number: Int) -> Bool { quiet.contains { $0.contains(number) } }

  /// It has been executed, or is going to be executed again.
  mutating func endQuietly(repeats: Bool) {
    let end = settled + owed.count
    if let from = quietFrom, from < end { quiet.append(from..<end) }
    quietFrom = nil
    if !repeats { skips.now = false }
  }

  /// Appends a reply in its turn.
  mutating func reply(_ write: (inout IOBuffer) -> Void) {
    if quietFrom != nil { return }
    if owed.isEmpty { return write(&output) }
    let before = late.count
    write(&late)
    let count = late.count - before
    owedBytes += count
    let last = owed.count - 1
    if case .late(let those) = owed[last] {
      owed[last] = .late(those + count)
    } else {
      owed.append(.late(count))
    }
  }

  /// Appends a reply made of near values. Where it has to wait for Redis, and has waited past `until`, it
  /// becomes an error.
  mutating func replyNear(until: Instant, _ write: (inout IOBuffer) -> Void) {
    if quietFrom != nil { return }
    replyNear { output in
      write(&output)
      return (1, until)
    }
  }

  private mutating func noteLate(_ count: Int, replies: Int, until: Instant) {
    owedBytes += count
    let last = owed.count - 1
    if case .lateNear(let those, let number, until) = owed[last] {
      owed[last] = .lateNear(those + count, replies: number + replies, until: until)
    } else {
      owed.append(.lateNear(count, replies: replies, until: until))
    }
  }

  /// Lets `write` append replies made of near values where they belong. It returns how many, and until when their
  /// evidence counts; nil takes back what it has written.
  @inline(__always)
  mutating func replyNear(_ write: (inout IOBuffer) -> (replies: Int, until: Instant)?) {
    if owed.isEmpty {
      let before = output.count
      if write(&output) == nil { output.truncate(to: before) }
    } else {
      let before = late.count
      guard let (replies, until) = write(&late) else { return late.truncate(to: before) }
      noteLate(late.count - before, replies: replies, until: until)
    }
  }

  /// The oldest awaited reply has come; what was answered behind it follows. Near values whose evidence is
  /// too old by now become an error.
  mutating func settle(_ write: (inout IOBuffer) -> Void) {
    settle(at: awaitedIndex(), write)
  }

  /// The oldest awaited reply has come and is held back; its number names it to `settle(held:)`. What comes
  /// behind it waits.
  mutating func hold() -> Int {
    let index = awaitedIndex()
    owed[index] = .held
    return settled + index
  }

  /// The same for a command that Redis is not asked about: its reply comes later, in its turn.
  mutating func holdNext() -> Int {
    owed.append(.held)
    return settled + owed.count - 1
  }

  /// The same as `settle`, for a reply that was held back.
  mutating func settle(held number: Int, _ write: (inout IOBuffer) -> Void) {
    settle(at: heldIndex(number), write)
  }

  /// The same for a reply made of near values. Where it has to wait for an earlier one, and has waited past
  /// `until`, it becomes an error.
  mutating func settle(held number: Int, until: Instant, _ write: (inout IOBuffer) -> Void) {
    let index = heldIndex(number)
    if index == 0 || isQuiet(number) { return settle(at: index, write) }
    var late = IOBuffer(size: 256)
    write(&late)
    owedBytes += late.count
    owed[index] = .near([UInt8](late.bytes), until: until)
  }

  /// The oldest awaited reply and the entries behind it, `entries` in all, become one reply.
  mutating func settle(entries: Int, _ write: (inout IOBuffer) -> Void) {
    let index = awaitedIndex()
    for later in index + 1..<index + entries {
      switch owed[later] {
      case .late(let count), .lateNear(let count, replies: _, until: _), .dropped(let count):
        owed[later] = .dropped(count)
      case .awaited, .held, .ready, .near: owed[later] = .ready([])
      }
    }
    settle(at: index, write)
  }

  private func heldIndex(_ number: Int) -> Int {
    let index = number - settled
    guard owed.indices.contains(index), case .held = owed[index] else {
      preconditionFailure("no reply is held under this number")
    }
    return index
  }

  private mutating func awaitedIndex() -> Int {
    while firstAwaited < owed.count {
      if case .awaited = owed[firstAwaited] { return firstAwaited }
      firstAwaited += 1
    }
    preconditionFailure("a reply came that nobody awaits")
  }

  private mutating func settle(at index: Int, _ write: (inout IOBuffer) -> Void) {
    if quiet.isEmpty { return settle(audiblyAt: index, write) }
    let isQuiet = isQuiet(settled + index)
    settle(audiblyAt: index) { if !isQuiet { write(&$0) } }
    // Those of entries before it may still be to come.
    quiet.removeAll { $0.upperBound <= settled }
  }

  private mutating func settle(audiblyAt index: Int, _ write: (inout IOBuffer) -> Void) {
    guard index == 0 else {
      var late = IOBuffer(size: 256)
      write(&late)
      owedBytes += late.count
      owed[index] = .ready([UInt8](late.bytes))
      return
    }
    write(&output)
    takeFirst()
    while let next = owed.first {
      switch next {
      case .awaited, .held: return
      case .ready(let bytes): output.append(bytes)
      case .near(let bytes, let until):
        if Instant(nanoseconds: clinux_boot_nanoseconds()) <= until {
          output.append(bytes)
        } else {
          output.error(Self.waitedTooLong)
        }
      case .late(let count):
        output.append(UnsafeRawBufferPointer(rebasing: late.bytes[..<count]))
        late.consume(count)
      case .lateNear(let count, let replies, let until):
        if Instant(nanoseconds: clinux_boot_nanoseconds()) <= until {
          output.append(UnsafeRawBufferPointer(rebasing: late.bytes[..<count]))
        } else {
          for _ in 0..<replies { output.error(Self.waitedTooLong) }
        }
        late.consume(count)
      case .dropped(let count): late.consume(count)
      }
      takeFirst()
    }
    late.shrinkIfIdle(to: 4096)
    owedBytes = 0
    relayed = 0
  }

  private mutating func takeFirst() {
    owed.removeFirst()
    hasHalfReply = false
    settled += 1
    firstAwaited = max(0, firstAwaited - 1)
  }

  static let waitedTooLong =
    "TRYAGAIN Nearside: Redis took longer to answer than cached values may wait; try again"
}
