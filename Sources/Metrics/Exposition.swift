/// Metrics as text.
///
/// Sources: Prometheus's "Exposition formats", version 0.0.4, and OpenMetrics 1.0.0.
public enum Exposition: Sendable, CaseIterable {
  case prometheus
  case openMetrics

  public var contentType: String {
    switch self {
    case .prometheus: "text/plain; version=0.0.4; charset=utf-8"
    case .openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8"
    }
  }

  /// What a client that sends this `Accept` is given: OpenMetrics if it names it and does not put it behind plain
  /// text, and Prometheus's own text in every other case.
  public init(accept: String) {
    var quality: [String: Double] = [:]
    for range in accept.split(separator: ",") {
      let parts = range.split(separator: ";").map { $0.filter { $0 != " " }.lowercased() }
      guard let type = parts.first else { continue }
      let weight = parts.dropFirst().first { $0.hasPrefix("q=") }.flatMap { Double($0.dropFirst(2)) } ?? 1
      quality[type] = max(quality[type] ?? 0, weight)
    }
    let open = quality["application/openmetrics-text"] ?? 0
    self = open > 0 && open >= quality["text/plain"] ?? 0 ? .openMetrics : .prometheus
  }

  /// The whole answer. A family without a sample is left out.
  public func text(_ families: [MetricFamily]) -> String {
    var text = ""
    for family in families where !family.samples.isEmpty { append(family, to: &text) }
    if self == .openMetrics { text += "# EOF\n" }
    return text
  }

  private func append(_ family: MetricFamily, to text: inout String) {
    let isOpen = self == .openMetrics
    let name = isOpen ? family.familyName : family.name
    let help = Self.escaped(family.help, quotes: isOpen)
    let kind =
      switch family.kind {
      case .counter: "counter"
      case .gauge: "gauge"
      case .info: isOpen ? "info" : "gauge"
      case .histogram: "histogram"
      }
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind)\n"
    if isOpen, let unit = family.unit { text += "# UNIT \(name) \(unit)\n" }
    for sample in family.samples {
      switch sample.value {
      case .whole(let value): Self.line(family.name, sample.labels, "\(value)", to: &text)
      case .real(let value): Self.line(family.name, sample.labels, Self.number(value), to: &text)
      case .histogram(let histogram): Self.append(histogram, family.name, sample.labels, to: &text)
      }
    }
  }

  private static func append(
    _ histogram: Histogram, _ name: String, _ labels: [(name: String, value: String)], to text: inout String
  ) {
    var total: UInt64 = 0
    for (end, count) in zip(histogram.buckets.ends, histogram.counts) {
      total += count
      line(name + "_bucket", labels + [("le", seconds(end))], "\(total)", to: &text)
    }
    line(name + "_bucket", labels + [("le", "+Inf")], "\(histogram.count)", to: &text)
    line(name + "_sum", labels, seconds(histogram.sum), to: &text)
    line(name + "_count", labels, "\(histogram.count)", to: &text)
  }

  private static func line(
    _ name: String, _ labels: [(name: String, value: String)], _ value: String, to text: inout String
  ) {
    text += name
    if !labels.isEmpty {
      text += "{"
      for (index, label) in labels.enumerated() {
        text += (index == 0 ? "" : ",") + label.name + "=\"" + escaped(label.value, quotes: true) + "\""
      }
      text += "}"
    }
    text += " " + value + "\n"
  }

  private static func escaped(_ text: String, quotes: Bool) -> String {
    var escaped = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": escaped += "\\\\"
      case "\n": escaped += "\\n"
      case "\"" where quotes: escaped += "\\\""
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }

  private static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    return "\(value)"
  }

  /// Nanoseconds as seconds, exactly: `0.000005`, `1.0`.
  static func seconds(_ nanoseconds: UInt64) -> String {
    let (whole, rest) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
    var digits = String(rest)
    digits = String(repeating: "0", count: 9 - digits.count) + digits
    while digits.count > 1, digits.last == "0" { digits.removeLast() }
    return "\(whole).\(digits)"
  }
}
