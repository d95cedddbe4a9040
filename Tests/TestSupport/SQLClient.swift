import CLibPQ

/// A small blocking client of PostgreSQL, for tests that need a connection kept: writers and readers under load.
/// It belongs to the thread that made it. It has nothing in common with the client under test but libpq.
public final class SQLClient {
  private let connection: OpaquePointer

  /// A statement that PostgreSQL refused, or a connection that broke.
  public struct Failure: Error, CustomStringConvertible {
    /// Five characters (PostgreSQL documentation, appendix A); empty when the connection broke.
    public let code: String
    public let description: String
  }

  /// - Parameter url: for libpq, as `PostgresServer.url` gives it.
  public init(_ url: String) throws {
    guard let connection = PQconnectdb(url) else { throw HarnessError("PQconnectdb: out of memory") }
    self.connection = connection
    guard PQstatus(connection) == CONNECTION_OK else {
      throw Failure(code: "", description: String(cString: PQerrorMessage(connection)))
    }
    // Warnings of a cancelled wait for a standby would be printed otherwise.
    PQsetNoticeProcessor(connection, { _, _ in }, nil)
  }

  deinit { PQfinish(connection) }

  public var isBroken: Bool { PQstatus(connection) != CONNECTION_OK }
  public var backendPID: Int32 { PQbackendPID(connection) }

  /// Runs one statement with text parameters `$1`, `$2`, …; its rows as text, nil for NULL.
  @discardableResult
  public func query(_ sql: String, _ parameters: [String] = []) throws -> [[String?]] {
    let values = parameters.map { Array($0.utf8CString) }
    let result = withPointers(values[...], []) { pointers in
      PQexecParams(connection, sql, Int32(pointers.count), nil, pointers, nil, nil, 0)
    }
    defer { PQclear(result) }
    switch PQresultStatus(result) {
    case PGRES_TUPLES_OK, PGRES_COMMAND_OK: break
    default:
      let code = PQresultErrorField(result, Int32(UInt8(ascii: "C"))).map { String(cString: $0) } ?? ""
      throw Failure(code: code, description: String(cString: PQerrorMessage(connection)))
    }
    return (0..<PQntuples(result)).map { row in
      (0..<PQnfields(result)).map { column in
        if PQgetisnull(result, row, column) == 1 { return nil }
        return PQgetvalue(result, row, column).map { String(cString: $0) }
      }
    }
  }

  /// The first column of the first row; nil if there is no row or it is NULL.
  public func value(_ sql: String, _ parameters: [String] = []) throws -> String? {
    try query(sql, parameters).first?.first ?? nil
  }

  private func withPointers<Result>(
    _ rest: ArraySlice<[CChar]>, _ done: [UnsafePointer<CChar>?],
    _ body: ([UnsafePointer<CChar>?]) -> Result
  ) -> Result {
    guard let first = rest.first else { return body(done) }
    return first.withUnsafeBufferPointer { buffer in
      withPointers(rest.dropFirst(), done + [buffer.baseAddress], body)
    }
  }
}
