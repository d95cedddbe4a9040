import Invalidation
import TestSupport
import Testing

@testable import Server

/// One row: a command and the bytes of its reply, as Redis 7.0.15 sent them.
struct Recorded {
  var command: String
  var reply: String
}

@Suite("Strings in the embedded mode")
struct EmbeddedStringTests {
  @Test("a value that was set after a miss is there")
  func simple() throws {
    let sidecar = try EmbeddedSidecar()
    var tail = Tail(sidecar)
    try tail.begin()
    let client = try RawClient(sidecar.path)
    #expect(try client.answer("GET", "user:1") == "$-1\\r\\n")
    #expect(try client.answer("SET", "user:1", "hello") == "+OK\\r\\n")
    #expect(try client.answer("GET", "user:1") == "$5\\r\\nhello\\r\\n")
  }
}
