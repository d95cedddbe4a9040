/// Knows everything at once: which row had which version when. A version is a number that is never used twice;
/// a key's value is the text of the versions that make it up.
struct Oracle {
  private struct Version {
    /// Since when, in the world's time, another version is the current one for everybody; nil: still current.
    var superseded: UInt64?
  }

  private var versions: [Version] = [Version(superseded: 0)]

  /// A version that is or will be current.
  mutating func make() -> Int {
    versions.append(Version(superseded: nil))
    return versions.count - 1
  }

  mutating func supersede(_ version: Int, at time: UInt64) {
    if versions[version].superseded == nil { versions[version].superseded = time }
  }

  /// It never was the current one.
  mutating func refuse(_ version: Int) { versions[version].superseded = 0 }

  /// A crash has taken its successor back.
  mutating func reinstate(_ version: Int) { versions[version].superseded = nil }

  func superseded(_ version: Int) -> UInt64? { versions[version].superseded }

  /// Whether the value says nothing that was outdated before `time`. `ignoringLast`: all but the last version,
  /// which no row stands behind. A value of one version has no such part.
  func isOutdated(_ text: String, before time: UInt64, ignoringLast: Bool = false) -> Int? {
    var all = Self.parse(text)
    if ignoringLast, all.count > 1 { all.removeLast() }
    return all.first { versions[$0].superseded.map { $0 < time } ?? false }
  }

  static func text(_ versions: [Int]) -> String {
    var text = ""
    for version in versions {
      if !text.isEmpty { text += "." }
      text += String(version)
    }
    return text
  }

  static func parse(_ text: String) -> [Int] {
    var all: [Int] = []
    var number = 0
    for digit in text.utf8 {
      if digit == UInt8(ascii: ".") {
        all.append(number)
        number = 0
      } else {
        number = number * 10 + Int(digit - UInt8(ascii: "0"))
      }
    }
    all.append(number)
    return all
  }
}
