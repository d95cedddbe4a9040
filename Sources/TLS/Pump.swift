import CLinux
import Glibc
import Synchronization

/// Moves bytes between TLS connections and socketpairs, for all connections on one thread. It begins with the first
/// connection and ends with the process.
final class Pump: Sendable {
  private static let only = Mutex<Pump?>(nil)

  /// Nil: the system refuses a thread or a descriptor, this time.
  static var shared: Pump? {
    only.withLock { only in
      if only == nil { only = start() }
      return only
    }
  }

  /// A connection on its way to the thread.
  private final class Arrival: Sendable {
    let stream: Mutex<TLSStream?>
    let caller: Int32
    let ending: TLSEnding

    init(_ stream: consuming TLSStream, caller: Int32, ending: TLSEnding) {
      self.stream = Mutex(stream)
      self.caller = caller
      self.ending = ending
    }
  }

  private let arrivals = Mutex<[Arrival]>([])
  private let wake: Int32

  private init(wake: Int32) { self.wake = wake }

  private static func start() -> Pump? {
    let wake = clinux_eventfd()
    guard wake >= 0 else { return nil }
    let pump = Pump(wake: wake)
    let raw = Unmanaged.passRetained(pump)
    var thread = pthread_t()
    let failed = pthread_create(
      &thread, nil,
      { raw in
        guard let raw else { return nil }
        clinux_name_thread("redis-tls")
        Unmanaged<Pump>.fromOpaque(raw).takeRetainedValue().run()
      }, raw.toOpaque())
    guard failed == 0 else {
      raw.release()
      close(wake)
      return nil
    }
    pthread_detach(thread)
    return pump
  }

  /// Takes a connection whose handshake is done, and the pump's end of a socketpair.
  func adopt(_ stream: consuming TLSStream, caller: Int32, ending: TLSEnding) {
    let arrival = Arrival(stream, caller: caller, ending: ending)
    arrivals.withLock { $0.append(arrival) }
    clinux_eventfd_notify(wake)
  }

  private func run() -> Never {
    var connections: [PumpedConnection] = []
    // One entry for `wake`, then two for each connection.
    var watched = [pollfd(fd: wake, events: Int16(POLLIN), revents: 0)]
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 * 1024, alignment: 16)
    while true {
      let count = poll(&watched, nfds_t(watched.count), Self.pause(connections))
      if count < 0 {
        // Out of memory, if not interrupted: a busy loop would not mend that.
        if errno != EINTR { usleep(10_000) }
        continue
      }
      let isWoken = watched[0].revents != 0
      for index in connections.indices.reversed() {
        let (network, caller) = (watched[1 + 2 * index].revents, watched[2 + 2 * index].revents)
        let connection = connections[index]
        guard network != 0 || caller != 0 || connection.lingersUntil != nil else { continue }
        if connection.move(network: network, caller: caller, buffer) {
          Self.watch(connection, at: index, &watched)
        } else {
          // The last one takes its place; it has had its turn.
          let last = connections.count - 1
          connections.swapAt(index, last)
          connections.removeLast()
          watched.swapAt(1 + 2 * index, 1 + 2 * last)
          watched.swapAt(2 + 2 * index, 2 + 2 * last)
          watched.removeLast(2)
        }
      }
      guard isWoken else { continue }
      clinux_eventfd_drain(wake)
      for arrival in arrivals.withLock({ $0.take() }) {
        guard let stream = arrival.stream.withLock({ $0.take() }) else { continue }
        let connection = PumpedConnection(stream, caller: arrival.caller, ending: arrival.ending)
        connections.append(connection)
        watched += [pollfd(), pollfd()]
        Self.watch(connection, at: connections.count - 1, &watched)
      }
    }
  }

  private static func watch(_ connection: PumpedConnection, at index: Int, _ watched: inout [pollfd]) {
    let (network, caller) = (connection.flow.networkEvents, connection.flow.callerEvents)
    // poll(2) leaves out what has a negative descriptor.
    watched[1 + 2 * index] = pollfd(
      fd: network == nil ? -1 : connection.network, events: network ?? 0, revents: 0)
    watched[2 + 2 * index] = pollfd(
      fd: caller == nil ? -1 : connection.caller, events: caller ?? 0, revents: 0)
  }

  /// How long to poll, in milliseconds; -1: until something happens.
  private static func pause(_ connections: [PumpedConnection]) -> Int32 {
    guard let first = connections.lazy.compactMap(\.lingersUntil).min() else { return -1 }
    let now = monotonic()
    return first <= now ? 0 : Int32(clamping: (first - now) / 1_000_000 + 1)
  }
}

extension Array {
  /// All elements; none stay.
  fileprivate mutating func take() -> [Element] {
    defer { self = [] }
    return self
  }
}
