import Configuration

/// What Nearside itself writes into the log through `pg_logical_emit_message`. Everybody who can log in may
/// write such messages, so none may stop the tail: every content is readable, and the worst that one can do
/// is to begin a new generation.
public enum LogMessage {
  /// Keys to clear: the function `nearside.invalidate`.
  public static let invalidate = "nearside.invalidate"
  /// Tags to clear: the function `nearside.invalidate_tag`.
  public static let invalidateTag = "nearside.invalidate_tag"
  /// DDL: the event triggers of `nearside setup`.
  public static let definition = "nearside.ddl"
  /// Without meaning: it only makes PostgreSQL send what it has written before.
  public static let nudge = "nearside"

  /// Stands where `KeyBatch` keeps the index of a key's table, for keys that SQL named and no row: no table has
  /// it.
  public static let noTable = -1
}

extension LogReader {
  mutating func logicalMessage(
    _ cursor: inout PgOutputCursor, _ batch: inout KeyBatch
  ) throws(PgOutputError) -> LogEvent {
    let flags = try cursor.byte()
    let at = LSN(try cursor.uint64())
    let prefix = try cursor.string()
    let count = try cursor.count32()
    let start = cursor.at
    try cursor.skip(count)
    try cursor.finish()
    let transactional = flags & 1 != 0
    guard !transactional || transaction != nil else {
      throw .outOfOrder("a transactional message at \(at) outside any transaction")
    }
    let content = UnsafeRawBufferPointer(rebasing: cursor.bytes[start..<start + count])
    switch prefix {
    // What Nearside's functions emit is transactional. A message that is not belongs to no commit, so there is
    // no position at which its keys could count as cleared.
    case LogMessage.invalidate: return transactional ? invalidate(content, &batch) : .nothing
    case LogMessage.invalidateTag: return transactional ? invalidateTags(content, &batch) : .nothing
    case LogMessage.definition: return transactional ? .doubt(.schemaChanged) : .nothing
    case LogMessage.nudge: return .nothing
    default:
      return .message(prefix: prefix, content: [UInt8](content), transactional: transactional, at: at)
    }
  }

  /// Takes the keys of the own namespace.
  private mutating func invalidate(
    _ content: UnsafeRawBufferPointer, _ batch: inout KeyBatch
  ) -> LogEvent {
    guard let transaction, !transaction.overflowed else { return .nothing }
    let origin = KeyOrigin.named(by: transaction.id)
    var event = LogEvent.nothing
    var names = ClosedNames(content)
    while let named = names.next() {
      switch NamedKeys(named, namespace: plan.keyPrefix) {
      case .none: continue
      case .key:
        batch.append(named, table: LogMessage.noTable, origin: origin)
        if event == .nothing { event = .rows }
      case .prefix(let prefix):
        batch.appendPrefix(prefix, table: LogMessage.noTable, origin: origin)
        if event == .nothing { event = .rows }
      case .everything: event = .doubt(.invalidatedAll)
      case .tooLong: event = .doubt(.keyTooLong)
      }
      if let overflow = overflow(batch) { return overflow }
    }
    return event
  }

  /// Takes the tags that some cache has.
  private mutating func invalidateTags(
    _ content: UnsafeRawBufferPointer, _ batch: inout KeyBatch
  ) -> LogEvent {
    guard let transaction, !transaction.overflowed else { return .nothing }
    var event = LogEvent.nothing
    var names = ClosedNames(content)
    while let tag = names.next() {
      guard tag.count <= KeyGroup.longestName, plan.groups.hasTag(tag) else { continue }
      ([KeyGroup.tag] + tag).withUnsafeBytes {
        batch.append(group: $0, table: LogMessage.noTable, origin: .named(by: transaction.id))
      }
      event = .rows
      if let overflow = overflow(batch) { return overflow }
    }
    return event
  }
}

/// The names in a message of Nearside's functions: each ends with a zero byte, which the last one may lack.
private struct ClosedNames {
  private var rest: Slice<UnsafeRawBufferPointer>

  init(_ content: UnsafeRawBufferPointer) { rest = content[...] }

  mutating func next() -> UnsafeRawBufferPointer? {
    guard !rest.isEmpty else { return nil }
    let end = rest.firstIndex(of: 0) ?? rest.endIndex
    defer { rest = rest[min(end + 1, rest.endIndex)...] }
    return UnsafeRawBufferPointer(rebasing: rest[..<end])
  }
}

/// What one argument of `nearside.invalidate` means to a fleet.
enum NamedKeys {
  /// Nothing: it lies in another namespace.
  case none
  case key
  /// All keys that begin with this, what stands before the final `*`.
  case prefix(UnsafeRawBufferPointer)
  /// A prefix that every key of the fleet begins with.
  case everything
  case tooLong

  /// - Parameter namespace: what every key of the fleet begins with.
  init(_ named: UnsafeRawBufferPointer, namespace: String) {
    let isPrefix = named.last == UInt8(ascii: "*")
    let key = isPrefix ? named.dropLast() : named[...]
    // A prefix may be shorter than the namespace: `*` is everything in every fleet.
    let shared = isPrefix ? min(key.count, namespace.utf8.count) : namespace.utf8.count
    guard !named.isEmpty, key.count >= shared,
      key.prefix(shared).elementsEqual(namespace.utf8.prefix(shared))
    else {
      self = .none
      return
    }
    // Of a prefix the `*` makes room for its kind.
    if named.count > PackedKeys.longestKey {
      self = .tooLong
    } else if !isPrefix {
      self = .key
    } else {
      self =
        key.count <= namespace.utf8.count ? .everything : .prefix(UnsafeRawBufferPointer(rebasing: key))
    }
  }
}
