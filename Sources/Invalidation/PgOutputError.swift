/// Why bytes of the replication stream could not be read. The stream cannot be resumed after any of these:
/// close it and start again from the slot.
///
/// `at` is the offset within the message, from 0.
public enum PgOutputError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The message ends before the field that begins at `at`.
  case truncated(at: Int)
  /// A byte that names a kind of message, tuple or value is none that protocol version 1 knows.
  case unknownTag(UInt8, at: Int)
  /// A value came in binary form, which is never asked for.
  case binaryValue(at: Int)
  /// A count or length is negative, or contradicts what the Relation message said.
  case badLength(at: Int)
  /// The message goes on after its last field.
  case trailingBytes(at: Int)
  /// A row or TRUNCATE names a relation that no Relation message of this stream described.
  case unknownRelation(UInt32)
  /// The message does not fit what came before it; the sentence says how.
  case outOfOrder(String)

  public var description: String {
    switch self {
    case .truncated(let at): "the replication message ends too early, at byte \(at)"
    case .unknownTag(let byte, let at):
      "the replication message has the unknown tag \(byte) at byte \(at)"
    case .binaryValue(let at):
      "the replication message has a binary value at byte \(at), which was not asked for"
    case .badLength(let at): "the replication message has an impossible length at byte \(at)"
    case .trailingBytes(let at): "the replication message goes on after its end, at byte \(at)"
    case .unknownRelation(let id):
      "the replication stream sent a change of relation \(id) without describing the relation"
    case .outOfOrder(let what): "the replication stream is out of order: \(what)"
    }
  }
}
