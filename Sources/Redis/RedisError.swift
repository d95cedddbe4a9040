import Configuration
import TLS

/// What went wrong with Redis, as a sentence for people: where, what, and what to do. It never holds a
/// password or a value.
public struct RedisError: Error, Sendable, CustomStringConvertible {
  public enum Kind: Sendable, Hashable {
    /// No connection could be made.
    case unreachable
    /// No answer within `RedisSettings.timeout`.
    case timedOut
    /// The connection broke.
    case closed
    /// Redis wants a password, or another one, or one side does not trust the other's certificate.
    case refused
    /// The ACL user lacks a permission.
    case denied
    /// Redis answered with another error.
    case answered
    /// What arrived is not Redis's protocol, or not the answer that was asked for.
    case malformed

    /// Whether trying again later can succeed without anybody changing a setting.
    var isTemporary: Bool {
      switch self {
      case .unreachable, .timedOut, .closed: true
      case .refused, .denied, .answered, .malformed: false
      }
    }
  }

  public var kind: Kind
  public var description: String

  init(_ kind: Kind, _ description: String) {
    self.kind = kind
    self.description = description
  }

  /// An error reply, explained.
  init(answer: String, place: String) {
    let text = Self.withoutScript(answer)
    // What Redis 7.0 says of a permission that only a command inside a script lacks.
    if text.hasPrefix("ERR The user executing the script") {
      self = Self.denied(String(text.dropFirst(4)), place)
      return
    }
    switch text.prefix(while: { $0 != " " }) {
    case "NOAUTH":
      self.init(
        .refused, "Redis at \(place) asks for a password; give one in REDIS_URL or as redis.password.")
    case "WRONGPASS":
      self.init(
        .refused,
        "Redis at \(place) does not accept the configured user name and password; correct them in REDIS_URL or in "
          + "\"redis\", or see there with ACL LIST whether the user is on.")
    case "DENIED":
      self.init(
        .refused,
        "Redis at \(place) runs in protected mode and accepts only clients of its own host; set a password "
          + "there, or \"protected-mode no\".")
    case "NOPERM": self = Self.denied(String(text.dropFirst(7)), place)
    case "OOM":
      self.init(
        .answered,
        "Redis at \(place) is full and refuses to write: \(text). Raise maxmemory, or choose a "
          + "maxmemory-policy that evicts.")
    case "READONLY":
      self.init(.answered, "Redis at \(place) is a replica and takes no writes; name the primary instead.")
    case "LOADING":
      self.init(.answered, "Redis at \(place) is still loading its data.")
    case "MISCONF":
      self.init(
        .answered,
        "Redis at \(place) refuses to write because it cannot save its data to disk; its own log says why.")
    default:
      self.init(.answered, "Redis at \(place) answered with an error: \(text).")
    }
  }

  /// Why a connection could not be secured, or broke.
  init(_ error: TLSError, place: String) {
    let kind: Kind =
      switch error.kind {
      case .settings, .certificate, .clientCertificate, .disagreement: .refused
      case .silent: .timedOut
      case .broken: .unreachable
      }
    self.init(kind, "There is no TLS connection to Redis at \(place): \(error).")
  }

  private static func denied(_ text: String, _ place: String) -> RedisError {
    RedisError(
      .denied,
      "Redis at \(place) refuses for lack of a permission: \(text). \"nearside check\" lists what the ACL "
        + "user lacks.")
  }

  /// The text without the script's digest and line, which Redis puts behind an error that ended a script.
  private static func withoutScript(_ text: String) -> String {
    let mark = Array(" script: ".utf8)
    let bytes = Array(text.utf8)
    var end = bytes.count
    for start in bytes.indices where bytes[start...].starts(with: mark) {
      end = start
      break
    }
    while end > 0, bytes[end - 1] == UInt8(ascii: ".") { end -= 1 }
    return String(decoding: bytes[..<end], as: UTF8.self)
  }

  /// An answer that Redis does not give to what was asked.
  init(unexpected what: String, place: String) {
    self.init(
      .malformed,
      "Redis at \(place) gave an answer to \(what) that nearside does not understand. Is it Redis 7.0 or "
        + "later, and are all sidecars of the same version?")
  }
}

extension RedisSettings.Endpoint {
  /// As a person would name it in a sentence.
  var place: String {
    switch self {
    case .unix(let path): path
    case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
  }
}
