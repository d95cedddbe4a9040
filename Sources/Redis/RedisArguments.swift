import CHiredis

/// The arguments of one command, one behind the other; no object for an argument. Kept and refilled, it
/// stops allocating.
struct RedisArguments {
  private var bytes: [UInt8] = []
  private var lengths: [Int] = []

  init() {}

  init(_ words: some Sequence<String>) {
    for word in words { append(word) }
  }

  var count: Int { lengths.count }

  mutating func removeAll() {
    bytes.removeAll(keepingCapacity: true)
    lengths.removeAll(keepingCapacity: true)
  }

  mutating func append(_ text: String) {
    let before = bytes.count
    bytes.append(contentsOf: text.utf8)
    lengths.append(bytes.count - before)
  }

  mutating func append(_ argument: [UInt8]) {
    bytes.append(contentsOf: argument)
    lengths.append(argument.count)
  }

  mutating func append(_ argument: UnsafeRawBufferPointer) {
    bytes.append(contentsOf: argument)
    lengths.append(argument.count)
  }

  mutating func append(_ number: some BinaryInteger) { append(String(number)) }

  /// The same arguments after other first ones: `words` in place of the first `words.count`.
  func replacingFirst(_ words: [String]) -> RedisArguments {
    var other = RedisArguments(words)
    let skipped = lengths.prefix(words.count).reduce(0, +)
    other.bytes.append(contentsOf: bytes[skipped...])
    other.lengths.append(contentsOf: lengths.dropFirst(words.count))
    return other
  }

  /// Hands the arguments to hiredis, which copies them into its own buffer. Returns REDIS_OK or REDIS_ERR.
  func append(to context: UnsafeMutablePointer<redisContext>) -> Int32 {
    bytes.withUnsafeBytes { all in
      withUnsafeTemporaryAllocation(of: UnsafePointer<CChar>?.self, capacity: lengths.count) { pointers in
        var start = all.baseAddress
        for index in lengths.indices {
          pointers.initializeElement(at: index, to: start?.assumingMemoryBound(to: CChar.self))
          start = start.map { $0 + lengths[index] }
        }
        return redisAppendCommandArgv(context, Int32(lengths.count), pointers.baseAddress, lengths)
      }
    }
  }
}
