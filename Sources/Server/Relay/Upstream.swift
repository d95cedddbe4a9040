import CLinux
import Configuration
import DequeModule
import Glibc
import Invalidation
import TLS

/// One pipelined connection to Redis. Two of them are shared by all clients that speak the same protocol version:
/// their commands are sent in the order in which they were read, so each client's replies come in its own order.
/// Others are one client's own (`Pins`). Only the event loop's thread touches them.
final class Upstream {
  enum Phase: Equatable {
    /// Not connected; `reason` is what clients are told.
    case down(reason: String, retryAt: Instant)
    case connecting
    /// Connected: HELLO, SELECT and the scripts are under way.
    case greeting
    case ready
  }

  enum Awaited {
    /// One reply, to be copied to this client.
    case relay(ClientToken)
    case task(UpstreamTask)

    var replies: Int { if case .task(let task) = self { task.replies } else { 1 } }
  }

  let resp3: Bool
  /// What epoll names it by.
  let token: UInt64
  /// Whether it loads our scripts when it connects. A client's own connection relies on the shared ones for that.
  let loads: Bool
  var phase: Phase
  var descriptor: Int32 = -1
  private var ending: TLSEnding?
  var input = IOBuffer(size: 64 * 1024)
  var output = IOBuffer(size: 64 * 1024)
  var awaited = Deque<Awaited>()
  /// How many of them have been settled, and, of those that commands of clients await, when they were sent: by their
  /// place among all that were ever awaited.
  private var settledCount = 0
  private var timed = Deque<(place: Int, command: Int, at: Instant)>()
  var wantsWrite = false
  /// Nothing is read while the client that it belongs to does not take what came.
  var readsPaused = false
  /// What CLIENT ID would answer on it; nil: Redis has not told.
  var number: Int?
  /// When Redis last sent something; while nothing is awaited, when it was last seen that nothing was.
  var heardAt = Instant(nanoseconds: 0)
  private var scanner = ReplyScanner()
  /// Complete replies of the first awaited request that lie at the front of `input`, and their bytes.
  private var collected = 0
  private var collectedBytes = 0
  /// SHA-1 digests by which EVALSHA names our scripts; Redis tells them when it loads a script.
  var digests: [GuardScript: [UInt8]] = [:]
  private var failures = 0
  /// SETs that are sent together, before anything else is.
  var fills = FillBatch()
  /// The state's key, for them.
  var fillMeta = ""
  /// What is awaited between MULTI and EXEC; nil: no transaction is being sent.
  private var transaction: [Awaited]?

  init(resp3: Bool, token: UInt64, loads: Bool = true) {
    self.resp3 = resp3
    self.token = token
    self.loads = loads
    phase = .down(reason: "not connected yet", retryAt: Instant(nanoseconds: 0))
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  var isReady: Bool { phase == .ready }

  /// Whether a connection has been made, or an attempt at one has failed.
  var hasBeenTried: Bool { isReady || failures > 0 }

  var trouble: String {
    if case .down(let reason, _) = phase { return reason }
    return "the connection is being made"
  }

  /// Why a secured connection ended, if it said so.
  var lastWord: String? { ending?.error?.description }

  /// Whether something has been awaited for `limit` nanoseconds in which nothing came, or something was to be sent in
  /// which nothing went.
  func isSilent(_ limit: UInt64, now: Instant) -> Bool {
    guard descriptor >= 0, !awaited.isEmpty || !output.isEmpty, !readsPaused else {
      heardAt = now
      return false
    }
    return now.since(heardAt) > limit
  }

  func await(_ request: Awaited) {
    if transaction == nil { awaited.append(request) } else { transaction?.append(request) }
  }

  /// The last request that is awaited was sent for this command.
  func time(_ command: Int, at instant: Instant) {
    guard transaction == nil else { return }
    timed.append((settledCount + awaited.count, command, instant))
  }

  /// The first awaited request has been answered; for which command it was sent, and when.
  func takeTime() -> (command: Int, at: Instant)? {
    settledCount += 1
    guard let first = timed.first, first.place <= settledCount else { return nil }
    timed.removeFirst()
    return (first.command, first.at)
  }

  /// What is sent until `endTransaction` goes between MULTI and EXEC.
  func beginTransaction() {
    sendFills()
    transaction = []
    output.array(1)
    output.argument("MULTI")
  }

  func endTransaction(_ client: ClientToken, commands: Int, owed: Int) {
    output.array(1)
    output.argument("EXEC")
    let inner = transaction ?? []
    transaction = nil
    // OK, QUEUED for each command, and the array of their replies.
    let queued = inner.reduce(0) { $0 + $1.replies }
    awaited.append(
      .task(
        UpstreamTask(
          client: client, replies: queued + 2,
          work: .transaction(SentTransaction(commands: commands, awaited: inner, owed: owed)))))
  }

  // MARK: Replies that are passed on piece by piece

  /// A reply longer than this is not collected before its client is given the beginning of it.
  static let longReply = 1024 * 1024

  /// The client that has been given the beginning of the first awaited reply.
  private(set) var passingOn: ClientToken?
  /// How long nothing more may be read, for the client that is given a reply piece by piece does not take it, though
  /// others wait for theirs as well; and when that began.
  var patience: UInt64 = 0
  var pausedAt = Instant(nanoseconds: 0)

  /// The client whose reply is the first one awaited, if so much of it is here that it is passed on.
  var longReplyOwner: ClientToken? {
    guard collected == 0, passingOn != nil || input.count > Self.longReply,
      case .relay(let token) = awaited.first
    else { return nil }
    return token
  }

  /// What is here of the first awaited reply, which is not complete; it is to be consumed.
  func beginning(for client: ClientToken) -> UnsafeRawBufferPointer {
    if passingOn == nil { patience = Self.patienceForOne }
    passingOn = client
    let length = scanner.position
    scanner.passed()
    return UnsafeRawBufferPointer(rebasing: input.bytes[..<length])
  }

  /// Whether anybody but the client whose reply is passed on awaits something.
  var othersWait: Bool {
    awaited.contains { awaited in
      switch awaited {
      case .relay(let client): client != passingOn
      case .task(let task): task.client != passingOn
      }
    }
  }

  static let patienceForOne: UInt64 = 200_000_000

  /// The replies of the first awaited request, once all are there; nil until then. They stay in `input`
  /// until `consume`.
  func nextReplies() throws(ConnectFailure) -> UnsafeRawBufferPointer? {
    guard let first = awaited.first else {
      if input.isEmpty { return nil }
      throw ConnectFailure(sentence: "Redis sent a reply that nobody asked for")
    }
    let needed = first.replies
    while collected < needed {
      let rest = UnsafeRawBufferPointer(rebasing: input.bytes[collectedBytes...])
      switch scanner.next(rest) {
      case .complete(let length):
        collected += 1
        collectedBytes += length
      case .incomplete: return nil
      case .malformed: throw ConnectFailure(sentence: "Redis sent bytes that are no reply")
      }
    }
    return UnsafeRawBufferPointer(rebasing: input.bytes[..<collectedBytes])
  }

  func consumeReplies() -> Int {
    let length = collectedBytes
    collected = 0
    collectedBytes = 0
    passingOn = nil
    return length
  }

  /// One complete reply or push at the front of `input`, for a connection on which nothing is awaited; it stays there
  /// until `consumeReplies`.
  func nextUnasked() throws(ConnectFailure) -> UnsafeRawBufferPointer? {
    switch scanner.next(input.bytes) {
    case .complete(let length):
      collectedBytes = length
      return UnsafeRawBufferPointer(rebasing: input.bytes[..<length])
    case .incomplete: return nil
    case .malformed: throw ConnectFailure(sentence: "Redis sent bytes that are no reply")
    }
  }

  /// Takes a connected descriptor and begins the greeting. `database`: nil: the configured one.
  func greet(_ socket: UpstreamSocket, settings: RedisSettings, database: Int? = nil) {
    descriptor = socket.descriptor
    ending = socket.ending
    phase = .greeting
    let auth = settings.password != nil || settings.user != nil
    output.array(auth ? 5 : 2)
    output.argument("HELLO")
    output.argument(resp3 ? "3" : "2")
    if auth {
      output.argument("AUTH")
      output.bulk(settings.user ?? "default")
      output.bulk(settings.password?.exposed ?? "")
    }
    awaited.append(.task(UpstreamTask(client: nil, work: .greeting)))
    let database = database ?? settings.database
    if database != 0 {
      output.array(2)
      output.argument("SELECT")
      output.bulk(String(database))
      awaited.append(.task(UpstreamTask(client: nil, work: .greeting)))
    }
    if loads { loadScripts() }
  }

  func loadScripts() {
    for script in GuardScript.allCases {
      output.array(3)
      output.argument("SCRIPT")
      output.argument("LOAD")
      output.bulk(script.source)
      awaited.append(.task(UpstreamTask(client: nil, work: .loadedScript(script))))
    }
  }

  func succeeded() {
    phase = .ready
    failures = 0
  }

  /// Gives the connection up; what was awaited is returned, to be answered with `reason`. The next attempt
  /// comes after a delay that doubles from 50 ms to 2 s, jittered so that a fleet does not come back at once.
  func fail(_ reason: String, now: Instant) -> Deque<Awaited> {
    sendFills()
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
    ending = nil
    failures = min(failures + 1, 6)
    let delay = min(50_000_000 << UInt64(failures - 1), 2_000_000_000)
    let jittered = UInt64(Double(delay) * Double.random(in: 0.5...1))
    phase = .down(reason: reason, retryAt: Instant(nanoseconds: now.nanoseconds + jittered))
    input = IOBuffer(size: 64 * 1024)
    output = IOBuffer(size: 64 * 1024)
    scanner = ReplyScanner()
    collected = 0
    collectedBytes = 0
    wantsWrite = false
    readsPaused = false
    passingOn = nil
    digests = [:]
    transaction = nil
    timed = []
    settledCount = 0
    defer { awaited = [] }
    return awaited
  }

  /// Begins EVALSHA of one of our scripts; `keys` keys and `arguments` other arguments follow.
  func begin(_ script: GuardScript, keys: Int, arguments: Int) {
    output.array(3 + keys + arguments)
    output.argument("EVALSHA")
    (digests[script] ?? []).withUnsafeBytes { output.bulk($0) }
    output.bulk(String(keys))
  }
}

/// A connection to Redis that has been made, non-blocking.
struct UpstreamSocket: Sendable {
  var descriptor: Int32
  /// nil: it is not encrypted.
  var ending: TLSEnding?
}

/// Connects to Redis, on a thread of its own: names are resolved and connections made without holding up the
/// event loop.
enum UpstreamConnector {
  static func start(
    _ redis: RedisSettings, token: UInt64, mailbox: LoopMailbox
  ) -> Bool {
    Worker.detached("redis-connect") { mailbox.post(.upstream(token: token, connect(redis))) }
  }

  private static func connect(_ redis: RedisSettings) -> Result<UpstreamSocket, ConnectFailure> {
    connect(redis.endpoint, timeout: redis.timeout).flatMap { descriptor in
      guard let tls = redis.tls, case .tcp(let host, let port) = redis.endpoint else {
        return .success(UpstreamSocket(descriptor: descriptor))
      }
      do throws(TLSError) {
        let socket = try SecureSocket.open(
          over: descriptor, host: host, settings: tls, within: redis.timeout)
        _ = fcntl(socket.descriptor, F_SETFL, fcntl(socket.descriptor, F_GETFL) | O_NONBLOCK)
        return .success(UpstreamSocket(descriptor: socket.descriptor, ending: socket.ending))
      } catch {
        return .failure(ConnectFailure(sentence: "\(host):\(port): \(error)"))
      }
    }
  }

  private static func connect(_ endpoint: RedisSettings.Endpoint, timeout: UInt64) -> Result<
    Int32, ConnectFailure
  > {
    switch endpoint {
    case .unix(let path):
      let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
      guard descriptor >= 0 else { return .failure(failure("unix:" + path)) }
      guard let result = withUnixAddress(path, { Glibc.connect(descriptor, $0, $1) }) else {
        close(descriptor)
        return .failure(ConnectFailure(sentence: "unix:\(path): the path is longer than 107 bytes"))
      }
      return finish(descriptor, result, "unix:" + path)
    case .tcp(let host, let port):
      var hints = addrinfo()
      hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
      var list: UnsafeMutablePointer<addrinfo>?
      let code = getaddrinfo(host, String(port), &hints, &list)
      guard code == 0 else {
        return .failure(ConnectFailure(sentence: "\(host): \(String(cString: gai_strerror(code)))"))
      }
      defer { freeaddrinfo(list) }
      var last: Result<Int32, ConnectFailure> = .failure(ConnectFailure(sentence: "\(host): no address"))
      var next = list
      while let entry = next {
        next = entry.pointee.ai_next
        let descriptor = socket(entry.pointee.ai_family, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { continue }
        // SO_SNDTIMEO also bounds connect(2) (socket(7)); the descriptor is made non-blocking afterwards.
        var limit = timeval(tv_sec: Int(timeout / 1_000_000_000), tv_usec: Int(timeout / 1000 % 1_000_000))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var on: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, socklen_t(MemoryLayout<Int32>.size))
        // A subscriber, or who blocks, sends nothing by which a server that has vanished would be noticed. tcp(7).
        for (option, value) in [(TCP_KEEPIDLE, 15), (TCP_KEEPINTVL, 5), (TCP_KEEPCNT, 3)] {
          var value = Int32(value)
          setsockopt(descriptor, Int32(IPPROTO_TCP), option, &value, socklen_t(MemoryLayout<Int32>.size))
        }
        let result = Glibc.connect(descriptor, entry.pointee.ai_addr, entry.pointee.ai_addrlen)
        last = finish(descriptor, result, "\(host):\(port)")
        if case .success = last { return last }
      }
      return last
    }
  }

  private static func finish(
    _ descriptor: Int32, _ result: Int32, _ place: String
  ) -> Result<Int32, ConnectFailure> {
    guard result == 0 else {
      let failed = failure(place)
      close(descriptor)
      return .failure(failed)
    }
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    return .success(descriptor)
  }

  private static func failure(_ place: String) -> ConnectFailure {
    ConnectFailure(sentence: "\(place): \(String(cString: strerror(errno)))")
  }
}

/// Calls `body` with the address of a Unix socket; nil if the path is too long for one (unix(7)).
public func withUnixAddress<Result>(
  _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result? {
  var address = sockaddr_un()
  address.sun_family = sa_family_t(AF_UNIX)
  let bytes = Array(path.utf8)
  guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
  withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
  return withUnsafePointer(to: &address) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
    }
  }
}
