/// Everything that is exposed under one name.
public struct MetricFamily: Sendable {
  public enum Kind: Sendable {
    /// Grows until the process ends; its name ends in `_total`.
    case counter
    case gauge
    /// Always 1, and tells by its labels; its name ends in `_info`.
    case info
    case histogram
  }

  public struct Sample: Sendable {
    public var labels: [(name: String, value: String)]
    public var value: Value
  }

  public enum Value: Sendable {
    case whole(Int)
    case real(Double)
    case histogram(Histogram)
  }

  /// The whole name, with `_total` or `_info`.
  public var name: String
  public var kind: Kind
  /// One sentence.
  public var help: String
  public var samples: [Sample] = []

  public init(_ name: String, _ kind: Kind, _ help: String) {
    self.name = name
    self.kind = kind
    self.help = help
  }

  /// A family of one sample without labels; without any if there is no value.
  public init(_ name: String, _ kind: Kind, _ help: String, _ value: Int?) {
    self.init(name, kind, help)
    if let value { add(value) }
  }

  public init(_ name: String, _ kind: Kind, _ help: String, real value: Double?) {
    self.init(name, kind, help)
    if let value { samples.append(Sample(labels: [], value: .real(value))) }
  }

  public mutating func add(_ value: Int, _ labels: KeyValuePairs<String, String> = [:]) {
    samples.append(Sample(labels: labels.map { ($0.key, $0.value) }, value: .whole(value)))
  }

  public mutating func add(_ value: UInt64, _ labels: KeyValuePairs<String, String> = [:]) {
    samples.append(Sample(labels: labels.map { ($0.key, $0.value) }, value: .whole(Int(clamping: value))))
  }

  public mutating func add(_ histogram: Histogram, _ labels: KeyValuePairs<String, String> = [:]) {
    samples.append(Sample(labels: labels.map { ($0.key, $0.value) }, value: .histogram(histogram)))
  }

  /// The base unit that the name ends in, for OpenMetrics.
  var unit: String? {
    let base = familyName
    return ["seconds", "bytes"].first { base.hasSuffix("_" + $0) }
  }

  /// OpenMetrics's name of the family, without what its samples' names add.
  var familyName: String {
    switch kind {
    case .counter where name.hasSuffix("_total"): String(name.dropLast(6))
    case .info where name.hasSuffix("_info"): String(name.dropLast(5))
    default: name
    }
  }
}
