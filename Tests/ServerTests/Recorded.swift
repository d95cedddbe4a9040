import TestSupport

/// One line of a recording: what was sent, and the bytes that came back.
struct Recorded: Sendable, CustomStringConvertible {
  var sent: String
  var answer: String

  var description: String { sent }

  /// The lines of a recording, `sent -> answer`, in groups that an empty line ends.
  static func groups(_ text: String) -> [[Recorded]] {
    var groups: [[Recorded]] = [[]]
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      guard let arrow = line.range(of: " -> ") else {
        groups.append([])
        continue
      }
      groups[groups.count - 1].append(
        Recorded(sent: String(line[..<arrow.lowerBound]), answer: String(line[arrow.upperBound...])))
    }
    return groups.filter { !$0.isEmpty }
  }

  /// `sent` as a command in RESP: words between spaces, `''` for an empty one.
  var command: [UInt8] {
    let words = sent.split(separator: " ").map { $0 == "''" ? [] : bytes(String($0)) }
    return encode(words)
  }
}

extension StringProtocol {
  fileprivate func range(of pattern: String) -> Range<Index>? {
    var at = startIndex
    while at < endIndex {
      if self[at...].hasPrefix(pattern) { return at..<index(at, offsetBy: pattern.count) }
      at = index(after: at)
    }
    return nil
  }
}

func encode(_ words: [[UInt8]]) -> [UInt8] {
  var out = Array("*\(words.count)\r\n".utf8)
  for word in words { out += Array("$\(word.count)\r\n".utf8) + word + Array("\r\n".utf8) }
  return out
}

/// The bytes of a recording's text, in which `\r`, `\n` and `\xff` stand for the bytes they name.
func bytes(_ text: String) -> [UInt8] {
  var out: [UInt8] = []
  var rest = Array(text.utf8)[...]
  while let byte = rest.popFirst() {
    guard byte == UInt8(ascii: "\\"), let kind = rest.popFirst() else {
      out.append(byte)
      continue
    }
    switch kind {
    case UInt8(ascii: "r"): out.append(13)
    case UInt8(ascii: "n"): out.append(10)
    case UInt8(ascii: "x"):
      out.append(UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) ?? 0)
      rest = rest.dropFirst(2)
    default: out.append(kind)
    }
  }
  return out
}

/// The reverse: every byte can be told.
func text(_ bytes: some Sequence<UInt8>) -> String {
  var out = ""
  for byte in bytes {
    switch byte {
    case 13: out += "\\r"
    case 10: out += "\\n"
    case 32...126: out.unicodeScalars.append(UnicodeScalar(byte))
    default: out += "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }
  }
  return out
}

/// SplitMix64 (Steele, Lea, Flood 2014): a test that prints its seed can be run again.
struct Seeded: RandomNumberGenerator {
  var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
