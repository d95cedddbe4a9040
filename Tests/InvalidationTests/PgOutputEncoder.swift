import Invalidation

/// The opposite codec: writes the messages that LogReader reads.
/// Source: PostgreSQL documentation, 55.9 "Logical Replication Message Formats".
enum PgOutput {
  enum Value {
    case null
    case unchanged
    case text(String)
    case bytes([UInt8])
    case binary([UInt8])
  }

  struct Column {
    var name: String
    var type: UInt32
    var isKey = false
  }

  static func begin(commit: UInt64, xid: UInt32, at: Int64 = 0) -> [UInt8] {
    [UInt8(ascii: "B")] + big(commit) + big(UInt64(bitPattern: at)) + big(xid)
  }

  static func commit(_ commit: UInt64, end: UInt64, at: Int64 = 0) -> [UInt8] {
    [UInt8(ascii: "C"), 0] + big(commit) + big(end) + big(UInt64(bitPattern: at))
  }

  static func origin(_ name: String) -> [UInt8] { [UInt8(ascii: "O")] + big(UInt64(77)) + zero(name) }

  static func type(_ id: UInt32, schema: String, name: String) -> [UInt8] {
    [UInt8(ascii: "Y")] + big(id) + zero(schema) + zero(name)
  }

  static func message(
    _ prefix: String, _ content: [UInt8], transactional: Bool, at: UInt64
  ) -> [UInt8] {
    [UInt8(ascii: "M"), transactional ? 1 : 0] + big(at) + zero(prefix) + big(UInt32(content.count)) + content
  }

  static func relation(
    _ id: UInt32, schema: String = "public", name: String, identity: Character = "d", columns: [Column]
  ) -> [UInt8] {
    var bytes = [UInt8(ascii: "R")] + big(id) + zero(schema) + zero(name)
    bytes += Array(String(identity).utf8) + big(UInt16(columns.count))
    for column in columns {
      bytes += [column.isKey ? 1 : 0] + zero(column.name) + big(column.type) + big(UInt32.max)
    }
    return bytes
  }

  static func insert(_ id: UInt32, _ new: [Value]) -> [UInt8] {
    [UInt8(ascii: "I")] + big(id) + [UInt8(ascii: "N")] + tuple(new)
  }

  static func update(
    _ id: UInt32, old: [Value]? = nil, tag: Character = "O", _ new: [Value]
  ) -> [UInt8] {
    let before = old.map { Array(String(tag).utf8) + tuple($0) } ?? []
    return [UInt8(ascii: "U")] + big(id) + before + [UInt8(ascii: "N")] + tuple(new)
  }

  static func delete(_ id: UInt32, tag: Character = "K", _ old: [Value]) -> [UInt8] {
    [UInt8(ascii: "D")] + big(id) + Array(String(tag).utf8) + tuple(old)
  }

  static func truncate(_ ids: [UInt32], options: UInt8 = 0) -> [UInt8] {
    [UInt8(ascii: "T")] + big(UInt32(ids.count)) + [options] + ids.flatMap { big($0) }
  }

  static func tuple(_ values: [Value]) -> [UInt8] {
    var bytes = big(UInt16(values.count))
    for value in values {
      switch value {
      case .null: bytes.append(UInt8(ascii: "n"))
      case .unchanged: bytes.append(UInt8(ascii: "u"))
      case .text(let text):
        bytes += [UInt8(ascii: "t")] + big(UInt32(text.utf8.count)) + Array(text.utf8)
      case .bytes(let text): bytes += [UInt8(ascii: "t")] + big(UInt32(text.count)) + text
      case .binary(let data): bytes += [UInt8(ascii: "b")] + big(UInt32(data.count)) + data
      }
    }
    return bytes
  }

  static func big<Number: FixedWidthInteger>(_ value: Number) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0) }
  }

  static func zero(_ text: String) -> [UInt8] { Array(text.utf8) + [0] }
}

extension PgOutput.Value: ExpressibleByStringLiteral, ExpressibleByNilLiteral {
  init(stringLiteral text: String) { self = .text(text) }
  init(nilLiteral: ()) { self = .null }
}
