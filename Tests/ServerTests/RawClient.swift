import CLinux
import Glibc
import TestSupport

@testable import Server

/// A connection that shows replies as the bytes they are.
final class RawClient {
  private let fd: Int32
  /// How often `answer` was called; each sends an ECHO of its own.
  private(set) var answers = 0

  init(_ path: String) throws {
    fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard fd >= 0, let result = withUnixAddress(path, { connect(fd, $0, $1) }), result == 0 else {
      throw HarnessError("connect \(path): \(String(cString: strerror(errno)))")
    }
    var limit = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit { close(fd) }

  func send(_ bytes: [UInt8]) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw HarnessError("send: \(String(cString: strerror(errno)))") }
      rest = rest.dropFirst(count)
    }
  }

  func finishSending() { shutdown(fd, Int32(SHUT_WR)) }

  /// Everything that is answered to these bytes, which hold whole commands.
  func answer(_ bytes: [UInt8]) throws -> [UInt8] {
    answers += 1
    let mark = "--mark-\(answers)--"
    try send(bytes + RESPClient.encode(["ECHO", mark]))
    let end = Array("$\(mark.utf8.count)\r\n\(mark)\r\n".utf8)
    var all: [UInt8] = []
    while all.count < end.count || all.suffix(end.count) != end[...] {
      let more = try read()
      guard !more.isEmpty else { throw HarnessError("the connection ended after \(text(all))") }
      all += more
    }
    return all.dropLast(end.count)
  }

  func answer(_ arguments: String...) throws -> String { text(try answer(RESPClient.encode(arguments))) }
  func answer(_ arguments: [String]) throws -> String { text(try answer(RESPClient.encode(arguments))) }

  /// Everything up to the end of the connection.
  func readToEnd() throws -> [UInt8] {
    var all: [UInt8] = []
    while true {
      let more = try read()
      if more.isEmpty { return all }
      all += more
    }
  }

  /// What has arrived, at least one byte; nothing at the end of the connection.
  func read() throws -> [UInt8] {
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = recv(fd, &buffer, buffer.count, 0)
      if count >= 0 { return Array(buffer[..<count]) }
      if errno == EINTR { continue }
      if errno == ECONNRESET { return [] }
      throw HarnessError("recv: \(String(cString: strerror(errno)))")
    }
  }
}
