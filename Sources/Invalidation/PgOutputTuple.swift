/// Where the value of one column lies in a message.
/// Source: PostgreSQL documentation, 55.9 "Logical Replication Message Formats", TupleData.
struct TupleValue: Sendable {
  enum Kind: Sendable {
    case null
    /// A large value stored out of line that the UPDATE did not touch: it is not sent.
    case unchanged
    case text
  }

  var kind = Kind.null
  var start = 0
  var count = 0

  func bytes(in message: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: message[start..<start + count])
  }

  /// Whether this value of the new row is the one that `old` had.
  func isUnchanged(from old: TupleValue, in message: UnsafeRawBufferPointer) -> Bool {
    switch (kind, old.kind) {
    case (.unchanged, _), (.null, .null): true
    case (.text, .text): sameBytes(bytes(in: message), old.bytes(in: message))
    default: false
    }
  }

  /// Walks over one tuple and notes in `values` where the columns that have a slot lie. `slots` has an
  /// entry for each column of the relation; `values` is at least as long as the largest slot.
  static func readTuple(
    _ cursor: inout PgOutputCursor, slots: [Int16], into values: inout [TupleValue]
  ) throws(PgOutputError) {
    let countAt = cursor.at
    let count = try cursor.count16()
    guard count == slots.count else { throw .badLength(at: countAt) }
    for column in 0..<count {
      let kindAt = cursor.at
      let kind = try cursor.byte()
      var value = TupleValue()
      switch kind {
      case UInt8(ascii: "t"):
        value.kind = .text
        value.count = try cursor.count32()
        value.start = cursor.at
        try cursor.skip(value.count)
      case UInt8(ascii: "n"): value.kind = .null
      case UInt8(ascii: "u"): value.kind = .unchanged
      case UInt8(ascii: "b"): throw .binaryValue(at: kindAt)
      default: throw .unknownTag(kind, at: kindAt)
      }
      let slot = Int(slots[column])
      if slot >= 0 { values[slot] = value }
    }
  }
}
