import CHiredis
import Configuration
import Glibc
import TLS

/// One connection to Redis, through hiredis: logged in, its database selected. It belongs to the thread that
/// uses it; after a thrown error it is of no further use (an error reply is a reply, not a thrown error).
///
/// It begins blocking, and no call waits longer than `RedisSettings.timeout`. The tailer makes it
/// non-blocking once the conversation at the start is over.
public struct RedisConnection: ~Copyable {
  private let context: UnsafeMutablePointer<redisContext>
  let place: String
  /// Tells why a secured connection ended.
  private let ending: TLSEnding?

  /// - Parameters:
  ///   - name: what `CLIENT LIST` shows; without spaces.
  ///   - patience: nanoseconds that a reply may take beyond `settings.timeout`, for commands that wait.
  public init(
    _ settings: RedisSettings, name: String = "nearside", patience: UInt64 = 0
  ) throws(RedisError) {
    let opened = try Self.open(settings)
    var connection = RedisConnection(
      context: opened.context, place: settings.endpoint.place, ending: opened.ending)
    _ = redisSetTimeout(connection.context, timeval(nanoseconds: settings.timeout &+ patience))
    do throws(RedisError) {
      try connection.logIn(settings, name: name)
    } catch {
      guard error.kind == .closed, settings.isPlainNetwork else { throw error }
      // A port with TLS does not say what it misses.
      throw RedisError(.closed, error.description + " A port with TLS is written rediss://.")
    }
    self = connection
  }

  private init(context: UnsafeMutablePointer<redisContext>, place: String, ending: TLSEnding?) {
    self.context = context
    self.place = place
    self.ending = ending
  }

  deinit { redisFree(context) }

  // MARK: Blocking use

  /// Sends one command and waits for its reply.
  public mutating func command(_ words: [String]) throws(RedisError) -> RedisReply {
    try append(words)
    return try receive()
  }

  /// The same for arguments that need not be text.
  public mutating func command(_ words: [[UInt8]]) throws(RedisError) -> RedisReply {
    var arguments = RedisArguments()
    for word in words { arguments.append(word) }
    try append(&arguments)
    return try receive()
  }

  /// Puts a command behind those that wait to be sent.
  public mutating func append(_ words: [String]) throws(RedisError) {
    var arguments = RedisArguments(words)
    try append(&arguments)
  }

  mutating func append(_ arguments: inout RedisArguments) throws(RedisError) {
    guard arguments.append(to: context) == REDIS_OK else { throw broken() }
  }

  /// Sends what waits, and waits for the next reply.
  public mutating func receive() throws(RedisError) -> RedisReply {
    var raw: UnsafeMutableRawPointer?
    guard redisGetReply(context, &raw) == REDIS_OK, let raw else { throw broken() }
    return RedisReply(taking: raw)
  }

  /// Like `command`, but an error reply is thrown too.
  mutating func demand(_ words: [String]) throws(RedisError) -> RedisReply {
    let reply = try command(words)
    if case .error(let text) = reply { throw RedisError(answer: text, place: place) }
    return reply
  }

  // MARK: Non-blocking use

  /// The socket, for poll(2).
  public var descriptor: Int32 { context.pointee.fd }

  /// From here on `write`, `read` and `next` are used instead of `command` and `receive`.
  mutating func becomeNonBlocking() {
    context.pointee.flags &= ~REDIS_BLOCK
    let descriptor = context.pointee.fd
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
  }

  /// Writes as much as the socket takes; whether nothing is left.
  mutating func write() throws(RedisError) -> Bool {
    var done: Int32 = 0
    guard redisBufferWrite(context, &done) == REDIS_OK else { throw broken() }
    return done != 0
  }

  /// Reads once what the socket has, at most 16 KiB.
  mutating func read() throws(RedisError) {
    guard redisBufferRead(context) == REDIS_OK else { throw broken() }
  }

  /// A reply that has arrived in full.
  mutating func next() throws(RedisError) -> RedisReply? {
    var raw: UnsafeMutableRawPointer?
    guard redisGetReplyFromReader(context, &raw) == REDIS_OK else { throw broken() }
    return raw.map { RedisReply(taking: $0) }
  }

  // MARK: Beginning and end

  private static func prepareSocket(
    _ context: UnsafeMutablePointer<redisContext>, _ settings: RedisSettings
  ) {
    let descriptor = context.pointee.fd
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    if case .tcp = settings.endpoint {
      _ = redisEnableKeepAlive(context)
      // A peer that has vanished is noticed when what was sent stays unacknowledged. tcp(7).
      var milliseconds = UInt32(clamping: max(settings.timeout / 1_000_000, 1))
      _ = setsockopt(
        descriptor, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, &milliseconds,
        socklen_t(MemoryLayout.size(ofValue: milliseconds)))
    }
  }

  private mutating func logIn(_ settings: RedisSettings, name: String) throws(RedisError) {
    // A user without a password may be one to whom Redis lets everybody in.
    if settings.password != nil || settings.user != nil {
      let password = settings.password?.exposed ?? ""
      let reply = try command(["AUTH"] + (settings.user.map { [$0] } ?? []) + [password])
      if case .error(let text) = reply {
        // The only error reply that could repeat what was sent is one for a malformed command.
        if text.hasPrefix("ERR AUTH") || text.hasPrefix("ERR Client sent AUTH") {
          throw RedisError(
            .refused,
            "Redis at \(place) has no password for its default user, but one is configured; remove it, or "
              + "name the user it belongs to.")
        }
        throw RedisError(answer: text, place: place)
      }
    }
    // A user who may not name its connection is still welcome, but one who must log in first is not.
    if case .error(let text) = try command(["CLIENT", "SETNAME", name]), !text.hasPrefix("NOPERM") {
      throw RedisError(answer: text, place: place)
    }
    if settings.database != 0 { _ = try demand(["SELECT", String(settings.database)]) }
  }

  private static func open(
    _ settings: RedisSettings
  ) throws(RedisError) -> (context: UnsafeMutablePointer<redisContext>, ending: TLSEnding?) {
    let context = try connect(settings)
    prepareSocket(context, settings)
    guard let tls = settings.tls, case .tcp(let host, _) = settings.endpoint else { return (context, nil) }
    // hiredis has no other way to let go of a socket.
    let descriptor = fcntl(context.pointee.fd, F_DUPFD_CLOEXEC, 0)
    let code = errno
    redisFree(context)
    guard descriptor >= 0 else {
      throw RedisError(
        .unreachable,
        "No descriptor is left for a connection to Redis at \(settings.endpoint.place): "
          + "\(String(cString: strerror(code))). Raise the limit of open files.")
    }
    let socket: SecureSocket
    do throws(TLSError) {
      socket = try SecureSocket.open(over: descriptor, host: host, settings: tls, within: settings.timeout)
    } catch {
      throw RedisError(error, place: settings.endpoint.place)
    }
    guard let secured = redisConnectFd(socket.descriptor) else {
      close(socket.descriptor)
      throw RedisError(
        .unreachable, "No memory is left for a connection to Redis at \(settings.endpoint.place).")
    }
    return (secured, socket.ending)
  }

  private static func connect(
    _ settings: RedisSettings
  ) throws(RedisError) -> UnsafeMutablePointer<redisContext> {
    // hiredis writes with write(2), which raises SIGPIPE when the server has gone; we want EPIPE.
    _ = brokenPipesAreErrors
    let (endpoint, limit) = (settings.endpoint, timeval(nanoseconds: settings.timeout))
    let opened =
      switch endpoint {
      case .unix(let path): redisConnectUnixWithTimeout(path, limit)
      case .tcp(let host, let port): redisConnectWithTimeout(host, Int32(port), limit)
      }
    let code = errno
    guard let opened else {
      throw RedisError(.unreachable, "No memory is left for a connection to Redis at \(endpoint.place).")
    }
    guard opened.pointee.err != 0 else { return opened }
    let reason = text(opened)
    redisFree(opened)
    let advice =
      if case .unix = endpoint, code == EACCES {
        "This process's user needs the right to write to that socket."
      } else {
        "Is Redis running there, and is the address in \"redis\" or REDIS_URL the right one?"
      }
    throw RedisError(.unreachable, "Redis cannot be reached at \(endpoint.place): \(reason). \(advice)")
  }

  /// Why the last call of hiredis failed; called at once, while errno still tells.
  private func broken() -> RedisError {
    let code = errno
    let failure = context.pointee.err
    if let error = ending?.error { return RedisError(error, place: place) }
    // 6 is REDIS_ERR_TIMEOUT, which hiredis has since 1.0; before, a time-out was an EAGAIN.
    if failure == 6 || failure == REDIS_ERR_IO && (code == EAGAIN || code == EWOULDBLOCK) {
      return RedisError(
        .timedOut, "Redis at \(place) did not answer in time; is it overloaded, stopped or cut off?")
    }
    if failure == REDIS_ERR_PROTOCOL {
      return RedisError(
        .malformed,
        "What answers at \(place) does not speak Redis's protocol: \(Self.text(context)).")
    }
    if failure == REDIS_ERR_EOF || code == ECONNRESET || code == EPIPE {
      return RedisError(.closed, "Redis at \(place) closed the connection.")
    }
    return RedisError(.closed, "The connection to Redis at \(place) broke: \(Self.text(context)).")
  }

  private static func text(_ context: UnsafeMutablePointer<redisContext>) -> String {
    withUnsafeBytes(of: &context.pointee.errstr) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }

  private static let brokenPipesAreErrors: Void = { signal(SIGPIPE, SIG_IGN) }()
}

extension timeval {
  /// At least a microsecond, since zero means "no limit" to the socket options that take it.
  init(nanoseconds: UInt64) {
    self.init(
      tv_sec: Int(clamping: nanoseconds / 1_000_000_000),
      tv_usec: Int(max(nanoseconds % 1_000_000_000 / 1000, nanoseconds < 1_000_000_000 ? 1 : 0)))
  }
}
