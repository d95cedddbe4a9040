import CLinux
import Configuration
import Glibc
import Invalidation

/// CLIENT LIST, INFO, KILL, REPLY, UNBLOCK and NO-EVICT: of the clients of this socket, not of Redis's.
/// Source of the forms and texts: Redis 7.0's networking.c, `clientCommand` and `catClientInfoString`.
extension EventLoop {
  /// Whether the subcommand is one of these, and has been answered.
  mutating func executeClientList(_ request: Request, _ word: String, _ slot: Int) -> Bool {
    switch (word, request.count) {
    case ("info", 2): describe([slot], slot)
    case ("list", _): clientList(request, slot)
    case ("kill", 3...): clientKill(request, slot)
    case ("reply", 3): clientReply(request, slot)
    case ("unblock", 3...4): clientUnblock(request, slot)
    case ("no-evict", 3):
      let isWord = request.isWord(2, "on") || request.isWord(2, "off")
      reply(slot) { if isWord { $0.status("OK") } else { $0.error(Self.syntaxError) } }
    case ("kill", _), ("reply", _), ("unblock", _): wrongCount("client|" + word, slot)
    case ("pause", _), ("unpause", _):
      if let refusal = refusal(request, "client") {
        reply(slot) { $0.error(refusal) }
      } else if word == "pause" {
        executePause(request, slot)
      } else {
        executeUnpause(request, slot)
      }
    default: return false
    }
    return true
  }

  private static let syntaxError = "ERR syntax error"

  // MARK: LIST and INFO

  private enum ClientType { case normal, master, replica, pubsub }

  private static func type(_ word: String) -> ClientType? {
    switch word {
    case "normal": .normal
    case "master": .master
    case "slave", "replica": .replica
    case "pubsub": .pubsub
    default: nil
    }
  }

  private func type(of slot: Int) -> ClientType {
    clients[slot].session.subscriptions.isEmpty ? .normal : .pubsub
  }

  private mutating func clientList(_ request: Request, _ slot: Int) {
    var wanted = inUse.indices.filter { inUse[$0] }.sorted { clients[$0].id < clients[$1].id }
    if request.count == 2 { return describe(wanted, slot) }
    if request.count == 4, request.isWord(2, "type") {
      guard let type = Self.type(request.word(3)) else {
        let shown = Self.shown(request[3], 128)
        return reply(slot) { $0.error("ERR Unknown client type '\(shown)'") }
      }
      wanted = wanted.filter { self.type(of: $0) == type }
    } else if request.count > 3, request.isWord(2, "id") {
      var asked: [Int] = []
      for index in 3..<request.count {
        guard let id = request.integer(index) else {
          return reply(slot) { $0.error("ERR Invalid client ID") }
        }
        asked.append(id)
      }
      let byID = Dictionary(uniqueKeysWithValues: wanted.map { (clients[$0].id, $0) })
      wanted = asked.compactMap { byID[$0] }
    } else {
      return reply(slot) { $0.error(Self.syntaxError) }
    }
    describe(wanted, slot)
  }

  private mutating func describe(_ slots: [Int], _ slot: Int) {
    let text = slots.map { describe($0) + "\n" }.joined()
    let resp3 = clients[slot].resp3
    reply(slot) { $0.verbatim(text, resp3: resp3) }
  }

  private func describe(_ slot: Int) -> String {
    let session = clients[slot].session
    let subscriptions = session.subscriptions
    let isBlocked =
      clients[slot].pause == .clientPause || session.pinned.flatMap { pins[$0] }?.isBlocked ?? false
    var flags = ""
    if !subscriptions.isEmpty { flags += "P" }
    if session.transaction != nil { flags += "x" }
    if isBlocked { flags += "b" }
    if !clients[slot].isTCP { flags += "U" }
    let address = (peer: self.address(slot, peer: true), own: self.address(slot, peer: false))
    let memory = (
      input: clients[slot].input.size, output: clients[slot].output.size, owed: clients[slot].owedBytes
    )
    let events =
      (clients[slot].watched & UInt32(CLINUX_READABLE) != 0 ? "r" : "")
      + (clients[slot].watched & UInt32(CLINUX_WRITABLE) != 0 ? "w" : "")
    let command = clients[slot].lastCommand
    let second: UInt64 = 1_000_000_000
    return [
      "id=\(clients[slot].id)", "addr=\(address.peer)", "laddr=\(address.own)",
      "fd=\(clients[slot].descriptor)", "name=\(clients[slot].name)",
      "age=\(now.since(clients[slot].connectedAt) / second)",
      "idle=\(now.since(heardAt(slot)) / second)", "flags=\(flags.isEmpty ? "N" : flags)",
      "db=\(session.database ?? settings.redis?.database ?? 0)", "sub=\(subscriptions.count(.channel))",
      "psub=\(subscriptions.count(.pattern))", "ssub=\(subscriptions.count(.shard))",
      "multi=\(session.transaction?.lengths.count ?? -1)", "qbuf=\(clients[slot].input.count)",
      "qbuf-free=\(memory.input - clients[slot].input.count)", "argv-mem=0",
      "multi-mem=\(session.transaction?.bytes.count ?? 0)", "rbs=\(memory.output)", "rbp=\(memory.output)",
      "obl=\(clients[slot].output.count)", "oll=\(clients[slot].owed.count)", "omem=\(memory.owed)",
      "tot-mem=\(memory.input + memory.output + memory.owed)", "events=\(events)",
      "cmd=\(command.isEmpty ? "NULL" : command)", "user=default", "redir=-1",
      "resp=\(clients[slot].resp3 ? 3 : 2)", "lib-name=\(clients[slot].libraryName)",
      "lib-ver=\(clients[slot].libraryVersion)",
    ].joined(separator: " ")
  }

  private func address(_ slot: Int, peer: Bool) -> String {
    guard clients[slot].isTCP else { return settings.listen.path + ":0" }
    return ListenSocket.address(of: clients[slot].descriptor, peer: peer)
  }

  // MARK: KILL

  private mutating func clientKill(_ request: Request, _ slot: Int) {
    var skipsMe = true
    if request.count == 3 {
      let address = request.text(2)
      guard let victim = inUse.indices.first(where: { inUse[$0] && self.address($0, peer: true) == address })
      else {
        return reply(slot) { $0.error("ERR No such client") }
      }
      reply(slot) { $0.status("OK") }
      return kill(victim, by: slot)
    }
    var id: Int?
    var type: ClientType?
    var peer: String?
    var own: String?
    var index = 2
    while index < request.count {
      guard index + 1 < request.count else { return reply(slot) { $0.error(Self.syntaxError) } }
      switch request.word(index) {
      case "id":
        guard let number = request.integer(index + 1), number > 0 else {
          return reply(slot) { $0.error("ERR client-id should be greater than 0") }
        }
        id = number
      case "type":
        guard let known = Self.type(request.word(index + 1)) else {
          let shown = Self.shown(request[index + 1], 128)
          return reply(slot) { $0.error("ERR Unknown client type '\(shown)'") }
        }
        type = known
      case "addr": peer = request.text(index + 1)
      case "laddr": own = request.text(index + 1)
      case "user":
        guard request.text(index + 1) == "default" else {
          let shown = Self.shown(request[index + 1], 128)
          return reply(slot) { $0.error("ERR No such user '\(shown)'") }
        }
      case "skipme":
        switch request.word(index + 1) {
        case "yes": skipsMe = true
        case "no": skipsMe = false
        default: return reply(slot) { $0.error(Self.syntaxError) }
        }
      default: return reply(slot) { $0.error(Self.syntaxError) }
      }
      index += 2
    }
    let victims = inUse.indices.filter { victim in
      inUse[victim] && !(skipsMe && victim == slot) && id.map { clients[victim].id == $0 } ?? true
        && type.map { self.type(of: victim) == $0 } ?? true
        && peer.map { self.address(victim, peer: true) == $0 } ?? true
        && own.map { self.address(victim, peer: false) == $0 } ?? true
    }
    reply(slot) { $0.integer(victims.count) }
    for victim in victims { kill(victim, by: slot) }
  }

  /// Oneself gets the answer first.
  private mutating func kill(_ victim: Int, by slot: Int) {
    if victim == slot {
      clients[slot].isClosing = true
    } else {
      drop(victim)
    }
  }

  // MARK: REPLY

  private mutating func clientReply(_ request: Request, _ slot: Int) {
    switch request.word(2) {
    case "on":
      clients[slot].beginTalking()
      reply(slot) { $0.status("OK") }
    case "off": clients[slot].beQuiet(onlyNext: false)
    case "skip": clients[slot].beQuiet(onlyNext: true)
    default: reply(slot) { $0.error(Self.syntaxError) }
    }
  }

  // MARK: UNBLOCK

  /// Who blocks here blocks on a connection to Redis of its own, which has another number there.
  private mutating func clientUnblock(_ request: Request, _ slot: Int) {
    guard let id = request.integer(2) else {
      return reply(slot) { $0.error("ERR value is not an integer or out of range") }
    }
    let isError = request.count == 4 && request.isWord(3, "error")
    guard request.count == 3 || isError || request.isWord(3, "timeout") else {
      return reply(slot) {
        $0.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
      }
    }
    let victim = inUse.indices.first { inUse[$0] && clients[$0].id == id }
    guard let victim, let token = clients[victim].session.pinned, let pin = pins[token], pin.isBlocked,
      let number = pin.upstream.number
    else { return reply(slot) { $0.integer(0) } }
    // It may not have been sent yet.
    flush(pin.upstream)
    let client = clients[slot].token
    withUpstream(slot) { upstream in
      upstream.output.array(4)
      upstream.output.argument("CLIENT")
      upstream.output.argument("UNBLOCK")
      upstream.output.bulk(String(number))
      upstream.output.argument(isError ? "ERROR" : "TIMEOUT")
      upstream.await(.relay(client))
    }
  }
}
