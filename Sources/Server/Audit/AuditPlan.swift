import Configuration
import Invalidation

/// What the audit asks the database for a key.
public struct AuditPlan: Sendable {
  /// The loads, in the order in which `job(for:)` counts them.
  public let statements: [SQLStatement]
  private let governance: Governance
  private let places: [Int: Int]
  private let templates: [String]
  private let templateOf: [Int: Int]

  public struct Job: Sendable {
    /// Which of `statements`, and its parameters.
    public var statement: Int
    public var parameters: [[UInt8]?]
    public var shape: SQLStatement.Shape
    /// The template of the cache.
    public var template: String
  }

  public init(_ settings: Settings) {
    governance = Governance(settings: settings)
    let all = SQLStatements(settings)
    var statements: [SQLStatement] = []
    var places: [Int: Int] = [:]
    var templateOf: [Int: Int] = [:]
    for (index, load) in all.loads.enumerated() {
      guard let load else { continue }
      places[load] = statements.count
      templateOf[load] = index
      statements.append(all.all[load])
    }
    self.statements = statements
    self.places = places
    self.templateOf = templateOf
    templates = settings.caches.map(\.template.text)
  }

  /// nil: nothing loads this key, or no row can give it; or it is written behind, so that the row may rightly be older
  /// than what is served.
  public func job(for key: [UInt8]) -> Job? {
    guard let governed = key.withUnsafeBytes({ governance.rule($0) }), governed.write?.behind == nil,
      let rule = governed.load, let place = places[rule.statement],
      let parameters = rule.values(of: key), let index = templateOf[rule.statement]
    else { return nil }
    return Job(statement: place, parameters: parameters, shape: rule.shape, template: templates[index])
  }

  /// The command that reads a whole key of this shape.
  public static func command(_ key: [UInt8], _ shape: SQLStatement.Shape) -> [[UInt8]] {
    switch shape {
    case .string: [Array("GET".utf8), key]
    case .hash: [Array("HGETALL".utf8), key]
    case .list: [Array("LRANGE".utf8), key, Array("0".utf8), Array("-1".utf8)]
    case .set: [Array("SMEMBERS".utf8), key]
    }
  }

  /// What a client should be told of rows, in a form that can be compared: elements in their order, of a hash names and
  /// values; those whose order means nothing are sorted. Empty: there is nothing.
  public static func elements(_ rows: SQLRows, _ shape: SQLStatement.Shape) -> [[UInt8]] {
    guard let value = LoadedValue(rows, as: shape) else { return [] }
    return sorted(value.arguments, shape)
  }

  /// The same of a reply's elements.
  public static func sorted(_ elements: [[UInt8]], _ shape: SQLStatement.Shape) -> [[UInt8]] {
    switch shape {
    case .string, .list: return elements
    case .set: return elements.sorted { $0.lexicographicallyPrecedes($1) }
    case .hash:
      let pairs = stride(from: 0, to: elements.count - 1, by: 2).map { (elements[$0], elements[$0 + 1]) }
      return pairs.sorted { $0.0.lexicographicallyPrecedes($1.0) }.flatMap { [$0.0, $0.1] }
    }
  }
}
