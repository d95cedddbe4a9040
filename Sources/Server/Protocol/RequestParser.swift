import Glibc

/// Where an argument lies, counted from the first byte of its command.
struct Argument {
  var offset: Int32
  var length: Int32
}

/// Cuts the bytes of one client into commands, without ever reading a byte twice: between two calls it keeps
/// how far it came in a command whose rest has not arrived.
///
/// Bounds are Redis's own (networking.c, `processMultibulkBuffer` and `processInlineBuffer`): 512 MiB for an
/// argument, 64 KiB for a line; and 1,048,576 arguments, as in Redis 6 (Redis 7 takes 2^31 - 1). An argument
/// list grows by what arrived, not by what was announced.
struct RequestParser {
  static let longestLine = 64 * 1024
  static let mostArguments = 1024 * 1024
  static let longestBulk = 512 * 1024 * 1024

  /// What a client may send before it has said the password. Source: Redis's networking.c.
  static let mostLockedArguments = 10
  static let longestLockedBulk = 16_384
  var isLocked: Bool

  enum Outcome {
    /// A command is complete: its arguments were appended, and it took this many bytes.
    case command(length: Int)
    /// An empty line or an empty array: no command, but this many bytes are done with.
    case nothing(length: Int)
    case incomplete
    /// The connection is to be closed after this error.
    case failed(ProtocolError)
  }

  /// Arguments of an array that are still to come; -1 before the array's header.
  private var missing = -1
  /// Length of the argument whose bytes are being waited for; -1 before its header.
  private var bulk = -1
  /// How far the command has been read, from its first byte.
  private var position = 0
  /// Arguments of the command in progress, kept until it is complete.
  private var partial: [Argument] = []
  /// How far the search for the end of a line has come.
  private var searched = 0

  init(isLocked: Bool = false) { self.isLocked = isLocked }

  /// Reads one command from `bytes`, which begins where the command in progress begins.
  mutating func next(_ bytes: UnsafeRawBufferPointer, into arguments: inout [Argument]) -> Outcome {
    guard let base = bytes.baseAddress, bytes.count > 0 else { return .incomplete }
    if missing < 0 {
      guard bytes[0] == UInt8(ascii: "*") else { return inline(bytes, into: &arguments) }
      guard let end = lineEnd(bytes, from: 0) else {
        return bytes.count > Self.longestLine
          ? .failed(ProtocolError("too big mbulk count string")) : .incomplete
      }
      guard let count = Self.number(base + 1, end - 1), count <= Self.mostArguments else {
        return .failed(ProtocolError("invalid multibulk length"))
      }
      if isLocked, count > Self.mostLockedArguments {
        return .failed(ProtocolError("unauthenticated multibulk length"))
      }
      position = end + 2
      searched = position
      if count <= 0 { return .nothing(length: finish()) }
      missing = count
    }
    while missing > 0 {
      if bulk < 0 {
        guard let end = lineEnd(bytes, from: position) else {
          return bytes.count - position > Self.longestLine
            ? .failed(ProtocolError("too big bulk count string")) : .incomplete
        }
        guard bytes[position] == UInt8(ascii: "$") else {
          return .failed(ProtocolError(insteadOfBulk: bytes[position]))
        }
        guard let length = Self.number(base + position + 1, end - position - 1), length >= 0,
          length <= Self.longestBulk
        else { return .failed(ProtocolError("invalid bulk length")) }
        if isLocked, length > Self.longestLockedBulk {
          return .failed(ProtocolError("unauthenticated bulk length"))
        }
        position = end + 2
        bulk = length
      }
      guard bytes.count - position >= bulk + 2 else { return .incomplete }
      guard position + bulk < Int(Int32.max) else { return .failed(ProtocolError("invalid bulk length")) }
      partial.append(Argument(offset: Int32(position), length: Int32(bulk)))
      position += bulk + 2
      searched = position
      bulk = -1
      missing -= 1
    }
    arguments.append(contentsOf: partial)
    return .command(length: finish())
  }

  /// The command in progress as far as it is known: its arguments that are complete, and how many there will be; nil:
  /// no array is in progress.
  var begun: (arguments: [Argument], count: Int)? {
    missing > 0 ? (partial, partial.count + missing) : nil
  }

  /// What is needed to find the end of the command in progress, of which `count` bytes are here.
  func rest(after count: Int) -> LongRequest? {
    guard missing > 0 else { return nil }
    // What lies behind `position` is the beginning of the argument in progress, or of its header.
    return LongRequest(
      missing: missing, skip: bulk < 0 ? 0 : bulk + 2, begun: count - position)
  }

  private mutating func finish() -> Int {
    let length = position
    missing = -1
    bulk = -1
    position = 0
    searched = 0
    partial.removeAll(keepingCapacity: partial.capacity <= 1024)
    return length
  }

  /// The offset of the `\r\n` that ends the line which begins at `start`; nil if it has not arrived.
  private mutating func lineEnd(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int? {
    guard let base = bytes.baseAddress else { return nil }
    let from = max(searched, start)
    guard from < bytes.count, let found = memchr(base + from, Int32(UInt8(ascii: "\r")), bytes.count - from)
    else {
      searched = max(from, bytes.count)
      return nil
    }
    let end = UnsafeRawPointer(found) - base
    guard end + 1 < bytes.count else {
      searched = end
      return nil
    }
    return end
  }

  /// A command as a line of words, for people with netcat and for health checks.
  private mutating func inline(
    _ bytes: UnsafeRawBufferPointer, into arguments: inout [Argument]
  ) -> Outcome {
    guard let base = bytes.baseAddress,
      let found = memchr(base + searched, Int32(UInt8(ascii: "\n")), bytes.count - searched)
    else {
      searched = bytes.count
      return bytes.count > Self.longestLine ? .failed(ProtocolError("too big inline request")) : .incomplete
    }
    let newline = UnsafeRawPointer(found) - base
    var end = newline
    if end > 0, bytes[end - 1] == UInt8(ascii: "\r") { end -= 1 }
    position = newline + 1
    var at = 0
    let before = arguments.count
    while at < end {
      while at < end, Self.isSpace(bytes[at]) { at += 1 }
      guard at < end else { break }
      let quote = bytes[at]
      if quote == UInt8(ascii: "\"") || quote == UInt8(ascii: "'") {
        // Quotes group words. Escapes inside them, and quotes inside a word, are rare enough at a prompt to be
        // refused by Redis's own error rather than rewritten in place.
        let start = at + 1
        at = start
        while at < end, bytes[at] != quote, bytes[at] != UInt8(ascii: "\\") { at += 1 }
        guard at < end, bytes[at] == quote, at + 1 == end || Self.isSpace(bytes[at + 1]) else {
          return .failed(ProtocolError("unbalanced quotes in request"))
        }
        arguments.append(Argument(offset: Int32(start), length: Int32(at - start)))
        at += 1
      } else {
        let start = at
        while at < end, !Self.endsWord(bytes[at]) {
          if bytes[at] == UInt8(ascii: "\"") || bytes[at] == UInt8(ascii: "'") {
            return .failed(ProtocolError("unbalanced quotes in request"))
          }
          at += 1
        }
        arguments.append(Argument(offset: Int32(start), length: Int32(at - start)))
      }
    }
    let length = finish()
    return arguments.count == before ? .nothing(length: length) : .command(length: length)
  }

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 32 || (9...13).contains(byte) }

  /// Redis stops a word at fewer bytes than it skips before one (sds.c, `sdssplitargs`).
  private static func endsWord(_ byte: UInt8) -> Bool { byte == 32 || byte == 9 || byte == 10 || byte == 13 }

  /// A number as Redis takes one: decimal digits without leading zeros, an optional minus, the whole range of
  /// 64 bits; nil for anything else. Source: Redis's util.c, `string2ll`.
  static func number(_ start: UnsafeRawPointer, _ count: Int) -> Int? {
    guard count > 0, count <= 20 else { return nil }
    let negative = start.load(as: UInt8.self) == UInt8(ascii: "-")
    var at = negative ? 1 : 0
    guard at < count else { return nil }
    if start.load(fromByteOffset: at, as: UInt8.self) == UInt8(ascii: "0") { return count == 1 ? 0 : nil }
    var value = 0
    while at < count {
      let digit = start.load(fromByteOffset: at, as: UInt8.self) &- UInt8(ascii: "0")
      guard digit <= 9 else { return nil }
      let (product, overflow) = value.multipliedReportingOverflow(by: 10)
      // Counted downwards, for the least number has no positive counterpart.
      let (difference, carry) = product.subtractingReportingOverflow(Int(digit))
      guard !overflow, !carry else { return nil }
      value = difference
      at += 1
    }
    if negative { return value }
    return value == .min ? nil : -value
  }

  static func number(_ digits: UnsafeRawBufferPointer) -> Int? {
    guard let start = digits.baseAddress else { return nil }
    return number(start, digits.count)
  }
}

/// What Redis says of bytes that are no command, behind `ERR Protocol error: `.
struct ProtocolError: Equatable {
  let text: [UInt8]

  init(_ text: StaticString) {
    self.text = Array(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  /// The byte is shown as it is, unless it would end the line.
  init(insteadOfBulk byte: UInt8) {
    text = Array("expected '$', got '".utf8) + [byte == 13 || byte == 10 ? 32 : byte, UInt8(ascii: "'")]
  }
}
