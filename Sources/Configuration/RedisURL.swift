/// What a Redis URL says. No error repeats a part of the URL, since any part may be a misplaced password.
struct RedisURL {
  var endpoint: RedisSettings.Endpoint
  var user: String?
  var password: Secret?
  var database: Int
  /// Whether the connection is to be encrypted: rediss://.
  var isSecure = false

  struct Failure: Error {
    var message: String
  }

  static func parse(_ text: String) throws(Failure) -> RedisURL {
    guard let colon = text.firstRange(of: "://") else {
      throw Failure(
        message:
          "a Redis URL begins with redis://, rediss:// (TLS) or unix://, as in \"redis://cache.internal:6379\""
      )
    }
    let rest = text[colon.upperBound...]
    switch text[..<colon.lowerBound].lowercased() {
    case "redis": return try tcp(rest)
    case "rediss":
      var url = try tcp(rest)
      url.isSecure = true
      return url
    case "unix": return try unix(rest)
    default:
      throw Failure(message: "a Redis URL begins with redis://, rediss:// (TLS) or unix://")
    }
  }

  private static func tcp(_ text: Substring) throws(Failure) -> RedisURL {
    guard !text.contains(where: { $0 == "?" || $0 == "#" }) else {
      throw Failure(
        message: "nothing follows the database in a Redis URL; in a password, ? is written %3F and # %23")
    }
    let slash = text.firstIndex(of: "/") ?? text.endIndex
    let (user, password, address) = try credentials(text[..<slash])
    let (host, port) = try split(address)
    let path = text[slash...].dropFirst()
    guard let database = path.isEmpty ? 0 : databaseNumber(path) else {
      throw Failure(
        message: "after the host of a Redis URL stands the number of a database, as in "
          + "\"redis://cache.internal:6379/0\"; in a password, / is written %2F")
    }
    return RedisURL(
      endpoint: .tcp(host: host, port: port), user: user, password: password, database: database)
  }

  private static func unix(_ text: Substring) throws(Failure) -> RedisURL {
    let slash = text.firstIndex(of: "/") ?? text.endIndex
    let (user, password, address) = try credentials(text[..<slash])
    guard address.isEmpty, slash < text.endIndex else {
      throw Failure(
        message: "a Unix socket is named with its whole path, as in \"unix:///run/redis/redis.sock?db=0\"")
    }
    let question = text.firstIndex(of: "?") ?? text.endIndex
    let path = try decoded(text[slash..<question])
    guard path.utf8.count <= 107, !path.utf8.contains(0) else {
      throw Failure(message: "the path of a Unix socket has at most 107 bytes")
    }
    let query = text[question...].dropFirst()
    guard query.isEmpty || query.hasPrefix("db="),
      let database = query.isEmpty ? 0 : databaseNumber(query.dropFirst(3))
    else { throw Failure(message: "after the path of a unix:// URL only ?db=<number> can follow") }
    return RedisURL(endpoint: .unix(path: path), user: user, password: password, database: database)
  }

  /// `user:password@` before the address; both parts may be missing.
  private static func credentials(
    _ authority: Substring
  ) throws(Failure) -> (user: String?, password: Secret?, address: Substring) {
    guard let at = authority.lastIndex(of: "@") else { return (nil, nil, authority) }
    let info = authority[..<at]
    let colon = info.firstIndex(of: ":") ?? info.endIndex
    let user = try decoded(info[..<colon])
    let password = try decoded(info[colon...].dropFirst())
    return (
      user.isEmpty ? nil : user, password.isEmpty ? nil : Secret(password),
      authority[authority.index(after: at)...]
    )
  }

  /// `host`, `host:port` or `[IPv6]:port`.
  private static func split(_ address: Substring) throws(Failure) -> (host: String, port: UInt16) {
    var host = address
    var portText: Substring?
    if address.first == "[" {
      guard let end = address.firstIndex(of: "]") else {
        throw Failure(message: "the closing bracket of the IPv6 address is missing")
      }
      host = address[address.index(after: address.startIndex)..<end]
      let after = address[address.index(after: end)...]
      if !after.isEmpty {
        guard after.first == ":" else {
          throw Failure(message: "after an IPv6 address in brackets only a port can follow, as in [::1]:6379")
        }
        portText = after.dropFirst()
      }
    } else if let colon = address.firstIndex(of: ":") {
      host = address[..<colon]
      portText = address[address.index(after: colon)...]
    }
    guard !host.isEmpty, host.unicodeScalars.allSatisfy({ $0 != " " && $0 != "%" && !isControl($0) }) else {
      throw Failure(
        message: "the host is missing or malformed in this Redis URL; "
          + "in a password, / is written %2F, : %3A and @ %40")
    }
    guard let portText else { return (String(host), 6379) }
    guard portText.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = UInt16(portText), port > 0
    else {
      throw Failure(
        message: "the port of this Redis URL is not a number from 1 to 65535; "
          + "in a password, / is written %2F, : %3A and @ %40; an IPv6 address stands in brackets")
    }
    return (String(host), port)
  }

  private static func databaseNumber(_ text: Substring) -> Int? {
    guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
    return Int32(text).map(Int.init)
  }

  /// Percent-decoding, RFC 3986 section 2.1.
  private static func decoded(_ text: Substring) throws(Failure) -> String {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let high = rest.popFirst().flatMap(hexDigit), let low = rest.popFirst().flatMap(hexDigit) else {
        throw Failure(
          message: "a % in this Redis URL is not followed by two hexadecimal digits; % itself is %25")
      }
      bytes.append(high << 4 | low)
    }
    var at = 0
    while at < bytes.count {
      guard let length = scalarLength(bytes, at: at) else {
        throw Failure(message: "a %-escape in this Redis URL does not give UTF-8 text")
      }
      at += length
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
