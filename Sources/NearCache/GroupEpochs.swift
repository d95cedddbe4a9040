import Invalidation

/// When each group was last cleared here, so that all its keys leave the near cache at once, without being looked
/// for.
///
/// Time is a serial number that grows with each group that is cleared. An entry whose key belongs to groups bears
/// the serial of the moment at which its value was asked for, and counts only while no group of its key has been
/// cleared since. An entry without groups bears none, and nobody asks about it.
public struct GroupEpochs: Sendable {
  /// By fence bucket. Two groups in one bucket are cleared together.
  private var epochs = [UInt32](repeating: 0, count: KeyHash.buckets)
  /// Now; never 0.
  public private(set) var serial: UInt32

  public init() { self.init(serial: 1) }

  init(serial: UInt32) { self.serial = serial }

  /// A group (its kind included) has been cleared. True: the serials begin anew, and the owner must drop
  /// everything that it holds. What was asked for before bears a larger one than any now, so it never counts.
  public mutating func clear(_ group: UnsafeRawBufferPointer) -> Bool {
    guard serial < .max else {
      for index in epochs.indices { epochs[index] = 0 }
      serial = 1
      return true
    }
    serial += 1
    epochs[KeyHash.bucket(group)] = serial
    return false
  }

  /// Whether an entry with this serial still counts as far as this group of its key is concerned.
  public func isCurrent(_ serial: UInt32, _ group: UnsafeRawBufferPointer) -> Bool {
    serial <= self.serial && epochs[KeyHash.bucket(group)] <= serial
  }
}
