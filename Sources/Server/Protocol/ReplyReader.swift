import Glibc

/// Finds the end of replies from Redis, however they are cut up on the way: one counter of elements still to
/// come is all the state that nested replies need.
struct ReplyScanner {
  /// How far the reply in progress has been read, from its first byte.
  private(set) var position = 0
  private var missing = 1
  /// Bytes of the bulk in progress that are still to come, with its `\r\n`.
  private var skip = 0

  enum Outcome {
    case complete(length: Int)
    case incomplete
    case malformed
  }

  /// Goes on reading the reply that begins at the start of `bytes`.
  mutating func next(_ bytes: UnsafeRawBufferPointer) -> Outcome {
    while missing > 0 {
      if skip > 0 {
        let there = min(skip, bytes.count - position)
        position += there
        skip -= there
        if skip > 0 { return .incomplete }
        missing -= 1
        continue
      }
      guard let head = ReplyHead(bytes, at: position) else {
        return bytes.count - position > 64 * 1024 && !Self.isLine(bytes, at: position)
          ? .malformed : .incomplete
      }
      switch head.kind {
      case .malformed: return .malformed
      case .line: position = head.end
      case .bulk:
        position = head.end
        guard head.count < 0 else {
          skip = head.count + 2
          continue
        }
      case .aggregate:
        position = head.end
        if head.count > 0 { missing += head.count }
        // An attribute precedes the reply it belongs to; it is not one itself.
        if head.isAttribute { missing += 1 }
      }
      missing -= 1
    }
    let length = position
    position = 0
    missing = 1
    return .complete(length: length)
  }

  /// The first bytes of the reply in progress, as far as it has been read, are no longer at the start of the bytes
  /// that `next` is given.
  mutating func passed() { position = 0 }

  private static func isLine(_ bytes: UnsafeRawBufferPointer, at: Int) -> Bool {
    bytes[at] == UInt8(ascii: "+") || bytes[at] == UInt8(ascii: "-") || bytes[at] == UInt8(ascii: "(")
  }
}

/// The first line of a reply.
struct ReplyHead {
  enum Kind { case line, bulk, aggregate, malformed }

  var kind: Kind
  /// The byte that names the type.
  var type: UInt8
  /// Elements of an aggregate (pairs counted twice), bytes of a bulk; -1 for RESP2's nulls.
  var count: Int
  /// Behind the line's `\r\n`.
  var end: Int
  var isAttribute: Bool { type == UInt8(ascii: "|") }

  /// nil: the line has not arrived completely.
  init?(_ bytes: UnsafeRawBufferPointer, at start: Int) {
    guard start < bytes.count, let base = bytes.baseAddress else { return nil }
    var at = start
    while at < bytes.count, bytes[at] != UInt8(ascii: "\r") { at += 1 }
    guard at + 1 < bytes.count else { return nil }
    type = bytes[start]
    end = at + 2
    count = 0
    switch type {
    case UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: ":"), UInt8(ascii: "_"), UInt8(ascii: "#"),
      UInt8(ascii: ","), UInt8(ascii: "("):
      kind = .line
    case UInt8(ascii: "$"), UInt8(ascii: "="), UInt8(ascii: "!"): kind = .bulk
    case UInt8(ascii: "*"), UInt8(ascii: "~"), UInt8(ascii: ">"), UInt8(ascii: "%"), UInt8(ascii: "|"):
      kind = .aggregate
    default: kind = .malformed
    }
    guard kind == .bulk || kind == .aggregate else { return }
    // No reply is as long as that, and sums of such counts do not overflow.
    guard let number = RequestParser.number(base + start + 1, at - start - 1), number >= -1, number < 1 << 40
    else {
      kind = .malformed
      return
    }
    let pairs = type == UInt8(ascii: "%") || type == UInt8(ascii: "|")
    count = pairs && number > 0 ? number * 2 : number
  }
}

/// Walks over complete replies, one element after the other; nothing is copied until asked for.
struct ReplyCursor {
  let bytes: UnsafeRawBufferPointer
  private(set) var position = 0

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  var atEnd: Bool { position >= bytes.count }

  /// The head of the element at the cursor, which stays where it is.
  var head: ReplyHead? { ReplyHead(bytes, at: position) }

  /// Enters an aggregate: its count, with the cursor on its first element; nil if it is none.
  mutating func enter() -> Int? {
    guard let head, head.kind == .aggregate, head.count >= 0 else { return nil }
    position = head.end
    return head.count
  }

  /// Steps over whole elements if they are, byte for byte, these; an empty list never is.
  mutating func skip(_ elements: [UInt8]) -> Bool {
    guard !elements.isEmpty, bytes.count - position >= elements.count, let base = bytes.baseAddress,
      elements.withUnsafeBytes({ all in
        all.baseAddress.map { memcmp(base + position, $0, all.count) } == 0
      })
    else { return false }
    position += elements.count
    return true
  }

  /// Steps over one whole element and returns its bytes as they came.
  mutating func raw() -> UnsafeRawBufferPointer {
    var scanner = ReplyScanner()
    let rest = UnsafeRawBufferPointer(rebasing: bytes[min(position, bytes.count)...])
    guard case .complete(let length) = scanner.next(rest) else {
      position = bytes.count
      return rest
    }
    position += length
    return UnsafeRawBufferPointer(rebasing: rest[..<length])
  }

  /// Steps over a string (bulk or status); nil, also stepping, for a null or anything else.
  mutating func string() -> UnsafeRawBufferPointer? {
    guard let head else { return nil }
    let start = position
    switch head.kind {
    case .bulk where head.count >= 0:
      position = head.end + head.count + 2
      return UnsafeRawBufferPointer(rebasing: bytes[head.end..<head.end + head.count])
    case .line where head.type == UInt8(ascii: "+"):
      position = head.end
      return UnsafeRawBufferPointer(rebasing: bytes[start + 1..<head.end - 2])
    default:
      _ = raw()
      return nil
    }
  }

  mutating func text() -> String? { string().map { String(decoding: $0, as: UTF8.self) } }

  /// Steps over an integer; nil, also stepping, for anything else.
  mutating func integer() -> Int? {
    guard let head, head.type == UInt8(ascii: ":"), let base = bytes.baseAddress else {
      _ = raw()
      return nil
    }
    let start = position
    position = head.end
    return RequestParser.number(base + start + 1, head.end - 2 - start - 1)
  }

  var isError: Bool { head.map { $0.type == UInt8(ascii: "-") || $0.type == UInt8(ascii: "!") } ?? true }
  var isNull: Bool {
    head.map { $0.type == UInt8(ascii: "_") || ($0.count == -1 && $0.kind != .line) } ?? false
  }
}
