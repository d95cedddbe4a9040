import Configuration

/// The statements of a configuration, in the one order by which the event loop and its runner count them.
public struct SQLStatements: Sendable {
  public let all: [SQLStatement]
  /// For each of `Settings.caches`, which statement loads its keys; nil: none does.
  public let loads: [Int?]
  /// For each of `Settings.caches`, which statement loads several of its keys at once; nil: none does.
  public let manyLoads: [Int?]
  /// For each of `Settings.caches`, which statement writes its keys through; nil: none does.
  public let writes: [Int?]

  public init(_ settings: Settings) {
    self.init(caches: settings.caches, writeTimeout: settings.postgres.loader.timeout)
  }

  init(caches: [CacheRule], writeTimeout: UInt64) {
    var all: [SQLStatement] = []
    var loads: [Int?] = []
    var writes: [Int?] = []
    var manyLoads: [Int?] = []
    func add(_ sql: SQLTemplate, _ mode: SQLStatement.Mode, _ timeout: UInt64) -> Int {
      all.append(
        SQLStatement(sql: sql.text, parameterCount: sql.names.count, mode: mode, timeout: timeout))
      return all.count - 1
    }
    for cache in caches {
      loads.append(
        cache.load.map { add($0.sql, .load(as: SQLStatement.Shape($0.shape)), $0.timeout) })
      manyLoads.append(
        cache.load.flatMap { load in load.many.map { add($0, .loadMany, load.timeout) } })
      if case .through(let sql) = cache.write {
        writes.append(add(sql, .write, writeTimeout))
      } else {
        writes.append(nil)
      }
    }
    self.all = all
    self.loads = loads
    self.writes = writes
    self.manyLoads = manyLoads
  }
}

extension SQLStatement.Shape {
  init(_ shape: LoadSettings.Shape) {
    self =
      switch shape {
      case .string: .string
      case .list: .list
      case .set: .set
      case .hash: .hash
      }
  }
}
