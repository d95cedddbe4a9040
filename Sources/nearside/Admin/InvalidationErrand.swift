import Admin
import CLinux
import Configuration
import Glibc
import Server

/// Carries out POST /invalidate as any client would: over the socket of the applications, by NEARSIDE INVALIDATE. So
/// there is one way to clear a key, and its answer means what it means there. It blocks; it runs on a thread of its own.
enum InvalidationErrand {
  private struct Refusal: Error { var sentence: String }

  static func run(_ order: InvalidationOrder, socket path: String, password: Secret?) -> InvalidationAnswer {
    do throws(Refusal) {
      let connection = try connect(path)
      defer { close(connection) }
      if let password { _ = try command([Array("AUTH".utf8), Array(password.exposed.utf8)], connection) }
      switch order {
      case .all:
        _ = try command(words("NEARSIDE INVALIDATE ALL"), connection)
        return .done(1)
      case .some(let keys, let prefixes, let tags):
        var count = 0
        var rest = keys[...]
        while !rest.isEmpty {
          _ = try command(words("NEARSIDE INVALIDATE KEY") + rest.prefix(1000), connection)
          count += min(1000, rest.count)
          rest = rest.dropFirst(1000)
        }
        for prefix in prefixes {
          _ = try command(words("NEARSIDE INVALIDATE PREFIX") + [prefix], connection)
          count += 1
        }
        for tag in tags {
          _ = try command(words("NEARSIDE INVALIDATE TAG") + [tag], connection)
          count += 1
        }
        return .done(count)
      }
    } catch {
      return .failed(error.sentence)
    }
  }

  private static let noSignal: Int32 = 0x4000  // MSG_NOSIGNAL, send(2)

  private static func words(_ text: String) -> [[UInt8]] { text.split(separator: " ").map { Array($0.utf8) } }

  private static func connect(_ path: String) throws(Refusal) -> Int32 {
    let connection = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard connection >= 0 else { throw Refusal(sentence: "The system refuses a socket.") }
    var limit = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    guard withUnixAddress(path, { Glibc.connect(connection, $0, $1) }) == 0 else {
      close(connection)
      throw Refusal(
        sentence: "The sidecar's own socket does not answer: \(String(cString: strerror(errno))).")
    }
    return connection
  }

  /// Sends a command and reads the line that answers it.
  private static func command(_ words: [[UInt8]], _ connection: Int32) throws(Refusal) -> String {
    var bytes = Array("*\(words.count)\r\n".utf8)
    for word in words { bytes += Array("$\(word.count)\r\n".utf8) + word + [13, 10] }
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes {
        send(connection, $0.baseAddress, $0.count, noSignal)
      }
      guard count > 0 else { throw Refusal(sentence: "The sidecar does not take the command.") }
      sent += count
    }
    var line: [UInt8] = []
    while line.last != 10, line.count < 4096 {
      var byte: UInt8 = 0
      guard recv(connection, &byte, 1, 0) == 1 else {
        throw Refusal(sentence: "The sidecar has not answered within 10 s.")
      }
      line.append(byte)
    }
    let text = String(decoding: line.dropLast(2), as: UTF8.self)
    guard text.first != "-" else { throw Refusal(sentence: String(text.dropFirst())) }
    return text
  }
}
