import Configuration
import Testing

@testable import nearside

/// What `top` shows, as text: no terminal and no sidecar.
@Suite("The picture that top shows")
struct TopFrameTests {
  /// An answer of /status?keys. Counts grow with `second`.
  static func status(second: Int, staleness: String = "0.21", hot: String = "shop:user:42") -> JSONNode {
    let text = """
      {"version":"0.1.0","pid":7,"uptime_seconds":\(7980 + second),"namespace":"shop","role":"tailer",
      "standing":"following","listen":{"unix":"/run/nearside/redis.sock"},
      "health":{"state":"warning","problems":[{"part":"slot","severity":"warning","what":"The slot keeps much log.",
      "fix":"Look."}]},
      "staleness":{"seconds":\(staleness),"bound_seconds":2.0},
      "replication":{"lag_seconds":0.004,"lag_bytes":1234,"applied":"0/1969018"},
      "near":{"entries":12345,"bytes":12897484,"limit_bytes":268435456},
      "process":{"resident_bytes":84000000,"cpu_seconds":\(10.0 + Double(second) * 0.25)},
      "clients":{"now":12,"limit":10000,"by_library":[
      {"lib":"redis-py","version":"5.0.1","resp":2,"clients":5},{"lib":"redis-py","version":"5.0.1","resp":3,"clients":3},
      {"lib":"","version":"","resp":2,"clients":4}]},
      "caches":[
      {"cache":"user:{id}","hit":\(9000 * second),"negative_hit":0,"redis_hit":\(900 * second),"miss":\(100 * second),
      "stale":0,"bypass":0,"entries":10000,"bytes":9000000},
      {"cache":"a:template:with:a:rather:long:name:{of}:{columns}","hit":0,"negative_hit":0,"redis_hit":0,"miss":0,
      "stale":0,"bypass":0,"entries":0,"bytes":0}],
      "hot_keys":[{"key":"\(hot)","share":0.125},{"key":"shop:user:7","share":0.01}]}
      """
    guard let node = JSONReader.read(Array(text.utf8)).node else { fatalError("the test's own JSON") }
    return node
  }

  private func lines(width: Int) -> [String] {
    TopFrame(now: Self.status(second: 2), before: Self.status(second: 1), width: width).lines.map(\.text)
  }

  @Test("80 columns: every figure, rates from two answers")
  func usual() {
    #expect(
      lines(width: 80) == [
        "nearside 0.1.0  shop  tailer, following, up 2 h 13 min",
        "health        warning  /run/nearside/redis.sock",
        "! The slot keeps much log.",
        "",
        "reads         10,000 /s   near 90.0 %   Redis 9.0 %   miss 1.0 %",
        "staleness     ▮▯▯▯▯▯▯▯▯▯  0.21 s of at most 2.00 s",
        "lag           0.00 s, 1.2 KiB of log; applied up to 0/1969018",
        "near memory   ▯▯▯▯▯▯▯▯▯▯  12.3 MiB of 256.0 MiB, 12,345 entries",
        "process       80.1 MiB, 25.0 % of a processor",
        "",
        "template                     reads/s       near      Redis       miss    entries",
        "user:{id}                     10,000     90.0 %      9.0 %      1.0 %     10,000",
        "a:template:with:a:rathe…           0          -          -          -          0",
        "",
        "clients: 12 of at most 10,000",
        "  redis-py 5.0.1 × 8   no name given × 4",
        "",
        "hottest keys, from one in 1024 near hits of the last minutes",
        "shop:user:42                                                 ≈ 1,125 /s   12.5 %",
        "shop:user:7                                                     ≈ 90 /s    1.0 %",
      ])
  }

  @Test(
    "whatever the width, no line is longer; columns that have no room are left out",
    arguments: [24, 40, 60, 80, 120])
  func widths(width: Int) {
    let lines = lines(width: width)
    #expect(lines.allSatisfy { $0.count <= width }, "\(lines.filter { $0.count > width })")
    let header = lines.first { $0.hasPrefix("template") } ?? ""
    #expect(header.contains("reads/s"))
    #expect(header.contains("memory") == (width >= 90))
    #expect(lines.contains { $0.hasPrefix("shop:user") && $0.hasSuffix("12.5 %") })
  }

  @Test("120 columns show whole names and memory by template")
  func wide() {
    let lines = lines(width: 120)
    #expect(lines.contains { $0.hasPrefix("a:template:with:a:rather:long:name:{of}:{columns} ") })
    #expect(lines.contains { $0.hasPrefix("user:{id} ") && $0.hasSuffix("8.6 MiB") })
  }

  @Test("the first picture has no rates; a sidecar that has begun anew has none either")
  func first() {
    let lines = TopFrame(now: Self.status(second: 2), before: nil, width: 80).lines.map(\.text)
    #expect(lines.contains("reads         - /s   near 90.0 %   Redis 9.0 %   miss 1.0 % since the start"))
    #expect(!lines.contains { $0.contains("processor") })
    let anew = TopFrame(now: Self.status(second: 1), before: Self.status(second: 2), width: 80)
    #expect(anew.lines.contains { $0.text.hasPrefix("reads         - /s") })
  }

  @Test("what is wrong is red: evidence beyond the bound, none at all, figures that are old")
  func wrong() {
    func styles(_ staleness: String) -> TopFrame.Style? {
      TopFrame(now: Self.status(second: 1, staleness: staleness), before: nil, width: 80).lines
        .first { $0.text.hasPrefix("staleness") }?.style
    }
    #expect(styles("0.21") == .plain && styles("2.5") == .bad && styles("null") == .bad)
    let frame = TopFrame(
      now: Self.status(second: 1), before: nil, trouble: "These figures are old", width: 80)
    #expect(frame.lines.contains(TopFrame.Line(text: "These figures are old", style: .bad)))
  }

  @Test("a key that holds a terminal's sequences is shown without them")
  func sequences() {
    let frame = TopFrame(
      now: Self.status(second: 1, hot: #"k\u001b]0;title\u0007\u009b2J"#), before: nil, width: 80)
    #expect(
      frame.lines.allSatisfy { line in
        line.text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control }
      })
  }

  @Test("the screen colours lines, clears before each, and shows no more than there are rows")
  func screen() {
    let lines = [
      TopFrame.Line(text: "a", style: .heading), TopFrame.Line(text: "b", style: .bad),
      TopFrame.Line(text: "c"),
    ]
    #expect(
      Screen.text(lines, rows: 2, isColoured: true)
        == "\u{1B}[K\u{1B}[1ma\u{1B}[0m\r\n\u{1B}[K\u{1B}[31mb\u{1B}[0m")
    #expect(Screen.text(lines, rows: 9, isColoured: false) == "\u{1B}[Ka\r\n\u{1B}[Kb\r\n\u{1B}[Kc")
  }

  @Test("figures are written as people read them")
  func figures() {
    #expect([0, 999, 1000, 1_234_567].map { Figures.count($0) } == ["0", "999", "1,000", "1,234,567"])
    #expect([0, 0.04, 9.9, 9.96, 1234.5].map { Figures.rate($0) } == ["0", "0.0", "9.9", "10", "1,235"])
    #expect([12, 2048, 5_000_000].map { Figures.size(Double($0)) } == ["12 B", "2.0 KiB", "4.8 MiB"])
    #expect([0.2, 1.999, 61.25].map { Figures.seconds($0) } == ["0.20 s", "2.00 s", "61.25 s"])
  }
}
