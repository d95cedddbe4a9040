import TestSupport
import Testing

@testable import nearside

@Suite("The log's lines")
struct LogLineTests {
  private func line(_ text: String) -> RepeatFolder.Line {
    RepeatFolder.Line(level: "error", label: "tail", text: text)
  }
  private let second: UInt64 = 1_000_000_000

  @Test("A line that says the same is written once in ten seconds, and then with how often it was held back")
  func folded() {
    var folder = RepeatFolder()
    #expect(folder.takes(line("down"), now: 0) == true)
    for tick in 1...5 { #expect(folder.takes(line("down"), now: UInt64(tick) * second) == false) }
    #expect(folder.takes(line("other"), now: 5 * second) == true)
    let early = folder.due(now: 9 * second)
    #expect(early.isEmpty)
    let due = folder.due(now: 10 * second)
    #expect(due.map(\.line) == [line("down")] && due.map(\.count) == [5])
    // It goes on, and is not written anew each time.
    #expect(folder.takes(line("down"), now: 11 * second) == false)
    let later = folder.due(now: 20 * second)
    #expect(later.map(\.count) == [1])
    // What was not repeated is not told again.
    let last = folder.due(now: 40 * second)
    #expect(last.isEmpty)
    #expect(folder.takes(line("down"), now: 41 * second) == true)
  }

  @Test("What is remembered is bounded")
  func bounded() {
    var folder = RepeatFolder()
    for number in 0..<1000 { #expect(folder.takes(line("line \(number)"), now: UInt64(number)) == true) }
    #expect(folder.takes(line("line 999"), now: 1000) == false)
    #expect(folder.takes(line("line 0"), now: 1000) == true)
  }

  @Test("JSON and text, with the count")
  func shapes() throws {
    let one = RepeatFolder.Line(level: "error", label: "tail", text: "\"a \\\"b\\\"\"")
    let json = LogLines.line(one, repeated: 312, json: true)
    #expect(
      json.hasSuffix(
        "\"level\":\"error\",\"component\":\"tail\",\"msg\":\"a \\\"b\\\"\",\"repeated\":312}\n"), "\(json)")
    let text = LogLines.line(line("down"), repeated: 2, json: false)
    #expect(text.hasSuffix("Z error tail: down repeated=2\n"), "\(text)")
    #expect(!LogLines.line(line("down"), repeated: 0, json: false).contains("repeated"))
  }

  @Test("The slow log names what a client waited for, its keys only at debug, and never a value")
  func slow() throws {
    let world = try World(options: [
      #""log": { "level": "debug", "format": "json", "slow": "100ms" }"#,
      #""caches": { "user:{id}": { "load": "SELECT name FROM users, pg_sleep(0.3) WHERE id = :id", "ttl": "1h" } }"#,
    ])
    let sidecar = try world.sidecar()
    let user = world.key("user:1")
    #expect(try sidecar.get(user) == "User 1")
    try eventually("the load is told") {
      sidecar.log.contains(
        #""msg":"a client waited longer than log.slow","command":"get","keys":"1","ms":"3"#)
    }
    #expect(sidecar.log.contains("it was for \(user)"), "\(sidecar.log)")
    #expect(!sidecar.log.contains("User 1"))
    let busy =
      "local n = redis.call('TIME'); local e = n[1] * 1000000 + n[2] + 200000; "
      + "repeat n = redis.call('TIME') until n[1] * 1000000 + n[2] > e; return 'x'"
    #expect(try sidecar.client().call("EVAL", busy, "0") == "x")
    try eventually("what Redis took long for is told") {
      sidecar.log.contains(#""command":"eval","keys":"0""#)
    }
  }
}
