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
  public mutating func apply(
    _ request: ApplyRequest, _ keys: PackedKeys, evict: (UnsafeRawBufferPointer) -> Void
  ) -> StateReply {
    guard let tailed, request.check.generation == tailed else { return .fenced }
    if request.fence > applied {
      let fence = Stamp(visible: request.fence, deletions: 0)
      keys.forEach { fences[KeyHash.bucket($0)] = max(fences[KeyHash.bucket($0)], fence) }
    }
    keys.forEach(evict)
    applied = max(applied, request.applied)
    visible = max(visible, request.visible)
    if let sampled = request.sampled { certificate = sampled }
    if request.stopsWatching { watching = false }
    return .applied(W: applied, V: visible, generationAsked: false)
  }

  /// An application's own deletion: leases given before it are void, those given after it are good.
  public mutating func fence(_ key: UnsafeRawBufferPointer) {
    deletions += 1
    let bucket = KeyHash.bucket(key)
    fences[bucket] = max(fences[bucket], Stamp(visible: visible, deletions: deletions))
  }

  /// The stamp below which a lease of `key` is void.
  public func fence(of key: UnsafeRawBufferPointer) -> Stamp { max(floor, fences[KeyHash.bucket(key)]) }

  /// nil: a fill under this lease may be stored.
  public func refusal(_ lease: Lease, _ key: UnsafeRawBufferPointer) -> Refusal? {
    guard let generation else { return .noState }
    if lease.generation != generation { return .generation }
    if lease.stamp < floor { return .floor }
    return fences[KeyHash.bucket(key)] > lease.stamp ? .fence : nil
  }
}
