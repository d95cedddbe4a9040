import Invalidation

extension NearCache {
  /// When the entry under `key` ends; nil: never, or there is none. Nobody counts this as a look-up.
  public func expiry(of key: UnsafeRawBufferPointer) -> Instant? {
    let offset = locate(key, SlotTable.tag(hash(key)))
    guard offset != 0 else { return nil }
    let end = arena.at(offset).pointee.expires
    return end == EntryHeader.never ? nil : Instant(nanoseconds: end)
  }
}
