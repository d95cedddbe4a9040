import Invalidation

@testable import NearCache

/// Nanoseconds of so many milliseconds.
func ms(_ count: Int) -> UInt64 { UInt64(count) * 1_000_000 }

/// The instant so many milliseconds after boot.
func at(_ milliseconds: Int) -> Instant { Instant(nanoseconds: ms(milliseconds)) }

func id(_ milliseconds: UInt64) -> JournalID { JournalID(milliseconds: milliseconds, sequence: 0) }

/// SplitMix64 (Steele, Lea, Flood 2014): a test that prints its seed can be run again.
struct Seeded: RandomNumberGenerator {
  var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

/// What a found entry says, copied out.
struct Copy: Equatable {
  var value: [UInt8]
  var expires: Instant?
  var tag: UInt32

  var text: String { String(decoding: value, as: UTF8.self) }
}

extension NearCache {
  mutating func put(
    _ key: [UInt8], _ value: [UInt8], expires: Instant? = nil, tag: UInt32 = 0
  ) -> Bool {
    key.withUnsafeBytes { key in
      value.withUnsafeBytes { value in
        insert(key, hash: hash(key), value: value, expires: expires, tag: tag)
      }
    }
  }

  mutating func put(_ key: String, _ value: String, expires: Instant? = nil, tag: UInt32 = 0) -> Bool {
    put(Array(key.utf8), Array(value.utf8), expires: expires, tag: tag)
  }

  /// Goes through all three passes. Nil also if the reply is not the value's RESP form.
  mutating func get(_ key: [UInt8], now: Instant = at(0)) -> Copy? {
    key.withUnsafeBytes { key in
      let hash = hash(key)
      prefetchSlot(hash)
      prefetchEntry(hash)
      guard let entry = find(key, hash: hash, now: now) else { return nil }
      let value = Array(entry.value)
      guard value.count == entry.valueCount,
        Array(entry.reply) == Array("$\(value.count)\r\n".utf8) + value + Array("\r\n".utf8)
      else { return nil }
      return Copy(value: value, expires: entry.expires, tag: entry.tag)
    }
  }

  mutating func get(_ key: String, now: Instant = at(0)) -> String? { get(Array(key.utf8), now: now)?.text }

  mutating func forget(_ key: [UInt8]) -> Bool {
    key.withUnsafeBytes { remove($0, hash: hash($0)) }
  }

  mutating func end(_ key: [UInt8], _ expires: Instant?) -> Bool {
    key.withUnsafeBytes { setExpiry($0, hash: hash($0), expires: expires) }
  }
}
