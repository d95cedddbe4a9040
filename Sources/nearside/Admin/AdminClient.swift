import Glibc
import Server

/// Asks the admin endpoint of a running sidecar, on its Unix socket.
///
/// The requests are HTTP/1.0, so that an answer is its head and then everything up to the end of the connection.
struct AdminClient {
  struct Answer {
    var status: Int
    var body: String
  }

  struct Failure: Error, CustomStringConvertible {
    var description: String
  }

  let path: String

  /// - Parameter timeout: how many seconds nothing may come.
  func get(_ target: String, timeout: Int = 10) throws(Failure) -> Answer {
    try request("GET", target, timeout: timeout)
  }

  /// What changes something is waited for longer than the sidecar does.
  func request(
    _ method: String, _ target: String, body: String = "", timeout: Int? = nil
  ) throws(Failure) -> Answer {
    var text: [UInt8] = []
    try exchange(method, target, body, timeout: timeout ?? (method == "POST" ? 35 : 10)) { chunk in
      text += chunk
      return true
    }
    guard let head = Self.head(of: text) else { throw noAnswer() }
    return Answer(status: head.status, body: String(decoding: text[head.end...], as: UTF8.self))
  }

  /// Hands over each line of an answer that does not end, until `hear` returns false or the sidecar ends it.
  func follow(_ target: String, _ hear: (Substring) -> Bool) throws(Failure) {
    var text: [UInt8] = []
    var status: Int?
    try exchange("GET", target, "", timeout: 0) { chunk in
      text += chunk
      if status == nil, let head = Self.head(of: text) {
        status = head.status
        text.removeFirst(head.end)
      }
      while status == 200, let end = text.firstIndex(of: UInt8(ascii: "\n")) {
        let line = String(decoding: text[..<end], as: UTF8.self)
        text.removeFirst(end + 1)
        if !hear(line[...]) { return false }
      }
      return true
    }
    guard let status else { throw noAnswer() }
    guard status == 200 else {
      throw Failure(
        description: "The sidecar refuses \(target) (\(status)): \(String(decoding: text, as: UTF8.self))")
    }
  }

  /// Text as the value of a parameter.
  static func escaped(_ text: String) -> String {
    text.utf8.map { byte in
      let isPlain =
        byte < 128 && (Character(UnicodeScalar(byte)).isLetter || Character(UnicodeScalar(byte)).isNumber)
      return isPlain || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_")
        ? String(UnicodeScalar(byte)) : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }.joined()
  }

  private func noAnswer() -> Failure {
    Failure(description: "What listens at \(path) does not answer as a sidecar's admin endpoint does.")
  }

  /// The status of an answer whose head has come, and where its body begins.
  static func head(of text: [UInt8]) -> (status: Int, end: Int)? {
    let blank = Array("\r\n\r\n".utf8)
    guard let end = (0..<max(0, text.count - 3)).first(where: { text[$0..<$0 + 4].elementsEqual(blank) })
    else {
      return nil
    }
    let words = text[..<end].prefix { $0 != 13 }.split(separator: UInt8(ascii: " "))
    guard words.count >= 2, let status = Int(String(decoding: words[1], as: UTF8.self)) else { return nil }
    return (status, end + 4)
  }

  /// Sends a request and hands over what comes. `timeout`: how many seconds nothing may come; 0: any number.
  private func exchange(
    _ method: String, _ target: String, _ body: String, timeout: Int, _ take: (ArraySlice<UInt8>) -> Bool
  ) throws(Failure) {
    let descriptor = try connected()
    defer { close(descriptor) }
    var limit = timeval(tv_sec: timeout, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    Files.write(
      "\(method) \(target) HTTP/1.0\r\nHost: nearside\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)",
      descriptor: descriptor)
    var chunk = [UInt8](repeating: 0, count: 64 * 1024)
    while true {
      let count = read(descriptor, &chunk, chunk.count)
      if count < 0, errno == EINTR { continue }
      if count < 0 {
        throw Failure(
          description: "The sidecar at \(path) does not answer: \(String(cString: strerror(errno))).")
      }
      guard count > 0, take(chunk[..<count]) else { return }
    }
  }

  private func connected() throws(Failure) -> Int32 {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw Failure(description: String(cString: strerror(errno))) }
    guard let result = withUnixAddress(path, { connect(descriptor, $0, $1) }) else {
      close(descriptor)
      throw Failure(
        description: "\(path) has \(path.utf8.count) bytes, too many for the path of a Unix socket.")
    }
    guard result == 0 else {
      let code = errno
      close(descriptor)
      throw Failure(
        description: "No sidecar can be asked at \(path): \(String(cString: strerror(code))). "
          + "Is it running, and may this user open its admin socket?")
    }
    return descriptor
  }
}
