/// How requests and replies look on the wire.
enum Dialect: Equatable {
  /// Redis's protocol, version 2.
  case resp
  /// memcached's text protocol.
  case memcached
  /// Every reply has so many bytes, whatever is in them.
  case fixed(Int)
}

/// What a request asks for.
enum Operation {
  case get(String)
  case set(String, valueBytes: Int)
  case mget([String])
  case delete(String)

  func encoded(_ dialect: Dialect) -> [UInt8] {
    switch (dialect, self) {
    case (.memcached, .get(let key)): Array("get \(key)\r\n".utf8)
    case (.memcached, .mget(let keys)): Array("get \(keys.joined(separator: " "))\r\n".utf8)
    case (.memcached, .set(let key, let bytes)):
      Array("set \(key) 0 0 \(bytes)\r\n\(Self.value(bytes))\r\n".utf8)
    case (.memcached, .delete(let key)): Array("delete \(key)\r\n".utf8)
    case (_, .delete(let key)): Self.command(["DEL", key])
    case (_, .get(let key)): Self.command(["GET", key])
    case (_, .mget(let keys)): Self.command(["MGET"] + keys)
    case (_, .set(let key, let bytes)): Self.command(["SET", key, Self.value(bytes)])
    }
  }

  static func command(_ words: [String]) -> [UInt8] {
    var text = "*\(words.count)\r\n"
    for word in words { text += "$\(word.utf8.count)\r\n\(word)\r\n" }
    return Array(text.utf8)
  }

  static func value(_ bytes: Int) -> String { String(repeating: "x", count: bytes) }
}

/// Counts replies in a stream without keeping them: bodies are skipped, heads are read.
struct ReplyCounter {
  private let dialect: Dialect
  /// Bytes of a body that are still to come.
  private var skip = 0
  /// Elements that the reply under way still owes.
  private var open = 0
  /// Whether the reply under way has brought a value.
  private var hasValue = false
  private var line: [UInt8] = []
  /// Bytes of a reply of fixed length that came already.
  private var partial = 0
  private(set) var misses = 0
  private(set) var errors = 0
  /// The first error, as it came.
  private(set) var firstError: String?

  init(_ dialect: Dialect) { self.dialect = dialect }

  /// Takes what was read; how many replies ended in it.
  mutating func feed(_ bytes: UnsafeRawBufferPointer) -> Int {
    if case .fixed(let length) = dialect {
      let have = partial + bytes.count
      partial = have % length
      return have / length
    }
    var replies = 0
    var at = 0
    while at < bytes.count {
      if skip > 0 {
        let step = min(skip, bytes.count - at)
        skip -= step
        at += step
        if skip == 0, dialect == .resp, elementEnded() { replies += 1 }
        continue
      }
      let rest = UnsafeRawBufferPointer(rebasing: bytes[at...])
      guard let feed = rest.firstIndex(of: 10) else {
        line.append(contentsOf: rest)
        break
      }
      at += feed + 1
      if line.isEmpty {
        if head(UnsafeRawBufferPointer(rebasing: rest[..<feed])) { replies += 1 }
      } else {
        line.append(contentsOf: rest[..<feed])
        let whole = line
        line.removeAll(keepingCapacity: true)
        if whole.withUnsafeBytes({ head($0) }) { replies += 1 }
      }
    }
    return replies
  }

  /// One line, without its line feed; true if a reply ends with it.
  private mutating func head(_ line: UnsafeRawBufferPointer) -> Bool {
    guard let first = line.first else { return false }
    return dialect == .memcached ? memcachedHead(first, line) : respHead(first, line)
  }

  private mutating func respHead(_ first: UInt8, _ line: UnsafeRawBufferPointer) -> Bool {
    switch first {
    case UInt8(ascii: "$"):
      let length = Self.number(line.dropFirst())
      guard length >= 0 else {
        misses += 1
        return elementEnded()
      }
      skip = length + 2
      return false
    case UInt8(ascii: "*"):
      let count = Self.number(line.dropFirst())
      guard count > 0 else { return elementEnded() }
      open += open == 0 ? count : count - 1
      return false
    case UInt8(ascii: "-"):
      errors += 1
      if firstError == nil { firstError = String(decoding: line, as: UTF8.self) }
      return elementEnded()
    default: return elementEnded()
    }
  }

  private mutating func memcachedHead(_ first: UInt8, _ line: UnsafeRawBufferPointer) -> Bool {
    switch first {
    case UInt8(ascii: "V"):
      // VALUE key flags bytes
      let bytes = line.split(separator: 32).last ?? line[...]
      skip = Self.number(bytes) + 2
      hasValue = true
      return false
    case UInt8(ascii: "E") where line.count <= 4:
      if !hasValue { misses += 1 }
      hasValue = false
      return true
    case UInt8(ascii: "S") where line.count <= 7: return true
    default:
      errors += 1
      if firstError == nil { firstError = String(decoding: line, as: UTF8.self) }
      return true
    }
  }

  /// True if the whole reply ends with this element.
  private mutating func elementEnded() -> Bool {
    if open == 0 { return true }
    open -= 1
    return open == 0
  }

  private static func number(_ digits: Slice<UnsafeRawBufferPointer>) -> Int {
    var value = 0
    var isNegative = false
    for digit in digits {
      if digit == UInt8(ascii: "-") { isNegative = true }
      if (48...57).contains(digit) { value = value * 10 + Int(digit - 48) }
    }
    return isNegative ? -value : value
  }
}
