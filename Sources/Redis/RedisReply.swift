import CHiredis

/// An answer of Redis in protocol version 2, copied out of hiredis.
public enum RedisReply: Hashable, Sendable {
  case status(String)
  /// Redis's own text, beginning with its code word, such as `WRONGTYPE`.
  case error(String)
  case integer(Int64)
  case bulk([UInt8])
  case null
  indirect case array([RedisReply])

  /// The text of a bulk string or status.
  public var text: String? {
    switch self {
    case .bulk(let bytes): String(decoding: bytes, as: UTF8.self)
    case .status(let text): text
    default: nil
    }
  }

  public var elements: [RedisReply]? {
    if case .array(let elements) = self { elements } else { nil }
  }

  /// Copies and frees what hiredis returned.
  init(taking raw: UnsafeMutableRawPointer) {
    self.init(raw.assumingMemoryBound(to: redisReply.self).pointee)
    freeReplyObject(raw)
  }

  private init(_ reply: redisReply) {
    switch reply.type {
    case REDIS_REPLY_STATUS: self = .status(String(decoding: Self.bytes(reply), as: UTF8.self))
    case REDIS_REPLY_ERROR: self = .error(String(decoding: Self.bytes(reply), as: UTF8.self))
    case REDIS_REPLY_INTEGER: self = .integer(reply.integer)
    case REDIS_REPLY_STRING: self = .bulk(Self.bytes(reply))
    case REDIS_REPLY_ARRAY:
      var elements: [RedisReply] = []
      elements.reserveCapacity(Int(reply.elements))
      for index in 0..<Int(reply.elements) {
        elements.append(reply.element[index].map { RedisReply($0.pointee) } ?? .null)
      }
      self = .array(elements)
    default: self = .null
    }
  }

  private static func bytes(_ reply: redisReply) -> [UInt8] {
    guard let text = reply.str else { return [] }
    return Array(UnsafeRawBufferPointer(start: text, count: Int(reply.len)))
  }
}
