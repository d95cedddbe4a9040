import Configuration

/// One key that a command names, and what the command does with it.
struct KeyUse {
  enum Kind: Int {
    case read
    /// It depends on what is there and on the command's own arguments: a queue's end that is popped, a key renamed away.
    case changed
    /// What is there afterwards may come from the command's other keys.
    case made
  }

  /// Of the argument.
  var index: Int
  var kind: Kind
}

extension EventLoop {
  /// The keys of a command of kind `.pass`, or of XREAD and XREADGROUP. nil: they cannot be told, since it is none of
  /// Redis 7.0 or its arguments are wrong.
  func keyUses(_ request: Request, _ name: String) -> [KeyUse]? {
    func uses(_ places: some Sequence<Int>, _ kind: KeyUse.Kind) -> [KeyUse]? {
      let uses = places.map { KeyUse(index: $0, kind: kind) }
      return uses.allSatisfy { $0.index < request.count } ? uses : nil
    }
    func counted(at place: Int, _ kind: KeyUse.Kind) -> [KeyUse]? {
      // With another number Redis refuses the command.
      guard place < request.count, let count = request.integer(place), count >= 0,
        count < request.count - place
      else { return [] }
      return uses(place + 1..<place + 1 + count, kind)
    }
    func with(_ first: [KeyUse]?, _ second: [KeyUse]?) -> [KeyUse]? {
      guard let first, let second else { return nil }
      return first + second
    }
    switch name {
    case "dbsize", "time", "randomkey", "scan", "keys", "lastsave", "lolwut", "publish", "spublish", "script",
      "function", "pubsub", "save", "bgsave", "bgrewriteaof", "acl", "latency", "slowlog", "module", "swapdb":
      return []
    case "object", "memory", "xinfo": return request.count > 2 ? uses([2], .read) : []
    case "xgroup": return request.count > 2 ? uses([2], .changed) : []
    case "eval", "evalsha", "fcall": return counted(at: 2, .made)
    case "eval_ro", "evalsha_ro", "fcall_ro": return counted(at: 2, .read)
    case "sintercard", "zdiff", "zinter", "zintercard", "zunion": return counted(at: 1, .read)
    case "lmpop", "zmpop": return counted(at: 1, .changed)
    case "msetnx": return uses(stride(from: 1, to: request.count, by: 2), .changed)
    case "rename", "renamenx", "lmove", "rpoplpush", "smove":
      return with(uses([1], .changed), uses([2], .made))
    case "move", "xclaim", "xautoclaim", "restore", "restore-asking": return uses([1], .changed)
    case "copy":
      let isElsewhere = (3..<max(3, request.count - 1)).contains {
        request.isWord($0, "db") && request.integer($0 + 1) != settings.redis?.database ?? 0
      }
      return with(uses([1], .read), isElsewhere ? [] : uses([2], .made))
    case "bitop": return with(uses([2], .made), uses(3..<max(3, request.count), .read))
    case "pfmerge", "sdiffstore", "sinterstore", "sunionstore":
      return with(uses([1], .made), uses(2..<request.count, .read))
    case "zrangestore", "geosearchstore": return with(uses([1], .made), uses([2], .read))
    case "zdiffstore", "zinterstore", "zunionstore": return with(uses([1], .made), counted(at: 2, .read))
    case "georadius", "georadiusbymember":
      return with(uses([1], .read), stored(request, ["store", "storedist"]))
    case "sort": return with(uses([1], .read), stored(request, ["store"]))
    case "sort_ro": return uses([1], .read)
    case "xread", "xreadgroup":
      let first = name == "xread" ? 1 : 4
      guard let word = (first..<max(first, request.count)).first(where: { request.isWord($0, "streams") })
      else {
        return nil
      }
      let streams = (request.count - word - 1) / 2
      return uses(word + 1..<word + 1 + streams, name == "xread" ? .read : .changed)
    default: return nil
    }
  }

  /// The destination behind one of these options.
  private func stored(_ request: Request, _ options: Set<String>) -> [KeyUse] {
    (2..<max(2, request.count - 1)).filter { options.contains(request.word($0)) }
      .map { KeyUse(index: $0 + 1, kind: .made) }
  }

  /// Whether SORT looks up governed keys by a pattern, which no state can judge.
  func readsOthers(_ request: Request) -> Bool {
    let own = Array(settings.keyPrefix.utf8)
    return (2..<max(2, request.count - 1)).contains { index in
      guard request.isWord(index, "by") || request.isWord(index, "get") else { return false }
      let pattern = request[index + 1]
      guard let star = pattern.firstIndex(of: UInt8(ascii: "*")) else { return false }
      let known = pattern[..<star]
      return known.starts(with: own) || own.starts(with: known)
    }
  }

  /// What a read of these answers for a key that does not exist.
  static func absentReply(_ name: String) -> AbsentReply {
    switch name {
    case "sintercard", "zintercard": .zero
    case "zinter", "sort", "sort_ro", "georadius", "georadiusbymember": .emptyArray
    case "object", "memory": .null
    default: .unknown
    }
  }
}
