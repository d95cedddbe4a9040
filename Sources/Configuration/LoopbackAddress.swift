/// An address that only programs of this host can reach, as `listen.tcp` names one.
public struct LoopbackAddress: Sendable, Hashable, CustomStringConvertible {
  /// `::1`, or four numbers of which the first is 127. Sources: RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3.
  public var host: String
  /// 0: any free one.
  public var port: UInt16

  public init(host: String, port: UInt16) {
    self.host = host
    self.port = port
  }

  public var isIPv6: Bool { host == "::1" }

  /// `127.0.0.1:6380` or `[::1]:6380`.
  public var description: String { isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)" }

  /// Why a text is no such address, as a sentence goes on behind it.
  enum Failure: Error {
    case malformed
    case notLoopback
  }

  init(parsing text: String) throws(Failure) {
    guard let colon = text.lastIndex(of: ":") else { throw .malformed }
    let digits = text[text.index(after: colon)...]
    guard (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
      let port = UInt16(digits)
    else { throw .malformed }
    let host = text[..<colon]
    if host.first == "[" {
      guard host.last == "]" else { throw .malformed }
      guard host == "[::1]" else { throw .notLoopback }
      self.init(host: "::1", port: port)
      return
    }
    guard !host.contains(":"), !host.isEmpty else { throw .malformed }
    let numbers = host.split(separator: ".", omittingEmptySubsequences: false)
    guard numbers.count == 4, numbers.allSatisfy({ Self.isByte($0) }), numbers[0] == "127" else {
      throw .notLoopback
    }
    self.init(host: String(host), port: port)
  }

  /// Without leading zeros, which some programs read as octal digits.
  static func isByte(_ text: Substring) -> Bool {
    text.utf8.allSatisfy { (0x30...0x39).contains($0) } && UInt8(text) != nil
      && (text.utf8.count == 1 || text.first != "0")
  }
}
