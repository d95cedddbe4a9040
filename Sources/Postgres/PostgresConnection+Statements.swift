import CLibPQ
import Glibc

/// Prepared statements, for callers that never wait: send one command, then collect results until there is none.
extension PostgresConnection {
  /// What the server made of one command.
  struct Answer {
    var columns: [String] = []
    var height = 0
    /// Row by row, as PostgreSQL prints them; nil is NULL.
    var values: [[UInt8]?] = []
    /// How many rows a write has changed.
    var affected = 0
    /// Of a described statement: the oids of its parameters' types.
    var parameterTypes: [UInt32] = []
  }

  /// What the server says of a command that it refused, without any text that may hold data.
  struct Refusal: Hashable {
    var sqlState: String
    /// The constraint, column, data type or table at fault, where the server names one.
    var culprit: String?
    /// Where in the statement, in characters from 1.
    var position: String?
  }

  enum Reply {
    case answer(Answer)
    case refused(Refusal)
    /// The command is over.
    case end
  }

  /// Has a statement parsed; the empty name is for the one that each new one replaces.
  func sendPrepare(_ name: String, _ sql: String) throws(PostgresError) {
    guard PQsendPrepare(handle, name, sql, 0, nil) == 1 else { throw failure() }
  }

  /// Asks for a prepared statement's columns and number of parameters.
  func sendDescribe(_ name: String) throws(PostgresError) {
    guard PQsendDescribePrepared(handle, name) == 1 else { throw failure() }
  }

  /// - Parameter parameters: as text without a zero byte; nil is NULL.
  func sendPrepared(_ name: String, _ parameters: [[UInt8]?]) throws(PostgresError) {
    // One block for all of them, each closed by the zero byte of a C string.
    var bytes: [CChar] = []
    bytes.reserveCapacity(parameters.reduce(0) { $0 + ($1?.count ?? 0) + 1 })
    var starts: [Int?] = []
    starts.reserveCapacity(parameters.count)
    for parameter in parameters {
      starts.append(parameter == nil ? nil : bytes.count)
      guard let parameter else { continue }
      for byte in parameter { bytes.append(CChar(bitPattern: byte)) }
      bytes.append(0)
    }
    let sent = bytes.withUnsafeBufferPointer { bytes in
      let values: [UnsafePointer<CChar>?] = starts.map { start in
        start.flatMap { start in bytes.baseAddress.map { $0 + start } }
      }
      return PQsendQueryPrepared(handle, name, Int32(values.count), values, nil, nil, 0)
    }
    guard sent == 1 else { throw failure() }
  }

  /// The next result of the command under way; only called while `isBusy` is false.
  func nextReply() throws(PostgresError) -> Reply {
    guard let result = PQgetResult(handle) else { return .end }
    defer { PQclear(result) }
    switch PQresultStatus(result) {
    case PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY: return .answer(Self.answer(result))
    case PGRES_FATAL_ERROR:
      // PG_DIAG_… are macros over character constants. Without a code libpq itself speaks: the server is gone.
      guard let state = Self.field(result, "C") else {
        throw .lost(String(cString: PQresultErrorMessage(result)), place: place)
      }
      let culprit =
        Self.field(result, "n") ?? Self.field(result, "c") ?? Self.field(result, "d")
        ?? Self.field(result, "t")
      return .refused(Refusal(sqlState: state, culprit: culprit, position: Self.field(result, "P")))
    default:
      throw PostgresError(
        kind: .protocolViolation, what: "PostgreSQL answered in a way that was not expected here",
        place: place)
    }
  }

  /// Whether libpq knows that the connection is gone.
  var isLost: Bool { PQstatus(handle) != CONNECTION_OK }

  private static func field(_ result: OpaquePointer, _ code: Unicode.Scalar) -> String? {
    PQresultErrorField(result, Int32(code.value)).map { String(cString: $0) }
  }

  private static func answer(_ result: OpaquePointer) -> Answer {
    let height = PQntuples(result)
    let width = PQnfields(result)
    var values: [[UInt8]?] = []
    values.reserveCapacity(Int(height) * Int(width))
    for row in 0..<height {
      for column in 0..<width {
        guard PQgetisnull(result, row, column) == 0, let value = PQgetvalue(result, row, column) else {
          values.append(nil)
          continue
        }
        let length = Int(PQgetlength(result, row, column))
        values.append(Array(UnsafeRawBufferPointer(start: value, count: length)))
      }
    }
    return Answer(
      columns: (0..<width).map { PQfname(result, $0).map { String(cString: $0) } ?? "" },
      height: Int(height), values: values,
      affected: PQcmdTuples(result).flatMap { Int(String(cString: $0)) } ?? 0,
      parameterTypes: (0..<PQnparams(result)).map { PQparamtype(result, $0) })
  }
}
