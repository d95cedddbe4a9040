import Configuration
import Invalidation

/// MULTI, EXEC, DISCARD, WATCH, UNWATCH.
///
/// Commands are queued here and sent at EXEC, in one piece and between MULTI and EXEC, so no connection is needed for
/// as long as a transaction is open. On their way governed keys become what they always become: a SET is a guarded
/// fill, a GET comes with the state that judges it, a DEL raises its fence. Nothing is answered from the near cache
/// and nothing is loaded: all of it happens in Redis, at one moment. WATCH is the exception that needs a connection
/// of the client's own, on which EXEC is then sent.
extension EventLoop {
  mutating func executeTransaction(_ request: Request, _ name: String, _ slot: Int) {
    switch name {
    case "multi":
      clients[slot].session.transaction = QueuedTransaction()
      reply(slot) { $0.status("OK") }
    case "exec": reply(slot) { $0.error("ERR EXEC without MULTI") }
    case "discard": reply(slot) { $0.error("ERR DISCARD without MULTI") }
    case "watch":
      guard let upstream = pinned(slot) else { return }
      clients[slot].session.isWatching = true
      clients[slot].owed.append(.awaited)
      request.append(to: &upstream.output)
      upstream.await(.relay(clients[slot].token))
      // What is read next must be read after it.
      pause(slot, .answer)
    default:
      unwatch(slot)
      reply(slot) { $0.status("OK") }
    }
  }

  /// The connection is given back once Redis has answered.
  mutating func unwatch(_ slot: Int) {
    guard clients[slot].session.isWatching else { return }
    clients[slot].session.isWatching = false
    clients[slot].session.hasLostWatch = false
    guard let token = clients[slot].session.pinned, let upstream = pins.connection(token), upstream.isReady
    else { return }
    upstream.output.array(1)
    upstream.output.argument("UNWATCH")
    pins.touched.append(token)
    upstream.await(.task(UpstreamTask(client: nil, work: .note)))
  }

  /// A command behind MULTI. Always dealt with here.
  mutating func queue(_ request: Request, _ spec: CommandSpec?, _ slot: Int) -> Bool {
    switch spec?.name {
    case "multi": reply(slot) { $0.error("ERR MULTI calls can not be nested") }
    case "watch": reply(slot) { $0.error("ERR WATCH inside MULTI is not allowed") }
    case "exec": exec(slot)
    case "discard":
      clients[slot].session.transaction = nil
      unwatch(slot)
      reply(slot) { $0.status("OK") }
    case "quit", "reset": return false
    default: queueCommand(request, spec, slot)
    }
    return true
  }

  private mutating func queueCommand(_ request: Request, _ spec: CommandSpec?, _ slot: Int) {
    guard let spec else {
      // A module's command has a dot in its name; any other that is not known here Redis 7.0 does not know.
      if request[0].contains(UInt8(ascii: ".")) { return append(request, nil, slot) }
      clients[slot].session.transaction?.isFailed = true
      return unknown(request, slot)
    }
    let error: String?
    switch spec.kind {
    // Source: Redis 7.0's COMMAND, flag no_multi.
    case .refuse where ["save", "shutdown", "psync", "sync"].contains(spec.name):
      error = "ERR Command not allowed inside a transaction"
    case .refuse:
      error = refusal(request, spec.name) ?? (spec.name == "monitor" ? Self.notInTransaction("monitor") : nil)
    case .subscription: error = Self.notInTransaction(spec.name)
    case .local where spec.name == "nearside" || spec.name == "hello" || spec.name == "select":
      error = Self.notInTransaction(spec.name)
    case .replace, .replaceMany, .merge, .expiry:
      error = throughRefusal(request, spec)
    default: error = nil
    }
    if let error {
      clients[slot].session.transaction?.isFailed = true
      return reply(slot) { $0.error(error) }
    }
    append(request, spec, slot)
  }

  /// Keys that are written to PostgreSQL first cannot be part of what Redis does at one moment.
  private func throughRefusal(_ request: Request, _ spec: CommandSpec) -> String? {
    for index in spec.keyIndices(count: request.count) where governance.rule(request[index])?.write != nil {
      return "ERR Nearside: this key is written to PostgreSQL, which cannot be part of a transaction in Redis"
    }
    return nil
  }

  private mutating func append(_ request: Request, _ spec: CommandSpec?, _ slot: Int) {
    let queued = clients[slot].session.transaction?.bytes.count ?? 0
    guard queued + request.length <= QueuedTransaction.mostBytes else {
      clients[slot].session.transaction?.isFailed = true
      return reply(slot) {
        $0.error("ERR Nearside: a transaction may have at most \(QueuedTransaction.mostBytes) bytes")
      }
    }
    var bytes = IOBuffer(size: request.length + 16)
    request.append(to: &bytes)
    clients[slot].session.transaction?.bytes.append(contentsOf: bytes.bytes)
    clients[slot].session.transaction?.lengths.append(bytes.count)
    if Self.mayReplicate(request, spec) { clients[slot].session.transaction?.mayReplicate = true }
    reply(slot) { $0.status("QUEUED") }
  }

  static func notInTransaction(_ name: String) -> String {
    "ERR Nearside: '\(name)' cannot be used in a transaction"
  }

  // MARK: EXEC

  static let aborted = "EXECABORT Transaction discarded because of previous errors."
  /// What Redis says of commands that it would refuse now, though it has queued them: here all of them reach it with
  /// EXEC. Source: Redis 7.0's multi.c, `execCommandAbort`.
  private static let abortedBecause = "-EXECABORT Transaction discarded because of: "

  private mutating func exec(_ slot: Int) {
    guard let transaction = clients[slot].session.transaction else { return }
    let isWatching = clients[slot].session.isWatching
    // What was sent on a shared connection comes before what goes on an own one.
    if isWatching, !clients[slot].owed.isEmpty { return pause(slot, .drain) }
    clients[slot].session.transaction = nil
    if transaction.isFailed {
      unwatch(slot)
      return reply(slot) { $0.error(Self.aborted) }
    }
    let own = clients[slot].session.pinned.flatMap { pins.connection($0) }
    guard !isWatching || own != nil && !clients[slot].session.hasLostWatch else {
      // What was watched is no longer known, so it counts as changed.
      unwatch(slot)
      let resp3 = clients[slot].resp3
      return reply(slot) { if resp3 { $0.null(resp3: true) } else { $0.append("*-1\r\n") } }
    }
    let shared = sharedUpstream(slot)
    let upstream = (isWatching ? own : nil) ?? shared
    clients[slot].session.isWatching = false
    // The shared connection knows the scripts, which are the server's.
    guard upstream.isReady, shared.isReady else {
      return reply(slot) { $0.error(Self.unreachable(shared.trouble)) }
    }
    upstream.digests = shared.digests
    pins.touched.append(upstream.token)
    let token = clients[slot].token
    let first = clients[slot].owed.count
    clients[slot].owed.append(.awaited)
    upstream.beginTransaction()
    transacting = upstream
    executeQueued(transaction, slot)
    transacting = nil
    // An end of its own keeps what is answered next out of the transaction's replies.
    clients[slot].owed.append(.awaited)
    upstream.endTransaction(
      token, commands: transaction.lengths.count, owed: clients[slot].owed.count - first)
    if isWatching { pause(slot, .answer) }
  }

  private mutating func executeQueued(_ transaction: QueuedTransaction, _ slot: Int) {
    var arguments: [Argument] = []
    transaction.bytes.withUnsafeBytes { bytes in
      var start = 0
      for length in transaction.lengths {
        arguments.removeAll(keepingCapacity: true)
        var parser = RequestParser()
        let command = UnsafeRawBufferPointer(rebasing: bytes[start..<start + length])
        start += length
        guard case .command = parser.next(command, into: &arguments), let base = command.baseAddress else {
          preconditionFailure("what was queued is a command")
        }
        arguments.withUnsafeBufferPointer { list in
          guard let first = list.baseAddress else { return }
          execute(Request(base: base, arguments: first, count: list.count, length: length), slot)
        }
      }
    }
  }

  /// Redis has answered: OK, QUEUED for each command, and what EXEC says.
  mutating func finish(
    _ sent: SentTransaction, _ replies: UnsafeRawBufferPointer, _ upstream: Upstream, _ slot: Int?
  ) throws(ConnectFailure) {
    var cursor = ReplyCursor(replies)
    let queued = sent.awaited.reduce(0) { $0 + $1.replies }
    var refusal: UnsafeRawBufferPointer?
    for _ in 0...queued {
      if refusal == nil, cursor.isError { refusal = cursor.peek }
      _ = cursor.raw()
    }
    let isAborted = cursor.isError
    let answer = cursor.peek
    guard !isAborted, !cursor.isNull, cursor.enter() == queued else {
      abandon(.transaction(sent))
      if let slot {
        fail(sent, slot) { output, _ in
          guard isAborted, let refusal else { return output.append(answer) }
          output.append(Self.abortedBecause)
          output.append(UnsafeRawBufferPointer(rebasing: refusal.dropFirst()))
        }
      }
      return
    }
    settle(slot) { output, _ in output.array(sent.commands) }
    // The elements are settled one by one, and nothing may come between them.
    tracking.waitsForExec = true
    defer { tracking.waitsForExec = false }
    for awaited in sent.awaited {
      let first = cursor.position
      for _ in 0..<awaited.replies { _ = cursor.raw() }
      try settle(awaited, UnsafeRawBufferPointer(rebasing: replies[first..<cursor.position]), upstream)
    }
    tracking.waitsForExec = false
    settle(slot) { _, _ in }
  }

  /// One reply in the place of all that the client was owed for its transaction.
  mutating func fail(_ sent: SentTransaction, _ slot: Int, _ write: (inout IOBuffer, Bool) -> Void) {
    let resp3 = clients[slot].resp3
    clients[slot].settle(entries: sent.owed) { write(&$0, resp3) }
    markDirty(slot)
  }
}
