/// The rest of a command that is passed on while it comes: finds its end, and keeps nothing.
struct LongRequest {
  /// Arguments that are still to come, the one in progress included.
  private var missing: Int
  /// Bytes of the argument in progress that are still to come, with its `\r\n`; 0: its header comes next.
  private var skip: Int
  /// How many bytes that are here already are to be given to `take` first.
  let begun: Int
  /// Whether somebody has been sent its beginning.
  var isSent = false

  enum Outcome: Equatable {
    /// So many bytes belong to the command, and more will come.
    case part(Int)
    /// So many bytes are its end.
    case end(Int)
    case failed(ProtocolError)
  }

  /// - Parameters:
  ///   - skip: the length of the argument in progress with its `\r\n`; 0: its header has not come completely.
  ///   - begun: how much of that, or of the header, is to be given to `take` first.
  init(missing: Int, skip: Int, begun: Int) {
    self.missing = missing
    self.skip = skip
    self.begun = begun
  }

  /// `bytes` begin where the last call's taken bytes ended.
  mutating func take(_ bytes: UnsafeRawBufferPointer) -> Outcome {
    var at = 0
    while missing > 0 {
      if skip > 0 {
        let there = min(skip, bytes.count - at)
        at += there
        skip -= there
        if skip > 0 { return .part(at) }
        missing -= 1
        continue
      }
      var end = at
      while end < bytes.count, bytes[end] != UInt8(ascii: "\r") { end += 1 }
      guard end + 1 < bytes.count else {
        return bytes.count - at > RequestParser.longestLine
          ? .failed(ProtocolError("too big bulk count string")) : .part(at)
      }
      guard bytes[at] == UInt8(ascii: "$") else { return .failed(ProtocolError(insteadOfBulk: bytes[at])) }
      let digits = UnsafeRawBufferPointer(rebasing: bytes[at + 1..<end])
      guard let length = RequestParser.number(digits), length >= 0, length <= RequestParser.longestBulk else {
        return .failed(ProtocolError("invalid bulk length"))
      }
      at = end + 2
      skip = length + 2
    }
    return .end(at)
  }
}
