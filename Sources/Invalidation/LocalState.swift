/// The fleet's state when the fleet is one process without Redis: the same generation, watermarks, fences and
/// floor, kept in memory, under the same rules as the scripts have (`StateScripts`).
public struct LocalState: Sendable {
  /// nil until the tail has begun its first one: no hit, no lease and no fill.
  public private(set) var generation: Generation?
  public private(set) var applied = LSN.zero
  public private(set) var visible = LSN.zero
  public private(set) var floor = Stamp.zero
  public private(set) var deletions: UInt64 = 0
  /// Every commit that was acknowledged before this instant is applied.
  public private(set) var certificate: Instant?
  /// Whether transactions from before the slot may not be visible yet.
  public private(set) var watching = false
  /// The generation under which the tail writes: the one that it began.
  private var tailed: Generation?
  private var fences = [Stamp](repeating: .zero, count: KeyHash.buckets)

  public init() {}

  /// Why a fill is refused, by the words of the scripts.
  public enum Refusal: Sendable { case noState, generation, floor, fence }

  public var lease: Lease? {
    generation.map { Lease(generation: $0, stamp: Stamp(visible: visible, deletions: deletions)) }
  }

  /// A new generation, knowing everything up to `applied`, of which everything up to `visible` can be read. The
  /// owner drops what it remembers.
  public mutating func begin(
    _ generation: Generation, applied: LSN, visible: LSN, watching: Bool = false
  ) {
    self.generation = generation
    tailed = generation
    self.applied = applied
    self.visible = visible
    self.watching = watching
    floor = Stamp(visible: applied, deletions: 0)
    deletions = 0
    certificate = nil
    for index in fences.indices { fences[index] = .zero }
  }

  /// A new name for what is known: every lease of before is void, and the owner drops what it remembers. The
  /// watermarks, the fences and the evidence stay, for the tail has missed nothing and does not hear of it.
  /// Without a generation there is nothing to be named.
  public mutating func renew(_ generation: Generation) {
    if self.generation != nil { self.generation = generation }
  }

  /// One write of the tail: fences go up, then the owner evicts the keys, then the watermarks move.
  ///
  /// - Parameters:
  ///   - groups: packed, with their kinds; the owner drops their keys. Nothing waits to be swept here, since
  ///     values are near only.
  ///   - raisesFloor: whether one of them is a prefix that no rule gives.
  public mutating func apply(
    _ request: ApplyRequest, _ keys: PackedKeys, groups: PackedKeys = PackedKeys(), raisesFloor: Bool = false,
    evict: (UnsafeRawBufferPointer) -> Void
  ) -> StateReply {
    guard let tailed, request.check.generation == tailed else { return .fenced }
    if request.fence > applied {
      let fence = Stamp(visible: request.fence, deletions: 0)
      keys.forEach { raise(KeyHash.bucket($0), to: fence) }
      groups.forEach { raise(KeyHash.bucket($0), to: fence) }
      if raisesFloor { floor = max(floor, fence) }
    }
    keys.forEach(evict)
    applied = max(applied, request.applied)
    visible = max(visible, request.visible)
    if let sampled = request.sampled { certificate = sampled }
    if request.stopsWatching { watching = false }
    return .applied(W: applied, V: visible, generationAsked: false)
  }

  /// An application's own deletion: leases given before it are void, those given after it are good.
  /// Also of a group, with its kind.
  ///
  /// - Parameter raisesFloor: whether it is a prefix that no rule gives.
  public mutating func fence(_ key: UnsafeRawBufferPointer, raisesFloor: Bool = false) {
    deletions += 1
    let fence = Stamp(visible: visible, deletions: deletions)
    raise(KeyHash.bucket(key), to: fence)
    if raisesFloor { floor = max(floor, fence) }
  }

  private mutating func raise(_ bucket: Int, to fence: Stamp) { fences[bucket] = max(fences[bucket], fence) }

  /// The stamp below which a lease of `key` is void; `groups`: the buckets of its groups.
  public func fence(of key: UnsafeRawBufferPointer, groups: [Int32] = []) -> Stamp {
    groups.reduce(max(floor, fences[KeyHash.bucket(key)])) { max($0, fences[Int($1)]) }
  }

  /// nil: a fill under this lease may be stored. `groups`: the buckets of the key's groups.
  public func refusal(
    _ lease: Lease, _ key: UnsafeRawBufferPointer, groups: [Int32] = []
  ) -> Refusal? {
    guard let generation else { return .noState }
    if lease.generation != generation { return .generation }
    if lease.stamp < floor { return .floor }
    return fence(of: key, groups: groups) > lease.stamp ? .fence : nil
  }
}
