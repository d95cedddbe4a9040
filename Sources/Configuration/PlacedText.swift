/// A string of the file whose every scalar knows which columns of the file it came from, so that an error
/// in the middle of it can be underlined exactly, after escapes and `${…}` have been replaced too.
struct PlacedText {
  var text: String
  /// Columns in the file; one range for each scalar of `text`.
  private(set) var columns: [Range<Int>]
  /// The string with its quotes.
  var place: SourcePlace
  /// Whether something in it came from outside the file. Then it is not repeated in messages.
  private(set) var isExpanded = false

  init(_ text: String, place: SourcePlace, escapes: [JSONNode.Escape]) {
    self.text = text
    self.place = place
    columns = []
    var column = place.column + 1
    var next = escapes.startIndex
    for index in 0..<text.unicodeScalars.count {
      var width = 1
      if next < escapes.endIndex, escapes[next].scalar == index {
        width = escapes[next].width
        next += 1
      }
      columns.append(column..<column + width)
      column += width
    }
  }

  /// Text that stands at `place`, one column a scalar.
  init(plain text: String, place: SourcePlace) {
    self.init(
      text, place: SourcePlace(line: place.line, column: place.column - 1, length: place.length + 2),
      escapes: [])
    self.place = place
  }

  init?(_ node: JSONNode) {
    guard case .string(let text) = node.value else { return nil }
    self.init(text, place: node.place, escapes: node.escapes)
  }

  init(keyOf member: JSONNode.Member) {
    self.init(member.key, place: member.keyPlace, escapes: member.keyEscapes)
  }

  /// An empty text at the same place, to be filled by `append`.
  var emptied: PlacedText {
    var copy = self
    copy.text = ""
    copy.columns = []
    return copy
  }

  mutating func append(_ scalar: Unicode.Scalar, columns range: Range<Int>) {
    text.unicodeScalars.append(scalar)
    columns.append(range)
  }

  mutating func append(outside value: String, columns range: Range<Int>) {
    text += value
    columns += Array(repeating: range, count: value.unicodeScalars.count)
    isExpanded = true
  }

  /// Where the scalars of that range stand in the file; an empty range is the place before its bound.
  func place(_ scalars: Range<Int>) -> SourcePlace {
    let last = place.column + max(0, place.length - 1)
    let from = scalars.lowerBound < columns.count ? columns[scalars.lowerBound].lowerBound : last
    let to = scalars.isEmpty ? from + 1 : columns[min(scalars.upperBound, columns.count) - 1].upperBound
    return SourcePlace(line: place.line, column: from, length: max(1, to - from))
  }

  /// The text as a message may repeat it.
  var shown: String { isExpanded ? "what stands here after expansion" : quoted(text) }
}
