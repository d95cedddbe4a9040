import Testing

@testable import Server

/// Feeds a parser as a client's socket does: what is not consumed yet lies at the front of the buffer.
struct Cutter {
  enum Event: Equatable {
    case command([[UInt8]])
    case failed(String)
  }

  private var parser = RequestParser()
  private var buffer: [UInt8] = []
  private(set) var events: [Event] = []
  /// Bytes that belong to no complete command yet.
  var waiting: Int { buffer.count }

  mutating func feed(_ bytes: some Sequence<UInt8>) {
    buffer += bytes
    while true {
      if case .failed? = events.last { return }
      var arguments: [Argument] = []
      // A copy of exactly these bytes, so that reading past them would be noticed.
      let seen = buffer
      var consumed = 0
      seen.withUnsafeBytes { all in
        switch parser.next(all, into: &arguments) {
        case .command(let length):
          consumed = length
          events.append(
            .command(
              arguments.map { Array(all[Int($0.offset)..<Int($0.offset) + Int($0.length)]) }))
        case .nothing(let length): consumed = length
        case .incomplete: break
        case .failed(let error): events.append(.failed(text(error.text)))
        }
      }
      guard consumed > 0 else { return }
      buffer.removeFirst(consumed)
    }
  }

  static func cut(_ pieces: some Sequence<ArraySlice<UInt8>>) -> Cutter {
    var cutter = Cutter()
    for piece in pieces { cutter.feed(piece) }
    return cutter
  }
}

@Suite("Cutting bytes into commands")
struct RequestParserTests {
  static let pipelines: [[UInt8]] = [
    encode([Array("PING".utf8)]),
    encode([Array("SET".utf8), Array("user:1".utf8), []])
      + encode([Array("GET".utf8), Array("user:1".utf8)]),
    encode([Array("ECHO".utf8), bytes(#"a\r\n*1\r\n$4\r\nPING\r\n"#)]) + encode([Array("PING".utf8)]),
    bytes(#"*0\r\n*-1\r\n\r\nPING\r\n*1\r\n$4\r\nPING\r\n"#),
    bytes(#"  echo "a b"  'c'\x09d\n*2\r\n$1\r\n\r\r\n$2\r\n\r\n\r\n"#),
    encode((0..<12).map { Array("argument-\($0)".utf8) }),
  ]

  @Test("a pipeline is cut alike wherever it is split", arguments: pipelines)
  func everySplit(_ pipeline: [UInt8]) {
    let whole = Cutter.cut([pipeline[...]])
    #expect(!whole.events.isEmpty && whole.waiting == 0)
    for first in 0...pipeline.count {
      let two = Cutter.cut([pipeline[..<first], pipeline[first...]])
      #expect(two.events == whole.events && two.waiting == 0, "split at \(first)")
    }
    let bytewise = Cutter.cut(pipeline.indices.map { pipeline[$0..<$0 + 1] })
    #expect(bytewise.events == whole.events && bytewise.waiting == 0)
  }

  @Test("short pipelines are cut alike wherever they are split in three")
  func everyThreeSplits() {
    let pipeline = bytes(#"*2\r\n$3\r\nGET\r\n$2\r\nab\r\nPING x\r\n*1\r\n$0\r\n\r\n"#)
    let whole = Cutter.cut([pipeline[...]])
    #expect(whole.events.count == 3)
    for first in 0...pipeline.count {
      for second in first...pipeline.count {
        let three = Cutter.cut([pipeline[..<first], pipeline[first..<second], pipeline[second...]])
        #expect(three.events == whole.events, "split at \(first) and \(second)")
      }
    }
  }

  @Test("arguments are the bytes between the lines, whatever they are")
  func arguments() {
    let value = (0...255).map { UInt8($0) }
    let cutter = Cutter.cut([encode([Array("SET".utf8), value, []])[...]])
    #expect(cutter.events == [.command([Array("SET".utf8), value, []])])
  }

  @Test("a command's prefix is never a command")
  func prefixes() {
    let command = encode([Array("SET".utf8), Array("user:1".utf8), Array("value".utf8)])
    for count in 0..<command.count {
      let cutter = Cutter.cut([command[..<count]])
      #expect(cutter.events.isEmpty && cutter.waiting == count)
    }
  }

  /// The recorded answers that are protocol errors, without what was answered before them.
  static let errors = Recorded.groups(RecordedProtocol.text).joined().filter {
    $0.answer.contains("Protocol error") && !$0.answer.hasPrefix("+")
  }

  @Test("what is no command gets Redis's own error, also when it comes byte by byte", arguments: errors)
  func protocolErrors(_ recorded: Recorded) {
    let sent = bytes(recorded.sent)
    for pieces in [[sent[...]], sent.indices.map { sent[$0..<$0 + 1] }] {
      let cutter = Cutter.cut(pieces)
      guard case .failed(let error)? = cutter.events.last else {
        Issue.record("\(recorded.sent) was taken for \(cutter.events)")
        continue
      }
      #expect("-ERR Protocol error: \(error)\\r\\n<EOF>" == recorded.answer)
    }
  }

  @Test("a line that never ends is given up after 64 KiB")
  func endlessLines() {
    let cases: [(String, String)] = [
      ("*", "too big mbulk count string"), ("*1\r\n$", "too big bulk count string"),
      ("a", "too big inline request"),
    ]
    for (start, error) in cases {
      var cutter = Cutter()
      cutter.feed(Array(start.utf8))
      for _ in 0..<16 { cutter.feed([UInt8](repeating: UInt8(ascii: "1"), count: 4096 - 1)) }
      #expect(cutter.events.isEmpty)
      cutter.feed([UInt8](repeating: UInt8(ascii: "1"), count: 32))
      #expect(cutter.events == [.failed(error)])
    }
  }

  @Test("an argument of 512 MiB is waited for, a longer one is an error")
  func longestArgument() {
    #expect(Cutter.cut([bytes(#"*1\r\n$536870912\r\n"#)[...]]).events.isEmpty)
    #expect(
      Cutter.cut([bytes(#"*1\r\n$536870913\r\n"#)[...]]).events == [.failed("invalid bulk length")])
  }

  @Test("a million arguments may be announced, and announcing them takes no memory")
  func mostArguments() {
    var cutter = Cutter.cut([bytes(#"*1048576\r\n$1\r\na\r\n"#)[...]])
    #expect(cutter.events.isEmpty)
    cutter.feed(bytes(#"$1\r\nb"#))
    #expect(cutter.events.isEmpty)
    #expect(Cutter.cut([bytes(#"*1048577\r\n"#)[...]]).events == [.failed("invalid multibulk length")])
  }

  @Test("random bytes end in commands, in waiting or in an error, alike wherever they are split")
  func randomBytes() {
    let alphabet = bytes(#"*$123450-\r\n"'\\ aPING"#)
    for seed in 0..<300 as Range<UInt64> {
      var random = Seeded(seed)
      var sent: [UInt8] = []
      for _ in 0..<Int.random(in: 1...60, using: &random) {
        sent.append(alphabet.randomElement(using: &random) ?? 0)
      }
      let whole = Cutter.cut([sent[...]])
      let bytewise = Cutter.cut(sent.indices.map { sent[$0..<$0 + 1] })
      #expect(whole.events == bytewise.events, "seed \(seed): \(text(sent))")
    }
  }

  @Test("numbers are read as Redis reads them")
  func numbers() {
    func number(_ text: String) -> Int? { Array(text.utf8).withUnsafeBytes { RequestParser.number($0) } }
    #expect(number("0") == 0)
    #expect(number("-1") == -1)
    #expect(number("1048576") == 1_048_576)
    #expect(number("9223372036854775807") == .max)
    #expect(number("-9223372036854775808") == .min)
    for wrong in [
      "", "-", "-0", "00", "01", "-01", "+1", " 1", "1 ", "1.0", "1e3", "0x10", "a", "--1",
      "9223372036854775808", "-9223372036854775809", "99999999999999999999", "100000000000000000000",
    ] { #expect(number(wrong) == nil, "\(wrong)") }
  }
}
