import Configuration
import Invalidation

/// How the keys of one template are loaded.
final class LoadRule: Sendable {
  let statement: Int
  let shape: SQLStatement.Shape
  let parameters: KeyParameters
  /// For each parameter of the statement its place among the template's columns.
  let bound: [Int]
  /// nil: each key is loaded by a statement of its own.
  let many: ManyRule?
  let negative: UInt64?
  let stampede: StampedeSettings
  /// Whether a key that was read lately is loaded again when its row has changed.
  let refreshes: Bool
  /// How long a reader is held back at most, in nanoseconds: for another's load, on this host or elsewhere, and
  /// then for its own.
  let patience: UInt64

  /// nil: the cache does not load.
  init?(_ cache: CacheRule, statement: Int?, many: Int?, prefix: String) {
    guard let load = cache.load, let statement,
      let parameters = KeyParameters(template: cache.template, prefix: prefix)
    else { return nil }
    let bound = load.sql.names.compactMap { parameters.names.firstIndex(of: $0) }
    guard bound.count == load.sql.names.count else { return nil }
    self.statement = statement
    shape = SQLStatement.Shape(load.shape)
    self.parameters = parameters
    self.bound = bound
    self.many = many.flatMap { many in
      let order = load.many?.names.compactMap { load.sql.names.firstIndex(of: $0) } ?? []
      return order.count == bound.count ? ManyRule(statement: many, order: order) : nil
    }
    negative = cache.negative
    stampede = cache.stampede
    refreshes = cache.onChange == .refresh
    let (sum, carry) = load.timeout.addingReportingOverflow(
      max(cache.stampede.wait, cache.stampede.lock ?? 0))
    patience = carry ? .max : sum
  }

  /// Whether a change of the row that the statement finds for a key clears this very key: these values are bound as
  /// PostgreSQL prints values of these types. `types`: of the statement's parameters.
  static func areSpeltAsPrinted(_ values: [[UInt8]?], _ types: [UInt32]) -> Bool {
    guard values.count == types.count else { return false }
    return zip(values, types).allSatisfy { value, type in
      value.map { KeyParameters.isPrinted($0, type: type) } ?? false
    }
  }

  /// The columns that the statement's parameters are.
  var boundNames: [String] { bound.map { parameters.names[$0] } }

  /// What the statement is given for a key; nil: no row gives this key.
  func values(of key: [UInt8]) -> [[UInt8]?]? {
    guard let values = key.withUnsafeBytes({ parameters.values(of: $0) }) else { return nil }
    return bound.map { values[$0] }
  }
}
