/// What a load found, as Redis would keep it.
enum LoadedValue: Sendable, Equatable {
  case string([UInt8])
  case hash([Field])
  case list([[UInt8]])
  case set([[UInt8]])

  struct Field: Sendable, Equatable {
    var name: [UInt8]
    var value: [UInt8]
  }

  /// nil: there is nothing that could be kept, since no row was found or all of it is NULL. A field or an element
  /// that is NULL is left out.
  init?(_ rows: SQLRows, as shape: SQLStatement.Shape) {
    switch shape {
    case .string:
      guard let value = rows.values.first ?? nil else { return nil }
      self = .string(value)
    case .hash:
      let fields = zip(rows.columns, rows.values).compactMap { name, value in
        value.map { Field(name: Array(name.utf8), value: $0) }
      }
      guard !fields.isEmpty else { return nil }
      self = .hash(fields)
    case .list, .set:
      let elements = rows.values.compactMap { $0 }
      guard !elements.isEmpty else { return nil }
      if shape == .list {
        self = .list(elements)
      } else {
        var seen = Set<[UInt8]>()
        self = .set(elements.filter { seen.insert($0).inserted })
      }
    }
  }

  /// The arguments of the script that stores it.
  var arguments: [[UInt8]] {
    switch self {
    case .string(let value): [value]
    case .hash(let fields): fields.flatMap { [$0.name, $0.value] }
    case .list(let elements), .set(let elements): elements
    }
  }

  /// The type as Redis names it.
  var type: String {
    switch self {
    case .string: "string"
    case .hash: "hash"
    case .list: "list"
    case .set: "set"
    }
  }
}

/// Replies that are made of a loaded value, without Redis.
enum LoadedReply {
  /// Whether `command`, which reads a key of this shape, can be answered here.
  static func canForm(_ command: String, _ shape: SQLStatement.Shape) -> Bool {
    switch (command, shape) {
    case ("exists", _), ("type", _): true
    case ("get", .string), ("mget", .string), ("strlen", .string), ("lease", .string): true
    case ("hgetall", .hash), ("hget", .hash), ("hmget", .hash), ("hexists", .hash), ("hlen", .hash): true
    case ("smembers", .set), ("scard", .set), ("sismember", .set): true
    case ("lrange", .list), ("llen", .list): true
    default: false
    }
  }
}

extension IOBuffer {
  /// Appends the reply to a read command of this one key that `LoadedReply.canForm` names; false: it cannot be
  /// made, and nothing was appended.
  mutating func loaded(_ value: LoadedValue, _ command: String, _ request: Request, resp3: Bool) -> Bool {
    switch (command, value) {
    case ("type", _): status(value)
    case ("exists", _): integer(1)
    case ("get", .string(let bytes)): bulk(bytes)
    case ("strlen", .string(let bytes)): integer(bytes.count)
    case ("hgetall", .hash(let fields)):
      map(fields.count, resp3: resp3)
      for field in fields {
        bulk(field.name)
        bulk(field.value)
      }
    case ("hget", .hash(let fields)): bulk(of: fields, request[2], resp3: resp3)
    case ("hmget", .hash(let fields)):
      array(request.count - 2)
      for index in 2..<request.count { bulk(of: fields, request[index], resp3: resp3) }
    case ("hexists", .hash(let fields)):
      integer(fields.contains { $0.name.elementsEqual(request[2]) } ? 1 : 0)
    case ("hlen", .hash(let fields)): integer(fields.count)
    case ("smembers", .set(let members)):
      append(resp3 ? "~" : "*")
      append(number: members.count)
      append("\r\n")
      for member in members { bulk(member) }
    case ("scard", .set(let members)): integer(members.count)
    case ("sismember", .set(let members)): integer(members.contains { $0.elementsEqual(request[2]) } ? 1 : 0)
    case ("llen", .list(let elements)): integer(elements.count)
    case ("lrange", .list(let elements)):
      guard let first = request.integer(2), let last = request.integer(3) else { return false }
      let from = max(0, first < 0 ? elements.count + first : first)
      let to = min(elements.count - 1, last < 0 ? elements.count + last : last)
      let range = from <= to ? from..<to + 1 : 0..<0
      array(range.count)
      for element in elements[range] { bulk(element) }
    default: return false
    }
    return true
  }

  private mutating func status(_ value: LoadedValue) {
    append("+")
    append(value.type)
    append("\r\n")
  }

  private mutating func bulk(of fields: [LoadedValue.Field], _ name: UnsafeRawBufferPointer, resp3: Bool) {
    guard let field = fields.first(where: { $0.name.elementsEqual(name) }) else { return null(resp3: resp3) }
    bulk(field.value)
  }

  mutating func bulk(_ value: [UInt8]) { value.withUnsafeBytes { bulk($0) } }
}
