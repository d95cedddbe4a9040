import CLinux
import Invalidation

/// When each group was last cleared here, so that all its keys leave the near cache at once, without being looked
/// for.
///
/// Time is a serial number that grows with each group that is cleared. An entry whose key belongs to groups bears
/// the serial of the moment at which its value was asked for, and counts only while no group of its key has been
/// cleared since. An entry without groups bears none, and nobody asks about it.
///
/// One thread clears; others may ask meanwhile (`@unchecked Sendable`: each number is stored and loaded whole, the memory
/// is this object's own and stays where it is). A clearing is visible to whoever has heard of anything that came behind
/// it: a certificate, or a client's reply.
public final class GroupEpochs: @unchecked Sendable {
  /// By fence bucket. Two groups in one bucket are cleared together.
  private let epochs: UnsafeMutablePointer<UInt32>
  private let now: UnsafeMutablePointer<UInt32>

  public convenience init() { self.init(serial: 1) }

  init(serial: UInt32) {
    epochs = .allocate(capacity: KeyHash.buckets + 1)
    epochs.initialize(repeating: 0, count: KeyHash.buckets + 1)
    now = epochs + KeyHash.buckets
    now.pointee = serial
  }

  deinit { epochs.deallocate() }

  /// Now; never 0.
  public var serial: UInt32 { clinux_load32_acquire(now) }

  /// A group (its kind included) has been cleared. True: the serials are used up. The owner must drop everything that
  /// it holds, and then `beginAnew`; until then the group counts as it did.
  public func clear(_ group: UnsafeRawBufferPointer) -> Bool {
    let serial = now.pointee
    guard serial < .max else { return true }
    clinux_store32_release(now, serial + 1)
    clinux_store32_release(epochs + KeyHash.bucket(group), serial + 1)
    return false
  }

  /// Everything has been dropped: serials begin with 1 again. What was asked for before bears a larger one than any
  /// now, so it never counts.
  ///
  /// In this order: a reader that still has an entry of before, and asks about its groups, sees the old epochs, or a
  /// near cache that has been changed since it looked.
  public func beginAnew() {
    clinux_store32_release(now, 1)
    for bucket in 0..<KeyHash.buckets { clinux_store32_release(epochs + bucket, 0) }
  }

  /// Whether the serials are used up.
  public var isUsedUp: Bool { now.pointee == .max }

  /// Whether an entry with this serial still counts as far as this group of its key is concerned.
  public func isCurrent(_ serial: UInt32, _ group: UnsafeRawBufferPointer) -> Bool {
    serial <= self.serial && clinux_load32_acquire(epochs + KeyHash.bucket(group)) <= serial
  }

  /// Whether something that was asked for at `serial` was asked for since everything was dropped, which was at
  /// `dropped`. One from before `beginAnew` bears a larger serial than any now.
  public func isSince(_ dropped: UInt32, _ serial: UInt32) -> Bool {
    serial >= dropped && serial <= self.serial
  }
}
