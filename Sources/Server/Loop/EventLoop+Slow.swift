import Invalidation
import Logging

/// The slow log. Near hits are not timed one by one: the turn of the loop that answers them is.
extension EventLoop {
  /// Executes a command and notes when it is answered.
  mutating func executeTimed(_ request: Request, _ slot: Int) {
    let spec = commands.spec(request[0])
    let before = clients[slot].entries
    let since = slow.since(slot, now: now)
    execute(request, slot)
    if clients[slot].repeatsCommand { return slow.pause(slot, since: since) }
    slow.resume(slot)
    switch spec?.kind {
    // They wait because they are to.
    case .blocking, .subscription: return
    default: break
    }
    let places = spec.map { Array($0.keyIndices(count: request.count)) } ?? []
    var note = SlowLog.Note(command: spec?.name ?? "other", keys: places.count, since: since)
    if log.logLevel <= .debug { note.names = places.prefix(3).map { Self.shown(request[$0], 64) } }
    if clients[slot].entries > before {
      slow.await(slot, entry: clients[slot].entries - 1, note)
    } else {
      tellSlow(note)
    }
  }

  /// Something that the client was owed may have been settled.
  mutating func tellAnswered(_ slot: Int) {
    while let note = slow.answered(slot, settled: clients[slot].settled) { tellSlow(note) }
  }

  /// At the end of a turn, which began at `now`.
  mutating func tellTurn() {
    tellSlow(SlowLog.Note(command: Self.turn, keys: 0, since: now))
  }

  /// Once a second.
  mutating func tellHeldBack() { for line in slow.due(now: now) { write(line) } }

  private static let turn = "a turn of the loop"

  private mutating func tellSlow(_ note: SlowLog.Note) {
    if let line = slow.took(note, now: clock()) { write(line) }
  }

  private func write(_ line: SlowLog.Line) {
    var fields: Logger.Metadata = ["ms": "\(line.took / 1_000_000)"]
    guard line.command != Self.turn else {
      if line.count > 1 { fields["count"] = "\(line.count)" }
      return log.warning(
        "one turn of the event loop took longer than log.slow, and every client waited", metadata: fields)
    }
    fields["command"] = "\(line.command)"
    guard let keys = line.keys else {
      fields["count"] = "\(line.count)"
      return log.warning("so many more commands took longer than log.slow; the longest", metadata: fields)
    }
    fields["keys"] = "\(keys)"
    log.warning("a client waited longer than log.slow", metadata: fields)
    if !line.names.isEmpty { log.debug("it was for \(line.names.joined(separator: ", "))") }
  }
}
