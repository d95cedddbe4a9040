import Glibc
import Testing

@testable import Server

@Suite("Buffers between sockets and code")
struct IOBufferTests {
  private func written(_ write: (inout IOBuffer) -> Void) -> String {
    var buffer = IOBuffer(size: 16)
    write(&buffer)
    return text(buffer.bytes)
  }

  @Test("what is appended is read in order, however it is consumed")
  func model() {
    for seed in 0..<40 as Range<UInt64> {
      var random = Seeded(seed)
      var buffer = IOBuffer(size: 16)
      var model: [UInt8] = []
      var next: UInt8 = 0
      for step in 0..<300 {
        switch Int.random(in: 0..<10, using: &random) {
        case 0..<5:
          let fresh = (0..<Int.random(in: 0...40, using: &random)).map { _ in
            next &+= 1
            return next
          }
          buffer.append(fresh)
          model += fresh
        case 5..<8:
          let count = Int.random(in: 0...model.count, using: &random)
          buffer.consume(count)
          model.removeFirst(count)
        case 8:
          let count = Int.random(in: 0...model.count, using: &random)
          buffer.truncate(to: count)
          model.removeLast(model.count - count)
        default: buffer.shrinkIfIdle(to: 16)
        }
        #expect(Array(buffer.bytes) == model, "seed \(seed), step \(step)")
        let (count, isEmpty) = (buffer.count, buffer.isEmpty)
        #expect(count == model.count && isEmpty == model.isEmpty)
      }
    }
  }

  @Test("memory is given back once nothing waits")
  func shrinks() {
    var buffer = IOBuffer(size: 16)
    buffer.append([UInt8](repeating: 1, count: 100_000))
    buffer.shrinkIfIdle(to: 1024)
    let (size, count) = (buffer.size, buffer.count)
    #expect(size >= 100_000 && count == 100_000)
    buffer.consume(100_000)
    buffer.shrinkIfIdle(to: 1024)
    let small = buffer.size
    #expect(small == 1024)
  }

  @Test("a buffer that is filled and emptied in turn does not grow")
  func reuses() {
    var buffer = IOBuffer(size: 64)
    for _ in 0..<1000 {
      buffer.append([UInt8](repeating: 7, count: 30))
      buffer.consume(29)
      buffer.append([UInt8](repeating: 7, count: 20))
      buffer.consume(21)
    }
    let size = buffer.size
    #expect(size == 64)
  }

  @Test(
    "numbers are written in decimal",
    arguments: [
      0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 1_000_000, 999_999_999_999_999_999, 1_000_000_000_000_000_000,
      Int.max, -1, -10, -100, Int.min, Int.min + 1,
    ])
  func numbers(_ number: Int) { #expect(written { $0.append(number: number) } == String(number)) }

  @Test("every reply is written as Redis writes it")
  func replies() {
    #expect(written { $0.status("OK") } == #"+OK\r\n"#)
    #expect(written { $0.error("ERR no") } == #"-ERR no\r\n"#)
    #expect(written { $0.integer(-5) } == #":-5\r\n"#)
    #expect(written { $0.bulk("héllo") } == #"$6\r\nh\xc3\xa9llo\r\n"#)
    #expect(written { $0.bulk("") } == #"$0\r\n\r\n"#)
    #expect(written { $0.array(3) } == #"*3\r\n"#)
    #expect(written { $0.map(2, resp3: false) } == #"*4\r\n"#)
    #expect(written { $0.map(2, resp3: true) } == #"%2\r\n"#)
    #expect(written { $0.null(resp3: false) } == #"$-1\r\n"#)
    #expect(written { $0.null(resp3: true) } == #"_\r\n"#)
    #expect(written { $0.verbatim("a\n", resp3: false) } == #"$2\r\na\n\r\n"#)
    #expect(written { $0.verbatim("a\n", resp3: true) } == #"=6\r\ntxt:a\n\r\n"#)
    #expect(written { $0.argument("GET") } == #"$3\r\nGET\r\n"#)
  }

  @Test("bytes go through a socket in order, and an empty or closed one is told")
  func sockets() throws {
    var ends: [Int32] = [-1, -1]
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue)
    try #require(socketpair(AF_UNIX, kind, 0, &ends) == 0)
    defer { close(ends[1]) }
    var input = IOBuffer(size: 16)
    var output = IOBuffer(size: 16)
    var drained = false
    guard case .wouldBlock = input.read(from: ends[1], limit: 100, drained: &drained), drained else {
      Issue.record("an empty socket was not told")
      return
    }

    // More than the socket holds: writing stops, and goes on when the other end has read.
    let sent = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
    output.append(sent)
    guard case .wouldBlock = output.write(to: ends[0]) else {
      Issue.record("three megabytes fitted into a socket")
      return
    }
    var received: [UInt8] = []
    while received.count < sent.count {
      drained = false
      if case .some = input.read(from: ends[1], limit: 4096, drained: &drained) {
        received += input.bytes
        input.consume(input.count)
      }
      if case .failed(let code) = output.write(to: ends[0]) {
        Issue.record("write failed: \(code)")
        return
      }
    }
    #expect(received == sent)
    let isEmpty = output.isEmpty
    #expect(isEmpty)
    close(ends[0])
    guard case .closed = input.read(from: ends[1], limit: 100, drained: &drained) else {
      Issue.record("the end was not told")
      return
    }
    output.append([1])
    guard case .failed(EPIPE) = output.write(to: ends[1]) else {
      Issue.record("a closed socket took a byte")
      return
    }
  }
}
