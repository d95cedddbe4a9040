/// An IP address of this host, or all of them, and a port, as `admin.tcp` names them.
public struct NetworkAddress: Sendable, Hashable, CustomStringConvertible {
  /// Four numbers, or an IPv6 address without brackets.
  public var host: String
  /// 0: any free one.
  public var port: UInt16

  public var isIPv6: Bool { host.contains(":") }

  /// `127.0.0.1:9847` or `[::1]:9847`.
  public var description: String { isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)" }

  /// nil: the text is no such address. Of an IPv6 address only the letters are looked at; the system knows the rest.
  init?(_ text: String) {
    guard let colon = text.lastIndex(of: ":") else { return nil }
    let digits = text[text.index(after: colon)...]
    guard (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
      let port = UInt16(digits)
    else { return nil }
    let host = text[..<colon]
    if host.first == "[", host.last == "]" {
      let address = host.dropFirst().dropLast()
      let isHexadecimal = address.utf8.allSatisfy {
        (0x30...0x3a).contains($0) || (0x41...0x46).contains($0) || (0x61...0x66).contains($0) || $0 == 0x2e
      }
      guard isHexadecimal, address.contains(":") else { return nil }
      self.host = String(address)
    } else {
      let numbers = host.split(separator: ".", omittingEmptySubsequences: false)
      guard numbers.count == 4, numbers.allSatisfy({ LoopbackAddress.isByte($0) }) else { return nil }
      self.host = String(host)
    }
    self.port = port
  }
}
