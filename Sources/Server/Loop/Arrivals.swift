import Invalidation

/// Since when what lies in a socket may have been waiting there: the date of the commands that are read next.
///
/// Each instant that it keeps was taken before the socket was looked at. A process that is stopped between
/// the two then dates what came meanwhile too early, which refuses a SET, and never too late.
///
/// What a Unix socket's client has sent lies in the socket. Over TCP it may still lie at the sender, for as long as
/// the window is closed, or an acknowledgement is delayed. There an instant at which the socket was empty only counts
/// for what is one `transit` older, and not at all while a `crowd`, which may have closed the window, was there.
struct Arrivals {
  /// How long what was sent over loopback TCP may be on its way to a receiver whose window is open: five times
  /// Linux's longest delay of an acknowledgement (tcp(7), net/tcp.h: TCP_DELACK_MAX, 200 ms).
  static let transit: UInt64 = 1_000_000_000
  /// So many bytes fit into every receive window that `ListenSocket` asks for (Linux's first one over loopback has
  /// 64 KiB).
  static let crowd = 32 * 1024

  /// The latest poll that reported on every descriptor it watched, and an instant before it began.
  struct WholePoll {
    var number: UInt64 = 0
    var began: Instant
  }

  /// A read that began after this instant left the socket empty.
  private var drainedAt: Instant
  /// The latest poll that named the socket, or in whose time it was not watched.
  private var namedIn: UInt64
  private let isTCP: Bool
  /// How many bytes have been read since the socket was last seen empty, and when they were a crowd. Only for TCP.
  private var taken = 0
  private var crowdedAt = Instant(nanoseconds: 0)

  /// `empty` is an instant before anything was sent; the socket is watched from the poll behind `poll` on.
  init(empty: Instant, poll: UInt64, isTCP: Bool = false) {
    drainedAt = empty
    namedIn = poll
    self.isTCP = isTCP
    if isTCP { drainedAt = empty.back(Self.transit) }
  }

  /// `poll` names the socket. Everything in it was sent after the result.
  ///
  /// A whole poll that did not name it saw it empty, unless the socket was not watched then.
  mutating func named(in poll: UInt64, last whole: WholePoll, watched: Bool) -> Instant {
    let empty = watched && namedIn < whole.number ? max(drainedAt, sent(by: whole.began)) : drainedAt
    drainedAt = empty
    namedIn = poll
    return empty
  }

  /// A read that began after `instant` took everything.
  mutating func drained(_ instant: Instant) {
    taken = 0
    drainedAt = max(drainedAt, sent(by: instant))
  }

  /// A read at `instant` took so many bytes; call it before `drained`.
  mutating func took(_ bytes: Int, at instant: Instant) {
    guard isTCP else { return }
    taken += bytes
    if taken >= Self.crowd { crowdedAt = instant }
  }

  /// The latest instant of which it is certain that whatever was sent until then had been read at `instant`, when the
  /// socket was seen empty.
  private func sent(by instant: Instant) -> Instant {
    guard isTCP else { return instant }
    return instant.since(crowdedAt) < Self.transit ? drainedAt : instant.back(Self.transit)
  }

  /// The same for a loop that has polls of its own, and watches the socket from the poll behind `poll` on.
  func moved(to poll: UInt64) -> Arrivals {
    var moved = self
    moved.namedIn = poll
    return moved
  }

  /// The socket is watched again, from the next poll on.
  mutating func resumed(in poll: UInt64) { namedIn = max(namedIn, poll) }
}
