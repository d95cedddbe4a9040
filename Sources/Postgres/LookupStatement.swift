import Configuration
import Invalidation

/// Why a lookup cannot be prepared.
public enum LookupError: Error, Sendable {
  /// PostgreSQL refuses the query, or is gone.
  case refused(PostgresError)
  /// Its columns make no keys.
  case unfit(PlanProblem)

  /// As a sentence.
  public var sentence: String {
    switch self {
    case .refused(let error): error.description
    case .unfit(let problem): problem.message
    }
  }
}

/// A lookup as one prepared statement that answers for many rows at once.
///
/// The values of its parameters come as arrays of texts, one for each name, which are unnested beside each other; the
/// query is joined to them as a lateral subquery, where its names stand for the values, cast to the types of their
/// columns. So PostgreSQL plans it once, as a loop over the values that uses the index which a single row would use,
/// and all of them cost one round trip and have one snapshot. Single executions in a pipeline would have a snapshot
/// each, and start the query anew for each row.
///
/// The first column of each row is the snapshot, the second which values it is an answer to; there is one row with
/// nothing but the snapshot if nothing is found.
public struct LookupStatement: Sendable {
  /// More rows than this are not worth their keys.
  public static let mostRows = 20_000

  private let shape: LookupShape
  private let name: String
  private let count: Int

  /// Prepares a lookup on a session of its own, and waits for that.
  ///
  /// - Parameters:
  ///   - name: what the session calls it; nil: it is only tried.
  ///   - table: the table whose rows ask.
  init(
    _ lookup: Lookup, name: String?, table: TableName, keyPrefix: String, _ session: borrowing SQLSession
  ) throws(LookupError) {
    let sql = lookup.rule.sql
    let columns = LookupShape.columns(of: lookup.rule)
    self.name = name ?? ""
    count = sql.names.count
    var found: [(oid: UInt32, name: String, kind: Character)] = []
    do throws(PostgresError) {
      var types: [String] = []
      for column in sql.names { types.append(try Self.type(of: column, table, session)) }
      let inner = sql.rendered { "\"nearside row\".v\($0 + 1)" }
      found = try Self.types(Self.query(inner, types, columns) { _ in "'{}'" }, columns, session)
      if let name {
        let list = types.isEmpty ? "" : "(" + types.map { _ in "text[]" }.joined(separator: ", ") + ")"
        _ = try session.query(
          "PREPARE \(name)\(list) AS " + Self.query(inner, types, columns) { "$\($0 + 1)" })
      }
    } catch {
      throw .refused(error)
    }
    do throws(PlanProblem) {
      shape = try LookupShape(lookup.rule, keyPrefix: keyPrefix, types: found)
    } catch {
      throw .unfit(error)
    }
  }

  /// The statement that runs it for these asks.
  func text(_ run: LookupRun) -> String {
    guard count > 0 else { return "EXECUTE \(name)" }
    return "EXECUTE \(name)("
      + run.values(count).map { quotedLiteral(arrayLiteral($0)) }.joined(separator: ", ") + ")"
  }

  /// The keys in its rows, and the snapshot; nil: they are too many or too long.
  func keys(_ rows: Rows) -> (keys: [LookupKey], snapshot: Snapshot)? {
    guard rows.count <= Self.mostRows, let snapshot = rows.first?[0].flatMap({ Snapshot($0) }) else {
      return nil
    }
    var keys: [LookupKey] = []
    for row in rows {
      guard let number = row[1].flatMap({ Int($0) }) else { continue }
      guard shape.append({ row[2 + $0] }, ask: number - 1, to: &keys) else { return nil }
    }
    return (keys, snapshot)
  }

  private static func query(
    _ inner: String, _ types: [String], _ columns: [String], _ parameter: (Int) -> String
  ) -> String {
    let numbers = 1...max(types.count, 1)
    let values = zip(numbers, types).map { ", CAST(a.p\($0) AS \($1)) AS v\($0)" }.joined()
    let arrays = types.indices.map { parameter($0) + "::text[]" }.joined(separator: ", ")
    let names = zip(numbers, types).map { "p\($0.0), " }.joined()
    let rows =
      types.isEmpty
      ? "SELECT 1 AS n"
      : "SELECT a.n\(values) FROM unnest(\(arrays)) WITH ORDINALITY AS a(\(names)n)"
    let picked = columns.enumerated().map { index, column in
      ", \"nearside found\".\(quotedIdentifier(column)) AS k\(index + 1)"
    }
    return """
      SELECT pg_catalog.pg_current_snapshot() AS s, q.* FROM (SELECT 1) AS one LEFT JOIN (
        SELECT "nearside row".n\(picked.joined()) FROM (\(rows)) AS "nearside row"
        CROSS JOIN LATERAL (\(inner)
        ) AS "nearside found" LIMIT \(mostRows + 1)) AS q ON true
      """
  }

  private static func type(
    of column: String, _ table: TableName, _ session: borrowing SQLSession
  ) throws(PostgresError) -> String {
    let rows = try session.query(
      """
      SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a
      JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relname = $2 AND a.attname = $3 AND a.attnum > 0 AND NOT a.attisdropped
      """, [table.schema, table.name, column])
    if let type = rows.first?[0] { return type }
    throw PostgresError(
      kind: .server,
      what: "A lookup names column \"\(column)\", which table \(table.schema).\(table.name) "
        + "does not have", place: session.place)
  }

  /// The types of the columns that templates name; of a domain, its base type.
  private static func types(
    _ query: String, _ columns: [String], _ session: borrowing SQLSession
  ) throws(PostgresError) -> [(oid: UInt32, name: String, kind: Character)] {
    let list = columns.indices.map { "pg_catalog.pg_typeof(w.k\($0 + 1))::oid" }.joined(separator: ", ")
    let rows = try session.query(
      """
      SELECT t.oid, t.typname, t.typtype FROM (\(query) LIMIT 1) AS w
      CROSS JOIN LATERAL unnest(ARRAY[\(list)]::oid[]) WITH ORDINALITY AS u(o, n)
      JOIN pg_catalog.pg_type d ON d.oid = u.o
      JOIN pg_catalog.pg_type t ON t.oid = CASE d.typtype WHEN 'd' THEN d.typbasetype ELSE d.oid END
      ORDER BY u.n
      """)
    return rows.map { row in
      (row[0].flatMap { UInt32($0) } ?? 0, row[1] ?? "", row[2]?.first ?? "b")
    }
  }
}
