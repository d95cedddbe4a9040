import CLinux
import Glibc
import Histogram
import TestSupport

/// What one run has seen.
struct Outcome {
  var requests = 0
  var misses = 0
  var errors = 0
  var firstError: String?
  var seconds = 0.0
  /// From the write of a batch to the last of its replies, in nanoseconds.
  var latencies = Histogram<UInt64>(
    highestTrackableValue: 60_000_000_000, numberOfSignificantValueDigits: .two)

  var rate: Double { Double(requests) / max(seconds, 1e-9) }
}

/// Clients that send batches and wait for their replies, all in the calling thread.
struct Generator {
  enum End {
    /// Each connection sends batches until so many nanoseconds have passed.
    case time(UInt64)
    /// Every request of the order is sent once.
    case once
  }

  private struct Connection {
    var descriptor: Int32
    var counter: ReplyCounter
    var output: [UInt8] = []
    var written = 0
    var awaited = 0
    var next: Int
    var sentAt: UInt64 = 0
    var waitsToWrite = false
  }

  private static let inputBytes = 256 * 1024

  /// Runs to the end and closes its connections.
  static func run(
    _ requests: Requests, at endpoint: Endpoint, _ dialect: Dialect, connections count: Int, depth: Int,
    until end: End
  ) throws -> Outcome {
    var outcome = Outcome()
    let epoll = clinux_epoll_create()
    defer { close(epoll) }
    var connections: [Connection] = []
    defer { for connection in connections { close(connection.descriptor) } }
    for number in 0..<count {
      let descriptor = try endpoint.connect()
      connections.append(
        Connection(
          descriptor: descriptor, counter: ReplyCounter(dialect),
          next: requests.order.count / count * number))
      guard clinux_epoll_add(epoll, descriptor, UInt32(CLINUX_READABLE), UInt64(number)) == 0 else {
        throw HarnessError("epoll: \(String(cString: strerror(errno)))")
      }
    }
    let input = UnsafeMutableRawBufferPointer.allocate(byteCount: inputBytes, alignment: 64)
    defer { input.deallocate() }
    let events = UnsafeMutablePointer<clinux_event>.allocate(capacity: 512)
    defer { events.deallocate() }

    let start = clinux_boot_nanoseconds()
    var stop = UInt64.max
    var left = Int.max
    switch end {
    case .time(let nanoseconds): stop = start + nanoseconds
    case .once: left = requests.order.count
    }
    var running = 0

    /// Sends the next batch of a connection, unless the end has come.
    func begin(_ number: Int, _ now: UInt64) throws {
      guard now < stop, left > 0 else {
        running -= 1
        return
      }
      let size = min(depth, left)
      connections[number].output.removeAll(keepingCapacity: true)
      for _ in 0..<size {
        var place = connections[number].next
        if case .once = end {
          place = requests.order.count - left
          left -= 1
        } else {
          connections[number].next = place + 1 == requests.order.count ? 0 : place + 1
        }
        let id = Int(requests.order[place])
        connections[number].output.append(
          contentsOf: requests.bytes[requests.starts[id]..<requests.starts[id + 1]])
      }
      connections[number].written = 0
      connections[number].awaited = size
      connections[number].sentAt = now
      try write(number)
    }

    func write(_ number: Int) throws {
      let written = connections[number].written
      let n = connections[number].output.withUnsafeBytes {
        send(
          connections[number].descriptor, $0.baseAddress.map { $0 + written }, $0.count - written,
          Int32(MSG_NOSIGNAL))
      }
      if n < 0, errno != EAGAIN {
        throw HarnessError("the server closed a connection: \(String(cString: strerror(errno)))")
      }
      connections[number].written += max(0, n)
      let isWhole = connections[number].written == connections[number].output.count
      guard connections[number].waitsToWrite == isWhole else { return }
      connections[number].waitsToWrite = !isWhole
      let events = UInt32(CLINUX_READABLE) | (isWhole ? 0 : UInt32(CLINUX_WRITABLE))
      _ = clinux_epoll_modify(epoll, connections[number].descriptor, events, UInt64(number))
    }

    for number in 0..<count {
      running += 1
      try begin(number, clinux_boot_nanoseconds())
    }
    while running > 0 {
      let ready = clinux_epoll_wait(epoll, events, 512, 10_000)
      guard ready > 0 else {
        if ready < 0, errno == EINTR { continue }
        throw HarnessError("no reply for 10 s")
      }
      for at in 0..<Int(ready) {
        let number = Int(events[at].token)
        if events[at].events & UInt32(CLINUX_WRITABLE) != 0 { try write(number) }
        let n = recv(connections[number].descriptor, input.baseAddress, input.count, 0)
        guard n > 0 else {
          if n < 0, errno == EAGAIN { continue }
          throw HarnessError("the server closed a connection")
        }
        let replies = connections[number].counter.feed(UnsafeRawBufferPointer(rebasing: input[..<n]))
        connections[number].awaited -= replies
        outcome.requests += replies
        guard connections[number].awaited == 0 else { continue }
        let now = clinux_boot_nanoseconds()
        outcome.latencies.record(now - connections[number].sentAt)
        try begin(number, now)
      }
    }
    outcome.seconds = Double(clinux_boot_nanoseconds() - start) / 1e9
    for connection in connections {
      outcome.misses += connection.counter.misses
      outcome.errors += connection.counter.errors
      outcome.firstError = outcome.firstError ?? connection.counter.firstError
    }
    return outcome
  }
}
