import Invalidation

/// Which lease this host would have given when, one record a poll at most.
///
/// A record stands until the next one, so one that repeats the lease before it is left out. Records closer
/// together than `grain` are left out too, which bounds their number: the question is for the newest record
/// at or before an instant, and an older record than the exact one has a smaller stamp or an older
/// generation, either of which is accepted less often.
struct LeaseHistory {
  struct Record: Equatable {
    var at: Instant
    var lease: Lease
  }

  private(set) var records: [Record] = []
  /// Records before this index have been dropped.
  private var start = 0
  let grain: UInt64

  init(grain: UInt64) { self.grain = grain }

  var count: Int { records.count - start }

  mutating func append(_ lease: Lease, at: Instant) {
    if count > 0, let last = records.last {
      if last.lease == lease || at.since(last.at) < grain { return }
    }
    records.append(Record(at: at, lease: lease))
  }

  /// The lease of the newest record at or before `instant`.
  func lease(asOf instant: Instant) -> Lease? {
    var (low, high) = (start, records.count)
    while low < high {
      let middle = (low + high) / 2
      if records[middle].at <= instant { low = middle + 1 } else { high = middle }
    }
    return low > start ? records[low - 1].lease : nil
  }

  /// Drops what no question about `horizon` or later can need: records that were followed by another one at
  /// `horizon` or before.
  mutating func drop(until horizon: Instant) {
    while count > 1, records[start + 1].at <= horizon { start += 1 }
    if start > records.count / 2 {
      records.removeFirst(start)
      start = 0
    }
  }

  func forEach(_ body: (Record) -> Void) { records[start...].forEach(body) }
}
