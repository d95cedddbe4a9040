/// The lines of a configuration file as they may be shown: whatever is or may be a secret is stars already,
/// column for column.
///
/// A value is shown only if it stands under a key of the table of options that is not a secret. So a
/// password under a misspelt key, or in a file whose braces went wrong, is hidden as well.
public struct SourceText: Sendable {
  /// The name of the file, as diagnostics show it.
  public let file: String
  private let lines: [[Unicode.Scalar]]

  /// A source of which no line is ever shown.
  public init(file: String) {
    self.file = file
    lines = []
  }

  init(file: String, text: [UInt8], reading: JSONReading) {
    self.file = file
    guard text.count <= JSONReader.largest else {
      lines = []
      return
    }
    var lines = text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map { line in
      Array(
        String(decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line, as: UTF8.self)
          .unicodeScalars)
    }
    var mask = Mask()
    if let node = reading.node ?? reading.partial { mask.visit(node, keys: []) }
    if reading.node == nil {
      mask.stopped(reading, in: lines)
      // Nobody has read what follows.
      lines.removeLast(lines.count - min(lines.count, reading.diagnostics.last?.place?.line ?? 0))
    }
    for (number, hidden) in mask.hidden where lines.indices.contains(number - 1) {
      lines[number - 1] = Self.masked(lines[number - 1], hidden: hidden, shown: mask.shown[number] ?? [])
    }
    self.lines = lines
  }

  /// The line of that number, counted from 1; nil if it is not known.
  public func line(_ number: Int) -> String? {
    scalars(ofLine: number).map { scalars in
      var view = String.UnicodeScalarView()
      view.append(contentsOf: scalars)
      return String(view)
    }
  }

  func scalars(ofLine number: Int) -> [Unicode.Scalar]? {
    lines.indices.contains(number - 1) ? lines[number - 1] : nil
  }

  /// A line with something to hide keeps its spaces, brackets, keys and harmless values, and the names in
  /// `${NAME}` references; the rest, comments included, becomes stars.
  private static func masked(
    _ line: [Unicode.Scalar], hidden: [Mask.Hidden], shown: [Range<Int>]
  ) -> [Unicode.Scalar] {
    let structure: Set<Unicode.Scalar> = ["{", "}", "[", "]", ",", ":", "\"", " ", "\t", "/", "*"]
    var keep = line.map { structure.contains($0) }
    func set(_ columns: Range<Int>, _ value: Bool) {
      for index in columns.clamped(to: 1..<line.count + 1) { keep[index - 1] = value }
    }
    for columns in shown { set(columns, true) }
    for secret in hidden {
      set(secret.columns, false)
      for reference in references(in: line, secret.columns) { set(reference, true) }
    }
    for secret in hidden where secret.isString {
      set(secret.columns.lowerBound..<secret.columns.lowerBound + 1, true)
      set(secret.columns.upperBound - 1..<secret.columns.upperBound, true)
    }
    return line.indices.map { keep[$0] ? line[$0] : "*" }
  }

  /// The columns of `${NAME}`, `${file:…}` and `${cred:…}`, and of `${NAME:-` without its default.
  private static func references(in line: [Unicode.Scalar], _ columns: Range<Int>) -> [Range<Int>] {
    var found: [Range<Int>] = []
    var at = columns.lowerBound - 1
    let end = min(columns.upperBound - 1, line.count)
    while at + 1 < end {
      guard line[at] == "$", line[at + 1] == "{", let close = line[at..<end].firstIndex(of: "}") else {
        at += line[at] == "$" ? 2 : 1
        continue
      }
      let name = line[at + 2..<close].prefix { $0.value < 0x80 && isWord(UInt8($0.value)) }
      let word = String(String.UnicodeScalarView(name))
      let nameEnd = at + 2 + name.count
      if !name.isEmpty, nameEnd == close || (line[nameEnd] == ":" && ["file", "cred"].contains(word)) {
        found.append(at + 1..<close + 2)
      } else if !name.isEmpty, line[nameEnd] == ":" {
        let isKnown = line[nameEnd + 1] == "-" || line[nameEnd + 1] == "?"
        found.append(at + 1..<nameEnd + (isKnown ? 3 : 2))
        found.append(close + 1..<close + 2)
      }
      at = close + 1
    }
    return found
  }
}

/// Which columns of which lines are hidden, and which are certainly harmless.
private struct Mask {
  struct Hidden {
    var columns: Range<Int>
    /// Its quotes are shown, and what it refers to.
    var isString: Bool
  }

  var hidden: [Int: [Hidden]] = [:]
  var shown: [Int: [Range<Int>]] = [:]

  mutating func visit(_ node: JSONNode, keys: [String]) {
    switch node.value {
    case .object(let members):
      for member in members {
        shown[member.keyPlace.line, default: []].append(columns(member.keyPlace))
        visit(member.node, keys: keys + [member.key])
      }
    case .array(let elements):
      for element in elements { visit(element, keys: keys) }
    case .string:
      note(node.place, isString: true, isHarmless: Self.isHarmless(keys))
    case .number, .bool, .null:
      note(node.place, isString: false, isHarmless: Self.isHarmless(keys))
    }
  }

  /// What follows a syntax error has not been read, so it is judged by the keys that were open and by its
  /// looks.
  mutating func stopped(_ reading: JSONReading, in lines: [[Unicode.Scalar]]) {
    guard let stop = reading.stop, lines.indices.contains(stop.line - 1) else { return }
    let line = lines[stop.line - 1]
    if let place = reading.diagnostics.last?.place, place.line != stop.line {
      hidden[place.line, default: []].append(Hidden(columns: 1..<Int(Int32.max), isString: false))
    }
    var from = stop.column
    guard from <= line.count else { return }
    let rest = String(String.UnicodeScalarView(line[(from - 1)...]))
    let suspicious = ["pass", "secret", "token", "key", "url", "://", "@", "redis", "postgres", "pw"]
    let looks = suspicious.contains { rest.lowercased().contains($0) }
    guard looks || !Self.isHarmless(reading.openKeys) else { return }
    // A known key at its beginning may be shown.
    let key = rest.split(separator: "\"", maxSplits: 2, omittingEmptySubsequences: false)
    if key.count == 3, key[0].isEmpty, key[2].drop(while: { $0 == " " }).first == ":",
      ConfigurationOption.all.contains(where: { $0.name == key[1] })
    {
      shown[stop.line, default: []].append(from..<from + key[1].unicodeScalars.count + 2)
      from += key[1].unicodeScalars.count + 2
    }
    hidden[stop.line, default: []].append(Hidden(columns: from..<line.count + 1, isString: false))
  }

  private mutating func note(_ place: SourcePlace, isString: Bool, isHarmless: Bool) {
    if isHarmless {
      shown[place.line, default: []].append(columns(place))
    } else {
      hidden[place.line, default: []].append(Hidden(columns: columns(place), isString: isString))
    }
  }

  private func columns(_ place: SourcePlace) -> Range<Int> { place.column..<place.column + place.length }

  /// Whether a value under these keys is certainly no secret.
  private static func isHarmless(_ keys: [String]) -> Bool {
    guard let path = ConfigurationOption.path(of: keys) else { return false }
    guard let kind = ConfigurationOption.at(path)?.kind else { return true }
    return kind != .secret && kind != .sectionOr(.secret)
  }
}
