import Configuration
import Invalidation

/// Reads the fleet's generation and number of beats, for a sidecar that stands by.
public struct BeatReader: ~Copyable {
  private var connection: RedisConnection
  private let meta: String

  /// Connects and logs in; waits at most `RedisSettings.timeout`.
  public init(_ settings: RedisSettings, keys: StateKeys) throws(RedisError) {
    connection = try RedisConnection(settings, name: "nearside-standby")
    meta = keys.meta
  }

  /// nil: there is no state.
  public mutating func read() throws(RedisError) -> (generation: Generation, beats: UInt64)? {
    let fields = try connection.demand(["HMGET", meta, "g", "h"]).elements ?? []
    guard fields.count == 2, let generation = fields[0].text.flatMap({ Generation(hex: $0) }),
      let beats = fields[1].text.flatMap({ UInt64($0) })
    else { return nil }
    return (generation, beats)
  }
}
