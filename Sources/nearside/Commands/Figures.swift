import Configuration

/// Figures of the admin endpoint's JSON, and how people are shown them.
enum Figures {
  static func text(_ node: JSONNode?) -> String { node?.string ?? node?.number ?? "-" }

  static func real(_ node: JSONNode?) -> Double? { node?.number.flatMap { Double($0) } }

  static func sum(_ node: JSONNode?, _ names: String...) -> Int {
    names.reduce(0) { $0 + (node?[$1]?.number.flatMap { Int($0) } ?? 0) }
  }

  /// `98.7 %`; `-` of nothing.
  static func share(_ part: Int, _ all: Int) -> String {
    guard all > 0 else { return "-" }
    return share(Double(part) / Double(all))
  }

  static func share(_ part: Double) -> String { tenths(part * 100) + " %" }

  /// `12,345`
  static func count(_ number: Int) -> String {
    let digits = String(number.magnitude)
    var text = ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { text += "," }
      text.append(digit)
    }
    return (number < 0 ? "-" : "") + text
  }

  /// `12,345`, and `0.4` for what is less than 10.
  static func rate(_ perSecond: Double) -> String {
    perSecond < 9.95 && perSecond > 0 ? tenths(perSecond) : count(Int(perSecond.rounded()))
  }

  /// `0.21 s`
  static func seconds(_ value: Double) -> String {
    let hundredths = Int((value * 100).rounded())
    let rest = hundredths % 100
    return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest) s"
  }

  /// `2 h 13 min`
  static func duration(_ value: Double) -> String {
    let seconds = Int(value)
    if seconds >= 86_400 { return "\(seconds / 86_400) d \(seconds / 3600 % 24) h" }
    if seconds >= 3600 { return "\(seconds / 3600) h \(seconds / 60 % 60) min" }
    return seconds >= 60 ? "\(seconds / 60) min \(seconds % 60) s" : "\(seconds) s"
  }

  /// `12.3 MiB`
  static func size(_ bytes: Double) -> String {
    if bytes >= 1_073_741_824 { return "\(tenths(bytes / 1_073_741_824)) GiB" }
    if bytes >= 1_048_576 { return "\(tenths(bytes / 1_048_576)) MiB" }
    return bytes < 1024 ? "\(Int(bytes)) B" : "\(tenths(bytes / 1024)) KiB"
  }

  static func size(_ node: JSONNode?) -> String { size(real(node) ?? 0) }

  static func tenths(_ value: Double) -> String {
    let tenths = Int((value * 10).rounded())
    return "\(tenths / 10).\(tenths % 10)"
  }

  /// For a terminal: names of keys and clients are anybody's, and could hold what a terminal obeys.
  static func safe(_ text: String) -> String {
    var shown = ""
    for scalar in text.unicodeScalars {
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned:
        shown += "\u{FFFD}"
      default: shown.unicodeScalars.append(scalar)
      }
    }
    return shown
  }
}
