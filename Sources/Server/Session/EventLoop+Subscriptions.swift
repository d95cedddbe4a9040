import CLinux
import Configuration
import Invalidation

/// SUBSCRIBE and its kin: a connection of the client's own, whose messages are copied to it as they come.
extension EventLoop {
  mutating func executeSubscription(_ request: Request, _ name: String, _ slot: Int) {
    guard let upstream = pinned(slot, forMessages: true) else { return }
    let kind: Subscriptions.Kind =
      switch name.first {
      case "p": .pattern
      case "s" where name.hasPrefix("ss") || name.hasPrefix("sun"): .shard
      default: .channel
      }
    request.append(to: &upstream.output)
    // Without a name everything of the kind ends, with a confirmation each, and one if there is nothing.
    clients[slot].session.subscriptions.awaited +=
      request.count > 1 ? request.count - 1 : max(1, clients[slot].session.subscriptions.count(kind))
    pause(slot, .subscription)
  }

  /// A RESP2 client that has subscriptions may only change them, since nothing tells its replies from messages.
  /// Source: Redis documentation, "Redis Pub/Sub". Whether the command was answered here.
  mutating func refusesWhileSubscribed(_ request: Request, _ name: String, _ slot: Int) -> Bool {
    guard !clients[slot].session.subscriptions.isWithoutNames else { return false }
    if name == "hello" {
      reply(slot) {
        $0.error("ERR Nearside: HELLO cannot change the protocol of a connection that has subscriptions")
      }
      return true
    }
    guard !clients[slot].resp3 else { return false }
    switch name {
    case "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "quit",
      "reset":
      return false
    case "ping":
      reply(slot) {
        $0.array(2)
        $0.bulk("pong")
        if request.count > 1 { $0.bulk(request[1]) } else { $0.bulk("") }
      }
    default:
      let shown = name.isEmpty ? request.word(0) : name
      reply(slot) {
        $0.error(
          "ERR Can't execute '\(shown)': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "
            + "are allowed in this context")
      }
    }
    return true
  }

  mutating func messageEvent(_ events: UInt32, _ pin: Pins.Pin) {
    let upstream = pin.upstream
    guard events & ~UInt32(CLINUX_WRITABLE) != 0, receive(upstream) else { return }
    guard let owner = pin.owner, isAlive(owner) else { return closePin(upstream.token) }
    let slot = Int(owner.slot)
    do throws(ConnectFailure) {
      while let message = try upstream.nextUnasked() {
        if !Self.tellsOfState(message) {
          note(message, slot)
          // Behind what is owed, so that it never comes into the middle of a reply.
          clients[slot].reply { $0.append(message) }
        }
        upstream.input.consume(upstream.consumeReplies())
      }
      upstream.input.shrinkIfIdle(to: Self.idleBuffer)
    } catch {
      return upstreamFailed(upstream, error.sentence)
    }
    markDirty(slot)
    // Whoever has ended its last subscription is a client like any other for its next command.
    giveBackIfFree(upstream.token)
    releaseWaiters()
  }

  /// Whether a message is a keyspace notification about a key of a fleet's state. Sidecars write these all the time, and
  /// as in SCAN and KEYS an application sees nothing of them. Source: Redis documentation, "Redis keyspace
  /// notifications" (`__keyspace@<db>__:<key>` with the event, `__keyevent@<db>__:<event>` with the key).
  private static func tellsOfState(_ message: UnsafeRawBufferPointer) -> Bool {
    var cursor = ReplyCursor(message)
    guard cursor.enter() != nil, let word = cursor.string() else { return false }
    if word.elementsEqual("pmessage".utf8) {
      guard cursor.string() != nil else { return false }
    } else if !word.elementsEqual("message".utf8) {
      return false
    }
    guard let channel = cursor.string(), channel.starts(with: "__key".utf8), let content = cursor.string(),
      let colon = channel.firstIndex(of: UInt8(ascii: ":"))
    else { return false }
    if channel.starts(with: "__keyevent@".utf8) { return StateKeys.isState(content) }
    return channel.starts(with: "__keyspace@".utf8)
      && StateKeys.isState(UnsafeRawBufferPointer(rebasing: channel[(colon + 1)...]))
  }

  private mutating func note(_ message: UnsafeRawBufferPointer, _ slot: Int) {
    var cursor = ReplyCursor(message)
    if cursor.isError {
      // The command was refused as a whole.
      clients[slot].session.subscriptions.awaited = 0
      clients[slot].session.subscriptions.asksMonitor = false
      return
    }
    guard cursor.enter() != nil, let word = cursor.text() else {
      // MONITOR was answered.
      clients[slot].session.subscriptions.monitorBegins()
      return
    }
    _ = clients[slot].session.subscriptions.confirm(word, cursor.string().map { [UInt8]($0) })
  }
}
