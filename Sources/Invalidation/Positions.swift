/// A position in PostgreSQL's write-ahead log, in bytes since its beginning.
///
/// Everywhere in Nearside the position of a transaction is the *end* of its commit record, the value that
/// `pg_current_wal_lsn()` shows once the commit has returned.
/// Source: PostgreSQL documentation, 8.20 "pg_lsn Type".
public struct LSN: Hashable, Comparable, Sendable, CustomStringConvertible {
  public var rawValue: UInt64

  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }

  public static let zero = LSN(0)

  /// Reads PostgreSQL's own form, `0/16B3748`; nil if it is anything else.
  public init?(_ text: String) {
    var text = text
    let value = text.withUTF8 { text -> UInt64? in
      guard let slash = text.firstIndex(of: UInt8(ascii: "/")) else { return nil }
      let all = UnsafeRawBufferPointer(text)
      guard let high = hexadecimal(all[..<slash], digits: 1...8),
        let low = hexadecimal(all[(slash + 1)...], digits: 1...8)
      else { return nil }
      return high << 32 | low
    }
    guard let value else { return nil }
    self.init(value)
  }

  /// Reads the sixteen lower-case digits of `hex`.
  public init?(hex text: String) {
    var text = text
    guard let read = text.withUTF8({ LSN(hex: UnsafeRawBufferPointer($0)) }) else { return nil }
    self = read
  }

  /// The same, of the digits themselves.
  public init?(hex digits: UnsafeRawBufferPointer) {
    guard let value = hexadecimal(digits[...], digits: 16...16) else { return nil }
    self.init(value)
  }

  /// Sixteen lower-case hexadecimal digits: the form kept in Redis, where scripts compare positions as
  /// strings because a Lua number has only 53 bits.
  public var hex: String { hexadecimal16(rawValue) }

  public var description: String {
    String(rawValue >> 32, radix: 16, uppercase: true) + "/"
      + String(rawValue & 0xffff_ffff, radix: 16, uppercase: true)
  }

  @inlinable public static func < (a: LSN, b: LSN) -> Bool { a.rawValue < b.rawValue }
}

/// The random name of "everything we know". Any doubt makes a new one, and whatever was learnt under the
/// old name (leases, near copies, values in Redis) no longer counts.
public struct Generation: Hashable, Sendable, CustomStringConvertible {
  public let rawValue: UInt64

  public init(_ rawValue: UInt64) { self.rawValue = rawValue }

  /// Reads the sixteen lower-case digits of `hex`.
  public init?(hex text: String) {
    var text = text
    guard let read = text.withUTF8({ Generation(hex: UnsafeRawBufferPointer($0)) }) else { return nil }
    self = read
  }

  /// The same, of the digits themselves.
  public init?(hex digits: UnsafeRawBufferPointer) {
    guard let value = hexadecimal(digits[...], digits: 16...16) else { return nil }
    self.init(value)
  }

  public static func random() -> Generation { Generation(UInt64.random(in: 1 ... .max)) }

  public var hex: String { hexadecimal16(rawValue) }
  public var description: String { hex }
}

/// The moment in the fleet's history at which a lease was given or a fence was raised: a log position, and
/// within it the number of deletions that applications asked for. A fill whose stamp is below the fence of
/// its key may carry a value from before the change, and is refused.
public struct Stamp: Hashable, Comparable, Sendable, CustomStringConvertible {
  public var visible: LSN
  public var deletions: UInt64

  @inlinable public init(visible: LSN, deletions: UInt64) {
    self.visible = visible
    self.deletions = deletions
  }

  public static let zero = Stamp(visible: .zero, deletions: 0)

  /// Reads the thirty-two digits of `hex`.
  public init?(hex text: String) {
    var text = text
    guard let read = text.withUTF8({ Stamp(hex: UnsafeRawBufferPointer($0)) }) else { return nil }
    self = read
  }

  /// The same, of the digits themselves.
  public init?(hex digits: UnsafeRawBufferPointer) {
    guard digits.count == 32, let visible = hexadecimal(digits[..<16], digits: 16...16),
      let deletions = hexadecimal(digits[16...], digits: 16...16)
    else { return nil }
    self.init(visible: LSN(visible), deletions: deletions)
  }

  public var hex: String { hexadecimal16(visible.rawValue) + hexadecimal16(deletions) }
  public var description: String { hex }

  @inlinable public static func < (a: Stamp, b: Stamp) -> Bool {
    (a.visible, a.deletions) < (b.visible, b.deletions)
  }
}

/// The right to store a value after a miss: what was known when the miss was answered.
public struct Lease: Hashable, Sendable {
  public var generation: Generation
  public var stamp: Stamp

  public init(generation: Generation, stamp: Stamp) {
    self.generation = generation
    self.stamp = stamp
  }
}

/// The id of an entry of the journal, a Redis stream: `milliseconds-sequence`.
/// Source: Redis documentation, "Redis Streams", entry ids.
public struct JournalID: Hashable, Comparable, Sendable, CustomStringConvertible {
  public var milliseconds: UInt64
  public var sequence: UInt64

  public init(milliseconds: UInt64, sequence: UInt64) {
    self.milliseconds = milliseconds
    self.sequence = sequence
  }

  public static let zero = JournalID(milliseconds: 0, sequence: 0)

  public init?(_ text: String) {
    var text = text
    guard let read = text.withUTF8({ JournalID(UnsafeRawBufferPointer($0)) }) else { return nil }
    self = read
  }

  /// The same, of its bytes.
  public init?(_ text: UnsafeRawBufferPointer) {
    guard let dash = text.firstIndex(of: UInt8(ascii: "-")), let milliseconds = decimal(text[..<dash]),
      let sequence = decimal(text[(dash + 1)...])
    else { return nil }
    self.init(milliseconds: milliseconds, sequence: sequence)
  }

  public var description: String { "\(milliseconds)-\(sequence)" }

  public static func < (a: JournalID, b: JournalID) -> Bool {
    (a.milliseconds, a.sequence) < (b.milliseconds, b.sequence)
  }
}

/// An instant of this host's own clock: nanoseconds since boot, suspension included (CLOCK_BOOTTIME).
/// It is never compared with another host's, and pure code is handed it, never reads it.
public struct Instant: Hashable, Comparable, Sendable {
  public var nanoseconds: UInt64

  @inlinable public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

  @inlinable public static func < (a: Instant, b: Instant) -> Bool { a.nanoseconds < b.nanoseconds }

  /// Nanoseconds from `earlier` until self; zero if `earlier` is not earlier.
  @inlinable public func since(_ earlier: Instant) -> UInt64 {
    nanoseconds > earlier.nanoseconds ? nanoseconds - earlier.nanoseconds : 0
  }

  /// This instant, `nanoseconds` before; the boot itself when that lies before it.
  @inlinable public func back(_ nanoseconds: UInt64) -> Instant {
    Instant(nanoseconds: self.nanoseconds > nanoseconds ? self.nanoseconds - nanoseconds : 0)
  }
}

func hexadecimal16(_ value: UInt64) -> String {
  String(unsafeUninitializedCapacity: 16) { digits in
    for place in 0..<16 {
      let digit = UInt8(truncatingIfNeeded: value >> UInt64(60 - 4 * place)) & 15
      digits.initializeElement(
        at: place, to: digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
    }
    return 16
  }
}

/// A number of so many hexadecimal digits and nothing else.
private func hexadecimal(_ digits: Slice<UnsafeRawBufferPointer>, digits allowed: ClosedRange<Int>) -> UInt64?
{
  guard allowed.contains(digits.count) else { return nil }
  var value: UInt64 = 0
  for digit in digits {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | UInt64(digit - UInt8(ascii: "0"))
    case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | UInt64(digit - UInt8(ascii: "a") + 10)
    case UInt8(ascii: "A")...UInt8(ascii: "F"): value = value << 4 | UInt64(digit - UInt8(ascii: "A") + 10)
    default: return nil
    }
  }
  return value
}

/// A number of decimal digits and nothing else; nil too if it does not fit.
private func decimal(_ digits: Slice<UnsafeRawBufferPointer>) -> UInt64? {
  guard !digits.isEmpty else { return nil }
  var value: UInt64 = 0
  for digit in digits {
    guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") else { return nil }
    let (tens, tooMany) = value.multipliedReportingOverflow(by: 10)
    let (sum, overflow) = tens.addingReportingOverflow(UInt64(digit - UInt8(ascii: "0")))
    if tooMany || overflow { return nil }
    value = sum
  }
  return value
}
