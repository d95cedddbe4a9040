/// A connection from a host to a server. Each direction keeps its order. When it is cut, what is under way may
/// still arrive or not.
final class Link {
  private unowned let world: World
  private let host: Host
  private let process: Int
  private(set) var isCut = false
  private var toServer: UInt64 = 0
  private var toHost: UInt64 = 0
  private var lateRequests = false
  /// What the server had sent may still arrive until the host notices.
  private var lateReplies = false
  /// The server's incarnation that it leads to.
  private let incarnation: () -> Int
  private var bornIn: Int
  /// What the host does when it notices.
  private let broken: () -> Void

  init(
    _ world: World, _ host: Host, incarnation: @escaping () -> Int, broken: @escaping () -> Void = {}
  ) {
    self.world = world
    self.host = host
    process = host.process
    self.incarnation = incarnation
    bornIn = incarnation()
    self.broken = broken
  }

  func belongs(to host: Host) -> Bool { self.host === host }

  /// The next request comes a moment after the one before.
  func dawdle() { toServer = max(toServer, world.now) + world.random.below(300_000 as UInt64) }

  /// What the server sends, or is sent, arrives only after a while. Stalls add up, but not without end: a sidecar
  /// gives up a connection on which nothing comes for longer than that.
  func stallReplies(for time: UInt64) { toHost = stalled(toHost, time) }
  func stallRequests(for time: UInt64) { toServer = stalled(toServer, time) }

  private func stalled(_ until: UInt64, _ time: UInt64) -> UInt64 {
    max(until, min(max(until, world.now) + time, world.now + 5_000_000_000))
  }

  /// The connection outlives its server: a proxy leads it to another one.
  func reroute() { bornIn = incarnation() }

  /// `body` is what the server does with a request.
  func send(_ body: @escaping () -> Void) {
    guard !isCut else { return }
    toServer = max(toServer, world.now + world.latency(host))
    world.at(toServer) { [self] in
      if isCut && !lateRequests || bornIn != incarnation() { return }
      body()
    }
  }

  /// `body` is what the host does with something that the server has sent.
  func answer(_ body: @escaping () -> Void) {
    guard !isCut else { return }
    toHost = max(toHost, world.now + world.latency(host))
    world.at(toHost) { [self] in
      guard !isCut || lateReplies else { return }
      host.awake(process, body)
    }
  }

  /// `noticed`: after how long the host knows; nil: it is the host that gives up.
  func cut(noticed: UInt64? = nil) {
    guard !isCut else { return }
    isCut = true
    lateRequests = world.random.once(in: 2)
    guard let noticed else { return }
    lateReplies = world.random.once(in: 2)
    world.at(world.now + noticed) { [self] in
      lateReplies = false
      host.awake(process, broken)
    }
  }
}
