import Invalidation

/// Leases and fences as arguments of scripts; each takes them in the form in which the state holds them.
extension IOBuffer {
  /// Sixteen digits.
  mutating func bulk(_ generation: Generation) {
    append("$16\r\n")
    append(hex: generation.rawValue)
    append("\r\n")
  }

  /// Thirty-two digits.
  mutating func bulk(_ stamp: Stamp) {
    append("$32\r\n")
    append(hex: stamp.visible.rawValue)
    append(hex: stamp.deletions)
    append("\r\n")
  }

  /// Forty-eight digits: the generation and the stamp.
  mutating func bulk(_ lease: Lease) {
    append("$48\r\n")
    append(hex: lease.generation.rawValue)
    append(hex: lease.stamp.visible.rawValue)
    append(hex: lease.stamp.deletions)
    append("\r\n")
  }

  /// The buckets of a key and of its groups, with commas between.
  mutating func buckets(of key: GovernedKey) {
    if key.groups == nil {
      bulk(number: key.bytes.withUnsafeBytes { KeyHash.bucket($0) })
    } else {
      bulk(key.buckets)
    }
  }

  /// Appends the sixteen lower-case hexadecimal digits of a number.
  mutating func append(hex number: UInt64) {
    for place in 0..<16 {
      let digit = UInt8(truncatingIfNeeded: number >> UInt64(60 - 4 * place)) & 15
      append(byte: digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
    }
  }
}
