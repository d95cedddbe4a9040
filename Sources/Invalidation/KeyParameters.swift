import Configuration

/// Takes a key apart into the values of its template's columns, for a statement that binds them; the inverse
/// of what builds keys from rows. Made for misses: simple rather than fast.
///
/// A value is given only if the key can be read in one way and is written as Nearside writes it, since what
/// another spelling of a key holds would never be cleared. So `%61` for `a`, a capital letter in a `lower`
/// column and two readings of `1-2-3` under `{a}-{b}` all give nothing. Spellings that only PostgreSQL's type
/// tells apart (`007` for 7, `T` for true) are not found here: `isKey` finds them.
public struct KeyParameters: Sendable {
  private struct Column {
    /// Index in `names`.
    var name: Int
    var filters: [KeyTemplate.Filter]
  }

  /// The template's columns, each once, in its order.
  public let names: [String]
  private let columns: [Column]
  /// One more than columns: what stands before, between and behind them. The first begins with the prefix.
  private let literals: [[UInt8]]
  /// Whether a key can be read in one way only: what stands between two columns has a byte that no value has.
  private let isUnambiguous: Bool

  /// `prefix` stands before the template: `Settings.keyPrefix`. A template that ends in `*` has no parameters.
  public init?(template: KeyTemplate, prefix: String) {
    guard !template.isPrefix else { return nil }
    var names: [String] = []
    var columns: [Column] = []
    var literals = [Array(prefix.utf8)]
    for part in template.parts {
      switch part {
      case .literal(let text): literals[literals.count - 1] += Array(text.utf8)
      case .column(let name, let filters, _):
        if !names.contains(name) { names.append(name) }
        columns.append(Column(name: names.firstIndex(of: name) ?? 0, filters: filters))
        literals.append([])
      }
    }
    self.names = names
    self.columns = columns
    self.literals = literals
    isUnambiguous = literals.dropFirst().dropLast().allSatisfy { !$0.allSatisfy(Self.mayStandInValue) }
  }

  /// The value of each of `names` as UTF-8 text without zero bytes; nil: no row gives this key, or it is not
  /// certain which values do.
  public func values(of key: UnsafeRawBufferPointer) -> [[UInt8]]? {
    let key = Array(key)
    // Every reading lies between the one with each literal as early as possible and the one with each as late
    // as possible, so where these agree there is no other.
    guard let early = Self.places(literals, key) else { return nil }
    if !isUnambiguous {
      guard let late = Self.places(literals.reversed().map { $0.reversed() }, key.reversed()) else {
        return nil
      }
      let mirrored = late.reversed().map { key.count - $0.upperBound..<key.count - $0.lowerBound }
      guard early == mirrored else { return nil }
    }
    var values = [[UInt8]?](repeating: nil, count: names.count)
    for (column, place) in zip(columns, early) {
      guard let value = Self.value(Array(key[place]), column.filters) else { return nil }
      if let other = values[column.name], other != value { return nil }
      values[column.name] = value
    }
    return values.compactMap { $0 }
  }

  /// Whether a row with these values, one for each of `names` as PostgreSQL prints it, has this key. `types`
  /// are the oids of the values' types. One without a fixed oid may be citext, which the mapping writes in lower
  /// case, so its capital letters are taken for another key's unless the column is `raw`.
  public func isKey(_ key: UnsafeRawBufferPointer, of printed: [[UInt8]], types: [UInt32]) -> Bool {
    guard printed.count == names.count, types.count == names.count else { return false }
    var built = literals[0]
    var scratch: [UInt8] = []
    for (index, column) in columns.enumerated() {
      let format = ValueFormat(
        style: ValueStyle(builtIn: types[column.name]) ?? .caseless, filters: column.filters)
      let fits = printed[column.name].withUnsafeBytes {
        format.append($0, to: &built, scratch: &scratch)
      }
      guard fits else { return false }
      built += literals[index + 1]
    }
    return built.elementsEqual(key)
  }

  /// Whether PostgreSQL prints this value of a type as it is spelt here. Only types whose one spelling is known here
  /// have any: integers, boolean, date, text, varchar and uuid. Of the others (numeric, timestamps, citext, enums …)
  /// the spelling depends on more than the type, so their values are never known to be the printed ones.
  ///
  /// Source: PostgreSQL source, src/include/catalog/pg_type.dat, for the oids.
  public static func isPrinted(_ value: [UInt8], type: UInt32) -> Bool {
    func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }
    switch type {
    case 25, 1043: return true
    case 16: return value == [UInt8(ascii: "t")] || value == [UInt8(ascii: "f")]
    case 20, 21, 23:
      if value == [UInt8(ascii: "0")] { return true }
      let digits = value.first == UInt8(ascii: "-") ? value.dropFirst() : value[...]
      return digits.first.map { $0 != UInt8(ascii: "0") } ?? false && digits.allSatisfy(isDigit)
    case 1082:
      return value.count == 10 && !value.starts(with: "0000".utf8)
        && value.indices.allSatisfy {
          $0 == 4 || $0 == 7 ? value[$0] == UInt8(ascii: "-") : isDigit(value[$0])
        }
    case 2950:
      return value.count == 36
        && value.indices.allSatisfy {
          [8, 13, 18, 23].contains($0)
            ? value[$0] == UInt8(ascii: "-")
            : isDigit(value[$0]) || value[$0] >= UInt8(ascii: "a") && value[$0] <= UInt8(ascii: "f")
        }
    default: return false
    }
  }

  /// Where the columns' values stand, each literal as early as it can; nil: the key is none of these.
  private static func places(_ literals: [[UInt8]], _ key: [UInt8]) -> [Range<Int>]? {
    guard let first = literals.first, let last = literals.last, key.starts(with: first) else { return nil }
    guard literals.count > 1 else { return key.count == first.count ? [] : nil }
    var places: [Range<Int>] = []
    var at = first.count
    for literal in literals.dropFirst().dropLast() {
      let from = at
      while !key[at...].starts(with: literal) {
        guard at < key.count, mayStandInValue(key[at]) else { return nil }
        at += 1
      }
      places.append(from..<at)
      at += literal.count
    }
    let end = key.count - last.count
    guard end >= at, key[end...].elementsEqual(last), key[at..<end].allSatisfy(mayStandInValue) else {
      return nil
    }
    return places + [at..<end]
  }

  /// The value that is written so, as `KeyText` and the filters write it.
  private static func value(_ written: [UInt8], _ filters: [KeyTemplate.Filter]) -> [UInt8]? {
    var value: [UInt8] = []
    var at = 0
    while at < written.count {
      if written[at] == UInt8(ascii: "%") {
        guard at + 2 < written.count, let high = digit(written[at + 1]), let low = digit(written[at + 2])
        else { return nil }
        value.append(high << 4 | low)
        at += 3
      } else {
        value.append(written[at])
        at += 1
      }
    }
    guard !value.contains(0), String(validating: value, as: UTF8.self) != nil else { return nil }
    var again: [UInt8] = []
    var scratch: [UInt8] = []
    let format = ValueFormat(style: .verbatim, filters: filters)
    let fits = value.withUnsafeBytes { format.append($0, to: &again, scratch: &scratch) }
    return fits && again == written ? value : nil
  }

  /// `KeyMatcher` has the same bytes.
  private static func mayStandInValue(_ byte: UInt8) -> Bool {
    byte > 0x20 && byte != 0x7f && byte != UInt8(ascii: ":") && byte != UInt8(ascii: "{")
      && byte != UInt8(ascii: "}")
  }

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
