/// What a near cache holds, and what became of what it held. Counters run from the start of the process.
public struct NearStatistics: Hashable, Sendable {
  public var entries: Int
  /// Bytes that entries take: headers, keys and replies.
  public var bytes: Int
  /// The most that `bytes` can be. What is missing to `limit` are the slots.
  public var capacity: Int
  /// The bound that the near cache was given.
  public var limit: Int
  /// Calls of `find` that found an entry, whether or not it was served then.
  public var hits: UInt64
  public var misses: UInt64
  public var evictions: Evictions
  /// What entries of each kind take; together `entries` and `bytes`.
  public var holdings: [Holding]

  public struct Holding: Hashable, Sendable {
    public var entries = 0
    /// Headers, keys and replies, with what their blocks leave unused.
    public var bytes = 0

    public init() {}
  }

  /// Why entries left, by how many. An entry that was replaced did not leave.
  public struct Evictions: Hashable, Sendable {
    /// To make room.
    public var size: UInt64 = 0
    /// Found after their end.
    public var expired: UInt64 = 0
    /// Removed one by one: their rows changed, or a client wrote them.
    public var invalidated: UInt64 = 0
    /// With everything else.
    public var flush: UInt64 = 0

    public init() {}
  }
}
