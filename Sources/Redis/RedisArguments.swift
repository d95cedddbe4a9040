import CHiredis

/// The arguments of one command, one behind the other in the form in which Redis takes them; no object for an argument.
/// Kept and refilled, it stops allocating. Source: Redis documentation, "Redis serialization protocol specification".
///
/// hiredis could write this form itself (`redisAppendCommandArgv`), by a `printf` of its own for each length: a tenth of
/// what a transaction of one row costs the tailing thread (callgrind).
struct RedisArguments {
  /// What stands before the arguments, right-justified in this room.
  private static let headRoom = 16
  private var bytes = [UInt8](repeating: 0, count: headRoom)
  /// Where each argument begins, its length included.
  private var starts: [Int] = []

  init() {}

  init(_ words: some Sequence<String>) {
    for word in words { append(word) }
  }

  var count: Int { starts.count }

  mutating func removeAll() {
    bytes.removeSubrange(Self.headRoom...)
    starts.removeAll(keepingCapacity: true)
  }

  mutating func append(_ text: String) {
    var text = text
    text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
  }

  mutating func append(_ argument: [UInt8]) { argument.withUnsafeBytes { append($0) } }

  mutating func append(_ argument: UnsafeRawBufferPointer) {
    starts.append(bytes.count)
    bytes.append(UInt8(ascii: "$"))
    Self.withDigits(argument.count) { bytes.append(contentsOf: $0) }
    bytes.append(UInt8(ascii: "\r"))
    bytes.append(UInt8(ascii: "\n"))
    bytes.append(contentsOf: argument)
    bytes.append(UInt8(ascii: "\r"))
    bytes.append(UInt8(ascii: "\n"))
  }

  mutating func append(_ number: some FixedWidthInteger) {
    // No caller has a number that is larger than lengths and counts are.
    Self.withDigits(Int(clamping: number)) { append($0) }
  }

  /// The same arguments after other first ones: `words` in place of the first `words.count`.
  func replacingFirst(_ words: [String]) -> RedisArguments {
    var other = RedisArguments(words)
    let first = words.count < starts.count ? starts[words.count] : bytes.count
    let moved = other.bytes.count - first
    other.bytes.append(contentsOf: bytes[first...])
    other.starts.append(contentsOf: starts.dropFirst(words.count).map { $0 + moved })
    return other
  }

  /// Hands the command to hiredis, which copies it into its own buffer. Returns REDIS_OK or REDIS_ERR.
  mutating func append(to context: UnsafeMutablePointer<redisContext>) -> Int32 {
    var at = Self.headRoom - 2
    bytes[at] = UInt8(ascii: "\r")
    bytes[at + 1] = UInt8(ascii: "\n")
    Self.withDigits(starts.count) { digits in
      at -= digits.count
      bytes.replaceSubrange(at..<at + digits.count, with: digits)
    }
    at -= 1
    bytes[at] = UInt8(ascii: "*")
    return bytes.withUnsafeBytes {
      redisAppendFormattedCommand(context, $0.baseAddress?.advanced(by: at), $0.count - at)
    }
  }

  private static func withDigits<Result>(
    _ number: Int, _ body: (UnsafeRawBufferPointer) -> Result
  ) -> Result {
    withUnsafeTemporaryAllocation(byteCount: 20, alignment: 1) { digits in
      var at = digits.count
      var rest = number.magnitude
      repeat {
        at -= 1
        digits[at] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
        rest /= 10
      } while rest > 0
      if number < 0 {
        at -= 1
        digits[at] = UInt8(ascii: "-")
      }
      return body(UnsafeRawBufferPointer(rebasing: digits[at...]))
    }
  }
}
