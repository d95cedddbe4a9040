/// An instant of the world's clock.
public struct WallTime: Hashable, Sendable, Comparable {
  /// Since 1970-01-01 00:00 UTC, without leap seconds.
  public var microseconds: Int64

  public init(microseconds: Int64) { self.microseconds = microseconds }

  /// - Parameter nanoseconds: since 1970, as clocks have it.
  public init(nanoseconds: Int64) { microseconds = nanoseconds / 1000 }

  public static func < (a: WallTime, b: WallTime) -> Bool { a.microseconds < b.microseconds }

  /// PostgreSQL counts from 2000-01-01.
  /// - Parameter postgres: microseconds since then.
  public init(postgres: Int64) { microseconds = postgres &+ 946_684_800_000_000 }

  /// How long before `self` the other one was, in nanoseconds; 0 if it was later, as clocks of two hosts may have it.
  public func since(_ earlier: WallTime) -> UInt64 {
    let (difference, overflow) = microseconds.subtractingReportingOverflow(earlier.microseconds)
    guard !overflow, difference > 0 else { return 0 }
    return UInt64(difference).multipliedReportingOverflow(by: 1000).partialValue
  }

  /// `2026-11-23T19:15:00.123Z`, as RFC 3339 has it.
  public var text: String {
    let milliseconds = microseconds >= 0 ? microseconds / 1000 : (microseconds - 999) / 1000
    var days = milliseconds / 86_400_000
    var rest = milliseconds % 86_400_000
    if rest < 0 {
      rest += 86_400_000
      days -= 1
    }
    // Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let shifted = days + 719_468
    let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let month = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * month + 2) / 5 + 1
    let year = yearOfEra + era * 400 + (month >= 10 ? 1 : 0)
    func digits(_ number: Int64, _ count: Int) -> String {
      let text = String(number)
      return String(repeating: "0", count: max(0, count - text.count)) + text
    }
    return digits(year, 4) + "-" + digits(month < 10 ? month + 3 : month - 9, 2) + "-" + digits(day, 2) + "T"
      + digits(rest / 3_600_000, 2) + ":" + digits(rest / 60_000 % 60, 2) + ":" + digits(rest / 1000 % 60, 2)
      + "." + digits(rest % 1000, 3) + "Z"
  }
}
