import CLinux
import Glibc
import Invalidation

/// What lies between this host's two clocks: ends of values are kept on the clock since boot, which nobody
/// sets, but EXPIREAT and its kin speak of the time of day.
struct WallClock {
  /// Nanoseconds since 1970 less nanoseconds since boot.
  let offset: Int64

  /// Reads both clocks; again if something came between the two readings, so that an end that was given in
  /// milliseconds is read back as the same number.
  static func now() -> WallClock {
    var offset: Int64 = 0
    for _ in 0..<8 {
      let before = clinux_boot_nanoseconds()
      let wall = clinux_wall_nanoseconds()
      let after = clinux_boot_nanoseconds()
      let middle = Int64(before + (after - before) / 2)
      offset = wall - middle
      if after - before < 100_000 { break }
    }
    return WallClock(offset: offset)
  }

  /// The time of day at `instant` in milliseconds since 1970, rounded to the nearest.
  func milliseconds(_ instant: Instant) -> Int { milliseconds(instant, adding: 500_000) }

  /// The same, rounded down, as Redis reads its clock.
  func milliseconds(floor instant: Instant) -> Int { milliseconds(instant, adding: 0) }

  private func milliseconds(_ instant: Instant, adding rest: Int128) -> Int {
    let wall = (Int128(instant.nanoseconds) + Int128(offset) + rest) / 1_000_000
    return Int(clamping: wall)
  }

  /// The instant at so many milliseconds since 1970. Redis takes ends in 292 million years; the clock since
  /// boot reaches 584 years, which is what a later one becomes.
  func instant(_ milliseconds: Int) -> Instant {
    let boot = Int128(milliseconds) * 1_000_000 - Int128(offset)
    // The largest number means "no end" in the near cache.
    return Instant(nanoseconds: min(UInt64(clamping: boot), .max - 1))
  }
}

/// An end of a value as a command gives it: EX, PX, EXAT, PXAT, and the same in EXPIRE and its kin.
struct GivenTime {
  enum Form { case seconds, milliseconds, secondsAt, millisecondsAt }

  var form: Form
  var isAbsolute: Bool { form == .secondsAt || form == .millisecondsAt }

  /// The time of day that the digits mean, in milliseconds, by Redis's own bounds
  /// (t_string.c, `getExpireMillisecondsOrReply`; expire.c, `expireGenericCommand`).
  ///
  /// - Parameters:
  ///   - positive: whether zero and less is an error, as it is for SET and GETEX, or a time in the past.
  ///   - now: the time of day.
  func end(
    _ digits: UnsafeRawBufferPointer, of command: String, positive: Bool, now: Int
  ) throws(ErrorReply) -> Int {
    guard var time = RequestParser.number(digits) else { throw .notInteger }
    let invalid = ErrorReply("ERR invalid expire time in '\(command)' command")
    if positive, time <= 0 { throw invalid }
    if form == .seconds || form == .secondsAt {
      guard time <= .max / 1000, time >= .min / 1000 else { throw invalid }
      time *= 1000
    }
    if !isAbsolute {
      guard time <= .max - now else { throw invalid }
      time += now
    }
    return time
  }
}
