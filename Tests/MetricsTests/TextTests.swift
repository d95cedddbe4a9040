import Metrics
import Testing

@Suite struct TextTests {
  @Test("JSON is written with everything escaped that must be")
  func json() {
    let value: JSONText = [
      "a": "q\"b\\s\n\u{1}\u{2028}é", "n": .whole(-7), "r": .real(0.5), "bad": .real(.infinity), "no": .null,
      "list": .list([true, .object([])]),
    ]
    #expect(
      value.description
        == #"{"a":"q\"b\\s\n\u0001\u2028é","n":-7,"r":0.5,"bad":null,"no":null,"list":[true,{}]}"#)
  }

  @Test(
    "times are written as RFC 3339 has them",
    arguments: [
      (0, "1970-01-01T00:00:00.000Z"), (951_782_399_999_000, "2000-02-28T23:59:59.999Z"),
      (951_782_400_000_000, "2000-02-29T00:00:00.000Z"), (-1, "1969-12-31T23:59:59.999Z"),
      (4_102_444_800_123_456, "2100-01-01T00:00:00.123Z"),
      (1_795_461_299_500_000, "2026-11-23T19:14:59.500Z"),
    ] as [(Int64, String)])
  func times(_ microseconds: Int64, _ text: String) {
    #expect(WallTime(microseconds: microseconds).text == text)
  }

  @Test("a time before another one is no time before it")
  func difference() {
    let (early, late) = (WallTime(microseconds: 10), WallTime(microseconds: 12))
    #expect(late.since(early) == 2000)
    #expect(early.since(late) == 0)
    #expect(WallTime(postgres: 0).text == "2000-01-01T00:00:00.000Z")
  }

  @Test("Redis's INFO gives its figures, and what it lacks is not made up")
  func info() {
    let report = RedisReport(
      info: "# Stats\r\nkeyspace_hits:12\r\nkeyspace_misses:3\r\nused_memory:99\r\nx:y\r\n")
    #expect(report.hits == 12)
    #expect(report.misses == 3)
    #expect(report.usedMemory == 99)
    #expect(report.evicted == nil)
  }
}
