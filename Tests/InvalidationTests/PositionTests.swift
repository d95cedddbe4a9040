import Invalidation
import Testing

@Suite("Positions, stamps and ids")
struct PositionTests {
  @Test("a log position is read and written as PostgreSQL does")
  func lsn() {
    #expect(LSN("0/16B3748") == LSN(0x16b_3748))
    #expect(LSN("FFFFFFFF/ffffffff") == LSN(.max))
    #expect(LSN(0x16b_3748).description == "0/16B3748")
    #expect(LSN(0x1_0000_00a0).description == "1/A0")
    #expect(LSN.zero.description == "0/0")
    for text in ["", "/", "0", "0/", "/0", "0/0/0", "0/123456789", "0/g", "+0/1", "0/ 1", "0x0/1", "0/１"] {
      #expect(LSN(text) == nil, "\(text)")
    }
  }

  @Test("the form kept in Redis has sixteen lower-case digits and sorts like the position")
  func lsnHex() {
    #expect(LSN(0xabc).hex == "0000000000000abc")
    #expect(LSN(.max).hex == "ffffffffffffffff")
    #expect(LSN(hex: "0000000000000abc") == LSN(0xabc))
    for text in ["", "abc", "00000000000000abc", "000000000000000g", "+000000000000001", "-000000000000001"] {
      #expect(LSN(hex: text) == nil, "\(text)")
    }
    let values: [UInt64] = [0, 9, 10, 255, 0x1_0000_0000, .max - 1, .max]
    #expect(values.map { LSN($0).hex } == values.map { LSN($0).hex }.sorted())
  }

  @Test("a stamp is a position and a number of deletions, compared in that order")
  func stamp() {
    let stamp = Stamp(visible: LSN(0xab), deletions: 0x10)
    #expect(stamp.hex == "00000000000000ab0000000000000010")
    #expect(Stamp(hex: stamp.hex) == stamp)
    #expect(Stamp(hex: stamp.hex + "0") == nil)
    #expect(Stamp(hex: String(repeating: "g", count: 32)) == nil)
    #expect(Stamp(hex: String(repeating: "ü", count: 16)) == nil)
    #expect(stamp < Stamp(visible: LSN(0xab), deletions: 0x11))
    #expect(Stamp(visible: LSN(0xab), deletions: .max) < Stamp(visible: LSN(0xac), deletions: 0))
    #expect(Stamp.zero.hex == String(repeating: "0", count: 32))
  }

  @Test("a generation is sixteen digits and never zero when random")
  func generation() {
    #expect(Generation(hex: "00000000000000ff") == Generation(255))
    #expect(Generation(255).hex == "00000000000000ff")
    #expect(Generation(hex: "ff") == nil)
    #expect(Generation.random() != Generation(0))
  }

  @Test("a journal id is two decimal numbers, compared in that order")
  func journalID() {
    let id = JournalID("1700000000000-3")
    #expect(id == JournalID(milliseconds: 1_700_000_000_000, sequence: 3))
    #expect(id?.description == "1700000000000-3")
    #expect(JournalID("18446744073709551615-0") != nil)
    for text in ["", "-", "1", "1-", "-1", "1-2-3", "a-1", "+1-2", "1-+2", "1 -2", "18446744073709551616-0"] {
      #expect(JournalID(text) == nil, "\(text)")
    }
    #expect(JournalID(milliseconds: 1, sequence: 9) < JournalID(milliseconds: 2, sequence: 0))
    #expect(JournalID(milliseconds: 2, sequence: 9) < JournalID(milliseconds: 2, sequence: 10))
  }

  @Test("instants never count below zero")
  func instant() {
    let early = Instant(nanoseconds: 5)
    let late = Instant(nanoseconds: 12)
    #expect(late.since(early) == 7)
    #expect(early.since(late) == 0)
    #expect(early.back(9) == Instant(nanoseconds: 0))
    #expect(late.back(9) == Instant(nanoseconds: 3))
  }

  @Test("the state is read from the ten fields, and is no state if one is missing or malformed")
  func fleetState() {
    let fields: [String?] = [
      "00000000000000aa", "00000000000000aa", "7", "0000000000000010", "000000000000000f",
      "000000000000000e0000000000000001", "0000000000000003", "5-1", "1", "0123456789abcdef",
    ]
    let state = FleetState(fields: fields)
    #expect(state?.trusted == true)
    #expect(state?.beats == 7)
    #expect(state?.applied == LSN(16))
    #expect(state?.stamp == Stamp(visible: LSN(15), deletions: 3))
    #expect(state?.floor == Stamp(visible: LSN(14), deletions: 1))
    #expect(state?.journal == JournalID(milliseconds: 5, sequence: 1))
    #expect(state?.watching == true)
    #expect(FleetState.fieldNames.count == fields.count)
    for index in [0, 2, 3, 4, 5, 6, 7] {
      var broken = fields
      broken[index] = nil
      #expect(FleetState(fields: broken) == nil, "\(FleetState.fieldNames[index]) missing")
      broken[index] = "x"
      #expect(FleetState(fields: broken) == nil, "\(FleetState.fieldNames[index]) malformed")
    }
    var purging = fields
    purging[1] = nil
    #expect(FleetState(fields: purging)?.trusted == false)
    #expect(FleetState(fields: []) == nil)
  }
}

@Suite("The hash of keys")
struct KeyHashTests {
  /// Worked out by an implementation of its own. A bucket decides where every sidecar of a fleet looks for
  /// a fence: these numbers may never change.
  static let vectors: [(key: String, hash: UInt64, bucket: Int)] = [
    ("", 0xa550_6ff5_2926_ac13, 4525),
    ("a", 0x128c_54d5_3230_74bb, 57490),
    ("ab", 0xd4ee_64c5_6438_baed, 44216),
    ("abc", 0x60a6_c22d_4cde_567e, 61811),
    ("user", 0x1a44_50c7_bd96_518f, 58097),
    ("shop:user:42", 0x4af4_e43a_513d_8a4b, 26802),
    ("shop:user:by-email:ann@example.org", 0xcc0a_f38e_f346_dfa7, 11631),
    ("0123456789abcdef", 0x0053_4267_db63_0316, 29882),
    ("0123456789abcdefg", 0xb1a4_9f71_6852_8fce, 9178),
    ("shop:order:7:item:1", 0x5944_5153_ba90_5b64, 34601),
  ]

  @Test("keys have the hashes and the buckets they always had", arguments: vectors.indices)
  func unchanging(index: Int) {
    let (key, hash, bucket) = Self.vectors[index]
    Array(key.utf8).withUnsafeBytes {
      #expect(KeyHash.hash($0, seed: 0) == hash)
      #expect(KeyHash.bucket($0) == bucket)
    }
  }

  @Test("where a key lies in memory does not matter")
  func alignment() {
    let all = Array(UInt8.min...UInt8.max)
    all.withUnsafeBytes { #expect(KeyHash.hash($0, seed: 1) == 0xd7ee_34d8_59a5_363a) }
    for offset in 0..<9 {
      ([UInt8](repeating: 0, count: offset) + all).withUnsafeBytes {
        let moved = UnsafeRawBufferPointer(rebasing: $0[offset...])
        #expect(KeyHash.hash(moved, seed: 1) == 0xd7ee_34d8_59a5_363a)
      }
    }
  }

  @Test("similar keys spread over the buckets")
  func spread() {
    var counts = [Int](repeating: 0, count: KeyHash.buckets)
    for number in 0..<65_536 * 4 {
      Array("shop:user:\(number)".utf8).withUnsafeBytes { counts[KeyHash.bucket($0)] += 1 }
    }
    // With four keys a bucket on average a fair hash leaves 1.8 % empty and none with more than about 18.
    #expect((900...1500).contains(counts.count { $0 == 0 }))
    #expect(counts.max() ?? 0 <= 22)
  }
}
