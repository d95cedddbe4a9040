import Configuration
import Invalidation

/// How the SETs of one template's keys reach PostgreSQL.
final class WriteRule: Sendable {
  private enum Source { case column(Int), value, ttl }

  /// nil: through, by the statement with this number.
  let behind: BehindSettings?
  let statement: Int
  private let parameters: KeyParameters
  private let bound: [Source]

  /// nil: a SET is no business of PostgreSQL's.
  /// - Parameter statement: which statement writes through.
  init?(_ cache: CacheRule, statement: Int?, prefix: String) {
    guard let sql = cache.write.sql,
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
    if case .behind(let behind) = cache.write {
      self.behind = behind
      self.statement = -1
    } else {
      guard let statement else { return nil }
      behind = nil
      self.statement = statement
    }
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
