import CLibPQ
import Configuration
import Invalidation

/// Holds the statements of `load` and `write` against the database, as the roles that will run them, without running
/// any: each is prepared, which finds wrong names and types, and planned, which finds missing rights.
public struct StatementCheck {
  /// What is known of the tables that the mapping names.
  private let tables: [(rule: TableRule, catalogue: CatalogueTable)]
  private var problems: [PlanProblem] = []

  /// - Parameter tables: what the catalogue says of each table of the mapping.
  /// - Returns: what is wrong, with its place in the file, in the order of the caches.
  /// - Throws: if a server cannot be reached, or a login is refused.
  public static func problems(
    _ settings: Settings, tables: [(rule: TableRule, catalogue: CatalogueTable)]
  ) throws(PostgresError) -> [PlanProblem] {
    var check = StatementCheck(tables: tables)
    let loader = settings.postgres.loader
    if settings.caches.contains(where: { $0.load != nil }) {
      let connection = try Self.connect(
        loader.url, loader.password, .loads(replica: loader.isReplica), "READ ONLY")
      for cache in settings.caches {
        guard let load = cache.load else { continue }
        try check.look(at: load, of: cache, connection)
      }
    }
    if settings.caches.contains(where: { $0.write.sql != nil }) {
      let connection = try Self.connect(
        loader.isReplica ? settings.postgres.url : loader.url,
        loader.isReplica ? settings.postgres.password : loader.password, .writes, "READ WRITE")
      for cache in settings.caches {
        guard let sql = cache.write.sql else { continue }
        if let found = try check.prepare(sql, "write", of: cache, connection) {
          check.compare(sql, "write", of: cache, found.types)
        }
      }
    }
    return check.problems
  }

  /// In one transaction that nobody commits.
  private static func connect(
    _ url: Secret, _ password: Secret?, _ purpose: ConnectionParameters.Purpose, _ mode: String
  ) throws(PostgresError) -> PostgresConnection {
    let connection = try PostgresConnection.connect(url: url, password: password, purpose)
    for sql in ["SET statement_timeout = '5s'", "SET lock_timeout = '2s'", "BEGIN \(mode)"] {
      _ = try connection.run(sql, nil, .query)
    }
    return connection
  }

  private mutating func look(
    at load: LoadSettings, of cache: CacheRule, _ connection: borrowing PostgresConnection
  ) throws(PostgresError) {
    guard let found = try prepare(load.sql, "load", of: cache, connection) else { return }
    compare(load.sql, "load", of: cache, found.types)
    let isOne = load.shape == .list || load.shape == .set
    if found.columns == 0 || isOne && found.columns != 1 {
      add(
        load.sql.place,
        "the statement of \"load\" returns \(found.columns) columns, and \"as\": \"\(load.shape.rawValue)\" needs "
          + (isOne ? "one" : "at least one"))
    }
    for (name, type) in zip(load.sql.names, found.types) where Self.hasUnknownSpelling(type) {
      add(
        place(of: name, in: load.sql),
        "parameter :\(name) of \"load\" has a type whose spelling is not known here, so what is loaded is answered "
          + "and not kept; compare with a column of type text, uuid, date, boolean or an integer",
        isFatal: false)
    }
    if let many = load.many { _ = try prepare(many, "load", of: cache, connection) }
  }

  /// The types of the parameters and the number of columns; nil: it cannot be prepared, which is noted.
  private mutating func prepare(
    _ sql: SQLTemplate, _ option: String, of cache: CacheRule, _ connection: borrowing PostgresConnection
  ) throws(PostgresError) -> (types: [UInt32], columns: Int)? {
    _ = try connection.run("SAVEPOINT statement", nil, .query)
    var found: (types: [UInt32], columns: Int)?
    do throws(PostgresError) {
      let described = try connection.prepare(sql.text)
      found = described
      if try plan(sql, described.types.count, connection), option == "load" {
        add(sql.place, "the statement of \"load\" would write, and runs in a read-only transaction")
      }
    } catch {
      guard error.kind == .server else { throw error }
      // Somebody changes the table at this moment: that says nothing of the statement.
      let isBusy = error.sqlState == "55P03" || error.sqlState == "57014"
      let what =
        error.sqlState == "42501"
        ? "may not run as the role of its connection" : isBusy ? "could not be checked" : "cannot be prepared"
      add(sql.place, "the statement of \"\(option)\" \(what): \(error)", isFatal: !isBusy)
    }
    _ = try connection.run("ROLLBACK TO SAVEPOINT statement", nil, .query)
    return found
  }

  /// Has it planned, which looks at the rights that running it takes. What only the protocol can prepare, such as a
  /// CALL, is left at that. True: it would write or lock rows.
  private func plan(
    _ sql: SQLTemplate, _ count: Int, _ connection: borrowing PostgresConnection
  ) throws(PostgresError) -> Bool {
    do throws(PostgresError) {
      _ = try connection.run("PREPARE nearside_check AS \(sql.text)", [], .query)
    } catch {
      guard error.sqlState == "42601" else { throw error }
      _ = try connection.run("ROLLBACK TO SAVEPOINT statement", nil, .query)
      return false
    }
    let values =
      count == 0 ? "" : "(" + [String](repeating: "NULL", count: count).joined(separator: ", ") + ")"
    let plan = try connection.run("EXPLAIN EXECUTE nearside_check\(values)", nil, .query)
    _ = try connection.run("DEALLOCATE nearside_check", nil, .query)
    return plan.contains { row in
      let node = (row[0] ?? "").drop { $0 == " " || $0 == "-" || $0 == ">" }
      return ["Insert on ", "Update on ", "Delete on ", "Merge on ", "LockRows "].contains {
        node.hasPrefix($0)
      }
    }
  }

  // MARK: Types

  /// Names parameters that cannot take what stands in the keys: the column's values, where the mapping says whose.
  private mutating func compare(_ sql: SQLTemplate, _ option: String, of cache: CacheRule, _ types: [UInt32])
  {
    let shape = cache.template.luaPattern(prefix: "")
    for (name, type) in zip(sql.names, types) {
      guard let index = cache.template.columns.firstIndex(where: { $0.name == name }) else { continue }
      for (rule, catalogue) in tables {
        for template in rule.keys where template.luaPattern(prefix: "") == shape {
          let source = template.columns[index].name
          guard let column = catalogue.columns.first(where: { $0.name == source }),
            let fit = TypeFit(values: column.type, parameter: type), fit != .all
          else { continue }
          add(
            place(of: name, in: sql),
            "parameter :\(name) of \"\(option)\" is \(TypeFit.name(type)), and stands in the keys of "
              + "\(catalogue.qualifiedName) for column \"\(source)\" of type \(column.typeName), whose values "
              + (fit == .none ? "it cannot take" : "it cannot all take"), isFatal: fit == .none)
        }
      }
    }
  }

  /// `KeyParameters.isPrinted` knows the others.
  private static func hasUnknownSpelling(_ type: UInt32) -> Bool {
    ![16, 20, 21, 23, 25, 1043, 1082, 2950].contains(type)
  }

  private func place(of name: String, in sql: SQLTemplate) -> SourcePlace {
    sql.names.firstIndex(of: name).map { sql.places[$0] } ?? sql.place
  }

  private mutating func add(_ place: SourcePlace, _ message: String, isFatal: Bool = true) {
    let problem = PlanProblem(place: place, message: message, isFatal: isFatal)
    if !problems.contains(problem) { problems.append(problem) }
  }
}

/// Whether the values of a column's type can be given to a parameter of another. Of types that are not built in
/// nothing is said.
enum TypeFit: Equatable {
  case all, some, none

  private enum Family: Int { case boolean, number, text, date, time, uuid }

  /// With the number of bytes, for numbers. Source: PostgreSQL source, src/include/catalog/pg_type.dat, for the oids.
  private static let types: [UInt32: (name: String, family: Family, size: Int)] = [
    16: ("boolean", .boolean, 0), 20: ("bigint", .number, 8), 21: ("smallint", .number, 2),
    23: ("integer", .number, 4), 25: ("text", .text, 0), 19: ("name", .text, 0), 26: ("oid", .number, 4),
    700: ("real", .number, 100), 701: ("double precision", .number, 100), 1042: ("character", .text, 0),
    1043: ("character varying", .text, 0), 1082: ("date", .date, 0), 1114: ("timestamp", .time, 0),
    1184: ("timestamp with time zone", .time, 0), 1700: ("numeric", .number, 100), 2950: ("uuid", .uuid, 0),
  ]

  init?(values: UInt32, parameter: UInt32) {
    guard let from = Self.types[values], let to = Self.types[parameter] else { return nil }
    switch (from.family, to.family) {
    case (_, .text): self = .all
    // A text may be one of the other's, if the application keeps it so.
    case (.text, _): self = .some
    case (.number, .number): self = from.size <= to.size ? .all : .some
    case (.date, .time): self = .all
    case (let a, let b): self = a == b ? .all : .none
    }
  }

  static func name(_ type: UInt32) -> String { types[type].map { "of type \($0.name)" } ?? "of another type" }
}

extension PostgresConnection {
  /// Has a statement parsed and waits for that: the oids of its parameters' types, and how many columns it returns.
  /// An error is told in the server's own words, which know of no row yet.
  fileprivate func prepare(_ sql: String) throws(PostgresError) -> (types: [UInt32], columns: Int) {
    try sendPrepare("", sql)
    _ = try finish(.query)
    try sendDescribe("")
    var described = Answer()
    try waitForReply()
    while case .answer(let answer) = try nextReply() {
      described = answer
      try waitForReply()
    }
    return (described.parameterTypes, described.columns.count)
  }
}
