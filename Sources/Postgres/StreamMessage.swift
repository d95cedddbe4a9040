import Invalidation

/// One message of a replication stream. The bytes are valid only while the closure that got it runs.
///
/// Source: PostgreSQL documentation, 55.4 "Streaming Replication Protocol", START_REPLICATION.
public enum StreamMessage {
  /// XLogData: a message of the output plugin. `start` is the log position it belongs to, `serverEnd` the
  /// end of the server's log as far as the walsender knows it.
  case data(start: LSN, serverEnd: LSN, payload: UnsafeRawBufferPointer)
  /// A sign of life. With nothing pending, everything up to `serverEnd` has been sent. `ReplicationStream`
  /// has already answered a request for a reply.
  case keepalive(serverEnd: LSN, replyRequested: Bool)

  /// Reads the frame that CopyData carries; nil if it is none of the two or its length is wrong.
  init?(frame: UnsafeRawBufferPointer) {
    switch frame.first {
    case UInt8(ascii: "w"):
      // Tag, start, end and the time of sending, which nobody needs.
      guard frame.count >= 25 else { return nil }
      self = .data(
        start: Self.position(frame, at: 1), serverEnd: Self.position(frame, at: 9),
        payload: UnsafeRawBufferPointer(rebasing: frame[25...]))
    case UInt8(ascii: "k"):
      guard frame.count == 18, frame[17] <= 1 else { return nil }
      self = .keepalive(serverEnd: Self.position(frame, at: 1), replyRequested: frame[17] == 1)
    default: return nil
    }
  }

  private static func position(_ frame: UnsafeRawBufferPointer, at offset: Int) -> LSN {
    LSN(UInt64(bigEndian: frame.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
  }
}

/// The standby status update, which names `position` as written, flushed and applied: 34 bytes. It asks for
/// no answer. Source: the same, "Standby status update (F)".
func statusUpdate(_ position: LSN, clock: Int64) -> [UInt8] {
  var bytes: [UInt8] = [UInt8(ascii: "r")]
  bytes.reserveCapacity(34)
  for number in [position.rawValue, position.rawValue, position.rawValue, UInt64(bitPattern: clock)] {
    withUnsafeBytes(of: number.bigEndian) { bytes.append(contentsOf: $0) }
  }
  bytes.append(0)
  return bytes
}

/// Why draining a stream stopped: the connection, or the caller's own closure.
public enum DrainError<Failure: Error>: Error {
  case connection(PostgresError)
  case body(Failure)
}

/// What is left after draining a stream.
public enum Drained: Sendable {
  /// Nothing more has arrived: poll the descriptor.
  case empty
  /// The limit was reached or the closure asked to stop; messages may wait that no poll will report.
  case more
}
