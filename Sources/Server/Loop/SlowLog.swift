import DequeModule
import Invalidation

/// Which commands clients wait for longer than `log.slow`, and which of them are worth a line: of each command one every
/// ten seconds, and how many more there were. It knows no client, no log and no clock.
struct SlowLog {
  /// A command that has been read.
  struct Note: Equatable {
    /// In lower case.
    var command: String
    var keys: Int
    /// What the keys are called; empty unless every detail is logged.
    var names: [String] = []
    /// When it was read.
    var since: Instant
  }

  struct Line: Equatable {
    var command: String
    /// nil: of several commands.
    var keys: Int?
    var names: [String] = []
    /// How long it took, or the longest of them, in nanoseconds.
    var took: UInt64
    /// How many there were.
    var count = 1
  }

  /// In nanoseconds; nil: nothing is logged.
  private(set) var bound: UInt64?
  /// By the client's slot, in their order, with the number of the entry of `Client.owed` that answers each.
  private var open: [Int: Deque<(entry: Int, note: Note)>] = [:]
  /// Since when a client has waited whose command is going to be executed again.
  private var paused: [Int: Instant] = [:]
  private var told: [String: (since: Instant, count: Int, longest: UInt64)] = [:]

  static let period: UInt64 = 10_000_000_000

  init(bound: UInt64?) { self.bound = bound }

  @inline(__always)
  var isOn: Bool { bound != nil }

  /// Another bound; without one everything is forgotten.
  mutating func change(to bound: UInt64?) {
    self.bound = bound
    guard bound == nil else { return }
    (open, paused) = ([:], [:])
  }

  // MARK: Clients

  /// Its command will be executed again, and was read then.
  mutating func pause(_ slot: Int, since: Instant) { paused[slot] = since }

  /// When the command was read that is executed now.
  func since(_ slot: Int, now: Instant) -> Instant { paused[slot] ?? now }

  mutating func resume(_ slot: Int) { paused[slot] = nil }

  /// The command is answered as soon as that entry of what the client is owed is settled.
  mutating func await(_ slot: Int, entry: Int, _ note: Note) { open[slot, default: []].append((entry, note)) }

  /// The next command of a client that has been answered, when so many of its entries are settled.
  mutating func answered(_ slot: Int, settled: Int) -> Note? {
    guard let first = open[slot]?.first, first.entry < settled else { return nil }
    open[slot]?.removeFirst()
    if open[slot]?.isEmpty == true { open[slot] = nil }
    return first.note
  }

  /// The client is gone.
  mutating func forget(_ slot: Int) {
    open[slot] = nil
    paused[slot] = nil
  }

  // MARK: Lines

  /// The command has been answered: a line about it, if it took too long and none has been written lately.
  mutating func took(_ note: Note, now: Instant) -> Line? {
    let took = now.since(note.since)
    guard let bound, took > bound else { return nil }
    if let last = told[note.command], now.since(last.since) < Self.period {
      told[note.command] = (last.since, last.count + 1, max(last.longest, took))
      return nil
    }
    told[note.command] = (now, 0, 0)
    return Line(command: note.command, keys: note.keys, names: note.names, took: took)
  }

  /// What was held back, once its time is over.
  mutating func due(now: Instant) -> [Line] {
    var lines: [Line] = []
    for (command, last) in told where now.since(last.since) >= Self.period {
      told[command] = last.count > 0 ? (now, 0, 0) : nil
      if last.count > 0 { lines.append(Line(command: command, took: last.longest, count: last.count)) }
    }
    return lines.sorted { $0.command < $1.command }
  }
}
