import Configuration
import Glibc
import Invalidation

/// Listens on channels on which applications tell what they have changed.
///
/// Pub/Sub delivers at most once: what is published while the connection is down is lost
/// (Redis documentation, "Redis Pub/Sub", delivery semantics).
public enum RedisChannels {
  /// How long nothing may come before the server is asked whether it is still there.
  private static let silence: UInt64 = 5_000_000_000

  /// Listens until `stop` says so, on a thread of its own. `hear` gets each message as it was published.
  /// A connection that breaks is made again after 50 ms, growing to 2 s, less a random part; `trouble` is told once
  /// for each outage.
  public static func listen(
    settings: RedisSettings, channels: [String], until stop: @Sendable () -> Bool,
    hear: @Sendable ([UInt8]) -> Void, trouble: @Sendable (String) -> Void
  ) {
    var pauses = RetryPauses()
    var isTold = false
    while !stop() {
      do throws(RedisError) {
        var connection = try RedisConnection(settings, name: "nearside-channels")
        try connection.append(["SUBSCRIBE"] + channels)
        for _ in channels {
          if case .error(let text) = try connection.receive() {
            throw RedisError(answer: text, place: connection.place)
          }
        }
        connection.becomeNonBlocking()
        pauses.worked()
        isTold = false
        try follow(&connection, settings.timeout, stop, hear)
      } catch {
        if !isTold { trouble(error.description) }
        isTold = true
        pauses.rest(until: stop)
      }
    }
  }

  private static func follow(
    _ connection: inout RedisConnection, _ timeout: UInt64, _ stop: @Sendable () -> Bool,
    _ hear: @Sendable ([UInt8]) -> Void
  ) throws(RedisError) {
    var heard = bootInstant().nanoseconds
    var isAsked = false
    while !stop() {
      var descriptor = pollfd(fd: connection.descriptor, events: Int16(POLLIN), revents: 0)
      if poll(&descriptor, 1, 100) > 0 {
        try connection.read()
        heard = bootInstant().nanoseconds
        isAsked = false
        while let reply = try connection.next() {
          if case .error(let text) = reply { throw RedisError(answer: text, place: connection.place) }
          guard let elements = reply.elements, elements.count == 3, elements[0].text == "message",
            case .bulk(let bytes) = elements[2]
          else { continue }
          hear(bytes)
        }
      }
      let quiet = bootInstant().nanoseconds - heard
      if isAsked, quiet > silence + timeout {
        throw RedisError(.timedOut, "Redis at \(connection.place) no longer answers on its channels.")
      }
      if !isAsked, quiet > silence {
        isAsked = true
        try connection.append(["PING"])
        _ = try connection.write()
      }
    }
  }
}
