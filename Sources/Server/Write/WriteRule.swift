import Configuration
import Invalidation

/// How the keys of one template are written through to PostgreSQL.
final class WriteRule: Sendable {
  private enum Source { case column(Int), value, ttl }

  let statement: Int
  private let parameters: KeyParameters
  private let bound: [Source]

  /// nil: the cache does not write through.
  init?(_ cache: CacheRule, statement: Int?, prefix: String) {
    guard case .through(let sql) = cache.write, let statement,
      let parameters = KeyParameters(template: cache.template, prefix: prefix)
    else { return nil }
    let bound: [Source] = sql.names.compactMap { name in
      switch name {
      case "value": .value
      case "ttl": .ttl
      default: parameters.names.firstIndex(of: name).map { .column($0) }
      }
    }
    guard bound.count == sql.names.count else { return nil }
    self.statement = statement
    self.parameters = parameters
    self.bound = bound
  }

  /// What the statement is given; nil: no row gives this key.
  /// - Parameter milliseconds: the time to live; nil: none.
  func values(of key: [UInt8], value: [UInt8], milliseconds: Int?) -> [[UInt8]?]? {
    guard let columns = key.withUnsafeBytes({ parameters.values(of: $0) }) else { return nil }
    return bound.map { source in
      switch source {
      case .column(let index): columns[index]
      case .value: value
      case .ttl: milliseconds.map { Array(String($0).utf8) }
      }
    }
  }
}
