import Testing

@testable import Server

@Suite("Finding the ends of replies")
struct ReplyReaderTests {
  static let replies: [String] = [
    #"+OK\r\n"#, #"-ERR no\r\n"#, #":0\r\n"#, #":-9223372036854775808\r\n"#, #"$-1\r\n"#, #"*-1\r\n"#,
    #"$0\r\n\r\n"#, #"$5\r\nhello\r\n"#, #"$7\r\na\r\n*1\r\n\r\n"#, #"*0\r\n"#,
    #"*2\r\n$1\r\na\r\n:1\r\n"#, #"*3\r\n*2\r\n:1\r\n*0\r\n$-1\r\n*1\r\n*1\r\n+x\r\n"#,
    #"_\r\n"#, #"#t\r\n"#, #"#f\r\n"#, #",1.5\r\n"#, #",-inf\r\n"#, #"(3492890328409238509324850943850\r\n"#,
    #"!5\r\nERR x\r\n"#, #"=7\r\ntxt:abc\r\n"#, #"%0\r\n"#, #"%2\r\n+a\r\n:1\r\n+b\r\n*2\r\n:2\r\n_\r\n"#,
    #"~2\r\n:1\r\n:2\r\n"#, #">2\r\n+invalidate\r\n*1\r\n$1\r\na\r\n"#,
    #"|1\r\n+ttl\r\n:3600\r\n$5\r\nhello\r\n"#, #"*2\r\n|1\r\n+a\r\n:1\r\n:2\r\n:3\r\n"#,
    #"%1\r\n%1\r\n_\r\n_\r\n|1\r\n+x\r\n#t\r\n~1\r\n,3\r\n"#,
  ]

  /// Lengths of the replies found, and how many bytes are left.
  private func scan(_ pieces: some Sequence<ArraySlice<UInt8>>) -> (lengths: [Int], waiting: Int, isBad: Bool)
  {
    var scanner = ReplyScanner()
    var buffer: [UInt8] = []
    var lengths: [Int] = []
    for piece in pieces {
      buffer += piece
      while !buffer.isEmpty {
        let outcome = buffer.withUnsafeBytes { scanner.next($0) }
        if case .malformed = outcome { return (lengths, buffer.count, true) }
        guard case .complete(let length) = outcome else { break }
        lengths.append(length)
        buffer.removeFirst(length)
      }
    }
    return (lengths, buffer.count, false)
  }

  @Test("a reply ends where it ends, wherever it is split", arguments: replies)
  func everySplit(_ reply: String) {
    let reply = bytes(reply)
    for first in 0...reply.count {
      let found = scan([reply[..<first], reply[first...]])
      #expect(found.lengths == [reply.count] && found.waiting == 0, "split at \(first)")
      let part = scan([reply[..<first]])
      #expect(first == reply.count || part.lengths.isEmpty && !part.isBad, "cut at \(first)")
    }
  }

  @Test("replies one behind the other are told apart byte by byte")
  func pipeline() {
    let all = Self.replies.map { bytes($0) }
    let joined = all.flatMap { $0 }
    let found = scan(joined.indices.map { joined[$0..<$0 + 1] })
    #expect(found.lengths == all.map(\.count))
    #expect(scan([joined[...]]).lengths == all.map(\.count))
  }

  @Test("deep nesting takes no stack")
  func deep() {
    let reply = bytes(String(repeating: #"*1\r\n"#, count: 100_000) + #":1\r\n"#)
    #expect(scan([reply[...]]).lengths == [reply.count])
  }

  @Test(
    "bytes that are no reply are told",
    arguments: [
      #"hello\r\n"#, #"\r\n"#, #"\x00\r\n"#, #"$x\r\n"#, #"$-2\r\n"#, #"$\r\n"#, #"*-2\r\n"#, #"*1x\r\n"#,
      #"*1\r\nx\r\n"#, #"%x\r\n"#, #"$01\r\n"#, #"$ 1\r\n"#, #"=1.5\r\n"#,
      #"*9223372036854775807\r\n"#, #"%9223372036854775807\r\n"#, #"|9223372036854775807\r\n"#,
      #"$9223372036854775807\r\n"#, #"%4611686018427387904\r\n"#, #"*2\r\n*9223372036854775807\r\n"#,
    ])
  func malformed(_ reply: String) { #expect(scan([bytes(reply)[...]]).isBad) }

  @Test("a header that never ends is told after 64 KiB")
  func endless() {
    #expect(scan([([UInt8(ascii: "$")] + [UInt8](repeating: 49, count: 65_600))[...]]).isBad)
    #expect(!scan([([UInt8(ascii: "$")] + [UInt8](repeating: 49, count: 60_000))[...]]).isBad)
  }

  // MARK: Reading

  private func read<Result>(_ replies: String, _ body: (inout ReplyCursor) -> Result) -> Result {
    bytes(replies).withUnsafeBytes { all in
      var cursor = ReplyCursor(all)
      return body(&cursor)
    }
  }

  @Test("a cursor steps over whole elements")
  func raw() {
    read(Self.replies.joined()) { cursor in
      for reply in Self.replies { #expect(text(cursor.raw()) == reply) }
      #expect(cursor.atEnd)
    }
  }

  @Test("texts, numbers and nulls are read, and what is of another kind is stepped over")
  func kinds() {
    read(#"$5\r\nhello\r\n+OK\r\n$-1\r\n_\r\n:7\r\n*1\r\n:1\r\n:-3\r\n$1\r\nx\r\n"#) { cursor in
      #expect(cursor.text() == "hello")
      #expect(cursor.text() == "OK")
      #expect(cursor.isNull)
      #expect(cursor.text() == nil)
      #expect(cursor.isNull)
      #expect(cursor.integer() == nil)
      #expect(cursor.text() == nil)
      #expect(cursor.text() == nil)
      #expect(cursor.integer() == -3)
      #expect(cursor.integer() == nil)
      #expect(cursor.atEnd)
      #expect(cursor.text() == nil)
    }
  }

  @Test("an aggregate is entered and its elements follow")
  func enter() {
    read(#"*2\r\n$1\r\na\r\n:1\r\n%1\r\n+k\r\n:2\r\n*-1\r\n:9\r\n"#) { cursor in
      #expect(cursor.enter() == 2)
      #expect(cursor.text() == "a")
      #expect(cursor.integer() == 1)
      #expect(cursor.enter() == 2)
      #expect(cursor.text() == "k")
      #expect(cursor.integer() == 2)
      #expect(cursor.enter() == nil)
      #expect(cursor.isNull)
      _ = cursor.raw()
      #expect(cursor.enter() == nil)
      #expect(cursor.integer() == 9)
    }
  }

  @Test("errors of both protocols are errors, and so is nothing at all")
  func errors() {
    #expect(read(#"-ERR x\r\n"#) { $0.isError })
    #expect(read(#"!5\r\nERR x\r\n"#) { $0.isError })
    #expect(!read(#"+OK\r\n"#) { $0.isError })
    #expect(read("") { $0.isError })
  }
}
