import CLinux
import Foundation
import Glibc
import Synchronization

/// A connection's other path: stands between clients and one server, and harms what passes as told.
///
/// It listens at `place` and connects each client to the server it points to. Bytes are never changed, lost or
/// reordered: as on a real network, a connection's bytes come late, or it ends. A frozen direction is one whose
/// packets are lost: neither bytes nor the end of the connection arrive until `heal`.
///
/// Everything it does happens on one thread of its own, which ends with it.
public final class FaultProxy: Sendable {
  public enum Direction: Int, CaseIterable, Sendable { case toServer, toClient }

  /// Where clients connect.
  public let place: SocketPlace
  private let shared: Shared

  /// - Parameters:
  ///   - place: where to listen; `.loopback(0)` takes a free port, which `place` then tells.
  ///   - server: where clients are connected to.
  public init(at place: SocketPlace, to server: SocketPlace) throws {
    let listener = try place.listen()
    self.place = listener.place
    let shared = Shared(server: server)
    self.shared = shared
    Thread.detachNewThread {
      var relay = ProxyRelay(listener: listener.descriptor, shared: shared)
      relay.run()
    }
  }

  deinit {
    shared.order { $0.stopped = true }
    if case .unix(let path) = place { unlink(path) }
  }

  /// Connections made from now on lead to `server`; `cut` moves those that exist.
  public func point(to server: SocketPlace) { shared.order { $0.server = server } }

  /// Closes every connection. What was on its way is lost.
  public func cut() { shared.order { $0.cuts += 1 } }

  /// Whether new connections are closed at once.
  public func refuse(_ refuses: Bool = true) { shared.order { $0.refuses = refuses } }

  /// Forwards nothing more in these directions, nor the end of a connection, until `heal`.
  public func freeze(_ directions: [Direction] = Direction.allCases) {
    shared.order { orders in directions.forEach { orders[$0].frozen = true } }
  }

  /// Everything that is read from now on arrives this much later.
  public func delay(_ time: Duration, _ directions: [Direction] = Direction.allCases) {
    let nanoseconds = UInt64(time.milliseconds * 1e6)
    shared.order { orders in directions.forEach { orders[$0].delay = nanoseconds } }
  }

  /// At most this many bytes a second in all.
  public func throttle(bytesPerSecond: Int, _ directions: [Direction] = Direction.allCases) {
    shared.order { orders in directions.forEach { orders[$0].rate = bytesPerSecond } }
  }

  /// Undoes everything but `cut` and `point`.
  public func heal() {
    shared.order { orders in
      orders.refuses = false
      Direction.allCases.forEach { orders[$0] = ProxyCondition() }
    }
  }

  /// Connections that exist now.
  public var connections: Int { shared.counts.withLock { $0.connections } }
  /// Bytes forwarded so far.
  public func forwarded(_ direction: Direction) -> Int {
    shared.counts.withLock { $0.bytes[direction.rawValue] }
  }
}

/// What is done to one direction.
struct ProxyCondition: Sendable {
  var frozen = false
  /// Nanoseconds.
  var delay: UInt64 = 0
  /// Bytes a second; nil: as many as come.
  var rate: Int?
}

struct ProxyOrders: Sendable {
  var server: SocketPlace
  var refuses = false
  var stopped = false
  var cuts = 0
  private var conditions = [ProxyCondition(), ProxyCondition()]

  init(server: SocketPlace) { self.server = server }

  subscript(_ direction: FaultProxy.Direction) -> ProxyCondition {
    get { conditions[direction.rawValue] }
    set { conditions[direction.rawValue] = newValue }
  }
}

/// What the proxy's owner and its thread share.
final class Shared: Sendable {
  let orders: Mutex<ProxyOrders>
  let counts = Mutex((connections: 0, bytes: [0, 0]))
  let wake = clinux_eventfd()

  init(server: SocketPlace) { orders = Mutex(ProxyOrders(server: server)) }

  deinit { close(wake) }

  func order(_ change: (inout ProxyOrders) -> Void) {
    orders.withLock { change(&$0) }
    clinux_eventfd_notify(wake)
  }
}
