/// Which keys a command reads, and which it writes, as far as CLIENT TRACKING must know.
enum TrackedKeys {
  /// Calls `body` with each key that the command reads. What a script declares counts as read.
  /// Source: Redis's COMMAND, the commands flagged `readonly` and their key specifications.
  static func forEachRead(
    _ request: Request, _ spec: CommandSpec?, _ body: (UnsafeRawBufferPointer) -> Void
  ) {
    guard let spec else { return }
    switch spec.name {
    case "sintercard", "zdiff", "zinter", "zintercard", "zunion": return counted(1, request, body)
    case "eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro": return counted(2, request, body)
    case "object", "memory", "xinfo":
      if request.count > 2 { body(request[2]) }
      return
    case "xread": return streams(request, body)
    default: break
    }
    switch spec.kind {
    case .near, .read: for index in spec.keyIndices(count: request.count) { body(request[index]) }
    default: break
    }
  }

  private static func counted(
    _ place: Int, _ request: Request, _ body: (UnsafeRawBufferPointer) -> Void
  ) {
    guard place < request.count, let count = request.integer(place), count > 0,
      count <= request.count - place - 1
    else { return }
    for index in place + 1...place + count { body(request[index]) }
  }

  private static func streams(_ request: Request, _ body: (UnsafeRawBufferPointer) -> Void) {
    guard let word = (1..<request.count).first(where: { request.isWord($0, "streams") }) else { return }
    for index in word + 1..<word + 1 + (request.count - word - 1) / 2 { body(request[index]) }
  }

  /// The keys that a command writes, where its reply tells whether it has; empty for any other.
  static func written(_ request: Request, _ spec: CommandSpec?) -> [[UInt8]] {
    switch spec?.kind {
    case .replace, .replaceMany, .merge, .remove, .expiry:
      return spec?.keyIndices(count: request.count).map { [UInt8](request[$0]) } ?? []
    default: return []
    }
  }

  /// Whether the reply to such a command proves that each of its keys has changed.
  static func provesChange(_ name: String, keys: Int, _ reply: UnsafeRawBufferPointer) -> Bool {
    var cursor = ReplyCursor(reply)
    if cursor.isError || cursor.isNull { return false }
    switch name {
    case "set", "setex", "psetex", "mset", "hmset", "lset": return "+OK".utf8.elementsEqual(reply.prefix(3))
    case "incr", "decr", "incrby", "decrby", "incrbyfloat", "hincrby", "hincrbyfloat", "getset", "append",
      "hset", "lpush", "rpush", "zincrby":
      return true
    case "setnx", "hsetnx", "del", "unlink", "sadd", "srem", "hdel", "zrem", "lrem", "expire", "pexpire",
      "expireat", "pexpireat", "persist", "lpushx", "rpushx", "pfadd":
      return (cursor.integer() ?? 0) >= keys
    case "getdel": return true
    default: return false
    }
  }
}
