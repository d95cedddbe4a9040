import Glibc

/// Where one connection of the pump stands, and what it waits for. The pump reads from one side only while the other
/// has taken everything: so it holds a record and a buffer for each direction at most, and what is too fast is held
/// back by the kernel's buffers.
///
///     caller ⇄ socketpair ⇄ pump ⇄ OpenSSL ⇄ network
struct Flow {
  /// Something from the network that the caller has not taken yet.
  var hasIncoming = false
  /// Something from the caller that the network has not taken yet.
  var hasOutgoing = false
  /// What reading from the network waits for, and what writing to it waits for: to agree on new keys, TLS may have to
  /// write before it can read, and the other way round.
  var readNeeds = POLLIN
  var writeNeeds = POLLOUT
  /// The network has said its last word.
  var networkEnded = false
  /// The network takes nothing any more.
  var cannotSend = false
  /// The caller has said its last word.
  var callerEnded = false
  /// The caller has closed its socket: it takes nothing either.
  var callerGone = false

  /// Whether there is nothing left to do.
  var isFinished: Bool {
    if callerGone { return networkEnded || cannotSend || callerEnded && !hasOutgoing }
    return networkEnded && !hasIncoming
  }

  /// Whether what the caller sent last is still on its way although nobody waits for an answer. It is given a limited
  /// time.
  var isLingering: Bool { callerGone && !isFinished }

  var readsNetwork: Bool { !networkEnded && !hasIncoming && !callerGone }
  var readsCaller: Bool { !callerEnded && !hasOutgoing && !cannotSend }
  var writesNetwork: Bool { hasOutgoing && !cannotSend }

  /// What to poll the network's socket for; nil: not at all, since poll(2) tells of errors unasked, again and again.
  var networkEvents: Int16? {
    let events = (readsNetwork ? readNeeds : 0) | (writesNetwork ? writeNeeds : 0)
    return events == 0 ? nil : Int16(events)
  }

  /// The same for the caller's side. It is polled even for nothing, so that its closing is told.
  var callerEvents: Int16? {
    let events = (readsCaller ? POLLIN : 0) | (hasIncoming && !callerGone ? POLLOUT : 0)
    return events == 0 && callerGone ? nil : Int16(events)
  }
}
