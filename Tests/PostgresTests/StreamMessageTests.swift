import Invalidation
import Testing

@testable import Postgres

@Suite("Frames of the replication stream")
struct StreamMessageTests {
  private let data: [UInt8] =
    [UInt8(ascii: "w"), 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 9, 9, 9, 9, 9, 9, 9, 9]
    + Array("BEGIN".utf8)
  private let keepalive: [UInt8] = [
    UInt8(ascii: "k"), 0, 0, 0, 1, 0, 0, 0, 3, 9, 9, 9, 9, 9, 9, 9, 9, 1,
  ]

  private func read(_ bytes: [UInt8]) -> String? {
    bytes.withUnsafeBytes { raw in
      switch StreamMessage(frame: raw) {
      case .data(let start, let end, let payload):
        "\(start) \(end) \(String(decoding: payload, as: UTF8.self))"
      case .keepalive(let end, let asks): "\(end) \(asks)"
      case nil: nil
      }
    }
  }

  @Test("Data and keepalives are read")
  func good() {
    #expect(read(data) == "1/2 1/3 BEGIN")
    #expect(read(Array(data.prefix(25))) == "1/2 1/3 ")
    #expect(read(keepalive) == "1/3 true")
  }

  @Test("Frames cut off at any byte, too long or of an unknown kind are refused")
  func bad() {
    for length in 0..<25 { #expect(read(Array(data.prefix(length))) == nil) }
    for length in 0..<18 { #expect(read(Array(keepalive.prefix(length))) == nil) }
    #expect(read(keepalive + [0]) == nil)
    #expect(read(keepalive.dropLast() + [2]) == nil)
    #expect(read([UInt8(ascii: "x")] + data.dropFirst()) == nil)
  }

  @Test("A status update names one position three times")
  func status() {
    let update = statusUpdate(LSN(0x0000_0001_0203_0405), clock: 7)
    let position: [UInt8] = [0, 0, 0, 1, 2, 3, 4, 5]
    #expect(update == [UInt8(ascii: "r")] + position + position + position + [0, 0, 0, 0, 0, 0, 0, 7, 0])
  }

  @Test("Names and constants are quoted so that no character ends them")
  func quoting() {
    #expect(quotedIdentifier("a\"b c") == "\"a\"\"b c\"")
    #expect(quotedLiteral("a'b") == "'a''b'")
    #expect(quotedLiteral("a\\'b") == "E'a\\\\''b'")
    #expect(replicationLiteral("\"a\\'b\"") == "'\"a\\''b\"'")
  }
}
