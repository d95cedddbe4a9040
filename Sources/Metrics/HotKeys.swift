/// Which keys are read most, from a sample of reads, in a fixed amount of memory.
///
/// A key that is not known takes the place of the one that was seen least and inherits its count, so the keys with a
/// share above 1/128 are there, and no count is too low; a count is too high by the one inherited at most, which is
/// kept beside it. Source: Metwally, Agrawal, El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data
/// Streams", ICDT 2005 (Space-Saving). What was seen long ago counts less: all counts are halved each minute.
public struct HotKeys: Sendable {
  public struct Entry: Sendable, Equatable {
    public var key: [UInt8]
    /// Its share of all samples of the last minutes, from 0 to 1; the least that is certain.
    public var share: Double

    public init(key: [UInt8], share: Double) {
      self.key = key
      self.share = share
    }
  }

  private struct Place {
    var hash: UInt64
    var count: Int
    /// How much of it may be another key's.
    var inherited: Int
    var key: [UInt8]
  }

  private var places: [Place] = []
  private var total = 0
  private var halvedAt: UInt64 = 0

  static let most = 128
  /// In nanoseconds.
  static let halfLife: UInt64 = 60_000_000_000

  public init() {}

  /// A read of a key was drawn. A known key costs no allocation.
  /// - Parameters:
  ///   - hash: of the key; two keys with one hash are counted as one.
  ///   - now: in nanoseconds, of a clock that never goes back.
  public mutating func observe(_ key: UnsafeRawBufferPointer, hash: UInt64, now: UInt64) {
    fade(now)
    total += 1
    var least = 0
    for index in places.indices {
      if places[index].hash == hash {
        places[index].count += 1
        return
      }
      if places[index].count < places[least].count { least = index }
    }
    guard places.count == Self.most else {
      return places.append(Place(hash: hash, count: 1, inherited: 0, key: [UInt8](key)))
    }
    let inherited = places[least].count
    places[least] = Place(hash: hash, count: inherited + 1, inherited: inherited, key: [UInt8](key))
  }

  private mutating func fade(_ now: UInt64) {
    if halvedAt == 0 { halvedAt = now }
    guard now > halvedAt, now - halvedAt >= Self.halfLife else { return }
    let times = min((now - halvedAt) / Self.halfLife, 62)
    halvedAt = now
    total >>= Int(times)
    for index in places.indices {
      places[index].count >>= Int(times)
      places[index].inherited >>= Int(times)
    }
    places.removeAll { $0.count == 0 }
  }

  /// The keys with the largest shares, the largest first.
  public mutating func top(_ count: Int, now: UInt64) -> [Entry] {
    fade(now)
    guard total > 0 else { return [] }
    return places.filter { $0.count > $0.inherited }
      .sorted { ($0.count - $0.inherited, $1.hash) > ($1.count - $1.inherited, $0.hash) }
      .prefix(count)
      .map { Entry(key: $0.key, share: Double($0.count - $0.inherited) / Double(total)) }
  }
}
