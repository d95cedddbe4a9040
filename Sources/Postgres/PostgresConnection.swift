import CLibPQ
import Configuration
import Glibc

/// One connection; libpq's handle lives and dies with it. It never reconnects by itself.
///
/// The handle is in non-blocking mode. `run` waits all the same, with a time limit of the caller's.
struct PostgresConnection: ~Copyable {
  /// Frees the handle also where `init` throws. Not private: other modules' optimised code destroys a connection
  /// in place and then needs the type's symbol.
  struct Handle: ~Copyable {
    let pointer: OpaquePointer
    deinit { PQfinish(pointer) }
  }

  private let owner: Handle
  /// Not private: the commands of prepared statements are in a file of their own.
  var handle: OpaquePointer { owner.pointer }
  /// Database and server, for messages.
  let place: String

  /// Connects, which takes at most `connect_timeout` (5 s unless the user says otherwise) for each host.
  static func connect(
    _ settings: PostgresSettings, _ purpose: ConnectionParameters.Purpose
  ) throws(PostgresError) -> PostgresConnection {
    try connect(url: settings.url, password: settings.password, purpose)
  }

  static func connect(
    url: Secret, password: Secret?, _ purpose: ConnectionParameters.Purpose
  ) throws(PostgresError) -> PostgresConnection {
    let connection = PostgresConnection(owner: try open(url, password, purpose))
    try connection.repairEnvironment()
    return connection
  }

  private init(owner: consuming Handle) {
    place = Self.place(of: owner.pointer)
    self.owner = owner
  }

  private static func open(
    _ url: Secret, _ password: Secret?, _ purpose: ConnectionParameters.Purpose
  ) throws(PostgresError) -> Handle {
    let parameters = try ConnectionParameters(url: url, password: password, purpose: purpose)
    let opened = withCStrings(parameters.pairs.map { $0.keyword }) { keywords in
      withCStrings(parameters.pairs.map { $0.value }) { values in
        PQconnectdbParams(keywords, values, 0)
      }
    }
    guard let opened else {
      throw PostgresError(kind: .unreachable, what: "libpq is out of memory", place: "")
    }
    let handle = Handle(pointer: opened)
    guard PQstatus(opened) == CONNECTION_OK else {
      let text = String(cString: PQerrorMessage(opened))
      throw PostgresError.connecting(text, purpose: purpose, place: place(of: opened))
    }
    // By default libpq writes notices to standard error, among our log.
    PQsetNoticeReceiver(opened, { _, _ in }, nil)
    PQsetnonblocking(opened, 1)
    return handle
  }

  /// The descriptor to poll.
  var descriptor: Int32 { PQsocket(handle) }
  /// The server process that serves this connection.
  var backendPID: Int32 { PQbackendPID(handle) }
  /// For example 150004 for 15.4.
  var serverVersion: Int32 { PQserverVersion(handle) }

  /// PGTZ and PGDATESTYLE travel in the start packet behind our options and so outrank them.
  private func repairEnvironment() throws(PostgresError) {
    if parameter("TimeZone") != "UTC" { _ = try run("SET timezone TO 'UTC'", nil, .query) }
    if parameter("DateStyle")?.hasPrefix("ISO") != true { _ = try run("SET datestyle TO 'ISO'", nil, .query) }
  }

  /// A setting that the server reports by itself whenever it changes.
  func parameter(_ name: String) -> String? {
    PQparameterStatus(handle, name).map { String(cString: $0) }
  }

  // MARK: Commands

  /// Sends one command without waiting for anything.
  ///
  /// - Parameter parameters: nil for the simple query protocol, the only one that a walsender understands;
  ///   otherwise the text has one statement with `$1` … for the parameters.
  func send(_ sql: String, _ parameters: [String?]?) throws(PostgresError) {
    let sent =
      if let parameters {
        withCStrings(parameters) { values in
          PQsendQueryParams(handle, sql, Int32(parameters.count), nil, values, nil, nil, 0)
        }
      } else {
        PQsendQuery(handle, sql)
      }
    guard sent == 1 else { throw failure() }
  }

  /// Writes what waits to be written; true if some of it still waits.
  func flush() throws(PostgresError) -> Bool {
    switch PQflush(handle) {
    case 0: return false
    case 1: return true
    default: throw failure()
    }
  }

  /// Reads what has arrived.
  func consume() throws(PostgresError) {
    guard PQconsumeInput(handle) == 1 else { throw failure() }
  }

  /// Whether the answer of the command under way has not arrived completely.
  var isBusy: Bool { PQisBusy(handle) == 1 }

  /// One step of collecting the answer; only called while `isBusy` is false.
  enum Step {
    case rows(Rows)
    /// The server has switched to a stream in both directions.
    case copyBoth
    /// The answer is complete.
    case end
  }

  func step(_ operation: Operation) throws(PostgresError) -> Step {
    guard let result = PQgetResult(handle) else { return .end }
    defer { PQclear(result) }
    switch PQresultStatus(result) {
    case PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY: return .rows(Self.rows(result))
    case PGRES_COPY_BOTH: return .copyBoth
    case PGRES_FATAL_ERROR: throw Self.reported(result, operation, place, handle)
    default:
      throw PostgresError(
        kind: .protocolViolation, what: "PostgreSQL answered in a way that was not expected here",
        place: place)
    }
  }

  /// Sends one command and waits for its whole answer.
  ///
  /// - Parameter timeout: nanoseconds. When they have passed the server is asked to give up, and the
  ///   connection is of no further use.
  func run(
    _ sql: String, _ parameters: [String?]?, _ operation: Operation, timeout: UInt64 = 30_000_000_000
  ) throws(PostgresError) -> Rows {
    try send(sql, parameters)
    return try finish(operation, timeout: timeout)
  }

  /// Waits for the whole answer of the command that was sent.
  func finish(_ operation: Operation, timeout: UInt64 = 30_000_000_000) throws(PostgresError) -> Rows {
    let deadline = monotonicNanoseconds() &+ timeout
    var answer = Rows.none
    while true {
      try waitUntilIdle(deadline)
      do throws(PostgresError) {
        switch try step(operation) {
        case .rows(let rows): answer = rows
        case .copyBoth: return answer
        case .end: return answer
        }
      } catch {
        discardAnswer()
        throw error
      }
    }
  }

  /// Takes what follows an error, so that the next command can be sent. It comes in the same packet as the
  /// error; should it not, libpq waits for it.
  func discardAnswer() {
    while let result = PQgetResult(handle) { PQclear(result) }
  }

  /// Waits until `nextReply` can be called.
  func waitForReply() throws(PostgresError) { try waitUntilIdle(monotonicNanoseconds() &+ 30_000_000_000) }

  /// Waits until `step` can be called.
  func waitUntilIdle(_ deadline: UInt64) throws(PostgresError) {
    while true {
      let unsent = try flush()
      guard isBusy else { return }
      guard waitForSocket(descriptor, alsoWritable: unsent, deadline: deadline) else {
        cancel()
        throw PostgresError(
          kind: .timedOut, what: "PostgreSQL did not answer in time", place: place,
          fix: "Look in pg_stat_activity for what it waits for.")
      }
      try consume()
    }
  }

  /// Asks the server to give up what it does for this connection.
  private func cancel() {
    guard let cancel = PQgetCancel(handle) else { return }
    _ = PQcancel(cancel, nil, 0)
    PQfreeCancel(cancel)
  }

  // MARK: The stream

  enum CopyStep { case message, nothingYet, end }

  /// Hands the next message of the stream to `body`, if one has arrived completely. The bytes are libpq's own
  /// and are freed when `body` returns.
  @inline(__always)
  func nextCopyData<Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Void
  ) throws(DrainError<Failure>) -> CopyStep {
    var buffer: UnsafeMutablePointer<CChar>?
    let length = PQgetCopyData(handle, &buffer, 1)
    defer { if let buffer { PQfreemem(buffer) } }
    switch length {
    case 1...:
      do throws(Failure) {
        try body(UnsafeRawBufferPointer(start: buffer, count: Int(length)))
      } catch {
        throw .body(error)
      }
      return .message
    case 0: return .nothingYet
    case -1: return .end
    default: throw .connection(failure())
    }
  }

  /// Queues bytes for the stream's other direction; false if there is no room until `flush` has made some.
  func putCopyData(_ bytes: [UInt8]) throws(PostgresError) -> Bool {
    let put = bytes.withUnsafeBytes {
      PQputCopyData(handle, $0.baseAddress?.assumingMemoryBound(to: CChar.self), Int32($0.count))
    }
    switch put {
    case 1: return true
    case 0: return false
    default: throw failure()
    }
  }

  /// Says that nothing more will be sent; false as `putCopyData`.
  func putCopyEnd() throws(PostgresError) -> Bool {
    switch PQputCopyEnd(handle, nil) {
    case 1: return true
    case 0: return false
    default: throw failure()
    }
  }

  // MARK: Errors

  /// What libpq itself has to say: nearly always that the connection is gone.
  func failure() -> PostgresError {
    let text = String(cString: PQerrorMessage(handle))
    if PQstatus(handle) == CONNECTION_OK {
      return PostgresError(
        kind: .protocolViolation, what: "libpq reported: \(text.prefix { $0 != "\n" })", place: place)
    }
    return .lost(text, place: place)
  }

  private static func reported(
    _ result: OpaquePointer, _ operation: Operation, _ place: String, _ handle: OpaquePointer
  ) -> PostgresError {
    // PG_DIAG_SQLSTATE and PG_DIAG_MESSAGE_PRIMARY are macros over character constants.
    guard let state = PQresultErrorField(result, Int32(UInt8(ascii: "C"))) else {
      return .lost(String(cString: PQresultErrorMessage(result)), place: place)
    }
    let message = PQresultErrorField(result, Int32(UInt8(ascii: "M"))).map { String(cString: $0) } ?? ""
    return .reported(sqlState: String(cString: state), message: message, during: operation, place: place)
  }

  private static func rows(_ result: OpaquePointer) -> Rows {
    let height = PQntuples(result)
    let width = PQnfields(result)
    var values: [String?] = []
    values.reserveCapacity(Int(height) * Int(width))
    for row in 0..<height {
      for column in 0..<width {
        let isNull = PQgetisnull(result, row, column) == 1
        values.append(isNull ? nil : PQgetvalue(result, row, column).map { String(cString: $0) })
      }
    }
    let columns = (0..<width).map { PQfname(result, $0).map { String(cString: $0) } ?? "" }
    return Rows(columns: columns, height: Int(height), values: values)
  }

  private static func place(of handle: OpaquePointer) -> String {
    func text(_ value: UnsafeMutablePointer<CChar>?) -> String { value.map { String(cString: $0) } ?? "" }
    let host = text(PQhost(handle))
    let port = text(PQport(handle))
    let server = host.hasPrefix("/") ? "\(host)/.s.PGSQL.\(port)" : host.isEmpty ? "" : "\(host):\(port)"
    let database = text(PQdb(handle))
    let named = database.isEmpty ? "" : "database \(database)"
    return server.isEmpty ? named : named.isEmpty ? server : "\(named) on \(server)"
  }
}
