/// What `pg_current_snapshot()` answers: which transactions a statement sees.
///
/// Source: PostgreSQL documentation, 9.27.7 "Transaction ID and Snapshot Information Functions".
public struct Snapshot: Hashable, Sendable {
  /// Every transaction from this one on had not ended.
  public var next: UInt64
  /// Those below `next` that had not ended either, in rising order; top-level ids only.
  public var running: [UInt64]

  public init(next: UInt64, running: [UInt64]) {
    self.next = next
    self.running = running
  }

  /// Reads `xmin:xmax:xip_list`, whose ids rise; nil if it is anything else.
  public init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 3, UInt64(parts[0]) != nil, let next = UInt64(parts[1]) else { return nil }
    var running: [UInt64] = []
    for id in parts[2].split(separator: ",") {
      guard let id = UInt64(id), id < next, id >= running.last ?? 0 else { return nil }
      running.append(id)
    }
    self.init(next: next, running: running)
  }

  /// Whether a transaction that has committed is seen. The log names transactions by 32 bits, which come round;
  /// no two that are alive at the same time lie further apart than half of that.
  public func sees(_ transaction: UInt32) -> Bool {
    let before = UInt32(truncatingIfNeeded: next) &- transaction
    guard before != 0, before < 1 << 31, UInt64(before) <= next else { return false }
    return sees(full: next - UInt64(before))
  }

  /// The same for an id with its epoch.
  public func sees(full transaction: UInt64) -> Bool {
    guard transaction < next else { return false }
    var range = running.startIndex..<running.endIndex
    while !range.isEmpty {
      let middle = (range.lowerBound + range.upperBound) / 2
      if running[middle] == transaction { return false }
      range =
        running[middle] < transaction ? middle + 1..<range.upperBound : range.lowerBound..<middle
    }
    return true
  }
}

/// Commits that the log has told of and that may not be visible yet.
///
/// PostgreSQL sends a commit as soon as its record is flushed; other sessions see it only when it has left the
/// list of running transactions, which a synchronous replica may hold up without limit. Who reads in between
/// reads the old row, so leases carry V, the position below which everything is visible, and not W.
/// Source: PostgreSQL's xact.c, `RecordTransactionCommit` and `ProcArrayEndTransaction`.
struct PendingCommits {
  /// In the order of their ends.
  private var commits: [Commit] = []

  var isEmpty: Bool { commits.isEmpty }
  var count: Int { commits.count }

  func contains(_ commit: Commit) -> Bool {
    var range = commits.startIndex..<commits.endIndex
    while !range.isEmpty {
      let middle = (range.lowerBound + range.upperBound) / 2
      if commits[middle].end == commit.end { return true }
      range = commits[middle].end < commit.end ? middle + 1..<range.upperBound : range.lowerBound..<middle
    }
    return false
  }

  mutating func decoded(_ commit: Commit) {
    precondition(commit.end >= commits.last?.end ?? .zero, "the log tells of commits in their order")
    commits.append(commit)
  }

  /// Drops what a snapshot sees. It holds whenever the snapshot was taken: what is visible once, stays so.
  mutating func judge(_ snapshot: Snapshot) {
    commits.removeAll { snapshot.sees($0.transaction) }
  }

  /// V, for a log that has been read up to `position`: the beginning of the first record that is not visible. Not
  /// its end less one: the slot is confirmed to V, and one that is confirmed into a record does not send it again.
  func visible(at position: LSN) -> LSN { commits.first?.record ?? position }
}
