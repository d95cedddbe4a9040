import Invalidation

/// How replies come, and what the scripts' answers mean.
extension RedisSink {
  public mutating func receive() throws(SinkError) -> StateReply? {
    do throws(RedisError) {
      if unsent { unsent = try !connection.write() }
      var hasRead = false
      while true {
        guard let reply = try connection.next() else {
          if !hasRead {
            try connection.read()
            hasRead = true
            continue
          }
          // Judged after reading, so that an answer which came while this process was stopped still counts.
          if let request = underWay, bootInstant().since(sent) > timeout {
            throw RedisError(
              .timedOut, "Redis at \(connection.place) did not answer \"\(request.rawValue)\" in time.")
          }
          return nil
        }
        guard let request = underWay else {
          // Nothing was asked: reading has only told whether the connection still stands.
          throw RedisError(unexpected: "nothing", place: connection.place)
        }
        switch expected.removeFirst() {
        case .nothing: break
        case .clock: take(clock: reply)
        case .answer:
          if case .error(let text) = reply, text.hasPrefix("NOSCRIPT") {
            try repeatWithScript(request)
            return nil
          }
          held = try answer(reply, to: request)
        }
        if expected.isEmpty {
          underWay = nil
          defer { held = nil }
          return held
        }
      }
    } catch { throw SinkError(error) }
  }

  private func answer(_ reply: RedisReply, to request: Request) throws(RedisError) -> StateReply {
    if case .error(let text) = reply { throw RedisError(answer: text, place: connection.place) }
    guard let parsed = parse(reply, of: request) else {
      throw RedisError(unexpected: "\"\(request.rawValue)\"", place: connection.place)
    }
    return parsed
  }

  /// Somebody ran SCRIPT FLUSH; EVAL runs the script and keeps it.
  private mutating func repeatWithScript(_ request: Request) throws(RedisError) {
    arguments = arguments.replacingFirst(["EVAL", request.script])
    try connection.append(&arguments)
    sent = bootInstant()
    unsent = try !connection.write()
    expected = expected.map { _ in .nothing } + [.answer]
  }

  /// - Parameter reply: TIME's, seconds and microseconds, or an error, which tells nothing.
  private mutating func take(clock reply: RedisReply) {
    guard let parts = reply.elements?.map(\.text), parts.count == 2,
      let seconds = parts[0].flatMap({ UInt64($0) }),
      let microseconds = parts[1].flatMap({ UInt64($0) })
    else { return }
    let now = seconds * 1_000_000 + microseconds
    if let clock, now >= clock { stepSize.took(now - clock) }
    clock = now
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
