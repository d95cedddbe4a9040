import Glibc

/// One connection of the pump: moves what can be moved. It belongs to the pump's thread.
final class PumpedConnection {
  /// How much one turn moves each way at most, so that a large value does not hold up the others.
  private static let turn = 16

  private var stream: TLSStream
  /// The pump's end of the socketpair.
  let caller: Int32
  private let ending: TLSEnding
  private(set) var flow = Flow()
  /// What the other side has not taken yet; empty nearly always.
  private var incoming: [UInt8] = []
  private var outgoing: [UInt8] = []
  private var saidGoodbye = false
  /// When what is on its way is given up, by `monotonic`.
  private(set) var lingersUntil: UInt64?

  init(_ stream: consuming TLSStream, caller: Int32, ending: TLSEnding) {
    self.stream = stream
    self.caller = caller
    self.ending = ending
  }

  /// After `ending` is told, since the caller looks there when it sees its socket closed.
  deinit { close(caller) }

  var network: Int32 { stream.descriptor }

  /// Moves what can be moved, given what poll(2) said of both sockets. Whether the connection goes on.
  func move(network: Int16, caller: Int16, _ buffer: UnsafeMutableRawBufferPointer) -> Bool {
    if caller & Int16(POLLHUP | POLLERR) != 0 {
      flow.callerGone = true
      drop()
    }
    if flow.hasIncoming, caller != 0 { deliver() }
    if network != 0 { readNetwork(buffer) }
    if flow.writesNetwork, network != 0 { writeOutgoing() }
    if caller != 0 { readCaller(buffer) }
    if flow.callerEnded, !flow.hasOutgoing, !saidGoodbye {
      saidGoodbye = true
      stream.finishSending()
    }
    if flow.isLingering, lingersUntil == nil { lingersUntil = monotonic() + 10_000_000_000 }
    return !flow.isFinished && (lingersUntil.map { monotonic() < $0 } ?? true)
  }

  // MARK: From the network to the caller

  private func readNetwork(_ buffer: UnsafeMutableRawBufferPointer) {
    for _ in 0..<Self.turn where flow.readsNetwork {
      switch stream.read(into: buffer) {
      case .moved(let count):
        flow.readNeeds = POLLIN
        let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count])
        let sent = give(bytes)
        if sent < count, !flow.callerGone {
          incoming = Array(bytes[sent...])
          flow.hasIncoming = true
        }
      case .waitsToRead:
        flow.readNeeds = POLLIN
        return
      case .waitsToWrite:
        flow.readNeeds = POLLOUT
        return
      case .cannotSend:
        // Nothing can be read before something is sent, and that is over.
        flow.cannotSend = true
        flow.networkEnded = true
      case .ended: flow.networkEnded = true
      case .failed(let error):
        ending.tell(error)
        flow.networkEnded = true
      }
    }
  }

  private func deliver() {
    let sent = incoming.withUnsafeBytes { give($0) }
    if sent == incoming.count || flow.callerGone { drop() } else { incoming.removeFirst(sent) }
  }

  private func drop() {
    incoming = []
    flow.hasIncoming = false
  }

  /// How many of the bytes the caller's socket takes.
  private func give(_ bytes: UnsafeRawBufferPointer) -> Int {
    var given = 0
    while given < bytes.count {
      let count = send(
        caller, bytes.baseAddress.map { $0 + given }, bytes.count - given, Int32(MSG_NOSIGNAL))
      if count >= 0 {
        given += count
      } else if errno == EAGAIN {
        break
      } else if errno != EINTR {
        flow.callerGone = true
        break
      }
    }
    return given
  }

  // MARK: From the caller to the network

  private func readCaller(_ buffer: UnsafeMutableRawBufferPointer) {
    for _ in 0..<Self.turn where flow.readsCaller {
      let count = recv(caller, buffer.baseAddress, buffer.count, 0)
      if count < 0, errno == EINTR { continue }
      if count < 0, errno == EAGAIN { return }
      guard count > 0 else {
        flow.callerEnded = true
        return
      }
      let taken = write(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
      if taken < count, !flow.cannotSend {
        outgoing = Array(buffer[taken..<count])
        flow.hasOutgoing = true
      }
    }
  }

  private func writeOutgoing() {
    let taken = outgoing.withUnsafeBytes { write($0) }
    if taken == outgoing.count || flow.cannotSend {
      outgoing = []
      flow.hasOutgoing = false
    } else {
      outgoing.removeFirst(taken)
    }
  }

  /// How many of the bytes TLS takes.
  private func write(_ bytes: UnsafeRawBufferPointer) -> Int {
    var taken = 0
    while taken < bytes.count {
      switch stream.write(UnsafeRawBufferPointer(rebasing: bytes[taken...])) {
      case .moved(let count):
        taken += count
        flow.writeNeeds = POLLOUT
      case .waitsToWrite:
        flow.writeNeeds = POLLOUT
        return taken
      case .waitsToRead:
        flow.writeNeeds = POLLIN
        return taken
      case .cannotSend, .ended:
        flow.cannotSend = true
        return taken
      case .failed(let error):
        ending.tell(error)
        flow.cannotSend = true
        return taken
      }
    }
    return taken
  }
}
