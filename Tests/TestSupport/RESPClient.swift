import Glibc

/// A reply of a server that speaks RESP2 or RESP3.
/// Source: Redis documentation, "Redis serialization protocol specification".
public enum Reply: Hashable, Sendable, CustomStringConvertible {
  case simple(String)
  case error(String)
  case integer(Int64)
  case bulk([UInt8])
  /// `$-1` of RESP2, `_` of RESP3.
  case null
  /// `*-1` of RESP2.
  case nullArray
  case array([Reply])
  case map([Pair])
  case set([Reply])
  case push([Reply])
  case double(Double)
  case boolean(Bool)
  case bigNumber(String)
  case verbatim(format: String, text: String)

  public struct Pair: Hashable, Sendable {
    public let key: Reply
    public let value: Reply
    public init(_ key: Reply, _ value: Reply) {
      self.key = key
      self.value = value
    }
  }

  /// The text of a string of any form; nil for every other reply.
  public var text: String? {
    switch self {
    case .simple(let text), .verbatim(_, let text), .bigNumber(let text): text
    case .bulk(let bytes): String(decoding: bytes, as: UTF8.self)
    default: nil
    }
  }

  public var errorText: String? {
    if case .error(let text) = self { text } else { nil }
  }

  public var integerValue: Int64? {
    if case .integer(let value) = self { value } else { nil }
  }

  /// The elements of an array, set or push; a map's keys and values in turn.
  public var elements: [Reply]? {
    switch self {
    case .array(let all), .set(let all), .push(let all): all
    case .map(let pairs): pairs.flatMap { [$0.key, $0.value] }
    default: nil
    }
  }

  public static let ok = Reply.simple("OK")

  public static func bulk(_ text: String) -> Reply { .bulk(Array(text.utf8)) }

  public var description: String {
    switch self {
    case .simple(let text): "+\(text)"
    case .error(let text): "-\(text)"
    case .integer(let value): ":\(value)"
    case .bulk(let bytes): "\"\(String(decoding: bytes.prefix(200), as: UTF8.self))\""
    case .null: "nil"
    case .nullArray: "nil array"
    case .array(let all): "[\(all.map(\.description).joined(separator: ", "))]"
    case .set(let all): "set[\(all.map(\.description).joined(separator: ", "))]"
    case .push(let all): "push[\(all.map(\.description).joined(separator: ", "))]"
    case .map(let pairs): "{\(pairs.map { "\($0.key): \($0.value)" }.joined(separator: ", "))}"
    case .double(let value): ",\(value)"
    case .boolean(let value): "#\(value)"
    case .bigNumber(let digits): "(\(digits)"
    case .verbatim(let format, let text): "=\(format):\(text)"
    }
  }
}

extension Reply: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByNilLiteral {
  /// A literal text stands for a bulk string.
  public init(stringLiteral text: String) { self = .bulk(Array(text.utf8)) }
  public init(integerLiteral value: Int64) { self = .integer(value) }
  public init(nilLiteral: ()) { self = .null }
}

/// A small blocking client, for tests that need exact bytes, pipelines or many connections.
/// It belongs to the thread that made it.
public final class RESPClient {
  private let fd: Int32
  private var unread: [UInt8] = []
  private var start = 0
  /// How long `receive` waits.
  public var timeout: Duration

  public init(_ path: String, timeout: Duration = .seconds(10)) throws {
    self.timeout = timeout
    fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard fd >= 0 else { throw HarnessError("socket: \(reason())") }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let room = MemoryLayout.size(ofValue: address.sun_path)
    // From here on deinit closes the socket, also when this initialiser throws.
    guard path.utf8.count < room else {
      throw HarnessError("the socket path \(path) is longer than \(room - 1) bytes")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else { throw HarnessError("connect \(path): \(reason())") }
  }

  public convenience init(_ place: SocketPlace, timeout: Duration = .seconds(10)) throws {
    guard let descriptor = place.connect() else { throw HarnessError("connect \(place): \(reason())") }
    self.init(descriptor: descriptor, timeout: timeout)
  }

  /// Takes a connected socket.
  public init(descriptor: Int32, timeout: Duration = .seconds(10)) {
    self.timeout = timeout
    fd = descriptor
  }

  deinit { close(fd) }

  /// Sends one command and returns its reply.
  @discardableResult
  public func call(_ arguments: String...) throws -> Reply { try call(arguments) }

  @discardableResult
  public func call(_ arguments: [String]) throws -> Reply {
    try send(arguments)
    return try receive()
  }

  /// Sends several commands in one write and returns their replies.
  public func pipeline(_ commands: [[String]]) throws -> [Reply] {
    try send(raw: commands.flatMap(RESPClient.encode))
    return try commands.map { _ in try receive() }
  }

  public func send(_ arguments: String...) throws { try send(arguments) }
  public func send(_ arguments: [String]) throws { try send(raw: RESPClient.encode(arguments)) }

  public static func encode(_ arguments: [String]) -> [UInt8] {
    var bytes = Array("*\(arguments.count)\r\n".utf8)
    for argument in arguments {
      bytes += "$\(argument.utf8.count)\r\n".utf8
      bytes += argument.utf8
      bytes += "\r\n".utf8
    }
    return bytes
  }

  public func send(raw text: String) throws { try send(raw: Array(text.utf8)) }

  /// Sends bytes as they are.
  public func send(raw bytes: [UInt8]) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes {
        Glibc.send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw HarnessError("send: \(reason())") }
      rest = rest.dropFirst(count)
    }
  }

  /// Says that nothing more will be sent.
  public func finishSending() { shutdown(fd, Int32(SHUT_WR)) }

  /// The next reply; throws when the connection ends, or nothing comes within `timeout`.
  public func receive() throws -> Reply {
    let line = try readLine()
    guard let kind = line.first else { throw HarnessError("an empty line instead of a reply") }
    let rest = String(decoding: line.dropFirst(), as: UTF8.self)
    switch kind {
    case UInt8(ascii: "+"): return .simple(rest)
    case UInt8(ascii: "-"): return .error(rest)
    case UInt8(ascii: ":"): return .integer(try number(rest))
    case UInt8(ascii: "_"): return .null
    case UInt8(ascii: "#"): return .boolean(rest == "t")
    case UInt8(ascii: ","):
      guard let value = Double(rest) else { throw HarnessError("not a double: \(rest)") }
      return .double(value)
    case UInt8(ascii: "("): return .bigNumber(rest)
    case UInt8(ascii: "$"):
      guard let bytes = try readBulk(rest) else { return .null }
      return .bulk(bytes)
    case UInt8(ascii: "!"):
      return .error(String(decoding: try readBulk(rest) ?? [], as: UTF8.self))
    case UInt8(ascii: "="):
      let text = String(decoding: try readBulk(rest) ?? [], as: UTF8.self)
      return .verbatim(format: String(text.prefix(3)), text: String(text.dropFirst(4)))
    case UInt8(ascii: "*"):
      let count = try number(rest)
      return count < 0 ? .nullArray : .array(try readMany(count))
    case UInt8(ascii: "~"): return .set(try readMany(try number(rest)))
    case UInt8(ascii: ">"): return .push(try readMany(try number(rest)))
    case UInt8(ascii: "%"):
      let all = try readMany(try number(rest) * 2)
      return .map(stride(from: 0, to: all.count, by: 2).map { Reply.Pair(all[$0], all[$0 + 1]) })
    default: throw HarnessError("not a reply: \(String(decoding: line.prefix(80), as: UTF8.self))")
    }
  }

  /// Exactly `count` bytes as they came.
  public func receive(bytes count: Int) throws -> [UInt8] {
    while unread.count - start < count {
      guard try fill() else { throw HarnessError("the connection ended within \(count) awaited bytes") }
    }
    defer { start += count }
    return Array(unread[start..<start + count])
  }

  /// Whether the other side closes the connection within `timeout`; what it still sends is dropped.
  public func isClosed() -> Bool {
    while let more = try? fill() { if !more { return true } }
    return false
  }

  private func number(_ text: String) throws -> Int64 {
    guard let value = Int64(text) else { throw HarnessError("not a number: \(text)") }
    return value
  }

  private func readMany(_ count: Int64) throws -> [Reply] {
    var all: [Reply] = []
    for _ in 0..<max(0, count) { all.append(try receive()) }
    return all
  }

  private func readBulk(_ length: String) throws -> [UInt8]? {
    let count = try number(length)
    if count < 0 { return nil }
    let bytes = try receive(bytes: Int(count) + 2)
    guard bytes.suffix(2) == [13, 10] else { throw HarnessError("a bulk string does not end in CRLF") }
    return bytes.dropLast(2)
  }

  private func readLine() throws -> [UInt8] {
    var from = start
    while true {
      if let end = unread[from...].firstIndex(of: 10) {
        guard end > start, unread[end - 1] == 13 else { throw HarnessError("a line does not end in CRLF") }
        defer { start = end + 1 }
        return Array(unread[start..<end - 1])
      }
      let scanned = unread.count - start
      guard try fill() else { throw HarnessError("the connection ended instead of a reply") }
      from = start + scanned
    }
  }

  /// Reads once; false at the end of the connection.
  private func fill() throws -> Bool {
    if start == unread.count {
      unread.removeAll(keepingCapacity: true)
      start = 0
    } else if start > 1 << 20 {
      unread.removeFirst(start)
      start = 0
    }
    let deadline = ContinuousClock().now.advanced(by: timeout)
    while true {
      var watched = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
      let left = ContinuousClock().now.duration(to: deadline).milliseconds
      let ready = poll(&watched, 1, Int32(max(0, left.rounded(.up))))
      if ready < 0 && errno == EINTR { continue }
      guard ready > 0 else { throw HarnessError("no answer within \(timeout)") }
      var buffer = [UInt8](repeating: 0, count: 65_536)
      let count = recv(fd, &buffer, buffer.count, 0)
      if count < 0 && errno == EINTR { continue }
      if count < 0 && errno == ECONNRESET { return false }
      guard count >= 0 else { throw HarnessError("recv: \(reason())") }
      unread += buffer[..<count]
      return count > 0
    }
  }
}
