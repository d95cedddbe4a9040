import Configuration
import Invalidation
import Logging
import NearCache

/// Commands about the connection itself, answered here as a standalone Redis 7 answers them: clients match on
/// these texts, some of them at connect.
extension EventLoop {
  mutating func executeLocal(_ request: Request, _ name: String, _ slot: Int) {
    switch name {
    case "ping":
      guard request.count <= 2 else { return wrongCount("ping", slot) }
      reply(slot) { if request.count == 2 { $0.bulk(request[1]) } else { $0.status("PONG") } }
    case "echo": reply(slot) { $0.bulk(request[1]) }
    case "hello": hello(request, slot)
    case "auth": authenticate(request, slot)
    case "select": select(request, slot)
    case "quit":
      reply(slot) { $0.status("OK") }
      clients[slot].isClosing = true
    case "reset": reset(slot)
    case "client": client(request, slot)
    case "command": command(request, slot)
    case "config": config(request, slot)
    case "info": info(request, slot)
    case "cluster", "readonly", "readwrite", "asking":
      reply(slot) { $0.error("ERR This instance has cluster support disabled") }
    case "role":
      reply(slot) {
        $0.array(3)
        $0.bulk("master")
        $0.integer(0)
        $0.array(0)
      }
    case "nearside": nearside(request, slot)
    default: unknown(request, slot)
    }
  }

  func wrongCount(_ name: String, _ slot: Int) {
    clients[slot].reply { $0.error("ERR wrong number of arguments for '\(name)' command") }
  }

  /// Redis's text, byte for byte (server.c, `processCommand`): 128 bytes of the name, and of the arguments
  /// until 128 bytes are written, each to its first zero.
  func unknown(_ request: Request, _ slot: Int) {
    func shown(_ bytes: UnsafeRawBufferPointer, _ limit: Int) -> [UInt8] {
      bytes.prefix(limit).prefix { $0 != 0 }.map { $0 == 13 || $0 == 10 ? 32 : $0 }
    }
    var arguments: [UInt8] = []
    for index in 1..<max(1, request.count) where arguments.count < 128 {
      arguments += [UInt8(ascii: "'")] + shown(request[index], 128 - arguments.count) + Array("' ".utf8)
    }
    let text =
      Array("ERR unknown command '".utf8) + shown(request[0], 128)
      + Array("', with args beginning with: ".utf8)
      + arguments
    clients[slot].reply { $0.error(text) }
  }

  /// An argument as it may stand in an error: no line breaks.
  static func shown(_ bytes: UnsafeRawBufferPointer, _ limit: Int) -> String {
    String(decoding: bytes.prefix(limit).map { $0 == 13 || $0 == 10 ? 32 : $0 }, as: UTF8.self)
  }

  // MARK: HELLO, SELECT, RESET

  private mutating func hello(_ request: Request, _ slot: Int) {
    var wanted = clients[slot].resp3
    var name: String?
    if request.count > 1 {
      guard let version = request.integer(1) else {
        return reply(slot) { $0.error("ERR Protocol version is not an integer or out of range") }
      }
      guard version == 2 || version == 3 else {
        return reply(slot) { $0.error("NOPROTO unsupported protocol version") }
      }
      wanted = version == 3
      var index = 2
      while index < request.count {
        if request.isWord(index, "auth"), index + 2 < request.count {
          guard admit(user: request[index + 1], password: request[index + 2], slot) else {
            return reply(slot) { $0.error(Self.wrongPassword) }
          }
          index += 3
        } else if request.isWord(index, "setname"), index + 1 < request.count {
          name = request.text(index + 1)
          guard Self.isClientName(request[index + 1]) else {
            return reply(slot) { $0.error(Self.badClientName) }
          }
          index += 2
        } else {
          let option = Self.shown(request[index], 128)
          return reply(slot) { $0.error("ERR Syntax error in HELLO option '\(option)'") }
        }
      }
    }
    if clients[slot].session.isLocked { return reply(slot) { $0.error(Self.helloFirst) } }
    // Replies that are owed come from the connection of the old version: they must be written before.
    if wanted != clients[slot].resp3 {
      if !clients[slot].owed.isEmpty { return pause(slot, .drain) }
      let session = clients[slot].session
      if session.isWatching || session.isWatchingElsewhere || session.isQueueingElsewhere {
        return reply(slot) {
          $0.error("ERR Nearside: HELLO cannot change the protocol while keys are watched")
        }
      }
      unpin(slot)
      // What comes next makes a connection of the new version, to the same database.
      clients[slot].session.database = session.database
    }
    clients[slot].resp3 = wanted
    if let name { clients[slot].name = name }
    let version = redisVersion
    let id = clients[slot].id
    reply(slot) { output in
      output.map(7, resp3: wanted)
      output.bulk("server")
      output.bulk("redis")
      output.bulk("version")
      output.bulk(version)
      output.bulk("proto")
      output.integer(wanted ? 3 : 2)
      output.bulk("id")
      output.integer(id)
      output.bulk("mode")
      output.bulk("standalone")
      output.bulk("role")
      output.bulk("master")
      output.bulk("modules")
      output.array(0)
    }
  }

  private mutating func select(_ request: Request, _ slot: Int) {
    guard let index = request.integer(1) else {
      return reply(slot) { $0.error("ERR value is not an integer or out of range") }
    }
    let session = clients[slot].session
    guard index == settings.redis?.database ?? 0 else { return selectElsewhere(index, request, slot) }
    if session.database != nil { return selectHome(index, request, slot) }
    reply(slot) { $0.status("OK") }
  }

  private mutating func reset(_ slot: Int) {
    let isOwn = clients[slot].resp3 || clients[slot].session.pinned != nil
    if isOwn, !clients[slot].owed.isEmpty { return pause(slot, .drain) }
    unpin(slot)
    if clients[slot].isTracking { setTracking(nil, slot) }
    clients[slot].resp3 = false
    clients[slot].name = ""
    clients[slot].beginTalking()
    clients[slot].session.isQuiet = false
    if settings.listen.password != nil { clients[slot].lock() }
    reply(slot) { $0.status("RESET") }
  }

  // MARK: CLIENT

  private mutating func client(_ request: Request, _ slot: Int) {
    let resp3 = clients[slot].resp3
    let word = request.word(1)
    if executeClientList(request, word, slot) { return }
    switch (word, request.count) {
    case ("setname", 3):
      guard Self.isClientName(request[2]) else { return reply(slot) { $0.error(Self.badClientName) } }
      clients[slot].name = request.text(2)
      reply(slot) { $0.status("OK") }
    case ("getname", 2):
      let name = clients[slot].name
      reply(slot) { if name.isEmpty { $0.null(resp3: resp3) } else { $0.bulk(name) } }
    case ("setinfo", 4):
      switch request.word(2) {
      case "lib-name": clients[slot].libraryName = request.text(3)
      case "lib-ver": clients[slot].libraryVersion = request.text(3)
      default:
        let option = Self.shown(request[2], 128)
        return reply(slot) { $0.error("ERR Unrecognized option '\(option)'") }
      }
      reply(slot) { $0.status("OK") }
    case ("id", 2):
      let id = clients[slot].id
      reply(slot) { $0.integer(id) }
    case ("no-touch", 3), ("capa", _): reply(slot) { $0.status("OK") }
    case ("tracking", 3...), ("caching", 3), ("trackinginfo", 2), ("getredir", 2):
      clientTracking(request, word, slot)
    case ("setname", _), ("getname", _), ("setinfo", _), ("id", _), ("info", _), ("getredir", _),
      ("no-evict", _), ("no-touch", _), ("tracking", _), ("caching", _), ("trackinginfo", _):
      wrongCount("client|" + word, slot)
    default:
      let subcommand = Self.shown(request[1], 128)
      reply(slot) { $0.error("ERR unknown subcommand '\(subcommand)'. Try CLIENT HELP.") }
    }
  }

  private static func isClientName(_ bytes: UnsafeRawBufferPointer) -> Bool {
    bytes.allSatisfy { (33...126).contains($0) }
  }

  private static let badClientName =
    "ERR Client names cannot contain spaces, newlines or special characters."

  // MARK: What Redis knows better, as long as it can be asked

  private mutating func command(_ request: Request, _ slot: Int) {
    let resp3 = clients[slot].resp3
    var fallback = IOBuffer(size: 16)
    if request.count > 1, request.isWord(1, "count") {
      fallback.integer(0)
    } else if request.count > 1, request.isWord(1, "docs") {
      fallback.map(0, resp3: resp3)
    } else {
      fallback.array(0)
    }
    relayOr([UInt8](fallback.bytes), request, slot)
  }

  private mutating func config(_ request: Request, _ slot: Int) {
    if request.isWord(1, "get"), request.count < 3 { return wrongCount("config|get", slot) }
    // Whoever may set parameters must find what was set.
    let all = settings.commands.allowed
    if embedded == nil, all.contains("config") || all.contains("config|get") { return relay(request, slot) }
    guard request.isWord(1, "get") else {
      if let refusal = refusal(request, "config") { return reply(slot) { $0.error(refusal) } }
      guard embedded == nil else {
        return reply(slot) {
          $0.error("ERR Nearside: 'config|\(request.word(1))' is not available without Redis")
        }
      }
      return relay(request, slot)
    }
    let resp3 = clients[slot].resp3
    if request.count == 3, let value = localParameter(request.word(2)) {
      return reply(slot) {
        $0.map(1, resp3: resp3)
        $0.bulk(request[2])
        $0.bulk(value)
      }
    }
    // Whoever may use this socket need not know Redis's own passwords, which a pattern would bring as well.
    for index in 2..<request.count {
      let name = request.word(index)
      guard !name.contains(where: { "*?[\\".contains($0) }), !Self.secretParameters.contains(name) else {
        return reply(slot) {
          $0.error(
            "NOPERM this command is not available through Nearside: 'config|get' of a pattern or a password")
        }
      }
    }
    // Without Redis the parameters that are known here are all there are.
    var fallback = IOBuffer(size: 256)
    let known = (2..<request.count).compactMap { index in
      let name = request.word(index)
      let value = name == "maxmemory-policy" ? Self.maxmemoryPolicy : localParameter(name)
      return value.map { (index: index, value: $0) }
    }
    fallback.map(known.count, resp3: resp3)
    for parameter in known {
      fallback.bulk(request[parameter.index])
      fallback.bulk(parameter.value)
    }
    relayOr([UInt8](fallback.bytes), request, slot)
  }

  /// Source: Redis's config.c, the entries flagged SENSITIVE_CONFIG.
  private static let secretParameters: Set<String> = [
    "requirepass", "masterauth", "masteruser", "primaryauth", "primaryuser", "tls-key-file-pass",
    "tls-client-key-file-pass",
  ]

  private static let maxmemoryPolicy = "allkeys-lru"

  /// What client libraries ask for at connect; the values are those of a standalone Redis as a client of this
  /// socket sees it.
  private static let localParameters = [
    "databases": "16", "save": "", "appendonly": "no", "slave-read-only": "yes", "replica-read-only": "yes",
  ]

  /// Those, and the limits of this socket's clients.
  private func localParameter(_ name: String) -> String? {
    let limits = settings.clients
    func text(_ limit: ClientSettings.OutputLimit) -> String {
      let soft = limit.soft.map { "\($0) \(limit.softTime / 1_000_000_000)" } ?? "0 0"
      return "\(limit.hard) \(soft)"
    }
    switch name {
    case "timeout": return String((limits.idle ?? 0) / 1_000_000_000)
    case "maxclients": return String(inUse.count)
    case "client-query-buffer-limit": return String(limits.queryBuffer)
    case "client-output-buffer-limit":
      return "normal \(text(limits.output)) slave 0 0 0 pubsub \(text(limits.messageOutput))"
    default: return Self.localParameters[name]
    }
  }

  private mutating func relayOr(_ fallback: [UInt8], _ request: Request, _ slot: Int) {
    let token = clients[slot].token
    guard embedded == nil, sharedUpstream(slot).isReady else {
      return reply(slot) { $0.append(fallback) }
    }
    withUpstream(slot) { upstream in
      request.append(to: &upstream.output)
      upstream.await(.task(UpstreamTask(client: token, work: .relayOr(fallback: fallback))))
    }
  }

  // MARK: INFO

  private mutating func info(_ request: Request, _ slot: Int) {
    guard embedded == nil, sharedUpstream(slot).isReady else {
      return answerInfoAlone(slot, settling: false)
    }
    let token = clients[slot].token
    withUpstream(slot) { upstream in
      request.append(to: &upstream.output)
      upstream.await(.task(UpstreamTask(client: token, work: .info)))
    }
  }

  mutating func finishInfo(_ replies: UnsafeRawBufferPointer, _ slot: Int?) {
    guard let slot else { return }
    var cursor = ReplyCursor(replies)
    guard !cursor.isError, var text = cursor.text() else { return answerInfoAlone(slot, settling: true) }
    if clients[slot].resp3, text.hasPrefix("txt:") { text.removeFirst(4) }
    // The clients that are meant are this socket's, and what they track; Redis counts the sidecars' own connections.
    text = Self.replacing("connected_clients", in: text, by: counters.clients)
    text = Self.replacing(
      "blocked_clients", in: text, by: held.count + pins.all.values.count { $0.isBlocked })
    for (name, number) in tracking.table.numbers { text = Self.replacing(name, in: text, by: number) }
    text += "\r\n# Nearside\r\n" + infoLines().joined(separator: "\r\n") + "\r\n"
    settle(slot) { output, resp3 in output.verbatim(text, resp3: resp3) }
  }

  /// The status for INFO: names that Redis's INFO has too are told apart, since a client that makes a table of the
  /// lines keeps the last of two.
  private func infoLines() -> [String] {
    statusLines().map { $0.hasPrefix("role:") || $0.hasPrefix("tracking_clients:") ? "nearside_\($0)" : $0 }
  }

  /// The lines of INFO with another number behind `name:`.
  private static func replacing(_ name: String, in text: String, by number: Int) -> String {
    guard let line = text.firstRange(of: "\r\n\(name):") else { return text }
    let end = text[line.upperBound...].firstIndex { !$0.isNumber } ?? text.endIndex
    return text[..<line.upperBound] + String(number) + text[end...]
  }

  /// INFO when there is no Redis to ask: clients that look for these lines at connect must find them.
  mutating func answerInfoAlone(_ slot: Int, settling: Bool) {
    let text = """
      # Server\r
      redis_version:\(redisVersion)\r
      redis_mode:standalone\r
      run_id:\(String(repeating: "0", count: 24))\(LSN(started.nanoseconds).hex)\r
      # Memory\r
      maxmemory_policy:\(Self.maxmemoryPolicy)\r
      # Persistence\r
      loading:0\r
      # Replication\r
      role:master\r
      connected_slaves:0\r
      # Cluster\r
      cluster_enabled:0\r
      # Nearside\r
      \(infoLines().joined(separator: "\r\n"))\r

      """
    let resp3 = clients[slot].resp3
    if settling {
      settle(slot) { output, resp3 in output.verbatim(text, resp3: resp3) }
    } else {
      reply(slot) { $0.verbatim(text, resp3: resp3) }
    }
  }
}
