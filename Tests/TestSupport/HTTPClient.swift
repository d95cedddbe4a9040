import Glibc

/// One HTTP/1.1 answer.
public struct HTTPAnswer: Sendable {
  public var status: Int
  /// By their names in lower case.
  public var headers: [String: String]
  public var body: String
}

/// The least HTTP client: one request a connection.
public struct HTTPClient: Sendable {
  public let place: SocketPlace

  public init(_ place: SocketPlace) { self.place = place }

  public func get(_ path: String, headers: [String: String] = [:]) throws -> HTTPAnswer {
    try request("GET", path, headers: headers)
  }

  public func request(
    _ method: String, _ path: String, headers: [String: String] = [:], body: String = "",
    timeout: Duration = .seconds(20)
  ) throws -> HTTPAnswer {
    let stream = try HTTPStream(place, method, path, headers: headers, body: body, timeout: timeout)
    let text = try stream.rest()
    guard let head = stream.head else { throw HarnessError("no HTTP answer from \(place): \(text)") }
    return HTTPAnswer(status: head.status, headers: head.headers, body: text)
  }

  /// An answer that does not end.
  public func stream(_ path: String, timeout: Duration = .seconds(20)) throws -> HTTPStream {
    let stream = try HTTPStream(place, "GET", path, headers: [:], body: "", timeout: timeout)
    try stream.readHead()
    return stream
  }
}

/// An answer as it comes. Not for several threads.
public final class HTTPStream {
  private let descriptor: Int32
  private var bytes: [UInt8] = []
  public private(set) var head: (status: Int, headers: [String: String])?

  init(
    _ place: SocketPlace, _ method: String, _ path: String, headers: [String: String], body: String,
    timeout: Duration
  ) throws {
    guard let descriptor = place.connect() else { throw HarnessError("nobody listens at \(place)") }
    self.descriptor = descriptor
    let (seconds, attoseconds) = timeout.components
    var limit = timeval(tv_sec: Int(seconds), tv_usec: Int(attoseconds / 1_000_000_000_000))
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    var text = "\(method) \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    for (name, value) in headers { text += "\(name): \(value)\r\n" }
    if !body.isEmpty { text += "Content-Length: \(body.utf8.count)\r\n" }
    text += "\r\n" + body
    let all = Array(text.utf8)
    guard write(descriptor, all, all.count) == all.count else {
      throw HarnessError("\(place) does not take a request")
    }
  }

  deinit { close(descriptor) }

  /// False at the end.
  private func readMore() throws -> Bool {
    var buffer = [UInt8](repeating: 0, count: 64 * 1024)
    let count = read(descriptor, &buffer, buffer.count)
    guard count >= 0 else { throw HarnessError("no more of an HTTP answer within the time-out") }
    bytes += buffer[..<count]
    return count > 0
  }

  func readHead() throws {
    while head == nil {
      if let end = bytes.firstRange(of: Array("\r\n\r\n".utf8)) {
        let lines = String(decoding: bytes[..<end.lowerBound], as: UTF8.self).split(separator: "\r\n")
        bytes = Array(bytes[end.upperBound...])
        let status = lines.first?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
          guard let colon = line.firstIndex(of: ":") else { continue }
          headers[line[..<colon].lowercased()] =
            line[line.index(after: colon)...].drop { $0 == " " }.description
        }
        head = (status, headers)
        return
      }
      guard try readMore() else { throw HarnessError("the HTTP answer ended in its head") }
    }
  }

  /// Everything up to the end of the connection.
  func rest() throws -> String {
    try readHead()
    while try readMore() {}
    return String(decoding: bytes, as: UTF8.self)
  }

  /// The next message of a stream of server-sent events: its name and its data. Comments are passed over.
  public func nextEvent() throws -> (name: String, data: String) {
    while true {
      while let end = bytes.firstRange(of: Array("\n\n".utf8)) {
        let block = String(decoding: bytes[..<end.lowerBound], as: UTF8.self)
        bytes = Array(bytes[end.upperBound...])
        // With chunks, their lengths stand on lines of their own.
        let lines = block.split(whereSeparator: \.isNewline)
        let name = lines.first { $0.hasPrefix("event: ") }?.dropFirst(7)
        let data = lines.first { $0.hasPrefix("data: ") }?.dropFirst(6)
        if let name, let data { return (String(name), String(data)) }
      }
      guard try readMore() else { throw HarnessError("the stream has ended") }
    }
  }
}
