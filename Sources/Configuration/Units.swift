// Durations, sizes and file modes as the configuration writes them.
enum Units {
  /// `"250ms"`, `"1.5s"`, `"1h30m"` in nanoseconds. nil: not a duration, or more than 64 bits hold.
  static func duration(_ text: String) -> UInt64? {
    let bytes = Array(text.utf8)
    var at = 0
    var total: UInt64 = 0
    guard !bytes.isEmpty else { return nil }
    while at < bytes.count {
      guard let number = Decimal(bytes, &at), let unit = durationUnits[unitName(bytes, &at)],
        let part = number.times(unit)
      else { return nil }
      let (sum, overflow) = total.addingReportingOverflow(part)
      guard !overflow else { return nil }
      total = sum
    }
    return total
  }

  /// `"256MiB"` (binary) or `"256MB"` (decimal) in bytes. nil: not a size, or more than Int holds.
  static func size(_ text: String) -> Int? {
    let bytes = Array(text.utf8)
    var at = 0
    guard let number = Decimal(bytes, &at), let unit = sizeUnits[unitName(bytes, &at)], at == bytes.count,
      let total = number.times(unit)
    else { return nil }
    return Int(exactly: total)
  }

  /// Three octal digits after a zero, as chmod(1) takes them: `"0660"`.
  static func fileMode(_ text: String) -> UInt16? {
    let bytes = Array(text.utf8)
    guard bytes.count == 4, bytes[0] == UInt8(ascii: "0"), bytes.allSatisfy({ (0x30...0x37).contains($0) })
    else { return nil }
    return bytes.reduce(0) { $0 << 3 | UInt16($1 - 0x30) }
  }

  /// `"10%"` or `"2.5%"` as a part of one, at most 1.
  static func percent(_ text: String) -> Double? {
    let bytes = Array(text.utf8)
    var at = 0
    guard let number = Decimal(bytes, &at), Array(bytes[at...]) == [UInt8(ascii: "%")] else { return nil }
    let part = number.value / 100
    return part <= 1 ? part : nil
  }

  private static let durationUnits: [String: UInt64] = [
    "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
  ]

  private static let sizeUnits: [String: UInt64] = [
    "B": 1, "KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000, "KiB": 1 << 10, "MiB": 1 << 20,
    "GiB": 1 << 30,
  ]

  private static func unitName(_ bytes: [UInt8], _ at: inout Int) -> String {
    let from = at
    while at < bytes.count, isWord(bytes[at]), !(0x30...0x39).contains(bytes[at]) { at += 1 }
    return String(decoding: bytes[from..<at], as: UTF8.self)
  }

  /// A number with an optional fraction of at most nine digits, kept exact.
  private struct Decimal {
    var whole: UInt64 = 0
    var fraction: UInt64 = 0
    var scale: UInt64 = 1

    init?(_ bytes: [UInt8], _ at: inout Int) {
      func digit() -> UInt64? {
        at < bytes.count && (0x30...0x39).contains(bytes[at]) ? UInt64(bytes[at] - 0x30) : nil
      }
      guard digit() != nil else { return nil }
      while let next = digit() {
        let (tens, overflow) = whole.multipliedReportingOverflow(by: 10)
        let (sum, carry) = tens.addingReportingOverflow(next)
        guard !overflow, !carry else { return nil }
        whole = sum
        at += 1
      }
      guard at < bytes.count, bytes[at] == UInt8(ascii: ".") else { return }
      at += 1
      guard digit() != nil else { return nil }
      while let next = digit() {
        guard scale < 1_000_000_000 else { return nil }
        fraction = fraction * 10 + next
        scale *= 10
        at += 1
      }
    }

    var value: Double { Double(whole) + Double(fraction) / Double(scale) }

    func times(_ unit: UInt64) -> UInt64? {
      let (product, overflow) = whole.multipliedReportingOverflow(by: unit)
      // The fraction is below the scale, so this quotient is below the unit.
      let part = scale.dividingFullWidth(fraction.multipliedFullWidth(by: unit)).quotient
      let (sum, carry) = product.addingReportingOverflow(part)
      return overflow || carry ? nil : sum
    }
  }
}
