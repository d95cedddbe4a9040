/// Tells which template covers a key, on the path of every read: no allocation, and one comparison for a
/// key outside the namespace.
///
/// A column stands for any bytes, or none, other than `:`, `{`, `}`, space and control bytes, since values are
/// percent-encoded before they enter a key; an empty text is a value like any other. Where several templates match, the one with the most literal
/// characters wins, and of equals the first.
///
/// No backtracking is needed. Each literal between two columns is taken at its first possible place: if a
/// later place led to a match, so does the first, because the bytes between the two places then lie in the
/// column on the other side, and all columns take the same bytes.
public struct KeyMatcher: Sendable {
  /// One literal in `bytes`, with a column before it unless it is the first.
  private struct Piece {
    var start: Int32
    var count: Int32
  }

  private struct Pattern {
    /// Index in the array that the matcher was made from.
    var index: Int32
    /// Its pieces, the first literal (maybe empty) first and the last (maybe empty) last.
    var firstPiece: Int32
    var pieces: Int32
    /// The shortest key that can match, without the prefix.
    var shortest: Int32
    var isPrefix: Bool
  }

  private let prefix: [UInt8]
  private let bytes: [UInt8]
  private let pieces: [Piece]
  private let patterns: [Pattern]

  /// `prefix` stands before every template: `Settings.keyPrefix`.
  public init(templates: [KeyTemplate], prefix: String) {
    self.prefix = Array(prefix.utf8)
    var bytes: [UInt8] = []
    var pieces: [Piece] = []
    var patterns: [(pattern: Pattern, literals: Int)] = []
    for (index, template) in templates.enumerated() {
      let firstPiece = pieces.count
      let firstByte = bytes.count
      var literals = 0
      var open = Piece(start: Int32(bytes.count), count: 0)
      for part in template.parts {
        switch part {
        case .literal(let text):
          bytes += Array(text.utf8)
          open.count += Int32(text.utf8.count)
          literals += text.unicodeScalars.count
        case .column:
          pieces.append(open)
          open = Piece(start: Int32(bytes.count), count: 0)
        }
      }
      pieces.append(open)
      let pattern = Pattern(
        index: Int32(index), firstPiece: Int32(firstPiece), pieces: Int32(pieces.count - firstPiece),
        shortest: Int32(bytes.count - firstByte), isPrefix: template.isPrefix)
      patterns.append((pattern, literals))
    }
    patterns.sort { ($0.literals, $1.pattern.index) > ($1.literals, $0.pattern.index) }
    self.bytes = bytes
    self.pieces = pieces
    self.patterns = patterns.map(\.pattern)
  }

  /// The index of the template that covers the whole key, namespace included; nil: none does.
  public func match(_ key: UnsafeRawBufferPointer) -> Int? {
    guard key.count >= prefix.count else { return nil }
    for index in prefix.indices where key[index] != prefix[index] { return nil }
    for pattern in patterns where key.count - prefix.count >= Int(pattern.shortest) {
      if end(pattern, key, column: { _ in }) != nil { return Int(pattern.index) }
    }
    return nil
  }

  /// Each template that ends in `*` and covers the key: its index, and how many bytes of the key are the
  /// prefix that it then stands for.
  public func forEachPrefix(of key: UnsafeRawBufferPointer, _ body: (Int, Int) -> Void) {
    guard key.starts(with: prefix) else { return }
    for pattern in patterns where pattern.isPrefix && key.count - prefix.count >= Int(pattern.shortest) {
      if let end = end(pattern, key, column: { _ in }) { body(Int(pattern.index), end) }
    }
  }

  /// The same as `match`, with the places of the columns' values in the key, in the template's order.
  /// Where columns are not divided by a colon, other places may be as good.
  public func match(_ key: UnsafeRawBufferPointer, columns: inout [Range<Int>]) -> Int? {
    guard key.starts(with: prefix) else { return nil }
    for pattern in patterns where key.count - prefix.count >= Int(pattern.shortest) {
      columns.removeAll(keepingCapacity: true)
      if end(pattern, key, column: { columns.append($0) }) != nil { return Int(pattern.index) }
    }
    return nil
  }

  /// Where the match ends: for a prefix behind its last literal, otherwise at the key's end; nil: no match.
  @inline(__always)
  private func end(
    _ pattern: Pattern, _ key: UnsafeRawBufferPointer, column: (Range<Int>) -> Void
  ) -> Int? {
    let first = pieces[Int(pattern.firstPiece)]
    var at = prefix.count
    guard holds(first, key, at) else { return nil }
    at += Int(first.count)
    guard pattern.pieces > 1 else { return pattern.isPrefix || at == key.count ? at : nil }

    let last = Int(pattern.firstPiece + pattern.pieces) - 1
    let anchored = pattern.isPrefix ? last + 1 : last
    for index in Int(pattern.firstPiece) + 1..<anchored {
      let piece = pieces[index]
      let start = at
      // The column takes bytes until the literal fits.
      while !holds(piece, key, at) {
        guard at < key.count, Self.mayStandInValue(key[at]) else { return nil }
        at += 1
      }
      column(start..<at)
      at += Int(piece.count)
    }
    if pattern.isPrefix { return at }

    let piece = pieces[last]
    let tail = key.count - Int(piece.count)
    guard tail >= at, holds(piece, key, tail) else { return nil }
    column(at..<tail)
    while at < tail {
      guard Self.mayStandInValue(key[at]) else { return nil }
      at += 1
    }
    return key.count
  }

  private func holds(_ piece: Piece, _ key: UnsafeRawBufferPointer, _ at: Int) -> Bool {
    let count = Int(piece.count)
    guard at + count <= key.count else { return false }
    let start = Int(piece.start)
    for offset in 0..<count where key[at + offset] != bytes[start + offset] { return false }
    return true
  }

  private static func mayStandInValue(_ byte: UInt8) -> Bool {
    byte > 0x20 && byte != 0x7f && byte != UInt8(ascii: ":") && byte != UInt8(ascii: "{")
      && byte != UInt8(ascii: "}")
  }
}
