import Invalidation

/// Connections to Redis that are one client's own for as long as it carries what only a connection can carry: keys
/// watched, another database, subscriptions, a command that blocks.
///
/// A connection that carries nothing any more is kept for the next client, for a while; one whose client has gone in
/// the middle of something is closed.
struct Pins {
  struct Pin {
    let upstream: Upstream
    var owner: ClientToken?
    var takesMessages: Bool
    /// The database that it is to select when it connects; nil: the configured one.
    var database: Int?
    /// A command that may take long is under way, so silence says nothing.
    var isBlocked = false
    var idleSince: Instant
  }

  /// How many connections that nobody uses are kept, and for how many nanoseconds.
  static let mostIdle = 16
  /// How many are kept ready while clients want such connections: what blocks should not reach Redis later than what
  /// another client sends after it.
  static let spares = 4
  static let idleLimit: UInt64 = 30_000_000_000

  private(set) var all: [UInt64: Pin] = [:]
  /// Those that may have something to be written.
  var touched: [UInt64] = []
  /// Connections that nobody uses, and some that are gone.
  private var idle: [UInt64] = []
  private var last: UInt32 = 0

  subscript(token: UInt64) -> Pin? {
    get { all[token] }
    set { all[token] = newValue }
  }

  func connection(_ token: UInt64) -> Upstream? { all[token]?.upstream }
  func database(of token: UInt64) -> Int? { all[token]?.database }

  /// Takes a connection that nobody uses, for `owner`.
  mutating func takeIdle(resp3: Bool, owner: ClientToken, takesMessages: Bool) -> Upstream? {
    idle.removeAll { all[$0] == nil }
    guard let place = idle.lastIndex(where: { all[$0]?.upstream.resp3 == resp3 }) else { return nil }
    let token = idle.remove(at: place)
    all[token]?.owner = owner
    all[token]?.takesMessages = takesMessages
    return all[token]?.upstream
  }

  /// A spare connection has been made.
  mutating func addIdle(_ token: UInt64, now: Instant) {
    if !idle.contains(token) { giveBack(token, now: now) }
  }

  /// Nobody uses the connection any more, and it carries nothing.
  mutating func giveBack(_ token: UInt64, now: Instant) {
    all[token]?.owner = nil
    all[token]?.isBlocked = false
    all[token]?.idleSince = now
    idle.append(token)
  }

  /// Whether another connection should be made for whoever wants one next.
  func needsSpare(resp3: Bool) -> Bool {
    all.values.count { $0.owner == nil && $0.upstream.resp3 == resp3 } < Self.spares
  }

  mutating func add(resp3: Bool, owner: ClientToken?, takesMessages: Bool, now: Instant) -> Upstream {
    last &+= 1
    let token = EventLoop.Token.pin(last)
    let upstream = Upstream(resp3: resp3, token: token, loads: false)
    all[token] = Pin(upstream: upstream, owner: owner, takesMessages: takesMessages, idleSince: now)
    return upstream
  }

  mutating func remove(_ token: UInt64) { all[token] = nil }

  /// Idle connections that have been so for too long, or are too many.
  mutating func superfluous(_ now: Instant) -> [UInt64] {
    idle.removeAll { all[$0] == nil }
    return idle.reversed().enumerated()
      .filter { place, token in
        place >= Self.mostIdle || all[token].map { now.since($0.idleSince) > Self.idleLimit } ?? false
      }
      .map(\.element)
  }
}
