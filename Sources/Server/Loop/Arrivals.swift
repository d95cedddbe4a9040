import Invalidation

/// Since when what lies in a socket may have been waiting there: the date of the commands that are read next.
///
/// Each instant that it keeps was taken before the socket was looked at. A process that is stopped between
/// the two then dates what came meanwhile too early, which refuses a SET, and never too late.
struct Arrivals {
  /// The latest poll that reported on every descriptor it watched, and an instant before it began.
  struct WholePoll {
    var number: UInt64 = 0
    var began: Instant
  }

  /// A read that began after this instant left the socket empty.
  private var drainedAt: Instant
  /// The latest poll that named the socket, or in whose time it was not watched.
  private var namedIn: UInt64

  /// `empty` is an instant before anything was sent; the socket is watched from the poll behind `poll` on.
  init(empty: Instant, poll: UInt64) {
    drainedAt = empty
    namedIn = poll
  }

  /// `poll` names the socket. Everything in it was sent after the result.
  ///
  /// A whole poll that did not name it saw it empty, unless the socket was not watched then.
  mutating func named(in poll: UInt64, last whole: WholePoll, watched: Bool) -> Instant {
    let empty = watched && namedIn < whole.number ? max(drainedAt, whole.began) : drainedAt
    drainedAt = empty
    namedIn = poll
    return empty
  }

  /// A read that began after `instant` took everything.
  mutating func drained(_ instant: Instant) { drainedAt = max(drainedAt, instant) }

  /// The socket is watched again, from the next poll on.
  mutating func resumed(in poll: UInt64) { namedIn = max(namedIn, poll) }
}
