import CLinux
import Invalidation
import Testing

@testable import Server

@Suite("What a client is owed")
struct ClientTests {
  private func client() -> Client {
    Client(
      descriptor: clinux_eventfd(), token: ClientToken(slot: 3, serial: 9), id: 1,
      now: Instant(nanoseconds: 5), arrivals: Arrivals(empty: Instant(nanoseconds: 5), poll: 0), watched: 0)
  }

  @Test("with nothing awaited a reply goes straight out")
  func straight() {
    var client = client()
    client.reply { $0.integer(1) }
    client.reply { $0.integer(2) }
    #expect(text(client.output.bytes) == #":1\r\n:2\r\n"#)
    #expect(client.owed.isEmpty)
  }

  @Test("replies leave in the order of their requests, whoever answers first and whichever are held back")
  func order() {
    for seed in 0..<200 as Range<UInt64> {
      var random = Seeded(seed)
      var client = client()
      var asked = 0
      var awaited: [Int] = []
      var held: [(number: Int, reply: Int)] = []
      var expected = ""
      for _ in 0..<60 {
        switch Int.random(in: 0..<5, using: &random) {
        case 0:
          client.owed.append(.awaited)
          awaited.append(asked)
        case 1:
          let number = asked
          client.reply { $0.integer(number) }
        case 2:
          guard !awaited.isEmpty else { continue }
          held.append((client.hold(), awaited.removeFirst()))
          continue
        case 3:
          guard let place = held.indices.randomElement(using: &random) else { continue }
          let (number, reply) = held.remove(at: place)
          client.settle(held: number) { $0.integer(reply) }
          continue
        default:
          guard !awaited.isEmpty else { continue }
          let number = awaited.removeFirst()
          client.settle { $0.integer(number) }
          continue
        }
        expected += #":\#(asked)\r\n"#
        asked += 1
      }
      for (number, reply) in held { client.settle(held: number) { $0.integer(reply) } }
      while !awaited.isEmpty {
        let number = awaited.removeFirst()
        client.settle { $0.integer(number) }
      }
      #expect(text(client.output.bytes) == expected, "seed \(seed)")
      #expect(client.owed.isEmpty)
    }
  }

  @Test("nothing passes a reply that is awaited")
  func waits() {
    var client = client()
    client.owed.append(.awaited)
    client.reply { $0.integer(2) }
    client.reply { $0.integer(3) }
    #expect(text(client.output.bytes) == "")
    #expect(client.owed.count == 2)
    client.settle { $0.integer(1) }
    #expect(text(client.output.bytes) == #":1\r\n:2\r\n:3\r\n"#)
  }

  @Test("a lease is told as a token and read back, and nothing else is one")
  func leaseTokens() {
    let lease = Lease(
      generation: Generation(0x0123_4567_89ab_cdef), stamp: Stamp(visible: LSN(0x16_b374_8000), deletions: 77)
    )
    let token = EventLoop.token(lease)
    #expect(token == "0123456789abcdef00000016b3748000000000000000004d")
    func read(_ text: String) -> Lease? { Array(text.utf8).withUnsafeBytes { EventLoop.lease(token: $0) } }
    #expect(read(token) == lease)
    #expect(read(token.uppercased()) == lease)
    for wrong in [
      "", String(token.dropLast()), token + "0", "g" + token.dropFirst(), "+" + token.dropFirst(),
      String(repeating: "é", count: 24), String(repeating: " ", count: 48),
    ] { #expect(read(wrong) == nil, "\(wrong)") }
  }

  // MARK: SET's options, as far as a near copy must know them

  private func options(_ words: String...) -> (
    isPlain: Bool, returnsOld: Bool, milliseconds: Int?, value: String?
  ) {
    let bytes = encode(words.map { Array($0.utf8) })
    return bytes.withUnsafeBytes { all in
      var parser = RequestParser()
      var arguments: [Argument] = []
      guard case .command(let length) = parser.next(all, into: &arguments), let base = all.baseAddress else {
        return (false, false, nil, nil)
      }
      return arguments.withUnsafeBufferPointer { list in
        guard let first = list.baseAddress else { return (false, false, nil, nil) }
        let request = Request(base: base, arguments: first, count: list.count, length: length)
        let options = SetOptions(request, request.word(0))
        return (
          options.isPlain, options.returnsOld, options.milliseconds,
          options.value.map { String(decoding: $0, as: UTF8.self) }
        )
      }
    }
  }

  @Test("a SET that simply puts its value there is plain, with the time that it gives")
  func plainSets() {
    #expect(options("SET", "k", "v") == (true, false, nil, "v"))
    #expect(options("SET", "k", "v", "EX", "10") == (true, false, 10_000, "v"))
    #expect(options("set", "k", "v", "px", "10") == (true, false, 10, "v"))
    #expect(options("SETEX", "k", "10", "v") == (true, false, 10_000, "v"))
    #expect(options("PSETEX", "k", "10", "v") == (true, false, 10, "v"))
  }

  @Test("a SET with a condition, or with a time that Redis may refuse, is not plain")
  func otherSets() {
    for words in [
      ["NX"], ["XX"], ["GET"], ["KEEPTTL"], ["EXAT", "10"], ["PXAT", "10"], ["EX"], ["EX", "x"],
      ["EX", "0"], ["EX", "-1"], ["PX", "0"], ["PX", "9223372036854775807"], ["EX", "9223372036854775807"],
      ["FOO"],
    ] {
      let bytes = ["SET", "k", "v"] + words
      let seen =
        bytes.count == 4 ? options("SET", "k", "v", words[0]) : options("SET", "k", "v", words[0], words[1])
      #expect(!seen.isPlain, "\(words)")
    }
    #expect(options("SET", "k", "v", "GET").returnsOld)
    #expect(!options("SETNX", "k", "v").isPlain)
    #expect(!options("GETSET", "k", "v").isPlain)
    #expect(!options("SETEX", "k", "0", "v").isPlain)
    #expect(!options("PSETEX", "k", "x", "v").isPlain)
  }
}
