/// What the tailer asks of PostgreSQL by SQL, beside the stream of the log; one question is under way at a time.
public enum Question: Hashable, Sendable {
  /// Which transactions are visible.
  case look
  /// What a beat proves, and what has become of these transactions.
  case sample(watched: [UInt64])
  /// Write something to the log, so that everything before it is flushed and sent.
  case nudge
  /// Write the generation into the canary.
  case mark(Generation)
  /// Whether the definitions of tables and publication are what they were.
  case fingerprint
}

public enum Answer: Hashable, Sendable {
  case look(Snapshot)
  case sample(Sample)
  case nudged
  case marked
  case fingerprint(String)
}

/// What one statement saw: the snapshot was taken before the position was read.
public struct Sample: Hashable, Sendable {
  /// Up to where the log was written, flushed or not.
  public var written: LSN
  public var snapshot: Snapshot
  /// The generation in the canary; nil: the table is empty, as a crash leaves it, or is not used.
  public var canary: Generation?
  /// For each transaction that was asked about.
  public var watched: [TransactionStatus]

  public init(
    written: LSN, snapshot: Snapshot, canary: Generation?, watched: [TransactionStatus] = []
  ) {
    self.written = written
    self.snapshot = snapshot
    self.canary = canary
    self.watched = watched
  }
}

/// What `pg_xact_status` says. A transaction too old for it counts as committed.
public enum TransactionStatus: Hashable, Sendable { case running, committed, aborted }

/// Transactions that were running when the slot was taken, and so may have committed before it without being
/// visible: the slot will never send those, and whoever read before they became visible has cached the old row.
struct Watch {
  private(set) var transactions: [UInt64]

  init(_ snapshot: Snapshot?) { transactions = snapshot?.running ?? [] }

  var isEmpty: Bool { transactions.isEmpty }

  /// The slot sends this one, so it is nobody's secret.
  mutating func delivered(_ transaction: UInt32) {
    transactions.removeAll { UInt32(truncatingIfNeeded: $0) == transaction }
  }

  /// Takes out what has ended, once the log has been read beyond the sample's position. True: one of them has
  /// committed and was not sent. (Which it also is if it changed no published table; that cannot be told.)
  mutating func ended(_ sample: Sample, asked: [UInt64]) -> Bool {
    var lost = false
    for (transaction, status) in zip(asked, sample.watched) where transactions.contains(transaction) {
      switch status {
      case .running: continue
      case .aborted: break
      case .committed:
        // Committed after the snapshot, it may lie behind the position and be sent yet.
        guard sample.snapshot.sees(full: transaction) else { continue }
        lost = true
      }
      transactions.removeAll { $0 == transaction }
    }
    return lost
  }
}
