import Invalidation

/// How replies come, and what the scripts' answers mean.
extension RedisSink {
  public mutating func receive() throws(SinkError) -> StateReply? {
    do throws(RedisError) {
      if unsent { unsent = try !connection.write() }
      var reply = try connection.next()
      if reply == nil {
        try connection.read()
        reply = try connection.next()
      }
      guard let request = underWay else {
        // Nothing was asked: reading has only told whether the connection still stands.
        guard reply == nil else { throw RedisError(unexpected: "nothing", place: connection.place) }
        return nil
      }
      guard let reply else {
        // Judged after reading, so that an answer which came while this process was stopped still counts.
        if bootInstant().since(sent) > timeout {
          throw RedisError(
            .timedOut, "Redis at \(connection.place) did not answer \"\(request.rawValue)\" in time.")
        }
        return nil
      }
      if case .error(let text) = reply, text.hasPrefix("NOSCRIPT") {
        // Somebody ran SCRIPT FLUSH; EVAL runs the script and keeps it.
        arguments = arguments.replacingFirst(["EVAL", request.script])
        try connection.append(arguments)
        sent = bootInstant()
        unsent = try !connection.write()
        return nil
      }
      underWay = nil
      if case .error(let text) = reply { throw RedisError(answer: text, place: connection.place) }
      guard let parsed = parse(reply, of: request) else {
        throw RedisError(unexpected: "\"\(request.rawValue)\"", place: connection.place)
      }
      return parsed
    } catch { throw SinkError(error) }
  }

  private func parse(_ reply: RedisReply, of request: Request) -> StateReply? {
    guard let elements = reply.elements, let word = elements.first?.text else { return nil }
    let texts = elements.map(\.text)
    func text(_ index: Int) -> String? { index < texts.count ? texts[index] : nil }
    switch word {
    case "NOSTATE": return .noState
    case "FENCED": return .fenced
    case "REGRESSED": return .regressed
    case "RACE": return .raced
    case "SYSID": return text(1).map { .otherSystem($0) }
    case "OLDTL": return text(1).map { .olderTimeline($0) }
    case "NEEDGEN": return text(1).flatMap { Generation(hex: $0) }.map { .needsGeneration($0) }
    case "OK": break
    default: return nil
    }
    switch request {
    case .apply:
      guard let w = text(1).flatMap({ LSN(hex: $0) }), let v = text(2).flatMap({ LSN(hex: $0) })
      else { return nil }
      guard let pending = pending(elements, 4) else { return nil }
      return .applied(W: w, V: v, generationAsked: ["1", "2"].contains(text(3)), pending: pending)
    case .takeover:
      guard let g = text(1).flatMap({ Generation(hex: $0) }), let w = text(2).flatMap({ LSN(hex: $0) }),
        let v = text(3).flatMap({ LSN(hex: $0) }), let n = text(4).flatMap({ UInt64($0) })
      else { return nil }
      return .takenOver(
        StateReply.Takeover(
          generation: g, applied: w, visible: v, count: n, watching: text(7) == "1",
          cleared: text(8) == g.hex))
    case .newGeneration: return .began
    case .purge, .sweep:
      guard let cursor = text(1), elements.count > 2, case .integer(let removed) = elements[2]
      else { return nil }
      return .purgeStep(cursor: cursor, removed: Int(removed))
    case .purged: return .cleared
    case .swept: return pending(elements, 1).map { .swept(left: $0) }
    }
  }

  private func pending(_ elements: [RedisReply], _ index: Int) -> PendingGroups? {
    guard index < elements.count, case .bulk(let bytes) = elements[index] else { return nil }
    return PendingGroups(bytes: bytes)
  }
}
