import Invalidation

/// Which beats were seen when: what proves up to which instant of this host everything that was committed
/// has also been invalidated.
///
/// Why two beats. The tailer samples PostgreSQL's log position, applies everything up to it, and only then
/// stores a beat; the next one is sampled after that. A poll sent at m that read h says nothing of beat h
/// itself: it may have been sampled long before m. But beat h + 1 was stored after that read began, and
/// beat h + 2 was sampled after beat h + 1 was stored, so after m. Whoever sees h + 2 therefore sees the
/// effects of every commit acknowledged before m, and no clock but this host's took part.
struct Evidence {
  /// With each number of beats the latest instant before a poll that read it; both grow.
  private var records: [(asked: Instant, beats: UInt64)] = []

  /// More than anyone can use: a record is of use once two beats have followed, and the bound on staleness
  /// is a few dozen beats at most. Losing the oldest only makes a certificate older.
  static let capacity = 64

  mutating func record(asked: Instant, beats: UInt64) {
    if let last = records.last, last.beats == beats {
      records[records.count - 1].asked = max(last.asked, asked)
      return
    }
    if records.count == Self.capacity { records.removeFirst() }
    records.append((asked, beats))
  }

  /// The latest instant of which a state with `beats` beats proves that nothing older is missing.
  func certificate(beats: UInt64, _ weakness: Weakness = []) -> Instant? {
    let needed: UInt64 = weakness.contains(.arrivalIsEvidence) ? 0 : weakness.contains(.oneBeat) ? 1 : 2
    guard beats >= needed else { return nil }
    return records.last { $0.beats <= beats - needed }?.asked
  }

  mutating func removeAll() { records.removeAll(keepingCapacity: true) }
}
