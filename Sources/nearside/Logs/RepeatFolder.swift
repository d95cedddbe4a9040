/// Holds back lines that say the same again and again: the first is written at once, the others are counted and told
/// with the next one, or when the period is over.
struct RepeatFolder {
  struct Line: Hashable {
    var level: String
    var label: String
    /// With its metadata.
    var text: String
  }

  /// How long a line is not repeated, in nanoseconds.
  static let period: UInt64 = 10_000_000_000
  /// Lines that are remembered at a time.
  static let most = 256

  private struct Entry {
    var since: UInt64
    var held = 0
  }

  private var entries: [Line: Entry] = [:]

  /// Whether the line is to be written now.
  mutating func takes(_ line: Line, now: UInt64) -> Bool {
    if let entry = entries[line], now &- entry.since < Self.period {
      entries[line]?.held += 1
      return false
    }
    // One with lines that were held back goes last: they are still to be told of.
    if entries.count >= Self.most,
      let least = entries.min(by: {
        ($0.value.held > 0 ? 1 : 0, $0.value.since) < ($1.value.held > 0 ? 1 : 0, $1.value.since)
      })?.key
    {
      entries[least] = nil
    }
    entries[line] = Entry(since: now)
    return true
  }

  /// Lines that were held back and whose period is over, with how often; each is told once.
  mutating func due(now: UInt64) -> [(line: Line, count: Int)] {
    var told: [(line: Line, count: Int)] = []
    for (line, entry) in entries where now &- entry.since >= Self.period {
      entries[line] = nil
      if entry.held > 0 { told.append((line, entry.held)) }
    }
    // It goes on: the next ones are counted from here.
    for (line, _) in told { entries[line] = Entry(since: now) }
    return told.sorted { $0.line.text < $1.line.text }
  }
}
