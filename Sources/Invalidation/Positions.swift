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
    let halves = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    guard halves.count == 2, let high = hexadecimal(halves[0], digits: 1...8),
      let low = hexadecimal(halves[1], digits: 1...8)
    else { return nil }
    self.init(high << 32 | low)
  }

  /// Reads the sixteen lower-case digits of `hex`.
  public init?(hex text: some StringProtocol) {
    guard let value = hexadecimal(text.utf8, digits: 16...16) else { return nil }
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
  public init?(hex text: some StringProtocol) {
    guard let value = hexadecimal(text.utf8, digits: 16...16) else { return nil }
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
  public init?(hex text: some StringProtocol) {
    let digits = text.utf8
    guard digits.count == 32 else { return nil }
    let middle = digits.index(digits.startIndex, offsetBy: 16)
    guard let visible = hexadecimal(digits[..<middle], digits: 16...16),
      let deletions = hexadecimal(digits[middle...], digits: 16...16)
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

  public init?(_ text: some StringProtocol) {
    let halves = text.split(separator: "-", omittingEmptySubsequences: false)
    // UInt64 alone would take a plus sign.
    guard halves.count == 2, !text.utf8.contains(UInt8(ascii: "+")),
      let milliseconds = UInt64(halves[0]), let sequence = UInt64(halves[1])
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
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: 16 - digits.utf8.count) + digits
}

private func hexadecimal(_ digits: some Collection<UInt8>, digits allowed: ClosedRange<Int>) -> UInt64? {
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
