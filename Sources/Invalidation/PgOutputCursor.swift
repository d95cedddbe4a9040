/// Walks over one message. No read goes past the end: each says `.truncated` with its own offset instead.
/// All integers of the protocol are most significant byte first.
/// Source: PostgreSQL documentation, 55.7 "Message Data Types".
struct PgOutputCursor {
  let bytes: UnsafeRawBufferPointer
  private(set) var at = 0

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  mutating func byte() throws(PgOutputError) -> UInt8 {
    try need(1)
    let value = bytes[at]
    at += 1
    return value
  }

  mutating func uint32() throws(PgOutputError) -> UInt32 {
    try need(4)
    let value = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
    at += 4
    return value
  }

  mutating func uint64() throws(PgOutputError) -> UInt64 {
    try need(8)
    let value = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
    at += 8
    return value
  }

  /// A number of columns.
  mutating func count16() throws(PgOutputError) -> Int {
    try need(2)
    let value = Int16(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: Int16.self))
    guard value >= 0 else { throw .badLength(at: at) }
    at += 2
    return Int(value)
  }

  /// A number of bytes or relations.
  mutating func count32() throws(PgOutputError) -> Int {
    let start = at
    let value = Int32(bitPattern: try uint32())
    guard value >= 0 else { throw .badLength(at: start) }
    return Int(value)
  }

  mutating func skip(_ count: Int) throws(PgOutputError) {
    try need(count)
    at += count
  }

  /// Bytes up to a zero, which is skipped.
  mutating func string() throws(PgOutputError) -> String {
    var end = at
    while end < bytes.count, bytes[end] != 0 { end += 1 }
    guard end < bytes.count else { throw .truncated(at: at) }
    defer { at = end + 1 }
    return String(decoding: UnsafeRawBufferPointer(rebasing: bytes[at..<end]), as: UTF8.self)
  }

  /// The message must be over here.
  func finish() throws(PgOutputError) {
    guard at == bytes.count else { throw .trailingBytes(at: at) }
  }

  private func need(_ count: Int) throws(PgOutputError) {
    guard bytes.count - at >= count else { throw .truncated(at: at) }
  }
}
