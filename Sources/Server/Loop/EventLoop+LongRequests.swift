import Configuration
import Invalidation

/// Commands that are longer than `longRequest`: sent on as they come, on a connection of the client's own, where they
/// may: a write of one key that no mapping covers. All others are collected first.
extension EventLoop {
  static let longRequest = 1024 * 1024

  /// A client's command in progress is passed on from now on if it may be. Whether it was looked at again for
  /// nothing: then it is collected.
  mutating func beginLongRequest(_ slot: Int) {
    guard embedded == nil, !clientPause.isOn, !clients[slot].isTracking, clients[slot].session.isPlain,
      clients[slot].session.subscriptions.isEmpty,
      let begun = clients[slot].parser.begun, begun.arguments.count >= 2
    else { return }
    let base = clients[slot].input.readable
    let isPlain = begun.arguments.withUnsafeBufferPointer { list -> Bool in
      guard let first = list.baseAddress else { return false }
      let request = Request(base: base, arguments: first, count: list.count, length: 0)
      guard let spec = commands.spec(request[0]), spec.kind == .replace || spec.kind == .merge,
        spec.firstKey == 1, spec.lastKey == 1, spec.accepts(count: begun.count)
      else { return false }
      return !governance.governs(request[1]) && !StateKeys.isState(request[1])
    }
    guard isPlain else { return }
    let upstream = pinned(slot, tells: false)
    // Without a connection it is taken all the same, and answered once, at its end.
    if upstream == nil, clients[slot].pause != .none { return }
    // The parser has come to `position`; what lies behind it has not been counted yet.
    let whole = clients[slot].input.bytes
    guard var rest = clients[slot].parser.rest(after: whole.count) else { return }
    let read = whole.count - rest.begun
    upstream?.output.append(UnsafeRawBufferPointer(rebasing: whole[..<read]))
    clients[slot].input.consume(read)
    clients[slot].parser = RequestParser()
    rest.isSent = upstream != nil
    clients[slot].longRequest = rest
    clients[slot].lastCommand = "long"
    passOn(slot)
  }

  /// Sends on what is here of a client's long command.
  mutating func passOn(_ slot: Int) {
    guard var rest = clients[slot].longRequest else { return }
    let own = clients[slot].session.pinned.flatMap { pins.connection($0) }
    let upstream = rest.isSent && own?.isReady == true ? own : nil
    // A connection that was lost has taken the beginning with it.
    if upstream == nil { rest.isSent = false }
    if let upstream, upstream.output.count > Self.outputHighWater {
      clients[slot].isStalled = true
      return
    }
    let bytes = clients[slot].input.bytes
    let outcome = rest.take(bytes)
    switch outcome {
    case .part(let count), .end(let count):
      if let upstream {
        upstream.output.append(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
        pins.touched.append(upstream.token)
      }
      clients[slot].input.consume(count)
    case .failed(let error):
      counters.protocolErrors += 1
      clients[slot].longRequest = nil
      // Redis has half a command, which nothing may come behind.
      if let token = clients[slot].session.pinned { closePin(token) }
      clients[slot].session.pinned = nil
      clients[slot].reply { $0.error(Array("ERR Protocol error: ".utf8) + error.text) }
      clients[slot].isClosing = true
      return
    }
    clients[slot].longRequest = rest
    guard case .end = outcome else { return }
    clients[slot].longRequest = nil
    guard let upstream else {
      return reply(slot) {
        $0.error(Self.unreachable("the connection was lost while a command was being sent"))
      }
    }
    counters.commands += 1
    clients[slot].owed.append(.awaited)
    upstream.await(.relay(clients[slot].token))
    pause(slot, .answer)
  }

  /// Whether a client's long command waits until Redis has taken some of it.
  func waitsToPassOn(_ slot: Int) -> Bool {
    guard clients[slot].longRequest?.isSent == true, let token = clients[slot].session.pinned,
      let upstream = pins.connection(token)
    else { return false }
    return upstream.output.count > Self.outputHighWater
  }
}
