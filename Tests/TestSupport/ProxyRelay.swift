import CLinux
import Glibc
import Synchronization

/// The thread of a `FaultProxy`: one poll(2) over its listener and all connections.
struct ProxyRelay {
  private let listener: Int32
  private let shared: Shared
  private var links: [ProxyLink] = []
  private var cutsDone = 0
  /// Bytes that each direction may still forward, when it is throttled, and when that was last worked out.
  private var allowance = [0.0, 0.0]
  private var refilled: UInt64

  init(listener: Int32, shared: Shared) {
    self.listener = listener
    self.shared = shared
    refilled = clinux_boot_nanoseconds()
  }

  mutating func run() {
    while true {
      let orders = shared.orders.withLock { $0 }
      if orders.stopped { break }
      if orders.cuts != cutsDone {
        cutsDone = orders.cuts
        links.forEach { $0.close() }
        links = []
      }
      turn(orders)
      shared.counts.withLock { $0.connections = links.count }
    }
    links.forEach { $0.close() }
    close(listener)
  }

  /// Waits until something can be done, and does it.
  private mutating func turn(_ orders: ProxyOrders) {
    let now = clinux_boot_nanoseconds()
    refill(orders, now)
    var waited: [pollfd] = [
      pollfd(fd: shared.wake, events: Int16(POLLIN), revents: 0),
      pollfd(fd: listener, events: Int16(POLLIN), revents: 0),
    ]
    var until = now + 1_000_000_000
    for link in links {
      for direction in FaultProxy.Direction.allCases {
        let pipe = link.pipes[direction.rawValue]
        let condition = orders[direction]
        // A descriptor of which nothing is wanted is left out: poll would report its end again and again.
        let reads = !condition.frozen && pipe.wantsToRead
        waited.append(pollfd(fd: reads ? pipe.source : -1, events: Int16(POLLIN), revents: 0))
        var writes = false
        if !condition.frozen, let due = pipe.nextDue {
          if due > now {
            until = min(until, due)
          } else if condition.rate != nil, allowance[direction.rawValue] < 1 {
            until = min(until, now + 5_000_000)
          } else {
            writes = true
          }
        }
        waited.append(pollfd(fd: writes ? pipe.sink : -1, events: Int16(POLLOUT), revents: 0))
      }
    }
    let milliseconds = Int32((until - now + 999_999) / 1_000_000)
    guard poll(&waited, nfds_t(waited.count), milliseconds) > 0 else { return }
    if waited[0].revents != 0 { clinux_eventfd_drain(shared.wake) }
    // What was ordered before these bytes were sent holds for them, so it is looked at once more.
    let orders = shared.orders.withLock { $0 }
    guard orders.cuts == cutsDone, !orders.stopped else { return }
    var at = 2
    for index in links.indices {
      for direction in FaultProxy.Direction.allCases {
        let (readable, writable) = (waited[at].revents != 0, waited[at + 1].revents != 0)
        at += 2
        let condition = orders[direction]
        if readable, !condition.frozen { links[index].read(direction, delay: condition.delay) }
        if writable, !condition.frozen { write(index, direction, limited: condition.rate != nil) }
        links[index].passEnd(direction, frozen: condition.frozen)
      }
    }
    for link in links where link.isOver { link.close() }
    links.removeAll(where: \.isOver)
    if waited[1].revents != 0 { accept(orders) }
  }

  private mutating func refill(_ orders: ProxyOrders, _ now: UInt64) {
    let passed = Double(now - refilled) / 1e9
    refilled = now
    for direction in FaultProxy.Direction.allCases {
      guard let rate = orders[direction].rate.map(Double.init) else { continue }
      // No more than a tenth of a second's worth may pile up.
      let more = allowance[direction.rawValue] + rate * passed
      allowance[direction.rawValue] = min(more, max(1, rate / 10))
    }
  }

  private mutating func write(_ index: Int, _ direction: FaultProxy.Direction, limited: Bool) {
    let room = limited ? Int(allowance[direction.rawValue]) : Int.max
    let written = links[index].write(direction, atMost: room)
    if limited { allowance[direction.rawValue] -= Double(written) }
    shared.counts.withLock { $0.bytes[direction.rawValue] += written }
  }

  private mutating func accept(_ orders: ProxyOrders) {
    let client = clinux_accept(listener)
    guard client >= 0 else { return }
    guard !orders.refuses, let server = orders.server.connect() else {
      close(client)
      return
    }
    _ = fcntl(server, F_SETFL, fcntl(server, F_GETFL) | O_NONBLOCK)
    if case .loopback = orders.server {
      var on: Int32 = 1
      setsockopt(server, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    }
    links.append(ProxyLink(client: client, server: server))
  }
}

/// One client and its connection to the server.
struct ProxyLink {
  struct Pipe {
    let source: Int32
    let sink: Int32
    /// What was read and has not been written, and when it may be.
    var chunks: [(due: UInt64, bytes: ArraySlice<UInt8>)] = []
    var held = 0
    /// The source has said that nothing more comes; the sink has been told.
    var ended = false
    var endPassed = false

    /// A sender is held up, as by a full window, when this much is on its way.
    static let mostHeld = 1 << 20

    var wantsToRead: Bool { !ended && held < Self.mostHeld }
    var nextDue: UInt64? { chunks.first?.due }
  }

  private(set) var pipes: [Pipe]
  private var broken = false

  init(client: Int32, server: Int32) {
    pipes = [Pipe(source: client, sink: server), Pipe(source: server, sink: client)]
  }

  var isOver: Bool { broken || pipes.allSatisfy(\.endPassed) }

  func close() {
    Glibc.close(pipes[0].source)
    Glibc.close(pipes[0].sink)
  }

  mutating func read(_ direction: FaultProxy.Direction, delay: UInt64) {
    let at = direction.rawValue
    var buffer = [UInt8](repeating: 0, count: 65_536)
    let count = recv(pipes[at].source, &buffer, buffer.count, Int32(MSG_DONTWAIT))
    if count < 0 {
      if errno != EAGAIN && errno != EINTR { broken = true }
      return
    }
    if count == 0 {
      pipes[at].ended = true
      return
    }
    pipes[at].chunks.append((clinux_boot_nanoseconds() + delay, buffer[..<count]))
    pipes[at].held += count
  }

  /// Returns how much it wrote.
  mutating func write(_ direction: FaultProxy.Direction, atMost room: Int) -> Int {
    let at = direction.rawValue
    let now = clinux_boot_nanoseconds()
    var written = 0
    while let first = pipes[at].chunks.first, first.due <= now, written < room {
      let piece = first.bytes.prefix(room - written)
      let count = piece.withUnsafeBytes {
        send(
          pipes[at].sink, $0.baseAddress, $0.count,
          Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
      }
      if count < 0 {
        if errno != EAGAIN && errno != EINTR { broken = true }
        break
      }
      written += count
      pipes[at].held -= count
      if count == first.bytes.count {
        pipes[at].chunks.removeFirst()
      } else {
        pipes[at].chunks[0].bytes = first.bytes.dropFirst(count)
        break
      }
    }
    return written
  }

  /// Tells the sink that nothing more comes, once everything before that has gone.
  mutating func passEnd(_ direction: FaultProxy.Direction, frozen: Bool) {
    let at = direction.rawValue
    guard pipes[at].ended, !pipes[at].endPassed, !frozen, pipes[at].chunks.isEmpty else { return }
    pipes[at].endPassed = true
    shutdown(pipes[at].sink, Int32(SHUT_WR))
  }
}
