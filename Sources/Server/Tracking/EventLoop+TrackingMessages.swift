import Glibc

/// What tracking clients are told.
extension EventLoop {
  /// Writes the messages of the table, where no reply is half written. Called before anybody who waited for a change is
  /// told that it has been applied, and before commands are answered that come behind a write.
  mutating func tellTrackers() {
    guard tracking.table.hasMessages, !tracking.waitsForExec else { return }
    for message in tracking.table.takeMessages() { tell(message) }
  }

  private mutating func tell(_ message: TrackingTable.Message) {
    let token = Self.unpack(message.client)
    guard isAlive(token), let state = tracking.table.states[message.client] else { return }
    let slot = Int(token.slot)
    guard let redirect = state.redirect else {
      guard clients[slot].resp3, !clients[slot].isClosing else { return }
      let bytes = Self.message(message.content, resp3: true, isRedirected: false)
      clients[slot].tell(bytes, behind: message.reply, onlyBehind: message.isBehind)
      counters.trackingMessages += 1
      return markDirty(slot)
    }
    let target = Self.unpack(redirect.token)
    guard isAlive(target) else { return tellBroken(message.client, redirect.id, slot) }
    // On another connection nothing has an order, in Redis neither.
    let place = Int(target.slot)
    guard clients[place].resp3 || !clients[place].session.subscriptions.isEmpty else { return }
    let bytes = Self.message(
      message.content, resp3: clients[place].resp3, isRedirected: true, null3: clients[slot].resp3)
    clients[place].reply { $0.append(bytes) }
    counters.trackingMessages += 1
    markDirty(place)
  }

  private mutating func tellBroken(_ client: TrackingTable.Client, _ id: Int, _ slot: Int) {
    tracking.table.setBroken(client)
    guard clients[slot].resp3 else { return }
    var bytes = IOBuffer(size: 64)
    bytes.append(">2\r\n")
    bytes.bulk("tracking-redir-broken")
    bytes.integer(id)
    clients[slot].tell([UInt8](bytes.bytes), behind: 0, onlyBehind: false)
    markDirty(slot)
  }

  /// - Parameter null3: which null stands for everything: Redis writes that of the tracking client.
  private static func message(
    _ content: TrackingTable.Message.Content, resp3: Bool, isRedirected: Bool, null3: Bool = true
  ) -> [UInt8] {
    var bytes = IOBuffer(size: 128)
    if resp3 {
      bytes.append(">2\r\n")
      bytes.bulk("invalidate")
    } else {
      bytes.array(3)
      bytes.bulk("message")
      bytes.bulk("__redis__:invalidate")
    }
    switch content {
    case .everything: bytes.null(resp3: null3)
    case .keys(let keys):
      bytes.array(keys.count)
      for key in keys { key.withUnsafeBytes { bytes.bulk($0) } }
    }
    return [UInt8](bytes.bytes)
  }

  static func unpack(_ token: UInt64) -> ClientToken {
    ClientToken(slot: Int32(truncatingIfNeeded: token), serial: UInt32(truncatingIfNeeded: token >> 32))
  }
}

extension Client {
  /// The number of the last reply that it is owed, or of the last that it was given.
  var newestReply: Int { settled + owed.count }

  /// Writes a message at once, between two replies, and again behind the reply with this number if that is still
  /// owed. In the middle of a long reply it can only come behind what is owed.
  mutating func tell(_ bytes: [UInt8], behind number: Int, onlyBehind: Bool) {
    let isOwed = hasHalfReply || !owed.isEmpty && number > settled
    if !isOwed || !onlyBehind && !hasHalfReply { output.append(bytes) }
    if isOwed { reply { $0.append(bytes) } }
  }
}
