import Configuration
import Invalidation

/// A walsender's stream of one publication's changes, through one replication slot.
///
/// 1. Connect; `identifySystem`; `createSlot` if there is to be a new one.
/// 2. `start`: from here on the slot is this connection's alone.
/// 3. Poll `descriptor`; `drain` gives the messages; `confirm` says how far they are safe. None of the three
///    ever waits.
/// 4. `stop`, or just let go of it. After any error it is of no further use.
///
/// The server drops a connection that has been silent for 5 s (wal_sender_timeout), so call `confirm` once a
/// second, also with a position that has not moved.
public struct ReplicationStream: ~Copyable {
  let connection: PostgresConnection
  private var publication = ""
  /// What was last confirmed; an older position is never reported after it.
  public private(set) var confirmed = LSN.zero
  /// Whether an update found no room in libpq's buffer. Only the newest position matters, so it is not
  /// queued.
  private var owesStatus = false
  private var unsent = false

  /// Connects; blocks for at most `connect_timeout` (5 s by default) for each host.
  public init(_ settings: PostgresSettings) throws(PostgresError) {
    connection = try PostgresConnection.connect(settings, .replication)
  }

  /// The descriptor to poll for reading, and for writing too while `wantsToWrite`.
  public var descriptor: Int32 { connection.descriptor }
  public var wantsToWrite: Bool { unsent || owesStatus }
  /// The walsender's process, which `pg_replication_slots.active_pid` shows.
  public var backendPID: Int32 { connection.backendPID }
  /// For example 150004 for 15.4.
  public var serverVersion: Int { Int(connection.serverVersion) }
  /// Database and server in words, without a secret.
  public var place: String { connection.place }

  /// Which PostgreSQL this is, and on which timeline.
  public func identifySystem() throws(PostgresError) -> ServerIdentity {
    let rows = try connection.run("IDENTIFY_SYSTEM", nil, .query)
    guard let row = rows.first, let system = row["systemid"], let timeline = row.integer("timeline"),
      let timeline = UInt32(exactly: timeline)
    else { throw malformed("IDENTIFY_SYSTEM") }
    return ServerIdentity(systemID: system, timeline: timeline)
  }

  /// Creates a logical slot for pgoutput and returns its consistent point: every transaction that commits
  /// behind it will be sent.
  ///
  /// The server first waits for the transactions that are writing at this moment, so this may take as long as
  /// they do.
  /// - Parameters:
  ///   - temporary: the slot ends with this connection.
  ///   - timeout: nanoseconds, after which `timedOut` is thrown and no slot is left.
  public func createSlot(
    _ name: String, temporary: Bool, timeout: UInt64 = 30_000_000_000
  ) throws(PostgresError) -> LSN {
    let command =
      "CREATE_REPLICATION_SLOT \(quotedIdentifier(name)) \(temporary ? "TEMPORARY " : "")"
      + "LOGICAL pgoutput NOEXPORT_SNAPSHOT"
    let rows: Rows
    do throws(PostgresError) {
      rows = try connection.run(command, nil, .creatingSlot(name), timeout: timeout)
    } catch {
      guard error.kind == .timedOut else { throw error }
      var error = error
      error.what = "PostgreSQL has not created replication slot \(name) in time"
      error.fix =
        "It waits until every transaction that was writing has ended; see pg_stat_activity.xact_start."
      throw error
    }
    guard let point = rows.first?["consistent_point"].flatMap({ LSN($0) }) else {
      throw malformed("CREATE_REPLICATION_SLOT")
    }
    return point
  }

  /// Drops a slot that nobody uses.
  public func dropSlot(_ name: String) throws(PostgresError) {
    _ = try connection.run("DROP_REPLICATION_SLOT \(quotedIdentifier(name))", nil, .droppingSlot(name))
  }

  /// Begins to stream from where the slot stands.
  ///
  /// The position asked for is 0/0: the server skips forward to the slot's own without a word whatever is
  /// asked for, so nothing could be relied upon anyway.
  /// - Throws: `slotActive` if another connection has the slot, `slotMissing`, `slotLost`.
  public mutating func start(slot: String, publication: String) throws(PostgresError) {
    self.publication = publication
    // `messages` came with version 14.
    let options =
      "proto_version '1', publication_names \(replicationLiteral(quotedIdentifier(publication)))"
      + (connection.serverVersion >= 140_000 ? ", messages 'on'" : "")
    _ = try connection.run(
      "START_REPLICATION SLOT \(quotedIdentifier(slot)) LOGICAL 0/0 (\(options))", nil,
      .startingStream(slot: slot))
  }

  /// Hands over what has arrived, in order, without waiting and without copying.
  ///
  /// - Parameters:
  ///   - limit: how many messages at most.
  ///   - body: returns false to stop after this message. The message's bytes end with the call.
  /// - Throws: `.connection` when the stream is over, whatever the reason; `.body` what `body` threw, after
  ///   which the message counts as taken.
  public mutating func drain<Failure: Error>(
    limit: Int, _ body: (StreamMessage) throws(Failure) -> Bool
  ) throws(DrainError<Failure>) -> Drained {
    var taken = 0
    var goesOn = true
    var readDry = false
    while goesOn, taken < limit {
      var frameIsSound = true
      var replyRequested = false
      let step = try connection.nextCopyData { (frame) throws(Failure) in
        guard let message = StreamMessage(frame: frame) else {
          frameIsSound = false
          return
        }
        if case .keepalive(_, true) = message { replyRequested = true }
        goesOn = try body(message)
      }
      do throws(PostgresError) {
        switch step {
        case .message:
          guard frameIsSound else { throw malformed("START_REPLICATION") }
          taken += 1
          readDry = false
          if replyRequested { try confirm(confirmed) }
        case .nothingYet:
          // Only a read that completes no message shows that the socket is empty.
          if readDry { return .empty }
          readDry = true
          try connection.consume()
          try flush()
        case .end: throw endOfStream()
        }
      } catch {
        throw .connection(error)
      }
    }
    return .more
  }

  /// Tells the server that everything up to `position` will not be needed again. Zero says nothing and only
  /// shows that we are alive. Does not wait: see `wantsToWrite` and `flush`.
  public mutating func confirm(_ position: LSN) throws(PostgresError) {
    confirmed = max(confirmed, position)
    owesStatus = true
    try flush()
  }

  /// Writes what waits to be written, as far as there is room; called when the descriptor is writable.
  public mutating func flush() throws(PostgresError) {
    if owesStatus {
      let update = statusUpdate(confirmed, clock: postgresMicroseconds())
      owesStatus = try !connection.putCopyData(update)
    }
    unsent = try connection.flush()
  }

  /// Ends the stream in good order: the last confirmation arrives, and the slot is free when this returns.
  ///
  /// - Parameter timeout: nanoseconds to wait for the server's farewell. It may be in the middle of sending a
  ///   large transaction; then the connection is simply closed, and the slot becomes free a moment later.
  public consuming func stop(timeout: UInt64 = 1_000_000_000) {
    let deadline = monotonicNanoseconds() &+ timeout
    do {
      try flush()
      var farewellSent = false
      stream: while true {
        if !farewellSent { farewellSent = try connection.putCopyEnd() }
        let unsent = try connection.flush()
        switch try connection.nextCopyData({ (_) throws(Never) in }) {
        case .message: continue
        case .end: break stream
        case .nothingYet:
          let ready = waitForSocket(
            descriptor, alsoWritable: unsent || !farewellSent, deadline: deadline)
          guard ready else { return }
          try connection.consume()
        }
      }
      // The server closes its side before it says that the slot is released.
      while true {
        if connection.isBusy {
          guard waitForSocket(descriptor, alsoWritable: false, deadline: deadline) else { return }
          try connection.consume()
        } else if case .end = try connection.step(.streaming(publication: publication)) {
          return
        }
      }
    } catch {
      // The connection was lost meanwhile, which frees the slot as well.
    }
  }

  /// Why the server ended a stream that nobody asked it to end.
  private func endOfStream() -> PostgresError {
    do throws(PostgresError) {
      _ = try connection.step(.streaming(publication: publication))
    } catch {
      return error
    }
    return .lost("the server ended the stream", place: connection.place)
  }

  private func malformed(_ command: String) -> PostgresError {
    PostgresError(
      kind: .protocolViolation, what: "PostgreSQL's answer to \(command) cannot be read",
      place: connection.place)
  }
}
