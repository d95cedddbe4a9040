import Invalidation

/// CLIENT PAUSE: until when commands of this socket's clients wait, and which.
///
/// Redis's own would hold up the sidecar, too, and with it whatever clears keys; so it is carried out here, for the
/// clients of this socket. Which commands wait is said by their flags `write` and `may_replicate`.
/// Source: Redis 7.0's server.c, `processCommand`, and networking.c, `pauseClients`.
struct ClientPause {
  private(set) var until: Instant?
  /// Not only what writes.
  private(set) var coversAll = false

  var isOn: Bool { until != nil }

  /// One that is on already becomes longer and wider, never shorter or narrower.
  mutating func begin(until end: Instant, coversAll: Bool) {
    until = max(until ?? end, end)
    self.coversAll = self.coversAll || coversAll
  }

  mutating func end() { self = ClientPause() }

  mutating func tick(_ now: Instant) {
    if let until, now >= until { end() }
  }
}

extension EventLoop {
  mutating func executePause(_ request: Request, _ slot: Int) {
    guard request.count == 3 || request.count == 4 else { return wrongCount("client|pause", slot) }
    if request.count == 4, !request.isWord(3, "write"), !request.isWord(3, "all") {
      return reply(slot) { $0.error("ERR CLIENT PAUSE mode must be WRITE or ALL") }
    }
    guard let milliseconds = request.integer(2) else {
      return reply(slot) { $0.error("ERR timeout is not an integer or out of range") }
    }
    guard milliseconds >= 0 else { return reply(slot) { $0.error("ERR timeout is negative") } }
    let (nanoseconds, isTooLong) = UInt64(milliseconds).multipliedReportingOverflow(by: 1_000_000)
    let (end, isBeyond) = now.nanoseconds.addingReportingOverflow(nanoseconds)
    if milliseconds > 0 {
      clientPause.begin(
        until: Instant(nanoseconds: isTooLong || isBeyond ? .max : end),
        coversAll: !(request.count == 4 && request.isWord(3, "write")))
      publishEvidence()
    }
    reply(slot) { $0.status("OK") }
  }

  mutating func executeUnpause(_ request: Request, _ slot: Int) {
    guard request.count == 2 else { return wrongCount("client|unpause", slot) }
    clientPause.end()
    publishEvidence()
    reply(slot) { $0.status("OK") }
  }

  /// Whether the command waits for the end of CLIENT PAUSE; then it is executed again.
  mutating func waitsForUnpause(_ request: Request, _ spec: CommandSpec?, _ slot: Int) -> Bool {
    guard clientPause.isOn, transacting == nil, loading.resumed == nil else { return false }
    let isEnd = spec?.name == "client" && request.isWord(1, "unpause")
    guard clientPause.coversAll ? !isEnd : mayReplicate(request, spec, slot) else { return false }
    pause(slot, .clientPause)
    return true
  }

  private func mayReplicate(_ request: Request, _ spec: CommandSpec?, _ slot: Int) -> Bool {
    guard spec?.name == "exec" else { return Self.mayReplicate(request, spec) }
    let session = clients[slot].session
    // What was queued in another database is not known here.
    return session.isQueueingElsewhere || session.transaction?.mayReplicate == true
  }

  /// Whether a command has the flag `write` or `may_replicate`. Of EVALSHA and FCALL only Redis knows, so they have.
  static func mayReplicate(_ request: Request, _ spec: CommandSpec?) -> Bool {
    guard let spec else { return true }
    switch spec.kind {
    case .local where spec.name == "nearside":
      return request.count > 1 && (request.isWord(1, "fill") || request.isWord(1, "invalidate"))
    case .local, .near, .transaction, .subscription: return false
    case .read: return spec.name == "pfcount"
    case .replace, .replaceMany, .merge, .remove, .expiry: return true
    case .blocking: return spec.name != "xread" && spec.name != "wait"
    case .refuse:
      return ["flushall", "flushdb", "migrate", "restore-asking", "swapdb"].contains(spec.name)
    case .pass where spec.name == "eval": return !isReadOnlyScript(request[1])
    case .pass where spec.name == "function":
      return ["load", "delete", "flush", "restore"].contains(request.word(1))
    case .pass: return !readOnly.contains(spec.name)
    }
  }

  private static let readOnly: Set<String> = [
    "dbsize", "time", "randomkey", "scan", "lolwut", "script", "pubsub", "object", "memory", "xinfo",
    "eval_ro",
    "evalsha_ro", "fcall_ro", "sintercard", "zdiff", "zinter", "zintercard", "zunion", "keys", "lastsave",
    "sort_ro",
  ]

  /// Whether the first line of a script is `#!lua` with the flag `no-writes`.
  private static func isReadOnlyScript(_ script: UnsafeRawBufferPointer) -> Bool {
    guard script.starts(with: "#!".utf8) else { return false }
    let line = String(decoding: script.prefix(512).prefix { $0 != 10 }, as: UTF8.self)
    return line.split(separator: " ").contains { word in
      word.hasPrefix("flags=") && word.dropFirst("flags=".count).split(separator: ",").contains("no-writes")
    }
  }
}
